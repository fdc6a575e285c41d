"""Presigned S3 URLs: the cloud's own (artifacts for devices), and the end of anyone's.

Source: AWS General Reference, "Signature Version 4", query string authentication.
"""

import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from monodon.cloud.protocol import ServiceError, WireRequest

_ALGORITHM = "AWS4-HMAC-SHA256"
_STAMP = "%Y%m%dT%H%M%SZ"


def presign_get(
    *,
    endpoint: str,
    bucket: str,
    key: str,
    region: str,
    access_key: str,
    secret_key: str,
    now: float,
    lasts_s: int,
) -> str:
    """Return a URL that gets one object with a plain GET, for ``lasts_s`` seconds.

    Args:
        endpoint: the origin that the reader will use, e.g. ``https://localhost:4566``.
    """
    stamp = datetime.fromtimestamp(now, UTC).strftime(_STAMP)
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    path = f"/{quote(bucket)}/{quote(key, safe='/~')}"
    parameters = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{access_key}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(lasts_s),
        "X-Amz-SignedHeaders": "host",
    }
    query = "&".join(f"{name}={quote(value, safe='~')}" for name, value in sorted(parameters.items()))
    host = urlsplit(endpoint).netloc
    canonical = f"GET\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.new(_signing_key(secret_key, scope), text.encode(), hashlib.sha256).hexdigest()
    return f"{endpoint}{path}?{query}&X-Amz-Signature={signature}"


def check_expiry(request: WireRequest, *, now: float) -> None:
    """Refuse a presigned URL whose time is over.

    Raises:
        ServiceError: AccessDenied, in S3's words.
    """
    query = dict(request.query)
    try:
        if "X-Amz-Expires" in query:
            signed = datetime.strptime(query.get("X-Amz-Date", ""), _STAMP).replace(tzinfo=UTC).timestamp()
            ends = signed + int(query["X-Amz-Expires"])
        elif {"Expires", "Signature"} <= query.keys():
            ends = int(query["Expires"])
        else:
            return
    except ValueError:
        raise ServiceError(
            "AuthorizationQueryParametersError", "X-Amz-Date or Expires is malformed", status=400
        ) from None
    if now > ends:
        raise ServiceError("AccessDenied", "Request has expired", status=403)


def _signing_key(secret_key: str, scope: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key

"""``--strict``: is a request signed by a key of the account, now, and as it stands? By botocore's own code.

The signature is computed once more from what arrived and compared. Errors are named as S3, the query services (STS,
IAM) and the JSON services name them. Source: AWS General Reference, "Signature Version 4".
"""

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

from monodon.cloud.keys import OWN_KEY, AccessKey
from monodon.cloud.protocol import ServiceError, WireRequest

SKEW_S = 300
_MAX_EXPIRES_S = 7 * 24 * 3600
_STAMP = "%Y%m%dT%H%M%SZ"
_HEADER = re.compile(r"AWS4-HMAC-SHA256\s+(.*)", re.DOTALL)
_UNSIGNED = "UNSIGNED-PAYLOAD"
_QUERY = {"sts", "iam"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a request says of its signature."""

    access_key: str
    scope: tuple[str, ...]
    signed_headers: tuple[str, ...]
    signature: str
    stamp: str
    token: str | None
    expires_s: int | None = None

    @property
    def service(self) -> str:
        """The service that it is signed for."""
        return self.scope[2]

    @property
    def is_presigned(self) -> bool:
        """The signature stands in the URL."""
        return self.expires_s is not None


class Signatures:
    """Checks requests.

    Args:
        find: a key by its id.
        now: seconds since the epoch.
    """

    def __init__(self, find: Callable[[str], AccessKey | None], *, now: Callable[[], float]) -> None:
        self._find = find
        self._now = now

    async def check(
        self, request: WireRequest, service: str, scheme: str, read_body: Callable[[], Awaitable[bytes]]
    ) -> None:
        """Let a request pass, or not.

        Args:
            request: as it came.
            read_body: gives the whole body; asked only if the signature covers it and no header says its hash.

        Raises:
            ServiceError: as the service words it.
        """
        claim = read_claim(request, service)
        self._check_time(claim)
        key = self._key(claim)
        header = request.headers.get("x-amz-content-sha256")
        if header is not None and header.startswith("STREAMING-AWS4"):
            raise ServiceError("NotImplemented", "signatures of single chunks are not checked here", status=501)
        if claim.is_presigned:
            payload = header or (_UNSIGNED if service == "s3" else hashlib.sha256(b"").hexdigest())
        else:
            payload = header or hashlib.sha256(await read_body()).hexdigest()
        if not hmac.compare_digest(_signature(request, claim, key, scheme, payload), claim.signature):
            raise _mismatch(service)

    def _key(self, claim: Claim) -> AccessKey:
        key = self._find(claim.access_key)
        if key is None or not key.is_active or (key.access_key == OWN_KEY and not claim.is_presigned):
            raise _unknown_key(claim.service)
        if key.token is not None and not hmac.compare_digest((claim.token or "").encode(), key.token.encode()):
            raise _unknown_token(claim.service)
        if key.token is None and claim.token is not None:
            raise _unknown_token(claim.service)
        if key.expiration is not None and key.expiration < self._now():
            raise _expired_token(claim.service)
        return key

    def _check_time(self, claim: Claim) -> None:
        now = self._now()
        try:
            signed = datetime.strptime(claim.stamp, _STAMP).replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise _incomplete(claim.service, "a valid X-Amz-Date") from None
        if claim.scope[0] != claim.stamp[:8]:
            raise _mismatch(claim.service)
        if claim.expires_s is not None:
            if not 1 <= claim.expires_s <= _MAX_EXPIRES_S:
                text = "X-Amz-Expires must be between 1 and 604800 seconds"
                raise ServiceError("AuthorizationQueryParametersError", text, status=400)
            if now > signed + claim.expires_s:
                raise ServiceError("AccessDenied", "Request has expired", status=403)
            if signed > now + SKEW_S:
                raise ServiceError("AccessDenied", "Request is not yet valid", status=403)
        elif abs(now - signed) > SKEW_S:
            raise _skewed(claim, now)


def read_claim(request: WireRequest, service: str) -> Claim:
    """Read the ``Authorization`` header, or the parameters of a presigned URL.

    Raises:
        ServiceError: something is missing, or it is an older kind of signature.
    """
    query = dict(request.query)
    found = _HEADER.match(request.headers.get("authorization", ""))
    if found is not None:
        pairs = (part.strip().partition("=") for part in found[1].split(","))
        fields: Mapping[str, str] = {name: value for name, _, value in pairs}
        stamp = request.headers.get("x-amz-date") or request.headers.get("date", "")
        token, expires_s = request.headers.get("x-amz-security-token"), None
    elif "X-Amz-Signature" in query:
        fields = {name: query.get(f"X-Amz-{name}", "") for name in ("Credential", "SignedHeaders", "Signature")}
        stamp, token = query.get("X-Amz-Date", ""), query.get("X-Amz-Security-Token")
        expires = query.get("X-Amz-Expires", "")
        expires_s = int(expires) if expires.isdecimal() and len(expires) < 10 else 0
    else:
        text = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
        raise ServiceError("InvalidRequest" if service == "s3" else "IncompleteSignature", text, status=400)
    access_key, *scope = fields.get("Credential", "").split("/")
    headers = tuple(name for name in fields.get("SignedHeaders", "").split(";") if name)
    if len(scope) != 4 or scope[3] != "aws4_request" or "host" not in headers or not fields.get("Signature"):
        raise _incomplete(service, "Credential, SignedHeaders with host, and Signature")
    return Claim(
        access_key=access_key,
        scope=tuple(scope),
        signed_headers=headers,
        signature=fields["Signature"],
        stamp=stamp,
        token=token,
        expires_s=expires_s,
    )


def _signature(request: WireRequest, claim: Claim, key: AccessKey, scheme: str, payload: str) -> str:
    """The signature that the request should have."""
    query = "&".join(part for part in request.raw_query.split("&") if not part.startswith("X-Amz-Signature="))
    url = f"{scheme}://{request.headers.get('host', '')}{request.raw_path}" + (f"?{query}" if query else "")
    headers = {name: request.headers.get(name, "") for name in claim.signed_headers}
    seen = AWSRequest(method=request.method, url=url, headers=headers)
    seen.context["timestamp"] = claim.stamp
    auth = (_S3 if claim.service == "s3" else _Json)(
        Credentials(key.access_key, key.secret, key.token), claim.service, claim.scope[1]
    )
    auth.seen_payload = payload
    return str(auth.signature(auth.string_to_sign(seen, auth.canonical_request(seen)), seen))


class _AsItCame:
    """botocore's signer, on headers and a payload that somebody else chose."""

    seen_payload = ""

    def headers_to_sign(self, request: Any) -> Any:
        headers = HTTPHeaders()
        for name, value in request.headers.items():
            headers[name.lower()] = value
        return headers

    def payload(self, request: Any) -> str:
        return self.seen_payload


class _Json(_AsItCame, SigV4Auth):  # type: ignore[misc]
    pass


class _S3(_AsItCame, S3SigV4Auth):  # type: ignore[misc]
    pass


# The same refusals in the words of each protocol


def _refusal(service: str, *, s3: str, query: str, json: str, text: str, status: int = 403) -> ServiceError:
    code = s3 if service == "s3" else query if service in _QUERY else json
    return ServiceError(code, text, status=status)


def _mismatch(service: str) -> ServiceError:
    text = (
        "The request signature we calculated does not match the signature you provided. "
        "Check your AWS Secret Access Key and signing method."
    )
    code = "SignatureDoesNotMatch"
    return _refusal(service, s3=code, query=code, json="InvalidSignatureException", text=text)


def _unknown_key(service: str) -> ServiceError:
    if service == "s3":
        text = "The AWS Access Key Id you provided does not exist in our records."
        return ServiceError("InvalidAccessKeyId", text, status=403)
    return _unknown_token(service)


def _unknown_token(service: str) -> ServiceError:
    text = "The security token included in the request is invalid."
    return _refusal(
        service, s3="InvalidToken", query="InvalidClientTokenId", json="UnrecognizedClientException", text=text
    )


def _expired_token(service: str) -> ServiceError:
    text = "The security token included in the request is expired"
    return _refusal(service, s3="ExpiredToken", query="ExpiredToken", json="ExpiredTokenException", text=text)


def _skewed(claim: Claim, now: float) -> ServiceError:
    if claim.service == "s3":
        text = "The difference between the request time and the current time is too large."
        return ServiceError("RequestTimeTooSkewed", text, status=403)
    stamp = datetime.fromtimestamp(now, UTC).strftime(_STAMP)
    text = f"Signature expired: {claim.stamp} is now earlier than {stamp} (5 min.)"
    if claim.stamp > stamp:
        text = f"Signature not yet current: {claim.stamp} is still later than {stamp} (5 min.)"
    code = "SignatureDoesNotMatch"
    return _refusal(claim.service, s3=code, query=code, json="InvalidSignatureException", text=text)


def _incomplete(service: str, what: str) -> ServiceError:
    text = f"Authorization requires {what}."
    return _refusal(
        service,
        s3="AuthorizationHeaderMalformed",
        query="IncompleteSignature",
        json="IncompleteSignatureException",
        text=text,
        status=400,
    )

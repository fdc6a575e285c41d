"""Where an ``s3://`` artifact is, and the signed request for it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from monodon.errors import DeploymentError
from monodon.nucleus.uplink.exchange import Request
from monodon.nucleus.uplink.protocol import RoleCredentials

#: SHA-256 of nothing: the body of a GET.
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectAddress:
    """An object's URL, with its path encoded, and the region that requests for it are signed for."""

    url: str
    region: str


def object_address(uri: str, *, region: str, environment: Mapping[str, str]) -> ObjectAddress:
    """Where the object of ``s3://<bucket>/<key>`` is.

    ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL`` of the environment is asked in path style, as AWS's own SDKs do for
    addresses; without one it is AWS, in path style too when the bucket's name has dots, which no certificate covers.

    Raises:
        DeploymentError: it names no bucket or no key.
    """
    bucket, _, key = uri.partition("://")[2].partition("/")
    if not bucket or not key:
        raise DeploymentError(f"{uri} names no object: s3://<bucket>/<key> does", codes=("S3_ARTIFACT_URI_NOT_VALID",))
    path = quote(key, safe="/~")
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if endpoint:
        return ObjectAddress(url=f"{endpoint.rstrip('/')}/{quote(bucket)}/{path}", region=region)
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    if "." in bucket:
        return ObjectAddress(url=f"https://s3.{region}.{domain}/{bucket}/{path}", region=region)
    return ObjectAddress(url=f"https://{bucket}.s3.{region}.{domain}/{path}", region=region)


async def signed_get(address: ObjectAddress, credentials: RoleCredentials) -> Request:
    """A GET for the object, signed (SigV4) with role credentials for this moment."""
    from awscrt import auth, http

    parts = urlsplit(address.url)
    unsigned = http.HttpRequest("GET", parts.path, http.HttpHeaders([("Host", parts.netloc)]))
    config = auth.AwsSigningConfig(
        algorithm=auth.AwsSigningAlgorithm.V4,
        signature_type=auth.AwsSignatureType.HTTP_REQUEST_HEADERS,
        credentials_provider=auth.AwsCredentialsProvider.new_static(
            credentials.access_key_id, credentials.secret_access_key, credentials.session_token
        ),
        region=address.region,
        service="s3",
        date=datetime.now(UTC),
        use_double_uri_encode=False,
        should_normalize_uri_path=False,
        signed_body_value=EMPTY_SHA256,
        signed_body_header_type=auth.AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
    )
    signed = await asyncio.wrap_future(auth.aws_sign_request(unsigned, config))
    return Request(url=address.url, headers=dict(signed.headers))

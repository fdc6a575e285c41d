"""Requests to AWS's services over JSON, signed with the device's role credentials."""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from monodon.nucleus.uplink.exchange import Request
from monodon.nucleus.uplink.protocol import RoleCredentials

#: What AWS's SDKs call a service in the environment, by its signing name, which is also its host.
_VARIABLES: Final = {"greengrass": "GREENGRASSV2", "secretsmanager": "SECRETS_MANAGER"}


def endpoint(service: str, *, region: str, environment: Mapping[str, str]) -> str:
    """Return the address of a service, without a slash at its end; the environment may name another than AWS's."""
    named = environment.get(f"AWS_ENDPOINT_URL_{_VARIABLES[service]}") or environment.get("AWS_ENDPOINT_URL")
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return named.rstrip("/") if named else f"https://{service}.{region}.{domain}"


async def signed(request: Request, credentials: RoleCredentials, *, service: str, region: str) -> Request:
    """Return the request signed (SigV4) for this moment; its path is signed as it is."""
    from awscrt import auth, http

    parts = urlsplit(request.url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    headers = http.HttpHeaders([("Host", parts.netloc), *request.headers.items()])
    config = auth.AwsSigningConfig(
        algorithm=auth.AwsSigningAlgorithm.V4,
        signature_type=auth.AwsSignatureType.HTTP_REQUEST_HEADERS,
        credentials_provider=auth.AwsCredentialsProvider.new_static(
            credentials.access_key_id, credentials.secret_access_key, credentials.session_token
        ),
        region=region,
        service=service,
        date=datetime.now(UTC),
        use_double_uri_encode=True,
        signed_body_value=hashlib.sha256(request.body or b"").hexdigest(),
    )
    unsigned = http.HttpRequest(request.method, path or "/", headers)
    done = await asyncio.wrap_future(auth.aws_sign_request(unsigned, config))
    return replace(request, headers=dict(done.headers))

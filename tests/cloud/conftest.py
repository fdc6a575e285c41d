"""A gateway with some backends on a real port, for tests; real boto3 is the client."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from monodon.cloud.certificates import HTTP_PROTOCOLS, CertificateAuthority
from monodon.cloud.gateway import Call, Gateway
from monodon.cloud.protocol import WireResponse
from monodon.cloud.server import bind, serving
from monodon.cloud.store import Store

REGION = "us-east-1"
ACCOUNT = "123456789012"


@dataclass
class Served:
    port: int
    ca_file: Path
    store: Store
    authority: CertificateAuthority

    def client(self, service: str, scheme: str = "http", **options: Any) -> Any:
        """A boto3 client of its own session; close it."""
        options.setdefault("retries", {"max_attempts": 0})
        session = boto3.session.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
        host = "localhost" if scheme == "https" else "127.0.0.1"
        return session.client(
            service,
            endpoint_url=f"{scheme}://{host}:{self.port}",
            verify=str(self.ca_file),
            config=Config(connect_timeout=5, read_timeout=10, **options),
        )

    async def using(
        self, work: Callable[[Any], None], service: str = "s3", scheme: str = "http", **options: Any
    ) -> None:
        """Call ``work`` with a boto3 client in a thread: boto3 blocks."""

        def run() -> None:
            with closing(self.client(service, scheme, **options)) as client:
                work(client)

        await off_loop(run)


async def no_devices(call: Call) -> WireResponse:
    return WireResponse(status=403)


@asynccontextmanager
async def served(
    folder: Path, backends: Callable[[Store], Mapping[str, Sequence[object]]], now: Callable[[], float]
) -> AsyncIterator[Served]:
    with Store.open(folder) as store:
        authority = CertificateAuthority.open(folder)
        gateway = Gateway(
            store=store,
            region=REGION,
            account=ACCOUNT,
            backends=backends(store),
            device_api=no_devices,
            now=now,
        )
        listener = bind("127.0.0.1", 0)
        port = listener.getsockname()[1]
        context = authority.server_context(client_certificate=ssl.CERT_OPTIONAL, protocols=HTTP_PROTOCOLS)
        async with serving(gateway, listener, context):
            yield Served(port, authority.ca_file, store, authority)


async def off_loop(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """boto3 blocks: call it in a thread, with a deadline."""
    async with asyncio.timeout(60):
        return await asyncio.to_thread(function, *args, **options)


@pytest.fixture
def serve() -> Callable[..., Any]:
    """``async with serve(folder, backends, now) as cloud``."""
    return served


class Clock:
    """The real time, shifted."""

    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


@pytest.fixture
def clock() -> Clock:
    return Clock()

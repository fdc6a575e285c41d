"""A gateway with some backends on a real port, for tests; real boto3 is the client."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from tests.health import health_message
from tests.sessions import REGION, session

from monodon.cloud.broker.identity import Identity
from monodon.cloud.certificates import HTTP_PROTOCOLS, CertificateAuthority
from monodon.cloud.cloud import Cloud, Ready
from monodon.cloud.gateway import Call, Gateway
from monodon.cloud.protocol import WireResponse
from monodon.cloud.server import bind, serving
from monodon.cloud.store import Store

ACCOUNT = "123456789012"


@dataclass
class Served:
    port: int
    ca_file: Path
    store: Store
    authority: CertificateAuthority

    def client(self, service: str, scheme: str = "http", **options: Any) -> Any:
        """A boto3 client of its own; close it."""
        options.setdefault("retries", {"max_attempts": 0})
        host = "localhost" if scheme == "https" else "127.0.0.1"
        return session().client(
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


class RunningCloud:
    """A whole cloud, with boto3 clients to ask it and doors to play devices. Its methods but ``off_loop`` block."""

    def __init__(self, ready: Ready, parts: Any, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self.ready = ready
        self.clock = clock
        self._parts = parts
        self._loop = loop
        self._clients: dict[tuple[str, str], Any] = {}
        self._sequence = 1

    def client_of(self, service: str, scheme: str = "http") -> Any:
        key = (service, scheme)
        if key not in self._clients:
            self._clients[key] = session().client(
                service,
                endpoint_url=self.ready.endpoint if scheme == "http" else self.ready.https_endpoint,
                verify=self.ready.ca_file,
                config=Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=10),
            )
        return self._clients[key]

    def __getattr__(self, service: str) -> Any:
        return self.client_of(service)

    async def off_loop(self, work: Callable[[], Any]) -> Any:
        return await off_loop(work)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def add_drone(self, thing: str, group: str) -> None:
        self.iot.create_thing(thingName=thing)
        if group not in {each["groupName"] for each in self.iot.list_thing_groups()["thingGroups"]}:
            self.iot.create_thing_group(thingGroupName=group)
        self.iot.add_thing_to_thing_group(thingGroupName=group, thingName=thing)

    def report_job(self, thing: str, job_id: str, status: str, details: dict[str, str] | None = None) -> None:
        topic = f"$aws/things/{thing}/jobs/{job_id}/namespace-aws-gg-deployment/update"
        body = {"status": status, "statusDetails": details or {}}
        self._say(thing, topic, json.dumps(body).encode())

    def report_health(self, thing: str, **members: Any) -> None:
        self.report_raw_health(thing, json.dumps(health_message(thing, **members)).encode())

    def report_raw_health(self, thing: str, payload: bytes) -> None:
        self._say(thing, f"$aws/things/{thing}/greengrassv2/health/json", payload)

    def _say(self, thing: str, topic: str, payload: bytes) -> None:
        identity = Identity(certificate_id="0" * 64, thing_names=(thing,), client_id=thing)

        async def say() -> None:
            handler = self._parts.health if topic.endswith("/health/json") else self._parts.jobs.handle
            handler(identity, topic, payload)

        asyncio.run_coroutine_threadsafe(say(), self._loop).result(10)


@pytest.fixture
def run_cloud(clock: Clock) -> Callable[..., Any]:
    """``async with run_cloud(folder) as cloud``."""

    @asynccontextmanager
    async def run(folder: Path, **options: Any) -> AsyncIterator[RunningCloud]:
        cloud = Cloud(folder, now=clock, **options)
        async with cloud.running() as ready:
            running = RunningCloud(ready, cloud.parts, clock, asyncio.get_running_loop())
            try:
                yield running
            finally:
                running.close()

    return run

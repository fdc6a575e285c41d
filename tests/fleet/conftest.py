"""moto's server: an AWS that somebody else wrote, to try our scripts against; and an embedded cloud beside it."""

import asyncio
import json
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from monodon.cloud.broker.identity import Identity
from monodon.cloud.cloud import Cloud, Ready
from monodon.fleet import Aws


@pytest.fixture
def moto_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def moto_aws(moto_endpoint: str) -> Aws:
    urllib.request.urlopen(urllib.request.Request(f"{moto_endpoint}/moto-api/reset", method="POST")).close()
    return Aws(endpoint_url=moto_endpoint, region="eu-west-1")


class Embedded:
    """An embedded cloud in a thread of this process, for boto3, which blocks; and doors to play devices by."""

    def __init__(self, folder: Path) -> None:
        self.ready: Future[Ready] = Future()
        self._cloud = Cloud(folder)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()

    async def _serve(self) -> None:
        async with self._cloud.running() as ready:
            self.ready.set_result(ready)
            await self._stop.wait()

    def run(self) -> None:
        """Serve until stopped; in a thread of its own."""
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            if self.ready.done():
                raise
            self.ready.set_exception(error)
        finally:
            self._loop.close()

    def stop(self) -> None:
        """End ``run``; from another thread."""
        self._loop.call_soon_threadsafe(self._stop.set)

    def say(self, thing: str, topic: str, message: dict[str, Any]) -> None:
        """Let a device publish to a reserved topic of its own: a job's update, or its health."""
        identity = Identity(certificate_id="0" * 64, thing_names=(thing,), client_id=thing)
        parts = self._cloud.parts
        assert parts is not None

        async def handle() -> None:
            handler = parts.health if topic.endswith("/health/json") else parts.jobs.handle
            handler(identity, f"$aws/things/{thing}/{topic}", json.dumps(message).encode())

        asyncio.run_coroutine_threadsafe(handle(), self._loop).result(10)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """One embedded cloud for the tests of a module: each takes names of its own."""
    cloud = Embedded(tmp_path_factory.mktemp("cloud"))
    thread = threading.Thread(target=cloud.run)
    thread.start()
    try:
        cloud.ready.result(30)
        yield cloud
    finally:
        if cloud.ready.exception(0) is None:
            cloud.stop()
        thread.join(30)


@pytest.fixture(scope="module")
def module_cloud(embedded: Embedded) -> Ready:
    """Where the module's cloud is reached."""
    return embedded.ready.result()


@pytest.fixture(scope="module")
def cloud_aws(module_cloud: Ready) -> Aws:
    """boto3's way to the module's cloud."""
    return Aws(endpoint_url=module_cloud.endpoint, region=module_cloud.region)

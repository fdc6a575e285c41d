"""moto's server: an AWS that somebody else wrote, to try our scripts against; and an embedded cloud beside it."""

import asyncio
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest

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


@contextmanager
def embedded_cloud(folder: Path) -> Iterator[Ready]:
    """An embedded cloud in a thread of this process, for boto3, which blocks."""
    started: Future[Ready] = Future()
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with Cloud(folder).running() as ready:
            started.set_result(ready)
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield started.result(30)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)


@pytest.fixture(scope="module")
def module_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ready]:
    """One embedded cloud for the tests of a module: each takes names of its own."""
    with embedded_cloud(tmp_path_factory.mktemp("cloud")) as ready:
        yield ready


@pytest.fixture(scope="module")
def cloud_aws(module_cloud: Ready) -> Aws:
    """boto3's way to the module's cloud."""
    return Aws(endpoint_url=module_cloud.endpoint, region=module_cloud.region)

"""Many clients, slow ones, broken ones, and that the server holds nothing of them afterwards."""

import asyncio
import ctypes
import gc
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from monodon.ipc.channel import MAX_PENDING_BYTES
from monodon.ipc.eventstream import Header, HeaderType
from monodon.ipc.server import IpcServer
from monodon.nucleus.services.pubsub import Bus, pubsub_service

Raw = Callable[[], Awaitable[Any]]
HERE = Path(__file__).parent
#: What the allocator may keep for itself of thousands of connections.
SLACK_BYTES = 8_000_000
MALFORMED = 100_000

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Every broken connection is a line in the log, which the test would keep."""
    logger = logging.getLogger("monodon.ipc")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


def serving(bus: Bus, **options: Any) -> IpcServer:
    return IpcServer(
        authenticate=lambda token: token,
        authorise=lambda caller, service, operation, resource: True,
        services=[pubsub_service(bus)],
        **options,
    )


def held() -> tuple[int, int]:
    """What this process, the server, holds: resident bytes and descriptors."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return resident(), len(os.listdir("/proc/self/fd"))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def assert_back(before: tuple[int, int]) -> None:
    after = held()
    assert after[1] == before[1], "descriptors"
    assert after[0] - before[0] < SLACK_BYTES, "memory"


async def until(condition: Callable[[], object], timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def publish(size: int) -> dict[str, Any]:
    return {"topic": "t", "publishMessage": {"jsonMessage": {"message": {"x": "y" * size}}}}


@asynccontextmanager
async def crowd(path: Path, clients: int, subscriptions: int, *ending: str) -> AsyncIterator[Any]:
    """A process of clients that have subscribed; killed at the end of the block, if not before."""
    arguments = [str(path), str(clients), str(subscriptions), *ending]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "crowd.py"), *arguments, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"subscribed\n"
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def test_a_thousand_connections_and_ten_thousand_subscriptions(socket_path: Path) -> None:
    bus = Bus()
    server = serving(bus)

    async def come_and_be_killed() -> None:
        async with crowd(socket_path, 500, 10), crowd(socket_path, 500, 10):
            assert (server.connections, len(bus)) == (1000, 10_000)
            heard = bus.publish("crowd/7/3", b"x", sender="a")
            assert heard == 2
        await until(lambda: server.connections == 0)
        assert len(bus) == 0

    async with server.listen(socket_path):
        await come_and_be_killed()  # what is loaded and laid out once
        before = held()
        for _ in range(2):
            await come_and_be_killed()
        assert_back(before)


@pytest.mark.parametrize(("size", "limit_bytes", "count"), [(50_000, 1 << 18, 40), (1_000_000, MAX_PENDING_BYTES, 20)])
async def test_slow_readers_beside_a_fast_one(
    socket_path: Path, raw: Raw, size: int, limit_bytes: int, count: int
) -> None:
    """Two hundred that do not read are closed one by one; the fast one and the publisher notice nothing.

    What is held for them all is one copy of each payload: 3.2 GB wait in sum, in the memory of 16 MB and little more.
    """
    bus = Bus()
    server = serving(bus, max_pending_bytes=limit_bytes)
    async with server.listen(socket_path):
        fast, publisher = await raw(), await raw()
        await fast.connect("fast")
        await fast.request(1, "SubscribeToTopic", {"topic": "t"})
        await fast.read()
        await publisher.connect("p")
        stream = 0
        before = held()
        for _ in range(2):
            async with crowd(socket_path, 200, 0, "slow"):
                assert len(bus) == 201
                slowest = most = 0.0
                for _ in range(count):
                    stream += 1
                    started = time.perf_counter()
                    await publisher.request(stream, "PublishToTopic", publish(size))
                    assert await publisher.read() is not None
                    assert await fast.read() is not None
                    slowest = max(slowest, time.perf_counter() - started)
                    most = max(most, resident() - before[0])
                await until(lambda: server.connections == 2)
                assert len(bus) == 1
                assert slowest < 5
                assert most < 2 * limit_bytes + SLACK_BYTES
        assert_back(before)


async def test_half_open_sockets(socket_path: Path, raw: Raw) -> None:
    """Connected and silent, or silent within a frame said to be large: cheap, ended in time, in nobody's way."""
    bus = Bus()
    server = serving(bus, handshake_timeout_s=3)
    async with server.listen(socket_path):
        good = await raw()
        await good.connect("good")
        before = held()
        async with crowd(socket_path, 500, 0, "silent"), crowd(socket_path, 200, 0, "within"):
            await until(lambda: server.connections == 701)
            assert held()[0] - before[0] < 30_000_000
            await good.message(2, 0, 0, b"ping")
            assert (await good.read()).payload == b"ping"
            await until(lambda: server.connections == 201)
        await until(lambda: server.connections == 1)
        assert_back(before)


async def test_a_hundred_thousand_malformed_frames(socket_path: Path, raw: Raw) -> None:
    """Each ends its own connection, and nothing else."""
    bus = Bus()
    server = serving(bus)

    async def flood(count: int, seed: int) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "flood.py"), str(socket_path), str(count), str(seed), stdout=subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert int(output) == count

    async with server.listen(socket_path):
        good = await raw()
        await good.connect("good")
        await flood(2_000, 0)
        before = held()
        floods = asyncio.gather(*(flood(MALFORMED // 2, seed) for seed in (1, 2)))
        while not floods.done():
            await good.message(2, 0, 0, b"ping", Header("n", HeaderType.INT32, 1))
            assert (await good.read()).payload == b"ping"
            await asyncio.sleep(0.1)
        await floods
        await until(lambda: server.connections == 1)
        assert_back(before)


async def test_clients_killed_in_the_middle_of_a_stream(socket_path: Path, raw: Raw) -> None:
    """With events on their way to them, and half a frame of their own on its way to the server."""
    bus = Bus()
    server = serving(bus)
    async with server.listen(socket_path):
        publisher = await raw()
        await publisher.connect("p")
        before = held()
        stream = 0
        for _ in range(10):
            async with crowd(socket_path, 1, 1, "half") as client:
                assert len(bus) == 1
                for number in range(20):
                    if number == 10:
                        client.kill()
                    stream += 1
                    await publisher.request(
                        stream,
                        "PublishToTopic",
                        {"topic": "crowd/0/1", "publishMessage": {"jsonMessage": {"message": {"x": "y" * 100_000}}}},
                    )
                    assert await publisher.read() is not None
                await until(lambda: server.connections == 1)
                assert len(bus) == 0
        assert_back(before)

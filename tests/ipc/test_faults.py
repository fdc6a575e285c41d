"""Many clients, slow ones, broken ones, and what the server holds after them."""

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from monodon.ipc.eventstream import Header, HeaderType, encode
from monodon.ipc.server import IpcServer
from monodon.nucleus.services.pubsub import Bus, pubsub_service

Raw = Callable[[], Awaitable[Any]]
pytestmark = pytest.mark.slow


def serving(bus: Bus, **options: Any) -> IpcServer:
    return IpcServer(
        authenticate=lambda token: token,
        authorise=lambda caller, service, operation, resource: True,
        services=[pubsub_service(bus)],
        **options,
    )


def memory_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def until(condition: Callable[[], object], timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def publish(size: int) -> dict[str, Any]:
    return {"topic": "t", "publishMessage": {"jsonMessage": {"message": {"x": "y" * size}}}}


async def test_a_thousand_connections_and_ten_thousand_subscriptions(socket_path: Path) -> None:
    bus = Bus()
    server = serving(bus)
    script = Path(__file__).with_name("crowd.py")
    async with server.listen(socket_path):
        before, files = memory_bytes(), len(os.listdir("/proc/self/fd"))
        for _ in range(2):
            crowd = await asyncio.create_subprocess_exec(
                sys.executable, str(script), str(socket_path), "500", "10", stdout=subprocess.PIPE
            )
            second = await asyncio.create_subprocess_exec(
                sys.executable, str(script), str(socket_path), "500", "10", stdout=subprocess.PIPE
            )
            for each in (crowd, second):
                assert each.stdout is not None
                assert await each.stdout.readline() == b"subscribed\n"
            assert (server.connections, len(bus)) == (1000, 10_000)
            crowd.send_signal(signal.SIGKILL)
            second.send_signal(signal.SIGKILL)
            await crowd.wait()
            await second.wait()
            await until(lambda: server.connections == 0)
            assert len(bus) == 0
        assert len(os.listdir("/proc/self/fd")) <= files
        assert memory_bytes() - before < 40_000_000


async def test_slow_readers_beside_a_fast_one(socket_path: Path, raw: Raw) -> None:
    bus = Bus()
    server = serving(bus, max_pending_bytes=1 << 18)
    async with server.listen(socket_path):
        slow = [await raw() for _ in range(200)]
        fast, publisher = await raw(), await raw()
        for number, client in enumerate((*slow, fast)):
            await client.connect(f"c{number}")
            await client.request(1, "SubscribeToTopic", {"topic": "t"})
            await client.read()
        for client in slow:
            client.writer.transport.pause_reading()
        await publisher.connect("p")
        for number in range(1, 41):
            await publisher.request(number, "PublishToTopic", publish(50_000))
            assert await publisher.read() is not None
            assert await fast.read() is not None
        await until(lambda: server.connections == 2)
        assert len(bus) == 1


async def test_malformed_frames_by_the_thousand(socket_path: Path, raw: Raw) -> None:
    """Each ends its own connection, and nothing else."""
    bus = Bus()
    server = serving(bus)
    source = random.Random(1)
    control = ((":message-type", 0), (":message-flags", 0), (":stream-id", 1))
    connect = [(":message-type", 4), (":message-flags", 0), (":stream-id", 0)]
    version = Header(":version", HeaderType.STRING, "0.1.0")
    known = encode([*(Header(name, HeaderType.INT32, value) for name, value in connect), version], b'{"authToken":"b"}')
    good_bytes = encode([Header(name, HeaderType.INT32, value) for name, value in control], bytes(200))
    async with server.listen(socket_path):
        good = await raw()
        await good.connect("good")
        before = memory_bytes()
        for number in range(2, 1502):
            bad = await asyncio.open_unix_connection(str(socket_path))
            data = bytearray(good_bytes)
            for _ in range(source.randint(1, 4)):
                data[source.randrange(len(data))] ^= 1 << source.randrange(8)
            bad[1].write(known * (number % 2) + bytes(data[: source.randint(1, len(data))]))
            bad[1].write_eof()
            async with asyncio.timeout(5):
                await bad[0].read()
            bad[1].close()
            if number % 100 == 0:
                await good.message(2, 0, 0, b"ping", Header("n", HeaderType.INT32, number))
                assert (await good.read()).payload == b"ping"
        await until(lambda: server.connections == 1)
        assert memory_bytes() - before < 20_000_000


async def test_a_client_killed_in_the_middle_of_a_frame(socket_path: Path) -> None:
    bus = Bus()
    server = serving(bus)
    script = Path(__file__).with_name("crowd.py")
    async with server.listen(socket_path):
        client = await asyncio.create_subprocess_exec(
            sys.executable, str(script), str(socket_path), "1", "1", "half", stdout=subprocess.PIPE
        )
        assert client.stdout is not None
        assert await client.stdout.readline() == b"subscribed\n"
        assert len(bus) == 1
        client.kill()
        await client.wait()
        await until(lambda: server.connections == 0)
        assert len(bus) == 0

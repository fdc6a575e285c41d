"""What the tests of the wire share."""

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from awsiot import greengrasscoreipc
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

from monodon.ipc.eventstream import Decoder, Header, HeaderType, Message, encode


@pytest.fixture(scope="session")
def golden_frames() -> dict[str, bytes]:
    """The frames recorded from awsiotsdk by name, in the order they were sent."""
    found: dict[str, str] = {}
    name = ""
    for line in Path(__file__).with_name("golden_frames.txt").read_text().splitlines():
        if line.startswith("["):
            name = line.strip("[]")
            found[name] = ""
        elif name:
            found[name] += line
    return {name: bytes.fromhex(text) for name, text in found.items()}


class RawClient:
    """A client that can also break the rules: it writes any bytes and reads whole messages."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._decoder = Decoder()
        self._messages: list[Message] = []

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def message(self, kind: int, stream_id: int, flags: int = 0, payload: bytes = b"", *extra: Header) -> None:
        await self.send(frame(kind, stream_id, flags, payload, *extra))

    async def request(self, stream_id: int, operation: str, body: object, flags: int = 0) -> None:
        header = Header("operation", HeaderType.STRING, f"aws.greengrass#{operation}")
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.message(0, stream_id, flags, payload, header)

    async def connect(self, token: str) -> Message | None:
        version = Header(":version", HeaderType.STRING, "0.1.0")
        await self.message(4, 0, 0, json.dumps({"authToken": token}).encode(), version)
        return await self.read()

    async def read(self, timeout_s: float = 5) -> Message | None:
        """The next message; None at the end of the connection."""
        async with asyncio.timeout(timeout_s):
            while not self._messages:
                try:
                    data = await self.reader.read(1 << 20)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self._messages += self._decoder.feed(data)
        return self._messages.pop(0)

    def close(self) -> None:
        self.writer.close()


def frame(kind: int, stream_id: int, flags: int = 0, payload: bytes = b"", *extra: Header) -> bytes:
    """One message with its control headers."""
    control = ((":message-type", kind), (":message-flags", flags), (":stream-id", stream_id))
    headers = [Header(name, HeaderType.INT32, value) for name, value in control]
    return encode([*headers, *extra], payload)


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """A path short enough for a Unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="mn"))
    yield folder / "ipc.socket"
    shutil.rmtree(folder)


@pytest.fixture
async def raw(socket_path: Path) -> AsyncIterator[Callable[[], Awaitable[RawClient]]]:
    """Opens raw clients, and closes them at the end."""
    clients: list[RawClient] = []

    async def connect() -> RawClient:
        clients.append(RawClient(*await asyncio.open_unix_connection(str(socket_path))))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()
        with contextlib.suppress(ConnectionError):
            await client.writer.wait_closed()


@pytest.fixture
async def sdk(socket_path: Path) -> AsyncIterator[Callable[[str], Awaitable[GreengrassCoreIPCClientV2]]]:
    """Opens clients of awsiotsdk, unmodified, with ordered stream events."""
    clients: list[GreengrassCoreIPCClientV2] = []

    async def connect(token: str) -> GreengrassCoreIPCClientV2:
        client = await asyncio.to_thread(greengrasscoreipc.connect, ipc_socket=str(socket_path), authtoken=token)
        clients.append(GreengrassCoreIPCClientV2(client=client, executor=ThreadPoolExecutor(1)))
        return clients[-1]

    yield connect
    for client in clients:
        await asyncio.to_thread(client.close)

"""Local publishes over IPC: the nucleus's server against a null server that only acknowledges, in one run.

Both are processes of their own. ``raw`` is a socket that writes ready-made frames, one at a time (``sequential``) or a
window of 100 ahead (``pipelined``); ``sdk`` is awsiotsdk, unmodified. The server checks a policy and looks for
subscribers; ``fan_out`` counts events that reach raw subscribers. Rates are per second; ``ratio`` is the server's
rate over the null server's.
"""

import asyncio
import base64
import contextlib
import json
import os
import select
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from monodon.core.policy import PUBSUB, AccessControl
from monodon.ipc.connection import JSON_TYPE
from monodon.ipc.eventstream import Header, HeaderType, encode

WINDOW = 100
TOPIC = "bench/topic"
_STREAM_ID = b"\x0a:stream-id\x04"


# the servers


class Null(asyncio.Protocol):
    """Acknowledges: finds a frame's type and stream id, and answers with a frame made beforehand."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._reply = _frame(0, 0, 2, b"{}", ("service-model-type", "aws.greengrass#PublishToTopicResponse"))[:-4]
        self._accept = _frame(5, 0, 1, b"")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        out = []
        start = 0
        while len(buffer) - start >= 12:
            (total,) = struct.unpack_from(">I", buffer, start)
            if len(buffer) - start < total:
                break
            at = buffer.find(_STREAM_ID, start) + len(_STREAM_ID)
            out.append(self._answer(bytes(buffer[at : at + 4])))
            start += total
        del buffer[:start]
        if out:
            self._transport.write(b"".join(out))  # type: ignore[attr-defined]

    def _answer(self, stream_id: bytes) -> bytes:
        if stream_id == b"\0\0\0\0":
            return self._accept
        head = self._reply.replace(_STREAM_ID + b"\0\0\0\0", _STREAM_ID + stream_id)
        return head + struct.pack(">I", zlib.crc32(head))


async def _serve_null(path: Path) -> None:
    server = await asyncio.get_running_loop().create_unix_server(Null, str(path))
    async with server:
        print("ready", flush=True)
        await server.serve_forever()


async def _serve_real(path: Path) -> None:
    from monodon.core.configuration import EMPTY
    from monodon.ipc.server import IpcServer
    from monodon.nucleus.services.configuration import Validation, configuration_service
    from monodon.nucleus.services.pubsub import Bus, pubsub_service

    class Configurations:
        tree = EMPTY.merge((), {"a": {"b": [1, 2, 3]}, "text": "x" * 50}, at_ms=1)

        def configuration(self, name: str) -> Any:
            return self.tree

        put_configuration = watch_configuration = None

    policies = AccessControl.read({PUBSUB: {"p": {"operations": ["*"], "resources": ["bench/*"]}}})
    server = IpcServer(
        authenticate=lambda token: token,
        authorise=lambda caller, service, operation, resource: policies.allows(service, operation, resource),
        services=(pubsub_service(Bus()), configuration_service(Configurations(), Validation())),  # type: ignore[arg-type]
    )
    async with server.listen(path):
        print("ready", flush=True)
        await asyncio.Event().wait()


@contextlib.contextmanager
def _running(kind: str) -> Iterator[tuple[Path, int]]:
    folder = Path(tempfile.mkdtemp(prefix="mn"))
    process = subprocess.Popen([sys.executable, __file__, kind, str(folder / "s")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield folder / "s", process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        shutil.rmtree(folder)


# the raw driver


def _frame(kind: int, stream_id: int, flags: int, payload: bytes, *texts: tuple[str, str]) -> bytes:
    headers = [Header(":content-type", HeaderType.STRING, JSON_TYPE)]
    headers += [Header(name, HeaderType.STRING, text) for name, text in texts]
    control = ((":message-type", kind), (":message-flags", flags), (":stream-id", stream_id))
    return encode([*headers, *(Header(name, HeaderType.INT32, value) for name, value in control)], payload)


def _request(stream_id: int, operation: str, body: dict[str, Any]) -> bytes:
    texts = (("operation", f"aws.greengrass#{operation}"), ("service-model-type", f"aws.greengrass#{operation}Request"))
    return _frame(0, stream_id, 0, json.dumps(body).encode(), *texts)


def _publish(stream_id: int, size: int) -> bytes:
    message = {"binaryMessage": {"message": base64.b64encode(b"x" * size).decode()}}
    return _request(stream_id, "PublishToTopic", {"topic": TOPIC, "publishMessage": message})


def _get(stream_id: int, size: int) -> bytes:
    return _request(stream_id, "GetConfiguration", {"keyPath": []})


class Raw:
    """A blocking client that counts the frames it gets."""

    def __init__(self, path: Path, name: str = "bench") -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self._partial = b""
        self.socket.sendall(_frame(4, 0, 0, json.dumps({"authToken": name}).encode(), (":version", "0.1.0")))
        self.wait(1)

    def wait(self, count: int) -> None:
        """Read until ``count`` more frames have come."""
        while count > 0:
            count -= self.read()

    def read(self) -> int:
        data = self._partial + self.socket.recv(1 << 20)
        start = found = 0
        while len(data) - start >= 12:
            (total,) = struct.unpack_from(">I", data, start)
            if len(data) - start < total:
                break
            start += total
            found += 1
        self._partial = data[start:]
        return found


def _sequential(path: Path, make: Callable[[int, int], bytes], size: int, count: int) -> dict[str, float]:
    client = Raw(path)
    frames = [make(number, size) for number in range(1, count + 1)]
    took = []
    for frame in frames:
        start = time.perf_counter()
        client.socket.sendall(frame)
        client.wait(1)
        took.append(time.perf_counter() - start)
    client.socket.close()
    took.sort()
    return {
        "rate": round(count / sum(took)),
        "p50_us": round(statistics.median(took) * 1e6),
        "p99_us": round(took[int(count * 0.99)] * 1e6),
    }


def _pipelined(path: Path, make: Callable[[int, int], bytes], size: int, count: int) -> float:
    client = Raw(path)
    frames = [make(number, size) for number in range(1, count + 1)]
    window = min(WINDOW, max(2, 4_000_000 // max(size, 1)))
    start = time.perf_counter()
    open_requests, sent = 0, 0
    client.socket.setblocking(False)
    pending = memoryview(b"")
    while sent < count or open_requests or pending:
        if not pending and sent < count and open_requests < window:
            batch = frames[sent : sent + window - open_requests]
            sent += len(batch)
            open_requests += len(batch)
            pending = memoryview(b"".join(batch))
        readable, writable, _ = select.select([client.socket], [client.socket] if pending else [], [])
        if readable:
            open_requests -= client.read()
        if writable:
            pending = pending[client.socket.send(pending) :]
    took = time.perf_counter() - start
    client.socket.close()
    return round(count / took)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _fan_out(path: Path, subscribers: int, size: int, count: int) -> int:
    """Deliveries a second, to subscribers that this process reads in turn."""
    clients = [Raw(path, f"subscriber{number}") for number in range(subscribers)]
    for client in clients:
        client.socket.sendall(_request(1, "SubscribeToTopic", {"topic": TOPIC}))
        client.wait(1)
    publisher = Raw(path)
    frames = [_publish(number, size) for number in range(1, count + 1)]
    start = time.perf_counter()
    for first in range(0, count, 10):
        batch = frames[first : first + 10]
        publisher.socket.sendall(b"".join(batch))
        publisher.wait(len(batch))
        for client in clients:
            client.wait(len(batch))
    took = time.perf_counter() - start
    for client in (*clients, publisher):
        client.socket.close()
    return round(subscribers * count / took)


# the SDK's driver


def _sdk(path: Path, count: int) -> dict[str, float]:
    from awsiot import greengrasscoreipc
    from awsiot.greengrasscoreipc import model
    from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

    client = GreengrassCoreIPCClientV2(client=greengrasscoreipc.connect(ipc_socket=str(path), authtoken="bench"))
    message = model.PublishMessage(binary_message=model.BinaryMessage(message=b"x" * 100))

    def publish() -> Any:
        return client.publish_to_topic_async(topic=TOPIC, publish_message=message)

    start = time.perf_counter()
    for _ in range(count):
        publish().result(10)
    sequential = count / (time.perf_counter() - start)
    start = time.perf_counter()
    waiting: deque[Any] = deque()
    for _ in range(count):
        waiting.append(publish())
        if len(waiting) == WINDOW:
            waiting.popleft().result(10)
    for future in waiting:
        future.result(10)
    pipelined = count / (time.perf_counter() - start)
    client.close()
    return {"sequential": round(sequential), "pipelined": round(pipelined)}


def _measure(path: Path, pid: int) -> dict[str, Any]:
    _pipelined(path, _publish, 100, 2_000)
    before = _cpu_s(pid)
    pipelined = _pipelined(path, _publish, 100, 20_000)
    cpu_us = round((_cpu_s(pid) - before) / 20_000 * 1e6, 1)
    return {
        "raw_sequential_100B": _sequential(path, _publish, 100, 3_000),
        "raw_pipelined_100B": pipelined,
        "server_cpu_us_a_publish": cpu_us,
        "raw_pipelined_10kB": _pipelined(path, _publish, 10_000, 4_000),
        "raw_pipelined_100kB": _pipelined(path, _publish, 100_000, 1_000),
        "raw_pipelined_1MB": _pipelined(path, _publish, 1_000_000, 100),
        "sdk_100B": _sdk(path, 2_000),
    }


def main() -> dict[str, Any]:
    """Return the figures of both servers, and the ratios that count."""
    with _running("null") as (path, pid):
        null = _measure(path, pid)
    with _running("real") as (path, pid):
        real = _measure(path, pid)
        real["raw_pipelined_get_configuration"] = _pipelined(path, _get, 0, 10_000)
        real["fan_out_100B"] = {str(count): _fan_out(path, count, 100, 2_000 // count) for count in (1, 10, 100)}
        real["fan_out_100kB"] = {str(count): _fan_out(path, count, 100_000, 200 // count) for count in (1, 10)}
    return {"server": real, "null": null, "ratio": _ratios(real, null)}


def _ratios(real: dict[str, Any], null: dict[str, Any]) -> dict[str, float]:
    found = {}
    for name, value in null.items():
        if isinstance(value, dict):
            for part in {"rate", "sequential", "pipelined"} & value.keys():
                found[f"{name}.{part}"] = round(real[name][part] / value[part], 2)
        elif name.startswith("raw"):
            found[name] = round(real[name] / value, 2)
    return found


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run({"null": _serve_null, "real": _serve_real}[sys.argv[1]](Path(sys.argv[2])))

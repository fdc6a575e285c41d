"""Local publishes over IPC: the nucleus's server against a null server that only acknowledges, in one run.

Both are processes of their own and run throughout. Each figure is taken from them in short turns, one after the other,
and the median of the turns counts: whatever else the machine does meets both. The null server does what no server of
this protocol can leave out: it finds frames in what it reads, checks lengths and both checksums, and walks the headers
for type and stream id; then it sends a frame made beforehand. It reads no JSON, and knows no component, policy or
subscriber.

``raw`` is a socket that writes ready-made frames, one at a time (``sequential``) or a window of 100 ahead
(``pipelined``), the message in base64 or (``json``) one string; ``sdk`` is awsiotsdk, unmodified. Rates are per second.
``server_cpu_us`` is the server's processor time for one publish, by the kernel's account in nanoseconds, and
``server_busy`` the part of the time that it had one: far below 1, it waited for the driver. ``p50_us`` and ``p99_us``
are of the round trips of all turns together. ``delivery`` and ``fan_out`` count events that reach raw subscribers.
``ratio`` is the server's median over the null server's, of a rate or (``_us``) of a time. ``nucleus`` is ``monodon
nucleus run`` in an empty folder: from its start to ready, and its memory at rest.
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
TURNS = 11
SIZES = {"100B": (100, 4_000), "10kB": (10_000, 1_000), "100kB": (100_000, 200), "1MB": (1_000_000, 30)}
MAX_FRAME_BYTES = 24 * 1024 * 1024
_STREAM_ID = b"\x0a:stream-id\x04"
_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")


# the servers


class Null(asyncio.Protocol):
    """Acknowledges every request of every connection."""

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
        with memoryview(buffer) as view:
            while len(view) - start >= 12:
                total, headers, crc = _PRELUDE.unpack_from(view, start)
                if not 16 <= total <= MAX_FRAME_BYTES or headers > total - 16:
                    raise ValueError(f"a frame of {total} bytes with {headers} of headers")
                if zlib.crc32(view[start : start + 8]) != crc:
                    raise ValueError("the checksum of a prelude")
                if len(view) - start < total:
                    break
                end = start + total - 4
                if zlib.crc32(view[start:end]) != _CRC.unpack_from(view, end)[0]:
                    raise ValueError("the checksum of a message")
                out.append(self._answer(_controls(bytes(view[start + 12 : start + 12 + headers]))))
                start += total
        del buffer[:start]
        if out:
            self._transport.write(b"".join(out))  # type: ignore[attr-defined]

    def _answer(self, controls: dict[bytes, bytes]) -> bytes:
        stream_id = controls[b":stream-id"]
        if controls[b":message-type"] == b"\0\0\0\4":
            return self._accept
        head = self._reply.replace(_STREAM_ID + b"\0\0\0\0", _STREAM_ID + stream_id)
        return head + _CRC.pack(zlib.crc32(head))


def _controls(block: bytes) -> dict[bytes, bytes]:
    """Return the headers that are four bytes long or text, by name."""
    found = {}
    at = 0
    while at < len(block):
        name = block[at + 1 : at + 1 + block[at]]
        at += 1 + len(name)
        size = 4 if block[at] == HeaderType.INT32 else 2 + int.from_bytes(block[at + 1 : at + 3], "big")
        found[name] = block[at + 1 : at + 1 + size]
        at += 1 + size
    return found


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


def _publish_json(stream_id: int, size: int) -> bytes:
    message = {"jsonMessage": {"message": {"text": "x" * size}}}
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


#: What a turn gives: figures by name, and (``trips_s``) single round trips.
Turn = dict[str, Any]
Make = Callable[[int, int], bytes]


def _sequential(path: Path, make: Make, size: int, count: int) -> Turn:
    client = Raw(path)
    frames = [make(number, size) for number in range(1, count + 1)]
    trips_s = []
    for frame in frames:
        start = time.perf_counter()
        client.socket.sendall(frame)
        client.wait(1)
        trips_s.append(time.perf_counter() - start)
    client.socket.close()
    return {"rate": count / sum(trips_s), "trips_s": trips_s}


def _pipelined(path: Path, make: Make, size: int, count: int) -> Turn:
    client = Raw(path)
    frames = [make(number, size) for number in range(1, count + 1)]
    window = min(WINDOW, max(2, 4_000_000 // max(size, 1)))
    at_once = max(1, 64_000 // len(frames[0]))  # joining large ones would be work of the driver's
    start = time.perf_counter()
    open_requests, sent = 0, 0
    client.socket.setblocking(False)
    pending = memoryview(b"")
    while sent < count or open_requests or pending:
        if not pending and sent < count and open_requests < window:
            batch = frames[sent : sent + min(at_once, window - open_requests)]
            sent += len(batch)
            open_requests += len(batch)
            pending = memoryview(batch[0] if len(batch) == 1 else b"".join(batch))
        readable, writable, _ = select.select([client.socket], [client.socket] if pending else [], [])
        if readable:
            open_requests -= client.read()
        if writable:
            pending = pending[client.socket.send(pending) :]
    took = time.perf_counter() - start
    client.socket.close()
    return {"rate": count / took}


def _cpu_s(pid: int) -> float:
    """Processor time that a process of one thread has had."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


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


def _sdk(path: Path, ahead: int, count: int) -> Turn:
    from awsiot import greengrasscoreipc
    from awsiot.greengrasscoreipc import model
    from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

    client = GreengrassCoreIPCClientV2(client=greengrasscoreipc.connect(ipc_socket=str(path), authtoken="bench"))
    message = model.PublishMessage(binary_message=model.BinaryMessage(message=b"x" * 100))
    start = time.perf_counter()
    waiting: deque[Any] = deque()
    for _ in range(count):
        waiting.append(client.publish_to_topic_async(topic=TOPIC, publish_message=message))
        if len(waiting) == ahead:
            waiting.popleft().result(10)
    for future in waiting:
        future.result(10)
    rate = count / (time.perf_counter() - start)
    client.close()
    return {"rate": rate}


# turns

Figure = dict[str, Any]
Drive = Callable[[Path], Turn]


def _sized(drive: Callable[[Path, Make, int, int], Turn], make: Make, size: int, count: int) -> tuple[Drive, int]:
    return lambda path: drive(path, make, size, count), count


#: What both servers do, and how often in a turn.
_BOTH: dict[str, tuple[Drive, int]] = {
    "raw_sequential_100B": _sized(_sequential, _publish, 100, 1_000),
    "raw_sequential_100kB": _sized(_sequential, _publish, 100_000, 200),
    "raw_sequential_100kB_json": _sized(_sequential, _publish_json, 100_000, 200),
    **{f"raw_pipelined_{name}": _sized(_pipelined, _publish, *size) for name, size in SIZES.items()},
    **{f"raw_pipelined_{name}_json": _sized(_pipelined, _publish_json, *SIZES[name]) for name in ("100B", "100kB")},
    "sdk_sequential_100B": (lambda path: _sdk(path, 1, 500), 500),
    "sdk_pipelined_100B": (lambda path: _sdk(path, WINDOW, 500), 500),
}
#: What the null server has no answer to.
_REAL: dict[str, Callable[[Path], Figure]] = {
    "get_configuration": lambda path: _pipelined(path, _get, 0, 5_000),
    "delivery": lambda path: {name: _fan_out(path, 1, size, count // 2) for name, (size, count) in SIZES.items()},
    "fan_out_100B": lambda path: {str(count): _fan_out(path, count, 100, 2_000 // count) for count in (1, 10, 100)},
    "fan_out_100kB": lambda path: {str(count): _fan_out(path, count, 100_000, 200 // count) for count in (1, 10, 100)},
}


def _take(drive: Drive, count: int, server: tuple[Path, int]) -> Turn:
    path, pid = server
    before = _cpu_s(pid)
    turn = drive(path)
    cpu_s = _cpu_s(pid) - before
    return {**turn, "server_cpu_us": cpu_s / count * 1e6, "server_busy": cpu_s * turn["rate"] / count}


def _interleaved(drive: Drive, count: int, servers: tuple[tuple[Path, int], ...]) -> list[Figure]:
    """The figures of each server, taken in turns; who begins changes from turn to turn."""
    turns: list[list[Turn]] = [[] for _ in servers]
    for number in range(TURNS):
        for index in sorted(range(len(servers)), reverse=bool(number % 2)):
            turns[index].append(_take(drive, count, servers[index]))
    return [_figure(each) for each in turns]


def _figure(turns: list[Turn]) -> Figure:
    """The median of each part; of single round trips, percentiles of all together."""
    found: Figure = {
        part: round(statistics.median(turn[part] for turn in turns), 2) for part in turns[0] if part != "trips_s"
    }
    if trips_s := sorted(trip_s for turn in turns for trip_s in turn.get("trips_s", ())):
        found["p50_us"] = round(statistics.median(trips_s) * 1e6)
        found["p99_us"] = round(trips_s[int(len(trips_s) * 0.99)] * 1e6)
    return found


def _nucleus() -> dict[str, float]:
    """A nucleus without a cloud: from its start to ready beside an idle interpreter's, and its memory at rest."""
    with tempfile.TemporaryDirectory(prefix="mn") as folder:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        interpreter_s = time.perf_counter() - start
        start = time.perf_counter()
        command = [sys.executable, "-m", "monodon", "nucleus", "run", "--root", f"{folder}/root"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            process.stdout.readline()
            ready_s = time.perf_counter() - start
            time.sleep(1)  # to rest
            status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            rss_kib = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
            process.terminate()
    return {
        "start_to_ready_s": round(ready_s, 3),
        "interpreter_s": round(interpreter_s, 3),
        "rss_mb": round(rss_kib * 1024 / 1e6, 1),
    }


def main() -> dict[str, Any]:
    """Return the figures of both servers, and the ratios that count."""
    with _running("null") as null_server, _running("real") as real_server:
        null: dict[str, Figure] = {}
        real: dict[str, Figure] = {}
        for name, (drive, count) in _BOTH.items():
            null[name], real[name] = _interleaved(drive, count, (null_server, real_server))
        for name, alone in _REAL.items():
            real[name] = _figure([alone(real_server[0]) for _ in range(TURNS)])
    ratio = {name: _ratio(real[name], figure) for name, figure in null.items()}
    return {
        "load": os.getloadavg()[0],
        "server": real,
        "null": null,
        "ratio": ratio,
        "nucleus": _figure([_nucleus() for _ in range(TURNS // 2)]),
    }


def _ratio(real: Figure, null: Figure) -> dict[str, float]:
    found = {part: round(real[part] / null[part], 2) for part in null if part != "server_busy" and null[part]}
    if "p99_us" in real:
        found["p99_over_p50"] = round(real["p99_us"] / real["p50_us"], 1)
        found["p99_over_p50_of_null"] = round(null["p99_us"] / null["p50_us"], 1)
    return found


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run({"null": _serve_null, "real": _serve_real}[sys.argv[1]](Path(sys.argv[2])))

"""Local publishes over IPC: the nucleus's server against a null server that only acknowledges, in one run.

Both are processes of their own and run throughout. Each figure is taken from them in turn, several times, and the best
counts: whatever else the machine does can only make one worse. The null server does what no server of this protocol can
leave out: it finds frames in what it reads, checks lengths and both checksums, and walks the headers for type and
stream id; then it sends a frame made beforehand. It reads no JSON, and knows no component, policy or subscriber.

``raw`` is a socket that writes ready-made frames, one at a time (``sequential``) or a window of 100 ahead
(``pipelined``); ``sdk`` is awsiotsdk, unmodified. ``delivery`` and ``fan_out`` count events that reach raw subscribers.
Rates are per second; ``ratio`` is the server's rate over the null server's. ``nucleus`` is ``monodon nucleus run`` in
an empty folder: from its start to ready, and its memory at rest.
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
ROUNDS = 10
SIZES = {"100B": (100, 10_000), "10kB": (10_000, 2_000), "100kB": (100_000, 400), "1MB": (1_000_000, 50)}
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


Figure = dict[str, Any]


def _measure_sized(size: int, count: int) -> Callable[[Path, int], Figure]:
    def measure(path: Path, pid: int) -> Figure:
        before = _cpu_s(pid)
        rate = _pipelined(path, _publish, size, count)
        return {"rate": rate, "server_cpu_us": round((_cpu_s(pid) - before) / count * 1e6, 1)}

    return measure


#: What both servers do.
_BOTH: dict[str, Callable[[Path, int], Figure]] = {
    "raw_sequential_100B": lambda path, pid: _sequential(path, _publish, 100, 1_500),
    **{f"raw_pipelined_{name}": _measure_sized(size, count) for name, (size, count) in SIZES.items()},
    "sdk_100B": lambda path, pid: _sdk(path, 600),
}
#: What the null server has no answer to.
_REAL: dict[str, Callable[[Path], Figure]] = {
    "get_configuration": lambda path: {"rate": _pipelined(path, _get, 0, 5_000)},
    "delivery": lambda path: {name: _fan_out(path, 1, size, count // 4) for name, (size, count) in SIZES.items()},
    "fan_out_100B": lambda path: {str(count): _fan_out(path, count, 100, 2_000 // count) for count in (1, 10, 100)},
    "fan_out_100kB": lambda path: {str(count): _fan_out(path, count, 100_000, 200 // count) for count in (1, 10, 100)},
}


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


def _best(rounds: list[Figure]) -> Figure:
    """The best of each part: the least of what is a cost, the most of what is a rate."""
    costs = ("_us", "_s", "_mb")
    return {key: (min if key.endswith(costs) else max)(each[key] for each in rounds) for key in rounds[0]}


def main() -> dict[str, Any]:
    """Return the figures of both servers, and the ratios that count."""
    with _running("null") as (null_path, null_pid), _running("real") as (path, pid):
        null: dict[str, Figure] = {}
        real: dict[str, Figure] = {}
        for name, both in _BOTH.items():
            rounds = [(both(null_path, null_pid), both(path, pid)) for _ in range(ROUNDS)]
            null[name], real[name] = (_best([each[side] for each in rounds]) for side in (0, 1))
        for name, alone in _REAL.items():
            real[name] = _best([alone(path) for _ in range(ROUNDS)])
    return {
        "server": real,
        "null": null,
        "ratio": _ratios(real, null),
        "nucleus": _best([_nucleus() for _ in range(ROUNDS // 2)]),
    }


def _ratios(real: dict[str, Figure], null: dict[str, Figure]) -> dict[str, float]:
    found = {
        f"{name}.{part}": round(real[name][part] / rate, 2)
        for name, figure in null.items()
        for part, rate in figure.items()
        if not part.endswith("_us")
    }
    for name, side in (("server", real), ("null", null)):
        spread = side["raw_sequential_100B"]
        found[f"{name}.p99_over_p50"] = round(spread["p99_us"] / spread["p50_us"], 1)
    return found


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run({"null": _serve_null, "real": _serve_real}[sys.argv[1]](Path(sys.argv[2])))

"""The cloud beside moto's server: API calls a second and p99 on the same calls, and a large object in and out.

Each server is a process of its own, asked one call after the other: by boto3 (``per_s``, ``p99_ms``), which takes
longer to make a call than a server to answer it, and by requests that boto3 made and signed beforehand, sent as they
are over a connection that is kept if the server keeps it (``raw_…``; ``cpu_ms`` is the server's processor time for one
of them).
``fsync_ms`` is what the disk takes to keep 4 KiB: no answer of something durable is faster.

``large`` puts one object of 500 MB as parts (``upload_file``) and as one body (``put_object``), gets both, and tells
the server's greatest memory (VmHWM) before and after; 100 MB for moto, which keeps objects in memory; ``--quick``
leaves it out.
"""

import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

CALLS = 400
LARGE_BYTES = int(os.environ.get("LARGE_MB", "500")) * 1000 * 1000


def client(service: str, endpoint: str) -> Any:
    session = boto3.session.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    config = Config(retries={"max_attempts": 0}, read_timeout=120)
    return closing(session.client(service, endpoint_url=endpoint, config=config))


@contextmanager
def server(command: list[str], port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a server until left; it listens when this gives its endpoint."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + 60
        while True:
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if time.monotonic() > ends or process.poll() is not None:
                sys.exit(f"error: {command[0]} does not listen")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Signed(Exception):
    """Carries a request that boto3 was about to send."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        path = "/" + request.url.split("/", 3)[3]
        self.request = request.method, path, request.body or b"", dict(request.headers.items())


def signed(made_by: Any, call: Callable[[int], Any], number: int) -> tuple[str, str, Any, dict[str, Any]]:
    """Method, path, body and headers of a call, as boto3 signs it."""

    def stop(request: Any, **_: Any) -> None:
        raise Signed(request)

    made_by.meta.events.register("before-send", stop)
    try:
        call(number)
    except Signed as made:
        method, path, body, headers = made.request
        return method, path, body if isinstance(body, bytes | str) else body.read(), headers
    finally:
        made_by.meta.events.unregister("before-send", stop)
    raise AssertionError("boto3 sent nothing")


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    """Processor time that a process has used so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def timed(call: Callable[[int], Any]) -> tuple[int, float]:
    """Calls a second, and p99 in milliseconds."""
    took = []
    started = time.perf_counter()
    for number in range(CALLS):
        before = time.perf_counter()
        call(number)
        took.append((time.perf_counter() - before) * 1000)
    return round(CALLS / (time.perf_counter() - started)), round(statistics.quantiles(took, n=100)[98], 1)


def calls(endpoint: str, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Calls a second, p99 and the server's processor time in milliseconds, by call."""
    figures: dict[str, Any] = {}
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=60)

    def measure(name: str, made_by: Any, call: Callable[[int], Any]) -> None:
        per_s, p99_ms = timed(call)
        requests = [signed(made_by, call, CALLS + number) for number in range(CALLS)]

        def send(number: int) -> None:
            connection.request(*requests[number])
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, (name, answer.status)

        if name not in ("put_object", "create_thing"):  # what they read was made by these
            requests = [signed(made_by, call, number) for number in range(CALLS)]
        used = cpu_s(process)
        raw_per_s, raw_p99_ms = timed(send)
        figures[name] = {
            "per_s": per_s,
            "p99_ms": p99_ms,
            "raw_per_s": raw_per_s,
            "raw_p99_ms": raw_p99_ms,
            "cpu_ms": round((cpu_s(process) - used) * 1000 / CALLS, 2),
        }

    with client("s3", endpoint) as s3, client("iot", endpoint) as iot, closing(connection):
        s3.create_bucket(Bucket="bench")
        measure("put_object", s3, lambda n: s3.put_object(Bucket="bench", Key=f"k{n}", Body=b"x" * 1000))
        measure("get_object", s3, lambda n: s3.get_object(Bucket="bench", Key=f"k{n}")["Body"].read())
        measure("create_thing", iot, lambda n: iot.create_thing(thingName=f"t{n}"))
        measure("describe_thing", iot, lambda n: iot.describe_thing(thingName=f"t{n}"))
        measure("list_things", iot, lambda n: iot.list_things(maxResults=50))
    return figures


def fsync_ms(folder: Path) -> float:
    """What a durable write costs here: the median of a hundred, 4 KiB each."""
    took = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(100):
            before = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            took.append((time.perf_counter() - before) * 1000)
    return round(statistics.median(took), 2)


def peak_mb(process: subprocess.Popen[bytes]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def large(endpoint: str, process: subprocess.Popen[bytes], folder: Path, size: int) -> dict[str, Any]:
    """A large object in and out, and what the server needed for it."""
    source = folder / "large"
    with source.open("wb") as file:
        for _ in range(size // 1_000_000):
            file.write(os.urandom(1_000_000))
    figures: dict[str, Any] = {"mb": size // 1_000_000, "rss_before_mb": peak_mb(process)}
    with client("s3", endpoint) as s3:
        s3.create_bucket(Bucket="large")
        for name, put in (
            ("upload_file", lambda: s3.upload_file(str(source), "large", "parts")),
            ("put_object", lambda: put_whole(s3, source)),
        ):
            started = time.perf_counter()
            put()
            figures[f"{name}_mb_s"] = round(size / 1e6 / (time.perf_counter() - started))
        for key in ("parts", "whole"):
            started = time.perf_counter()
            read = sum(len(piece) for piece in s3.get_object(Bucket="large", Key=key)["Body"].iter_chunks(1 << 20))
            assert read == size
            figures[f"get_{key}_mb_s"] = round(size / 1e6 / (time.perf_counter() - started))
    source.unlink()
    figures["rss_peak_mb"] = peak_mb(process)
    return figures


def put_whole(s3: Any, source: Path) -> None:
    with source.open("rb") as file:
        s3.put_object(Bucket="large", Key="whole", Body=file)


def main() -> dict[str, Any]:
    figures: dict[str, Any] = {}
    parts = [part for part in ("calls", "large") if part != "large" or "--quick" not in sys.argv]
    with tempfile.TemporaryDirectory(prefix="mn") as name:
        folder = Path(name)
        figures["fsync_ms"] = fsync_ms(folder)
        for label in ("monodon", "moto"):
            for part in parts:
                port = free_port()
                state = str(folder / f"{label}-{part}")
                command = {
                    "monodon": [sys.executable, "-m", "monodon", "cloud", "run", "--state", state, "--mqtt-port", "0"],
                    "moto": [sys.executable, "-m", "moto.server", "-H", "127.0.0.1"],
                }[label]
                flag = "--port" if label == "monodon" else "-p"
                with server([*command, flag, str(port)], port) as (endpoint, process):
                    size = LARGE_BYTES if label == "monodon" else min(LARGE_BYTES, 100_000_000)
                    found = calls(endpoint, process) if part == "calls" else large(endpoint, process, folder, size)
                figures[f"{label}_{part}"] = found
    for kind in ("per_s", "raw_per_s"):
        figures[f"times_moto_{kind}"] = {
            name: round(each[kind] / figures["moto_calls"][name][kind], 1)
            for name, each in figures["monodon_calls"].items()
        }
    return figures


if __name__ == "__main__":
    print(main())

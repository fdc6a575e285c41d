"""The cloud beside moto's server: API calls a second and p99 on the same calls, and a large object in and out.

Each server is a process of its own; boto3 is the client, one call after the other. ``large`` puts one object of 500 MB as
parts (``upload_file``) and as one body (``put_object``), gets both, and tells the server's greatest memory (VmHWM)
before and after; 100 MB for moto, which keeps objects in memory.
"""

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


def calls(endpoint: str) -> dict[str, Any]:
    """Calls a second and p99 in milliseconds, by call."""
    figures: dict[str, Any] = {}

    def measure(name: str, call: Callable[[int], Any]) -> None:
        took = []
        started = time.perf_counter()
        for number in range(CALLS):
            before = time.perf_counter()
            call(number)
            took.append((time.perf_counter() - before) * 1000)
        rate = CALLS / (time.perf_counter() - started)
        figures[name] = {"per_s": round(rate), "p99_ms": round(statistics.quantiles(took, n=100)[98], 1)}

    with client("s3", endpoint) as s3, client("iot", endpoint) as iot:
        s3.create_bucket(Bucket="bench")
        measure("put_object", lambda n: s3.put_object(Bucket="bench", Key=f"k{n}", Body=b"x" * 1000))
        measure("get_object", lambda n: s3.get_object(Bucket="bench", Key=f"k{n}")["Body"].read())
        measure("create_thing", lambda n: iot.create_thing(thingName=f"t{n}"))
        measure("describe_thing", lambda n: iot.describe_thing(thingName=f"t{n}"))
        measure("list_things", lambda n: iot.list_things(maxResults=50))
    return figures


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
    with tempfile.TemporaryDirectory(prefix="mn") as name:
        folder = Path(name)
        for label in ("monodon", "moto"):
            for part in ("calls", "large"):
                port = free_port()
                state = str(folder / f"{label}-{part}")
                command = {
                    "monodon": [sys.executable, "-m", "monodon", "cloud", "run", "--state", state, "--mqtt-port", "0"],
                    "moto": [sys.executable, "-m", "moto.server", "-H", "127.0.0.1"],
                }[label]
                flag = "--port" if label == "monodon" else "-p"
                with server([*command, flag, str(port)], port) as (endpoint, process):
                    size = LARGE_BYTES if label == "monodon" else min(LARGE_BYTES, 100_000_000)
                    found = calls(endpoint) if part == "calls" else large(endpoint, process, folder, size)
                figures[f"{label}_{part}"] = found
    figures["times_moto"] = {
        name: round(each["per_s"] / figures["moto_calls"][name]["per_s"], 1)
        for name, each in figures["monodon_calls"].items()
    }
    return figures


if __name__ == "__main__":
    print(main())

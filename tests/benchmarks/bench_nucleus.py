"""The embedded nucleus: start to ready, CPU and memory at rest with and without a cloud, crashes, deployments.

Baselines in the same run: an interpreter that starts and does nothing; one that has loaded awscrt and asyncio, for the
memory of a connected nucleus; an idle process that sleeps, for CPU; and the classifier's process by itself from its
start to the first frame seen, which no deployment can be faster than. What `bench_lifecycle` measures is told here too.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks import bench_lifecycle
from tests.journeys.scene import CLASSIFIER, GROUP, MODEL, THING, Fleet

from monodon.dev.lab import Lab, Server
from monodon.dev.packages import build_packages

CHECKOUT = Path(__file__).parents[2]
STARTS = 9
DEPLOYMENTS = 6
#: After its start a nucleus is left alone for so long before it is watched, and watched for longer than MQTT is silent.
SETTLING_S, WATCHED_S = 5.0, 40.0
PICTURE = CHECKOUT / "tests/data/photos/narwhal.webp"


def timed(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - started


def memory_mb(pid: int) -> float:
    """Return what a process holds in memory (VmRSS), in MB of 1,000,000 bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS"))


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU that a process's threads have used, to the nanosecond."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def idle_percent(pids: dict[str, int]) -> dict[str, float]:
    """Return how much of one core each of these processes uses when it is left alone, all at the same time."""
    time.sleep(SETTLING_S)
    before, started = {name: cpu_s(pid) for name, pid in pids.items()}, time.perf_counter()
    time.sleep(WATCHED_S)
    took = time.perf_counter() - started
    return {name: round((cpu_s(pid) - before[name]) / took * 100, 4) for name, pid in pids.items()}


@contextmanager
def interpreter(code: str) -> Iterator[int]:
    """An interpreter that has run this and now sleeps; its pid."""
    program = f"{code}; print('ready', flush=True); import time; time.sleep(1000)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


@contextmanager
def offline(root: Path) -> Iterator[int]:
    """A nucleus that has no cloud; its pid."""
    command = [sys.executable, "-m", "monodon", "nucleus", "run", "--root", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.terminate()


def starts(lab: Lab, cloud: Server, root: Path) -> tuple[list[float], list[float], Server]:
    """Return the times of an idle interpreter and of the nucleus to ready, in turn, and the last nucleus."""
    interpreters, nucleus = [], []
    for number in range(STARTS):
        interpreters.append(timed([sys.executable, "-c", "pass"]))
        started = time.perf_counter()
        device = lab.start_device(cloud, root)
        nucleus.append(time.perf_counter() - started)
        if number < STARTS - 1:
            lab.stop_server(device)
    return interpreters, nucleus, device


def classifier_alone(folder: Path) -> float:
    """Return how long the classifier takes by itself from its start to the first status it tells."""
    command = [sys.executable, str(CHECKOUT / "components" / CLASSIFIER / "main.py")]
    settings = ["--set", f"source={PICTURE}", "--set", 'labels=["grey whale"]', "--set", f"keep_folder={folder}"]
    environment = {**os.environ, "MODEL": str(CHECKOUT / "components" / MODEL / "1.0.0")}
    started = time.perf_counter()
    with subprocess.Popen([*command, *settings], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        took = time.perf_counter() - started
        process.terminate()
    return took


def deployments(fleet: Fleet) -> list[float]:
    """Return the seconds from create_deployment to SUCCEEDED, the model's two versions in turn."""
    settings = {"source": str(PICTURE), "labels": ["grey whale"]}
    times = []
    for number in range(DEPLOYMENTS + 1):
        started = time.perf_counter()
        outcome = fleet.outcome(fleet.deploy("1.0.0" if number % 2 == 0 else "2.0.0", settings))
        assert outcome.status == "SUCCEEDED", outcome
        times.append(time.perf_counter() - started)
    return times[1:]  # the first one installed the runtime


def at_rest(folder: Path, device: Server) -> dict[str, Any]:
    """Return CPU and memory of a nucleus without and of one with a cloud, beside interpreters that do nothing."""
    with (
        interpreter("pass") as nothing,
        interpreter("import asyncio, awscrt.mqtt5") as loaded,
        offline(folder) as alone,
    ):
        pids = {"sleeping": nothing, "offline": alone, "connected": device.pid}
        cpu = idle_percent(pids)
        return {
            "idle_cpu_percent": cpu,
            "rss_mb": {
                "interpreter": round(memory_mb(nothing), 1),
                "interpreter_with_awscrt": round(memory_mb(loaded), 1),
                "offline": round(memory_mb(alone), 1),
                "connected": round(memory_mb(device.pid), 1),
            },
            "boto3_loaded": any(
                "botocore" in line for line in Path(f"/proc/{device.pid}/maps").read_text().splitlines()
            ),
        }


def main() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mnbench") as folder, Lab(Path(folder)) as lab:
        cloud = lab.start_cloud()
        root = lab.provision(cloud, THING, GROUP)
        interpreters, nucleus, device = starts(lab, cloud, root)
        resting = at_rest(Path(folder) / "alone", device)
        fleet = Fleet(lab, cloud, root, device)
        fleet.publish(*build_packages(CHECKOUT, CHECKOUT / ".monodon/cache"))
        times = deployments(fleet)
        alone = [classifier_alone(Path(folder) / "kept") for _ in range(3)]
        return {
            "interpreter_start_s": round(statistics.median(interpreters), 3),
            "start_to_ready_s": round(statistics.median(nucleus), 3),
            "start_ratio": round(statistics.median(nucleus) / statistics.median(interpreters), 1),
            **resting,
            "classifier_alone_s": round(statistics.median(alone), 2),
            "deployment_s": round(statistics.median(times), 2),
            "deployment_ratio": round(statistics.median(times) / statistics.median(alone), 2),
            "rss_after_deployments_mb": round(memory_mb(device.pid), 1),
            "lifecycle": bench_lifecycle.main(),
        }


if __name__ == "__main__":
    print(main())

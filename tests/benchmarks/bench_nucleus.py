"""The embedded nucleus: from its start to ready, its memory at rest, and how long a deployment takes.

Baselines in the same run: an interpreter that starts and does nothing, and the classifier's process by itself from its
start to the first frame seen, which no deployment can be faster than.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.journeys.scene import CLASSIFIER, GROUP, MODEL, THING, Fleet

from monodon.dev.lab import Lab, Server
from monodon.dev.packages import build_packages

CHECKOUT = Path(__file__).parents[2]
STARTS = 5
DEPLOYMENTS = 6
PICTURE = CHECKOUT / "tests/data/photos/narwhal.webp"


def timed(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - started


def memory_mb(server: Server) -> float:
    """Return what a process holds in memory (VmRSS), in MB of 1,000,000 bytes."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS"))


def cpu_s(server: Server) -> float:
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def starts(lab: Lab, cloud: Server, root: Path) -> tuple[list[float], list[float], Server]:
    """Return the times of an idle interpreter and of the nucleus to ready, in turn, and the last nucleus."""
    interpreter, nucleus = [], []
    for number in range(STARTS):
        interpreter.append(timed([sys.executable, "-c", "pass"]))
        started = time.perf_counter()
        device = lab.start_device(cloud, root)
        nucleus.append(time.perf_counter() - started)
        if number < STARTS - 1:
            lab.stop_server(device)
    return interpreter, nucleus, device


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


def main() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mnbench") as folder, Lab(Path(folder)) as lab:
        cloud = lab.start_cloud()
        root = lab.provision(cloud, THING, GROUP)
        interpreter, nucleus, device = starts(lab, cloud, root)
        before, started = cpu_s(device), time.perf_counter()
        time.sleep(10)
        idle_cpu = (cpu_s(device) - before) / (time.perf_counter() - started)
        resting = memory_mb(device)
        fleet = Fleet(lab, cloud, root, device)
        fleet.publish(*build_packages(CHECKOUT, CHECKOUT / ".monodon/cache"))
        times = deployments(fleet)
        alone = [classifier_alone(Path(folder) / "kept") for _ in range(3)]
        return {
            "interpreter_start_s": round(statistics.median(interpreter), 3),
            "start_to_ready_s": round(statistics.median(nucleus), 3),
            "start_ratio": round(statistics.median(nucleus) / statistics.median(interpreter), 1),
            "idle_rss_mb": round(resting, 1),
            "idle_cpu_percent": round(idle_cpu * 100, 2),
            "classifier_alone_s": round(statistics.median(alone), 2),
            "deployment_s": round(statistics.median(times), 2),
            "deployment_ratio": round(statistics.median(times) / statistics.median(alone), 2),
            "rss_after_deployments_mb": round(memory_mb(device), 1),
        }


if __name__ == "__main__":
    print(main())

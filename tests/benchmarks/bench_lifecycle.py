"""The life of components: a hundred with dependencies to RUNNING, back from a crash, and a deployment of what is there.

Baselines in the same run: the same hundred scripts started by a loop over ``subprocess.Popen``, each by the same shell
with the same environment, in a working folder of its own that is made for it, with the three pipes that a supervisor
needs; the same loop with nothing but the pipes; a process that is killed, waited for and started anew by hand; and one
fsync of this disk. A script counts as running once its program has been executed, which both wait for.
"""

import asyncio
import logging
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.nucleus.device import Cloud
from tests.nucleus.device import device as running_device

from monodon.core.lifecycle import State
from monodon.core.names import ComponentName
from monodon.core.plan import Installed
from monodon.core.recipe.model import DependencyType
from monodon.core.semver import Version
from monodon.nucleus.logs import Logs
from monodon.nucleus.supervisor import Supervisor

COMPONENTS, LAYERS, ROUNDS = 100, 10, 9
CRASHES = 100
DEPLOYMENTS = 20
SCRIPT = "exec sleep 1000"
VERSION = Version.parse("1.0.0")


def plain_loop(root: Path | None = None) -> float:
    """Return the seconds to start the scripts one after another, without a nucleus.

    Args:
        root: where each gets its working folder; without it they share this process's folder and environment.
    """
    started = time.perf_counter()
    processes = []
    for number in range(COMPONENTS):
        folder = None
        if root is not None:
            folder = root / component(number).name
            folder.mkdir(mode=0o700, parents=True)
        processes.append(
            subprocess.Popen(
                ["sh", "-c", SCRIPT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                cwd=folder,
                env=None if root is None else dict(environment(component(number))),
            )
        )
    took = time.perf_counter() - started
    for process in processes:
        process.kill()
        process.communicate()
    return took


def plain_restart() -> float:
    """Return the seconds from the kill of a process to the existence of the next, by hand."""
    process = subprocess.Popen(["sh", "-c", SCRIPT])
    started = time.perf_counter()
    process.kill()
    process.wait()
    again = subprocess.Popen(["sh", "-c", SCRIPT])
    took = time.perf_counter() - started
    again.kill()
    again.wait()
    return took


#: What a nucleus has for its components: its own environment, read once.
OWN = dict(os.environ)


def environment(installed: Installed) -> Mapping[str, str]:
    """Return what a nucleus gives its components."""
    return {**OWN, "AWS_IOT_THING_NAME": "bench", "SVCUID": "0123456789abcdef"}


@asynccontextmanager
async def supervised(root: Path) -> AsyncIterator[Supervisor]:
    """Run a supervisor in a folder of its own."""
    logs = Logs(root / "logs")
    async with Supervisor(root=root, environment=environment, logs=logs) as supervisor:
        yield supervisor
    logs.close()


def component(number: int, script: str = SCRIPT) -> Installed:
    """Return one of ten layers; each needs two of the layer before."""
    width = COMPONENTS // LAYERS
    layer, place = divmod(number, width)
    needs = () if layer == 0 else ((layer - 1) * width + place, (layer - 1) * width + (place + 1) % width)
    return Installed(
        name=ComponentName(f"bench.C{number:03}"),
        version=VERSION,
        lifecycle={"Run": script},
        dependencies={ComponentName(f"bench.C{other:03}"): DependencyType.HARD for other in needs},
    )


async def all_running(root: Path) -> float:
    """Return the seconds from nothing to every component RUNNING."""
    components = [component(number) for number in range(COMPONENTS)]
    async with supervised(root) as supervisor:
        started = time.perf_counter()
        for one in components:
            supervisor.put(one)
            supervisor.start(one.name)
        await supervisor.wait_until(lambda now: all(one.state is State.RUNNING for one in now.values()))
        return time.perf_counter() - started


async def crashes(root: Path) -> list[float]:
    """Return the seconds from a SIGKILL of a component's process to RUNNING again, among a hundred components."""
    times = []
    name = component(0).name
    async with supervised(root) as supervisor:
        for number in range(COMPONENTS):
            supervisor.put(Installed(name=component(number).name, version=VERSION, lifecycle={
                "Run": SCRIPT, "errorResetTime": 0}))  # fmt: skip
            supervisor.start(component(number).name)
        await supervisor.wait_until(lambda now: all(one.state is State.RUNNING for one in now.values()))
        for _ in range(CRASHES):
            (pid,) = supervisor.pids(name)
            started = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            await supervisor.wait_until(lambda now: now[name].state is not State.RUNNING)
            await supervisor.wait_until(lambda now: now[name].state is State.RUNNING)
            times.append(time.perf_counter() - started)
    return times


async def unchanged(root: Path) -> list[float]:
    """Return the seconds of deployments of what runs already, from the document to the report that it succeeded."""
    cloud = Cloud(root / "cloud")
    for number in range(10):
        cloud.publish(f"C{number}", "1.0.0", {"Run": SCRIPT}, artifacts={"data": bytes(1000)})
    roots = {f"C{number}": "1.0.0" for number in range(10)}
    times = []
    async with running_device(root / "device", cloud, steady_s=1.0) as device:
        assert (await device.deploy(roots)).has_succeeded
        for _ in range(DEPLOYMENTS):
            await device.idle()
            started = time.perf_counter()
            assert (await device.deploy(roots)).has_succeeded
            times.append(time.perf_counter() - started)
    return times


def fsync_s(folder: Path) -> float:
    """Return the median seconds of an fsync of a small file on this disk."""
    times = []
    with (folder / "probe").open("wb") as sink:
        for _ in range(20):
            sink.write(b"x" * 200)
            sink.flush()
            started = time.perf_counter()
            os.fsync(sink.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> dict[str, Any]:
    """Measure; loops and supervisor in turn, so that what else the machine does falls on both."""
    logging.getLogger("monodon").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="mnbench") as text:
        folder = Path(text)
        plain, bare, ours = [], [], []
        for number in range(ROUNDS):
            plain.append(plain_loop(folder / f"plain{number}"))
            ours.append(asyncio.run(all_running(folder / f"all{number}")))
            bare.append(plain_loop())
        back = sorted(asyncio.run(crashes(folder / "crashes")))
        by_hand = [plain_restart() for _ in range(CRASHES)]
        times = asyncio.run(unchanged(folder))
        return {
            "plain_loop_s": round(statistics.median(plain), 3),
            "bare_loop_s": round(statistics.median(bare), 3),
            "all_running_s": round(statistics.median(ours), 3),
            "all_running_ratio": round(statistics.median(ours) / statistics.median(plain), 2),
            "all_running_to_bare_loop": round(statistics.median(ours) / statistics.median(bare), 2),
            "restart_by_hand_ms": round(statistics.median(by_hand) * 1000, 1),
            "crash_to_running_ms": {
                "p50": round(statistics.median(back) * 1000, 1),
                "p99": round(back[int(len(back) * 0.99) - 1] * 1000, 1),
            },
            "fsync_ms": round(fsync_s(folder) * 1000, 2),
            "unchanged_deployment_ms": {
                "p50": round(statistics.median(times) * 1000, 1),
                "max": round(max(times) * 1000, 1),
            },
        }


if __name__ == "__main__":
    print(main())

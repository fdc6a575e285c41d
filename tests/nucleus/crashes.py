"""Killing a device in the middle of a deployment, and looking at what it is afterwards.

A *scene* is a device with a former set, A and Gone, and a job for a new set of three changing components. The job runs
in a process that may be killed; then in one that may not, and that one says how the device is. Processes are forked
from one that has loaded everything, since a start of Python costs more than a deployment.

Run as a program it is that process: it reads orders from stdin, one JSON object a line, and answers with exit codes.
"""

import asyncio
import contextlib
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.nucleus.device import DEADLINE_S, FINAL, Cloud, Device, device, running

from monodon.nucleus.notes import Note

CHECKOUT = Path(__file__).parents[2]
#: How the job of a scene goes: well, rolled back, well across restarts, rolled back across restarts.
SCENES = ("good", "bad", "restarting", "turning-back")

#: The group that the next deployment goes to.
OTHERS = "thinggroup/others"

OLD: Mapping[str, Any] = {
    "installed": {"A": "1.0.0", "Gone": "1.0.0"},
    "configuration": {"A": {"k": 1, "mine": 5}, "Gone": {}},
    "roots": {"thinggroup/drones": {"A": "1.0.0", "Gone": "1.0.0"}},
    "artifacts": {"A/1.0.0/f": "one"},
}
NEW: Mapping[str, Any] = {
    "installed": {"A": "2.0.0", "B": "1.0.0"},
    "configuration": {"A": {"k": 1, "mine": 6, "fresh": 2}, "B": {}},
    "roots": {"thinggroup/drones": {"A": "2.0.0", "B": "1.0.0"}},
    "artifacts": {"A/2.0.0/f": "two", "B/1.0.0/b/main.sh": "true"},
}


def is_rolled_back(scene: str) -> bool:
    """Whether the job of a scene ends at the former set."""
    return scene in ("bad", "turning-back")


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder in memory, where the machine has one: a SIGKILL loses nothing of it that a disk would keep."""
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 64 << 20
    with tempfile.TemporaryDirectory(prefix="mncrash", dir=memory if usable else None) as text:
        yield Path(text)


async def prepare(place: Path, scene: str) -> None:
    """Make a scene: ``place`` holds the device's ``root``, and its ``cloud`` with ``job.json`` and ``next.json``."""
    cloud = Cloud(place / "cloud")
    boot = {"Bootstrap": "exit 100"} if scene in ("restarting", "turning-back") else {}
    cloud.publish("A", "1.0.0", running("one"), configuration={"k": 1}, artifacts={"f": b"one"})
    cloud.publish("A", "2.0.0", running("two") | boot, configuration={"k": 2, "fresh": 2}, artifacts={"f": b"two"})
    cloud.publish("Gone", "1.0.0", running("gone"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("main.sh", "true")
    startup = "exit 1" if is_rolled_back(scene) else "sh {artifacts:decompressedPath}/b/main.sh"
    cloud.publish("B", "1.0.0", {"Startup": startup}, artifacts={"b.zip": buffer.getvalue()}, unarchive="ZIP")
    cloud.publish("Next", "1.0.0", {"Startup": "true"})
    async with device(place / "root", cloud) as one:
        mine = {"version": "1.0.0", "configurationUpdate": {"merge": {"mine": 5}}}
        assert (await one.deploy({"A": mine, "Gone": "1.0.0"})).has_succeeded
        await one.idle()
        job = one.document({"A": {"version": "2.0.0", "configurationUpdate": {"merge": {"mine": 6}}}, "B": "1.0.0"})
        after = one.document({"Next": "1.0.0"}, group="others")
    (cloud.folder / "reports").unlink()
    (cloud.folder / "job.json").write_text(json.dumps(job))
    (cloud.folder / "next.json").write_text(json.dumps(after))


async def perform(place: Path, kill_at: str, number: int) -> None:
    """Carry out the job until it has been reported, through restarts; then write ``result.json``."""
    cloud = Cloud(place / "cloud")
    seen: dict[str, int] = {}
    points: list[str] = []

    def at(point: str) -> None:
        points.append(point)
        seen[point] = seen.get(point, 0) + 1
        if point == kill_at and seen[point] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    document = json.loads((cloud.folder / "job.json").read_text())
    while True:
        async with device(place / "root", cloud, at=at) as one:
            if await _is_over(one, cloud, document):
                result = {**(await _found(one, place)), "points": points[:]}
                result["next"] = await _next(one, cloud)
                break
    (place / "result.json").write_text(json.dumps(result))


async def _is_over(one: Device, cloud: Cloud, document: Mapping[str, Any]) -> bool:
    """Wait for the end of the job, submitting it unless it was reported already; False: it wants a restart."""
    job = document["deploymentId"]
    record = one.state.open_deployment
    awaited = None if record is None else Note.from_record(record).entry.deployment_id
    if not any(each["status"] in FINAL and each["id"] == job for each in cloud.reports()):
        one.submit(document)
        awaited = job
    if awaited is not None:
        ended = asyncio.create_task(one.ended(awaited))
        restarting = asyncio.create_task(one.restarting.wait())
        await asyncio.wait([ended, restarting], return_when=asyncio.FIRST_COMPLETED)
        for task in (ended, restarting):
            task.cancel()
        await asyncio.wait([ended, restarting])
        if one.restarts:
            return False
        ended.result()
    await one.until(
        lambda statuses: (
            set(statuses) == set(one.state.installed) and all(each.is_settled for each in statuses.values())
        )
    )
    await one.idle()
    return True


async def _found(one: Device, place: Path) -> dict[str, Any]:
    """How the device is, but for what the next deployment brought before a kill that hit that."""
    packages = place / "root" / "packages"
    wanted = {**OLD["artifacts"], **NEW["artifacts"]}
    files = {
        key: path.read_text()
        for key in wanted
        for kind in ("artifacts", "artifacts-unarchived")
        if (path := packages / kind / key).is_file()
    }
    return {
        "installed": {name: version for name, version in one.installed().items() if name != "Next"},
        "states": one.states(),
        "configuration": {name: one.configuration(name) for name in one.installed() if name != "Next"},
        "roots": {target: dict(roots) for target, roots in one.state.targets().items() if target != OTHERS},
        "open": one.state.open_deployment,
        "artifacts": files,
    }


async def _next(one: Device, cloud: Cloud) -> str:
    """Deploy to another group; how that ends."""
    document = json.loads((cloud.folder / "next.json").read_text())
    one.submit(document)
    return str((await one.ended(document["deploymentId"])).status)


def complaints(place: Path, scene: str) -> list[str]:
    """Say what is wrong with a device after a kill and a restart: it is to be wholly at one set, and to say so."""
    result = json.loads((place / "result.json").read_text())
    wanted = OLD if is_rolled_back(scene) else NEW
    detailed = "FAILED_ROLLBACK_COMPLETE" if is_rolled_back(scene) else "SUCCESSFUL"
    final = {
        each["detailed"] if each["detailed"] == detailed else f"{each['detailed']}, {each['cause']}"
        for each in Cloud(place / "cloud").reports()
        if each["status"] in FINAL and not each["id"].startswith(OTHERS)
    }
    checks = {
        **{key: (value, result[key]) for key, value in wanted.items() if key != "artifacts"},
        "artifacts": (wanted["artifacts"], {key: result["artifacts"].get(key) for key in wanted["artifacts"]}),
        "states": ({"RUNNING"}, set(result["states"].values())),
        "open": (None, result["open"]),
        "reported": ({detailed}, final),
        "next": ("SUCCEEDED", result["next"]),
    }
    return [
        f"{key}: {found!r} instead of {expected!r}" for key, (expected, found) in checks.items() if found != expected
    ]


class Zygote:
    """A process that forks a device for each order; one order at a time. ``with`` it."""

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nucleus.crashes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": f"{CHECKOUT / 'sdk'}:{CHECKOUT}"},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def run(self, place: Path, kill_at: str = "", number: int = 0, *, after_s: float | None = None) -> int:
        """Perform the job of ``place``; kill the process at a named point's n-th time, or after some seconds.

        Returns:
            its exit code, or minus the number of the signal that ended it.
        """
        order = {"place": str(place), "kill_at": kill_at, "number": number, "after_s": after_s}
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())


def _serve() -> None:
    logging.disable()  # what goes wrong is said by exit codes and results
    for line in sys.stdin:
        order = json.loads(line)
        started = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            _perform(order)
        if order["after_s"] is not None:
            time.sleep(max(0.0, order["after_s"] - (time.perf_counter() - started)))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _perform(order: Mapping[str, Any]) -> None:
    try:
        asyncio.run(asyncio.wait_for(perform(Path(order["place"]), order["kill_at"], order["number"]), 2 * DEADLINE_S))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _serve()

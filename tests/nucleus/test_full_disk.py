"""A disk that is full, or read-only, at each named write of a deployment: the device is at one set and goes on working.

Full is a disk for a single write, here; read-only it stays for several, until the deployment has ended at the latest.
"""

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.nucleus.crashes import NEW, OLD, folder, prepare
from tests.nucleus.device import Cloud, Device
from tests.nucleus.device import device as running_device

from monodon.core.deployment import Status
from monodon.nucleus.client_device_settings import AuthConfiguration
from monodon.nucleus.client_devices import ClientDevices
from monodon.nucleus.journal import Journal
from monodon.nucleus.server_certificates import ServerCertificates
from monodon.nucleus.state import DeviceState

#: The points at which something is about to be written; after the others it has been.
WRITES = (
    "journal append", "journal sync", "journal compact", "journal rename", "journal renamed", "store write",
    "artifact downloaded", "artifact rename", "artifact unpacked",
)  # fmt: skip
NOTHING: Mapping[str, Any] = {"installed": {}, "configuration": {}}
#: Each scene: how it is prepared, its job's components where they are others, the former and the new set.
SCENES: Mapping[str, tuple[str, Mapping[str, Any] | None, Mapping[str, Any], Mapping[str, Any]]] = {
    "install": ("good", None, NOTHING, {**NEW, "configuration": {"A": {"k": 2, "mine": 6, "fresh": 2}, "B": {}}}),
    "update": ("good", None, OLD, NEW),
    "rollback": ("bad", None, OLD, NEW),
    "removal": ("good", {}, OLD, NOTHING),
    "restart": ("restarting", None, OLD, NEW),
    "restart and back": ("turning-back", None, OLD, NEW),
}


class Disk:
    """A disk that refuses ``span`` writes, the first of them the ``number``-th, unless it is mended before."""

    def __init__(self, number: int | None, span: int, code: int) -> None:
        self.number, self.span, self.code = number, span, code
        self.writes = 0

    def __call__(self, point: str) -> None:
        if point not in WRITES:
            return
        self.writes += 1
        if self.number is not None and 0 <= self.writes - 1 - self.number < self.span:
            raise OSError(self.code, os.strerror(self.code))

    def mend(self) -> None:
        self.number = None


def found(one: Device) -> dict[str, Any]:
    """What a device runs beside the next deployment's component."""
    values = {name: one.configuration(name) for name in one.installed() if name != "Next"}
    return {"installed": {name: one.installed()[name] for name in values}, "configuration": values}


async def deployed(place: Path, scene: str, disk: Disk) -> int:
    """Carry out the scene's job on that disk, then another group's; return how many writes the job took."""
    _, components, before, after = SCENES[scene]
    cloud = Cloud(place / "cloud")
    job = json.loads((cloud.folder / "job.json").read_text())
    if components is not None:
        job["components"] = components
    wanted: Mapping[str, Any] = before

    def is_right(now: Mapping[str, Any]) -> bool:
        return all(now[key] == wanted[key] for key in now)

    async with running_device(place / "root", cloud, at=disk, restart=None, disk_pause_s=0) as one:
        one.submit(job)
        progress = await one.ended(job["deploymentId"])
        assert progress.outcome is not None
        wanted = after if progress.status is Status.SUCCEEDED else before
        assert is_right(found(one)), (disk.number, found(one), progress.outcome)
        await one.idle()
        taken = disk.writes
        disk.mend()
        following = json.loads((cloud.folder / "next.json").read_text())
        one.submit(following)
        assert (await one.ended(following["deploymentId"])).status is Status.SUCCEEDED, disk.writes
        assert is_right(found(one)), "the next deployment keeps what the other group has"
        assert one.state.open_deployment is None
    with Journal.open(place / "root" / "config") as journal:
        installed = {str(name): str(each.version) for name, each in DeviceState(journal).installed.items()}
        assert installed == {**wanted["installed"], "Next": "1.0.0"}, "a restart finds the same"
    return taken


def unshared() -> list[str]:
    """The command after which a program may mount what nobody else sees; skips where there is none."""
    choices = [["unshare", "--mount"]] if os.geteuid() == 0 else []
    why = "there is no unshare"
    for command in (*choices, ["unshare", "--user", "--map-root-user", "--mount"]):
        with suppress(FileNotFoundError):
            done = subprocess.run(
                [*command, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                return command
            why = done.stderr.strip()
    pytest.skip(f"this machine lets us mount nothing: {why}")


@pytest.mark.slow
def test_a_disk_that_is_really_full_or_read_only(tmp_path: Path) -> None:
    """On a tmpfs of 6 MB: a deployment fails, a start after a kill brings the components back, and room mends all."""
    checkout = Path(__file__).parents[2]
    done = subprocess.run(
        [*unshared(), sys.executable, "-m", "tests.nucleus.small_disk", str(tmp_path)],
        cwd=checkout, env={**os.environ, "PYTHONPATH": f"{checkout / 'sdk'}:{checkout}"}, timeout=60,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    status, cause = found.pop("full")
    assert status == "FAILED"
    assert "No space left on device (free some space on the device" in cause
    assert found == {
        "installed": "SUCCEEDED",
        "runs when full": ["1.0.0"],
        "starts when full": "monodon nucleus ready",
        "found when full": False,
        "left running": [],
        "room again": "SUCCEEDED",
        "read-only": [1, "error: ROOT cannot be the root of a device: Read-only file system\n"],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "span", "step"), [(errno.ENOSPC, 1, 1), (errno.EROFS, 7, 3)], ids=["full once", "read-only"]
)
@pytest.mark.parametrize("scene", SCENES)
async def test_a_disk_that_refuses_any_named_write_leaves_one_set(scene: str, code: int, span: int, step: int) -> None:
    """Full at each write; read-only from each third on for seven writes, so that every one is refused several times."""
    with folder() as place:
        await prepare(place / "before", SCENES[scene][0])
        if scene == "install":
            shutil.rmtree(place / "before" / "root")
            (place / "before" / "root").mkdir()
            Journal.open(place / "before" / "root" / "config").close()
        shutil.copytree(place / "before", place / "whole")
        writes = await deployed(place / "whole", scene, Disk(None, span, code))
        assert writes > 8
        for number in range(0, writes, step):
            one = place / str(number)
            shutil.copytree(place / "before", one)
            await deployed(one, scene, Disk(number, span, code))
            shutil.rmtree(one)


class Worn(Disk):
    """A disk that refuses everything as soon as a new set is on it."""

    def __call__(self, point: str) -> None:
        if point == "applying switched":
            self.number, self.span = self.writes, sys.maxsize
        super().__call__(point)


@pytest.mark.slow
async def test_a_nucleus_that_waits_for_the_disk_can_be_stopped_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is reported before the device is back at the former set, which may be in another life of the nucleus."""
    with folder() as place:
        await prepare(place, "bad")
        cloud = Cloud(place / "cloud")
        job = json.loads((cloud.folder / "job.json").read_text())
        async with asyncio.timeout(30):
            async with running_device(place / "root", cloud, at=Worn(None, 0, errno.EROFS), disk_pause_s=3600) as one:
                one.submit(job)
                while "waits for the disk: cannot write" not in caplog.text:
                    await asyncio.sleep(0.01)
                assert [each["status"] for each in cloud.reports()] == ["IN_PROGRESS"]
            async with running_device(place / "root", cloud) as one:
                outcome = (await one.ended(job["deploymentId"])).outcome
                assert outcome is not None
                assert str(outcome.detailed) == "FAILED_ROLLBACK_COMPLETE"
                assert found(one) == {key: OLD[key] for key in ("installed", "configuration")}
                await one.idle()


class Registry:
    """A cloud that says where a core device is reached; the other questions are not asked here."""

    is_connected = True

    async def hosts(self) -> tuple[str, ...]:
        return ("10.0.0.1",)

    async def associated(self) -> frozenset[str]:
        return frozenset()

    async def is_active(self, certificate_pem: str) -> bool:
        return False

    async def is_attached(self, thing: str, certificate_id: str) -> bool:
        return False

    def watch_connection(self, notify: Callable[[bool], None]) -> Callable[[], None]:
        return lambda: None


async def test_what_the_background_learns_waits_for_the_disk(tmp_path: Path) -> None:
    """The addresses of this device for its client devices: a disk that refuses them ends no nucleus."""
    disk = Disk(3, 1, errno.ENOSPC)  # opening compacts, renames, and names
    cloud = Registry()
    with Journal.open(tmp_path, probe=disk) as journal:
        state = DeviceState(journal)
        devices = ClientDevices(
            records=journal,
            cloud=cloud,
            network=cloud,
            settings=AuthConfiguration(state).settings,
            certificates=ServerCertificates(tmp_path, settings=AuthConfiguration(state).settings),
        )
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            task = tasks.create_task(devices.run())
            while "10.0.0.1" not in str(journal.items()):
                devices.wake()
                await asyncio.sleep(0)
            task.cancel()
    assert disk.writes > 4

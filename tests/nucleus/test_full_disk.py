"""A disk that is full at each named point of a deployment, once: the device stays at one set and goes on working."""

import errno
import json
import shutil
from pathlib import Path

import pytest
from tests.nucleus.crashes import NEW, OLD, folder, prepare
from tests.nucleus.device import Cloud
from tests.nucleus.device import device as running_device

from monodon.core.deployment import Status

#: The points at which something is about to be written; after the others it has been.
WRITES = ("journal sync", "store write", "artifact downloaded", "artifact rename", "artifact unpacked")


async def deployed(place: Path, full_at: int | None) -> list[str]:
    """Carry out the job with the disk full at the ``full_at``-th named point; return the points it came to."""
    cloud = Cloud(place / "cloud")
    job = json.loads((cloud.folder / "job.json").read_text())
    points: list[str] = []

    def at(point: str) -> None:
        points.append(point)
        if len(points) - 1 == full_at:
            raise OSError(errno.ENOSPC, "No space left on device")

    async with running_device(place / "root", cloud, at=at, restart=None) as one:
        one.submit(job)
        progress = await one.ended(job["deploymentId"])
        wanted = NEW if progress.status is Status.SUCCEEDED else OLD
        values = {name: one.configuration(name) for name in one.installed()}
        found = {"installed": one.installed(), "configuration": values}
        assert found == {key: wanted[key] for key in found}, (points[full_at or 0], progress.outcome)
        await one.idle()
        first = len(points)
        again = one.document({"A": "2.0.0", "B": "1.0.0"}, creationTimestamp=job["creationTimestamp"] + 1)
        one.submit(again | {"deploymentId": "again"})
        assert (await one.ended("again")).status is Status.SUCCEEDED, points[full_at or 0]
        assert one.installed() == NEW["installed"]
        return points[:first]


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["good", "restarting"])
async def test_a_disk_that_is_full_once_at_any_named_point_leaves_one_set(scene: str) -> None:
    with folder() as place:
        await prepare(place / "before", scene)
        shutil.copytree(place / "before", place / "whole")
        points = await deployed(place / "whole", None)
        writes = [index for index, point in enumerate(points) if point in WRITES]
        for index in writes:
            one = place / str(index)
            shutil.copytree(place / "before", one)
            await deployed(one, index)
            shutil.rmtree(one)
        assert len(writes) > 10

"""A thousand deployments over a hundred groups of fifty components, a hundred when short; what piles up is seen.

Each deployment gives one group a few components, or none, at versions that other groups may contradict: then it must
change nothing. Afterwards the device runs what its groups name, no more and no less. Memory, descriptors, threads and
disk are taken along; they must not grow over the second half.
"""

import asyncio
import logging
import os
import random
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.nucleus.crashes import folder
from tests.nucleus.device import Cloud
from tests.nucleus.device import device as running_device

from monodon.core.deployment import DetailedStatus

DEPLOYMENTS, DEPLOYMENTS_SHORT = 1000, 100
GROUPS, COMPONENTS, VERSIONS = 100, 50, ("1.0.0", "1.1.0", "2.0.0")
ROOTS = 3
#: How much more the second half may end with than it began, for what is not level in the small.
LEEWAY = {"memory_kb": 8192, "descriptors": 40, "threads": 0, "disk_kb": 512}


def usage(root: Path) -> dict[str, int]:
    """Return what this process and its device's folder take now."""
    status = Path("/proc/self/status").read_text().splitlines()
    return {
        "memory_kb": next(int(line.split()[1]) for line in status if line.startswith("VmRSS")),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "disk_kb": sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) // 1024,
    }


def publish(cloud: Cloud) -> None:
    """Publish fifty components in three versions; every fifth has a process that goes on."""
    for number in range(COMPONENTS):
        for version in VERSIONS:
            cloud.publish(
                f"C{number:02}",
                version,
                {"Run": "exec sleep 100000"} if number % 5 == 0 else {},
                configuration={"version": version, "kept": 0},
                artifacts={"data.bin": version.encode() * 100},
            )


class Groups:
    """What each group names, and so what the device shall run."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self.roots: dict[str, dict[str, str]] = {}

    def drawn(self) -> tuple[str, dict[str, str]]:
        """Return a group and what a deployment to it shall name."""
        group = f"group{self._draw.randrange(GROUPS)}"
        if group in self.roots and self._draw.random() < 0.3:
            return group, {}
        names = [f"C{self._draw.randrange(COMPONENTS):02}" for _ in range(ROOTS)]
        now = self.wanted()
        return group, {
            name: now[name] if name in now and self._draw.random() < 0.9 else self._draw.choice(VERSIONS)
            for name in names
        }

    def contradict(self, group: str, named: dict[str, str]) -> bool:
        """Whether another group names one of these components at another version."""
        others = [roots for other, roots in self.roots.items() if other != group]
        return any(roots.get(name, version) != version for roots in others for name, version in named.items())

    def wanted(self) -> dict[str, str]:
        """Return what the device shall run."""
        return {name: version for roots in self.roots.values() for name, version in roots.items()}


async def deploy_all(root: Path, cloud: Cloud, wanted: int) -> dict[str, Any]:
    """Deploy ``wanted`` times and take the measure after each."""
    groups = Groups(int(os.environ.get("MONODON_SEED", "5")))
    measures, times, complaints, refused = [], [], [], 0
    async with running_device(root, cloud) as device:
        for number in range(wanted):
            group, named = groups.drawn()
            device.uplink.groups = tuple(dict.fromkeys([*groups.roots, group]))
            members = {
                name: {"version": version, "configurationUpdate": {"merge": {"kept": number}}}
                for name, version in named.items()
            }
            started = time.perf_counter()
            outcome = await device.deploy(members, group=group)
            times.append(time.perf_counter() - started)
            if groups.contradict(group, named):
                refused += 1
                is_right = outcome.detailed is DetailedStatus.FAILED_NO_STATE_CHANGE
            else:
                groups.roots[group] = named
                is_right = outcome.has_succeeded
            if not is_right:
                complaints.append(f"deployment {number} to {group}: {outcome.detailed} {outcome.cause}")
            if device.installed() != groups.wanted():
                complaints.append(f"deployment {number}: {device.installed()} is not {groups.wanted()}")
            await device.idle()
            # What the bench itself remembers of every deployment.
            for remembered in (device.progress, device.uplink.asked, device.uplink.downloaded):
                remembered.clear()
            measures.append(usage(root))
            if number % 50 == 49:
                print(f"{number + 1} deployments: {measures[-1]}", file=sys.stderr)
    half, end = measures[len(measures) // 2], measures[-1]
    complaints += [
        f"{key} grew from {half[key]} to {end[key]}" for key, most in LEEWAY.items() if end[key] > half[key] + most
    ]
    return {
        "deployments": wanted,
        "refused": refused,
        "p50_ms": round(statistics.median(times) * 1000, 1),
        "at_half": half,
        "at_end": end,
        "complaints": complaints,
    }


def main(is_short: bool) -> dict[str, Any]:
    """Run the deployments on a device in a folder in memory."""
    logging.getLogger("monodon").setLevel(logging.CRITICAL)
    with folder() as place:
        cloud = Cloud(place / "cloud")
        publish(cloud)
        return asyncio.run(deploy_all(place / "root", cloud, DEPLOYMENTS_SHORT if is_short else DEPLOYMENTS))

"""Limits of memory and CPU on a component: by cgroup v2, else v1, else by rlimit (memory alone).

Source: cgroups(7); the kernel's ``cgroup-v2.rst``; setrlimit(2).
"""

import contextlib
import logging
import resource
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path

from monodon.core.plan import RunWith

_LOG = logging.getLogger(__name__)

_PERIOD_US = 100_000
_MOUNT = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")


class Kind(StrEnum):
    """What keeps the limits."""

    CGROUP_V2 = "cgroup v2"
    CGROUP_V1 = "cgroup v1"
    RLIMIT = "rlimit, memory alone"


class Limits:
    """Keeps every component of one nucleus within what its ``systemResourceLimits`` say.

    Args:
        tag: tells the groups of this nucleus from those of others; the same after a restart.
        mount: where the cgroup file systems are mounted.
        membership: the kernel's list of groups that this process is in.
    """

    def __init__(self, tag: str, *, mount: Path = _MOUNT, membership: Path = _SELF) -> None:
        self._tag = tag
        self._mount = mount
        self._membership = membership
        self._kind: Kind | None = None
        self._parents: tuple[Path, ...] = ()

    @property
    def kind(self) -> Kind:
        """What this machine lets us use; found out on first use."""
        if self._kind is None:
            self._kind = self._detect()
            _LOG.info("limits of components are kept by %s", self._kind)
        return self._kind

    def admit(self, name: str, run_with: RunWith, pid: int) -> None:
        """Put a process that has not begun yet, and so all it will start, under the limits of ``name``.

        Raises:
            OSError: the kernel refused.
        """
        if self.kind is Kind.RLIMIT:
            _limit_process(pid, run_with)
            return
        for group in self._groups(name):
            group.mkdir(exist_ok=True)
        self._write(name, run_with)
        for group in self._groups(name):
            (group / "cgroup.procs").write_text(str(pid))

    def update(self, name: str, run_with: RunWith, pids: Collection[int]) -> None:
        """Change the limits of ``name``, whose processes ``pids`` run already.

        Raises:
            OSError: the kernel refused, for example a limit below what is in use.
        """
        if self.kind is Kind.RLIMIT:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    _limit_process(pid, run_with)
            return
        for group in self._groups(name):
            group.mkdir(exist_ok=True)
        self._write(name, run_with)
        for group in self._groups(name):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    (group / "cgroup.procs").write_text(str(pid))

    def forget(self, name: str) -> None:
        """Remove the group of a component whose processes have ended."""
        if self._kind in (Kind.CGROUP_V1, Kind.CGROUP_V2):
            for group in self._groups(name):
                with contextlib.suppress(OSError):
                    group.rmdir()

    def _groups(self, name: str) -> tuple[Path, ...]:
        return tuple(parent / f"monodon-{self._tag}-{name}" for parent in self._parents)

    def _write(self, name: str, run_with: RunWith) -> None:
        groups = self._groups(name)
        bytes_ = None if run_with.memory_kb is None else run_with.memory_kb * 1024
        quota = None if run_with.cpus is None else max(1000, int(run_with.cpus * _PERIOD_US))
        if self._kind is Kind.CGROUP_V2:
            (groups[0] / "memory.max").write_text("max" if bytes_ is None else str(bytes_))
            (groups[0] / "cpu.max").write_text(f"{'max' if quota is None else quota} {_PERIOD_US}")
        else:
            memory, cpu = groups
            (memory / "memory.limit_in_bytes").write_text(str(-1 if bytes_ is None else bytes_))
            (cpu / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (cpu / "cpu.cfs_quota_us").write_text(str(-1 if quota is None else quota))

    def _detect(self) -> Kind:
        try:
            own = dict(_memberships(self._membership.read_text()))
            if (self._mount / "cgroup.controllers").exists() and "" in own:
                self._parents = (self._delegated(self._mount / own[""].lstrip("/")),)
                return Kind.CGROUP_V2
            if "memory" in own and "cpu" in own:
                self._parents = tuple(self._writable(controller, own[controller]) for controller in ("memory", "cpu"))
                return Kind.CGROUP_V1
        except OSError as error:
            _LOG.warning("cgroups cannot be used: %s", error)
        return Kind.RLIMIT

    def _delegated(self, own: Path) -> Path:
        """The group below which components get theirs; a group with processes in it cannot have such children."""
        wanted = "+memory +cpu"
        try:
            (own / "cgroup.subtree_control").write_text(wanted)
        except OSError:
            leaf = own / f"monodon-{self._tag}"
            leaf.mkdir(exist_ok=True)
            (leaf / "cgroup.procs").write_text("0")
            (own / "cgroup.subtree_control").write_text(wanted)
        return own

    def _writable(self, controller: str, own: str) -> Path:
        parent = self._mount / controller / own.lstrip("/")
        probe = parent / f"monodon-{self._tag}"
        probe.mkdir(exist_ok=True)
        probe.rmdir()
        return parent


def _memberships(text: str) -> list[tuple[str, str]]:
    """Controller and group for each of this process's; the controller of version 2 is the empty text."""
    found = []
    for line in text.splitlines():
        _, controllers, group = line.split(":", 2)
        found += [(controller, group) for controller in controllers.split(",")]
    return found


def _limit_process(pid: int, run_with: RunWith) -> None:
    limit = resource.RLIM_INFINITY if run_with.memory_kb is None else run_with.memory_kb * 1024
    hard = resource.prlimit(pid, resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY and (limit == resource.RLIM_INFINITY or limit > hard):
        limit = hard
    resource.prlimit(pid, resource.RLIMIT_DATA, (limit, hard))

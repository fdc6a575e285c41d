"""Limits of memory, CPU and processes on a component: by cgroup v2, else v1, else by rlimit (no share of CPU).

Source: cgroups(7); the kernel's ``cgroup-v2.rst``; setrlimit(2).
"""

import contextlib
import errno
import logging
import os
import resource
import subprocess
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path

from monodon.core.plan import RunWith

_LOG = logging.getLogger(__name__)

_PERIOD_US = 100_000
_MOUNT = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")
#: Options of util-linux's ``prlimit``.
_OPTIONS = {resource.RLIMIT_NPROC: "nproc", resource.RLIMIT_DATA: "data"}
_PRLIMIT_S = 5.0


class Kind(StrEnum):
    """What keeps the limits."""

    CGROUP_V2 = "cgroup v2"
    CGROUP_V1 = "cgroup v1"
    RLIMIT = "rlimit, without a share of CPU"


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
        #: Where a group's number of processes is limited, where the machine lets us.
        self._counting: Path | None = None

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
            _limit_count(pid, run_with)
            return
        for group in self._groups(name):
            group.mkdir(exist_ok=True)
        self._write(name, run_with)
        for group in self._groups(name):
            (group / "cgroup.procs").write_text(str(pid))
        if self._counting is None:
            _limit_count(pid, run_with)

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
        parents = dict.fromkeys((*self._parents, *(() if self._counting is None else (self._counting,))))
        return tuple(parent / f"monodon-{self._tag}-{name}" for parent in parents)

    def _write(self, name: str, run_with: RunWith) -> None:
        groups = self._groups(name)
        bytes_ = None if run_with.memory_kb is None else run_with.memory_kb * 1024
        quota = None if run_with.cpus is None else max(1000, int(run_with.cpus * _PERIOD_US))
        if self._kind is Kind.CGROUP_V2:
            (groups[0] / "memory.max").write_text("max" if bytes_ is None else str(bytes_))
            (groups[0] / "cpu.max").write_text(f"{'max' if quota is None else quota} {_PERIOD_US}")
        else:
            memory, cpu = groups[:2]
            (memory / "memory.limit_in_bytes").write_text(str(-1 if bytes_ is None else bytes_))
            (cpu / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (cpu / "cpu.cfs_quota_us").write_text(str(-1 if quota is None else quota))
        if self._counting is not None:
            (groups[-1] / "pids.max").write_text("max" if run_with.pids is None else str(run_with.pids))

    def _detect(self) -> Kind:
        try:
            own = dict(_memberships(self._membership.read_text()))
            if (self._mount / "cgroup.controllers").exists() and "" in own:
                self._parents = (parent := self._delegated(self._mount / own[""].lstrip("/")),)
                self._counting = parent if _gives_pids(parent) else None
                return Kind.CGROUP_V2
            if "memory" in own and "cpu" in own:
                self._parents = tuple(self._writable(controller, own[controller]) for controller in ("memory", "cpu"))
                with contextlib.suppress(OSError, KeyError):
                    self._counting = self._writable("pids", own["pids"])
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


def _gives_pids(parent: Path) -> bool:
    """Let the groups below count processes; say whether they do."""
    try:
        (parent / "cgroup.subtree_control").write_text("+pids")
    except OSError:
        return False
    return True


def _limit_count(pid: int, run_with: RunWith) -> None:
    """Limit the processes of the user that ``pid`` runs as, to all others there are now and so many more.

    That binds no root, and all processes of that user share it.
    """
    if run_with.pids is None:
        return
    owner = Path(f"/proc/{pid}").stat().st_uid
    now = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == owner and process.name != str(pid):
                now += len(list((process / "task").iterdir()))
    if owner == 0:
        _LOG.warning("processes of root cannot be counted here: the limit of %d is not kept", run_with.pids)
    _set_soft(pid, resource.RLIMIT_NPROC, now + run_with.pids)


def _limit_process(pid: int, run_with: RunWith) -> None:
    wanted = resource.RLIM_INFINITY if run_with.memory_kb is None else run_with.memory_kb * 1024
    _set_soft(pid, resource.RLIMIT_DATA, wanted)


def _set_soft(pid: int, which: int, wanted: int) -> None:
    try:
        hard = resource.prlimit(pid, which)[1]
        resource.prlimit(pid, which, (_within(wanted, hard), hard))
    except PermissionError as error:
        if os.geteuid() != 0:
            raise
        _set_soft_as_its_user(pid, which, _within(wanted, resource.getrlimit(which)[1]), error)


def _set_soft_as_its_user(pid: int, which: int, soft: int, refusal: PermissionError) -> None:
    """A root without CAP_SYS_RESOURCE, as containers have it, may not limit processes of others; these users may.

    Where that cannot be done either, the component runs all the same, as on AWS's device.
    """
    try:
        owner = Path(f"/proc/{pid}").stat()
        subprocess.run(
            ["prlimit", f"--pid={pid}", f"--{_OPTIONS[which]}={'unlimited' if soft < 0 else soft}:"],
            user=owner.st_uid,
            group=owner.st_gid,
            extra_groups=(),
            check=True,
            capture_output=True,
            timeout=_PRLIMIT_S,
        )
    except FileNotFoundError as error:
        if error.filename != "prlimit":
            raise ProcessLookupError(errno.ESRCH, f"process {pid} is gone") from error
        _LOG.warning("process %d cannot be limited: %s, and there is no prlimit", pid, refusal.strerror)
    except (OSError, subprocess.SubprocessError) as error:
        _LOG.warning("process %d cannot be limited: %s, and %s", pid, refusal.strerror, error)


def _within(wanted: int, hard: int) -> int:
    """``wanted``, or ``hard`` where that is less; RLIM_INFINITY is more than any number."""
    if hard == resource.RLIM_INFINITY:
        return wanted
    return hard if wanted == resource.RLIM_INFINITY else min(wanted, hard)

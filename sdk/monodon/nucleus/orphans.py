"""Which processes come from a component, also those whose parents are gone; ending them; reaping orphans.

The nucleus is a *child subreaper*: what loses its parent below it becomes its own child, instead of init's. Every
process of a component carries a mark in its environment, so even one that left its session is found again, by
this nucleus or by the next one after a kill.

Source: prctl(2) PR_SET_CHILD_SUBREAPER, pidfd_open(2), proc(5).
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from monodon.deadlines import timeout

_LOG = logging.getLogger(__name__)

#: Environment variable whose value says to which component of which nucleus a process belongs.
MARK = "MONODON_PROCESS_OF"
#: Seconds between SIGTERM and SIGKILL, and again until the nucleus gives up.
GRACE_S = 5.0

#: How often to look again, giving way to others, before an environment is taken to be really empty.
_EXEC_YIELDS = 200
_PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")


def children(pid: int) -> list[int]:
    """Return the direct children of ``pid``, none if it is gone."""
    found: list[int] = []
    try:
        for task in (_PROC / str(pid) / "task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        return found
    return found


def alive(pids: Collection[int]) -> list[int]:
    """Return those of ``pids`` and of all that descends from them that still run, children before their parents."""
    found: dict[int, None] = {}
    pending = list(pids)
    while pending:
        pid = pending.pop()
        if pid not in found and pid != os.getpid():
            found[pid] = None
            pending += children(pid)
    return [pid for pid in reversed(found) if (_stat(pid) or ("Z", 0))[0] not in "ZX"]


def marked(pids: Collection[int], mark: str) -> list[int]:
    """Return those of ``pids`` that were started with ``mark`` or, when it ends in a slash, anything below it."""
    wanted = f"{MARK}={mark}".encode()
    return [
        pid
        for pid in pids
        if any(
            variable == wanted or (mark.endswith("/") and variable.startswith(wanted))
            for variable in _environment(pid).split(b"\0")
        )
    ]


def _environment(pid: int) -> bytes:
    """The environment a process was started with. It looks empty for a moment while the process calls exec."""
    path = _PROC / str(pid) / "environ"
    try:
        for _ in range(_EXEC_YIELDS):
            if (data := path.read_bytes()) or not _is_program(pid):
                return data
            os.sched_yield()
    except OSError:
        return b""
    return b""


def _is_program(pid: int) -> bool:
    """Not a thread of the kernel, and not a zombie."""
    known = _stat(pid)
    return known is not None and known[0] not in "ZX" and known[1] != 0


def of_session(pids: Collection[int], session: int) -> list[int]:
    """Return those of ``pids`` that belong to ``session``."""
    return [pid for pid in pids if (known := _stat(pid)) is not None and known[1] == session]


def everyone() -> list[int]:
    """Return every process of this machine but this one."""
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal() and int(entry.name) != os.getpid()]


async def end(find: Callable[[], Sequence[int]], *, grace_s: float = GRACE_S, kill_s: float = GRACE_S) -> list[int]:
    """SIGTERM to all that ``find`` names, SIGKILL to what is left after ``grace_s``; return who survived even that.

    ``find`` is asked again until it names nobody, since processes may start others meanwhile.
    """
    loop = asyncio.get_running_loop()
    told: set[int] = set()
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, kill_s)):
        deadline = loop.time() + wait_s
        while pids := find():
            for pid in pids:
                if number is signal.SIGKILL or pid not in told:
                    told.add(pid)
                    _send(pid, number)
            if (left_s := deadline - loop.time()) <= 0:
                break
            await _exited(pids, left_s)
        else:
            return []
    return list(find())


def send(pids: Collection[int], number: signal.Signals) -> None:
    """Send a signal to all of ``pids`` that still exist."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


_OPEN_REAPERS: "list[Reaper]" = []


class Reaper:
    """Makes this process a subreaper, and waits for orphans that end. ``async with`` on the main thread's loop.

    Several may be open at a time; the first begins it and the last ends it.

    Args:
        is_ours: whether somebody else waits for this child; all others that are not of our own session are orphans.
    """

    def __init__(self, is_ours: Callable[[int], bool]) -> None:
        self._is_ours = is_ours

    async def __aenter__(self) -> "Reaper":
        if not _OPEN_REAPERS:
            _set_subreaper(True)
            asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.reap)
        _OPEN_REAPERS.append(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        _OPEN_REAPERS.remove(self)
        self.reap()
        if not _OPEN_REAPERS:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
            _set_subreaper(False)

    def reap(self) -> None:
        """Wait, one by one, for the orphans that have ended."""
        session = os.getsid(0)
        for pid in children(os.getpid()):
            known = None if self._is_ours(pid) else _stat(pid)
            if known is not None and known[0] in "ZX" and known[1] != session:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
        if number is signal.SIGTERM:
            os.kill(pid, signal.SIGCONT)  # a process that is stopped would keep it pending
    except ProcessLookupError:
        pass
    except PermissionError as error:
        _LOG.warning("cannot send %s to process %d: %s", number.name, pid, error.strerror)


async def _exited(pids: Sequence[int], timeout_s: float) -> None:
    """Wait until all of ``pids`` have ended, or ``timeout_s``."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    pending: set[int] = set()

    def on_exit(descriptor: int) -> None:
        loop.remove_reader(descriptor)
        pending.discard(descriptor)
        if not pending:
            done.set()

    with contextlib.ExitStack() as stack:
        for descriptor in _pidfds(pids):
            stack.callback(os.close, descriptor)
            stack.callback(loop.remove_reader, descriptor)
            pending.add(descriptor)
            loop.add_reader(descriptor, on_exit, descriptor)
        if not pending:
            return
        with contextlib.suppress(TimeoutError):
            async with timeout(timeout_s):
                await done.wait()
    await asyncio.sleep(0)  # let those who wait for their own child note its end


def _pidfds(pids: Sequence[int]) -> Iterator[int]:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            yield os.pidfd_open(pid)


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and session of a process, None if it is gone."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[3])


def _set_subreaper(on: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) != 0:
        _LOG.warning("cannot adopt orphans: %s", os.strerror(ctypes.get_errno()))

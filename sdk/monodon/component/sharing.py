"""Big values by reference: an array lies in shared memory, and a message carries a handle of a hundred bytes.

Each array is a file of its own in /dev/shm, written once and never again. Who shares or reads it holds a lease on it,
a shared ``flock``, which the kernel ends when its process dies. The owner takes away the name when it lets go, the
last reader when the owner is dead; readers that are not done keep the memory for as long as they map it.
What a killed owner left unread goes when a component starts, the owner again or another, and within seconds while
anybody shares or receives: a file that nobody leases is nobody's. Only its user may remove it, or root.

Python's own ``multiprocessing.shared_memory`` is no help before 3.13: it unlinks under other readers.
"""

import errno
import fcntl
import grp
import logging
import math
import mmap
import os
import re
import stat
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from monodon.component.messages import INVALID_MESSAGE
from monodon.errors import IpcError

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - every file in it is made with O_EXCL and a name of 128 random bits
#: Bytes that a component keeps shared before the oldest go; a container's /dev/shm may hold 64 MB in all.
BUDGET_BYTES = 32 * 1024 * 1024
#: Seconds that a handle may travel before its array goes.
KEEP_S = 10.0
NO_ROOM = "NoRoom"
GONE = "Gone"

_NAME = re.compile(r"monodon-[0-9a-f]{32}")
_DTYPE = re.compile(r"[<>|=]?[biufc?][0-9]{0,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """Where a shared array is, and what; put it into a message as it is."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    size_bytes: int


class Received:
    """A shared array, mapped for reading. ``async with`` or ``with`` it, or close it: then its lease ends.

    ``array`` is a numpy array that cannot be written to; it stays good for as long as anything refers to it.
    """

    def __init__(self, handle: Handle, path: Path) -> None:
        self.handle = handle
        self.array: Any = None
        self._descriptor = _open(path)
        self._end = weakref.finalize(self, _end_lease, self._descriptor, path)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            self.array = self._map()
        except BlockingIOError:
            self._end()
            raise _gone(handle.name) from None
        except BaseException:
            self._end()
            raise

    def _map(self) -> Any:
        import numpy as np

        status = os.fstat(self._descriptor)
        is_sound = stat.S_ISREG(status.st_mode) and status.st_size == self.handle.size_bytes
        if not is_sound:
            raise IpcError(f"{self.handle.name} is not the array that its handle describes", code=INVALID_MESSAGE)
        if not self.handle.size_bytes:
            array = np.empty(self.handle.shape, self.handle.dtype)
            array.flags.writeable = False
            return array
        mapped = mmap.mmap(self._descriptor, self.handle.size_bytes, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, self.handle.dtype).reshape(self.handle.shape)

    def close(self) -> None:
        """End the lease."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_handle(value: Any) -> Handle:
    """Return the handle that a message carries, checked: whatever it says, it names a file of this kind alone.

    Raises:
        IpcError: it is none (``InvalidMessage``).
    """
    try:
        handle = Handle(
            name=value["name"],
            shape=tuple(int(length) for length in value["shape"]),
            dtype=value["dtype"],
            size_bytes=int(value["size_bytes"]),
        )
        is_good = bool(_NAME.fullmatch(handle.name) and _DTYPE.fullmatch(handle.dtype))
        is_good = is_good and all(length >= 0 for length in handle.shape) and _size(handle) == handle.size_bytes
    except (KeyError, TypeError, ValueError):
        is_good = False
    if not is_good:
        raise IpcError(f"not the handle of a shared array: {str(value)[:120]}", code=INVALID_MESSAGE)
    return handle


def _size(handle: Handle) -> int:
    import numpy as np

    return math.prod(handle.shape) * int(np.dtype(handle.dtype).itemsize)


def receive(value: Any, *, folder: Path | None = None) -> Received:
    """Map the array of a handle, read only.

    Raises:
        IpcError: no handle (``InvalidMessage``); gone, since it was not fetched in time (``Gone``); or another user's
            that this one may not read.
    """
    handle = read_handle(value)
    return Received(handle, (folder or _folder()) / handle.name)


@dataclass(frozen=True, slots=True)
class _Lease:
    path: Path
    descriptor: int
    size_bytes: int
    until_s: float

    def end(self) -> None:
        """Take away the name and end the lease; readers keep what they have mapped."""
        with suppress(OSError):
            self.path.unlink()
        os.close(self.descriptor)


class Sharer:
    """The arrays that one component shares: the latest ones, within a budget; all go with it."""

    def __init__(
        self,
        *,
        folder: Path | None = None,
        budget_bytes: int = BUDGET_BYTES,
        keep_s: float = KEEP_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder or _folder()
        self._budget_bytes = budget_bytes
        self._keep_s = keep_s
        self._clock = clock
        self._leases: deque[_Lease] = deque()
        self._sweep_at_s = -math.inf
        self._close = weakref.finalize(self, _end_all, self._leases)

    @property
    def shared_bytes(self) -> int:
        """How much is shared now."""
        return sum(lease.size_bytes for lease in self._leases)

    def share(self, array: Any, *, group: str | int | None = None) -> Handle:
        """Copy an array into shared memory.

        Args:
            array: numpy's, of numbers; or anything with a contiguous buffer of bytes.
            group: whose members may read it, besides its owner; by default the owner's own group.

        Raises:
            IpcError: it is larger than the budget, or the shared memory is full (``NoRoom``); or not such an array.
        """
        view, dtype = _bytes_of(array)
        if view.nbytes > self._budget_bytes:
            raise IpcError(f"an array of {view.nbytes} bytes is over the budget of {self._budget_bytes}", code=NO_ROOM)
        self.sweep()
        self._make_room(view.nbytes)
        lease = self._write(view, _group(group))
        self._leases.append(lease)
        shape = tuple(int(length) for length in getattr(array, "shape", (view.nbytes,)))
        return Handle(name=lease.path.name, shape=shape, dtype=dtype, size_bytes=view.nbytes)

    def sweep(self) -> None:
        """Remove what killed owners left, unless that was done a short while ago."""
        now_s = self._clock()
        if now_s >= self._sweep_at_s:
            self._sweep_at_s = now_s + self._keep_s
            sweep(self._folder)

    def _make_room(self, size_bytes: int) -> None:
        while self._leases and (
            self._leases[0].until_s <= self._clock() or self.shared_bytes + size_bytes > self._budget_bytes
        ):
            self._leases.popleft().end()

    def _write(self, view: memoryview, group: int | None) -> _Lease:
        """Write a new file, after letting older ones go if the file system is full."""
        while True:
            path = self._folder / f"monodon-{uuid.uuid4().hex}"
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                raise _cannot_share(self._folder, error) from error
            lease = _Lease(path, descriptor, view.nbytes, self._clock() + self._keep_s)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                if os.fstat(descriptor).st_nlink:  # else a sweep came in between
                    _fill(descriptor, view, group)
                    return lease
                lease.end()
            except OSError as error:
                lease.end()
                if error.errno != errno.ENOSPC or not self._leases:
                    raise _cannot_share(self._folder, error) from error
                self._leases.popleft().end()
            except BaseException:
                lease.end()
                raise

    def close(self) -> None:
        """Let everything go."""
        self._close()


def _fill(descriptor: int, view: memoryview, group: int | None) -> None:
    written = 0
    while written < view.nbytes:
        written += os.write(descriptor, view[written:])
    if group is not None:
        os.fchown(descriptor, -1, group)
    os.fchmod(descriptor, 0o640)


def _bytes_of(array: Any) -> tuple[memoryview, str]:
    dtype = getattr(getattr(array, "dtype", None), "str", "|u1")
    if not _DTYPE.fullmatch(dtype):
        raise IpcError(f"an array of {dtype} cannot be shared, only one of numbers", code=INVALID_MESSAGE)
    try:
        view = memoryview(array)
        if not view.c_contiguous:
            import numpy as np

            view = np.ascontiguousarray(array).data
        return (view.cast("B") if view.nbytes else memoryview(b"")), dtype
    except TypeError as error:
        raise IpcError(f"a {type(array).__name__} cannot be shared: {error}", code=INVALID_MESSAGE) from error


def sweep(folder: Path | None = None) -> None:
    """Remove what nobody leases: its owner was killed, and every reader is done."""
    for path in (folder or _folder()).glob("monodon-*"):
        if _NAME.fullmatch(path.name):
            with suppress(OSError), _descriptor(path) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                logger.debug("removed %s, which nobody used", path)


@contextmanager
def _descriptor(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise _gone(path.name) from None
    except PermissionError:
        raise IpcError(
            f"this user may not read the shared array {path.name}",
            code="UnauthorizedError",
            hint="share it with a group that both components' users are in: component.share(array, group=…)",
        ) from None


def _end_lease(descriptor: int, path: Path) -> None:
    """End a reader's lease; the last one, once the owner is dead, takes the file away."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a mapping keeps the descriptor's twin open, so closing is not enough
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except OSError:
        logger.debug("%s is still in use, gone, or another user's", path)
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _end_all(leases: deque[_Lease]) -> None:
    while leases:
        leases.popleft().end()


def _folder() -> Path:
    return SHARED_MEMORY if SHARED_MEMORY.is_dir() else Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - as above


def _group(group: str | int | None) -> int | None:
    if not isinstance(group, str):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise IpcError(f"no group {group} on this device") from None


def _gone(name: str) -> IpcError:
    return IpcError(
        f"the shared array {name} is gone",
        code=GONE,
        hint="fetch arrays as they come: their owner keeps a few seconds' worth, within its budget",
    )


def _cannot_share(folder: Path, error: OSError) -> IpcError:
    if error.errno == errno.ENOSPC:
        return IpcError(f"{folder} is full", code=NO_ROOM, hint="containers often give it 64 MB: --shm-size")
    return IpcError(f"cannot share in {folder}: {error.strerror}")

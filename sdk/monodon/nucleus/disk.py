"""Files written whole or not at all, and file errors as the deployment errors they mean."""

import base64
import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from monodon.errors import DeploymentError

LOCK_PATIENCE_S = 1.0
LOCK_PAUSE_S = 0.01
_CHUNK_BYTES = 1 << 20


def lock(descriptor: int, *, patience_s: float = LOCK_PATIENCE_S) -> bool:
    """Lock an open file for this process alone; return False if another process holds it.

    A nucleus that was killed a moment ago may live on in a child that it was just starting, which lets go only as it
    becomes the shell of a component: so long is waited.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(LOCK_PAUSE_S)
        else:
            return True


def write_whole(path: Path, content: bytes, *, at: Callable[[str], None] = lambda point: None) -> None:
    """Write a small file beside its place, sync it, and move it there.

    Raises:
        OSError: the disk refuses it; what was there before still is.
    """
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as sink:
        sink.write(content)
        sink.flush()
        os.fsync(sink.fileno())
    at("store write")
    part.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> bytes | None:
    """The content of a file, None if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def size(path: Path) -> int:
    """The size of a file in bytes, 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def digest(path: Path, algorithm: str) -> str:
    """The base64 digest of a file.

    Raises:
        DeploymentError: the algorithm is unknown.
    """
    try:
        hashed = hashlib.new(algorithm.replace("-", "").lower())
    except ValueError:
        raise DeploymentError(
            f"{path.name} has a digest by {algorithm!r}, which this device does not know",
            codes=("RECIPE_MISSING_ARTIFACT_HASH_ALGORITHM",),
        ) from None
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            hashed.update(chunk)
    return base64.b64encode(hashed.digest()).decode()


def bytes_below(*folders: Path) -> int:
    """The size of all files below some folders; what another task moves or deletes meanwhile counts or not."""
    total, waiting = 0, list(map(str, folders))
    while waiting:
        with suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    with suppress(FileNotFoundError):
                        total += entry.stat(follow_symlinks=False).st_size
    return total


def remove(path: Path) -> None:
    """Delete a file or a whole folder; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def disk_error(error: OSError, doing: str, code: str) -> DeploymentError:
    """Return a file error as the deployment error it means; a full disk is DISK_SPACE_CRITICAL."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return DeploymentError(
        f"{doing}: {error.strerror or error}",
        codes=("DISK_SPACE_CRITICAL",) if is_full else (code,),
        hint="free some space on the device" if is_full else None,
    )

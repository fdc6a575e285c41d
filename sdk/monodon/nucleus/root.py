"""The root folder of a device: one nucleus at a time, where its socket is, and the file that says it is ready."""

import asyncio
import errno
import hashlib
import json
import logging
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from monodon.core.json import Json
from monodon.errors import StateError
from monodon.nucleus import disk

_LOG = logging.getLogger(__name__)

#: How often a file is tried again that a full disk refused.
SHOW_AGAIN_S = 1.0

LOCK_FILE = "nucleus.lock"
READY_FILE = "ready.json"
SOCKET_FILE = "ipc.socket"
CLI_FOLDER = "cli_ipc_info"
CONFIG_FOLDER = "config"
#: What the users whom components run as pass through, and nobody but the nucleus changes.
SHARED_FOLDERS = ("packages", "work")
#: Bytes of a Unix socket's path, without the NUL. Source: unix(7), ``sun_path``.
MAX_SOCKET_PATH_BYTES = 107


@contextmanager
def claimed(root: Path) -> Iterator[Path]:
    """Hold the root folder, made if it is missing, for this process alone; the result is its absolute path.

    Raises:
        StateError: another nucleus holds it, or it cannot be written.
    """
    try:
        if not root.is_dir():
            # Components may run as other users: as root, they must be able to pass through.
            root.parent.mkdir(parents=True, exist_ok=True)
            _make(root, 0o755 if os.geteuid() == 0 else 0o700)
        root = root.resolve()
        lock = os.open(root / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(f"{root} cannot be the root of a device: {error.strerror}") from error
    try:
        if not disk.lock(lock):
            holder = os.read(lock, 32).decode("ascii", "replace").strip()
            raise StateError(
                f"another nucleus (process {holder or 'unknown'}) uses {root}",
                hint="stop it, or choose another --root",
            )
        with suppress(OSError):  # for error messages alone: a full disk does without
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        with writable(root):
            (root / READY_FILE).unlink(missing_ok=True)
            _make(root / CONFIG_FOLDER, 0o700)
            for name in SHARED_FOLDERS:
                _make(root / name, 0o755)
        yield root
    finally:
        os.close(lock)


def _make(folder: Path, mode: int) -> None:
    """Make a folder of just this mode, whatever the umask; one of our own that is there gets it too.

    A umask of 000 would let every user put other recipes and programs into a device that runs as root, one of 077 would
    keep the users whom components run as from their own files. Source: section 4 of the device notes.
    """
    folder.mkdir(mode=mode, exist_ok=True)
    if folder.stat().st_uid == os.geteuid():
        folder.chmod(mode)


@contextmanager
def writable(root: Path) -> Iterator[None]:
    """Name what the disk refuses within the block.

    Raises:
        StateError: something is in the way, may not be written, or does not fit.
    """
    try:
        yield
    except OSError as error:
        raise StateError(f"a nucleus cannot use {error.filename or root}: {error.strerror or error}") from error


@contextmanager
def socket_path(root: Path, configured: Path | None, environment: Mapping[str, str]) -> Iterator[Path]:
    """Where the IPC socket shall be: as configured, in the root, or if that is too long in a short temporary folder.

    The temporary folder belongs to this user alone, is found again by the root's path, and goes when the block ends.

    Raises:
        StateError: the configured path is too long, or the temporary folder is somebody else's.
    """
    path = configured or root / SOCKET_FILE
    if len(bytes(path)) <= MAX_SOCKET_PATH_BYTES:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield path
        return
    if configured is not None:
        raise StateError(
            f"system.ipcSocketPath is {len(bytes(path))} bytes long; a Unix socket's path has {MAX_SOCKET_PATH_BYTES}"
        )
    folder = Path(environment.get("TMPDIR") or tempfile.gettempdir())
    if len(bytes(folder)) > MAX_SOCKET_PATH_BYTES // 2:
        folder = Path("/tmp")  # noqa: S108 - the folder below is checked to be ours alone
    folder /= f"monodon-{hashlib.sha256(bytes(root)).hexdigest()[:12]}"
    _own(folder)
    try:
        yield folder / SOCKET_FILE
    finally:
        with suppress(OSError):  # something else lies in it: leave it
            folder.rmdir()


def _own(folder: Path) -> None:
    """Make a folder that only this user can change (root's may be passed through by all, as its root folder)."""
    wanted = 0o711 if os.geteuid() == 0 else 0o700
    with suppress(FileExistsError):
        folder.mkdir(mode=wanted)
        folder.chmod(wanted)  # whatever the umask
    known = folder.lstat()
    if not stat.S_ISDIR(known.st_mode) or known.st_uid != os.geteuid() or known.st_mode & 0o066:
        raise StateError(f"{folder} is not this user's own folder", hint="remove it, or choose a shorter --root")


@contextmanager
def tool_credentials(root: Path, token: str, socket: Path) -> Iterator[None]:
    """Have the file by which this user's tools find the nucleus and show who they are, for as long as the block lasts.

    Source: aws.greengrass.Cli, ``CLIService.java``: ``cli_ipc_info/user-<uid>``, readable by that user alone.
    """
    folder = root / CLI_FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    text = json.dumps({"cli_auth_token": token, "domain_socket_path": str(socket)})
    with _shown(folder / f"user-{os.getuid()}", text, mode=0o600):
        yield


@contextmanager
def announced(root: Path, ready: Mapping[str, Json]) -> Iterator[None]:
    """Have ``ready.json`` in the root folder, whole, for as long as the block lasts."""
    with _shown(root / READY_FILE, json.dumps(dict(ready), indent=2) + "\n", mode=0o644):
        yield


@contextmanager
def _shown(file: Path, text: str, *, mode: int) -> Iterator[None]:
    """Have a file with this text, whole, for as long as the block lasts.

    A disk that is full must not keep a device from running: the file comes when there is room.
    """
    waiting: list[asyncio.TimerHandle] = []

    def show() -> None:
        try:
            _put_whole(file, text, mode)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            if not waiting:
                _LOG.error("%s could not be written: %s; tools do not find this nucleus yet", file, error.strerror)
            waiting[:] = [asyncio.get_running_loop().call_later(SHOW_AGAIN_S, show)]

    show()
    try:
        yield
    finally:
        for handle in waiting:
            handle.cancel()
        file.unlink(missing_ok=True)


def _put_whole(file: Path, text: str, mode: int) -> None:
    partial = file.with_suffix(".new")
    try:
        partial.unlink(missing_ok=True)
        partial.touch(mode=mode)
        partial.write_text(text)
        partial.replace(file)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise

"""Unpacking a zip that came over the network: nothing outside its folder, nothing larger than it says.

As on AWS's device the mode bits in the zip mean nothing and a symbolic link becomes a text file with its target.
One that points out of the folder is refused all the same: whoever packed it meant something that cannot work.
"""

import errno
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from monodon.errors import DeploymentError

CODE = "IO_UNZIP_ERROR"

MAX_ENTRIES = 500_000
_MAX_LINK_BYTES = 4096
_CHUNK_BYTES = 1 << 20

FOLDER_MODE = 0o755

#: What `zipfile` raises for bytes that are no zip, or one of a kind it does not know.
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


def unpack(archive: Path, folder: Path, *, file_mode: int, max_bytes: int) -> None:
    """Unpack ``archive`` into ``folder``, which is made and must not exist yet.

    Args:
        file_mode: what every file gets, whatever the zip says; folders get 0755.
        max_bytes: how much all files together may take.

    Raises:
        DeploymentError: not a zip, or a damaged, encrypted, too large or unsafe one; ``folder`` may be half full then.
        OSError: the disk is full or not writable.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = _checked(opened, archive.name, max_bytes)
            folder.mkdir(parents=True)
            folder.chmod(FOLDER_MODE)
            sink = _Sink(folder, file_mode)
            for path, entry in entries:
                sink.write(opened, entry, path)
    except DAMAGED as error:
        raise _refused(archive.name, f"is not a usable zip: {error}") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise _refused(archive.name, f"has a file where it has a folder too: {error.filename}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # A damaged directory makes zipfile seek to where nothing can be.
        raise _refused(archive.name, f"is not a usable zip: {error}") from error


def holds(archive: Path, folder: Path) -> bool:
    """Whether ``folder`` has every file of ``archive`` in its size. Source: rule A5 of the device notes."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return all(
                entry.is_dir() or _size(folder / PurePosixPath(entry.filename)) == entry.file_size
                for entry in opened.infolist()
            )
    except (OSError, *DAMAGED):
        return False


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except OSError:
        return None


def _checked(opened: zipfile.ZipFile, name: str, max_bytes: int) -> list[tuple[PurePosixPath, zipfile.ZipInfo]]:
    entries = opened.infolist()
    if len(entries) > MAX_ENTRIES:
        raise _refused(name, f"has {len(entries)} entries; at most {MAX_ENTRIES} are unpacked")
    total = sum(entry.file_size for entry in entries)
    if total > max_bytes:
        raise DeploymentError(
            f"{name} takes {total} bytes unpacked and only {max_bytes} are left for it",
            codes=("DISK_SPACE_CRITICAL",),
            hint="free some space on the device, or raise componentStoreMaxSizeBytes",
        )
    return [(_inside(entry.filename, name), entry) for entry in _unlinked(opened, entries, name)]


def _unlinked(opened: zipfile.ZipFile, entries: list[zipfile.ZipInfo], name: str) -> Iterator[zipfile.ZipInfo]:
    for entry in entries:
        if entry.flag_bits & 0x1:
            raise _refused(name, f"is encrypted: {entry.filename!r}")
        if stat.S_ISLNK(entry.external_attr >> 16):
            _refuse_outward_link(opened, entry, name)
        yield entry


def _refuse_outward_link(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> None:
    if entry.file_size > _MAX_LINK_BYTES:
        raise _refused(name, f"has a symbolic link of {entry.file_size} bytes: {entry.filename!r}")
    target = opened.read(entry).decode("utf-8", "surrogateescape")
    depth = len(PurePosixPath(entry.filename).parts) - 1
    for part in PurePosixPath(target).parts:
        depth = -1 if part == "/" else depth - 1 if part == ".." else depth + 1
        if depth < 0:
            raise _refused(name, f"has a symbolic link out of its folder: {entry.filename!r} -> {target!r}")


def _inside(text: str, name: str) -> PurePosixPath:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\0" in text:
        raise _refused(name, f"has an entry outside its folder: {text!r}")
    return path


class _Sink:
    """The folder that entries go to; it was empty, so only what came from the archive itself can be in the way."""

    def __init__(self, folder: Path, file_mode: int) -> None:
        self._folder, self._file_mode = folder, file_mode
        self._folders: set[PurePosixPath] = {PurePosixPath()}
        self._files: set[PurePosixPath] = set()

    def write(self, opened: zipfile.ZipFile, entry: zipfile.ZipInfo, path: PurePosixPath) -> None:
        self._make_folders(path if entry.is_dir() else path.parent)
        if entry.is_dir():
            return
        destination = self._folder / path
        if path in self._files:
            destination.unlink()  # a second entry of one name replaces the first
        self._files.add(path)
        with destination.open("xb") as sink, opened.open(entry) as source:
            while chunk := source.read(_CHUNK_BYTES):
                sink.write(chunk)
            os.fchmod(sink.fileno(), self._file_mode)

    def _make_folders(self, path: PurePosixPath) -> None:
        if path in self._folders:
            return
        self._make_folders(path.parent)
        made = self._folder / path
        made.mkdir()
        made.chmod(FOLDER_MODE)
        self._folders.add(path)


def _refused(name: str, why: str) -> DeploymentError:
    return DeploymentError(f"{name} {why}", codes=(CODE,))

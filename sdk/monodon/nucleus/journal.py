"""A map of keys to JSON that survives being killed at any moment: an append-only file of checksummed records.

The file ``journal.log`` holds one record a line::

    <CRC-32, eight hex digits> <sequence number> <JSON>

The first record names the format; each other is one batch of changes. A batch is written and synced before
`Journal.write` returns, and is there whole or not at all: a line that a kill or a power cut left without its end
is cut off (and kept aside in ``journal.torn``). A whole line that is damaged was acknowledged once: where one flipped
bit explains it, that bit is turned back (and the file as it was kept aside in ``journal.damaged``), else it is refused
by name rather than skipped. When mostly outdated, the file is written anew beside the old one, synced, and renamed
over it.
"""

import json
import logging
import os
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from monodon.core.json import Json
from monodon.errors import StateError
from monodon.nucleus import disk
from monodon.nucleus.journal_repair import mend

_LOG = logging.getLogger(__name__)

#: Where a device's journal is, below its root.
JOURNAL_FOLDER = Path("config") / "journal"
FORMAT = 1
_KIND = "monodon-journal"
#: Compact when the file is this large and four times as large as a fresh one would be.
COMPACT_BYTES = 256 * 1024
_COMPACT_RATIO = 4


def _nothing(point: str) -> None:
    """The probe of every day: nobody wants to know."""


class Journal:
    """The open journal of one folder; a second one on the same folder is refused. Close it, or use ``with``."""

    def __init__(self, folder: Path, lock: int, probe: Callable[[str], None]) -> None:
        """Use `Journal.open`."""
        self._path = folder / "journal.log"
        self._folder = folder
        self._lock = lock
        self._probe = probe
        self._entries: dict[str, str] = {}
        self._file = -1
        self._end = 0
        self._sequence = 0
        self._live_bytes = 0
        #: Whether the file's name is on disk too; without it a power cut brings the former file back.
        self._is_named = True

    @classmethod
    def open(cls, folder: Path, *, probe: Callable[[str], None] = _nothing) -> "Journal":
        """Return the journal of ``folder``, replayed, recovered and compacted; both are made when missing.

        Args:
            probe: told the name of each point at which a kill would be hardest; tests end the process there.

        Raises:
            StateError: in use by another process, written by another version, damaged, or the
                folder cannot be written.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(folder / "journal.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"cannot keep state in {folder}: {error.strerror}") from error
        journal = cls(folder, lock, probe)
        try:
            journal._open()
        except BaseException:
            journal.close()
            raise
        return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get(self, key: str) -> Json | None:
        """Return the value of ``key``, the caller's own copy, or None."""
        text = self._entries.get(key)
        return None if text is None else json.loads(text)

    def items(self, prefix: str = "") -> dict[str, Json]:
        """Return every key that begins with ``prefix``, and its value."""
        return {key: json.loads(text) for key, text in self._entries.items() if key.startswith(prefix)}

    def write(self, changes: Mapping[str, Json | None]) -> None:
        """Set (or, by None, delete) all these keys at once, on disk when this returns; or none of them.

        Raises:
            StateError: the disk is full or failing; the journal is as it was before.
        """
        texts = {key: None if value is None else _dumps(value) for key, value in changes.items()}
        texts = {key: text for key, text in texts.items() if self._entries.get(key) != text}
        if not texts:
            return
        self._append(_line(self._sequence + 1, _batch(texts)))
        self._apply(texts)
        if self._end > COMPACT_BYTES and self._end > _COMPACT_RATIO * self._live_bytes:
            self._compact()

    def close(self) -> None:
        """Let go of the files; what was written is on disk already."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def _open(self) -> None:
        if not disk.lock(self._lock):
            raise StateError(
                f"{self._folder} is in use by another process", hint="stop that nucleus, or choose another --root"
            )
        try:
            self._open_file()
        except OSError as error:
            raise StateError(f"cannot keep state in {self._folder}: {error.strerror}") from error

    def _open_file(self) -> None:
        self._path.with_suffix(".tmp").unlink(missing_ok=True)
        if not self._path.exists():
            self._compact()
            return
        data = self._path.read_bytes()
        replay = _replay(data, self._path)
        self._entries, self._sequence = replay.entries, replay.sequence
        self._live_bytes = sum(len(key) + len(text) for key, text in self._entries.items())
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._end = replay.end
        if replay.mended:
            self._keep_aside("journal.damaged", data)
        if replay.end < len(data):
            self._cut(data[replay.end :])
        if replay.mended or replay.end == 0 or self._end > 2 * self._live_bytes + COMPACT_BYTES // 16:
            self._compact()

    def _cut(self, torn: bytes) -> None:
        _LOG.warning(
            "%s: the last %d bytes were never written whole; cut off and kept in journal.torn", self._path, len(torn)
        )
        self._keep_aside("journal.torn", torn)
        os.ftruncate(self._file, self._end)
        os.fsync(self._file)

    def _keep_aside(self, name: str, data: bytes) -> None:
        """Keep what nobody needs but who wants to know; a disk that is full does without."""
        try:
            (self._folder / name).write_bytes(data)
        except OSError as error:
            _LOG.warning("%s could not be kept: %s", self._folder / name, error.strerror)
            with suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)

    def _append(self, line: bytes) -> None:
        if self._file < 0:
            raise StateError(f"{self._path} is closed")
        try:
            self._probe("journal append")
            self._put_right()
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            self._probe("journal sync")
            os.fsync(self._file)
        except OSError as error:
            with suppress(OSError):
                self._put_right()
            raise StateError(
                f"cannot write {self._path}: {error.strerror}", hint="free some space on the device, then try again"
            ) from error
        self._probe("journal synced")
        self._end += len(line)
        self._sequence += 1

    def _put_right(self) -> None:
        """Half a record of a write that failed must not stand before the next one, and the file's name must last.

        Raises:
            OSError: that cannot be done; nothing must be written then.
        """
        if os.fstat(self._file).st_size != self._end:
            os.ftruncate(self._file, self._end)
        if not self._is_named:
            disk.sync(self._folder)
            self._is_named = True

    def _apply(self, texts: Mapping[str, str | None]) -> None:
        for key, text in texts.items():
            old = self._entries.pop(key, None)
            self._live_bytes -= 0 if old is None else len(key) + len(old)
            if text is not None:
                self._entries[key] = text
                self._live_bytes += len(key) + len(text)

    def _compact(self) -> None:
        """Write what is alive into a new file and put it in the place of the old one.

        Raises:
            OSError: there is no old one to go on with.
        """
        data = _line(0, _dumps({"kind": _KIND, "format": FORMAT}))
        if self._entries:
            data += _line(1, _batch(self._entries))
        try:
            file = self._replace(data)
        except OSError as error:
            with suppress(OSError):
                self._path.with_suffix(".tmp").unlink(missing_ok=True)
            if self._file < 0:
                raise
            _LOG.warning("%s could not be compacted: %s; it goes on growing", self._path, error.strerror)
            return
        # From here on the new file is the journal, whatever happens.
        if self._file >= 0:
            os.close(self._file)
        self._file, self._end, self._sequence = file, len(data), 1 if self._entries else 0
        self._is_named = False
        with suppress(OSError):  # the next write tries again, and is refused if it must be
            self._probe("journal renamed")
            self._put_right()

    def _replace(self, data: bytes) -> int:
        """Write a new file, sync it and rename it over the journal; return its descriptor."""
        temporary = self._path.with_suffix(".tmp")
        self._probe("journal compact")
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        file = os.open(temporary, flags, 0o600)
        try:
            written = 0
            while written < len(data):
                written += os.write(file, data[written:])
            os.fsync(file)
            self._probe("journal rename")
            temporary.rename(self._path)
        except OSError:
            os.close(file)
            raise
        return file


def peek(folder: Path) -> dict[str, Json]:
    """Return what a journal holds, without holding it: its nucleus may go on writing. Empty when there is none.

    Raises:
        StateError: written by another version, damaged, or it cannot be read.
    """
    path = folder / "journal.log"
    try:
        entries = _replay(path.read_bytes(), path).entries
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}") from error
    return {key: json.loads(text) for key, text in entries.items()}


@dataclass(frozen=True, slots=True)
class _Replay:
    entries: dict[str, str]
    sequence: int
    end: int
    #: Where a flipped bit was turned back.
    mended: tuple[int, ...] = ()


def _replay(data: bytes, path: Path) -> _Replay:
    """Read every good record; ``end`` is where the last one ends.

    Raises:
        StateError: of another version, or with a damaged record.
    """
    entries: dict[str, str] = {}
    sequence, start = -1, 0
    mended: tuple[int, ...] = ()
    while start < len(data):
        line = _line_at(data, start)
        record = _read(line, sequence + 1)
        if record is None:
            repaired = mend(data, start, lambda text: _read(text, sequence + 1) is not None)  # noqa: B023 - used at once
            if repaired is None and not line.endswith(b"\n"):
                break
            if repaired is None:
                raise StateError(
                    f"{path}: record {sequence + 2} at byte {start} is damaged",
                    hint="restore the file from a backup, or move it away to begin with an empty device",
                )
            position, data = repaired
            mended = (*mended, position)
            _LOG.warning(
                "%s: record %d had a flipped bit at byte %d; its checksum tells which, and it is turned back",
                path, sequence + 2, position,
            )  # fmt: skip
            continue
        if sequence < 0:
            _check_format(record, path)
        else:
            _apply_record(entries, record)
        sequence += 1
        start += len(line)
    return _Replay(entries, max(sequence, 0), start, mended)


def _line_at(data: bytes, start: int) -> bytes:
    newline = data.find(b"\n", start)
    return data[start:] if newline < 0 else data[start : newline + 1]


def _read(line: bytes, sequence: int) -> Json | None:
    """The record in ``line``, or None when it is damaged, cut short or out of order."""
    if not line.endswith(b"\n") or len(line) < 10 or line[8:9] != b" ":
        return None
    if line[:8] != b"%08x" % zlib.crc32(line[9:-1]):
        return None
    number, _, text = line[9:-1].partition(b" ")
    if number != b"%d" % sequence:
        return None
    return json.loads(text)


def _check_format(record: Json, path: Path) -> None:
    if not isinstance(record, dict) or record.get("kind") != _KIND:
        raise StateError(f"{path} is not a journal of Monodon", hint="choose another --root")
    if record.get("format") != FORMAT:
        raise StateError(
            f"{path} has format {record.get('format')}; this version of Monodon reads format {FORMAT}",
            hint="use the version that wrote it, or choose another --root",
        )


def _apply_record(entries: dict[str, str], record: Json) -> None:
    for key in record["del"]:
        entries.pop(key, None)
    for key, value in record["set"].items():
        entries[key] = _dumps(value)


def _batch(texts: Mapping[str, str | None]) -> str:
    values = ",".join(f"{_dumps(key)}:{text}" for key, text in texts.items() if text is not None)
    return f'{{"set":{{{values}}},"del":{_dumps([key for key, text in texts.items() if text is None])}}}'


def _line(sequence: int, text: str) -> bytes:
    body = f"{sequence} {text}".encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _dumps(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"))

"""Log files of the nucleus and of each component, in AWS's formats, rolled by the hour and by size.

``logs/greengrass.log`` is the nucleus's own, ``logs/<component>.log`` what a component's processes print. A full
file, or one of a past hour, becomes ``<base>_yyyy_MM_dd_HH_<n>.log``; the oldest go when all of one log together
pass their limit, and first those of hours to come: a clock that has been put back since wrote them. A file that was
deleted or moved away is made anew. A disk that is full loses lines, never the nucleus.

Source: aws.greengrass.Nucleus, configuration ``logging``; Greengrass logging, ``PersistenceConfig.java``.
"""

import json
import logging
import os
import re
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from monodon.core.json import Json
from monodon.core.steps import coerce_integer

_LOG = logging.getLogger(__name__)

_LEVELS = {"TRACE": 5, "DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40}
NUCLEUS_LOG = "greengrass"


class LogFormat(StrEnum):
    """How a line looks: AWS's text, or one JSON object."""

    TEXT = "TEXT"
    JSON = "JSON"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What the nucleus's configuration says of its logs.

    ``folder`` is where the files are (None: ``logs`` below the root); ``is_console`` has lines printed instead.
    """

    level: str = "INFO"
    format: LogFormat = LogFormat.TEXT
    file_size_bytes: int = 1024 * 1024
    total_size_bytes: int = 10 * 1024 * 1024
    folder: Path | None = None
    is_console: bool = False

    @classmethod
    def read(cls, configuration: Mapping[str, Json]) -> "LogSettings":
        """Return the settings in the nucleus's ``logging`` map; what is missing or unknown is as it is by default."""
        values = {key.lower(): value for key, value in configuration.items()}
        level, style = str(values.get("level", "")).upper(), str(values.get("format", "")).upper()
        return cls(
            level=level if level in _LEVELS else cls().level,
            format=LogFormat(style) if style in tuple(LogFormat) else cls().format,
            file_size_bytes=coerce_integer(values.get("filesizekb")) * 1024 or cls().file_size_bytes,
            total_size_bytes=coerce_integer(values.get("totallogssizekb")) * 1024 or cls().total_size_bytes,
            folder=Path(folder) if isinstance(folder := values.get("outputdirectory"), str) and folder else None,
            is_console=str(values.get("outputtype", "")).upper() == "CONSOLE",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a line says beside its time: ``contexts`` are the keys and values at its end, ``trace`` follows it."""

    level: str
    thread: str
    logger: str
    message: str
    event: str = ""
    contexts: Mapping[str, str] | None = None
    trace: str = ""


def format_entry(entry: Entry, at_s: float, style: LogFormat) -> str:
    """Return ``entry`` as AWS writes it, with its line end; ``at_s`` is in seconds since 1970.

    Source: Greengrass logging, ``GreengrassLogMessage.getTextMessage`` and ``getJSONMessage``.
    """
    milliseconds = int(at_s * 1000)
    contexts = dict(entry.contexts or {})
    if style is LogFormat.JSON:
        document = {
            "thread": entry.thread,
            "level": entry.level,
            "eventType": entry.event or None,
            "message": entry.message,
            "contexts": contexts,
            "loggerName": entry.logger,
            "timestamp": milliseconds,
            "cause": entry.trace or None,
        }
        return json.dumps(document, ensure_ascii=False) + "\n"
    shown = ", ".join(f"{key}={value}" for key, value in contexts.items())
    said = "".join(f"{text}. " for text in (entry.event, entry.message) if text)
    head = f"{_timestamp(milliseconds)} [{entry.level}] ({entry.thread}) {entry.logger}"
    return f"{head}: {said}{{{shown}}}\n{entry.trace}"


def _formatted(entry: Entry, messages: Sequence[str], at_s: float, style: LogFormat) -> Sequence[str]:
    """A line for each message. In text, what they share is made once: a component may print millions."""
    if len(messages) == 1 or style is LogFormat.JSON:
        return [format_entry(replace(entry, message=message), at_s, style) for message in messages]
    head, _, tail = format_entry(replace(entry, message="\0"), at_s, style).partition("\0")
    return [f"{head}{message}{tail}" for message in messages]


def rolled_files(folder: Path, base: str) -> list[tuple[str, int, Path]]:
    """Return hour (``yyyy_MM_dd_HH``), number and path of every file rolled from a log, oldest first."""
    name = re.compile(re.escape(base) + r"_(\d{4}_\d\d_\d\d_\d\d)_(\d+)\.log")
    found = [(match[1], int(match[2]), path) for path in folder.iterdir() if (match := name.fullmatch(path.name))]
    return sorted(found)


class LogFile:
    """One log: the active file, and those rolled from it. Writes at once; never raises for the disk's sake."""

    def __init__(self, folder: Path, base: str, settings: LogSettings, now: Callable[[], float]) -> None:
        self._folder = folder
        self._base = base
        self._settings = settings
        self._now = now
        self._descriptor = -1
        self._size = 0
        self._identity = (0, 0)
        self._hour = 0
        self._lost = 0

    @property
    def path(self) -> Path:
        """The active file."""
        return self._folder / f"{self._base}.log"

    def write(self, entry: Entry) -> None:
        """Append ``entry`` with the time of now, unless the settings' level leaves it out."""
        self.write_lines(entry, (entry.message,))

    def write_lines(self, entry: Entry, messages: Sequence[str]) -> None:
        """Append a line for each of ``messages``, otherwise like ``entry``."""
        if _LEVELS[entry.level] < _LEVELS[self._settings.level]:
            return
        now = self._now()
        lines = [text.encode("utf-8", "replace") for text in _formatted(entry, messages, now, self._settings.format)]
        try:
            if self._settings.is_console:
                os.write(1, b"".join(lines))
            else:
                self._append(lines, now)
        except OSError as error:
            if not self._lost:
                os.write(2, f"monodon: cannot write {self.path}: {error.strerror}; lines are lost\n".encode())
            self._lost += len(lines)

    def configure(self, folder: Path, settings: LogSettings) -> None:
        """Go on with other settings, or in another folder."""
        self.close()
        self._folder, self._settings = folder, settings

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _append(self, lines: Sequence[bytes], now: float) -> None:
        pending: list[bytes] = []
        size = 0
        self._let_go_of_the_lost()
        for line in lines:
            if self._descriptor < 0:
                self._open(now)
            if (self._size + size and self._size + size + len(line) > self._settings.file_size_bytes) or int(
                now // 3600
            ) != self._hour:
                self._put(pending)
                pending, size = [], 0
                self._roll(now)
            pending.append(line)
            size += len(line)
        self._put(pending)

    def _let_go_of_the_lost(self) -> None:
        """Close a file that has no longer its name: what is written to it nobody would find."""
        if self._descriptor < 0:
            return
        try:
            known = self.path.stat()
        except OSError:
            self.close()
            return
        if (known.st_dev, known.st_ino) != self._identity:
            self.close()

    def _put(self, lines: Sequence[bytes]) -> None:
        if not lines:
            return
        data = b"".join(lines)
        try:
            written = 0
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)
        if self._lost:
            lost, self._lost = self._lost, 0
            _LOG.warning("%s: %d lines were lost while the disk refused them", self.path, lost)

    def _open(self, now: float) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, flags, 0o600)
        known = os.fstat(self._descriptor)
        self._size, self._identity = known.st_size, (known.st_dev, known.st_ino)
        self._hour = int((known.st_mtime if known.st_size else now) // 3600)

    def _roll(self, now: float) -> None:
        if self._size:
            stamp = _hour_stamp(self._hour * 3600)
            rolled = rolled_files(self._folder, self._base)
            number = 1 + max((number for hour, number, _ in rolled if hour == stamp), default=-1)
            self.close()
            self.path.rename(self._folder / f"{self._base}_{stamp}_{number}.log")
            self._discard(now)
            self._open(now)
        self._hour = int(now // 3600)

    def _discard(self, now: float) -> None:
        room = self._settings.total_size_bytes - self._settings.file_size_bytes
        present = _hour_stamp(now)
        rolled = sorted(rolled_files(self._folder, self._base), key=lambda each: (each[0] <= present, *each[:2]))
        for _, _, path in reversed(rolled):
            room -= path.stat().st_size
            if room < 0:
                path.unlink(missing_ok=True)


class Logs:
    """All logs of one device, in one folder. Close it when nothing writes any more."""

    def __init__(self, folder: Path, settings: LogSettings | None = None, now: Callable[[], float] = time.time) -> None:
        """``now`` gives seconds since 1970."""
        self._own_folder = folder
        self._settings = settings or LogSettings()
        self._now = now
        self._files: dict[str, LogFile] = {}

    def configure(self, settings: LogSettings) -> None:
        """Let every log go on with other settings; what is written already stays where it is."""
        if settings == self._settings:
            return
        self._settings = settings
        for file in self._files.values():
            file.configure(self._folder, settings)

    @property
    def _folder(self) -> Path:
        return self._settings.folder or self._own_folder

    def component(self, name: str) -> LogFile:
        """Return the log of a component, or of the nucleus by `NUCLEUS_LOG`; always the same one."""
        if name not in self._files:
            self._files[name] = LogFile(self._folder, name, self._settings, self._now)
        return self._files[name]

    def handler(self) -> logging.Handler:
        """Return a handler that writes what the nucleus itself logs into ``greengrass.log``."""
        return _NucleusHandler(self.component(NUCLEUS_LOG))

    def forget(self, name: str) -> None:
        """Close the log of a component that is gone; its files stay."""
        if name in self._files:
            self._files.pop(name).close()

    def close(self) -> None:
        """Close every file."""
        for name in list(self._files):
            self.forget(name)


class _NucleusHandler(logging.Handler):
    def __init__(self, file: LogFile) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        try:
            trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
            entry = Entry(
                level=_level(record.levelno),
                thread=record.threadName or "main",
                logger=record.name,
                message=record.getMessage(),
                trace=trace,
            )
            self._file.write(entry)
        except Exception:
            self.handleError(record)


def _level(number: int) -> str:
    return next((name for name, least in reversed(_LEVELS.items()) if number >= least), "TRACE")


def _hour_stamp(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y_%m_%d_%H")


def _timestamp(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"

"""Reading a device's logs, whether its nucleus runs or not: what stands in the files, and then what comes.

`LogReader` gives the records of one log in order, over all the files that were rolled from it, each once;
`parse_record` takes one apart.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from monodon.core.json import Json
from monodon.core.lifecycle import State
from monodon.nucleus.logs import NUCLEUS_LOG, Entry, rolled_files

_BLOCK_BYTES = 1 << 20
#: Where a record begins; the lines up to the next beginning belong to it.
_BEGIN = re.compile(rb'^(?=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[|\{"thread")', re.MULTILINE)
_HEAD = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) \[([A-Z]+)\] \((.*?)\) (\S+): ")
_CONTEXTS = re.compile(r"(?:\A|(?<=\. ))\{(?=\}\n|\w+=)")
_KEY = re.compile(r"(?:^|, )(\w+)=")
#: The events of a component's log: what a process said, and that one was started.
STDOUT, STDERR, STARTED = "stdout", "stderr", "shell-runner-start"
_ROLLED = re.compile(r"(.+)_\d{4}_\d\d_\d\d_\d\d_\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of a log: when (seconds since 1970), what, and ``text``, its lines as they stand in the file."""

    at_s: float
    entry: Entry
    text: str

    @property
    def said(self) -> str:
        """What a reader wants to know of it: a process's own words, or what became of it; several lines at times."""
        entry = self.entry
        if entry.event in (STDOUT, STDERR):
            return entry.message
        if entry.event == STARTED:
            return f"starts: {(entry.contexts or {}).get('command', '')}"
        return "\n".join(text for text in (" ".join(filter(None, (entry.event, entry.message))), entry.trace) if text)

    def to_json(self) -> dict[str, Json]:
        """Return it as a JSON object; ``time`` as in ISO 8601."""
        moment = datetime.fromtimestamp(self.at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry = self.entry
        return {
            "time": moment,
            "level": entry.level,
            "logger": entry.logger,
            "event": entry.event or None,
            "message": entry.message,
            "contexts": dict(entry.contexts or {}),
            "trace": entry.trace or None,
        }


def parse_record(text: str) -> Record:
    """Take a record in either of AWS's formats apart; one that is in neither is all message, of the time 0."""
    if text.startswith("{"):
        return _parse_json(text) or _unknown(text)
    head = _HEAD.match(text)
    if head is None:
        return _unknown(text)
    said, contexts, trace = _split(text[head.end() :])
    event = next((known for known in (STDOUT, STDERR, STARTED) if said.startswith(f"{known}. ")), "")
    entry = Entry(
        level=head[2],
        thread=head[3],
        logger=head[4],
        event=event,
        message=(said.removeprefix(f"{event}. ") if event else said).removesuffix(". "),
        contexts=contexts,
        trace=trace,
    )
    return Record(at_s=datetime.fromisoformat(head[1]).timestamp(), entry=entry, text=text)


def names(folder: Path) -> tuple[str, ...]:
    """Return the names that have a log in ``folder``, in order; of the nucleus itself, `NUCLEUS_LOG`."""
    found = {path.stem for path in folder.glob("*.log")}
    return tuple(sorted({match[1] if (match := _ROLLED.fullmatch(name)) else name for name in found}))


def why(folder: Path, name: str) -> str | None:
    """Return what the nucleus last logged of a component that is ERRORED or BROKEN: step, how it ended, its last words.

    None when its log has nothing of the kind any more.
    """
    found: str | None = None
    with LogReader(folder, NUCLEUS_LOG) as reader:
        for text in reader.read():
            if f"{name}: " in text and (match := re.search(rf"(?<![\w.-]){re.escape(name)}: \w+ -> ", text)):
                record = parse_record(text)
                after = record.said[record.said.find(match[0]) + len(match[0]) :]
                state, _, reason = after.partition(": ")
                found = reason if state in (State.ERRORED, State.BROKEN) else None
    return found or None


class LogReader:
    """The records of one log, each once and in order, however its files roll. Close it, or use ``with``.

    There need not be such a log yet.
    """

    def __init__(self, folder: Path, base: str, *, since_s: float = 0.0, from_end: bool = False) -> None:
        """Begin with the oldest file that was written to after ``since_s``; ``from_end``: with what is yet to come."""
        self._folder, self._base = folder, base
        self._since_s = since_s
        self._file: IO[bytes] | None = None
        self._rest = b""
        if from_end:
            self._skip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def read(self) -> Iterator[str]:
        """Yield every record that is whole and was not yielded before, as it stands in the file.

        Raises:
            OSError: a file cannot be read.
        """
        while True:
            # Asked first: nothing more is written to a file that was found rolled.
            is_active = self._is_active()
            yield from self._read_on()
            if is_active or not self._go_on():
                return

    def _files(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        rolled = [path for _, _, path in rolled_files(self._folder, self._base)]
        active = self._folder / f"{self._base}.log"
        return [*rolled, active] if active.exists() else rolled

    def _skip(self) -> None:
        files = self._files()
        if files and self._open(files[-1]) and self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def _is_active(self) -> bool:
        if self._file is None:
            return False
        own = os.fstat(self._file.fileno())
        if own.st_size < self._file.tell():  # somebody emptied it
            self._file.seek(0)
        try:
            return (self._folder / f"{self._base}.log").stat().st_ino == own.st_ino
        except FileNotFoundError:
            return False

    def _read_on(self) -> Iterator[str]:
        if self._file is None:
            return
        while block := self._file.read(_BLOCK_BYTES):
            *whole, self._rest = _BEGIN.split(self._rest + block)
            yield from (record.decode("utf-8", "replace") for record in whole if record)
        if self._rest.endswith(b"\n"):
            yield self._rest.decode("utf-8", "replace")
            self._rest = b""

    def _go_on(self) -> bool:
        """Open the next file, if there is one."""
        files = self._files()
        if self._file is None:
            files = [path for path in files if _modified_s(path) >= self._since_s]
        else:
            own = os.fstat(self._file.fileno()).st_ino
            inodes = [_inode(path) for path in files]
            if own in inodes:
                files = files[inodes.index(own) + 1 :]
        return any(self._open(path) for path in files)

    def _open(self, path: Path) -> bool:
        try:
            file = path.open("rb")
        except FileNotFoundError:  # rolled, or gone, this very moment
            return False
        self.close()
        self._file, self._rest = file, b""
        return True


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return -1


def _modified_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _split(body: str) -> tuple[str, dict[str, str], str]:
    """What is said, the contexts behind it, and the trace on the lines after them."""
    begins = [match.start() for match in _CONTEXTS.finditer(body)]
    if body.startswith(STARTED):
        begins = begins[:1]  # the script that was started may hold what looks like contexts
    for begin in reversed(begins):
        if body.startswith("{}\n", begin):
            return body[:begin], {}, body[begin + 3 :]
        if (end := body.rfind("}\n")) > begin:
            inside = body[begin + 1 : end]
            keys = list(_KEY.finditer(inside))
            stops = [*(key.start() for key in keys[1:]), len(inside)]
            contexts = {key[1]: inside[key.end() : stop] for key, stop in zip(keys, stops, strict=True)}
            return body[:begin], contexts, body[end + 2 :]
    return body.removesuffix("\n"), {}, ""


def _parse_json(text: str) -> Record | None:
    try:
        document = json.loads(text)
        entry = Entry(
            level=document["level"],
            thread=document["thread"],
            logger=document["loggerName"],
            event=document["eventType"] or "",
            message=document["message"],
            contexts=document["contexts"],
            trace=document["cause"] or "",
        )
        return Record(at_s=document["timestamp"] / 1000, entry=entry, text=text)
    except (ValueError, KeyError, TypeError):
        return None


def _unknown(text: str) -> Record:
    entry = Entry(level="INFO", thread="", logger="", message=text.removesuffix("\n"))
    return Record(at_s=0.0, entry=entry, text=text)

"""What happens on a nucleus that runs in the foreground, as news: what components print, and what becomes of them."""

import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path

from monodon.nucleus.log_reader import STARTED, STDERR, STDOUT, LogReader, names, parse_record
from monodon.nucleus.logs import NUCLEUS_LOG

NUCLEUS = "nucleus"
#: Records of one log that are told at a time.
MOST = 2000
#: States, and why a deployment failed, are news by themselves.
_TOLD_OTHERWISE = ("monodon.nucleus.supervisor", "monodon.nucleus.application")


class Kind(StrEnum):
    """What a piece of news is: a component's own words, a state it came to, what is being done, what went wrong."""

    SAID = "said"
    STATE = "state"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One line or more of what happens; ``who`` is a component or `NUCLEUS`. ``is_error``: said on stderr."""

    who: str
    kind: Kind
    text: str
    is_error: bool = False


class Logs:
    """What components print, from their log files, and the nucleus's own warnings. May be used from any thread."""

    def __init__(self, folder: Path, tell: Callable[[News], None]) -> None:
        self._folder, self._tell = folder, tell
        self._lock = threading.Lock()
        self._readers = {name: LogReader(folder, name, from_end=True) for name in names(folder)}
        #: Of logs that flood: what was not told yet.
        self._left: dict[str, Iterator[str]] = {}

    def show(self, components: Collection[str] = ()) -> None:
        """Tell what is new, in the logs of these components too; of a log that floods, not all at once."""
        with self._lock:
            for name in (NUCLEUS_LOG, *components):
                if name not in self._readers:
                    self._readers[name] = LogReader(self._folder, name)
            for name, reader in self._readers.items():
                records = self._left.pop(name, None) or reader.read()
                texts = list(islice(records, MOST))
                if len(texts) == MOST:
                    self._left[name] = records
                for text in texts:
                    self._show(name, text)

    def close(self) -> None:
        """Let go of the files."""
        with self._lock:
            self._left.clear()
            for reader in self._readers.values():
                reader.close()

    def _show(self, name: str, text: str) -> None:
        record = parse_record(text)
        entry = record.entry
        if entry.event in (STDOUT, STDERR):
            self._tell(News(who=name, kind=Kind.SAID, text=entry.message, is_error=entry.event == STDERR))
        elif entry.event == STARTED or entry.level not in ("WARN", "ERROR"):
            return
        elif name != NUCLEUS_LOG:
            self._tell(News(who=name, kind=Kind.PROBLEM, text=record.said))
        elif entry.logger not in _TOLD_OTHERWISE:
            self._tell(News(who=NUCLEUS, kind=Kind.PROBLEM, text=record.said))

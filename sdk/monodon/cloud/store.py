"""What the backends keep: JSON records in SQLite and plain files in a folder; both survive restart and kill.

The folder::

    monodon-cloud.json   the mark: what this folder is, and its format
    cloud.sqlite         records of every table, write-ahead logged; a commit is on the disk before it returns
    blobs/               objects and parts as files, named by their writers; written whole, then renamed into place

A record is changed on the event loop's thread. ``transaction`` nests; what should be seen by others only once it
is durable (a notification, say) is handed to ``after_commit``. A transaction costs nothing until something is written.
"""

import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from monodon.core.json import Json
from monodon.errors import StateError

log = logging.getLogger(__name__)

FORMAT = 1
MARK = "monodon-cloud.json"
DATABASE = "cloud.sqlite"
BLOBS = "blobs"
LOCK = "cloud.lock"
READY = "ready.json"

#: Stands for the savepoint of an outermost transaction.
_WHOLE = "whole"
#: A large turn of the broker changes some megabytes of pages; what is not needed is not taken.
_CACHE_KIB = 8 * 1024
_PAGE = 500
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
#: Greater than every key that starts with the prefix before it.
_LAST = chr(0x10FFFF)


class Table:
    """Records of one kind, by key; keys are in order of their code points."""

    def __init__(self, store: "Store", name: str) -> None:
        self._store = store
        self._name = name

    def get(self, key: str) -> dict[str, Json] | None:
        """Return the record under ``key``, a copy of its own, or None."""
        row = self._store.query("SELECT value FROM records WHERE kind = ? AND key = ?", (self._name, key)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, key: str, value: dict[str, Json]) -> None:
        """Write ``value``, whole, under ``key``; durable on return unless a transaction is open."""
        self._store.write(
            "INSERT INTO records (kind, key, value) VALUES (?, ?, ?) "
            "ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value",
            (self._name, key, _encode(value) if value else "{}"),
        )

    def put_marks(self, keys: Iterable[str]) -> None:
        """Write an empty record under each of many keys."""
        self._store.write_many(
            "INSERT OR REPLACE INTO records (kind, key, value) VALUES (?, ?, '{}')", [(self._name, key) for key in keys]
        )

    def text(self, key: str) -> str | None:
        """The record under ``key`` as JSON, for who keeps what it was read to."""
        row = self._store.query("SELECT value FROM records WHERE kind = ? AND key = ?", (self._name, key)).fetchone()
        return None if row is None else str(row[0])

    def count(self, *changes: tuple[str, int]) -> None:
        """Change numbers by key, which begin at 0; ``counted`` reads them."""
        rows = ", ".join(["(?, ?, ?)"] * len(changes))
        self._store.write(
            f"INSERT INTO records (kind, key, value) VALUES {rows} "  # noqa: S608
            "ON CONFLICT (kind, key) DO UPDATE SET value = value + excluded.value",
            tuple(value for key, change in changes for value in (self._name, key, change)),
        )

    def counted(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield keys that start with ``prefix`` and their numbers."""
        return ((key, int(text)) for key, text in self._page("key, value", prefix, None))

    def delete(self, key: str) -> bool:
        """Forget ``key``; say whether it was there."""
        return self._store.write("DELETE FROM records WHERE kind = ? AND key = ?", (self._name, key)).rowcount > 0

    def delete_many(self, keys: Iterable[str]) -> None:
        """Forget many keys."""
        self._store.write_many("DELETE FROM records WHERE kind = ? AND key = ?", [(self._name, key) for key in keys])

    def items(self, prefix: str = "", *, after: str | None = None) -> Iterator[tuple[str, dict[str, Json]]]:
        """Yield key and record of every key that starts with ``prefix``, in order; past ``after`` if it is given.

        Records may be changed meanwhile: each page of them is read when it is reached.
        """
        last = after
        while True:
            rows = self._page("key, value", prefix, last)
            for key, text in rows:
                yield key, json.loads(text)
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def keys(self, prefix: str = "", *, after: str | None = None) -> Iterator[str]:
        """Yield every key that starts with ``prefix``, in order, without reading the records."""
        last = after
        while True:
            rows = self._page("key", prefix, last)
            yield from (row[0] for row in rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def first_keys(self, prefix: str, count: int) -> list[str]:
        """The first ``count`` keys that start with ``prefix``."""
        return [row[0] for row in self._page("key", prefix, None, count)]

    def _page(self, columns: str, prefix: str, after: str | None, limit: int = _PAGE) -> list[tuple[str, ...]]:
        start, start_sign = (prefix, ">=") if after is None or after < prefix else (after, ">")
        rows: list[tuple[str, ...]] = self._store.query(
            f"SELECT {columns} FROM records WHERE kind = ? AND key {start_sign} ? AND key < ? "  # noqa: S608
            "ORDER BY key LIMIT ?",
            (self._name, start, prefix + _LAST, limit),
        ).fetchall()
        return rows


class Log:
    """Lines of bytes with a label each, in their order: cheaper than records for what does not stay."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def add(self, label: str, data: bytes) -> int:
        """Add a line; return its number, greater than any before that is still there."""
        row = self._store.write("INSERT INTO log (label, data) VALUES (?, ?)", (label, data)).lastrowid
        assert row is not None
        return row

    def has(self, number: int) -> bool:
        """Whether the line is there."""
        return self._store.query("SELECT 1 FROM log WHERE number = ?", (number,)).fetchone() is not None

    def delete(self, number: int) -> None:
        """Forget a line."""
        self._store.write("DELETE FROM log WHERE number = ?", (number,))

    def items(self) -> list[tuple[int, str, bytes]]:
        """Number, label and data of every line, in order."""
        return self._store.query("SELECT number, label, data FROM log ORDER BY number", ()).fetchall()


class Store:
    """The state folder of one cloud; a context manager that closes it."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self.blobs = folder / BLOBS
        self._connection = connection
        #: Open transactions, each with the savepoint that undoes it; None: nothing was written in it so far. Those that
        #: were opened without a write between them share one.
        self._open: list[str | None] = []
        self._after_commit: list[Callable[[], None]] = []

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open the state in ``folder``, which is made if it is new.

        Raises:
            StateError: the folder holds something else, state of another format, or a damaged state.
        """
        claim(folder)
        (folder / BLOBS).mkdir(mode=0o700, exist_ok=True)
        try:
            connection = sqlite3.connect(folder / DATABASE, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _damaged(folder, str(error)) from error
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise _damaged(folder, str(verdict))
            connection.execute(
                "CREATE TABLE IF NOT EXISTS records (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, "
                "PRIMARY KEY (kind, key)) WITHOUT ROWID"
            )
            connection.execute(
                "CREATE TABLE IF NOT EXISTS log (number INTEGER PRIMARY KEY AUTOINCREMENT, label TEXT NOT NULL, "
                "data BLOB NOT NULL)"
            )
            (folder / DATABASE).chmod(0o600)
        except sqlite3.Error as error:
            connection.close()
            raise _damaged(folder, str(error)) from error
        except StateError:
            connection.close()
            raise
        return cls(folder, connection)

    def table(self, name: str) -> Table:
        """The records of one kind; nothing needs to be declared."""
        return Table(self, name)

    def log(self) -> Log:
        """The one log."""
        return Log(self)

    def transaction(self, *, settles: bool = False) -> AbstractContextManager[None]:
        """All that is written inside is written together, or, after an exception, not at all.

        Nests: an inner one that fails undoes its own writes alone. Never await inside.

        Args:
            settles: what was to be called ``after_commit`` of this one is called at its end, inside the outer one: for
                an outer one that itself lets nothing be seen before it is durable (a turn of the broker).
        """
        return _Transaction(self, settles)

    def _enter(self) -> tuple[int, int]:
        """Open a transaction; return how deep it is, and how many callbacks wait already."""
        self._open.append(None)
        return len(self._open) - 1, len(self._after_commit)

    def _leave(self, depth: int, waiting: int, *, settles: bool) -> None:
        """Write down what a transaction has changed, if none around it will."""
        if settles and depth:
            self._call_back(waiting)
        point = self._open[depth]
        if point is not None and (depth == 0 or self._open[depth - 1] != point):
            self._connection.execute("COMMIT" if point == _WHOLE else f"RELEASE {point}")
        del self._open[depth:]

    def _left(self) -> None:
        """Call what waited for the outermost transaction."""
        if not self._open:
            self._call_back(0)

    def _give_up(self, depth: int, waiting: int) -> None:
        """Undo what a transaction has changed."""
        point = self._open[depth]
        del self._after_commit[waiting:]
        del self._open[depth:]
        if point is not None:
            self._open = [None if each == point else each for each in self._open]
            self._undo(point)

    def _call_back(self, start: int) -> None:
        """Call what waits from ``start`` on, and what comes to wait meanwhile."""
        while len(self._after_commit) > start:
            callbacks = self._after_commit[start:]
            del self._after_commit[start:]
            for callback in callbacks:
                _call(callback)

    def _begin(self) -> None:
        """Tell SQLite of the transactions that are open: something is about to be written."""
        if not self._open or self._open[-1] is not None:
            return
        first = self._open.index(None)
        point = f"level{first}" if first else _WHOLE
        self._connection.execute(f"SAVEPOINT {point}" if first else "BEGIN IMMEDIATE")
        self._open[first:] = [point] * (len(self._open) - first)

    def _undo(self, point: str) -> None:
        """Undo what came after a savepoint; a full disk may have ended all of it already."""
        if not self._connection.in_transaction:
            return
        if point == _WHOLE:
            self._connection.execute("ROLLBACK")
        else:
            self._connection.execute(f"ROLLBACK TO {point}")
            self._connection.execute(f"RELEASE {point}")

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once the open transaction is durable, never if it is undone; at once if none is open."""
        if self._open:
            self._after_commit.append(callback)
        else:
            callback()

    def query(self, statement: str, values: tuple[str | int | bytes, ...]) -> sqlite3.Cursor:
        """Run one statement that reads (for ``Table``)."""
        return self._connection.execute(statement, values)

    def write(self, statement: str, values: tuple[str | int | bytes, ...]) -> sqlite3.Cursor:
        """Run one statement that writes (for ``Table``)."""
        self._begin()
        return self._connection.execute(statement, values)

    def write_many(self, statement: str, values: Iterable[tuple[str, ...]]) -> None:
        """Run one statement with each of the values."""
        with self.transaction():
            self._begin()
            self._connection.executemany(statement, values)

    def close(self) -> None:
        """Close the database; what was answered is on the disk already."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Transaction:
    """What ``Store.transaction`` returns; a class, since some are opened for each message."""

    __slots__ = ("_depth", "_settles", "_store", "_waiting")

    def __init__(self, store: Store, settles: bool) -> None:
        self._store = store
        self._settles = settles

    def __enter__(self) -> None:
        self._depth, self._waiting = self._store._enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._store._give_up(self._depth, self._waiting)
            return
        try:
            self._store._leave(self._depth, self._waiting, settles=self._settles)
        except BaseException:
            self._store._give_up(self._depth, self._waiting)
            raise
        self._store._left()


def _call(callback: Callable[[], None]) -> None:
    """Call what waited for a commit; what it was about is on the disk, so its own failure is only told."""
    try:
        callback()
    except Exception:
        log.exception("after a commit")


def write_whole(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file so that it is there whole, on the disk, or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def claim(folder: Path) -> None:
    """Check the folder's mark, or put one into a folder that is new, and touch nothing else.

    Raises:
        StateError: the folder holds something else, or state of another format.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / MARK
        if mark.exists():
            _check_mark(folder, mark.read_bytes())
            return
        others = sorted(path.name for path in folder.iterdir() if not _is_ours_before_the_mark(path.name))
    except OSError as error:
        raise StateError(
            f"cannot use {folder} as the cloud's state folder: {error.strerror or error}",
            hint="choose another folder with --state",
        ) from error
    if DATABASE in others:
        raise _damaged(folder, f"{MARK} is missing")
    if others:
        raise StateError(
            f"{folder} is not a state folder of the cloud: it holds {others[0]} and no {MARK}",
            hint="choose an empty or a new folder with --state",
        )
    write_whole(mark, json.dumps({"kind": "monodon-cloud", "format": FORMAT}).encode() + b"\n")


def _is_ours_before_the_mark(name: str) -> bool:
    return name in {LOCK, READY} or name.endswith(".log") or (name.startswith(f".{MARK}.") and name.endswith(".part"))


def _check_mark(folder: Path, text: bytes) -> None:
    try:
        mark = json.loads(text)
        kind, version = mark["kind"], mark["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(folder, f"{MARK} is not readable") from error
    if kind != "monodon-cloud":
        raise StateError(f"{folder} is not a state folder of the cloud: its mark says {kind!r}")
    if version != FORMAT:
        raise StateError(
            f"the state in {folder} has format {version}; this version of Monodon reads format {FORMAT}",
            hint="use the version that wrote it, or start with another folder (--state)",
        )
    if not (folder / DATABASE).exists() and (folder / BLOBS).is_dir() and any((folder / BLOBS).iterdir()):
        raise _damaged(folder, f"{DATABASE} is missing")


def _damaged(folder: Path, reason: str) -> StateError:
    return StateError(
        f"the cloud's state in {folder} is damaged: {reason}",
        hint="restore the folder from a copy, or remove it and start anew",
    )

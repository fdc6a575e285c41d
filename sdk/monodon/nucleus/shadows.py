"""The shadows that a device keeps itself: on disk, by thing and name.

A shadow that was deleted and is made again starts at version 1, as the shadow manager's does (the cloud's goes on
counting).
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from monodon.core.json import Json
from monodon.core.shadow import DEFAULT_LIMIT_BYTES, Request, Shadow, ShadowError, Update, update

_PREFIX: Final = "shadows/"


class Records(Protocol):
    """Where shadows are kept: the nucleus's journal."""

    def get(self, key: str) -> Json | None:
        """The record, or None."""

    def items(self, prefix: str) -> Mapping[str, Json]:
        """The records whose keys start with ``prefix``."""

    def write(self, changes: Mapping[str, Json | None]) -> None:
        """Keep all the changes or none, on disk when this returns; None deletes."""


def _key(thing: str, name: str) -> str:
    return f"{_PREFIX}{thing}/{name}"


class Shadows:
    """Every shadow of the device; the classic shadow of a thing has the name ``""``.

    ``limit_bytes`` says how large a document may be, at the moment of asking.
    """

    def __init__(self, records: Records, *, limit_bytes: Callable[[], int] = lambda: DEFAULT_LIMIT_BYTES) -> None:
        self._records = records
        self._limit_bytes = limit_bytes

    def get(self, thing: str, name: str) -> Shadow:
        """Return a shadow.

        Raises:
            ShadowError: there is none (404).
        """
        record = self._records.get(_key(thing, name))
        if record is None:
            raise ShadowError(404, f"No shadow found: {thing}{f', {name}' if name else ''}")
        return Shadow.from_record(record)

    def update(self, thing: str, name: str, request: Request, now_s: int) -> Update:
        """Merge a request into a shadow, on disk when this returns.

        Raises:
            ShadowError: another version than expected (409, 400), or too large (413).
        """
        record = self._records.get(_key(thing, name))
        before = None if record is None else Shadow.from_record(record)
        changed = update(before, request, now_s, limit_bytes=self._limit_bytes())
        self._records.write({_key(thing, name): changed.shadow.to_record()})
        return changed

    def delete(self, thing: str, name: str) -> Shadow:
        """Forget a shadow and return what it was.

        Raises:
            ShadowError: there is none (404).
        """
        shadow = self.get(thing, name)
        self._records.write({_key(thing, name): None})
        return shadow

    def names(self, thing: str) -> list[str]:
        """Return the names of a thing's shadows in order, without the classic one."""
        start = _key(thing, "")
        return sorted(key.removeprefix(start) for key in self._records.items(start) if key != start)

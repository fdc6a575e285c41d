"""The device's shadows as everybody on it hears of them: each operation is told on local topics, as the shadow manager.

Source: aws.greengrass.ShadowManager, ``ipc/*RequestHandler.java``; ipc.md 4.6.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from monodon.core import shadow as shadows
from monodon.core.json import Json
from monodon.core.shadow import Shadow, ShadowError, Update
from monodon.nucleus.shadows import Shadows

#: Who publishes on the topics of shadows.
SENDER: Final = "aws.greengrass.ShadowManager"

#: Is told the thing and the name of each shadow that changed.
Watcher = Callable[[str, str], None]


class Topics(Protocol):
    """Local topics."""

    def publish(self, topic: str, message: bytes, *, sender: str) -> int:
        """Publish a message; the result counts who got it."""


def topic_prefix(thing: str, name: str) -> str:
    """Return the start of a shadow's topics, which is also what policies name."""
    return f"$aws/things/{thing}/shadow" + (f"/name/{name}" if name else "")


def json_bytes(value: Mapping[str, Json]) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class ToldShadows:
    """Gets, updates and deletes that are told on ``…/{get,update,delete}/{accepted,rejected}`` and to watchers.

    ``now_s`` is in seconds since the epoch.
    """

    def __init__(self, kept: Shadows, topics: Topics, now_s: Callable[[], int] = lambda: int(time.time())) -> None:
        self._kept = kept
        self._topics = topics
        self.now_s = now_s
        self._watchers: list[Watcher] = []

    def watch(self, watcher: Watcher) -> None:
        """Have changes told from now on."""
        self._watchers.append(watcher)

    def names(self, thing: str) -> list[str]:
        """Return the names of a thing's shadows in order, without the classic one."""
        return self._kept.names(thing)

    def find(self, thing: str, name: str) -> Shadow | None:
        """Return a shadow or None, and tell nobody."""
        try:
            return self._kept.get(thing, name)
        except ShadowError:
            return None

    def get(self, thing: str, name: str) -> dict[str, Json]:
        """Return the document of a shadow.

        Raises:
            ShadowError: there is none (404).
        """
        try:
            document = shadows.document(self._kept.get(thing, name), self.now_s())
        except ShadowError as error:
            raise self._rejected(thing, name, "get", error) from error
        self._tell(thing, name, "get/accepted", document)
        return document

    def update(self, thing: str, name: str, payload: bytes) -> Update:
        """Merge an update's payload into a shadow.

        Raises:
            ShadowError: it is no such document (400), of another version (409), or too large (413).
        """
        token = shadows.read_token(payload)
        try:
            if not payload:
                raise ShadowError(400, "Missing payload")
            updated = self._kept.update(thing, name, shadows.read_request(payload), self.now_s())
        except ShadowError as error:
            raise self._rejected(thing, name, "update", error, token) from error
        self._tell(thing, name, "update/accepted", updated.accepted)
        if updated.delta is not None:
            self._tell(thing, name, "update/delta", updated.delta)
        self._tell(thing, name, "update/documents", updated.documents)
        self._changed(thing, name)
        return updated

    def delete(self, thing: str, name: str) -> None:
        """Forget a shadow.

        Raises:
            ShadowError: there is none (404).
        """
        try:
            shadow = self._kept.delete(thing, name)
        except ShadowError as error:
            raise self._rejected(thing, name, "delete", error) from error
        self._tell(thing, name, "delete/accepted", {"version": shadow.version, "timestamp": self.now_s()})
        self._changed(thing, name)

    def _changed(self, thing: str, name: str) -> None:
        for watcher in self._watchers:
            watcher(thing, name)

    def _tell(self, thing: str, name: str, what: str, message: Mapping[str, Json]) -> None:
        self._topics.publish(f"{topic_prefix(thing, name)}/{what}", json_bytes(message), sender=SENDER)

    def _rejected(self, thing: str, name: str, verb: str, error: ShadowError, token: str | None = None) -> ShadowError:
        message: dict[str, Json] = {"code": error.code, "message": error.message, "timestamp": self.now_s()}
        self._tell(thing, name, f"{verb}/rejected", message if token is None else {**message, "clientToken": token})
        return error

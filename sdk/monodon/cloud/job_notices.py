"""What things are told of their jobs: that their list has changed, and which one is next.

A notification is made when the transaction that changed the queue ends, and leaves once it is on disk: whoever asks
because of it finds what it announced.
"""

import functools
from collections.abc import Callable
from typing import Protocol

from monodon.cloud import job_topics as topics
from monodon.cloud.job_store import JobExecution, JobStore
from monodon.cloud.store import Store
from monodon.core.json import Json


class Publish(Protocol):
    """``Broker.publish``, as far as it is used here; a payload that is a function is asked if it is wanted."""

    def __call__(self, topic: str, payload: bytes | Callable[[], bytes]) -> None: ...


class Notices:
    """Notifications and answers to things."""

    def __init__(self, store: Store, jobs: JobStore, publish: Publish, now: Callable[[], float]) -> None:
        self._store = store
        self._jobs = jobs
        self._publish = publish
        self._now = now
        self._changed: dict[tuple[str, str | None], str | None] = {}

    def expect_change(self, thing: str, namespace: str | None) -> None:
        """A thing's list of pending jobs is about to change: say so once it has."""
        key = (thing, namespace)
        if key not in self._changed:  # left over from a transaction that was undone: still as it was then
            before = self._jobs.next(thing, namespace)
            self._changed[key] = None if before is None else before.job_id
        self._store.after_commit(lambda: self._notify(key))

    def _notify(self, key: tuple[str, str | None]) -> None:
        if key not in self._changed:  # another change of the same transaction has said it
            return
        thing, namespace = key
        before = self._changed.pop(key)
        now = self._now()
        pending = self._jobs.pending(thing, namespace)
        self._publish(topics.notify_topic(thing, namespace), lambda: topics.encode(topics.notification(pending, now)))
        first = topics.first_of(pending)
        if (None if first is None else first.job_id) != before:
            self._publish(topics.notify_next_topic(thing, namespace), functools.partial(self.describe, first, now))

    def describe(
        self, execution: JobExecution | None, now: float, *, token: str | None = None, with_document: bool = True
    ) -> bytes:
        """The payload that describes an execution, its document perhaps included."""
        given: dict[str, Json] = {} if token is None else {"clientToken": token}
        payload = topics.encode({**given, **topics.answer(execution, now)})
        if execution is None or not with_document:
            return payload
        document = self._jobs.document_text(execution.job_id)
        return payload if document is None else topics.with_document(payload, document)

    def send(self, topic: str, payload: bytes) -> None:
        """Answer."""
        self._publish(topic, payload)

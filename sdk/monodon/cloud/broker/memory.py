"""What the broker does not forget when it is killed: sessions, messages for them, retained messages."""

import base64
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from monodon.cloud.broker.session import Outgoing, Session
from monodon.core.json import Json
from monodon.mqtt import Message


class Table(Protocol):
    """The part of ``store.Table`` that is used here."""

    def get(self, key: str) -> dict[str, Json] | None: ...
    def put(self, key: str, value: dict[str, Json]) -> None: ...
    def delete(self, key: str) -> bool: ...
    def items(self, prefix: str = "") -> Iterator[tuple[str, dict[str, Json]]]: ...


class Store(Protocol):
    """The part of ``store.Store`` that is used here."""

    def table(self, name: str) -> Table: ...
    def transaction(self, *, settles: bool = False) -> AbstractContextManager[None]: ...


class Memory:
    """The broker's tables; the caller holds the transaction."""

    def __init__(self, store: Store) -> None:
        self.transaction = store.transaction
        self._sessions = store.table("broker.sessions")
        self._messages = store.table("broker.messages")
        self._retained = store.table("broker.retained")
        self._wills = store.table("broker.wills")
        self._sequence = 0

    def sessions(self, *, limit: int) -> dict[str, Session]:
        """Every session on disk, with the messages that its client has not acknowledged, in order."""
        found = {key: Session.from_record(key, record, limit=limit) for key, record in self._sessions.items()}
        for key, record in self._messages.items():
            self._sequence = int(key, 16)
            session = found.get(record["client"])
            outgoing = Outgoing(
                message=read_message(record["message"]),
                subscription_ids=tuple(record["ids"]),
                expires_at=record["expires_at"],
                key=key,
            )
            if session is None or not session.offer(outgoing):
                self._messages.delete(key)
        return found

    def retained(self) -> dict[str, tuple[Message, float]]:
        """Every retained message by topic, and when it came."""
        return {topic: (read_message(record["message"]), record["at"]) for topic, record in self._retained.items()}

    def wills(self) -> list[tuple[str, dict[str, Json]]]:
        """The record of every will, by client id."""
        return list(self._wills.items())

    def keep_will(self, client_id: str, record: dict[str, Json] | None) -> None:
        """Keep the will of a client; None: it has none any more."""
        if record is None:
            self._wills.delete(client_id)
        else:
            self._wills.put(client_id, record)

    def save(self, session: Session) -> None:
        """Keep a session's subscriptions and end."""
        self._sessions.put(session.client_id, session.to_record())

    def forget(self, session: Session) -> None:
        """Drop a session with its messages."""
        for outgoing in session.pending():
            self.drop(outgoing)
        self._sessions.delete(session.client_id)

    def add(self, session: Session, outgoing: Outgoing) -> None:
        """Keep a message for a session, unless it is kept already."""
        if outgoing.key is not None:
            return
        self._sequence += 1
        outgoing.key = f"{self._sequence:016x}"
        record = {
            "client": session.client_id,
            "ids": list(outgoing.subscription_ids),
            "expires_at": outgoing.expires_at,
            "message": write_message(outgoing.message),
        }
        self._messages.put(outgoing.key, record)

    def drop(self, outgoing: Outgoing) -> None:
        """The message is acknowledged, expired, or nobody's any more."""
        if outgoing.key is not None:
            self._messages.delete(outgoing.key)
            outgoing.key = None

    def recheck(self, outgoing: Outgoing) -> bool:
        """Whether a message's record is there, after a transaction was undone; if not, it has no key any more."""
        if outgoing.key is not None and self._messages.get(outgoing.key) is None:
            outgoing.key = None
        return outgoing.key is not None

    def retain(self, message: Message, at: float) -> None:
        """Keep the last retained message of a topic; an empty one clears it."""
        if message.payload:
            self._retained.put(message.topic, {"message": write_message(message), "at": at})
        else:
            self._retained.delete(message.topic)


def write_message(message: Message) -> dict[str, Json]:
    """What is kept of a message; ``read_message`` reads it."""
    record: dict[str, Json] = {
        "topic": message.topic,
        "payload": base64.b64encode(message.payload).decode(),
        "qos": message.qos,
        "retain": message.retain,
        "payload_format": message.payload_format,
        "expiry_s": message.expiry_s,
        "content_type": message.content_type,
        "response_topic": message.response_topic,
        "user_properties": [list(pair) for pair in message.user_properties],
    }
    if message.correlation_data is not None:
        record["correlation_data"] = base64.b64encode(message.correlation_data).decode()
    return record


def read_message(record: Mapping[str, Json]) -> Message:
    """The message that ``write_message`` wrote."""
    correlation = record.get("correlation_data")
    return Message(
        topic=record["topic"],
        payload=base64.b64decode(record["payload"]),
        qos=record["qos"],
        retain=record["retain"],
        payload_format=record["payload_format"],
        expiry_s=record["expiry_s"],
        content_type=record["content_type"],
        response_topic=record["response_topic"],
        correlation_data=None if correlation is None else base64.b64decode(correlation),
        user_properties=tuple((name, value) for name, value in record["user_properties"]),
    )

"""What the broker does not forget when it is killed: sessions, messages for them, retained messages."""

import base64
import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from monodon.cloud.broker.session import Outgoing, Session
from monodon.core.json import Json
from monodon.mqtt import Message, Publish, Reader, write

_EXPIRY = struct.Struct("<d")


class Table(Protocol):
    """The part of ``store.Table`` that is used here."""

    def get(self, key: str) -> dict[str, Json] | None: ...
    def put(self, key: str, value: dict[str, Json]) -> None: ...
    def delete(self, key: str) -> bool: ...
    def items(self, prefix: str = "") -> Iterator[tuple[str, dict[str, Json]]]: ...


class Log(Protocol):
    """The part of ``store.Log`` that is used here."""

    def add(self, label: str, data: bytes) -> int: ...
    def has(self, number: int) -> bool: ...
    def delete(self, number: int) -> None: ...
    def items(self) -> list[tuple[int, str, bytes]]: ...


class Store(Protocol):
    """The part of ``store.Store`` that is used here."""

    def table(self, name: str) -> Table: ...
    def log(self) -> Log: ...
    def transaction(self, *, settles: bool = False) -> AbstractContextManager[None]: ...


class Memory:
    """The broker's tables; the caller holds the transaction."""

    def __init__(self, store: Store) -> None:
        self.transaction = store.transaction
        self._sessions = store.table("broker.sessions")
        self._messages = store.log()
        self._earlier = store.table("broker.messages")
        self._retained = store.table("broker.retained")
        self._wills = store.table("broker.wills")

    def sessions(self, *, limit: int) -> dict[str, Session]:
        """Every session on disk, with the messages that its client has not acknowledged, in order."""
        found = {key: Session.from_record(key, record, limit=limit) for key, record in self._sessions.items()}
        for key, record in self._earlier.items():  # of an earlier version
            message = read_message(record["message"])
            outgoing = Outgoing(message, tuple(record["ids"]), record["expires_at"])
            self._messages.add(record["client"], _write_outgoing(outgoing))
            self._earlier.delete(key)
        for number, client_id, data in self._messages.items():
            session = found.get(client_id)
            if session is None or not session.offer(_read_outgoing(number, data)):
                self._messages.delete(number)
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
        outgoing.key = self._messages.add(session.client_id, _write_outgoing(outgoing))

    def drop(self, outgoing: Outgoing) -> None:
        """The message is acknowledged, expired, or nobody's any more."""
        if outgoing.key is not None:
            self._messages.delete(outgoing.key)
            outgoing.key = None

    def recheck(self, outgoing: Outgoing) -> bool:
        """Whether a message's record is there, after a transaction was undone; if not, it has no key any more."""
        if outgoing.key is not None and not self._messages.has(outgoing.key):
            outgoing.key = None
        return outgoing.key is not None

    def retain(self, message: Message, at: float) -> None:
        """Keep the last retained message of a topic; an empty one clears it."""
        if message.payload:
            self._retained.put(message.topic, {"message": write_message(message), "at": at})
        else:
            self._retained.delete(message.topic)


def _write_outgoing(outgoing: Outgoing) -> bytes:
    """The PUBLISH that it will be, behind the time at which it expires."""
    expires_at = math.inf if outgoing.expires_at is None else outgoing.expires_at
    return _EXPIRY.pack(expires_at) + write(outgoing.packet(1, -math.inf))


def _read_outgoing(number: int, data: bytes) -> Outgoing:
    (expires_at,) = _EXPIRY.unpack_from(data)
    reader = Reader()
    reader.feed(memoryview(data)[_EXPIRY.size :])
    packet = reader.next_packet()
    assert isinstance(packet, Publish)
    return Outgoing(packet.message, packet.subscription_ids, None if math.isinf(expires_at) else expires_at, key=number)


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

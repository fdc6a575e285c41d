"""One client's session: what it subscribed to, what it still has to get, and in which window; pure.

A session outlives its connection for as long as the client asked. Time is an argument, in seconds since the epoch.

Source: MQTT 5.0, sections 3.3.4 (receive maximum), 4.1 (session state), 4.4 (delivery), 3.3.2.3.4 (topic alias).
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from monodon.cloud.broker.identity import Identity
from monodon.core.json import Json
from monodon.mqtt import Message, ProtocolError, Publish, Reason, Subscription

_LAST_PACKET_ID: Final = 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the broker allows one client; the defaults are those of AWS IoT Core, as far as they are known."""

    receive_maximum: int = 100
    topic_alias_maximum: int = 8
    packet_bytes: int = 149_504
    payload_bytes: int = 128 * 1024
    client_id_characters: int = 128
    filters_per_subscribe: int = 8
    subscriptions: int = 50
    keep_alive_s: int = 1200
    session_expiry_s: int = 7 * 24 * 3600
    queued_messages: int = 10_000


@dataclass(slots=True, eq=False)
class Outgoing:
    """A QoS 1 message that one client has to acknowledge; ``key`` names its record on disk once it has one."""

    message: Message
    subscription_ids: tuple[int, ...] = ()
    expires_at: float | None = None
    key: int | None = None

    def packet(self, packet_id: int, now: float, *, duplicate: bool = False) -> Publish:
        """The PUBLISH to send now, its expiry what is left of it."""
        message = self.message
        if self.expires_at is not None and now > 0:
            message = replace(message, expiry_s=max(0, round(self.expires_at - now)))
        return Publish(
            message=message, packet_id=packet_id, duplicate=duplicate, subscription_ids=self.subscription_ids
        )


class Session:
    """The state that MQTT keeps for a client id."""

    def __init__(self, client_id: str, identity: Identity, *, limit: int) -> None:
        self.client_id = client_id
        self.identity = identity
        self.expiry_s = 0
        self.ends_at: float | None = None
        self.grants: dict[str, Grant] = {}
        self.dropped = 0
        self._limit = limit
        self._queue: deque[Outgoing] = deque()
        self._inflight: dict[int, Outgoing] = {}
        self._window = 1
        self._last_packet_id = 0

    @property
    def is_persistent(self) -> bool:
        """It outlives its connection."""
        return self.expiry_s > 0

    def pending(self) -> list[Outgoing]:
        """All that the client has not acknowledged, in order."""
        return [*self._inflight.values(), *self._queue]

    def offer(self, outgoing: Outgoing) -> bool:
        """Queue a message; False when the queue is full: the newest is dropped, and counted."""
        if len(self._queue) >= self._limit:
            self.dropped += 1
            return False
        self._queue.append(outgoing)
        return True

    def next(self, now: float) -> tuple[int | None, Outgoing] | None:
        """Take the next message that fits the client's window; without a packet id: it expired, forget it."""
        if not self._queue:
            return None
        head = self._queue[0]
        if head.expires_at is not None and head.expires_at <= now:
            return None, self._queue.popleft()
        if len(self._inflight) >= self._window:
            return None
        self._queue.popleft()
        packet_id = self._free_packet_id()
        self._inflight[packet_id] = head
        return packet_id, head

    def _free_packet_id(self) -> int:
        packet_id = self._last_packet_id
        while True:
            packet_id = packet_id % _LAST_PACKET_ID + 1
            if packet_id not in self._inflight:
                self._last_packet_id = packet_id
                return packet_id

    def acknowledge(self, packet_id: int) -> Outgoing | None:
        """The client has it; None: there was no such message."""
        return self._inflight.pop(packet_id, None)

    def resume(self, window: int) -> list[tuple[int, Outgoing]]:
        """Begin a connection with the client's receive maximum; return what was sent before and is to be sent again.

        What the new window cannot hold goes back to the head of the queue.
        """
        self._window = window
        again = list(self._inflight.items())
        for packet_id, outgoing in reversed(again[window:]):
            del self._inflight[packet_id]
            self._queue.appendleft(outgoing)
        return again[:window]

    def to_record(self) -> dict[str, Json]:
        """What is kept on disk, messages apart; ``from_record`` reads it."""
        return {
            "certificate": self.identity.certificate_id,
            "things": list(self.identity.thing_names),
            "expiry_s": self.expiry_s,
            "ends_at": self.ends_at,
            "grants": [grant.to_record() for grant in self.grants.values()],
        }

    @classmethod
    def from_record(cls, client_id: str, record: Mapping[str, Json], *, limit: int) -> "Session":
        """The session that ``to_record`` wrote."""
        things = tuple(record["things"])
        identity = Identity(certificate_id=record["certificate"], thing_names=things, client_id=client_id)
        session = cls(client_id, identity, limit=limit)
        session.expiry_s, session.ends_at = record["expiry_s"], record["ends_at"]
        for each in record["grants"]:
            grant = Grant.from_record(session, each)
            session.grants[grant.subscription.topic_filter] = grant
        return session


@dataclass(frozen=True, slots=True, eq=False)
class Grant:
    """One filter that a session is subscribed to, with the QoS it was granted."""

    session: Session = field(repr=False)
    subscription: Subscription
    identifier: int | None = None

    def to_record(self) -> list[Json]:
        each = self.subscription
        options = [each.qos, each.no_local, each.retain_as_published, each.retain_handling]
        return [each.topic_filter, *options, self.identifier]

    @classmethod
    def from_record(cls, session: Session, record: list[Json]) -> "Grant":
        topic_filter, qos, no_local, as_published, handling, identifier = record
        subscription = Subscription(
            topic_filter=topic_filter,
            qos=qos,
            no_local=no_local,
            retain_as_published=as_published,
            retain_handling=handling,
        )
        return cls(session, subscription, identifier)


class Incoming:
    """What a client may send: its topic aliases, and how many QoS 1 messages before they are acknowledged."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._aliases: dict[int, str] = {}
        self._unacknowledged = 0

    def read(self, packet: Publish) -> Message:
        """Return the message with its topic in full, checked against the limits.

        Raises:
            ProtocolError: QoS 2, too many at once, too large with QoS 0 (what has a QoS is refused by its
                acknowledgement), an unknown or too high topic alias, a subscription id.
        """
        message, limits = packet.message, self._limits
        if message.qos > 1:
            raise ProtocolError("QoS 2 is not offered", Reason.QOS_NOT_SUPPORTED)
        if packet.subscription_ids:
            raise ProtocolError("a client's PUBLISH with a subscription identifier", Reason.PROTOCOL_ERROR)
        if len(message.payload) > limits.payload_bytes and not message.qos:
            text = f"a payload of {len(message.payload)} bytes, limit {limits.payload_bytes}"
            raise ProtocolError(text, Reason.PACKET_TOO_LARGE)
        if message.qos:
            self._unacknowledged += 1
            if self._unacknowledged > limits.receive_maximum:
                text = f"more than {limits.receive_maximum} unacknowledged QoS 1 publishes"
                raise ProtocolError(text, Reason.RECEIVE_MAXIMUM_EXCEEDED)
        return message if packet.topic_alias is None else self._resolve(packet.topic_alias, message)

    def _resolve(self, alias: int, message: Message) -> Message:
        if alias > self._limits.topic_alias_maximum:
            text = f"topic alias {alias}, maximum {self._limits.topic_alias_maximum}"
            raise ProtocolError(text, Reason.TOPIC_ALIAS_INVALID)
        if message.topic:
            self._aliases[alias] = message.topic
            return message
        if alias not in self._aliases:
            raise ProtocolError(f"topic alias {alias} was never set", Reason.TOPIC_ALIAS_INVALID)
        return replace(message, topic=self._aliases[alias])

    def acknowledged(self) -> None:
        """The acknowledgements so far have been sent."""
        self._unacknowledged = 0

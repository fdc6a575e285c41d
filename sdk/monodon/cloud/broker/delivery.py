"""Who gets a message, in which order and window; what a session still has to get is on disk in the same transaction.

Source: MQTT 5.0, sections 3.3 (options of a subscription), 4.4 (delivery), 4.7 (topics).
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

from monodon.cloud.broker import identity as actions
from monodon.cloud.broker.identity import Identity
from monodon.cloud.broker.memory import Memory
from monodon.cloud.broker.retained import Retained
from monodon.cloud.broker.session import Grant, Incoming, Outgoing, Session
from monodon.core.topics import Matching, Subscriptions
from monodon.mqtt import Message, Packet, Publish, Will

logger = logging.getLogger(__name__)

Authorise: TypeAlias = Callable[[Identity, str, str], bool]


class Link(Protocol):
    """The way to one client. What is sent leaves, in order, once the transaction is on disk; then ``close`` closes."""

    @property
    def is_congested(self) -> bool: ...
    def send(self, packet: Packet) -> bool: ...
    def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class Client:
    """A connection after its CONNECT."""

    link: Link = field(repr=False)
    identity: Identity
    session: Session = field(repr=False)
    incoming: Incoming = field(repr=False)
    will: Will | None = None
    wants_reasons: bool = True
    is_attached: bool = True


class Delivery:
    """From a publish to the sessions that subscribed, and from their queues to the clients that are connected.

    Args:
        sessions: those that the disk has, with what waits for them.
    """

    def __init__(self, memory: Memory, authorise: Authorise, sessions: Iterable[Session]) -> None:
        self._memory = memory
        self._authorise = authorise
        #: The connection of each client id that has one.
        self.clients: dict[str, Client] = {}
        self.retained = Retained(memory)
        self._index: Subscriptions[Grant] = Subscriptions(Matching.IOT)
        self._unsaved: dict[Outgoing, Session] = {}
        for session in sessions:
            for topic_filter, grant in session.grants.items():
                self._index.add(topic_filter, grant)

    # Subscriptions

    def add(self, grant: Grant) -> bool:
        """Subscribe; False: the session had that filter before, with other options perhaps."""
        session, topic_filter = grant.session, grant.subscription.topic_filter
        before = session.grants.get(topic_filter)
        if before is not None:
            self._index.remove(topic_filter, before)
        session.grants[topic_filter] = grant
        self._index.add(topic_filter, grant)
        return before is None

    def remove(self, session: Session, topic_filter: str) -> bool:
        """End a subscription; False: there was none."""
        grant = session.grants.pop(topic_filter, None)
        if grant is not None:
            self._index.remove(topic_filter, grant)
        return grant is not None

    def forget(self, session: Session) -> None:
        """A session is over, with its subscriptions and messages."""
        for topic_filter, grant in session.grants.items():
            self._index.remove(topic_filter, grant)
        for outgoing in session.pending():
            self._unsaved.pop(outgoing, None)
        self._memory.forget(session)

    def send_retained(self, grant: Grant, is_new: bool, now: float) -> None:
        """Hand a new subscription what its topics have retained, as far as its options ask for it."""
        wanted = grant.subscription
        if wanted.retain_handling == 2 or (wanted.retain_handling == 1 and not is_new):
            return
        for message in self.retained.matching(wanted.topic_filter, now):
            self._offer(grant.session, message, (grant,), now, is_retained=True)

    # Messages

    def is_wanted(self, topic: str) -> bool:
        """Whether anybody has subscribed to a topic."""
        return bool(self._index.matching(topic))

    def publish(self, message: Message, now: float, *, origin: Session | None = None) -> bool:
        """Hand a message to everyone who subscribed, and keep it if it is to be retained; False: nobody did."""
        if message.retain:
            self.retained.put(message, now)
        receivers: dict[Session, list[Grant]] = {}
        for grant in self._index.matching(message.topic):
            if not (grant.subscription.no_local and grant.session is origin):
                receivers.setdefault(grant.session, []).append(grant)
        for session, grants in receivers.items():
            self._offer(session, message, grants, now)
        return bool(receivers)

    def _offer(
        self,
        session: Session,
        message: Message,
        grants: list[Grant] | tuple[Grant],
        now: float,
        *,
        is_retained: bool = False,
    ) -> None:
        if not self._authorise(session.identity, actions.RECEIVE, message.topic):
            return
        qos = min(message.qos, max(grant.subscription.qos for grant in grants))
        retain = is_retained or (message.retain and any(grant.subscription.retain_as_published for grant in grants))
        if qos != message.qos or retain != message.retain:
            message = replace(message, qos=qos, retain=retain)
        ids = tuple(grant.identifier for grant in grants if grant.identifier is not None)
        client = self.clients.get(session.client_id)
        if qos == 0:
            if client is not None and not client.link.is_congested:
                client.link.send(Publish(message=message, subscription_ids=ids))
            return
        outgoing = Outgoing(message, ids, None if message.expiry_s is None else now + message.expiry_s)
        if not session.offer(outgoing):
            if session.dropped == 1:
                logger.warning("the queue of %s is full; newer messages are dropped", session.client_id)
            return
        if session.is_persistent:
            self._memory.add(session, outgoing)
        if client is not None:
            self.pump(client, now)

    def pump(self, client: Client, now: float) -> None:
        """Send what waits for this client, as far as its window and its connection allow."""
        session = client.session
        while client.is_attached and not client.link.is_congested:
            item = session.next(now)
            if item is None:
                return
            packet_id, outgoing = item
            if packet_id is None:
                self._done(outgoing)
            else:
                self._transmit(client, packet_id, outgoing, now)

    def resume(self, client: Client, window: int, now: float) -> None:
        """Send again what the client had not acknowledged when its last connection ended, then what waits."""
        for packet_id, outgoing in client.session.resume(window):
            self._transmit(client, packet_id, outgoing, now, duplicate=True)
        self.pump(client, now)

    def acknowledged(self, client: Client, packet_id: int, now: float) -> None:
        """The client has a message: another one may take its place in the window."""
        outgoing = client.session.acknowledge(packet_id)
        if outgoing is None:
            logger.debug("%s acknowledged unknown packet %d", client.identity.client_id, packet_id)
            return
        self._done(outgoing)
        self.pump(client, now)

    def _transmit(
        self, client: Client, packet_id: int, outgoing: Outgoing, now: float, *, duplicate: bool = False
    ) -> None:
        if not client.link.send(outgoing.packet(packet_id, now, duplicate=duplicate)):
            # [MQTT-3.1.2-25]: too large for this client; behave as if it had been delivered
            client.session.acknowledge(packet_id)
            self._done(outgoing)

    def _done(self, outgoing: Outgoing) -> None:
        self._unsaved.pop(outgoing, None)
        self._memory.drop(outgoing)

    # The disk

    def keep(self, session: Session) -> None:
        """The client is gone and its session stays: what it has not acknowledged is on disk."""
        for outgoing in session.pending():
            self._unsaved.pop(outgoing, None)
            self._memory.add(session, outgoing)

    def undone(self, sessions: Iterable[Session]) -> None:
        """A transaction was not written: what is believed to be on the disk is looked up, and written again in time."""
        for session in sessions:
            if session.is_persistent:
                self._unsaved.update((each, session) for each in session.pending() if not self._memory.recheck(each))

    def tick(self, now: float) -> None:
        """Forget what has expired, and write again what ``undone`` found missing."""
        self.retained.expire(now)
        for outgoing, session in list(self._unsaved.items()):
            del self._unsaved[outgoing]
            self._memory.add(session, outgoing)

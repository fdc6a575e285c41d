"""Everything between clients: sessions, subscriptions, retained messages, wills; who gets what, and who may.

Packets come in with the client they are from, packets go out by a ``Link``; sockets and clocks are the server's. All of
one call's writes belong to the transaction that the server holds, and what a ``Link`` is given leaves after the commit.

Source: MQTT 5.0; AWS IoT Core developer guide, "MQTT" (limits, policy actions, reserved topics).
"""

import logging
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from monodon.cloud.broker import identity as actions
from monodon.cloud.broker.delivery import Authorise, Client, Delivery, Link
from monodon.cloud.broker.identity import Identity
from monodon.cloud.broker.memory import Memory
from monodon.cloud.broker.session import Grant, Incoming, Limits, Session
from monodon.cloud.broker.wills import Wills
from monodon.core.topics import iot_limit_problem, iot_matches, split_shared
from monodon.mqtt import (
    ConnAck,
    Connect,
    Disconnect,
    Message,
    Packet,
    PingReq,
    PingResp,
    ProtocolError,
    PubAck,
    Publish,
    Reason,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Will,
)

__all__ = ["Authorise", "Client", "Exchange", "Handler", "Link"]

logger = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[Identity, str, bytes], None]

_RESERVED = "$aws/"


class Exchange:
    """The rules of the broker, for all clients together."""

    def __init__(
        self,
        memory: Memory,
        authorise: Authorise,
        *,
        limits: Limits,
        now: float,
        on_presence: Callable[[str], None] = lambda client_id: None,
    ) -> None:
        self.limits = limits
        self._on_presence = on_presence
        self._memory = memory
        self._authorise = authorise
        self._handlers: list[tuple[str, Handler]] = []
        with memory.transaction():
            self._sessions = memory.sessions(limit=limits.queued_messages)
            self._wills = Wills(memory, now)
            self.delivery = Delivery(memory, authorise, self._sessions.values())
        for session in self._sessions.values():
            if session.ends_at is None:  # it was connected when the broker was killed
                session.ends_at = now + session.expiry_s

    def reserve(self, topic_filter: str, handler: Handler) -> None:
        """Let ``handler`` answer what clients publish on ``$aws/`` topics under the filter; the first one wins."""
        self._handlers.append((topic_filter, handler))

    def answer(self, identity: Identity, topic: str, payload: bytes) -> None:
        """Let the handler of a reserved topic answer what was said without a connection; other topics have none."""
        handler = self._handler(topic)
        if handler is not None:
            handler(identity, topic, payload)

    def client(self, client_id: str) -> Client | None:
        """The connection of a client id, if it has one."""
        return self.delivery.clients.get(client_id)

    # Connecting

    def connect(self, link: Link, packet: Connect, identity: Identity | None, now: float) -> Client | None:
        """Answer a CONNECT; None: it was refused and the link closed."""
        limits = self.limits
        assigned = None if packet.client_id else f"auto-{uuid.uuid4()}"
        client_id = packet.client_id or str(assigned)
        identity = None if identity is None else identity.of_client(client_id)
        reason = self._connect_refusal(packet, client_id, identity)
        if reason is not None or identity is None:
            reason = reason or Reason.NOT_AUTHORIZED
            logger.warning("refused MQTT client %r: %s", client_id, reason.name)
            link.send(ConnAck(reason=reason))
            link.close()
            return None
        before = self.delivery.clients.get(client_id)
        if before is not None:
            logger.info("MQTT client %s connected again; the connection before it ends", client_id)
            before.link.send(Disconnect(reason=Reason.SESSION_TAKEN_OVER))
            self.detach(before, now)
            before.link.close()
        session, is_present = self._take_session(client_id, identity, packet, now)
        client = Client(link, identity, session, Incoming(limits), packet.will, packet.request_problem_information)
        self.delivery.clients[client_id] = client
        keep_alive_s = self.keep_alive_s(packet)
        acknowledgement = ConnAck(
            session_present=is_present,
            session_expiry_s=session.expiry_s if session.expiry_s != packet.session_expiry_s else None,
            assigned_client_id=assigned,
            server_keep_alive_s=keep_alive_s if keep_alive_s != packet.keep_alive_s else None,
            receive_maximum=limits.receive_maximum,
            topic_alias_maximum=limits.topic_alias_maximum,
            maximum_qos=1,
            maximum_packet_size=limits.packet_bytes,
            shared_subscriptions=False,
        )
        link.send(acknowledgement)
        logger.info("MQTT client %s connected (session %s)", client_id, "resumed" if is_present else "new")
        self.delivery.resume(client, packet.receive_maximum, now)
        self._on_presence(client_id)
        return client

    def keep_alive_s(self, packet: Connect) -> int:
        """The keep-alive that holds: the client's own, unless it has none or a longer one than is offered."""
        return min(packet.keep_alive_s or self.limits.keep_alive_s, self.limits.keep_alive_s)

    def _connect_refusal(self, packet: Connect, client_id: str, identity: Identity | None) -> Reason | None:
        if packet.authentication_method is not None:
            return Reason.BAD_AUTHENTICATION_METHOD
        if len(client_id) > self.limits.client_id_characters:
            return Reason.CLIENT_ID_NOT_VALID
        if packet.will is not None and packet.will.message.qos > 1:
            return Reason.QOS_NOT_SUPPORTED
        if identity is None or not self._authorise(identity, actions.CONNECT, client_id):
            return Reason.NOT_AUTHORIZED
        return None

    def _take_session(self, client_id: str, identity: Identity, packet: Connect, now: float) -> tuple[Session, bool]:
        will = self._wills.take(client_id)
        session = self._sessions.get(client_id)
        if session is not None and (packet.clean_start or _has_ended(session, now)):
            self._end(session)
            if will is not None:
                self._publish_will(will.will, will.identity, now)
            session = None
        is_present = session is not None
        if session is None:
            session = Session(client_id, identity, limit=self.limits.queued_messages)
            self._sessions[client_id] = session
        was_persistent = session.is_persistent
        session.identity, session.ends_at = identity, None
        session.expiry_s = min(packet.session_expiry_s, self.limits.session_expiry_s)
        if session.is_persistent:
            self._memory.save(session)
        elif was_persistent:
            self._memory.forget(session)
        if packet.will is not None:
            self._wills.connected(client_id, packet.will, identity)
        return session, is_present

    def detach(self, client: Client, now: float, *, with_will: bool = True) -> None:
        """A connection is over: its session waits or ends, its will is published in time. Safe to call twice."""
        if not client.is_attached:
            return
        client.is_attached = False
        session = client.session
        if self.delivery.clients.get(session.client_id) is client:
            del self.delivery.clients[session.client_id]
            self._on_presence(session.client_id)
        if client.will is not None:
            delay_s = min(client.will.delay_s, session.expiry_s) if with_will else 0
            if delay_s:
                self._wills.delay(session.client_id, client.will, client.identity, now + delay_s)
            else:
                self._wills.drop(session.client_id)
            if with_will and not delay_s:
                self._publish_will(client.will, client.identity, now)
        client.will = None
        if session.is_persistent:
            session.ends_at = now + session.expiry_s
            self._memory.save(session)
            self.delivery.keep(session)
        else:
            self._end(session)

    def _end(self, session: Session) -> None:
        self.delivery.forget(session)
        if self._sessions.get(session.client_id) is session:
            del self._sessions[session.client_id]

    def _publish_will(self, will: Will, identity: Identity, now: float) -> None:
        if self._authorise(identity, actions.PUBLISH, will.message.topic):
            self.delivery.publish(will.message, now)
        else:
            logger.warning("the will of %s is not allowed on %s", identity.client_id, will.message.topic)

    # What a client sends

    def receive(self, client: Client, packet: Packet, now: float) -> None:
        """Act on a packet of a connected client.

        Raises:
            ProtocolError: it must not send that; the caller ends the connection.
        """
        if isinstance(packet, Publish):
            self._publish_of(client, packet, now)
        elif isinstance(packet, PubAck):
            self.delivery.acknowledged(client, packet.packet_id, now)
        elif isinstance(packet, PingReq):
            client.link.send(PingResp())
        elif isinstance(packet, Subscribe):
            self._subscribe(client, packet, now)
        elif isinstance(packet, Unsubscribe):
            self._unsubscribe(client, packet)
        elif isinstance(packet, Disconnect):
            self._disconnect(client, packet, now)
        else:
            raise ProtocolError(f"a {type(packet).__name__} from a connected client", Reason.PROTOCOL_ERROR)

    def _disconnect(self, client: Client, packet: Disconnect, now: float) -> None:
        session = client.session
        if packet.session_expiry_s is not None:
            if packet.session_expiry_s and not session.expiry_s:
                raise ProtocolError("a session that was to end cannot be kept", Reason.PROTOCOL_ERROR)
            was_persistent = session.is_persistent
            session.expiry_s = min(packet.session_expiry_s, self.limits.session_expiry_s)
            if was_persistent and not session.is_persistent:
                self._memory.forget(session)
        self.detach(client, now, with_will=packet.reason is not Reason.SUCCESS)
        client.link.close()

    def _publish_of(self, client: Client, packet: Publish, now: float) -> None:
        message = client.incoming.read(packet)
        reason, text = self._accept(client, message, now)
        if reason >= Reason.UNSPECIFIED_ERROR:
            logger.warning("publish of %s on %s refused: %s", client.identity.client_id, message.topic, text)
        if packet.packet_id is not None:
            text = text if client.wants_reasons else None  # [MQTT-3.1.2-29]
            client.link.send(PubAck(packet_id=packet.packet_id, reason=reason, reason_text=text))

    def _accept(self, client: Client, message: Message, now: float) -> tuple[Reason, str | None]:
        problem = iot_limit_problem(message.topic)
        if problem is not None:
            return Reason.TOPIC_NAME_INVALID, problem
        if len(message.payload) > self.limits.payload_bytes:  # were it a DISCONNECT, the client would send it again
            text = f"a payload of {len(message.payload)} bytes, limit {self.limits.payload_bytes}"
            return Reason.QUOTA_EXCEEDED, text
        for action in (actions.PUBLISH, actions.RETAIN_PUBLISH)[: 1 + message.retain]:
            if not self._authorise(client.identity, action, message.topic):
                return Reason.NOT_AUTHORIZED, f"no policy allows {action} on this topic"
        handler = self._handler(message.topic)
        if handler is not None:
            return self._answer(client, handler, message)
        is_wanted = self.delivery.publish(message, now, origin=client.session)
        return (Reason.SUCCESS if is_wanted else Reason.NO_MATCHING_SUBSCRIBERS), None

    def _handler(self, topic: str) -> Handler | None:
        if not topic.startswith(_RESERVED):
            return None
        return next((each for topic_filter, each in self._handlers if iot_matches(topic_filter, topic)), None)

    def _answer(self, client: Client, handler: Handler, message: Message) -> tuple[Reason, str | None]:
        try:
            with self._memory.transaction(settles=True):
                handler(client.identity, message.topic, message.payload)
        except Exception:
            logger.exception("the cloud failed to answer %s on %s", client.identity.client_id, message.topic)
            return Reason.UNSPECIFIED_ERROR, "the cloud failed to answer"
        return Reason.SUCCESS, None

    # Subscriptions

    def _subscribe(self, client: Client, packet: Subscribe, now: float) -> None:
        session, granted, reasons = client.session, [], []
        for position, wanted in enumerate(packet.subscriptions):
            reason = self._subscribe_refusal(client, wanted, position)
            if reason is None:
                wanted = replace(wanted, qos=min(wanted.qos, 1))
                grant = Grant(session, wanted, packet.subscription_id)
                granted.append((grant, self.delivery.add(grant)))
                reason = Reason.GRANTED_QOS_1 if wanted.qos else Reason.SUCCESS
            else:
                logger.warning("subscribe of %s to %s refused: %s", session.client_id, wanted.topic_filter, reason.name)
            reasons.append(reason)
        if granted and session.is_persistent:
            self._memory.save(session)
        client.link.send(SubAck(packet_id=packet.packet_id, reasons=tuple(reasons)))
        for grant, is_new in granted:
            self.delivery.send_retained(grant, is_new, now)

    def _subscribe_refusal(self, client: Client, wanted: Subscription, position: int) -> Reason | None:
        limits, grants = self.limits, client.session.grants
        if position >= limits.filters_per_subscribe:
            return Reason.QUOTA_EXCEEDED
        if len(grants) >= limits.subscriptions and wanted.topic_filter not in grants:
            return Reason.QUOTA_EXCEEDED
        if split_shared(wanted.topic_filter)[0] is not None:
            return Reason.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
        if iot_limit_problem(wanted.topic_filter) is not None:
            return Reason.TOPIC_FILTER_INVALID
        if not self._authorise(client.identity, actions.SUBSCRIBE, wanted.topic_filter):
            return Reason.NOT_AUTHORIZED
        return None

    def _unsubscribe(self, client: Client, packet: Unsubscribe) -> None:
        session, reasons = client.session, []
        for topic_filter in packet.topic_filters:
            was_there = self.delivery.remove(session, topic_filter)
            reasons.append(Reason.SUCCESS if was_there else Reason.NO_SUBSCRIPTION_EXISTED)
        if session.is_persistent:
            self._memory.save(session)
        client.link.send(UnsubAck(packet_id=packet.packet_id, reasons=tuple(reasons)))

    # Time

    def undone(self) -> None:
        """A transaction was not written: what is believed to be on the disk is looked up, and written again in time."""
        self.delivery.undone(self._sessions.values())

    def tick(self, now: float) -> None:
        """Publish wills that are due, end sessions whose time is up, forget retained messages that have expired."""
        for testament in self._wills.due(now):
            self._publish_will(testament.will, testament.identity, now)
        self.delivery.tick(now)
        for session in [each for each in self._sessions.values() if _has_ended(each, now)]:
            logger.info("the session of MQTT client %s expired", session.client_id)
            self._end(session)


def _has_ended(session: Session, now: float) -> bool:
    return session.ends_at is not None and session.ends_at <= now

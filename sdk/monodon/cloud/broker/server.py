"""The MQTT 5 broker of the embedded cloud: sockets, TLS and time around the rules in ``exchange``.

Work is done in turns. Whatever arrived since the last one (bytes of any client, messages of the cloud itself) is
handled in its order inside one transaction of the store; what it gives to send leaves after the commit. So an
acknowledgement never overtakes the disk, and a busy broker pays for one ``fsync`` where many clients wait for it. What
the cloud's other parts do inside ``turn`` is on the disk together with what they publish because of it.
"""

import asyncio
import logging
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

from monodon.cloud.broker.connection import Connection, SmallTls
from monodon.cloud.broker.exchange import Authorise, Client, Exchange, Handler
from monodon.cloud.broker.identity import Identity
from monodon.cloud.broker.memory import Memory, Store
from monodon.cloud.broker.session import Limits
from monodon.deadlines import timeout
from monodon.errors import NetworkError
from monodon.mqtt import ConnAck, Connect, Disconnect, Message, Packet, ProtocolError, Reason

logger = logging.getLogger(__name__)

#: What AWS's clients offer when they come by port 443, and the registered name of MQTT.
ALPN: Final = ("x-amzn-mqtt-ca", "mqtt")
CONNECT_WITHIN_S: Final = 10.0
TICK_S: Final = 1.0
STOP_WITHIN_S: Final = 2.0
#: A turn takes what has arrived, but not for longer than this, so that others are answered meanwhile.
_TURN_S: Final = 0.04
#: Whoever speaks by the API: no certificate, no connection.
_NOBODY: Final = Identity(certificate_id="")


class Broker:
    """An MQTT 5 server for clients with certificates, and the cloud's own hand in what they say.

    Args:
        store: where sessions, queued and retained messages are kept (``cloud.store.Store``).
        authenticate: a client certificate in DER to its identity, None if it may not connect.
        authorise: whether an identity may do an action (``iot:Publish`` …) on a client id, topic or filter.
        now: seconds since the epoch.
        on_presence: told of each client id that has connected or gone, in the turn in which it did.
    """

    def __init__(
        self,
        *,
        store: Store,
        authenticate: Callable[[bytes], Identity | None],
        authorise: Authorise,
        now: Callable[[], float] = time.time,
        limits: Limits | None = None,
        on_presence: Callable[[str], None] = lambda client_id: None,
    ) -> None:
        self.limits = limits or Limits()
        self.authenticate = authenticate
        self._now = now
        self._store = store
        self._exchange = Exchange(Memory(store), authorise, limits=self.limits, now=now(), on_presence=on_presence)
        self._inbox: deque[Callable[[float], None]] = deque()
        self._touched: dict[Connection, None] = {}
        self._connections: set[Connection] = set()
        self._clients: dict[Connection, Client] = {}
        self._is_scheduled = False
        self._in_turn = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._all_gone: asyncio.Event | None = None
        self._ticker: asyncio.TimerHandle

    # The cloud's side

    def publish(
        self,
        topic: str,
        payload: bytes | Callable[[], bytes],
        qos: int = 1,
        retain: bool = False,
        *,
        user_properties: tuple[tuple[str, str], ...] = (),
        message_expiry_s: int | None = None,
        content_type: str | None = None,
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
        payload_format: int = 0,
    ) -> None:
        """Publish as the cloud itself: in this turn, or in the next one if none is running.

        Persistent sessions, connected or away, have it on disk by the end of the turn. A ``payload`` that is a function
        is asked only if somebody has subscribed.
        """

        def publish(now: float) -> None:
            if callable(payload) and not self._exchange.delivery.is_wanted(topic):
                return
            message = Message(
                topic=topic,
                payload=payload() if callable(payload) else payload,
                qos=min(qos, 1),
                retain=retain,
                payload_format=payload_format,
                expiry_s=message_expiry_s,
                content_type=content_type,
                response_topic=response_topic,
                correlation_data=correlation_data,
                user_properties=user_properties,
            )
            self._exchange.delivery.publish(message, now)

        if self._in_turn:
            publish(self._now())
        else:
            self.enqueue(publish)

    def reserve(self, prefix_filter: str, handler: Handler) -> None:
        """Let ``handler(identity, topic, payload)`` answer what clients publish on these ``$aws/`` topics.

        It is called in the order in which messages came, inside the turn's transaction, and before any later message of
        the same client. What it publishes leaves after the commit. An exception undoes its own writes.
        """
        self._exchange.reserve(prefix_filter, handler)

    def answer(self, topic: str, payload: bytes) -> None:
        """Have a reserved topic's handler answer a request that came by the API, in this turn."""
        self._exchange.answer(_NOBODY, topic, payload)

    def retained(self) -> dict[str, tuple[Message, float]]:
        """Retained messages by topic, and when each was published (seconds since the epoch)."""
        return self._exchange.delivery.retained.all(self._now())

    def is_connected(self, client_id: str) -> bool:
        """Whether a client with this id is connected now."""
        return self._exchange.client(client_id) is not None

    def disconnect(self, client_id: str, reason: Reason = Reason.ADMINISTRATIVE_ACTION) -> bool:
        """End a client's connection (its certificate was revoked, say); False: it has none."""
        client = self._exchange.client(client_id)
        if client is None:
            return False
        self.enqueue(lambda now: self._end(client, now, reason, "by the cloud"))
        return True

    def disconnect_certificate(self, certificate_id: str, reason: Reason = Reason.NOT_AUTHORIZED) -> None:
        """End every connection of a certificate that is no longer active."""
        clients = [each for each in self._clients.values() if each.identity.certificate_id == certificate_id]
        for client in clients:
            self.disconnect(client.identity.client_id, reason)

    # Turns

    def enqueue(self, work: Callable[[float], None]) -> None:
        """Add to the next turn; ``work`` gets the time."""
        self._inbox.append(work)
        self._schedule()

    def _schedule(self) -> None:
        if self._inbox and not self._is_scheduled and self._loop is not None:
            self._is_scheduled = True
            self._loop.call_soon(self._scheduled_turn)

    def _scheduled_turn(self) -> None:
        self._is_scheduled = False
        self._turn()
        self._schedule()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A turn for the cloud's own work, or a part of the one that is running. Never await inside.

        What the work wrote, and what it published after that, is in one transaction: on disk at its end, or, after an
        exception, not at all. Only then do messages leave.
        """
        if self._in_turn:
            with self._store.transaction():
                yield
            return
        is_done = False
        try:
            with self._settling(), self._store.transaction(), self._store.transaction(settles=True):
                yield
                is_done = True
        except BaseException:
            if is_done:
                self._exchange.undone()
            raise

    def _turn(self) -> None:
        now = self._now()
        try:
            with self._settling(), self._store.transaction():
                ends = time.perf_counter() + _TURN_S
                while self._inbox and time.perf_counter() < ends:
                    self._work(self._inbox.popleft(), now)
        except Exception:
            logger.exception("the broker could not write its state; the clients it concerns are disconnected")
            self._exchange.undone()

    @contextmanager
    def _settling(self) -> Iterator[None]:
        """Let go, after the transaction inside, what was sent in the turn; nothing of it if that was undone."""
        self._in_turn = True
        try:
            yield
        except BaseException:
            # nothing of this turn is on the disk: none of its acknowledgements may leave
            for connection in self._touched:
                connection.abort()
            raise
        finally:
            self._in_turn = False
            touched, self._touched = self._touched, {}
        for connection in touched:
            connection.flush()

    def _work(self, work: Callable[[float], None], now: float) -> None:
        try:
            work(now)
        except Exception:
            logger.exception("the broker failed on a message")

    # One connection

    def touched(self, connection: Connection) -> None:
        """Remember to flush a connection after the commit."""
        self._touched[connection] = None

    def opened(self, connection: Connection) -> None:
        """A TLS handshake is done."""
        self._connections.add(connection)

    def received(self, connection: Connection, data: bytes, now: float) -> None:
        """Handle bytes of one client, in a turn."""
        connection.reader.feed(data)
        try:
            for packet in connection.reader.packets():
                if connection.is_closing:
                    return
                self._packet(connection, packet, now)
        except ProtocolError as error:
            self._refuse(connection, error, now)
        except Exception:
            logger.exception("the broker failed on a packet of %s", connection.name)
            self._refuse(connection, ProtocolError("a fault of the broker", Reason.UNSPECIFIED_ERROR), now)

    def _packet(self, connection: Connection, packet: Packet, now: float) -> None:
        client = self._clients.get(connection)
        if client is not None:
            self._exchange.receive(client, packet, now)
            return
        if not isinstance(packet, Connect):
            raise ProtocolError(f"a {type(packet).__name__} before CONNECT", Reason.PROTOCOL_ERROR)
        connection.name = packet.client_id or connection.name
        connection.maximum_bytes = packet.maximum_packet_size
        connection.keep_alive_s = self._exchange.keep_alive_s(packet)
        client = self._exchange.connect(connection, packet, connection.identity, now)
        if client is not None:
            self._clients[connection] = client

    def flushed(self, connection: Connection) -> None:
        """What a client waited for has left."""
        client = self._clients.get(connection)
        if client is not None:
            client.incoming.acknowledged()

    def relieved(self, connection: Connection) -> None:
        """A slow client has taken what was sent to it."""
        client = self._clients.get(connection)
        if client is not None:
            self.enqueue(lambda now: self._exchange.delivery.pump(client, now))

    def lost(self, connection: Connection) -> None:
        """A connection is gone, whoever ended it."""
        self._connections.discard(connection)
        client = self._clients.pop(connection, None)
        if client is not None:
            self.enqueue(lambda now: self._exchange.detach(client, now))
        if not self._connections and self._all_gone is not None:
            self._all_gone.set()

    def _refuse(self, connection: Connection, error: ProtocolError, now: float) -> None:
        """Say what was wrong in the words of where the connection stands, and close it."""
        logger.warning("closing the connection of %s: %s", connection.name, error)
        client = self._clients.get(connection)
        if client is not None:
            self._end(client, now, error.reason, str(error))
        elif error.protocol_level is not None and error.protocol_level < 5:
            logger.warning("%s speaks an older MQTT; this broker speaks MQTT 5 alone", connection.name)
            connection.refuse_old_version()
        else:
            connection.send(ConnAck(reason=_connack_reason(error.reason), reason_text=str(error)))
            connection.close()

    def _end(self, client: Client, now: float, reason: Reason, text: str) -> None:
        if client.is_attached:
            client.link.send(Disconnect(reason=reason, reason_text=text[:200]))
            self._exchange.detach(client, now)
            client.link.close()

    # Running

    @asynccontextmanager
    async def listen(self, host: str, port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
        """Serve until the block ends; yields the port (0 picks one). The context has the CA and asks for certificates.

        Raises:
            NetworkError: the port is taken, or the host is none of ours.
        """
        loop = self._loop = asyncio.get_running_loop()
        context.set_alpn_protocols(list(ALPN))
        listener = _bind(host, port)
        self._all_gone = asyncio.Event()
        server = await loop.create_server(
            lambda: SmallTls(loop, Connection(self, loop), context), sock=listener, backlog=1024
        )
        self._schedule()
        self._ticker = loop.call_later(TICK_S, self._tick_again, loop)
        try:
            yield listener.getsockname()[1]
        finally:
            server.close()  # ``async with server`` waits for the clients to leave by themselves, since Python 3.12.1
            self._ticker.cancel()
            await self._stop()
            self._loop = None

    def _tick_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ticker = loop.call_later(TICK_S, self._tick_again, loop)
        self.enqueue(self.tick)

    def tick(self, now: float) -> None:
        """Do what time asks for: keep-alives, wills, session ends."""
        assert self._loop is not None
        clock = self._loop.time()
        for connection in list(self._connections):
            client = self._clients.get(connection)
            if client is None:
                if clock - connection.opened_at > CONNECT_WITHIN_S:
                    logger.info("%s sent no CONNECT", connection.name)
                    connection.abort()
            elif connection.is_silent(clock):
                logger.info("MQTT client %s was silent for longer than its keep-alive", connection.name)
                self._end(client, now, Reason.KEEP_ALIVE_TIMEOUT, "keep-alive")
        self._exchange.tick(now)

    def _finish(self) -> None:
        """Do now what waits for the next turn."""
        while self._inbox:
            self._turn()

    async def _stop(self) -> None:
        """Say good-bye, write everything down, and leave no socket open."""

        def leave(now: float) -> None:
            for client in list(self._clients.values()):
                client.link.send(Disconnect(reason=Reason.SERVER_SHUTTING_DOWN))
                self._exchange.detach(client, now, with_will=False)
                client.link.close()

        self.enqueue(leave)
        self._finish()
        assert self._all_gone is not None
        for connection in list(self._connections):
            connection.close()
            connection.flush()
        if self._connections:
            with suppress(TimeoutError):
                async with timeout(STOP_WITHIN_S):
                    await self._all_gone.wait()
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)
        self._finish()


def _connack_reason(reason: Reason) -> Reason:
    """A reason that a CONNACK can carry."""
    known = {Reason.MALFORMED_PACKET, Reason.PROTOCOL_ERROR, Reason.UNSUPPORTED_PROTOCOL_VERSION}
    known |= {Reason.PACKET_TOO_LARGE, Reason.TOPIC_NAME_INVALID, Reason.UNSPECIFIED_ERROR}
    return reason if reason in known else Reason.PROTOCOL_ERROR


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise NetworkError(f"cannot listen on {host}: {error.strerror or error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise NetworkError(
            f"cannot listen for MQTT on {host}:{port}: {error.strerror or error}",
            hint="choose another port with --mqtt-port; 0 picks a free one",
        ) from error
    return listener

"""One MQTT 5 connection of a simulated device: TLS with buffers that fit ten thousand of them, packets in and out."""

import asyncio
import logging
import socket
import ssl
from asyncio import sslproto
from collections.abc import Iterable
from typing import Final, Protocol

from monodon.errors import NetworkError
from monodon.mqtt import (
    ConnAck,
    Connect,
    Disconnect,
    Message,
    Packet,
    PingReq,
    ProtocolError,
    PubAck,
    Publish,
    Reader,
    Reason,
    SubAck,
    Subscribe,
    Subscription,
    write,
)
from monodon.simulator.talk import Outgoing

log = logging.getLogger(__name__)

HANDSHAKE_WITHIN_S: Final = 30
CLOSE_WITHIN_S: Final = 2
LIMIT_BYTES: Final = 1024 * 1024
_SUBSCRIBE_ID: Final = 1
_LAST_PACKET_ID: Final = 0xFFFF


class Owner(Protocol):
    """Whose connection it is (``fleet.Member``)."""

    def opened(self) -> None: ...
    def message(self, topic: str, payload: bytes) -> None: ...
    def taken(self, receipt: int) -> None: ...
    def lost(self, why: str) -> None: ...


class SmallTls(sslproto.SSLProtocol):
    """asyncio's TLS for a client, with buffers of 16 KiB instead of 256."""

    max_size = 16 * 1024

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.Protocol,
        context: ssl.SSLContext,
        server_name: str,
        shaken: "asyncio.Future[None]",
    ) -> None:
        super().__init__(
            loop,
            protocol,
            context,
            shaken,
            server_side=False,
            server_hostname=server_name,
            ssl_handshake_timeout=HANDSHAKE_WITHIN_S,
            ssl_shutdown_timeout=CLOSE_WITHIN_S,
        )


class Connection(asyncio.Protocol):
    """From the first CONNECT to the last byte. The owner hears of it once the filters are subscribed to."""

    __slots__ = ("_filters", "_hello", "_is_open", "_next_id", "_out", "_owner", "_reader", "_receipts", "_transport")

    def __init__(self, owner: Owner, hello: Connect, filters: Iterable[str]) -> None:
        self._owner = owner
        self._hello = hello
        self._filters = tuple(filters)
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(limit_bytes=LIMIT_BYTES)
        self._out: list[bytes] = []
        self._receipts: dict[int, int] = {}
        self._next_id = _SUBSCRIBE_ID
        self._is_open = False

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wanted = tuple(Subscription(topic_filter=each, qos=1) for each in self._filters)
        # MQTT 5.0, section 3.1.4: a client need not wait for the CONNACK.
        transport.write(write(self._hello) + write(Subscribe(packet_id=_SUBSCRIBE_ID, subscriptions=wanted)))

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while self._transport is not None and (packet := self._reader.next_packet()) is not None:
                self._packet(packet)
        except NetworkError as error:  # a ProtocolError, or a refusal
            self._end(str(error))
        else:
            self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"the connection was lost ({exc})" if exc else "the cloud closed the connection")

    # Packets

    def _packet(self, packet: Packet) -> None:
        if isinstance(packet, Publish):
            if packet.packet_id is not None:
                self._out.append(write(PubAck(packet_id=packet.packet_id)))
            self._owner.message(packet.message.topic, packet.message.payload)
        elif isinstance(packet, PubAck):
            receipt = self._receipts.pop(packet.packet_id, 0)
            if packet.reason >= Reason.UNSPECIFIED_ERROR:
                log.warning("%s: a publish was refused: %s", self._hello.client_id, packet.reason.name)
            if receipt:
                self._owner.taken(receipt)
        elif isinstance(packet, ConnAck):
            if packet.reason is not Reason.SUCCESS:
                raise NetworkError(f"the cloud refused the connection: {packet.reason.name}")
        elif isinstance(packet, SubAck):
            self._subscribed(packet)
        elif isinstance(packet, Disconnect):
            raise NetworkError(f"the cloud ended the connection: {packet.reason.name}")

    def _subscribed(self, packet: SubAck) -> None:
        for topic_filter, reason in zip(self._filters, packet.reasons, strict=False):
            if reason >= Reason.UNSPECIFIED_ERROR:
                raise NetworkError(f"the cloud refused the filter {topic_filter}: {reason.name}")
        self._is_open = True
        self._owner.opened()

    # What the owner calls

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._is_open

    def send(self, messages: Iterable[Outgoing]) -> int:
        """Publish, with QoS 1, when ``flush`` is called; return how many."""
        count = 0
        for topic, payload, receipt in messages:
            self._next_id = self._next_id % _LAST_PACKET_ID + 1
            if receipt:
                self._receipts[self._next_id] = receipt
            message = Message(topic=topic, payload=payload, qos=1)
            try:
                self._out.append(write(Publish(message=message, packet_id=self._next_id)))
            except ProtocolError:
                log.exception("a message on %s cannot be written", topic)
            count += 1
        return count

    def flush(self) -> None:
        """Write what was sent."""
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def ping(self) -> None:
        """Say that this end is still there."""
        if self._transport is not None:
            self._transport.write(write(PingReq()))

    def leave(self) -> None:
        """Say good-bye for good: the session ends, too."""
        if self._transport is not None:
            self._transport.write(write(Disconnect(session_expiry_s=0)))
            self._transport.close()

    def cut(self) -> None:
        """Be gone, as a device that loses its network."""
        self._end("cut")

    def _end(self, why: str) -> None:
        transport, self._transport = self._transport, None
        self._out.clear()
        if transport is not None:
            self._is_open = False
            transport.abort()
            self._owner.lost(why)

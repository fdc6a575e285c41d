"""One TLS connection of the broker: bytes to the next turn, packets out after it."""

import asyncio
import logging
import socket
import ssl
from asyncio import sslproto
from collections.abc import Callable
from typing import Any, Final, Protocol

from monodon.cloud.broker.identity import Identity
from monodon.mqtt import REFUSE_OLD_VERSION, Packet, ProtocolError, Reader, write

logger = logging.getLogger(__name__)

#: A client that leaves this much unread gets no more until it has taken some, and is not read from meanwhile.
CONGESTED_BYTES: Final = 256 * 1024
HANDSHAKE_WITHIN_S: Final = 10
CLOSE_WITHIN_S: Final = 2


class Turns(Protocol):
    """What a connection asks of the broker (``server.Broker``)."""

    @property
    def limits(self) -> "HasPacketLimit": ...
    def authenticate(self, certificate: bytes) -> Identity | None: ...
    def enqueue(self, work: Callable[[float], None]) -> None: ...
    def opened(self, connection: "Connection") -> None: ...
    def received(self, connection: "Connection", data: bytes, now: float) -> None: ...
    def touched(self, connection: "Connection") -> None: ...
    def flushed(self, connection: "Connection") -> None: ...
    def relieved(self, connection: "Connection") -> None: ...
    def lost(self, connection: "Connection") -> None: ...


class HasPacketLimit(Protocol):
    """The one limit that a connection keeps itself."""

    @property
    def packet_bytes(self) -> int: ...


class SmallTls(sslproto.SSLProtocol):
    """asyncio's TLS with buffers of 16 KiB instead of 256, and a line in the log for a handshake that failed."""

    max_size = 16 * 1024

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, context: ssl.SSLContext) -> None:
        super().__init__(
            loop,
            protocol,
            context,
            None,  # type: ignore[arg-type]  # nobody waits for the handshake
            server_side=True,
            ssl_handshake_timeout=HANDSHAKE_WITHIN_S,
            ssl_shutdown_timeout=CLOSE_WITHIN_S,
        )

    def _on_handshake_complete(self, handshake_exc: BaseException | None) -> None:
        if handshake_exc is not None and not isinstance(handshake_exc, asyncio.CancelledError):
            logger.warning("refused an MQTT client in its TLS handshake: %s", handshake_exc)
        super()._on_handshake_complete(handshake_exc)


class Connection(asyncio.Protocol):
    """A client's socket; implements ``exchange.Link``."""

    def __init__(self, turns: Turns, loop: asyncio.AbstractEventLoop) -> None:
        self._turns = turns
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._socket: Any = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._is_paused = False
        self.is_closing = False
        self.reader = Reader(limit_bytes=turns.limits.packet_bytes)
        self.identity: Identity | None = None
        self.name = "an MQTT client"
        self.maximum_bytes: int | None = None
        self.keep_alive_s = 0
        self.opened_at = self.heard_at = loop.time()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=CONGESTED_BYTES)
        self._socket = transport.get_extra_info("socket")
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = transport.get_extra_info("peername")
        self.name = f"the client at {peer[0]}:{peer[1]}"
        certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self.identity = self._turns.authenticate(certificate) if certificate else None
        if self.identity is None:
            logger.warning("%s has no certificate that is known and active", self.name)
        self._turns.opened(self)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except OSError:
            logger.debug("%s went away", self.name)
        self._turns.enqueue(lambda now: self._turns.received(self, data, now))

    def pause_writing(self) -> None:
        self._is_paused = True
        if self._transport is not None and not self.is_closing:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._transport is not None and not self.is_closing:
            self._transport.resume_reading()
        self._turns.relieved(self)

    def connection_lost(self, exc: Exception | None) -> None:
        logger.debug("the connection of %s is gone: %s", self.name, exc)
        self.is_closing = True
        self._out.clear()
        self._turns.lost(self)

    # What the exchange calls

    @property
    def is_congested(self) -> bool:
        """Nothing more should be sent for now."""
        return self._is_paused or self._out_bytes > CONGESTED_BYTES

    def send(self, packet: Packet) -> bool:
        """Send after the turn; False: it is larger than this client takes, or cannot be written."""
        if self.is_closing:
            return True
        try:
            data = write(packet)
        except ProtocolError:
            logger.exception("a packet for %s is dropped", self.name)
            return False
        if self.maximum_bytes is not None and len(data) > self.maximum_bytes:
            return False
        self._put(data)
        return True

    def refuse_old_version(self) -> None:
        """Answer an MQTT 3 client in its own words, and close."""
        self._put(REFUSE_OLD_VERSION)
        self.close()

    def close(self) -> None:
        """Close once what was sent has left."""
        self.is_closing = True
        self._turns.touched(self)

    def _put(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        self._turns.touched(self)

    # What the broker calls

    def flush(self) -> None:
        """Write what the turn has left for this client."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            if self._out:
                transport.write(b"".join(self._out))
            if self.is_closing:
                transport.close()
        self._out.clear()
        self._out_bytes = 0
        self._turns.flushed(self)

    def abort(self) -> None:
        """Cut the connection off; nothing that was to be sent leaves."""
        self.is_closing = True
        self._out.clear()
        if self._transport is not None:
            self._transport.abort()

    def is_silent(self, clock: float) -> bool:
        """Longer than one and a half times the keep-alive ([MQTT-3.1.2-22])."""
        return bool(self.keep_alive_s) and clock - self.heard_at > 1.5 * self.keep_alive_s

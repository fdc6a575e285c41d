"""HTTP and HTTPS on one port: uvicorn, bound and stopped by us.

The first byte of a connection tells TLS (0x16) from plain HTTP. A client certificate is optional; where there is one,
it was signed by the cloud's authority, and its DER stands in the ASGI scope under ``PEER_CERTIFICATE``.
"""

import asyncio
import errno
import functools
import socket
import ssl
from asyncio import sslproto
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from monodon.cloud.background import background
from monodon.deadlines import timeout
from monodon.errors import NetworkError

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

PEER_CERTIFICATE = "monodon.peer_certificate"

_TLS_HANDSHAKE = 0x16
#: Pooled clients (boto3) reuse connections after longer pauses than uvicorn's 5 s.
_KEEP_ALIVE_S = 75
_GRACE_S = 3
_HANDSHAKE_S = 15
_READ_BYTES = 64 * 1024
HEAD_WITHIN_S = 30.0
#: A connection that says nothing does not stay.
_FIRST_BYTE_S = 60.0


def bind(host: str, port: int, *, what: str = "--port") -> socket.socket:
    """Return a listening socket; port 0 picks a free one.

    Args:
        what: the option that chooses the port, for the hint.

    Raises:
        NetworkError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named: asyncio leaves Nagle's algorithm on otherwise, and each answer takes 40 ms longer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise NetworkError(
                f"port {port} on {host} is taken", hint=f"stop what listens there, or choose another with {what}"
            ) from error
        raise NetworkError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listener


@asynccontextmanager
async def serving(application: Application, listener: socket.socket, context: ssl.SSLContext) -> AsyncIterator[None]:
    """Serve ``application`` on a bound socket until left; running requests get a few seconds to end."""
    waiting: set[_FirstByte] = set()
    config = uvicorn.Config(
        application,
        http=functools.partial(_FirstByte, context=context, waiting=waiting),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = _Server(config)
    async with background(server.serve(sockets=[listener]), "cloud http") as running:
        await server.has_started.wait()
        try:
            yield
        finally:
            for connection in list(waiting):
                connection.close()
            server.stop()
            await asyncio.wait({running})


class _Server(uvicorn.Server):
    """A server that leaves signals alone and stops at once when told to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()
        self._told_to_stop = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.has_started.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            try:
                async with timeout(1.0):
                    await self._told_to_stop.wait()
            except TimeoutError:
                continue

    def stop(self) -> None:
        self.should_exit = True
        self._told_to_stop.set()


class _FirstByte(asyncio.Protocol):
    """Waits for the first byte of a connection and hands it to TLS or to HTTP."""

    def __init__(self, *, context: ssl.SSLContext, waiting: set["_FirstByte"], **http: Any) -> None:
        self._context = context
        self._waiting = waiting
        self._http = http
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if hasattr(transport, "max_size"):
            transport.max_size = _READ_BYTES  # asyncio's 256 KiB are held four times over on their way through HTTP
        self._waiting.add(self)
        self._deadline = asyncio.get_running_loop().call_later(_FIRST_BYTE_S, self.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def close(self) -> None:
        """Drop a connection that has not said anything."""
        self._leave()
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._leave()
        transport = self._transport
        assert transport is not None
        http = _Connection(**self._http)
        if data[0] != _TLS_HANDSHAKE:
            transport.set_protocol(http)
            http.connection_made(transport)
            http.data_received(data)
            return
        tls = _Tls(
            asyncio.get_running_loop(),
            http,
            self._context,
            None,  # type: ignore[arg-type]  # nobody waits for the handshake
            server_side=True,
            ssl_handshake_timeout=_HANDSHAKE_S,
        )
        transport.set_protocol(tls)
        tls.connection_made(transport)
        _feed(tls, data)

    def _leave(self) -> None:
        self._waiting.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Tls(sslproto.SSLProtocol):
    """asyncio's TLS with a smaller buffer: 256 KiB a connection otherwise (findings 11)."""

    max_size = 64 * 1024


class _Connection(H11Protocol):
    """uvicorn's HTTP/1.1, with the peer's certificate in the scope, and a deadline for half a head of a request."""

    _half_head: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        is_waiting = self.cycle is None or self.cycle.response_complete
        if is_waiting and self._half_head is None:
            self._half_head = asyncio.get_running_loop().call_later(HEAD_WITHIN_S, self.transport.abort)
        elif not is_waiting:
            self._forget_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def _forget_head(self) -> None:
        if self._half_head is not None:
            self._half_head.cancel()
            self._half_head = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        self.app = functools.partial(_with_certificate, self.app, certificate)


async def _with_certificate(
    application: Application, certificate: bytes | None, scope: Scope, receive: Receive, send: Send
) -> None:
    scope[PEER_CERTIFICATE] = certificate
    await application(scope, receive, send)


def _feed(tls: sslproto.SSLProtocol, data: bytes) -> None:
    """Hand bytes to a protocol that wants to fill its own buffer."""
    rest = memoryview(data)
    while rest:
        buffer = tls.get_buffer(len(rest))
        size = min(len(buffer), len(rest))
        buffer[:size] = rest[:size]
        tls.buffer_updated(size)
        rest = rest[size:]

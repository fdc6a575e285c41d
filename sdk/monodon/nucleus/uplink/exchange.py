"""One HTTP request and its answer, on a thread, that can be given up at any moment.

The standard library's client does the work. It is loaded with the first request, on that thread: the nucleus is ready
sooner without it.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from monodon.deadlines import timeout
from monodon.errors import NetworkError
from monodon.nucleus.proxy import Proxy

if TYPE_CHECKING:
    import http.client

log = logging.getLogger(__name__)

T = TypeVar("T")

SOCKET_TIMEOUT_S = 15.0
CALL_TIMEOUT_S = 30.0
MAX_BODY_BYTES = 16 * 1024 * 1024
BLOCK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to send. ``url`` has a scheme, a host and an encoded path; ``limit_bytes`` is the most that is read back."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    limit_bytes: int = MAX_BODY_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class TooLarge(NetworkError):
    """The answer has more bytes than its limit."""


class _DiskError(Exception):
    """A file error on its way through what takes any `OSError` for one of the network."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextmanager
def _on_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _DiskError(error) from error


class Exchange:
    """A request under way on some thread; `abandon` from another thread ends it soon."""

    def __init__(self, request: Request, context: Callable[[], ssl.SSLContext], proxy: Proxy | None = None) -> None:
        self._request = request
        self._context = context
        self._proxy = proxy if proxy is not None and proxy.is_for(urlsplit(request.url).hostname or "") else None
        self._connection: http.client.HTTPConnection | None = None
        self._is_abandoned = False

    def fetch(self) -> Answer:
        """Send, and read the whole answer."""
        return self._run(self._read)

    def save(self, destination: Path, offset: int) -> Answer:
        """Send, and append the answer to a file that has ``offset`` bytes; what is not 2xx is read instead.

        A server that ignores the range sends everything again, and the file begins anew.

        Raises:
            OSError: the disk refuses it, which no other try would change.
        """
        try:
            return self._run(lambda response: self._save(response, destination, offset))
        except _DiskError as error:
            raise error.cause from None

    def abandon(self) -> None:
        """Stop waiting for the other side."""
        self._is_abandoned = True
        sock = None if self._connection is None else self._connection.sock
        if sock is not None:
            with suppress(OSError):  # closed already
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _run(self, use: "Callable[[http.client.HTTPResponse], Answer]") -> Answer:
        import http.client

        request = self._request
        parts = urlsplit(request.url)
        where = f"{request.method} {parts.scheme}://{parts.netloc}{parts.path}"
        try:
            self._connection = connection = self._connect(parts.scheme, parts.hostname or "", parts.port)
            try:
                path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                headers = dict(request.headers)
                if self._proxy is not None and parts.scheme == "http":
                    path, headers = f"http://{parts.netloc}{path}", {**headers, **self._proxy.headers}
                connection.request(request.method, path, body=request.body, headers=headers)
                response = connection.getresponse()
                try:
                    return use(response)
                finally:
                    response.close()
            finally:
                connection.close()
        except ssl.SSLCertVerificationError as error:
            raise NetworkError(
                f"{where}: the server's certificate is not trusted: {error.verify_message}",
                hint="rootCaPath must name the CA that signed it, and the certificate the host name",
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NetworkError(f"{where}: {error or type(error).__name__}") from error

    def _connect(self, scheme: str, host: str, port: int | None) -> "http.client.HTTPConnection":
        import http.client

        if scheme not in ("http", "https"):
            raise ValueError(f"{scheme!r} is neither http nor https")
        proxy = self._proxy
        place = (host, port) if proxy is None else (proxy.host, proxy.port)
        if scheme == "http":
            return http.client.HTTPConnection(*place, timeout=SOCKET_TIMEOUT_S)
        connection = http.client.HTTPSConnection(*place, timeout=SOCKET_TIMEOUT_S, context=self._context())
        if proxy is not None:
            connection.set_tunnel(host, port or http.client.HTTPS_PORT, headers=proxy.headers)
        return connection

    def _read(self, response: "http.client.HTTPResponse") -> Answer:
        limit = self._request.limit_bytes
        body = b"" if (response.length or 0) > limit else response.read(limit + 1)
        if max(response.length or 0, len(body)) > limit:
            raise TooLarge(f"the answer is larger than {limit} bytes")
        return Answer(status=response.status, headers=_headers(response), body=body)

    def _save(self, response: "http.client.HTTPResponse", destination: Path, offset: int) -> Answer:
        if response.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            return self._read(response)
        is_resumed = response.status == HTTPStatus.PARTIAL_CONTENT
        announced = response.length
        written = 0
        with _on_disk():
            file = destination.open("r+b" if destination.exists() else "wb")
        with file:
            with _on_disk():
                file.seek(offset if is_resumed else 0)
                file.truncate()
            while block := response.read(BLOCK_BYTES):
                if self._is_abandoned:
                    raise ConnectionAbortedError("given up")
                with _on_disk():
                    file.write(block)
                    file.flush()
                written += len(block)
        if announced is not None and written < announced:
            raise ConnectionResetError(f"the transfer broke after {written} of {announced} bytes")
        return Answer(status=response.status, headers=_headers(response), body=b"")


async def on_thread(exchange: Exchange, call: Callable[[], T], timeout_s: float | None = CALL_TIMEOUT_S) -> T:
    """Run one of the exchange's calls on a thread; whatever ends the wait ends the exchange.

    Raises:
        NetworkError: the exchange failed, or took longer than ``timeout_s`` in all.
    """
    try:
        async with timeout(timeout_s):
            return await asyncio.to_thread(call)
    except TimeoutError:
        raise NetworkError(f"no complete answer within {timeout_s:g} s") from None
    finally:
        exchange.abandon()


def _headers(response: "http.client.HTTPResponse") -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}

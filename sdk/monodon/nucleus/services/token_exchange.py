"""Role credentials for components: the HTTP endpoint that AWS SDKs ask (``AWS_CONTAINER_CREDENTIALS_FULL_URI``).

Only on loopback, and only for who shows a component's token. Source: Greengrass nucleus, ``tes/HttpServerImpl.java``,
``tes/CredentialRequestHandler.java``.
"""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TypeAlias

from monodon.core.json import Json
from monodon.deadlines import timeout
from monodon.errors import NetworkError
from monodon.nucleus.uplink.protocol import RoleCredentials

log = logging.getLogger(__name__)

PATH = "/2016-11-01/credentialprovider/"
REQUEST_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 40.0
MAX_REQUEST_BYTES = 16 * 1024
MAX_CONNECTIONS = 64

_Reply: TypeAlias = tuple[HTTPStatus, Json]


class TokenExchange:
    """Answers with the role's credentials; ``authenticate`` turns a token into the name of its component, or None."""

    def __init__(
        self,
        *,
        authenticate: Callable[[str], str | None],
        credentials: Callable[[], Awaitable[RoleCredentials | None]],
    ) -> None:
        self._authenticate = authenticate
        self._credentials = credentials
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._serving: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        """Listen on loopback until the end of the block; the URI to hand to components."""
        sockets = _loopback(port)
        number = sockets[0].getsockname()[1]
        servers = [await asyncio.start_server(self._accept, sock=each, limit=MAX_REQUEST_BYTES) for each in sockets]
        try:
            yield f"http://localhost:{number}{PATH}"
        finally:
            for server in servers:
                server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)
            for server in servers:
                await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self._serving.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._slots:
                async with timeout(REQUEST_TIMEOUT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                async with timeout(ANSWER_TIMEOUT_S):
                    writer.write(_response(*await self._answer(head)))
                    await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError) as error:
            log.debug("a request for credentials broke off: %s", error)

    async def _answer(self, head: bytes) -> _Reply:
        request, *lines = head.decode("latin-1").split("\r\n")
        method, _, rest = request.partition(" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if rest.split(" ")[0].rstrip("/") != PATH.rstrip("/"):
            return HTTPStatus.NOT_FOUND, {"message": f"only {PATH} is served here"}
        if method != "GET":
            return HTTPStatus.METHOD_NOT_ALLOWED, {"message": "only GET is served here"}
        caller = self._authenticate(headers.get("authorization", ""))
        if caller is None:
            log.warning("a request for credentials without a component's token was refused")
            return HTTPStatus.FORBIDDEN, {"message": "the Authorization header must be a component's token"}
        try:
            credentials = await self._credentials()
        except NetworkError as error:
            log.warning("%s asked for credentials in vain: %s", caller, error)
            return HTTPStatus.INTERNAL_SERVER_ERROR, {"message": str(error)}
        if credentials is None:
            return HTTPStatus.NOT_FOUND, {"message": "this device has no role alias"}
        log.debug("%s got credentials", caller)
        return HTTPStatus.OK, {
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "Token": credentials.session_token,
            "Expiration": credentials.expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


def _response(status: HTTPStatus, body: Json) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + content


def _loopback(port: int) -> list[socket.socket]:
    """IPv4's loopback, and IPv6's on the same port where there is one: ``localhost`` may mean either."""
    first = socket.socket(socket.AF_INET)
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    first.bind(("127.0.0.1", port))
    try:
        second = socket.socket(socket.AF_INET6)
    except OSError:
        return [first]
    try:
        second.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        second.bind(("::1", first.getsockname()[1]))
    except OSError:
        second.close()
        return [first]
    return [first, second]

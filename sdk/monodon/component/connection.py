"""One IPC connection that lasts: awsiotsdk's event-stream client behind asyncio.

The bare client calls back on its network thread, waits without end, never reconnects and leaves errors of three
libraries to its caller. Here every callback only hands a value to the event loop, so a handler may call IPC; each
call has a deadline; a lost connection is made again, with its subscriptions; and every error is an ``IpcError``.

The first generation of the client is used, not ``GreengrassCoreIPCClientV2``: that one adds threads for callbacks
and log lines of its own ("exception calling callback") when a connection is lost during a write.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from awscrt.io import ClientBootstrap, DefaultHostResolver, EventLoopGroup, SocketDomain, SocketOptions
from awsiot.eventstreamrpc import Connection, MessageAmendment
from awsiot.greengrasscoreipc.client import GreengrassCoreIPCClient

from monodon.component.messages import CONNECTION_LOST
from monodon.component.refusals import ACCESS_DENIED, NOT_SENT, TRANSIENT, lost, timed_out, translate
from monodon.component.subscription import Closing
from monodon.deadlines import timeout
from monodon.errors import IpcError, StateError

logger = logging.getLogger(__name__)

T = TypeVar("T")
logging.getLogger("awsiot.eventstreamrpc").setLevel(logging.CRITICAL)  # what it reports we raise, or report

#: Seconds that any call may take, and refused reconnections after which a process knows it is no longer wanted.
DEADLINE_S = 10.0
MAX_REFUSALS = 3


#: Gives socket and token as they are now; raises a StateError while there is no nucleus.
Renew: TypeAlias = Callable[[], tuple[str, str]]


@dataclass(eq=False, slots=True, kw_only=True)
class Stream:
    """A subscription that is to stay: how to open it, and where its events and its gaps go."""

    title: str
    operation_name: str
    request: Any
    deliver: Callable[[Any], None]  # on the network thread
    gap: Callable[[], None]
    fail: Callable[[IpcError], None]
    operation: Any = None  # None: not open
    events: "_StreamEvents | None" = None  # of the latest opening
    is_opening: bool = field(default=False)


class _StreamEvents:
    """What awsiotsdk calls, on its network thread, for one opened stream."""

    def __init__(self, stream: Stream, closed: Callable[[], None]) -> None:
        self._stream = stream
        self._closed = closed

    def on_stream_event(self, event: Any) -> None:
        self._stream.deliver(event)

    def on_stream_error(self, error: Exception) -> bool:
        logger.error("an event of %s could not be read: %s", self._stream.title, error)
        return False  # True or None would close the stream

    def on_stream_closed(self) -> None:
        self._closed()


class _ConnectionEvents:
    """What awsiotsdk calls, on its network thread, for one connection."""

    def __init__(self, disconnected: Callable[[], None]) -> None:
        self._disconnected = disconnected

    def on_connect(self) -> None:
        """Nothing: the future of the connection tells."""

    def on_disconnect(self, reason: Exception | None) -> None:
        self._disconnected()

    def on_error(self, error: Exception) -> bool:
        logger.debug("connection error: %s", error)
        return True

    def on_ping(self, headers: Any, payload: bytes) -> None:
        """Nothing: the end of the connection is what tells of a dead nucleus."""


class IpcConnection:
    """A connection that is made again when it breaks, and the calls and streams on it."""

    def __init__(
        self,
        socket: str,
        token: str,
        tasks: asyncio.TaskGroup,
        deadline_s: float,
        first_delay_s: float,
        longest_delay_s: float,
        renew: Renew | None,
    ) -> None:
        self._socket = socket
        self._token = token
        self._renew = renew
        self._tasks = tasks
        self._deadline_s = deadline_s
        self._delays_s = (first_delay_s, longest_delay_s)
        self._loop = asyncio.get_running_loop()
        self._group: EventLoopGroup | None = None
        self._bootstrap: ClientBootstrap | None = None
        self._client: GreengrassCoreIPCClient | None = None
        self._connected = asyncio.Event()
        self._broken = asyncio.Event()
        self._streams: set[Stream] = set()
        self._own_tasks: set[asyncio.Task[None]] = set()
        self.is_closing = False

    # --- the connection ---

    async def open(self) -> None:
        """Connect, waiting for the nucleus no longer than the deadline, and stay connected from then on."""
        self._group = EventLoopGroup(num_threads=1)
        self._bootstrap = ClientBootstrap(self._group, DefaultHostResolver(self._group))
        try:
            async with timeout(self._deadline_s):
                await self._first_connection()
        except TimeoutError:
            raise IpcError(
                f"no nucleus answers on {self._socket}", code="ConnectionLost", hint="is the nucleus running?"
            ) from None
        self.spawn(self._keep(), "ipc connection")

    async def _first_connection(self) -> None:
        while True:
            try:
                return await self._connect()
            except IpcError as error:
                if error.code == ACCESS_DENIED:
                    raise
                logger.debug("not connected yet: %s", error)
            await asyncio.sleep(self._delays_s[0])

    async def _connect(self) -> None:
        options = SocketOptions()
        options.domain = SocketDomain.Local
        connection = Connection(
            host_name=self._socket,
            port=0,
            bootstrap=self._bootstrap,
            socket_options=options,
            connect_message_amender=self._authenticate,
        )
        client = GreengrassCoreIPCClient(connection)
        events = _ConnectionEvents(lambda: self.later(self._disconnected, client))
        try:
            await self._settled("connect", self._begin("connect", connection.connect, events))
        except BaseException:
            connection.close()
            raise
        self._client = client
        self._connected.set()

    def _authenticate(self) -> MessageAmendment:
        return MessageAmendment(payload=json.dumps({"authToken": self._token}).encode())

    def _disconnected(self, client: GreengrassCoreIPCClient) -> None:
        if client is not self._client:
            return
        self._client = None
        self._connected.clear()
        if self.is_closing:
            return
        logger.warning("the connection to the nucleus is lost; trying again")
        for stream in self._streams:
            stream.operation = None
            stream.gap()
        self._broken.set()

    async def _keep(self) -> None:
        """Repair whatever breaks, with back-off."""
        refusals = 0
        delay_s, longest_s = self._delays_s
        while True:
            await self._broken.wait()
            await asyncio.sleep(delay_s)
            self._broken.clear()
            try:
                if self._client is None and self._has_renewed():
                    refusals = 0
                await self._mend()
            except StateError as error:
                logger.debug("no nucleus yet: %s", error)
                self._broken.set()
                delay_s = min(delay_s * 2, longest_s)
            except IpcError as error:
                refusals = refusals + 1 if error.code == ACCESS_DENIED else 0
                if refusals >= MAX_REFUSALS:
                    raise IpcError(
                        "the nucleus was restarted and no longer knows this process", code=ACCESS_DENIED
                    ) from error
                logger.debug("not connected again yet: %s", error)
                self._broken.set()
                delay_s = min(delay_s * 2, longest_s)
            else:
                refusals, delay_s = 0, self._delays_s[0]

    def _has_renewed(self) -> bool:
        """Take socket and token anew where that is possible; whether they are others.

        Raises:
            StateError: there is no nucleus to take them from.
        """
        before = self._socket, self._token
        if self._renew is not None:
            self._socket, self._token = self._renew()
        return (self._socket, self._token) != before

    async def _mend(self) -> None:
        if self._client is None:
            await self._connect()
            logger.info("connected to the nucleus again")
        for stream in [stream for stream in self._streams if stream.operation is None and not stream.is_opening]:
            try:
                await self._open_stream(stream, waits=False)  # for a connection that only this task makes
            except IpcError as error:
                if error.code in TRANSIENT:
                    raise
                self._streams.discard(stream)
                stream.fail(error)

    async def close(self) -> None:
        """Disconnect and let the network thread end."""
        self.is_closing = True
        for task in tuple(self._own_tasks):
            task.cancel()
        client, self._client = self._client, None
        if client is not None:
            closed = client.close()
            try:
                await self._settled("close", closed)
            except IpcError as error:
                logger.debug("closed with: %s", error)
        self._streams.clear()
        self._bootstrap = self._group = None

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run ``work`` beside, until it ends or the connection is closed."""
        task = self._tasks.create_task(work, name=name)
        self._own_tasks.add(task)
        task.add_done_callback(self._own_tasks.discard)

    # --- from the network thread to the loop ---

    def later(self, call: Callable[..., None], *arguments: Any) -> None:
        """Call on the event loop soon; may be called from any thread."""
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            logger.debug("a callback came after the end of the event loop")

    def _begin(self, what: str, call: Callable[..., T], *arguments: Any) -> T:
        """Call into awsiotsdk, which may refuse at once.

        Raises:
            IpcError: what went wrong, translated.
        """
        try:
            return call(*arguments)
        except Exception as error:
            raise translate(what, error) from error

    async def _settled(self, what: str, future: "Future[Any]") -> Any:
        """Wait for a future of awsiotsdk, which is never cancelled, within the deadline.

        Raises:
            IpcError: what went wrong, translated.
        """
        mine: asyncio.Future[Any] = self._loop.create_future()

        def settle() -> None:
            if not mine.done():
                error = future.exception()
                mine.set_result(future.result()) if error is None else mine.set_exception(error)

        future.add_done_callback(lambda _: self.later(settle))
        try:
            async with timeout(self._deadline_s):
                return await mine
        except TimeoutError:
            raise timed_out(what, self._deadline_s) from None
        except Exception as error:
            raise translate(what, error) from error

    # --- calls ---

    async def _ready_client(self, what: str, *, waits: bool) -> GreengrassCoreIPCClient:
        if waits:
            try:
                async with timeout(self._deadline_s):
                    await self._connected.wait()
            except TimeoutError:
                raise lost(what) from None
        if self._client is None:
            raise lost(what)
        return self._client

    async def call(self, name: str, request: Any) -> Any:
        """Perform a unary operation, such as ``publish_to_topic``, and return its response."""
        operation = await self._sent(name, lambda client: getattr(client, f"new_{name}")(), request)
        response = operation.get_response()
        try:
            return await self._settled(name, response)
        finally:
            if not response.done():
                operation.close()

    async def _sent(
        self, what: str, new_operation: Callable[[GreengrassCoreIPCClient], Any], request: Any, *, waits: bool = True
    ) -> Any:
        while True:
            client = await self._ready_client(what, waits=waits)
            try:
                operation = self._begin(what, new_operation, client)
                self._begin(what, operation.activate, request)
            except IpcError as error:
                if error.code != NOT_SENT:
                    raise
                client.close()
                self._disconnected(client)  # the network thread's word of it is on its way
            else:
                return operation

    async def _open_stream(self, stream: Stream, *, waits: bool = True) -> None:
        events = _StreamEvents(stream, lambda: self.later(self._stream_closed, stream, events))
        stream.is_opening, stream.events = True, events
        new_operation = f"new_{stream.operation_name}"
        try:
            operation = await self._sent(
                stream.title, lambda client: getattr(client, new_operation)(events), stream.request, waits=waits
            )
            stream.operation = operation
            await self._settled(stream.title, operation.get_response())
        except BaseException:
            failed, stream.operation = stream.operation, None
            if failed is not None:
                failed.close()
            raise
        finally:
            stream.is_opening = False
        if stream.operation is None:  # closed again since
            self._broken.set()

    async def _open_stream_anew(self, stream: Stream) -> None:
        """Open a stream; if the connection broke meanwhile, once more on the next one: nothing is done twice by it."""
        try:
            await self._open_stream(stream)
        except IpcError as error:
            if error.code != CONNECTION_LOST or self.is_closing:
                raise
            await self._open_stream(stream)

    def _stream_closed(self, stream: Stream, events: _StreamEvents) -> None:
        if stream.events is events and stream.operation is not None and not self.is_closing:
            stream.operation = None
            stream.gap()
            self._broken.set()

    async def subscribe(self, stream: Stream) -> Closing:
        """Open a stream, and keep it open through every reconnection until the result is called."""
        self._streams.add(stream)
        try:
            await self._open_stream_anew(stream)
        except BaseException:
            self._streams.discard(stream)
            raise

        async def close() -> None:
            self._streams.discard(stream)
            operation, stream.operation = stream.operation, None
            if operation is not None and not self.is_closing:
                await self._settled("unsubscribe", operation.close())

        return close

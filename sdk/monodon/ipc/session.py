"""One client of the server: its connection's rules, its socket, its streams and the requests in progress."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final, Protocol

from monodon.errors import MonodonError
from monodon.ipc.channel import Channel
from monodon.ipc.connection import (
    Connect,
    Connection,
    Event,
    Fault,
    Phase,
    Refused,
    Request,
    StreamClosed,
)
from monodon.ipc.errors import ModelledError, ServiceError
from monodon.ipc.operations import OperationModel, model_type
from monodon.ipc.serialisation import Shape, write_shape
from monodon.ipc.service import Operation

logger = logging.getLogger(__name__)

#: A client with this many requests in progress is not read from until one is done.
MAX_REQUESTS_IN_PROGRESS: Final = 256
#: How long a refused or faulty client may take to close.
LINGER_S: Final = 1.0


class Dispatcher(Protocol):
    """The part of the server that a session needs."""

    def authenticate(self, token: str) -> str | None:
        """Return the component that a token belongs to."""

    def request(self, session: "Session", request: Request) -> None:
        """Start a request, or answer it."""

    def forget(self, session: "Session") -> None:
        """The session is over."""

    def start(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """Run work in the server's task group."""


class ClientStream:
    """A subscription; see :class:`monodon.ipc.service.Stream`."""

    __slots__ = ("_callbacks", "_early", "_event_type", "_id", "_session", "is_open", "task")

    def __init__(self, session: "Session", stream_id: int, event_type: str) -> None:
        self._session = session
        self._id = stream_id
        self._event_type = event_type
        self._early: list[Shape] | None = []  # events before the reply; None: it is on the wire
        self._callbacks: list[Callable[[], Awaitable[None] | None]] = []
        self.is_open = True
        self.task: asyncio.Task[None] | None = None

    def send(self, event: Shape) -> None:
        """Send an event, behind the reply."""
        if not self.is_open:
            return
        if self._early is not None:
            self._early.append(event)
            return
        try:
            self._session.connection.event(self._id, self._event_type, write_shape(event))
        except ValueError as error:
            logger.warning("an event for %s is dropped: %s", self._session, error)
            return
        self._session.flush_soon()

    def reply_sent(self) -> None:
        """The reply is on its way: events may follow."""
        early, self._early = self._early, None
        for event in early or ():
            self.send(event)

    def on_close(self, callback: Callable[[], Awaitable[None] | None]) -> None:
        """Call this when the stream ends; at once if it has."""
        if self.is_open:
            self._callbacks.append(callback)
        else:
            self._session.clean_up(callback)

    def close(self) -> None:
        """The stream has ended: stop what works for it."""
        if not self.is_open:
            return
        self.is_open = False
        self._early = None
        if self.task is not None:
            self.task.cancel()
        callbacks, self._callbacks = self._callbacks, []
        for callback in reversed(callbacks):
            self._session.clean_up(callback)


class Session:
    """One connection, from accept to end."""

    def __init__(self, dispatcher: Dispatcher, *, handshake_timeout_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self.connection = Connection()
        self.caller = ""
        self.channel: Channel | None = None
        self._dispatcher = dispatcher
        self._loop = loop
        self._streams: dict[int, ClientStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unstarted: set[int] = set()  # streams whose requests wait for their task to start
        self._has_ended = False
        self._is_closing = False
        self._is_flush_due = False
        self._deadline = loop.call_later(handshake_timeout_s, self._on_deadline, "no handshake in time")

    def __str__(self) -> str:
        return self.caller or "a client that is not let in"

    # the socket's side

    def room(self) -> memoryview | None:
        """Where the next bytes of a large frame belong."""
        return self.connection.decoder.room()

    def filled(self, count: int) -> None:
        """A part of a large frame has arrived."""
        self._handle(self.connection.received(count))

    def received(self, data: memoryview) -> None:
        """Some bytes have arrived."""
        self._handle(self.connection.receive(data))

    def ended(self, reason: str | None) -> None:
        """The socket is closed: end everything that belongs to it."""
        self._has_ended = True
        self._deadline.cancel()
        if reason and not self._is_closing and self.connection.phase is Phase.OPEN:
            logger.warning(
                "IPC connection of %s closed: %s (%d open streams)", self, reason, len(self.connection.open_streams)
            )
        elif self.connection.decoder.is_inside_frame and not self.connection.is_over():
            logger.info("IPC connection of %s ended inside a frame", self)
        for stream in list(self._streams.values()):
            stream.close()
        self._streams.clear()
        for task in list(self._tasks):
            task.cancel()
        self._dispatcher.forget(self)

    def close(self, reason: str) -> None:
        """End the connection from this side."""
        self._is_closing = True
        assert self.channel is not None
        self.channel.close(reason)

    def _on_deadline(self, reason: str) -> None:
        logger.info("IPC connection of %s closed: %s", self, reason)
        self.close(reason)

    def _linger(self) -> None:
        assert self.channel is not None
        self.channel.discard_input()
        self._deadline.cancel()
        self._deadline = self._loop.call_later(LINGER_S, self.close, "the client did not close")

    def _handle(self, events: Iterator[Event]) -> None:
        for event in events:
            if self._has_ended:
                return
            match event:
                case Request():
                    self._dispatcher.request(self, event)
                case StreamClosed(stream_id=stream_id):
                    self._end_stream(stream_id)
                case Connect(token=token):
                    self._decide(token)
                case Refused(reason=reason):
                    logger.warning("refused an IPC connection: %s", reason)
                case Fault(reason=reason):
                    logger.warning("IPC connection of %s broke the protocol: %s", self, reason)
        self.flush()
        if self.connection.phase is Phase.REFUSED:
            self._linger()
        elif self.connection.phase is Phase.CLOSED and self.channel is not None:
            self._linger()
            self.channel.finish()

    def _decide(self, token: str) -> None:
        caller = self._dispatcher.authenticate(token)
        if caller is None:
            logger.warning("refused an IPC connection: the token is unknown")
            self.connection.refuse()
            return
        self.caller = caller
        self._deadline.cancel()
        self.connection.accept()

    def flush(self) -> None:
        """Write what the connection has to say."""
        self._is_flush_due = False
        pieces = self.connection.take()
        if pieces and self.channel is not None:
            self.channel.write(pieces)

    def flush_soon(self) -> None:
        """Write once for all that is said in this turn of the loop."""
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self.flush)

    # requests

    def run(self, model: OperationModel, operation: Operation, stream_id: int, request: Shape) -> None:
        """Carry a request out; a plain function at once, unless an earlier request has yet to start."""
        stream = None
        if model.event is not None:
            stream = self._streams[stream_id] = ClientStream(self, stream_id, model_type(model.event))
        is_plain = not operation.is_coroutine and not operation.is_generator
        if is_plain and not self._unstarted:
            arguments = (request, self.caller) if stream is None else (request, self.caller, stream)
            try:
                response = operation.handler(*arguments)
            except Exception as error:
                self.fail(model, stream_id, error)
            else:
                self._answer(model, stream_id, response, stream)
            return
        self._unstarted.add(stream_id)
        task = self._dispatcher.start(
            self._perform(model, operation, stream_id, request, stream), f"{self.caller} {model.name} {stream_id}"
        )
        task.add_done_callback(lambda _task: self._unstarted.discard(stream_id))
        if stream is not None:
            # A generator is closed with its stream; other work goes on, and hears of the end from on_close.
            stream.task = task if operation.is_generator else None
            return
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        if len(self._tasks) == MAX_REQUESTS_IN_PROGRESS and self.channel is not None:
            self.channel.pause_reading()

    def _on_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if len(self._tasks) == MAX_REQUESTS_IN_PROGRESS - 1 and self.channel is not None:
            self.channel.resume_reading()

    async def _perform(
        self,
        model: OperationModel,
        operation: Operation,
        stream_id: int,
        request: Shape,
        stream: ClientStream | None,
    ) -> None:
        self._unstarted.discard(stream_id)
        try:
            if operation.is_generator:
                assert stream is not None
                await self._generate(model, operation, stream_id, request, stream)
                return
            arguments = (request, self.caller) if stream is None else (request, self.caller, stream)
            response = operation.handler(*arguments)
            if operation.is_coroutine:
                response = await response
        except Exception as error:
            self.fail(model, stream_id, error)
        else:
            self._answer(model, stream_id, response, stream)
        finally:
            self.flush_soon()

    async def _generate(
        self, model: OperationModel, operation: Operation, stream_id: int, request: Shape, stream: ClientStream
    ) -> None:
        events = operation.handler(request, self.caller)
        try:
            self._answer(model, stream_id, await anext(events), stream)
            self.flush_soon()
            if stream.is_open:
                async for event in events:
                    stream.send(event)
        finally:
            await events.aclose()
        self.connection.end(stream_id)
        self._end_stream(stream_id, from_task=True)

    def _answer(self, model: OperationModel, stream_id: int, response: Any, stream: ClientStream | None) -> None:
        try:
            body = b"{}" if response is None else write_shape(response)
            self.connection.reply(stream_id, model_type(model.response), body, is_last=stream is None)
        except (ValueError, TypeError) as error:  # too large for a frame, or no JSON
            self.fail(model, stream_id, error)
            return
        if stream is not None:
            stream.reply_sent()

    def fail(self, model: OperationModel, stream_id: int, error: Exception) -> None:
        """Answer a request with an error; what nobody meant to raise is a ServiceError, and logged."""
        if not isinstance(error, ModelledError):
            logger.error(
                "%s of %s failed: %s",
                model.name,
                self.caller,
                error,
                exc_info=None if isinstance(error, MonodonError) else error,
            )
            error = ServiceError(str(error) or type(error).__name__)
        self.connection.error(stream_id, error.model_type, error.body())
        self._end_stream(stream_id, from_task=True)

    def _end_stream(self, stream_id: int, *, from_task: bool = False) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            if from_task:
                stream.task = None
            stream.close()

    def clean_up(self, callback: Callable[[], Awaitable[None] | None]) -> None:
        """Run what a service wants done at the end of a stream."""
        try:
            work = callback()
        except Exception:
            logger.exception("cleaning up after %s failed", self)
            return
        if work is not None:
            self._dispatcher.start(self._finish(work), f"{self.caller} cleaning up")

    async def _finish(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:
            logger.exception("cleaning up after %s failed", self)

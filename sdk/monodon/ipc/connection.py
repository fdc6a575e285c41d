"""One RPC connection, the server's end: bytes in, events and bytes out. Pure.

::

    AWAITING_CONNECT ── valid CONNECT ──> DECIDING ── accept() ──> OPEN ──┐
           │                                 │                            │ fault
           ├── invalid CONNECT ──> REFUSED <─┘ refuse()                   v
           └── anything else ─────────────────────────────────────────> CLOSED

A shell gives what it reads to :meth:`Connection.receive`, answers its events, and writes what :meth:`Connection.take`
returns. REFUSED waits for the client to close (a client that is closed upon never learns why); CLOSED is closed as
soon as the bytes are out.

Source: aws-c-event-stream, ``event_stream_rpc_server.c``; Greengrass nucleus, ``ipc/``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from monodon.ipc.eventstream import (
    MAX_FRAME_BYTES,
    Buffer,
    Decoder,
    FramingError,
    Header,
    HeaderBlockError,
    HeaderType,
    Message,
    decode_headers,
    encode_headers,
    encode_pieces,
)

VERSION: Final = "0.1.0"
JSON_TYPE: Final = "application/json"
TEXT_TYPE: Final = "text/plain"
CONNECTION_ACCEPTED: Final = 1
TERMINATE_STREAM: Final = 2
MAX_STREAM_ID: Final = 2**31 - 1
#: What is buffered for a client that nobody knows yet.
MAX_CONNECT_BYTES: Final = 64 * 1024

#: A payload from this size on is handed out as it is, instead of being copied into its frame.
_SEPARATE_BYTES: Final = 16 * 1024


class MessageType(IntEnum):
    """What a message is; 0 and 1 travel on streams, the others on stream 0."""

    APPLICATION_MESSAGE = 0
    APPLICATION_ERROR = 1
    PING = 2
    PING_RESPONSE = 3
    CONNECT = 4
    CONNECT_ACK = 5
    PROTOCOL_ERROR = 6
    INTERNAL_ERROR = 7


class Phase(Enum):
    """Where a connection is, as the picture above shows."""

    AWAITING_CONNECT = "awaiting connect"
    DECIDING = "deciding"
    OPEN = "open"
    REFUSED = "refused"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Connect:
    """A client asks to be let in: answer with ``accept()`` or ``refuse()`` before reading on."""

    token: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A CONNECT that nobody need judge was refused; wait for the client to close."""

    reason: str


@dataclass(frozen=True, slots=True)
class Request:
    """The first message of a new stream."""

    stream_id: int
    operation: str
    payload: bytes | memoryview


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """A later message of an open stream."""

    stream_id: int
    payload: bytes | memoryview


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """The client ended a stream; nothing must be sent on it any more."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class Fault:
    """The client broke the protocol; the connection is over."""

    reason: str


Event = Connect | Refused | Request | StreamMessage | StreamClosed | Fault


class _ViolationError(Exception):
    """Answered on stream 0 with this message type, then the connection closes."""

    def __init__(self, answer: MessageType, reason: str) -> None:
        super().__init__(reason)
        self.answer = answer


def _violation(reason: str) -> _ViolationError:
    return _ViolationError(MessageType.PROTOCOL_ERROR, reason)


_INT32_HEADERS: Final = {
    name: encode_headers([Header(name, HeaderType.INT32, 0)])[:-4]
    for name in (":message-type", ":message-flags", ":stream-id")
}


def _int32(name: str, value: int) -> bytes:
    return _INT32_HEADERS[name] + value.to_bytes(4, "big", signed=True)


_blocks: dict[tuple[MessageType, str | None, str | None, int], bytes] = {}


def _block(kind: MessageType, content_type: str | None, model_type: str | None, flags: int, stream_id: int) -> bytes:
    """Return a header block; all but the stream id is made once for each kind of message (a closed set)."""
    key = (kind, content_type, model_type, flags)
    start = _blocks.get(key)
    if start is None:
        typed = ((":content-type", content_type), ("service-model-type", model_type))
        start = encode_headers(Header(name, HeaderType.STRING, value) for name, value in typed if value is not None)
        start += _int32(":message-type", kind) + _int32(":message-flags", flags) + _INT32_HEADERS[":stream-id"]
        _blocks[key] = start
    return start + stream_id.to_bytes(4, "big")


_Control = tuple[int, int, int, str | None]
_STREAM_ID_START: Final = _INT32_HEADERS[":stream-id"]
_MAX_KNOWN_BLOCKS: Final = 1000
_MAX_KNOWN_BYTES: Final = 512
_known_controls: dict[tuple[bytes, bytes], _Control] = {}


def _control(block: bytes) -> _Control:
    """Return message type, flags, stream id and operation.

    A client writes the same headers again and again but for the stream id, so what they mean is remembered without
    it. Two blocks that differ only in four bytes after the same start parse alike, as long as those were the id.
    """
    start, found, rest = block.partition(_STREAM_ID_START)
    if not found or len(rest) < 4:
        return _read_control(decode_headers(block))
    known = _known_controls.get((start, rest[4:]))
    stream_id = int.from_bytes(rest[:4], "big", signed=True)
    if known is not None:
        return known[0], known[1], stream_id, known[3]
    headers = decode_headers(block)
    control = _read_control(headers)
    if len(block) <= _MAX_KNOWN_BYTES and len(_known_controls) < _MAX_KNOWN_BLOCKS and _is_id_after(start, headers):
        _known_controls[start, rest[4:]] = control
    return control


def _is_id_after(start: bytes, headers: tuple[Header, ...]) -> bool:
    """Whether the bytes after ``start`` are the stream id, and the only one of ``headers``."""
    try:
        decode_headers(start)
    except HeaderBlockError:
        return False
    return sum(header.name.lower() == ":stream-id" for header in headers) == 1


def _read_control(headers: tuple[Header, ...]) -> _Control:
    """Return what the headers say; the control headers count only as Int32, the operation only as a String."""
    kind = flags = stream_id = operation = None
    for name, header_type, value in headers:
        if header_type is HeaderType.INT32:
            lowered = name.lower()
            if lowered == ":message-type":
                kind = value
            elif lowered == ":message-flags":
                flags = value
            elif lowered == ":stream-id":
                stream_id = value
        elif header_type is HeaderType.STRING and name.lower() == "operation":
            operation = value
    if not (isinstance(kind, int) and isinstance(flags, int) and isinstance(stream_id, int)):
        raise _violation(":message-type, :message-flags and :stream-id must be there, each an Int32")
    return kind, flags, stream_id, operation if isinstance(operation, str) else None


class Connection:
    """The rules of one connection."""

    def __init__(self) -> None:
        self.phase = Phase.AWAITING_CONNECT
        self.decoder = Decoder(MAX_CONNECT_BYTES)
        self._streams: set[int] = set()
        self._last_stream_id = 0
        self._out: list[Buffer] = []

    def is_over(self) -> bool:
        """Nothing that the client still sends counts."""
        return self.phase in (Phase.REFUSED, Phase.CLOSED)

    @property
    def open_streams(self) -> frozenset[int]:
        """The streams that neither side has ended."""
        return frozenset(self._streams)

    def take(self) -> list[Buffer]:
        """Return what must be written, in order, and forget it."""
        out, self._out = self._out, []
        return out

    def receive(self, data: Buffer) -> Iterator[Event]:
        """Take bytes in any pieces and yield what they mean; the last event may be a :class:`Fault`."""
        return self._receive(self.decoder.feed(data))

    def received(self, count: int) -> Iterator[Event]:
        """Take ``count`` bytes that were read into ``decoder.room()``."""
        return self._receive(self.decoder.filled(count))

    def _receive(self, messages: Iterator[Message]) -> Iterator[Event]:
        if self.is_over():
            return
        try:
            for message in messages:
                event = self._handle(message)
                if event is not None:
                    yield event
                assert self.phase is not Phase.DECIDING, "answer a Connect before reading on"
                if self.is_over():
                    return
        except HeaderBlockError as error:
            yield self._fail(_ViolationError(MessageType.PROTOCOL_ERROR, error.message))
        except FramingError as error:
            self._close()
            yield Fault(error.message)
        except _ViolationError as error:
            yield self._fail(error)

    # what arrives

    def _handle(self, message: Message) -> Event | None:
        kind, flags, stream_id, operation = _control(message.block)
        if self.phase is Phase.AWAITING_CONNECT:
            if kind != MessageType.CONNECT or stream_id != 0:
                raise _violation("the first message must be CONNECT")
            return self._connect(message)
        if stream_id == 0:
            self._handle_connection_message(kind, message)
            return None
        if stream_id < 0:
            raise _violation(f"stream id {stream_id}")
        if kind not in (MessageType.APPLICATION_MESSAGE, MessageType.APPLICATION_ERROR):
            raise _violation(f"message type {kind} on stream {stream_id}")
        return self._handle_stream_message(stream_id, flags, operation, message.payload)

    def _connect(self, message: Message) -> Connect | Refused:
        token: object = None
        version = message.find(":version", HeaderType.STRING)
        if version != VERSION:
            reason = f":version must be the text {VERSION}"
        else:
            try:
                body = json.loads(bytes(message.payload))
                token = body.get("authToken") if isinstance(body, dict) else None
            except (ValueError, RecursionError):
                token = None
            if isinstance(token, str) and token:
                self.phase = Phase.DECIDING
                return Connect(token)
            reason = "the payload must be a JSON object with an authToken"
        self._refuse()
        return Refused(reason)

    def _handle_connection_message(self, kind: int, message: Message) -> None:
        if kind == MessageType.PING:
            self._answer_ping(message)
        elif kind == MessageType.CONNECT:
            raise _violation("a second CONNECT")
        elif kind in (MessageType.CONNECT_ACK, MessageType.PROTOCOL_ERROR, MessageType.INTERNAL_ERROR):
            raise _ViolationError(MessageType.INTERNAL_ERROR, f"message type {kind} from a client")
        elif kind != MessageType.PING_RESPONSE:
            raise _violation(f"message type {kind} on stream 0")

    def _handle_stream_message(
        self, stream_id: int, flags: int, operation: str | None, payload: bytes | memoryview
    ) -> Request | StreamMessage | StreamClosed | None:
        is_last = bool(flags & TERMINATE_STREAM)
        if stream_id in self._streams:
            if not is_last:
                return StreamMessage(stream_id, payload)
            self._streams.discard(stream_id)
            return StreamClosed(stream_id)
        if stream_id <= self._last_stream_id:
            if is_last:
                return None
            raise _violation(f"stream {stream_id} has ended")
        if stream_id != self._last_stream_id + 1:
            raise _violation(f"stream {stream_id} where {self._last_stream_id + 1} comes next")
        if operation is None:
            raise _violation(f"stream {stream_id} names no operation")
        self._last_stream_id = stream_id
        if is_last:
            return None
        self._streams.add(stream_id)
        return Request(stream_id, operation, payload)

    # what is sent

    def accept(self) -> None:
        """Let the client in."""
        assert self.phase is Phase.DECIDING
        self.phase = Phase.OPEN
        self.decoder.max_frame_bytes = MAX_FRAME_BYTES
        self._send(_block(MessageType.CONNECT_ACK, None, None, CONNECTION_ACCEPTED, 0), b"")

    def refuse(self) -> None:
        """Tell the client that it may not come in; it closes then."""
        assert self.phase is Phase.DECIDING
        self._refuse()

    def _refuse(self) -> None:
        self.phase = Phase.REFUSED
        self._send(_block(MessageType.CONNECT_ACK, None, None, 0, 0), b"")

    def reply(self, stream_id: int, model_type: str, payload: Buffer, *, is_last: bool) -> None:
        """Answer a request: with its reply alone (``is_last``), or with the reply that events follow.

        On a stream that has ended nothing is sent: both sides may end it at once.

        Raises:
            ValueError: too large for a frame; the stream stays open.
        """
        if stream_id in self._streams:
            flags = TERMINATE_STREAM if is_last else 0
            self._send(_block(MessageType.APPLICATION_MESSAGE, JSON_TYPE, model_type, flags, stream_id), payload)
            if is_last:
                self._streams.discard(stream_id)

    def event(self, stream_id: int, model_type: str, payload: Buffer) -> None:
        """Send one event of an open stream."""
        self.reply(stream_id, model_type, payload, is_last=False)

    def error(self, stream_id: int, model_type: str | None, payload: bytes, content_type: str = JSON_TYPE) -> None:
        """End a stream with an error; the connection lives on."""
        if stream_id in self._streams:
            self._streams.discard(stream_id)
            block = _block(MessageType.APPLICATION_ERROR, content_type, model_type, TERMINATE_STREAM, stream_id)
            self._send(block, payload)

    def end(self, stream_id: int) -> None:
        """End a stream from this side, with the empty message of the protocol."""
        if stream_id in self._streams:
            self._streams.discard(stream_id)
            self._send(_block(MessageType.APPLICATION_MESSAGE, None, None, TERMINATE_STREAM, stream_id), b"")

    def _answer_ping(self, message: Message) -> None:
        echoed = encode_headers(header for header in message.headers if not header.name.startswith(":"))
        self._send(_block(MessageType.PING_RESPONSE, None, None, 0, 0) + echoed, message.payload)

    def _fail(self, error: _ViolationError) -> Fault:
        body = json.dumps({"message": str(error)}).encode()
        self._send(_block(error.answer, JSON_TYPE, None, 0, 0), body)
        self._close()
        return Fault(str(error))

    def _close(self) -> None:
        self.phase = Phase.CLOSED
        self._streams.clear()

    def _send(self, block: bytes, payload: Buffer) -> None:
        pieces = encode_pieces(block, payload)
        if len(payload) < _SEPARATE_BYTES:
            self._out.append(b"".join(pieces))
        else:
            self._out.extend(pieces)

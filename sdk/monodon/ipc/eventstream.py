"""AWS event-stream frames: bytes to messages and back. Pure.

::

    total length 4 | headers length 4 | CRC of these 8 bytes 4 | headers | payload | CRC of all before 4

All integers are big-endian and the CRC is zlib's. The type of a header is kept beside its value, since the RPC
above counts a header only if it has the right type.

Source: aws-c-event-stream, ``event_stream.c`` and ``event_stream.h`` (limits).
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple
from uuid import UUID

from monodon.errors import IpcError

MAX_FRAME_BYTES: Final = 24 * 1024 * 1024
MAX_HEADERS: Final = 1024
MAX_VALUE_BYTES: Final = 32_767
PRELUDE_BYTES: Final = 12
OVERHEAD_BYTES: Final = 16

Buffer = bytes | bytearray | memoryview
HeaderValue = bool | int | bytes | str | UUID

_PRELUDE = struct.Struct(">III")
_LENGTHS = struct.Struct(">II")
_CRC = struct.Struct(">I")
_SHORT = struct.Struct(">H")
#: A frame still growing gets so many times the room that it has filled, and at least so much: a length that is only
#: claimed costs the receiver next to nothing.
_GROWTH: Final = 16
_LEAST_ROOM_BYTES: Final = 4096
#: A payload from this size on is not copied out of a frame that was put together.
_LARGE_BYTES: Final = 64 * 1024


class FramingError(IpcError):
    """Bytes that are no frame; the connection must be closed at once, without a message."""


class HeaderBlockError(FramingError):
    """A whole frame whose headers do not parse."""


class HeaderType(IntEnum):
    """What a header's value is."""

    TRUE = 0
    FALSE = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INT64 = 5
    BYTES = 6
    STRING = 7
    TIMESTAMP = 8
    UUID = 9


_INTEGERS: Final = {
    HeaderType.INT8: struct.Struct(">b"),
    HeaderType.INT16: struct.Struct(">h"),
    HeaderType.INT32: struct.Struct(">i"),
    HeaderType.INT64: struct.Struct(">q"),
    HeaderType.TIMESTAMP: struct.Struct(">q"),
}
_TYPES: Final = tuple(HeaderType)
_INT32: Final = _INTEGERS[HeaderType.INT32]


class Header(NamedTuple):
    """One header; a timestamp's value is in milliseconds since the epoch."""

    name: str
    type: HeaderType
    value: HeaderValue


@dataclass(frozen=True, slots=True)
class Message:
    """One frame: its header block, parsed when asked for, and its payload (a large one lies where it was read to)."""

    block: bytes
    payload: bytes | memoryview

    @property
    def headers(self) -> tuple[Header, ...]:
        """The headers in order.

        Raises:
            HeaderBlockError: the block does not parse.
        """
        return decode_headers(self.block)

    def find(self, name: str, header_type: HeaderType) -> HeaderValue | None:
        """Return the value of the header of that name (in any case) and type; None when there is none."""
        wanted = name.lower()
        for header in self.headers:
            if header.type == header_type and header.name.lower() == wanted:
                return header.value
        return None


def encode_header(header: Header) -> bytes:
    """Return the bytes of one header.

    Raises:
        ValueError: a name that is empty or longer than 255 bytes, or a value that its type can't hold.
    """
    name = header.name.encode()
    if not 1 <= len(name) <= 255:
        raise ValueError(f"header name of {len(name)} bytes")
    start = bytes((len(name),)) + name + bytes((header.type,))
    value = header.value
    if header.type in (HeaderType.TRUE, HeaderType.FALSE):
        return start
    if header.type in _INTEGERS:
        try:
            return start + _INTEGERS[header.type].pack(value)
        except struct.error as error:
            raise ValueError(f"header {header.name}: {error}") from error
    if isinstance(value, UUID):
        return start + value.bytes
    data = value.encode() if isinstance(value, str) else value
    if not isinstance(data, bytes) or len(data) > MAX_VALUE_BYTES:
        raise ValueError(f"header {header.name}: not bytes or text of at most {MAX_VALUE_BYTES} bytes")
    return start + _SHORT.pack(len(data)) + data


def encode_headers(headers: Iterable[Header]) -> bytes:
    """Return a header block."""
    return b"".join(map(encode_header, headers))


def encode_pieces(block: bytes, payload: Buffer) -> tuple[bytes, Buffer, bytes]:
    """Return a frame as three pieces, so that a large payload need not be copied.

    Raises:
        ValueError: the frame would be larger than any peer takes.
    """
    total = OVERHEAD_BYTES + len(block) + len(payload)
    if total > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {total} bytes is larger than {MAX_FRAME_BYTES}")
    lengths = _LENGTHS.pack(total, len(block))
    head = lengths + _CRC.pack(zlib.crc32(lengths)) + block
    return head, payload, _CRC.pack(zlib.crc32(payload, zlib.crc32(head)))


def encode(headers: Iterable[Header], payload: Buffer = b"") -> bytes:
    """Return the bytes of a frame."""
    return b"".join(encode_pieces(encode_headers(headers), payload))


def _decode_header(block: bytes, index: int) -> tuple[Header, int]:
    """Return the header at ``index`` and where the next one starts; IndexError when the block ends before it."""
    length = block[index]
    type_at = index + 1 + length
    name = block[index + 1 : type_at].decode()
    number = block[type_at]
    if not length or number >= len(_TYPES):
        raise ValueError("empty name" if not length else f"unknown type {number}")
    kind = _TYPES[number]
    at = type_at + 1
    if kind is HeaderType.INT32:
        return Header(name, kind, _INT32.unpack_from(block, at)[0]), at + 4
    if kind in (HeaderType.STRING, HeaderType.BYTES):
        size = _SHORT.unpack_from(block, at)[0]
        data = block[at + 2 : at + 2 + size]
        if len(data) < size or size > MAX_VALUE_BYTES:
            raise ValueError("value runs over")
        return Header(name, kind, data.decode() if kind is HeaderType.STRING else data), at + 2 + size
    if kind in (HeaderType.TRUE, HeaderType.FALSE):
        return Header(name, kind, kind is HeaderType.TRUE), at
    if kind is HeaderType.UUID:
        return Header(name, kind, UUID(bytes=block[at : at + 16])), at + 16
    integer = _INTEGERS[kind]
    return Header(name, kind, integer.unpack_from(block, at)[0]), at + integer.size


def decode_headers(block: bytes) -> tuple[Header, ...]:
    """Return the headers of a block.

    Raises:
        HeaderBlockError: unknown type, overrun, invalid UTF-8, or more than 1024 headers.
    """
    headers: list[Header] = []
    index = 0
    try:
        while index < len(block):
            header, index = _decode_header(block, index)
            headers.append(header)
    except (IndexError, ValueError, struct.error) as error:
        raise HeaderBlockError(f"header {len(headers) + 1} does not parse: {error}") from error
    if len(headers) > MAX_HEADERS:
        raise HeaderBlockError(f"more than {MAX_HEADERS} headers")
    return tuple(headers)


def _check_prelude(data: Buffer, max_frame_bytes: int) -> int:
    """Return the length of the frame that ``data`` starts; its first 12 bytes must be there."""
    total, headers, crc = _PRELUDE.unpack_from(data)
    if not OVERHEAD_BYTES <= total <= max_frame_bytes:
        raise FramingError(f"frame of {total} bytes")
    if headers > total - OVERHEAD_BYTES:
        raise FramingError(f"headers of {headers} bytes in a frame of {total}")
    if zlib.crc32(data[:8]) != crc:
        raise FramingError("wrong checksum of a prelude")
    return int(total)


def _decode_frame(frame: memoryview, *, is_kept: bool = False) -> Message:
    """Return the message of a frame; one that is not kept is read over soon, so its payload is copied."""
    end = len(frame) - 4
    if zlib.crc32(frame[:end]) != _CRC.unpack_from(frame, end)[0]:
        raise FramingError("wrong checksum of a message")
    payload_at = PRELUDE_BYTES + _PRELUDE.unpack_from(frame)[1]
    payload = frame[payload_at:end]
    is_large = is_kept and len(payload) >= _LARGE_BYTES
    return Message(bytes(frame[PRELUDE_BYTES:payload_at]), payload if is_large else bytes(payload))


class Decoder:
    """Frames out of bytes that arrive in any pieces.

    Whole frames are read where they lie; only one that is not complete is kept. While a large one is,
    :meth:`room` offers the place where its next bytes belong, so that a socket can read straight into it.
    ``max_frame_bytes`` may be changed between messages.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._partial = bytearray()
        self._filled = 0
        self._total = 0  # of the partial frame; 0 until its prelude is there

    @property
    def is_inside_frame(self) -> bool:
        """Bytes of an incomplete frame are waiting for the rest: an end here cuts it off."""
        return self._filled > 0

    @property
    def pending_bytes(self) -> int:
        """How much memory the incomplete frame holds."""
        return len(self._partial)

    def room(self) -> memoryview | None:
        """Return where to read the next bytes to, followed by :meth:`filled`; None: give them to :meth:`feed`."""
        if not self._total:
            return None
        self._grow()
        return memoryview(self._partial)[self._filled : self._total]

    def filled(self, count: int) -> Iterator[Message]:
        """Take ``count`` bytes that were read into :meth:`room`; yield the message they complete, if any."""
        self._filled += count
        if self._filled == self._total:
            yield self._finish()

    def feed(self, data: Buffer) -> Iterator[Message]:
        """Take bytes and yield each message that is complete; ``data`` must stay as it is until the last.

        Raises:
            FramingError: these bytes are no frame; the messages before them have been yielded.
        """
        view = memoryview(data)
        if self._filled:
            view = self._continue(view)
            if self._filled < self._total or not self._total:
                return
            yield self._finish()
        while len(view) >= PRELUDE_BYTES:
            total = _check_prelude(view, self.max_frame_bytes)
            if len(view) < total:
                break
            yield _decode_frame(view[:total])
            view = view[total:]
        if len(view):
            self._keep(view)

    def _keep(self, view: memoryview) -> None:
        self._filled = filled = len(view)
        if filled < PRELUDE_BYTES:
            self._total, self._partial = 0, bytearray(view)
            return
        self._total = _check_prelude(view, self.max_frame_bytes)
        self._partial = bytearray(min(self._total, max(_GROWTH * filled, _LEAST_ROOM_BYTES)))
        self._partial[:filled] = view

    def _continue(self, view: memoryview) -> memoryview:
        """Add to the incomplete frame what belongs to it, and return the rest."""
        if not self._total:
            view = self._append(view, PRELUDE_BYTES)
            if self._filled < PRELUDE_BYTES:
                return view
            self._total = _check_prelude(self._partial, self.max_frame_bytes)
        return self._append(view, self._total)

    def _append(self, view: memoryview, until: int) -> memoryview:
        taken = view[: until - self._filled]
        self._partial[self._filled : self._filled + len(taken)] = taken
        self._filled += len(taken)
        return view[len(taken) :]

    def _grow(self) -> None:
        if len(self._partial) == self._filled:
            room = min(self._total, max(_GROWTH * self._filled, _LEAST_ROOM_BYTES))
            self._partial.extend(bytes(room - self._filled))

    def _finish(self) -> Message:
        frame, self._partial = self._partial, bytearray()
        total, self._filled, self._total = self._total, 0, 0
        return _decode_frame(memoryview(frame)[:total], is_kept=True)

"""Frames: ipc.md section 2, golden frames of awsiotsdk, and botocore's decoder as a second opinion."""

import struct
import zlib
from itertools import pairwise
from uuid import UUID

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from monodon.ipc.eventstream import (
    MAX_FRAME_BYTES,
    Decoder,
    FramingError,
    Header,
    HeaderBlockError,
    HeaderType,
    Message,
    decode_headers,
    encode,
    encode_header,
    encode_headers,
)

NAME = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


def integers(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


HEADER = st.one_of(
    st.builds(Header, NAME, st.just(HeaderType.TRUE), st.just(True)),
    st.builds(Header, NAME, st.just(HeaderType.FALSE), st.just(False)),
    st.builds(Header, NAME, st.just(HeaderType.INT8), integers(8)),
    st.builds(Header, NAME, st.just(HeaderType.INT16), integers(16)),
    st.builds(Header, NAME, st.just(HeaderType.INT32), integers(32)),
    st.builds(Header, NAME, st.just(HeaderType.INT64), integers(64)),
    st.builds(Header, NAME, st.just(HeaderType.BYTES), st.binary(max_size=40)),
    st.builds(Header, NAME, st.just(HeaderType.STRING), st.text(st.characters(codec="utf-8"), max_size=40)),
    st.builds(Header, NAME, st.just(HeaderType.TIMESTAMP), integers(64)),
    st.builds(Header, NAME, st.just(HeaderType.UUID), st.uuids()),
)
MESSAGE = st.builds(Message, st.lists(HEADER, max_size=6).map(encode_headers), st.binary(max_size=200))


def decode_cut(data: bytes, cuts: list[int]) -> tuple[list[Message], str | None]:
    """Feed in pieces, as a socket would; a place for large frames is filled directly."""
    decoder, found = Decoder(), []
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    try:
        for start, end in pairwise(edges):
            piece = data[start:end]
            while piece:
                room = decoder.room()
                if room is None:
                    found += decoder.feed(piece)
                    break
                count = min(len(room), len(piece))
                room[:count] = piece[:count]
                room.release()
                found += decoder.filled(count)
                piece = piece[count:]
    except FramingError as error:
        return found, type(error).__name__
    return found, "incomplete" if decoder.is_inside_frame else None


@given(messages=st.lists(MESSAGE, max_size=4), cuts=st.lists(st.integers(0, 10_000), max_size=30))
def test_messages_survive_any_cut(messages: list[Message], cuts: list[int]) -> None:
    data = b"".join(encode(message.headers, message.payload) for message in messages)
    assert decode_cut(data, cuts) == (messages, None)


@given(
    messages=st.lists(MESSAGE, min_size=1, max_size=3),
    place=st.integers(0, 10_000),
    byte=st.integers(1, 255),
    cuts=st.lists(st.integers(0, 10_000), max_size=30),
)
def test_a_changed_byte_ends_alike_wherever_cut(
    messages: list[Message], place: int, byte: int, cuts: list[int]
) -> None:
    data = bytearray(b"".join(encode(message.headers, message.payload) for message in messages))
    data[place % len(data)] ^= byte
    whole = decode_cut(bytes(data), [])
    assert whole == decode_cut(bytes(data), cuts)
    assert whole[1] is not None
    assert whole[0] == messages[: len(whole[0])]


@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 300), max_size=20))
def test_any_bytes_give_the_same_messages_or_one_clean_end(data: bytes, cuts: list[int]) -> None:
    assert decode_cut(data, cuts) == decode_cut(data, [])


@given(message=MESSAGE.filter(lambda message: len({h.name for h in message.headers}) == len(message.headers)))
def test_botocore_reads_what_we_write(message: Message) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(encode(message.headers, message.payload))
    event = next(buffer)
    assert event.payload == message.payload
    assert list(event.headers) == [header.name for header in message.headers]


def test_the_frames_of_awsiotsdk_are_read_and_written_alike(golden_frames: dict[str, bytes]) -> None:
    for data in golden_frames.values():
        (message,) = Decoder().feed(data)
        assert encode(message.headers, message.payload) == data


def test_the_type_stays_beside_the_value() -> None:
    message = Message(encode_headers([Header("A", HeaderType.INT64, 1), Header("a", HeaderType.INT32, 2)]), b"")
    assert message.find("a", HeaderType.INT32) == 2
    assert message.find("a", HeaderType.INT64) == 1
    assert message.find("a", HeaderType.STRING) is None


def prelude(total: int, headers: int) -> bytes:
    lengths = struct.pack(">II", total, headers)
    return lengths + struct.pack(">I", zlib.crc32(lengths))


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (prelude(15, 0), "frame of 15 bytes"),
        (prelude(0, 0), "frame of 0 bytes"),
        (prelude(MAX_FRAME_BYTES + 1, 0), f"frame of {MAX_FRAME_BYTES + 1} bytes"),
        (prelude(0xFFFFFFFF, 0), "frame of 4294967295 bytes"),
        (prelude(20, 5), "headers of 5 bytes in a frame of 20"),
        (struct.pack(">III", 16, 0, 1), "wrong checksum of a prelude"),
        (prelude(16, 0) + b"abcd", "wrong checksum of a message"),
    ],
)
def test_faults_of_the_framing(start: bytes, expected: str) -> None:
    """Length and prelude checksum are checked before waiting for the rest."""
    with pytest.raises(FramingError, match=expected):
        list(Decoder().feed(start))


def test_a_length_alone_reserves_nothing() -> None:
    decoder = Decoder()
    assert list(decoder.feed(prelude(MAX_FRAME_BYTES, 0))) == []
    room = decoder.room()
    assert room is not None
    assert len(room) <= 1024 * 1024
    assert decoder.pending_bytes <= 1024 * 1024 + 12


def test_the_largest_frame_is_read_into_its_place() -> None:
    data = encode((), bytes(MAX_FRAME_BYTES - 16))
    assert decode_cut(data, list(range(0, len(data), 3_000_000)))[0] == [Message(b"", bytes(MAX_FRAME_BYTES - 16))]
    with pytest.raises(ValueError, match="larger than"):
        encode((), bytes(MAX_FRAME_BYTES - 15))


@pytest.mark.parametrize(
    "block",
    [
        b"\x01",
        b"\x01a",
        b"\x00\x00",
        b"\x01a\x0a",
        b"\x01\xff\x00",
        b"\x01a\x04\0\0\0",
        b"\x01a\x07\0\x05abcd",
        b"\x01a\x07\0\x01\xff",
        b"\x01a\x06\x80\x00" + bytes(0x8000),
        b"\x01a\x09" + bytes(15),
        b"\x01a\x00" * 1025,
    ],
)
def test_header_blocks_that_do_not_parse(block: bytes) -> None:
    with pytest.raises(HeaderBlockError):
        decode_headers(block)


def test_1024_headers_are_fine() -> None:
    assert len(decode_headers(b"\x01a\x00" * 1024)) == 1024


@pytest.mark.parametrize(
    "header",
    [
        Header("", HeaderType.TRUE, True),
        Header("x" * 256, HeaderType.TRUE, True),
        Header("x", HeaderType.INT8, 200),
        Header("x", HeaderType.STRING, "y" * 32_768),
        Header("x", HeaderType.BYTES, 3),
    ],
)
def test_headers_that_cannot_be_written(header: Header) -> None:
    with pytest.raises(ValueError, match="header"):
        encode_header(header)


def test_every_type_is_written_as_the_table_says() -> None:
    block = encode_headers(
        [
            Header("a", HeaderType.TRUE, True),
            Header("b", HeaderType.INT32, -2),
            Header("c", HeaderType.STRING, "é"),
            Header("d", HeaderType.UUID, UUID(int=1)),
        ]
    )
    assert block == b"\x01a\x00\x01b\x04\xff\xff\xff\xfe\x01c\x07\x00\x02\xc3\xa9\x01d\x09" + bytes(15) + b"\x01"

"""The rules of one connection: ipc.md sections 3.1 to 3.3, every row of its tables."""

import json
import zlib
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.ipc.connection import (
    CONNECTION_ACCEPTED,
    JSON_TYPE,
    TERMINATE_STREAM,
    TEXT_TYPE,
    Connect,
    Connection,
    Event,
    Fault,
    MessageType,
    Phase,
    Refused,
    Request,
    StreamClosed,
    StreamMessage,
)
from monodon.ipc.eventstream import Decoder, Header, HeaderType, HeaderValue, Message, encode

PUBLISH = "aws.greengrass#PublishToTopic"


def control(kind: int, stream_id: int, flags: int = 0) -> list[Header]:
    return [
        Header(":message-type", HeaderType.INT32, kind),
        Header(":message-flags", HeaderType.INT32, flags),
        Header(":stream-id", HeaderType.INT32, stream_id),
    ]


def text(name: str, value: str) -> Header:
    return Header(name, HeaderType.STRING, value)


def message(kind: int, stream_id: int, flags: int = 0, payload: bytes = b"", extra: Iterable[Header] = ()) -> bytes:
    return encode([*control(kind, stream_id, flags), *extra], payload)


def connect(payload: bytes = b'{"authToken": "T"}', version: Iterable[Header] = (text(":version", "0.1.0"),)) -> bytes:
    return message(4, 0, payload=payload, extra=version)


def request(stream_id: int, flags: int = 0, payload: bytes = b"{}", operation: str = PUBLISH) -> bytes:
    return message(0, stream_id, flags, payload, [text("operation", operation), text("service-model-type", "x")])


def answers(connection: Connection) -> list[tuple[int, int, int, bytes]]:
    """(type, flags, stream, payload) of each message to the client."""
    found = Decoder().feed(b"".join(connection.take()))
    return [(*(numbers(m)), m.payload) for m in found]


def numbers(m: Message) -> tuple[int, int, int]:
    values: list[HeaderValue | None] = [
        m.find(name, HeaderType.INT32) for name in (":message-type", ":message-flags", ":stream-id")
    ]
    kind, flags, stream_id = values
    assert isinstance(kind, int)
    assert isinstance(flags, int)
    assert isinstance(stream_id, int)
    return kind, flags, stream_id


def opened() -> Connection:
    connection = Connection()
    assert drive(connection, connect()) == [Connect("T")]
    assert answers(connection) == [(5, CONNECTION_ACCEPTED, 0, b"")]
    return connection


def drive(connection: Connection, data: bytes) -> list[Event]:
    """Events of ``data``; every valid token is accepted."""
    events = []
    for event in connection.receive(data):
        events.append(event)
        if isinstance(event, Connect):
            connection.accept()
    return events


def test_a_valid_connect_is_let_in() -> None:
    assert opened().phase is Phase.OPEN


def test_an_unknown_token_is_refused_without_the_flag_and_nothing_more_is_read() -> None:
    connection = Connection()
    for event in connection.receive(connect() + request(1)):
        assert event == Connect("T")
        connection.refuse()
    assert answers(connection) == [(5, 0, 0, b"")]
    assert connection.phase is Phase.REFUSED
    assert list(connection.receive(b"anything")) == []
    assert connection.take() == []


@pytest.mark.parametrize(
    "data",
    [
        connect(version=()),
        connect(version=[text(":version", "0.1.1")]),
        connect(version=[Header(":version", HeaderType.INT32, 1)]),
        connect(version=[Header(":version", HeaderType.BYTES, b"0.1.0")]),
        connect(b""),
        connect(b"["),
        connect(b"[" * 20_000),
        connect(b"\xff"),
        connect(b'["T"]'),
        connect(b"{}"),
        connect(b'{"authToken": null}'),
        connect(b'{"authToken": ""}'),
        connect(b'{"authToken": 5}'),
    ],
)
def test_what_is_refused_in_a_connect(data: bytes) -> None:
    connection = Connection()
    (event,) = connection.receive(data)
    assert isinstance(event, Refused)
    assert answers(connection) == [(5, 0, 0, b"")]


def test_names_of_headers_have_no_case_and_other_fields_are_ignored() -> None:
    data = encode(
        [
            Header(":Message-Type", HeaderType.INT32, 4),
            Header(":MESSAGE-FLAGS", HeaderType.INT32, 0),
            Header(":stream-ID", HeaderType.INT32, 0),
            text(":Version", "0.1.0"),
            text("other", "x"),
        ],
        b'{"authToken": "T", "x": 1}',
    )
    assert drive(Connection(), data) == [Connect("T")]


@pytest.mark.parametrize("data", [request(1), message(2, 0), message(4, 1), message(5, 0), message(9, 0)])
def test_anything_before_connect_is_a_protocol_error(data: bytes) -> None:
    connection = Connection()
    (event,) = connection.receive(data)
    assert isinstance(event, Fault)
    ((kind, _, stream_id, payload),) = answers(connection)
    assert (kind, stream_id) == (MessageType.PROTOCOL_ERROR, 0)
    assert "message" in json.loads(payload)
    assert connection.phase is Phase.CLOSED


def without(index: int) -> bytes:
    headers = control(0, 1)
    del headers[index]
    return encode([*headers, text("operation", PUBLISH)], b"{}")


def as_int64(index: int) -> bytes:
    headers = control(0, 1)
    headers[index] = headers[index]._replace(type=HeaderType.INT64)
    return encode([*headers, text("operation", PUBLISH)], b"{}")


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        *((without(index), MessageType.PROTOCOL_ERROR) for index in range(3)),
        *((as_int64(index), MessageType.PROTOCOL_ERROR) for index in range(3)),
        (message(0, 0), MessageType.PROTOCOL_ERROR),
        (message(1, 0), MessageType.PROTOCOL_ERROR),
        (message(8, 0), MessageType.PROTOCOL_ERROR),
        (message(-1, 0), MessageType.PROTOCOL_ERROR),
        (connect(), MessageType.PROTOCOL_ERROR),
        (message(5, 0), MessageType.INTERNAL_ERROR),
        (message(6, 0), MessageType.INTERNAL_ERROR),
        (message(7, 0), MessageType.INTERNAL_ERROR),
        *((message(kind, 1), MessageType.PROTOCOL_ERROR) for kind in range(2, 9)),
        (message(0, -1), MessageType.PROTOCOL_ERROR),
        (request(2), MessageType.PROTOCOL_ERROR),
        (request(2**31 - 1), MessageType.PROTOCOL_ERROR),
        (message(0, 1), MessageType.PROTOCOL_ERROR),
        (message(0, 1, extra=[Header("operation", HeaderType.BYTES, b"x")]), MessageType.PROTOCOL_ERROR),
        (request(1, TERMINATE_STREAM) + message(0, 1), MessageType.PROTOCOL_ERROR),
    ],
)
def test_faults_end_the_connection(data: bytes, answer: MessageType) -> None:
    connection = opened()
    events = drive(connection, data)
    assert isinstance(events[-1], Fault)
    (got,) = Decoder().feed(b"".join(connection.take()))
    assert numbers(got) == (answer, 0, 0)
    assert got.find(":content-type", HeaderType.STRING) == JSON_TYPE
    assert connection.phase is Phase.CLOSED
    assert drive(connection, request(1)) == []


def test_a_broken_frame_closes_without_a_message() -> None:
    connection = opened()
    data = bytearray(request(1))
    data[-1] ^= 1
    assert isinstance(drive(connection, bytes(data))[-1], Fault)
    assert connection.take() == []
    assert connection.phase is Phase.CLOSED


def test_headers_that_do_not_parse_are_a_protocol_error() -> None:
    connection = opened()
    data = bytearray(encode([Header("a", HeaderType.INT8, 1)]))
    data[14] = 99
    data[-4:] = zlib.crc32(bytes(data[:-4])).to_bytes(4, "big")
    assert isinstance(drive(connection, bytes(data))[-1], Fault)
    assert answers(connection)[0][0] == MessageType.PROTOCOL_ERROR


def test_frames_may_be_large_once_the_client_is_known() -> None:
    large = message(2, 0, payload=bytes(1_000_000))
    connection = Connection()
    assert isinstance(drive(connection, large[:100])[-1], Fault)
    assert connection.take() == []
    connection = Connection()
    assert drive(connection, connect() + large) == [Connect("T")]
    assert len(answers(connection)) == 2


def test_ping_is_answered_with_payload_and_headers() -> None:
    connection = opened()
    extra = [text("mine", "x"), text(":other", "y"), Header("n", HeaderType.INT64, 5)]
    assert drive(connection, message(2, 0, payload=b"p", extra=extra) + message(3, 0)) == []
    (pong,) = Decoder().feed(b"".join(connection.take()))
    assert numbers(pong) == (MessageType.PING_RESPONSE, 0, 0)
    assert pong.payload == b"p"
    assert pong.headers[3:] == (text("mine", "x"), Header("n", HeaderType.INT64, 5))


def test_streams_open_in_order_and_end_from_either_side() -> None:
    connection = opened()
    assert drive(connection, request(1) + request(2, payload=b"b")) == [
        Request(1, PUBLISH, b"{}"),
        Request(2, PUBLISH, b"b"),
    ]
    connection.reply(2, "aws.greengrass#R", b"{}", is_last=True)
    connection.reply(1, "aws.greengrass#R", b"{}", is_last=False)
    connection.event(1, "aws.greengrass#E", b"{1}")
    assert connection.open_streams == {1}
    assert answers(connection) == [(0, 2, 2, b"{}"), (0, 0, 1, b"{}"), (0, 0, 1, b"{1}")]
    assert drive(connection, message(0, 1, payload=b"more")) == [StreamMessage(1, b"more")]
    assert drive(connection, message(0, 1, TERMINATE_STREAM)) == [StreamClosed(1)]
    connection.event(1, "aws.greengrass#E", b"{}")
    connection.error(1, "aws.greengrass#E", b"{}")
    connection.end(1)
    assert connection.take() == []  # the server does not answer a terminate
    assert drive(connection, message(0, 1, TERMINATE_STREAM) + message(0, 2, TERMINATE_STREAM)) == []
    assert connection.phase is Phase.OPEN


def test_a_first_message_that_terminates_uses_up_its_id() -> None:
    connection = opened()
    assert drive(connection, request(1, TERMINATE_STREAM) + request(2)) == [Request(2, PUBLISH, b"{}")]


def test_errors_terminate_their_stream_only() -> None:
    connection = opened()
    drive(connection, request(1) + request(2) + request(3))
    connection.error(1, "aws.greengrass#ServiceError", b"{}")
    connection.error(2, None, b"InternalServerError", TEXT_TYPE)
    connection.end(3)
    typed, untyped, end = Decoder().feed(b"".join(connection.take()))
    assert numbers(typed) == (1, TERMINATE_STREAM, 1)
    assert typed.find("service-model-type", HeaderType.STRING) == "aws.greengrass#ServiceError"
    assert typed.find(":content-type", HeaderType.STRING) == JSON_TYPE
    assert untyped.find("service-model-type", HeaderType.STRING) is None
    assert untyped.find(":content-type", HeaderType.STRING) == TEXT_TYPE
    assert (numbers(end), end.payload, len(end.headers)) == ((0, TERMINATE_STREAM, 3), b"", 3)
    assert connection.open_streams == frozenset()
    assert connection.phase is Phase.OPEN


def test_a_large_payload_is_not_copied_into_its_frame() -> None:
    connection = opened()
    drive(connection, request(1))
    payload = bytes(100_000)
    connection.reply(1, "aws.greengrass#R", payload, is_last=True)
    assert any(piece is payload for piece in connection.take())


def test_a_conversation_recorded_from_awsiotsdk(golden_frames: dict[str, bytes]) -> None:
    connection = Connection()
    events = drive(connection, b"".join(golden_frames.values()))
    assert events[0] == Connect("0123456789ABCDEF")
    assert [event.stream_id for event in events[1:-1] if isinstance(event, Request)] == [1, 2, 3, 4, 5, 6, 7]
    assert events[-1] == StreamClosed(3)


def test_headers_met_before_are_known_but_for_the_stream_id() -> None:
    """Also when the bytes of a stream id lie inside another header, or there are two ids."""
    connection = opened()
    decoy = Header("operation", HeaderType.STRING, "x\x0a:stream-id\x04\0\0\0\1")
    for number in (1, 2, 3):
        fine = encode([text("a", "b"), *control(0, number), text("operation", PUBLISH)], b"{}")
        assert drive(connection, fine) == [Request(number, PUBLISH, b"{}")]
    for number in (4, 5):
        hidden = encode([decoy, *control(0, number)], b"{}")
        assert drive(connection, hidden) == [Request(number, str(decoy.value), b"{}")]
    for number in (6, 7):
        twice = encode([text("operation", PUBLISH), *control(0, 6), Header(":Stream-Id", HeaderType.INT32, number)])
        assert drive(connection, twice) == [Request(number, PUBLISH, b"")]


@given(
    order=st.lists(
        st.sampled_from([request(1), request(2), request(3), message(0, 1, 2), message(2, 0), message(0, 9), b"junk"]),
        max_size=6,
    ),
    cuts=st.lists(st.integers(0, 3000), max_size=30),
)
def test_bytes_cut_anywhere_give_the_same_events_and_answers(order: list[bytes], cuts: list[int]) -> None:
    data = connect() + b"".join(order)
    whole = Connection()
    expected = drive(whole, data)
    pieces = Connection()
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    found = [event for start, end in pairwise(edges) for event in drive(pieces, data[start:end])]
    assert found == expected
    assert pieces.phase is whole.phase
    assert b"".join(pieces.take()) == b"".join(whole.take())

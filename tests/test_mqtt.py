"""The guard over the MQTT 5 codec: bytes cut anywhere, limits, and everything the codec lets through."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monodon.mqtt import (
    REFUSE_OLD_VERSION,
    ConnAck,
    Connect,
    Disconnect,
    Message,
    Packet,
    PingReq,
    PingResp,
    ProtocolError,
    PubAck,
    Publish,
    Reader,
    Reason,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Will,
    write,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0+#"), min_size=1, max_size=12)
MESSAGES = st.builds(
    Message,
    topic=TEXT,
    payload=st.binary(max_size=300),
    qos=st.integers(0, 1),
    retain=st.booleans(),
    payload_format=st.integers(0, 1),
    expiry_s=st.none() | st.integers(0, 0xFFFF_FFFF),
    content_type=st.none() | TEXT,
    response_topic=st.none() | TEXT,
    correlation_data=st.none() | st.binary(max_size=9),
    user_properties=st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
)
IDS = st.integers(1, 0xFFFF)


def as_publish(message: Message, packet_id: int, duplicate: bool, alias: int | None) -> Publish:
    at_least_once = message.qos > 0
    return Publish(
        message=message,
        packet_id=packet_id if at_least_once else None,
        duplicate=duplicate and at_least_once,
        topic_alias=alias,
    )


FILTERS = st.sampled_from(["a/#", "+/b", "#", "$aws/things/x/jobs/#", "plain"])
PACKETS: st.SearchStrategy[Packet] = st.one_of(
    st.builds(as_publish, MESSAGES, IDS, st.booleans(), st.none() | IDS),
    st.builds(
        Connect,
        client_id=TEXT | st.just(""),
        clean_start=st.booleans(),
        keep_alive_s=st.integers(0, 0xFFFF),
        session_expiry_s=st.integers(0, 0xFFFF_FFFF),
        receive_maximum=IDS,
        maximum_packet_size=st.none() | IDS,
        will=st.none() | st.builds(Will, message=MESSAGES, delay_s=st.integers(0, 100)),
        user_name=st.none() | TEXT,
    ),
    st.builds(ConnAck, session_present=st.booleans(), reason=st.just(Reason.SUCCESS), maximum_qos=st.integers(0, 1)),
    st.builds(PubAck, packet_id=IDS, reason=st.sampled_from([Reason.SUCCESS, Reason.NOT_AUTHORIZED])),
    st.builds(
        Subscribe,
        packet_id=IDS,
        subscription_id=st.none() | st.integers(1, 268_435_455),
        subscriptions=st.lists(
            st.builds(
                Subscription,
                topic_filter=FILTERS,
                qos=st.integers(0, 2),
                no_local=st.booleans(),
                retain_as_published=st.booleans(),
                retain_handling=st.integers(0, 2),
            ),
            min_size=1,
            max_size=3,
        ).map(tuple),
    ),
    st.builds(SubAck, packet_id=IDS, reasons=st.just((Reason.GRANTED_QOS_1, Reason.NOT_AUTHORIZED))),
    st.builds(Unsubscribe, packet_id=IDS, topic_filters=st.lists(FILTERS, min_size=1, max_size=3).map(tuple)),
    st.builds(UnsubAck, packet_id=IDS, reasons=st.just((Reason.SUCCESS, Reason.NO_SUBSCRIPTION_EXISTED))),
    st.just(PingReq()),
    st.just(PingResp()),
    st.builds(
        Disconnect, reason=st.sampled_from([Reason.SUCCESS, Reason.SESSION_TAKEN_OVER]), reason_text=st.none() | TEXT
    ),
)


@given(st.lists(PACKETS, min_size=1, max_size=5), st.data())
def test_bytes_cut_anywhere_give_the_same_packets(packets: list[Packet], data: st.DataObject) -> None:
    stream = b"".join(map(write, packets))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader = Reader()
    found: list[Packet] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end])
        found.extend(reader.packets())
    assert found == packets


def drain(stream: bytes, *, limit_bytes: int = 4096) -> list[Packet]:
    reader = Reader(limit_bytes=limit_bytes)
    reader.feed(stream)
    return list(reader.packets())


ERRORS = tuple(reason for reason in Reason if reason >= Reason.UNSPECIFIED_ERROR)


def refusal(stream: bytes) -> Reason | None:
    try:
        drain(stream)
    except ProtocolError as error:
        return error.reason
    return None


@given(st.binary(max_size=200))
@example(b"\x30\x03\x00\x01\xff")
def test_garbage_is_never_anything_but_one_protocol_error(garbage: bytes) -> None:
    assert refusal(garbage) in (None, *ERRORS)


@given(PACKETS, st.data())
def test_a_mutated_packet_is_read_or_refused(packet: Packet, data: st.DataObject) -> None:
    stream = bytearray(write(packet))
    for _ in range(data.draw(st.integers(1, 3))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    assert refusal(bytes(stream)) in (None, *ERRORS)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(data)) + data


def frame(first: int, body: bytes) -> bytes:
    return bytes([first, len(body)]) + body


LENIENCIES = {
    "wildcard in the topic": (frame(0x30, text("a/+") + b"\0"), Reason.TOPIC_NAME_INVALID),
    "NUL in the topic": (frame(0x30, text("a\0") + b"\0"), Reason.TOPIC_NAME_INVALID),
    "no topic, no alias": (frame(0x30, text("") + b"\0"), Reason.MALFORMED_PACKET),
    "packet id 0": (frame(0x32, text("a") + b"\0\0\0"), Reason.PROTOCOL_ERROR),
    "DUP with QoS 0": (frame(0x38, text("a") + b"\0"), Reason.MALFORMED_PACKET),
    "payload format 2": (frame(0x30, text("a") + b"\x02\x01\x02"), Reason.PROTOCOL_ERROR),
    "wildcard in the response topic": (frame(0x30, text("a") + b"\x04\x08" + text("#")), Reason.PROTOCOL_ERROR),
    "text that is not UTF-8": (frame(0x30, text(b"\xff") + b"\0"), Reason.MALFORMED_PACKET),
    "a user property that is not UTF-8": (
        frame(0x30, text("a") + b"\x08\x26" + text(b"\xff") + text("bc")),
        Reason.MALFORMED_PACKET,
    ),
    "a client id that is not UTF-8": (
        frame(0x10, text("MQTT") + b"\x05\x02\0\0\0" + text(b"\xff")),
        Reason.MALFORMED_PACKET,
    ),
    "a reason that is not UTF-8": (frame(0xE0, b"\0\x04\x1f" + text(b"\xff")), Reason.MALFORMED_PACKET),
    "PUBACK of packet id 0": (frame(0x40, b"\0\0"), Reason.PROTOCOL_ERROR),
    "SUBSCRIBE of nothing": (frame(0x82, b"\0\1\0"), Reason.PROTOCOL_ERROR),
    "SUBSCRIBE with packet id 0": (frame(0x82, b"\0\0\0" + text("a") + b"\1"), Reason.PROTOCOL_ERROR),
    "reserved options": (frame(0x82, b"\0\1\0" + text("a") + b"\1" + text("b") + b"\x41"), Reason.MALFORMED_PACKET),
    "filter a#b": (frame(0x82, b"\0\1\0" + text("a#b") + b"\1"), Reason.TOPIC_FILTER_INVALID),
    "empty filter": (frame(0x82, b"\0\1\0" + text("") + b"\1"), Reason.TOPIC_FILTER_INVALID),
    "UNSUBSCRIBE of nothing": (frame(0xA2, b"\0\1\0"), Reason.PROTOCOL_ERROR),
    "reserved CONNECT flag": (frame(0x10, text("MQTT") + b"\x05\x01\0\0\0" + text("x")), Reason.MALFORMED_PACKET),
    "will QoS without will": (frame(0x10, text("MQTT") + b"\x05\x08\0\0\0" + text("x")), Reason.MALFORMED_PACKET),
    "packet type 0": (b"\0\0", Reason.MALFORMED_PACKET),
    "AUTH": (b"\xf0\x02\x18\0", Reason.PROTOCOL_ERROR),
    "QoS 2's PUBREL": (frame(0x62, b"\0\1"), Reason.PROTOCOL_ERROR),
    "length of five bytes": (b"\x30\x80\x80\x80\x80\x01", Reason.MALFORMED_PACKET),
    "text beyond the packet": (frame(0x30, b"\x00\x09a"), Reason.MALFORMED_PACKET),
}


@pytest.mark.parametrize(("stream", "reason"), LENIENCIES.values(), ids=LENIENCIES)
def test_what_the_codec_lets_through_is_refused(stream: bytes, reason: Reason) -> None:
    with pytest.raises(ProtocolError) as caught:
        drain(stream)
    assert caught.value.reason is reason


def test_packets_before_the_broken_one_are_given_and_none_after_it() -> None:
    reader = Reader()
    reader.feed(write(PingReq()) + b"\0\0" + write(PingReq()))
    assert reader.next_packet() == PingReq()
    with pytest.raises(ProtocolError):
        reader.next_packet()
    reader.feed(write(PingReq()))
    assert reader.next_packet() is None


def test_a_packet_over_the_limit_is_refused_by_its_header_alone() -> None:
    with pytest.raises(ProtocolError) as caught:
        drain(b"\x30\xff\xff\xff\x7f")
    assert caught.value.reason is Reason.PACKET_TOO_LARGE


def test_a_packet_of_exactly_the_limit_is_read() -> None:
    stream = write(Publish(message=Message(topic="t", payload=b"x" * 100)))
    assert len(drain(stream, limit_bytes=len(stream))) == 1
    with pytest.raises(ProtocolError):
        drain(stream, limit_bytes=len(stream) - 1)


@pytest.mark.parametrize(("name", "level"), [("MQTT", 4), ("MQIsdp", 3), ("MQTT", 6)])
def test_another_protocol_version_is_told_apart(name: str, level: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        drain(frame(0x10, text(name) + bytes([level]) + b"\x02\0\x3c" + text("old")))
    assert caught.value.reason is Reason.UNSUPPORTED_PROTOCOL_VERSION
    assert caught.value.protocol_level == level


def test_the_refusal_of_an_old_client_is_a_connack_of_its_own_version() -> None:
    """MQTT 3.1.1, 3.2: type 2, length 2, no session, return code 1."""
    assert bytes([0x20, 2, 0, 1]) == REFUSE_OLD_VERSION


def test_text_that_does_not_fit_cannot_be_written() -> None:
    with pytest.raises(ProtocolError):
        write(Publish(message=Message(topic="t" * 70_000)))

"""MQTT 5 packets: bytes in, frozen dataclasses out, and back; no sockets.

The codec is the ``mqtt5`` package. This module puts around it what a peer on the open network needs: a limit that holds
before anything is buffered, one error for whatever may be wrong with the bytes (the codec panics on text that is not
UTF-8), the checks that the codec leaves out, and plain values instead of its enums.

Source: MQTT Version 5.0, OASIS Standard, 7 March 2019.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import mqtt5

from monodon.core.topics import valid_iot_filter, valid_iot_topic
from monodon.mqtt.layout import CONNECT, SUBSCRIBE, has_valid_text, header_bytes, reserved_options
from monodon.mqtt.packets import (
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
    Reason,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Will,
)

#: Largest packet that the protocol can announce: four bytes of length and the byte before them included.
PROTOCOL_MAXIMUM_BYTES: Final = 268_435_460
#: What an MQTT 3.1.1 client understands as "unacceptable protocol version" (CONNACK, code 1).
REFUSE_OLD_VERSION: Final = b"\x20\x02\x00\x01"

_QOS = tuple(mqtt5.QoS(value) for value in range(3))
_RETAIN_HANDLING = tuple(mqtt5.RetainHandling(value) for value in range(3))


class Reader:
    """Packets out of bytes that arrive cut anywhere.

    Memory is bounded by ``limit_bytes`` and one fed piece: a packet that announces more is refused as soon as its
    fixed header has arrived. After a :class:`ProtocolError` the reader gives nothing more.
    """

    def __init__(self, *, limit_bytes: int = PROTOCOL_MAXIMUM_BYTES) -> None:
        self._limit = limit_bytes
        self._buffer = bytearray()
        self._position = 0
        self._is_broken = False

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take what arrived; ask ``packets`` or ``next_packet`` for what it completes."""
        if not self._is_broken:
            self._buffer += data

    def packets(self) -> Iterator[Packet]:
        """Yield every complete packet.

        Raises:
            ProtocolError: the next packet is too large, malformed, or not spoken here; the ones before it were yielded.
        """
        while (packet := self.next_packet()) is not None:
            yield packet

    def next_packet(self) -> Packet | None:
        """Return the next packet, or None until more arrives (raises as ``packets`` does)."""
        if self._is_broken:
            return None
        try:
            size = _frame_size(self._buffer, self._position)
            if size is not None and size > self._limit:
                raise ProtocolError(f"a packet of {size} bytes, limit {self._limit}", Reason.PACKET_TOO_LARGE)
            if size is None or len(self._buffer) - self._position < size:
                self._compact()
                return None
            end = self._position + size
            with memoryview(self._buffer) as whole, whole[self._position : end] as frame:
                packet = _read_frame(frame)
        except ProtocolError:
            self._is_broken = True
            self._buffer.clear()
            raise
        self._position = end
        return packet

    def _compact(self) -> None:
        if self._position:
            del self._buffer[: self._position]
            self._position = 0


def _frame_size(buffer: bytearray, start: int) -> int | None:
    """Bytes of the packet at ``start``, its fixed header included; None while the header is incomplete."""
    length = 0
    for index in range(4):
        at = start + 1 + index
        if at >= len(buffer):
            return None
        length |= (buffer[at] & 0x7F) << (7 * index)
        if not buffer[at] & 0x80:
            return 2 + index + length
    raise ProtocolError("the remaining length has more than four bytes", Reason.MALFORMED_PACKET)


def _read_frame(frame: memoryview) -> Packet:
    """Read exactly one whole packet."""
    if not has_valid_text(frame):
        raise ProtocolError("text that is not UTF-8", Reason.MALFORMED_PACKET)
    try:
        raw, _ = mqtt5.read(frame)
    except (ValueError, IndexError) as error:
        raise _refusal(frame, str(error)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ProtocolError("the codec gave up on the packet", Reason.MALFORMED_PACKET) from error
    reader = _READERS.get(type(raw))
    if reader is None:
        raise ProtocolError(f"{type(raw).__name__} is not spoken here", Reason.PROTOCOL_ERROR)
    if frame[0] >> 4 == CONNECT:
        _check_connect_flags(frame)
    elif frame[0] >> 4 == SUBSCRIBE and reserved_options(frame):
        raise ProtocolError("reserved subscription options are set", Reason.MALFORMED_PACKET)
    return reader(raw)


def _refusal(frame: memoryview, message: str) -> ProtocolError:
    """The error for a frame the codec refuses; a CONNECT of another version is told apart."""
    if frame[0] == CONNECT << 4:
        body = bytes(frame[header_bytes(frame) : header_bytes(frame) + 9])
        for name in (b"\x00\x04MQTT", b"\x00\x06MQIsdp"):
            if body.startswith(name) and len(body) > len(name) and body[len(name)] != 5:
                level = body[len(name)]
                text = f"MQTT protocol level {level} instead of 5"
                return ProtocolError(text, Reason.UNSUPPORTED_PROTOCOL_VERSION, protocol_level=level)
    return ProtocolError(message, Reason.MALFORMED_PACKET)


def _check_connect_flags(frame: memoryview) -> None:
    """[MQTT-3.1.2-3], -11, -13: the reserved flag is 0, and so is all about a will when there is none."""
    flags = frame[header_bytes(frame) + 7]
    if flags & 0x01 or (not flags & 0x04 and flags & 0x38):
        raise ProtocolError("reserved CONNECT flags are set", Reason.MALFORMED_PACKET)


def _packet_id(value: int | None) -> int:
    if not value:
        raise ProtocolError("packet identifier 0", Reason.PROTOCOL_ERROR)
    return value


def _text(value: str, what: str) -> str:
    if "\0" in value:
        raise ProtocolError(f"NUL in the {what}", Reason.MALFORMED_PACKET)
    return value


def _properties(raw: Any) -> dict[str, Any]:
    """What a PUBLISH and a will have in common."""
    if raw.payload_format_indicator > 1:
        raise ProtocolError("payload format indicator above 1", Reason.PROTOCOL_ERROR)
    if raw.response_topic is not None and not valid_iot_topic(raw.response_topic):
        raise ProtocolError("the response topic is no topic name", Reason.PROTOCOL_ERROR)
    return {
        "qos": int(raw.qos),
        "retain": raw.retain,
        "payload_format": raw.payload_format_indicator,
        "expiry_s": raw.message_expiry_interval,
        "content_type": raw.content_type,
        "response_topic": raw.response_topic,
        "correlation_data": raw.correlation_data,
        "user_properties": tuple(raw.user_properties),
    }


def _read_publish(raw: Any) -> Publish:
    qos = int(raw.qos)
    if raw.topic and not valid_iot_topic(raw.topic):  # empty: the codec asks for a topic alias then
        raise ProtocolError("the topic of a PUBLISH has a wildcard or NUL", Reason.TOPIC_NAME_INVALID)
    if raw.duplicate and qos == 0:
        raise ProtocolError("DUP on a QoS 0 PUBLISH", Reason.MALFORMED_PACKET)
    return Publish(
        message=Message(topic=raw.topic, payload=raw.payload, **_properties(raw)),
        packet_id=_packet_id(raw.packet_id) if qos else None,
        duplicate=raw.duplicate,
        topic_alias=raw.topic_alias,
        subscription_ids=tuple(raw.subscription_ids),
    )


def _read_will(raw: Any) -> Will:
    if not valid_iot_topic(raw.topic):
        raise ProtocolError("the will's topic is no topic name", Reason.TOPIC_NAME_INVALID)
    message = Message(topic=raw.topic, payload=raw.payload or b"", **_properties(raw))
    return Will(message=message, delay_s=raw.will_delay_interval)


def _read_connect(raw: Any) -> Connect:
    return Connect(
        client_id=_text(raw.client_id, "client id"),
        clean_start=raw.clean_start,
        keep_alive_s=raw.keep_alive,
        session_expiry_s=raw.session_expiry_interval,
        receive_maximum=raw.receive_max,
        maximum_packet_size=raw.max_packet_size,
        topic_alias_maximum=raw.topic_alias_max,
        request_problem_information=raw.request_problem_info,
        user_name=raw.username,
        password=raw.password,
        authentication_method=raw.authentication_method,
        will=None if raw.will is None else _read_will(raw.will),
        user_properties=tuple(raw.user_properties),
    )


def _read_connack(raw: Any) -> ConnAck:
    return ConnAck(
        reason=Reason(int(raw.reason_code)),
        session_present=raw.session_present,
        session_expiry_s=raw.session_expiry_interval,
        assigned_client_id=raw.assigned_client_id,
        server_keep_alive_s=raw.server_keep_alive,
        receive_maximum=raw.receive_max,
        topic_alias_maximum=raw.topic_alias_max,
        maximum_qos=int(raw.max_qos),
        maximum_packet_size=raw.max_packet_size,
        shared_subscriptions=raw.shared_subscription_available,
        reason_text=raw.reason_str,
    )


def _read_puback(raw: Any) -> PubAck:
    reason = Reason(int(raw.reason_code))
    return PubAck(packet_id=_packet_id(raw.packet_id), reason=reason, reason_text=raw.reason_str)


def _filter(text: str) -> str:
    if not valid_iot_filter(text):
        raise ProtocolError(f"{text[:80]!r} is not a topic filter", Reason.TOPIC_FILTER_INVALID)
    return text


def _read_subscribe(raw: Any) -> Subscribe:
    if not raw.topic_filters:
        raise ProtocolError("a SUBSCRIBE without a filter", Reason.PROTOCOL_ERROR)
    subscriptions = tuple(
        Subscription(
            topic_filter=_filter(each.pattern),
            qos=int(each.max_qos),
            no_local=each.no_local,
            retain_as_published=each.retain_as_published,
            retain_handling=int(each.retain_handling),
        )
        for each in raw.topic_filters
    )
    packet_id = _packet_id(raw.packet_id)
    return Subscribe(packet_id=packet_id, subscriptions=subscriptions, subscription_id=raw.subscription_id)


def _read_suback(raw: Any) -> SubAck:
    reasons = tuple(Reason(int(code)) for code in raw.reason_codes)
    return SubAck(packet_id=_packet_id(raw.packet_id), reasons=reasons, reason_text=raw.reason_str)


def _read_unsubscribe(raw: Any) -> Unsubscribe:
    if not raw.patterns:
        raise ProtocolError("an UNSUBSCRIBE without a filter", Reason.PROTOCOL_ERROR)
    return Unsubscribe(packet_id=_packet_id(raw.packet_id), topic_filters=tuple(map(_filter, raw.patterns)))


def _read_unsuback(raw: Any) -> UnsubAck:
    reasons = tuple(Reason(int(code)) for code in raw.reason_codes)
    return UnsubAck(packet_id=_packet_id(raw.packet_id), reasons=reasons)


def _read_disconnect(raw: Any) -> Disconnect:
    reason = Reason(int(raw.reason_code))
    return Disconnect(reason=reason, session_expiry_s=raw.session_expiry_interval, reason_text=raw.reason_str)


_READERS: dict[type, Callable[[Any], Packet]] = {
    mqtt5.ConnectPacket: _read_connect,
    mqtt5.ConnAckPacket: _read_connack,
    mqtt5.PublishPacket: _read_publish,
    mqtt5.PubAckPacket: _read_puback,
    mqtt5.SubscribePacket: _read_subscribe,
    mqtt5.SubAckPacket: _read_suback,
    mqtt5.UnsubscribePacket: _read_unsubscribe,
    mqtt5.UnsubAckPacket: _read_unsuback,
    mqtt5.PingReqPacket: lambda _: PingReq(),
    mqtt5.PingRespPacket: lambda _: PingResp(),
    mqtt5.DisconnectPacket: _read_disconnect,
}


def write(packet: Packet) -> bytes:
    """Return the bytes of one packet.

    Raises:
        ProtocolError: something in it does not fit into MQTT (text over 65,535 bytes, a payload over 256 MiB).
    """
    if isinstance(packet, Publish) and len(packet.message.payload) > PROTOCOL_MAXIMUM_BYTES - 0x10_0000:
        raise ProtocolError("a payload over 255 MiB", Reason.PACKET_TOO_LARGE)
    try:
        return _WRITERS[type(packet)](packet)
    except (ValueError, OverflowError) as error:
        raise ProtocolError(f"cannot write {type(packet).__name__}: {error}", Reason.PROTOCOL_ERROR) from error


def _write_publish(packet: Publish) -> bytes:
    message = packet.message
    raw = mqtt5.PublishPacket(
        message.topic,
        message.payload,
        qos=_QOS[message.qos],
        retain=message.retain,
        packet_id=packet.packet_id,
        duplicate=packet.duplicate,
        payload_format_indicator=message.payload_format,
        message_expiry_interval=message.expiry_s,
        content_type=message.content_type,
        response_topic=message.response_topic,
        correlation_data=message.correlation_data,
        subscription_ids=list(packet.subscription_ids),
        topic_alias=packet.topic_alias,
        user_properties=list(message.user_properties),
    )
    return raw.write()


def _will(will: Will) -> mqtt5.Will:
    message = will.message
    return mqtt5.Will(
        message.topic,
        payload=message.payload,
        qos=_QOS[message.qos],
        retain=message.retain,
        payload_format_indicator=message.payload_format,
        message_expiry_interval=message.expiry_s,
        content_type=message.content_type,
        response_topic=message.response_topic,
        correlation_data=message.correlation_data,
        will_delay_interval=will.delay_s,
        user_properties=list(message.user_properties),
    )


def _write_connect(packet: Connect) -> bytes:
    raw = mqtt5.ConnectPacket(
        packet.client_id,
        username=packet.user_name,
        password=packet.password,
        clean_start=packet.clean_start,
        will=None if packet.will is None else _will(packet.will),
        keep_alive=packet.keep_alive_s,
        session_expiry_interval=packet.session_expiry_s,
        authentication_method=packet.authentication_method,
        request_problem_info=packet.request_problem_information,
        receive_max=packet.receive_maximum,
        topic_alias_max=packet.topic_alias_maximum,
        max_packet_size=packet.maximum_packet_size,
        user_properties=list(packet.user_properties),
    )
    return raw.write()


def _write_connack(packet: ConnAck) -> bytes:
    raw = mqtt5.ConnAckPacket(
        session_present=packet.session_present,
        reason_code=mqtt5.ConnAckReasonCode(int(packet.reason)),
        session_expiry_interval=packet.session_expiry_s,
        assigned_client_id=packet.assigned_client_id,
        server_keep_alive=packet.server_keep_alive_s,
        receive_max=packet.receive_maximum,
        topic_alias_max=packet.topic_alias_maximum,
        max_qos=_QOS[packet.maximum_qos],
        max_packet_size=packet.maximum_packet_size,
        shared_subscription_available=packet.shared_subscriptions,
        reason_str=packet.reason_text,
    )
    return raw.write()


def _write_puback(packet: PubAck) -> bytes:
    code = mqtt5.PubAckReasonCode(int(packet.reason))
    return mqtt5.PubAckPacket(packet.packet_id, reason_code=code, reason_str=packet.reason_text).write()


def _write_subscribe(packet: Subscribe) -> bytes:
    filters = [
        mqtt5.TopicFilter(
            each.topic_filter,
            max_qos=_QOS[each.qos],
            no_local=each.no_local,
            retain_as_published=each.retain_as_published,
            retain_handling=_RETAIN_HANDLING[each.retain_handling],
        )
        for each in packet.subscriptions
    ]
    return mqtt5.SubscribePacket(packet.packet_id, filters, subscription_id=packet.subscription_id).write()


def _write_suback(packet: SubAck) -> bytes:
    codes = [mqtt5.SubAckReasonCode(int(reason)) for reason in packet.reasons]
    return mqtt5.SubAckPacket(packet.packet_id, codes, reason_str=packet.reason_text).write()


def _write_unsuback(packet: UnsubAck) -> bytes:
    codes = [mqtt5.UnsubAckReasonCode(int(reason)) for reason in packet.reasons]
    return mqtt5.UnsubAckPacket(packet.packet_id, codes).write()


def _write_disconnect(packet: Disconnect) -> bytes:
    raw = mqtt5.DisconnectPacket(
        reason_code=mqtt5.DisconnectReasonCode(int(packet.reason)),
        session_expiry_interval=packet.session_expiry_s,
        reason_str=packet.reason_text,
    )
    return raw.write()


_WRITERS: dict[type, Callable[[Any], bytes]] = {
    Connect: _write_connect,
    ConnAck: _write_connack,
    Publish: _write_publish,
    PubAck: _write_puback,
    Subscribe: _write_subscribe,
    SubAck: _write_suback,
    Unsubscribe: lambda packet: mqtt5.UnsubscribePacket(packet.packet_id, list(packet.topic_filters)).write(),
    UnsubAck: _write_unsuback,
    PingReq: lambda _: mqtt5.PingReqPacket().write(),
    PingResp: lambda _: mqtt5.PingRespPacket().write(),
    Disconnect: _write_disconnect,
}

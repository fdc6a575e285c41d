"""MQTT 5 packets out of bytes: frozen dataclasses; no sockets.

The codec is the ``mqtt5`` package. This module puts around it what a peer on the open network needs: a limit that holds
before anything is buffered, one error for whatever may be wrong with the bytes (the codec panics on text that is not
UTF-8), the checks that the codec leaves out, and plain values instead of its enums.

Source: MQTT Version 5.0, OASIS Standard, 7 March 2019.
"""

from collections.abc import Callable, Iterator
from typing import Any

import mqtt5

from monodon.core.topics import valid_iot_filter, valid_iot_topic
from monodon.mqtt.layout import (
    CONNECT,
    PROTOCOL_MAXIMUM_BYTES,
    SUBSCRIBE,
    has_valid_text,
    header_bytes,
    reserved_options,
)
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

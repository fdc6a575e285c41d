"""MQTT 5 packets to bytes, by the ``mqtt5`` package; no sockets. ``reading`` is the way back."""

from collections.abc import Callable
from typing import Any, Final

import mqtt5

from monodon.mqtt.layout import PROTOCOL_MAXIMUM_BYTES
from monodon.mqtt.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    ProtocolError,
    PubAck,
    Publish,
    Reason,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    Will,
)

#: What an MQTT 3.1.1 client understands as "unacceptable protocol version" (CONNACK, code 1).
REFUSE_OLD_VERSION: Final = b"\x20\x02\x00\x01"

_QOS = tuple(mqtt5.QoS(value) for value in range(3))
_RETAIN_HANDLING = tuple(mqtt5.RetainHandling(value) for value in range(3))


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

"""What travels in MQTT 5, as plain frozen values; ``codec`` turns them into bytes and back.

QoS 2 and enhanced authentication are left out: nothing here speaks them.

Source: MQTT Version 5.0, OASIS Standard, 7 March 2019.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from monodon.errors import NetworkError

NO_EXPIRY: Final = 0xFFFF_FFFF


class Reason(IntEnum):
    """Every reason code of MQTT 5. Below 128 all went well; 1 is also "granted QoS 1" in a SUBACK."""

    SUCCESS = 0
    GRANTED_QOS_1 = 1
    GRANTED_QOS_2 = 2
    DISCONNECT_WITH_WILL = 4
    NO_MATCHING_SUBSCRIBERS = 16
    NO_SUBSCRIPTION_EXISTED = 17
    CONTINUE_AUTHENTICATION = 24
    RE_AUTHENTICATE = 25
    UNSPECIFIED_ERROR = 128
    MALFORMED_PACKET = 129
    PROTOCOL_ERROR = 130
    IMPLEMENTATION_SPECIFIC_ERROR = 131
    UNSUPPORTED_PROTOCOL_VERSION = 132
    CLIENT_ID_NOT_VALID = 133
    BAD_USER_NAME_OR_PASSWORD = 134
    NOT_AUTHORIZED = 135
    SERVER_UNAVAILABLE = 136
    SERVER_BUSY = 137
    BANNED = 138
    SERVER_SHUTTING_DOWN = 139
    BAD_AUTHENTICATION_METHOD = 140
    KEEP_ALIVE_TIMEOUT = 141
    SESSION_TAKEN_OVER = 142
    TOPIC_FILTER_INVALID = 143
    TOPIC_NAME_INVALID = 144
    PACKET_ID_IN_USE = 145
    PACKET_ID_NOT_FOUND = 146
    RECEIVE_MAXIMUM_EXCEEDED = 147
    TOPIC_ALIAS_INVALID = 148
    PACKET_TOO_LARGE = 149
    MESSAGE_RATE_TOO_HIGH = 150
    QUOTA_EXCEEDED = 151
    ADMINISTRATIVE_ACTION = 152
    PAYLOAD_FORMAT_INVALID = 153
    RETAIN_NOT_SUPPORTED = 154
    QOS_NOT_SUPPORTED = 155
    USE_ANOTHER_SERVER = 156
    SERVER_MOVED = 157
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 158
    CONNECTION_RATE_EXCEEDED = 159
    MAXIMUM_CONNECT_TIME = 160
    SUBSCRIPTION_IDS_NOT_SUPPORTED = 161
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 162


class ProtocolError(NetworkError):
    """What the peer sent is not MQTT 5 as spoken here; ``reason`` goes into the DISCONNECT or CONNACK.

    ``protocol_level`` is the version byte of a CONNECT of another version (4: MQTT 3.1.1), else None.
    """

    def __init__(self, message: str, reason: Reason, *, protocol_level: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.protocol_level = protocol_level


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is published, whoever carries it. ``expiry_s`` counts from the moment it was received."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    payload_format: int = 0
    expiry_s: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    user_properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """Published for a client that went without a farewell, ``delay_s`` later."""

    message: Message
    delay_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """The first packet of a client."""

    client_id: str
    clean_start: bool = False
    keep_alive_s: int = 0
    session_expiry_s: int = 0
    receive_maximum: int = 65_535
    maximum_packet_size: int | None = None
    topic_alias_maximum: int = 0
    request_problem_information: bool = True
    user_name: str | None = None
    password: bytes | None = None
    authentication_method: str | None = None
    will: Will | None = None
    user_properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnAck:
    """The answer to it; None and the defaults are what MQTT assumes when a property is absent."""

    reason: Reason = Reason.SUCCESS
    session_present: bool = False
    session_expiry_s: int | None = None
    assigned_client_id: str | None = None
    server_keep_alive_s: int | None = None
    receive_maximum: int = 65_535
    topic_alias_maximum: int = 0
    maximum_qos: int = 2
    maximum_packet_size: int | None = None
    shared_subscriptions: bool = True
    reason_text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """A message on its way; ``packet_id`` from QoS 1 on, an empty topic only with ``topic_alias``."""

    message: Message
    packet_id: int | None = None
    duplicate: bool = False
    topic_alias: int | None = None
    subscription_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PubAck:
    """A QoS 1 message was taken over, or refused."""

    packet_id: int
    reason: Reason = Reason.SUCCESS
    reason_text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One filter of a SUBSCRIBE; ``retain_handling`` 0 sends retained messages, 1 only for a new one, 2 never."""

    topic_filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """One filter or more; ``subscription_id`` comes back with each message they cover."""

    packet_id: int
    subscriptions: tuple[Subscription, ...]
    subscription_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubAck:
    """One reason for each filter: the QoS granted, or an error."""

    packet_id: int
    reasons: tuple[Reason, ...]
    reason_text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribe:
    """Filters, written as they were subscribed to."""

    packet_id: int
    topic_filters: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsubAck:
    """One reason for each filter."""

    packet_id: int
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class PingReq:
    """The client is still there."""


@dataclass(frozen=True, slots=True)
class PingResp:
    """So is the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """The last packet of either side, and why."""

    reason: Reason = Reason.SUCCESS
    session_expiry_s: int | None = None
    reason_text: str | None = None


Packet: TypeAlias = (
    Connect | ConnAck | Publish | PubAck | Subscribe | SubAck | Unsubscribe | UnsubAck | PingReq | PingResp | Disconnect
)

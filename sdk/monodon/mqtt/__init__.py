"""MQTT 5 packets over the ``mqtt5`` codec: framing, limit, guard; pure. ``packets`` are values,
``reading`` and ``writing`` the bytes."""

from monodon.mqtt.layout import PROTOCOL_MAXIMUM_BYTES
from monodon.mqtt.packets import (
    NO_EXPIRY,
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
from monodon.mqtt.reading import Reader
from monodon.mqtt.writing import REFUSE_OLD_VERSION, write

__all__ = [
    "NO_EXPIRY",
    "PROTOCOL_MAXIMUM_BYTES",
    "REFUSE_OLD_VERSION",
    "ConnAck",
    "Connect",
    "Disconnect",
    "Message",
    "Packet",
    "PingReq",
    "PingResp",
    "ProtocolError",
    "PubAck",
    "Publish",
    "Reader",
    "Reason",
    "SubAck",
    "Subscribe",
    "Subscription",
    "UnsubAck",
    "Unsubscribe",
    "Will",
    "write",
]

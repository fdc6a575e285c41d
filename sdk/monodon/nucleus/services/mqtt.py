"""AWS IoT Core through the nucleus: components publish and subscribe over its one connection.

Source: Greengrass nucleus, ``MqttProxyIPCAgent.java``, ``MqttClient.java`` (checks); ipc.md 4.2.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from monodon.core.policy import MQTT_PROXY
from monodon.core.topics import (
    MAX_IOT_PAYLOAD_BYTES,
    iot_limit_problem,
    valid_iot_filter,
    valid_iot_topic,
)
from monodon.errors import MonodonError
from monodon.ipc.errors import InvalidArgumentsError, ServiceError
from monodon.ipc.service import Operation, Service, Stream
from monodon.ipc.shapes import (
    ConnectionStatus,
    ConnectionStatusEvent,
    IoTCoreConnectionStatusEvent,
    IoTCoreMessage,
    MQTTMessage,
    PublishToIoTCoreRequest,
    SubscribeToIoTCoreConnectionStatusRequest,
    SubscribeToIoTCoreConnectionStatusResponse,
    SubscribeToIoTCoreRequest,
    UserProperty,
)
from monodon.nucleus.uplink.protocol import IotMessage

_QOS: Final = {"0": 0, "1": 1}
_FORMATS: Final = {None: None, "0": 0, "1": 1}


class IotTopics(Protocol):
    """The part of an uplink that messages need."""

    @property
    def is_connected(self) -> bool:
        """Whether the cloud can be reached now."""

    def watch_connection(self, notify: Callable[[bool], None]) -> Callable[[], None]:
        """Call ``notify`` with each change."""

    async def publish(self, message: IotMessage, qos: int) -> None:
        """Send, or keep until the cloud is back."""

    async def subscribe(
        self, topic_filter: str, qos: int, deliver: Callable[[IotMessage], None]
    ) -> Callable[[], Awaitable[None]]:
        """Deliver what matches until the result is called."""


def _required_topic(request: PublishToIoTCoreRequest | SubscribeToIoTCoreRequest) -> str:
    if request.topic_name is None:
        raise InvalidArgumentsError("Topic is required")
    return request.topic_name


def _qos(text: str | None) -> int:
    if text is None:
        raise InvalidArgumentsError("QoS is required")
    if text not in _QOS:
        raise InvalidArgumentsError(f"QoS {text!r} is neither '0' nor '1'")
    return _QOS[text]


def _check_publish(topic: str, payload: bytes) -> None:
    """Refuse what IoT Core would disconnect for."""
    problem = None
    if not valid_iot_topic(topic):
        problem = "the topic must not be empty nor contain '+', '#' or NUL"
    elif len(payload) > MAX_IOT_PAYLOAD_BYTES:
        problem = f"the payload has {len(payload)} bytes, more than {MAX_IOT_PAYLOAD_BYTES}"
    problem = problem or iot_limit_problem(topic)
    if problem:
        raise ServiceError(f"Publish to topic {topic} failed: {problem}")


def _check_filter(topic_filter: str) -> None:
    problem = iot_limit_problem(topic_filter) if valid_iot_filter(topic_filter) else "it is not a topic filter"
    if problem:
        raise ServiceError(f"Subscribe to topic {topic_filter} failed: {problem}")


def _read_message(request: PublishToIoTCoreRequest) -> IotMessage:
    if request.payload is None:
        raise InvalidArgumentsError("Payload is required")
    if request.payload_format not in _FORMATS:
        raise InvalidArgumentsError(f"payloadFormat {request.payload_format!r} is neither '0' nor '1'")
    expiry_s = request.message_expiry_interval_seconds
    if expiry_s is not None and not 0 <= expiry_s < 2**32:
        raise InvalidArgumentsError(f"messageExpiryIntervalSeconds {expiry_s} is not within 0 and 4294967295")
    return IotMessage(
        topic=request.topic_name or "",
        payload=request.payload,
        retain=bool(request.retain),
        user_properties=tuple((item.key or "", item.value or "") for item in request.user_properties or ()),
        message_expiry_s=expiry_s,
        correlation_data=request.correlation_data,
        response_topic=request.response_topic,
        payload_format=_FORMATS[request.payload_format],
        content_type=request.content_type,
    )


def _event(message: IotMessage) -> IoTCoreMessage:
    properties = tuple(UserProperty(key=key, value=value) for key, value in message.user_properties)
    return IoTCoreMessage(
        message=MQTTMessage(
            topic_name=message.topic,
            payload=message.payload,
            retain=message.retain,
            user_properties=properties or None,
            message_expiry_interval_seconds=message.message_expiry_s,
            correlation_data=message.correlation_data,
            response_topic=message.response_topic,
            payload_format=None if message.payload_format is None else str(message.payload_format),
            content_type=message.content_type,
        )
    )


class _Events:
    """The event of a message, made once when it goes to several subscribers one after another."""

    def __init__(self) -> None:
        self._last: tuple[IotMessage, IoTCoreMessage] | None = None

    def of(self, message: IotMessage) -> IoTCoreMessage:
        if self._last is None or self._last[0] is not message:
            self._last = (message, _event(message))
        return self._last[1]


def mqtt_service(uplink: IotTopics) -> Service:
    """Return the service of AWS IoT Core topics."""
    events = _Events()

    async def publish_to_iot_core(request: PublishToIoTCoreRequest, caller: str) -> None:
        message, qos = _read_message(request), _qos(request.qos)
        _check_publish(message.topic, message.payload)
        try:
            await uplink.publish(message, qos)
        except MonodonError as error:
            raise ServiceError(f"Publish to topic {message.topic} failed: {error}") from error

    async def subscribe_to_iot_core(request: SubscribeToIoTCoreRequest, caller: str, stream: Stream) -> None:
        topic_filter, qos = _required_topic(request), _qos(request.qos)
        _check_filter(topic_filter)
        try:
            unsubscribe = await uplink.subscribe(topic_filter, qos, lambda message: stream.send(events.of(message)))
        except MonodonError as error:
            raise ServiceError(f"Subscribe to topic {topic_filter} failed: {error}") from error
        stream.on_close(unsubscribe)

    def subscribe_to_connection_status(
        request: SubscribeToIoTCoreConnectionStatusRequest, caller: str, stream: Stream
    ) -> SubscribeToIoTCoreConnectionStatusResponse:
        def tell(is_connected: bool) -> None:
            status = ConnectionStatus.CONNECTED if is_connected else ConnectionStatus.DISCONNECTED
            stream.send(IoTCoreConnectionStatusEvent(connection_status_event=ConnectionStatusEvent(status=str(status))))

        stream.on_close(uplink.watch_connection(tell))
        tell(uplink.is_connected)
        return SubscribeToIoTCoreConnectionStatusResponse()

    return Service(
        MQTT_PROXY,
        {
            "aws.greengrass#PublishToIoTCore": Operation(publish_to_iot_core, resource=_required_topic),
            "aws.greengrass#SubscribeToIoTCore": Operation(subscribe_to_iot_core, resource=_required_topic),
            "aws.greengrass#SubscribeToIoTCoreConnectionStatus": Operation(subscribe_to_connection_status),
        },
    )

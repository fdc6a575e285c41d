"""Local publish/subscribe: messages between the components of one device, at most once, in memory.

Source: Greengrass nucleus, ``PubSubIPCEventStreamAgent.java``; ipc.md 4.1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from monodon.core.policy import PUBSUB
from monodon.core.topics import Matching, Subscriptions, has_wildcard, valid_local_topic
from monodon.ipc.errors import InvalidArgumentsError
from monodon.ipc.serialisation import JsonObject, Shape, write_shape
from monodon.ipc.service import Operation, Service, Stream
from monodon.ipc.shapes import (
    BinaryMessage,
    JsonMessage,
    MessageContext,
    PublishToTopicRequest,
    ReceiveMode,
    SubscribeToTopicRequest,
    SubscribeToTopicResponse,
    SubscriptionResponseMessage,
)
from monodon.ipc.splicing import SplicedPublish, read_publish

#: Takes a ``SubscriptionResponseMessage``, or one that is spliced: ``write_shape`` gives the body of either.
Deliver = Callable[[Shape], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Subscriber:
    component: str
    deliver: Deliver
    wants_own: bool


class Bus:
    """Who listens to which local topics. Subscribing twice is receiving twice."""

    def __init__(self) -> None:
        self._subscriptions: Subscriptions[_Subscriber] = Subscriptions(Matching.LOCAL)

    def __len__(self) -> int:
        """How many subscriptions there are."""
        return len(self._subscriptions)

    def subscribe(
        self, topic_filter: str, deliver: Deliver, *, component: str, mode: ReceiveMode | None = None
    ) -> Callable[[], None]:
        """Have messages delivered until the result is called.

        Without a mode, a filter with a wildcard level leaves out what ``component`` itself publishes, whichever of
        its connections it uses; any other filter does not.
        """
        if mode is None:
            mode = ReceiveMode.FROM_OTHERS if has_wildcard(topic_filter) else ReceiveMode.ALL
        subscriber = _Subscriber(component, deliver, mode is ReceiveMode.ALL)
        self._subscriptions.add(topic_filter, subscriber)

        def unsubscribe() -> None:
            self._subscriptions.remove(topic_filter, subscriber)

        return unsubscribe

    def publish(self, topic: str, message: JsonObject | bytes | SplicedPublish, *, sender: str) -> int:
        """Hand a message to every subscriber, encoded once; return how many there were.

        The message is a JSON object, bytes, or what a client sent, passed on as it came.

        Raises:
            InvalidArgumentsError: not a topic to publish on, or infinity in a JSON message.
        """
        if not valid_local_topic(topic):
            raise InvalidArgumentsError(f"the topic {topic!r} must not contain '+', '#' or '*'")
        receivers = [
            subscriber
            for subscriber in self._subscriptions.matching(topic)
            if subscriber.wants_own or subscriber.component != sender
        ]
        if receivers:
            event = message.event() if isinstance(message, SplicedPublish) else _event(topic, message)
            for subscriber in receivers:
                subscriber.deliver(event)
        return len(receivers)


def _event(topic: str, message: JsonObject | bytes) -> SubscriptionResponseMessage:
    context = MessageContext(topic=topic)
    if isinstance(message, bytes):
        event = SubscriptionResponseMessage(binary_message=BinaryMessage(message=message, context=context))
    else:
        event = SubscriptionResponseMessage(json_message=JsonMessage(message=message, context=context))
    try:
        write_shape(event)
    except ValueError as error:
        raise InvalidArgumentsError(f"the message is not JSON: {error}") from error
    return event


def _message(request: PublishToTopicRequest | SplicedPublish) -> JsonObject | bytes | SplicedPublish:
    if isinstance(request, SplicedPublish):
        return request
    found = request.publish_message
    if found is None:
        raise InvalidArgumentsError("publishMessage is missing")
    if found.json_message is not None and found.json_message.message is not None:
        return found.json_message.message
    if found.binary_message is not None and found.binary_message.message is not None:
        return found.binary_message.message
    raise InvalidArgumentsError("publishMessage has no message")


def _topic(request: PublishToTopicRequest | SplicedPublish) -> str:
    if request.topic is None:
        raise InvalidArgumentsError("topic is missing")
    return request.topic


#: receiveMode as it is written; an unknown one is refused.
_MODES: Final[Mapping[str | None, ReceiveMode | None]] = {None: None, **{str(mode): mode for mode in ReceiveMode}}


def pubsub_service(bus: Bus) -> Service:
    """Return the service of local topics."""

    def publish_to_topic(request: PublishToTopicRequest | SplicedPublish, caller: str) -> None:
        bus.publish(_topic(request), _message(request), sender=caller)

    def subscribe_to_topic(request: SubscribeToTopicRequest, caller: str, stream: Stream) -> SubscribeToTopicResponse:
        if request.receive_mode not in _MODES:
            raise InvalidArgumentsError(f"receiveMode {request.receive_mode!r} is none of {', '.join(ReceiveMode)}")
        mode = _MODES[request.receive_mode]
        stream.on_close(bus.subscribe(request.topic or "", stream.send, component=caller, mode=mode))
        return SubscribeToTopicResponse()

    return Service(
        PUBSUB,
        {
            "aws.greengrass#PublishToTopic": Operation(publish_to_topic, resource=_topic, read=read_publish),
            "aws.greengrass#SubscribeToTopic": Operation(
                subscribe_to_topic, resource=lambda request: request.topic or ""
            ),
        },
    )

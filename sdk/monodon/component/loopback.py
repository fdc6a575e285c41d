"""A nucleus in memory: components run against it in a test, or on a terminal, as they do on a device.

It keeps to the rules of the real one where a component can tell: local topics match as AWS's nucleus matches them,
IoT topics as MQTT does, messages are JSON on the way, and arguments that the nucleus refuses are refused with its
error names. There is no access control.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from monodon.component.component import Component
from monodon.component.link import IotPublish, State
from monodon.component.messages import Message, Publishable, iot_payload, local_content
from monodon.component.settings import default_configuration, merge
from monodon.component.subscription import Closing, Mailbox
from monodon.core.json import Json
from monodon.core.topics import (
    MAX_IOT_PAYLOAD_BYTES,
    Matching,
    Subscriptions,
    has_wildcard,
    iot_limit_problem,
    iot_matches,
    local_matches,
    valid_iot_filter,
    valid_iot_topic,
    valid_local_topic,
)
from monodon.errors import ConfigurationError, IpcError

S = TypeVar("S")

#: The component that a test publishes as, unless it says otherwise.
OUTSIDE = "outside"
DEFAULT_NAME = "com.example.Component"


@dataclass(eq=False, slots=True, kw_only=True)
class _Subscriber:
    mailbox: Mailbox
    component: str
    own_messages: bool


@dataclass(eq=False, slots=True)
class _Installed:
    """What the nucleus knows of one component."""

    configuration: dict[str, Json]
    state: str = "STARTING"
    changed: Callable[[Mapping[str, Json]], None] | None = None
    validate: Callable[[Mapping[str, Json]], str | None] | None = None


class LoopbackNucleus:
    """A nucleus in memory, on one event loop; needs no closing."""

    def __init__(self, *, printer: Callable[[str], None] | None = None, thing_name: str = "loopback") -> None:
        """``printer``, if given, gets a line for each message published: ``topic {json}``."""
        self.thing_name = thing_name
        self._printer = printer
        self._components: dict[str, _Installed] = {}
        self._local: Subscriptions[_Subscriber] = Subscriptions(Matching.LOCAL)
        self._iot: Subscriptions[_Subscriber] = Subscriptions(Matching.IOT)
        self._published: list[Message] = []
        self._published_to_iot: list[Message] = []
        self._news = asyncio.Condition()

    # --- for tests ---

    def component(
        self,
        settings: S,
        *,
        name: str = DEFAULT_NAME,
        artifacts: Path | None = None,
        work: Path | None = None,
    ) -> Component[S]:
        """Return a component of this nucleus, with ``settings`` as its configuration.

        Args:
            artifacts, work: its folders; both default to the current one.
        """
        installed = _Installed(default_configuration(settings))
        self._components[name] = installed
        component = Component(
            LoopbackLink(self, name),
            settings,
            name=name,
            thing_name=self.thing_name,
            artifacts=artifacts or Path.cwd(),
            work=work or Path.cwd(),
        )
        installed.changed, installed.validate = component.apply, component.refusal
        return component

    def published(self, topic_filter: str = "#") -> list[Any]:
        """Return the content of every local message so far that the filter covers: dict or bytes, oldest first."""
        return [message.content for message in self.messages(topic_filter)]

    def messages(self, topic_filter: str = "#") -> list[Message]:
        """Return every local message so far that the filter covers, oldest first."""
        return [message for message in self._published if local_matches(topic_filter, message.topic)]

    def published_to_iot(self, topic_filter: str = "#") -> list[Message]:
        """Return every message for AWS IoT Core so far that the filter covers, oldest first."""
        return [message for message in self._published_to_iot if iot_matches(topic_filter, message.topic)]

    def state(self, name: str = DEFAULT_NAME) -> str:
        """Return a component's state: STARTING until it reports RUNNING or ERRORED."""
        return self._installed(name).state

    def configuration(self, name: str = DEFAULT_NAME) -> Mapping[str, Json]:
        """Return a component's configuration as it is now."""
        return self._installed(name).configuration

    async def set_configuration(
        self, changes: Mapping[str, Json], *, name: str = DEFAULT_NAME, validate: bool = True
    ) -> None:
        """Merge ``changes`` into a component's configuration, as a deployment does, and let it know.

        Args:
            validate: ask the component first, as a deployment does; else what it cannot use is written all the same.

        Raises:
            ConfigurationError: the component refuses them; nothing has changed.
        """
        installed = self._installed(name)
        proposed = merge(installed.configuration, _as_json(changes))
        refusal = installed.validate(proposed) if validate and installed.validate else None
        if refusal is not None:
            raise ConfigurationError(refusal)
        installed.configuration = proposed
        if installed.changed:
            installed.changed(proposed)

    async def publish(self, topic: str, message: Publishable) -> None:
        """Publish a local message as another component would."""
        await self.deliver(topic, local_content(topic, message), sender=OUTSIDE)

    async def publish_to_iot(self, topic: str, payload: Publishable, **properties: Any) -> None:
        """Publish to AWS IoT Core as the cloud would."""
        await self.deliver_to_iot(IotPublish(topic=topic, payload=iot_payload(topic, payload), **properties))

    async def wait_for(self, topic_filter: str, count: int = 1, timeout_s: float = 5.0) -> list[Any]:
        """Wait until ``count`` local messages were published that the filter covers; return their contents.

        Raises:
            TimeoutError: fewer came in time; the message says how many and what else came.
        """

        def missing() -> str:
            others = sorted({message.topic for message in self._published}) or "nothing"
            seen = len(self.messages(topic_filter))
            return f"{seen} of {count} messages on {topic_filter} within {timeout_s:g} s; published on: {others}"

        await self._wait(lambda: len(self.messages(topic_filter)) >= count, missing, timeout_s)
        return self.published(topic_filter)

    async def wait_for_iot(self, topic_filter: str, count: int = 1, timeout_s: float = 5.0) -> list[Message]:
        """Wait until ``count`` messages for AWS IoT Core were published that the filter covers; return them.

        Raises:
            TimeoutError: fewer came in time; the message says how many and what else came.
        """

        def missing() -> str:
            others = sorted({message.topic for message in self._published_to_iot}) or "nothing"
            seen = len(self.published_to_iot(topic_filter))
            return f"{seen} of {count} IoT messages on {topic_filter} within {timeout_s:g} s; published on: {others}"

        await self._wait(lambda: len(self.published_to_iot(topic_filter)) >= count, missing, timeout_s)
        return self.published_to_iot(topic_filter)

    async def wait_for_state(self, state: str, *, name: str = DEFAULT_NAME, timeout_s: float = 5.0) -> None:
        """Wait until a component has reported ``state``.

        Raises:
            TimeoutError: it has not in time.
        """
        await self._wait(
            lambda: self.state(name) == state,
            lambda: f"{name} is {self.state(name)}, not {state}, after {timeout_s:g} s",
            timeout_s,
        )

    async def _wait(self, is_there: Callable[[], bool], missing: Callable[[], str], timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(is_there)
        except TimeoutError:
            raise TimeoutError(missing()) from None

    @property
    def subscriptions(self) -> int:
        """How many subscriptions are open, local and IoT."""
        return len(self._local) + len(self._iot)

    # --- for links ---

    def _installed(self, name: str) -> _Installed:
        try:
            return self._components[name]
        except KeyError:
            known = ", ".join(self._components) or "none"
            raise IpcError(f"no component {name} here; known: {known}", code="ResourceNotFoundError") from None

    async def deliver(self, topic: str, content: Mapping[str, Json] | bytes, *, sender: str) -> None:
        """Hand a local message to its subscribers."""
        _check_not_empty("publish_to_topic", topic)
        if not valid_local_topic(topic):
            raise _refused("publish_to_topic", f"Publish topic name {topic} must not contain a wildcard")
        message = Message(topic=topic, content=content if isinstance(content, bytes) else _as_json(content))
        for subscriber in self._local.matching(topic):
            if subscriber.own_messages or subscriber.component != sender:
                subscriber.mailbox.put(message)
        await self._note(self._published, message, "")

    async def deliver_to_iot(self, publish: IotPublish) -> None:
        """Hand a message for AWS IoT Core to its subscribers on this device."""
        _check_not_empty("publish_to_iot_core", publish.topic)
        problem = _iot_problem(publish)
        if problem is not None:
            raise IpcError(f"publish_to_iot_core: ServiceError: {problem}", code="ServiceError")
        message = Message(
            topic=publish.topic,
            content=publish.payload,
            retain=publish.retain,
            user_properties=publish.user_properties,
            response_topic=publish.response_topic,
            correlation_data=publish.correlation_data,
            content_type=publish.content_type,
        )
        for subscriber in self._iot.matching(publish.topic):
            subscriber.mailbox.put(message)
        await self._note(self._published_to_iot, message, "iot:")

    async def _note(self, log: list[Message], message: Message, prefix: str) -> None:
        await asyncio.sleep(0)  # a call to a nucleus lets others run
        if self._printer is not None:  # on a terminal, which runs without end: nothing is kept
            self._printer(f"{prefix}{message.topic} {_printable(message)}")
            return
        log.append(message)
        await self.notify()

    async def notify(self) -> None:
        """Wake who waits for a message or a state."""
        async with self._news:
            self._news.notify_all()

    def subscribe(self, index: Subscriptions[_Subscriber], topic_filter: str, subscriber: _Subscriber) -> Closing:
        """Add a subscriber; the result removes it."""
        index.add(topic_filter, subscriber)

        async def close() -> None:
            index.remove(topic_filter, subscriber)

        return close


class LoopbackLink:
    """The :class:`~monodon.component.link.Link` of one component to a :class:`LoopbackNucleus`."""

    def __init__(self, nucleus: LoopbackNucleus, name: str) -> None:
        self._nucleus = nucleus
        self._name = name

    async def publish(self, topic: str, content: Mapping[str, Json] | bytes) -> None:
        """Publish a JSON object or bytes to local subscribers."""
        await self._nucleus.deliver(topic, content, sender=self._name)

    async def subscribe(self, topic_filter: str, mailbox: Mailbox, *, own_messages: bool | None) -> Closing:
        """Deliver what is published on the device."""
        _check_not_empty("subscribe_to_topic", topic_filter)
        if own_messages is None:
            own_messages = not has_wildcard(topic_filter)
        subscriber = _Subscriber(mailbox=mailbox, component=self._name, own_messages=own_messages)
        return self._nucleus.subscribe(self._nucleus._local, topic_filter, subscriber)

    async def publish_to_iot(self, message: IotPublish) -> None:
        """Hand a message for AWS IoT Core to the nucleus."""
        await self._nucleus.deliver_to_iot(message)

    async def subscribe_to_iot(self, topic_filter: str, mailbox: Mailbox, *, qos: int) -> Closing:
        """Deliver what comes from AWS IoT Core."""
        _check_not_empty("subscribe_to_iot_core", topic_filter)
        _check_qos("subscribe_to_iot_core", qos)
        if not valid_iot_filter(topic_filter):
            raise IpcError(f"Subscribe to topic {topic_filter} failed: not a topic filter", code="ServiceError")
        subscriber = _Subscriber(mailbox=mailbox, component=self._name, own_messages=True)
        return self._nucleus.subscribe(self._nucleus._iot, topic_filter, subscriber)

    async def configuration(self) -> tuple[str, Mapping[str, Json]]:
        """Return the component's name and its whole configuration."""
        return self._name, self._nucleus.configuration(self._name)

    async def watch_configuration(
        self, changed: Callable[[Mapping[str, Json]], None], validate: Callable[[Mapping[str, Json]], str | None]
    ) -> None:
        """Call ``changed`` with the whole new configuration after each change."""
        installed = self._nucleus._installed(self._name)
        installed.changed, installed.validate = changed, validate

    async def update_configuration(self, changes: Mapping[str, Json]) -> None:
        """Merge ``changes`` into the component's own configuration."""
        if "accessControl" in changes:
            raise _refused("update_configuration", "Config update is not allowed for following field [accessControl]")
        await self._nucleus.set_configuration(changes, name=self._name, validate=False)

    async def report(self, state: State) -> None:
        """Report the component's own state."""
        self._nucleus._installed(self._name).state = state.value
        await self._nucleus.notify()


def _refused(operation: str, reason: str) -> IpcError:
    return IpcError(f"{operation}: InvalidArgumentsError: {reason}", code="InvalidArgumentsError")


def _check_not_empty(operation: str, topic: str) -> None:
    """No policy covers an empty topic (Greengrass nucleus, ``AuthorizationHandler.java``)."""
    if not topic:
        raise IpcError(f"{operation}: UnauthorizedError: the topic is empty", code="UnauthorizedError")


def _check_qos(operation: str, qos: int) -> None:
    if qos not in (0, 1):
        raise _refused(operation, f"QoS {qos} is neither 0 nor 1")


def _iot_problem(publish: IotPublish) -> str | None:
    _check_qos("publish_to_iot_core", publish.qos)
    if not valid_iot_topic(publish.topic):
        return f"Publish to topic {publish.topic} failed: not a topic name"
    if len(publish.payload) > MAX_IOT_PAYLOAD_BYTES:
        return f"Publish to topic {publish.topic} failed: payload is over {MAX_IOT_PAYLOAD_BYTES} bytes"
    return iot_limit_problem(publish.topic)


def _as_json(value: Mapping[str, Json]) -> dict[str, Json]:
    """Return a copy that has been JSON, so that nobody shares a list with the sender."""
    copy: dict[str, Json] = json.loads(json.dumps(value))
    return copy


def _printable(message: Message) -> str:
    if not isinstance(message.content, bytes):
        return json.dumps(message.content, ensure_ascii=False)
    try:
        return message.content.decode()
    except UnicodeDecodeError:
        return f"<{len(message.content)} bytes>"

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
from monodon.component.link import IotPublish, Secret
from monodon.component.loopback_link import LoopbackLink, Subscriber, check_not_empty, iot_problem, refused
from monodon.component.loopback_stores import CURRENT, LoopbackSecrets, LoopbackShadows
from monodon.component.messages import Message, Publishable, iot_payload, local_content
from monodon.component.settings import default_configuration, merge
from monodon.component.subscription import Closing
from monodon.core.json import Json
from monodon.core.topics import Matching, Subscriptions, iot_matches, local_matches, valid_local_topic
from monodon.deadlines import timeout
from monodon.errors import ConfigurationError, IpcError

S = TypeVar("S")

#: The component that a test publishes as, unless it says otherwise.
OUTSIDE = "outside"
DEFAULT_NAME = "com.example.Component"


@dataclass(eq=False, slots=True)
class Installed:
    """What the nucleus knows of one component."""

    configuration: dict[str, Json]
    state: str = "STARTING"
    changed: Callable[[Mapping[str, Json]], None] | None = None
    validate: Callable[[Mapping[str, Json]], str | None] | None = None
    recheck_s: Callable[[], float] = lambda: 0.0


class LoopbackNucleus:
    """A nucleus in memory, on one event loop; needs no closing."""

    def __init__(self, *, printer: Callable[[str], None] | None = None, thing_name: str = "loopback") -> None:
        """``printer``, if given, gets a line for each message published: ``topic {json}``."""
        self.thing_name = thing_name
        self._printer = printer
        self._components: dict[str, Installed] = {}
        self.local: Subscriptions[Subscriber] = Subscriptions(Matching.LOCAL)
        self.iot: Subscriptions[Subscriber] = Subscriptions(Matching.IOT)
        self.subscribers: set[Subscriber] = set()
        self._published: list[Message] = []
        self._published_to_iot: list[Message] = []
        self.shadows = LoopbackShadows()
        self.secrets = LoopbackSecrets()
        self.is_running = True
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
        installed = Installed(default_configuration(settings))
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
        return self.installed(name).state

    def configuration(self, name: str = DEFAULT_NAME) -> Mapping[str, Json]:
        """Return a component's configuration as it is now."""
        return self.installed(name).configuration

    async def set_configuration(
        self, changes: Mapping[str, Json], *, name: str = DEFAULT_NAME, validate: bool = True
    ) -> None:
        """Merge ``changes`` into a component's configuration, as a deployment does, and let it know.

        Args:
            validate: ask the component first, as a deployment does; else what it cannot use is written all the same.

        Raises:
            ConfigurationError: the component refuses them; nothing has changed.
        """
        installed = self.installed(name)
        proposed = merge(installed.configuration, _as_json(changes))
        refusal = installed.validate(proposed) if validate and installed.validate else None
        if refusal is not None:
            raise ConfigurationError(refusal)
        installed.configuration = proposed
        if installed.changed:
            installed.changed(proposed)

    async def ask_update(self) -> float:
        """Ask every component whether a deployment may apply, as one does before it touches them.

        Returns:
            the longest time in seconds that one asks to wait; 0 means go ahead.
        """
        await asyncio.sleep(0)
        return max((installed.recheck_s() for installed in self._components.values()), default=0.0)

    def kill(self) -> None:
        """Be gone, until :meth:`start`: components' calls fail (``ConnectionLost``), what others publish is lost."""
        self.is_running = False

    def start(self) -> None:
        """Be back after :meth:`kill`: subscriptions go on, and tell of the gap."""
        if not self.is_running:
            self.is_running = True
            for subscriber in self.subscribers:
                subscriber.mailbox.gap()

    def put_secret(self, name: str, value: str | bytes, *, stages: tuple[str, ...] = (CURRENT,)) -> Secret:
        """Have a (new version of a) secret on the device."""
        return self.secrets.put(name, value, stages)

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
            async with timeout(timeout_s), self._news:
                await self._news.wait_for(is_there)
        except TimeoutError:
            raise TimeoutError(missing()) from None

    @property
    def subscriptions(self) -> int:
        """How many subscriptions are open, local and IoT."""
        return len(self.local) + len(self.iot)

    # --- for links ---

    def installed(self, name: str) -> Installed:
        try:
            return self._components[name]
        except KeyError:
            known = ", ".join(self._components) or "none"
            raise IpcError(f"no component {name} here; known: {known}", code="ResourceNotFoundError") from None

    async def deliver(self, topic: str, content: Mapping[str, Json] | bytes, *, sender: str) -> None:
        """Hand a local message to its subscribers."""
        check_not_empty("publish_to_topic", topic)
        if not valid_local_topic(topic):
            raise refused("publish_to_topic", f"Publish topic name {topic} must not contain a wildcard")
        message = Message(topic=topic, content=content if isinstance(content, bytes) else _as_json(content))
        for subscriber in self.local.matching(topic) if self.is_running else ():
            if subscriber.own_messages or subscriber.component != sender:
                subscriber.mailbox.put(message)
        await self._note(self._published, message, "")

    async def deliver_to_iot(self, publish: IotPublish) -> None:
        """Hand a message for AWS IoT Core to its subscribers on this device."""
        check_not_empty("publish_to_iot_core", publish.topic)
        problem = iot_problem(publish)
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
        for subscriber in self.iot.matching(publish.topic) if self.is_running else ():
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

    def subscribe(self, index: Subscriptions[Subscriber], topic_filter: str, subscriber: Subscriber) -> Closing:
        """Add a subscriber; the result removes it."""
        index.add(topic_filter, subscriber)
        self.subscribers.add(subscriber)

        async def close() -> None:
            index.remove(topic_filter, subscriber)
            self.subscribers.discard(subscriber)

        return close


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

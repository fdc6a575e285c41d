"""A component's end of a nucleus in memory, and what it refuses as the real one does."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from monodon.component.link import IotPublish, Secret, State, shadow_topic
from monodon.component.messages import CONNECTION_LOST
from monodon.component.subscription import Closing, Mailbox
from monodon.core.json import Json
from monodon.core.topics import (
    MAX_IOT_PAYLOAD_BYTES,
    has_wildcard,
    iot_limit_problem,
    valid_iot_filter,
    valid_iot_topic,
)
from monodon.errors import IpcError

if TYPE_CHECKING:
    from monodon.component.loopback import LoopbackNucleus

SHADOW_MANAGER = "aws.greengrass.ShadowManager"


@dataclass(eq=False, slots=True, kw_only=True)
class Subscriber:
    """Who hears a topic."""

    mailbox: Mailbox
    component: str
    own_messages: bool


class LoopbackLink:
    """The :class:`~monodon.component.link.Link` of one component to a :class:`LoopbackNucleus`."""

    def __init__(self, nucleus: "LoopbackNucleus", name: str) -> None:
        self._nucleus = nucleus
        self._name = name

    def _check(self, what: str) -> None:
        if not self._nucleus.is_running:
            raise IpcError(f"{what}: not connected to the nucleus", code=CONNECTION_LOST)

    async def publish(self, topic: str, content: Mapping[str, Json] | bytes) -> None:
        """Publish a JSON object or bytes to local subscribers."""
        self._check("publish")
        await self._nucleus.deliver(topic, content, sender=self._name)

    async def subscribe(self, topic_filter: str, mailbox: Mailbox, *, own_messages: bool | None) -> Closing:
        """Deliver what is published on the device."""
        self._check("subscribe")
        check_not_empty("subscribe_to_topic", topic_filter)
        if own_messages is None:
            own_messages = not has_wildcard(topic_filter)
        subscriber = Subscriber(mailbox=mailbox, component=self._name, own_messages=own_messages)
        return self._nucleus.subscribe(self._nucleus.local, topic_filter, subscriber)

    async def publish_to_iot(self, message: IotPublish) -> None:
        """Hand a message for AWS IoT Core to the nucleus."""
        self._check("publish_to_iot")
        await self._nucleus.deliver_to_iot(message)

    async def subscribe_to_iot(self, topic_filter: str, mailbox: Mailbox, *, qos: int) -> Closing:
        """Deliver what comes from AWS IoT Core."""
        self._check("subscribe_to_iot")
        check_not_empty("subscribe_to_iot_core", topic_filter)
        check_qos("subscribe_to_iot_core", qos)
        if not valid_iot_filter(topic_filter):
            raise IpcError(f"Subscribe to topic {topic_filter} failed: not a topic filter", code="ServiceError")
        subscriber = Subscriber(mailbox=mailbox, component=self._name, own_messages=True)
        return self._nucleus.subscribe(self._nucleus.iot, topic_filter, subscriber)

    async def configuration(self) -> tuple[str, Mapping[str, Json]]:
        """Return the component's name and its whole configuration."""
        self._check("configuration")
        return self._name, self._nucleus.configuration(self._name)

    async def watch_configuration(
        self, changed: Callable[[Mapping[str, Json]], None], validate: Callable[[Mapping[str, Json]], str | None]
    ) -> None:
        """Call ``changed`` with the whole new configuration after each change."""
        self._check("watch_configuration")
        installed = self._nucleus.installed(self._name)
        installed.changed, installed.validate = changed, validate

    async def update_configuration(self, changes: Mapping[str, Json]) -> None:
        """Merge ``changes`` into the component's own configuration."""
        self._check("update_configuration")
        if "accessControl" in changes:
            raise refused("update_configuration", "Config update is not allowed for following field [accessControl]")
        await self._nucleus.set_configuration(changes, name=self._name, validate=False)

    async def report(self, state: State) -> None:
        """Report the component's own state."""
        self._check("report")
        self._nucleus.installed(self._name).state = state.value
        await self._nucleus.notify()

    async def watch_updates(self, recheck_s: Callable[[], float]) -> None:
        """Answer each deployment that is about to apply with what ``recheck_s`` returns."""
        self._check("watch_updates")
        self._nucleus.installed(self._name).recheck_s = recheck_s

    async def secret(self, name: str, *, version_id: str | None, stage: str | None) -> Secret:
        """Return a version of a secret."""
        self._check("secret")
        await asyncio.sleep(0)
        return self._nucleus.secrets.get(name, version_id, stage)

    async def shadow(self, thing: str, name: str) -> Mapping[str, Json] | None:
        """Return a shadow's document; None if there is none."""
        self._check("shadow")
        await asyncio.sleep(0)
        return self._nucleus.shadows.get(thing, name)

    async def update_shadow(self, thing: str, name: str, request: Mapping[str, Json]) -> Mapping[str, Json]:
        """Update a shadow; return what was accepted. As the shadow manager, tell it on local topics."""
        self._check("update_shadow")
        updated = self._nucleus.shadows.update(thing, name, request)
        topic = f"{shadow_topic(thing, name)}/update"
        await self._tell(f"{topic}/accepted", updated.accepted)
        if updated.delta is not None:
            await self._tell(f"{topic}/delta", updated.delta)
        await self._tell(f"{topic}/documents", updated.documents)
        return updated.accepted

    async def _tell(self, topic: str, message: Mapping[str, Json]) -> None:
        await self._nucleus.deliver(topic, json.dumps(message).encode(), sender=SHADOW_MANAGER)

    async def delete_shadow(self, thing: str, name: str) -> None:
        """Delete a shadow."""
        self._check("delete_shadow")
        await asyncio.sleep(0)
        self._nucleus.shadows.delete(thing, name)


def refused(operation: str, reason: str) -> IpcError:
    """Return the error of an argument that is refused."""
    return IpcError(f"{operation}: InvalidArgumentsError: {reason}", code="InvalidArgumentsError")


def check_not_empty(operation: str, topic: str) -> None:
    """No policy covers an empty topic (Greengrass nucleus, ``AuthorizationHandler.java``)."""
    if not topic:
        raise IpcError(f"{operation}: UnauthorizedError: the topic is empty", code="UnauthorizedError")


def check_qos(operation: str, qos: int) -> None:
    """Refuse what is neither 0 nor 1."""
    if qos not in (0, 1):
        raise refused(operation, f"QoS {qos} is neither 0 nor 1")


def iot_problem(publish: IotPublish) -> str | None:
    """Return why AWS IoT Core does not take a message; None if it does."""
    check_qos("publish_to_iot_core", publish.qos)
    if not valid_iot_topic(publish.topic):
        return f"Publish to topic {publish.topic} failed: not a topic name"
    if len(publish.payload) > MAX_IOT_PAYLOAD_BYTES:
        return f"Publish to topic {publish.topic} failed: payload is over {MAX_IOT_PAYLOAD_BYTES} bytes"
    return iot_limit_problem(publish.topic)

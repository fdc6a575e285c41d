"""What a component asks of a nucleus, whichever it is: over IPC (``client``) or in memory (``loopback``)."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from monodon.component.messages import INVALID_MESSAGE
from monodon.component.subscription import Closing, Mailbox
from monodon.core.json import Json
from monodon.errors import IpcError


class State(StrEnum):
    """What a component may report of itself."""

    RUNNING = "RUNNING"
    ERRORED = "ERRORED"


@dataclass(frozen=True, slots=True, kw_only=True)
class IotPublish:
    """A message for AWS IoT Core; at most 128 KiB of payload."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    user_properties: tuple[tuple[str, str], ...] = ()
    message_expiry_s: int | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """One version of a secret; its value shows in no log."""

    arn: str
    version_id: str
    stages: tuple[str, ...]
    value: str | bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The value as text.

        Raises:
            IpcError: it is binary, and no UTF-8 (``InvalidMessage``).
        """
        try:
            return self.value if isinstance(self.value, str) else self.value.decode()
        except UnicodeDecodeError as error:
            raise IpcError(f"the secret {self.arn} is not text", code=INVALID_MESSAGE) from error

    @property
    def json(self) -> Json:
        """The value as JSON data, as AWS's console stores key/value pairs.

        Raises:
            IpcError: it is not JSON (``InvalidMessage``).
        """
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            raise IpcError(f"the secret {self.arn} is not JSON", code=INVALID_MESSAGE) from None


def shadow_topic(thing: str, name: str) -> str:
    """Return the topic that a shadow's messages begin with, which policies name as well; "" is the classic shadow."""
    return f"$aws/things/{thing}/shadow/name/{name}" if name else f"$aws/things/{thing}/shadow"


class Link(Protocol):
    """A connection of one component to its nucleus. Every call ends by a deadline and raises ``IpcError``."""

    async def publish(self, topic: str, content: Mapping[str, Json] | bytes) -> None:
        """Publish a JSON object or bytes to local subscribers."""

    async def subscribe(self, topic_filter: str, mailbox: Mailbox, *, own_messages: bool | None) -> Closing:
        """Deliver what is published on the device; ``own_messages`` None leaves it to the nucleus."""

    async def publish_to_iot(self, message: IotPublish) -> None:
        """Hand a message for AWS IoT Core to the nucleus, which spools it while it is offline."""

    async def subscribe_to_iot(self, topic_filter: str, mailbox: Mailbox, *, qos: int) -> Closing:
        """Deliver what comes from AWS IoT Core."""

    async def configuration(self) -> tuple[str, Mapping[str, Json]]:
        """Return the component's name and its whole configuration."""

    async def watch_configuration(
        self, changed: Callable[[Mapping[str, Json]], None], validate: Callable[[Mapping[str, Json]], str | None]
    ) -> None:
        """Call ``changed`` with the whole new configuration after each change, until the link closes.

        ``validate`` says why a proposed configuration cannot be used, before a deployment applies it.
        """

    async def update_configuration(self, changes: Mapping[str, Json]) -> None:
        """Merge ``changes`` into the component's own configuration."""

    async def report(self, state: State) -> None:
        """Report the component's own state."""

    async def watch_updates(self, recheck_s: Callable[[], float]) -> None:
        """Answer each deployment that is about to apply with what ``recheck_s`` returns, until the link closes.

        That many seconds later it asks again; 0 lets it go ahead.
        """

    async def secret(self, name: str, *, version_id: str | None, stage: str | None) -> Secret:
        """Return a version of a secret, the one of stage ``AWSCURRENT`` if neither is given."""

    async def shadow(self, thing: str, name: str) -> Mapping[str, Json] | None:
        """Return a shadow's document (``state``, ``version``, …), None if there is none; "" is the classic one."""

    async def update_shadow(self, thing: str, name: str, request: Mapping[str, Json]) -> Mapping[str, Json]:
        """Update a shadow; return what was accepted."""

    async def delete_shadow(self, thing: str, name: str) -> None:
        """Delete a shadow."""

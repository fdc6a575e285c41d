"""What a component asks of a nucleus, whichever it is: over IPC (``client``) or in memory (``loopback``)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from monodon.component.subscription import Closing, Mailbox
from monodon.core.json import Json


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

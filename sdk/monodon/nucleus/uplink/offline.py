"""No cloud at all: IoT Core topics go round in memory, and nothing is asked of anybody."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from monodon.core.deployment import Outcome
from monodon.core.topics import Matching, Subscriptions, iot_matches, split_shared
from monodon.errors import DeploymentError
from monodon.nucleus.uplink.protocol import (
    Arrival,
    Candidate,
    CandidateRequest,
    Deliver,
    DeploymentArrived,
    IotMessage,
    RoleCredentials,
    Unsubscribe,
)

#: Retained messages kept; the oldest gives way.
MAX_RETAINED = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class _Subscriber:
    deliver: Deliver


class OfflineUplink:
    """An `Uplink` without a cloud. Messages reach this nucleus's own subscribers, retained ones later ones too.

    A shared subscription (``$share/<group>/…``) is treated as one of its own.
    """

    def __init__(self) -> None:
        self._subscriptions: Subscriptions[_Subscriber] = Subscriptions(Matching.IOT)
        self._retained: dict[str, IotMessage] = {}

    @property
    def is_configured(self) -> bool:
        return False

    @property
    def is_connected(self) -> bool:
        return False

    def connect(self) -> None:
        """There is nothing to connect to."""

    def watch_connection(self, notify: Callable[[bool], None]) -> Callable[[], None]:
        """Nothing ever changes."""
        return lambda: None

    async def publish(self, message: IotMessage, qos: int) -> None:
        """Deliver to all subscribers before this returns, in the order they are found."""
        if message.retain:
            self._retain(message)
        delivered = replace(message, retain=False)
        for subscriber in self._subscriptions.matching(message.topic):
            subscriber.deliver(delivered)

    def _retain(self, message: IotMessage) -> None:
        self._retained.pop(message.topic, None)
        if message.payload:
            self._retained[message.topic] = message
        if len(self._retained) > MAX_RETAINED:
            del self._retained[next(iter(self._retained))]

    async def subscribe(self, topic_filter: str, qos: int, deliver: Deliver) -> Unsubscribe:
        """Deliver matching messages, what is retained first, until the result is called."""
        bare = split_shared(topic_filter)[1]
        subscriber = _Subscriber(deliver)
        self._subscriptions.add(bare, subscriber)
        for message in [held for topic, held in self._retained.items() if iot_matches(bare, topic)]:
            deliver(message)

        async def unsubscribe() -> None:
            self._subscriptions.remove(bare, subscriber)

        return unsubscribe

    async def deployments(self) -> AsyncIterator[Arrival]:
        """Never yields: deployments are local ones."""
        never: asyncio.Future[Arrival] = asyncio.get_running_loop().create_future()
        yield await never

    async def report(self, arrival: DeploymentArrived, status: str, outcome: Outcome | None) -> None:
        """Nobody wants to know."""

    async def send_health(self, payload: bytes) -> None:
        """Nobody wants to know."""

    async def candidate(self, request: CandidateRequest) -> Candidate:
        """Always DeploymentError: what the device has is all there is."""
        wanted = ", ".join(f"{who} needs {what}" for who, what in sorted(request.requirements.items()))
        raise DeploymentError(
            f"no version of {request.name} on this device fits ({wanted}), and it has no cloud to ask",
            codes=("NO_AVAILABLE_COMPONENT_VERSION", "COMPONENT_VERSION_REQUIREMENTS_NOT_MET"),
            types=("REQUEST_ERROR",),
            hint="deploy it with its recipe's folder",
        )

    async def document(self, deployment_id: str) -> bytes:
        """Always DeploymentError: there is nobody to ask."""
        raise DeploymentError(
            f"deployment {deployment_id} was too large to be sent, and there is no cloud to ask for all of it",
            codes=("NETWORK_ERROR",),
        )

    async def thing_groups(self) -> tuple[str, ...] | None:
        """None: use the last known."""
        return None

    async def download(self, uri: str, arn: str | None, destination: Path, offset: int) -> None:
        """Always DeploymentError: artifacts are on the device already, or nowhere."""
        raise DeploymentError(
            f"the artifact {uri} is not on this device, and there is no cloud to fetch it from",
            codes=("ARTIFACT_DOWNLOAD_ERROR",),
            hint=f"put it where the deployment's artifacts are, as {uri.rpartition('/')[2]}",
        )

    async def credentials(self) -> RoleCredentials | None:
        """None: there is no role."""
        return None

"""What the nucleus asks of a cloud, whichever one it has.

Three implementations: ``mqtt.py`` with ``https.py`` (AWS, or the embedded cloud), and ``offline.py`` (no cloud at all:
IoT topics go round in memory). The rest of the nucleus sees this page alone.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from monodon.core.deployment import Deployment, Outcome
from monodon.core.json import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class IotMessage:
    """One message on an IoT Core topic, either way. ``payload_format`` is 0 (bytes) or 1 (UTF-8 text)."""

    topic: str
    payload: bytes = b""
    retain: bool = False
    user_properties: tuple[tuple[str, str], ...] = ()
    message_expiry_s: int | None = None
    correlation_data: bytes | None = None
    response_topic: str | None = None
    payload_format: int | None = None
    content_type: str | None = None


class Channel(StrEnum):
    """The way a deployment came, and its results go back."""

    JOB = "JOB"
    SHADOW = "SHADOW"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentArrived:
    """The cloud wants this deployment carried out. ``job_id`` is None when it came by the deployment shadow."""

    deployment: Deployment
    job_id: str | None = None

    @property
    def channel(self) -> Channel:
        return Channel.SHADOW if self.job_id is None else Channel.JOB


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentCanceled:
    """The cloud wants the deployments that came by one channel and are not yet applied canceled.

    ``deployment_ids`` names those that this uplink has handed out and not yet seen reported in a final status.
    """

    channel: Channel
    deployment_ids: tuple[str, ...] = ()


Arrival = DeploymentArrived | DeploymentCanceled


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRequest:
    """Which version of one component shall the device take? ``requirements`` maps each dependent to its range."""

    name: str
    local_version: str | None = None
    requirements: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The cloud's choice, with its recipe (JSON or YAML text, as the cloud keeps it)."""

    arn: str
    name: str
    version: str
    recipe_text: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleCredentials:
    """Temporary AWS credentials of the device's role; ``expiration`` is aware, in UTC."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expiration: datetime


Deliver = Callable[[IotMessage], None]
Unsubscribe = Callable[[], Awaitable[None]]


class Records(Protocol):
    """What an uplink keeps on disk: the nucleus's journal, under keys that start with ``uplink/``."""

    def get(self, key: str) -> Json | None:
        """The record, or None."""

    def items(self, prefix: str) -> Mapping[str, Json]:
        """The records whose keys start with ``prefix``."""

    def write(self, changes: Mapping[str, Json | None]) -> None:
        """Keep all the changes or none, on disk when this returns; None deletes."""


class Uplink(Protocol):
    """A connection to a cloud, or the lack of one. Calls are made on the nucleus's loop; callbacks come there too."""

    @property
    def is_configured(self) -> bool:
        """Whether there is a cloud at all; False means offline by construction."""

    @property
    def is_connected(self) -> bool:
        """Whether the cloud can be reached right now."""

    def connect(self) -> None:
        """Begin to connect, and keep at it; returns at once. What is asked for before is done after the connect."""

    def watch_connection(self, notify: Callable[[bool], None]) -> Callable[[], None]:
        """Call ``notify`` with each change of ``is_connected``; the result ends that."""

    async def publish(self, message: IotMessage, qos: int) -> None:
        """Send a message; while the cloud is away it is spooled, and this returns at once.

        Raises:
            NetworkError: the spool is full, or the cloud refused the message.
        """

    async def subscribe(self, topic_filter: str, qos: int, deliver: Deliver) -> Unsubscribe:
        """Have matching messages delivered until the result is called; overlapping filters each deliver.

        Raises:
            NetworkError: the cloud refused the filter.
        """

    def deployments(self) -> AsyncIterator[Arrival]:
        """Deployments and cancellations as they come; one consumer."""

    async def report(self, arrival: DeploymentArrived, status: str, outcome: Outcome | None) -> None:
        """Tell the cloud how a deployment fares (IN_PROGRESS, SUCCEEDED, FAILED, REJECTED, CANCELED).

        Returns once the report is on disk; it is sent, in order, until the cloud has taken or finally refused it.
        """

    async def send_health(self, payload: bytes) -> None:
        """Send one fleet status message.

        Raises:
            NetworkError: it was not taken; the caller decides whether a newer one replaces it.
        """

    async def candidate(self, request: CandidateRequest) -> Candidate:
        """Ask the cloud for the version that fits.

        Raises:
            DeploymentError: the cloud knows no version that fits, or refused.
            NetworkError: it did not answer; trying again may help.
        """

    async def document(self, deployment_id: str) -> bytes:
        """Fetch the whole document of a deployment that was too large to be sent; its digest is checked.

        Raises:
            DeploymentError: the device may not have it, or it is too large, or damaged.
            NetworkError: the cloud did not answer; trying again may help.
        """

    async def thing_groups(self) -> tuple[str, ...] | None:
        """Names of the thing groups that this device is in; None when nobody can tell now (use the last known)."""

    async def download(self, uri: str, arn: str | None, destination: Path, offset: int) -> None:
        """Append an artifact's bytes from ``offset`` on to ``destination``: of an ``s3://…`` URI, or of a
        ``greengrass:…`` one that belongs to the component version ``arn``.

        Raises:
            DeploymentError: it is not there, or the device may not read it.
            NetworkError: the transfer broke; what came is in the file, so go on from its length.
        """

    async def credentials(self) -> RoleCredentials | None:
        """The device's role credentials, cached until near their end; None without a role alias.

        Raises:
            NetworkError: the credential provider refused or did not answer.
        """

"""The uplink to AWS, or to the embedded cloud: MQTT 5 for deployments, status and messages, HTTPS for the rest.

After each connect, in this order: subscribe to all that is wanted, send what was spooled, deliver the reports that the
cloud has not yet taken, and only then ask for jobs and the deployment shadow, so that nothing already done comes again.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from monodon.core.deployment import Outcome, Status, failure, read_document
from monodon.core.json import Json
from monodon.deadlines import timeout
from monodon.errors import DeploymentError, NetworkError
from monodon.nucleus.identity import CloudIdentity, Identity
from monodon.nucleus.uplink.connection import Connection
from monodon.nucleus.uplink.deployment_shadow import ShadowChannel
from monodon.nucleus.uplink.https import DataPlane
from monodon.nucleus.uplink.jobs import JobChannel, JobExecution
from monodon.nucleus.uplink.messages import Messages
from monodon.nucleus.uplink.protocol import (
    Arrival,
    Candidate,
    CandidateRequest,
    Channel,
    Deliver,
    DeploymentArrived,
    DeploymentCanceled,
    IotMessage,
    Records,
    RoleCredentials,
    Unsubscribe,
)
from monodon.nucleus.uplink.reports import IN_PROGRESS, Report, Reports

log = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 2.0
FIRST_RETRY_S = 0.5
LAST_RETRY_S = 30.0
MAX_ARRIVALS = 256


class MqttUplink:
    """An `Uplink` over MQTT and HTTPS; an async context manager that stays connected from `connect` to its exit.

    ``records`` keeps what must outlive a restart; ``environment`` is the nucleus's own, for the endpoint of S3.
    """

    def __init__(
        self, *, identity: Identity, cloud: CloudIdentity, records: Records, environment: Mapping[str, str]
    ) -> None:
        self._thing = identity.thing
        self._watchers: dict[object, Callable[[bool], None]] = {}
        self._is_online = asyncio.Event()
        self._is_offline = asyncio.Event()
        self._is_offline.set()
        self._connection = Connection(
            cloud, client_id=identity.thing, on_message=self._received, on_change=self._connection_changed
        )
        self._messages = Messages(self._connection, records, cloud.mqtt)
        self._reports = Reports(records)
        self._jobs = JobChannel(
            identity.thing,
            publish=self._publish_object,
            offer=self._offer_job,
            cancel=partial(self._canceled, Channel.JOB),
        )
        self._shadow = ShadowChannel(
            identity.thing,
            version=identity.version,
            publish=self._publish_object,
            offer=self._offer_shadow,
            cancel=partial(self._canceled, Channel.SHADOW),
        )
        self._arrivals: asyncio.Queue[Arrival] = asyncio.Queue(MAX_ARRIVALS)
        self._under_way: dict[str, Channel] = {}
        self._data_plane = DataPlane(cloud, thing=identity.thing, environment=environment)

    async def __aenter__(self) -> Self:
        self._data_plane.check_certificate()
        async with AsyncExitStack() as stack:
            for channel in (self._jobs, self._shadow):
                for topic_filter in channel.filters:
                    await self._messages.subscribe(topic_filter, 1, channel.receive)
            stack.push_async_callback(self._connection.close)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            running = tasks.create_task(self._run(), name="uplink")
            stack.callback(running.cancel)
            stack.push_async_callback(self._drain)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def connect(self) -> None:
        """Begin to connect, and keep at it; what is asked for before is done after the first connect."""
        self._connection.open()

    async def _drain(self) -> None:
        if self._connection.is_connected:
            try:
                async with timeout(DRAIN_TIMEOUT_S):
                    await self._messages.drain()
                    await self._reports.drain()
            except TimeoutError:
                log.warning("stopping before everything was sent: reports are kept, spooled messages are lost")

    # --- sessions ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._is_online.wait()
            async with asyncio.TaskGroup() as tasks:
                session = tasks.create_task(self._session(), name="uplink-session")
                await self._is_offline.wait()
                session.cancel()

    async def _session(self) -> None:
        await _retry(self._messages.resume)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._messages.run(), name="uplink-spool")
            while not self._reports.is_empty:
                await self._deliver_next()
            tasks.create_task(self._jobs.run(), name="uplink-jobs")
            tasks.create_task(self._shadow.run(), name="uplink-shadow")
            self._jobs.ask()
            self._shadow.ask()
            while True:
                await self._deliver_next()

    async def _deliver_next(self) -> None:
        key, report = await self._reports.next()
        channel = self._jobs if report.channel is Channel.JOB else self._shadow
        if await _retry(partial(channel.deliver, report), unless=lambda: not self._reports.holds(key)):
            self._reports.done(key)

    def _connection_changed(self, is_connected: bool) -> None:
        if is_connected:
            self._messages.begin()
            self._is_offline.clear()
            self._is_online.set()
        else:
            self._messages.pause()
            self._is_online.clear()
            self._is_offline.set()
        for notify in list(self._watchers.values()):
            notify(is_connected)

    # --- deployments -------------------------------------------------------------------------------------------------

    def _offer_job(self, execution: JobExecution) -> None:
        self._offer(execution.document, execution.job_id)

    def _offer_shadow(self, document: Json) -> None:
        self._offer(document, None)

    def _offer(self, document: Json, job_id: str | None) -> None:
        known = document if isinstance(document, Mapping) else {}
        arn = known.get("configurationArn")
        if self._reports.has_final(job_id=job_id, configuration_arn=arn):
            return
        try:
            deployment = read_document(document)
        except DeploymentError as error:
            log.error("a deployment cannot be read: %s", error)
            self._reports.add(
                _report(str(known.get("deploymentId")), job_id, arn, "FAILED", failure(error, None)),
            )
            return
        self._under_way[deployment.deployment_id] = Channel.SHADOW if job_id is None else Channel.JOB
        self._arrive(DeploymentArrived(deployment=deployment, job_id=job_id))

    def _canceled(self, channel: Channel) -> None:
        ids = tuple(key for key, came_by in self._under_way.items() if came_by is channel)
        for key in ids:
            del self._under_way[key]
        if ids:
            self._arrive(DeploymentCanceled(channel=channel, deployment_ids=ids))

    def _arrive(self, arrival: Arrival) -> None:
        try:
            self._arrivals.put_nowait(arrival)
        except asyncio.QueueFull:
            log.error("more than %d deployments wait; one is dropped, and comes again after a restart", MAX_ARRIVALS)

    async def deployments(self) -> AsyncIterator[Arrival]:
        """Deployments and cancellations as they come; one consumer."""
        while True:
            yield await self._arrivals.get()

    async def report(self, arrival: DeploymentArrived, status: str, outcome: Outcome | None) -> None:
        """Keep a report on disk and deliver it, in order, until the cloud has taken or finally refused it."""
        deployment = arrival.deployment
        if status != IN_PROGRESS:
            self._under_way.pop(deployment.deployment_id, None)
        self._reports.add(
            _report(deployment.deployment_id, arrival.job_id, deployment.configuration_arn, status, outcome)
        )

    # --- messages ----------------------------------------------------------------------------------------------------

    @property
    def is_configured(self) -> bool:
        return True

    @property
    def is_connected(self) -> bool:
        return self._connection.is_connected

    def watch_connection(self, notify: Callable[[bool], None]) -> Callable[[], None]:
        """Call ``notify`` with each change of ``is_connected``; the result ends that."""
        key = object()
        self._watchers[key] = notify

        def unwatch() -> None:
            self._watchers.pop(key, None)

        return unwatch

    async def publish(self, message: IotMessage, qos: int) -> None:
        """Spool a message; NetworkError when the spool is full."""
        self._messages.put(message, qos)

    async def subscribe(self, topic_filter: str, qos: int, deliver: Deliver) -> Unsubscribe:
        """Deliver matching messages until the result is called; NetworkError when the cloud refuses the filter."""
        return await self._messages.subscribe(topic_filter, qos, deliver)

    async def send_health(self, payload: bytes) -> None:
        """Send one fleet status message; NetworkError when it was not taken."""
        topic = f"$aws/things/{self._thing}/greengrassv2/health/json"
        await self._connection.publish(IotMessage(topic=topic, payload=payload), 1)

    def _received(self, message: IotMessage, identifiers: tuple[int, ...]) -> None:
        self._messages.deliver(message, identifiers)

    async def _publish_object(self, topic: str, body: Mapping[str, Json]) -> None:
        await self._connection.publish(IotMessage(topic=topic, payload=json.dumps(body).encode()), 1)

    # --- HTTPS -------------------------------------------------------------------------------------------------------

    async def candidate(self, request: CandidateRequest) -> Candidate:
        """Ask the cloud for the version that fits (DeploymentError: none; NetworkError: no answer)."""
        return await self._data_plane.candidate(request)

    async def document(self, deployment_id: str) -> bytes:
        """The whole document of a deployment that was too large to be sent (errors as `candidate`)."""
        return await self._data_plane.document(deployment_id)

    async def thing_groups(self) -> tuple[str, ...] | None:
        """Names of this device's thing groups; None when nobody can tell now."""
        try:
            return await self._data_plane.thing_groups()
        except (NetworkError, DeploymentError) as error:
            log.warning("the thing groups stay as last known: %s", error)
            return None

    async def download(self, uri: str, arn: str | None, destination: Path, offset: int) -> None:
        """Append an artifact's bytes from ``offset`` on to ``destination``."""
        await self._data_plane.download(uri, arn, destination, offset)

    @property
    def data_plane(self) -> DataPlane:
        """The cloud's HTTPS side, for what not every uplink has."""
        return self._data_plane

    async def credentials(self) -> RoleCredentials | None:
        """The device's role credentials, cached until near their end; None without a role alias."""
        return await self._data_plane.credentials()


def _report(
    deployment_id: str, job_id: str | None, configuration_arn: str | None, status: str, outcome: Outcome | None
) -> Report:
    told = outcome or Outcome(status=Status(status))
    return Report(
        channel=Channel.SHADOW if job_id is None else Channel.JOB,
        deployment_id=deployment_id,
        status=status,
        details=told.shadow_details() if job_id is None else told.job_details(),
        job_id=job_id,
        configuration_arn=configuration_arn,
    )


async def _retry(call: Callable[[], Awaitable[None]], *, unless: Callable[[], bool] = lambda: False) -> bool:
    """Call until it succeeds, waiting ever longer between; False when ``unless`` says that it is no longer needed."""
    delay_s = FIRST_RETRY_S
    while not unless():
        try:
            await call()
        except NetworkError as error:
            log.warning("%s; trying again in %g s", error, delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(LAST_RETRY_S, delay_s * 2)
        else:
            return True
    return False

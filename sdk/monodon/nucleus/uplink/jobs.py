"""Deployments of thing groups: IoT jobs in Greengrass's namespace, over MQTT.

A notification that names queued jobs makes the device ask for the next one; an empty notification while it works means
that what it works on was canceled.

Source: Greengrass nucleus, ``deployment/IotJobsHelper.java``; nucleus lite, ``gg-fleet-statusd`` for the final
rejection codes.
"""

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from monodon.core.json import Json
from monodon.deadlines import timeout
from monodon.errors import NetworkError
from monodon.nucleus.uplink.protocol import IotMessage
from monodon.nucleus.uplink.reports import Report

log = logging.getLogger(__name__)

NAMESPACE = "namespace-aws-gg-deployment"
REPLY_TIMEOUT_S = 10.0
#: Refusals that trying again does not change.
FINAL_REFUSALS = frozenset(
    {
        "InvalidTopic",
        "InvalidJson",
        "InvalidRequest",
        "InvalidStateTransition",
        "ResourceNotFound",
        "VersionMismatch",
        "TerminalStateReached",
    }
)

Publish = Callable[[str, Mapping[str, Json]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobExecution:
    """A job that the cloud wants done by this device."""

    job_id: str
    document: Json


class JobChannel:
    """The device's side of jobs. ``publish`` sends an object to a topic and raises NetworkError.

    ``offer`` is called with each new job, ``cancel`` when the cloud no longer wants what the device works on.
    """

    def __init__(
        self, thing: str, *, publish: Publish, offer: Callable[[JobExecution], None], cancel: Callable[[], None]
    ) -> None:
        self._thing = thing
        self._prefix = f"$aws/things/{thing}/jobs/"
        self._publish = publish
        self._offer = offer
        self._cancel = cancel
        self._wanted = asyncio.Event()
        self._answered = asyncio.Event()
        self._last_queued_at = 0.0
        self._seen: set[str] = set()
        self._replies: dict[str, asyncio.Future[Mapping[str, Json]]] = {}

    @property
    def filters(self) -> tuple[str, ...]:
        """What the device listens to."""
        return (
            f"{self._prefix}notify-{NAMESPACE}",
            f"{self._prefix}$next/{NAMESPACE}/get/accepted",
            f"{self._prefix}$next/{NAMESPACE}/get/rejected",
            f"{self._prefix}+/{NAMESPACE}/update/accepted",
            f"{self._prefix}+/{NAMESPACE}/update/rejected",
        )

    def ask(self) -> None:
        """Ask for the next job, soon."""
        self._wanted.set()

    async def run(self) -> None:
        """Ask for the next job whenever there may be one, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._answered.clear()
            request = {
                "jobId": "$next",
                "thingName": self._thing,
                "includeJobDocument": True,
                "clientToken": uuid.uuid4().hex,
            }
            try:
                await self._publish(f"{self._prefix}$next/{NAMESPACE}/get", request)
                async with timeout(REPLY_TIMEOUT_S):
                    await self._answered.wait()
            except (TimeoutError, NetworkError) as error:
                log.info("asking for the next job brought no answer (%s); asking again", error or "time is up")
                await asyncio.sleep(1)
                self._wanted.set()

    def receive(self, message: IotMessage) -> None:
        """Take a message on one of `filters`."""
        body = _object(message)
        name = message.topic.removeprefix(self._prefix)
        if body is None:
            return
        if name.startswith("notify-"):
            self._notified(body)
        elif name == f"$next/{NAMESPACE}/get/accepted":
            self._answered.set()
            self._given(body.get("execution"))
        elif name == f"$next/{NAMESPACE}/get/rejected":
            log.warning("the cloud refused to give the next job: %s", body.get("message"))
            self._answered.set()
        else:
            self._replied(body, is_accepted=name.endswith("/accepted"))

    def _notified(self, body: Mapping[str, Json]) -> None:
        jobs = body.get("jobs")
        if not isinstance(jobs, Mapping):
            return
        if not any(jobs.values()):
            self._cancel()
        elif jobs.get("QUEUED"):
            self.ask()

    def _given(self, execution: Json) -> None:
        if not isinstance(execution, Mapping) or not execution.get("jobId"):
            return
        job_id = str(execution["jobId"])
        queued_at = float(execution.get("queuedAt") or 0)
        is_older = queued_at < self._last_queued_at
        if is_older or (queued_at == self._last_queued_at and job_id in self._seen):
            log.debug("job %s is known already", job_id)
            return
        if queued_at > self._last_queued_at:
            self._seen.clear()
        self._last_queued_at = queued_at
        self._seen.add(job_id)
        self._offer(JobExecution(job_id=job_id, document=execution.get("jobDocument")))

    async def deliver(self, report: Report) -> None:
        """Tell the cloud how a job fares; returns when the cloud has taken it or will never take it.

        Raises:
            NetworkError: it is worth trying again.
        """
        token = uuid.uuid4().hex
        reply: asyncio.Future[Mapping[str, Json]] = asyncio.get_running_loop().create_future()
        self._replies[token] = reply
        try:
            await self._publish(
                f"{self._prefix}{report.job_id}/{NAMESPACE}/update",
                {
                    "jobId": report.job_id,
                    "thingName": self._thing,
                    "status": report.status,
                    "statusDetails": dict(report.details),
                    "clientToken": token,
                },
            )
            async with timeout(REPLY_TIMEOUT_S):
                body = await reply
        except TimeoutError:
            raise NetworkError(f"the update of job {report.job_id} was not answered") from None
        finally:
            del self._replies[token]
        code = body.get("code")
        if code is None:
            return
        problem = f"the update of job {report.job_id} to {report.status} was refused: {code}: {body.get('message')}"
        if code not in FINAL_REFUSALS:
            raise NetworkError(problem)
        log.warning("%s", problem)

    def _replied(self, body: Mapping[str, Json], *, is_accepted: bool) -> None:
        reply = self._replies.get(str(body.get("clientToken")))
        if reply is not None and not reply.done():
            reply.set_result({} if is_accepted else {"code": "Unknown", **body})


def _object(message: IotMessage) -> Mapping[str, Json] | None:
    try:
        body = json.loads(message.payload or b"{}")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, Mapping):
        log.warning("a message on %s is not a JSON object", message.topic)
        return None
    return body

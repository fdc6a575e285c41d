"""IoT jobs: work for things and groups, answered by each thing; namespaces apart.

Control (``create``, ``cancel``, ``job_control``) belongs to the cloud's other backends; the things speak over MQTT
(``handle``, ``cloud.md`` 5) or over the ``iot-jobs-data`` API, whose operations are methods here.
"""

import json
import logging
from collections.abc import Callable, Mapping

from monodon.cloud import job_topics as topics
from monodon.cloud.broker.identity import Identity
from monodon.cloud.context import RequestContext
from monodon.cloud.job_control import JobControl
from monodon.cloud.job_store import Job, JobExecution
from monodon.cloud.job_topics import Rejected
from monodon.core.json import Json
from monodon.core.rollout import REPORTED, Event, ExecutionStatus
from monodon.errors import InvalidTransition

__all__ = ["Job", "JobExecution", "Jobs"]

logger = logging.getLogger(__name__)

_MAX_DETAIL_CHARACTERS = 1024
_MAX_STEP_MINUTES = 7 * 24 * 60


class Jobs(JobControl):
    """Every job of the account, and the conversation of things with theirs."""

    # What things ask over MQTT

    def handle(self, identity: Identity, topic: str, payload: bytes) -> None:
        """Answer what a client published under ``$aws/things/<thing>/jobs/``; what is no request is ignored."""
        request = topics.read_topic(topic)
        if request is None:
            logger.debug("%s published on %s, which is no request", identity.client_id, topic)
            return
        now = self._now()
        token: str | None = None
        try:
            body = topics.read_body(payload)
            token = body.get("clientToken")
            with self._store.transaction():
                answers: list[bytes] = []
                # before any notification
                self._store.after_commit(lambda: self._notices.send(f"{topic}/accepted", answers[0]))
                answers.append(self._act(request, body, token, now))
        except Rejected as error:
            logger.info("refused %s of %s: %s", topic, identity.client_id, error)
            self._notices.send(f"{topic}/rejected", topics.encode(topics.rejection(error, token, now)))

    def _act(self, request: topics.Request, body: Mapping[str, Json], token: str | None, now: float) -> bytes:
        thing, namespace = request.thing, request.namespace
        given: dict[str, Json] = {} if token is None else {"clientToken": token}
        if request.verb == "get" and request.job_id is None:
            return topics.encode({**given, **topics.listing(self._jobs.pending(thing, namespace), now)})
        with_document = body.get("includeJobDocument", True) is not False
        if request.verb == "start-next":
            return self._notices.describe(self._start_next(thing, namespace, body, now), now, token=token)
        if request.verb == "get":
            is_next = request.job_id == topics.NEXT
            found = self._jobs.next(thing, namespace) if is_next else self._describable(request, body)
            return self._notices.describe(found, now, token=token, with_document=with_document)
        after = self._update(self._find(request, body), body, now)
        answer: dict[str, Json] = {**given, "timestamp": int(now)}
        if body.get("includeJobExecutionState") is True:
            answer["executionState"] = topics.state(after)
        if body.get("includeJobDocument") is True:
            answer["jobDocument"] = self._jobs.document(after.job_id)
        return topics.encode(answer)

    def _find(self, request: topics.Request, body: Mapping[str, Json]) -> JobExecution:
        execution = None if request.job_id is None else self._jobs.execution(request.job_id, request.thing)
        if execution is None or execution.namespace != request.namespace:
            raise Rejected("ResourceNotFound", f"job {request.job_id} is not for {request.thing}")
        number = body.get("executionNumber")
        if number is not None and number != execution.number:
            raise Rejected("ResourceNotFound", f"job {request.job_id} has no execution {number} on {request.thing}")
        if self._jobs.has_ended(execution):
            event = Event.FORCE_CANCELED if execution.status is ExecutionStatus.IN_PROGRESS else Event.CANCELED
            return self._move(execution, event, self._now())
        return execution

    def _describable(self, request: topics.Request, body: Mapping[str, Json]) -> JobExecution:
        execution = self._find(request, body)
        if not execution.is_live:
            raise Rejected("TerminalStateReached", f"job {execution.job_id} is {execution.status} on {execution.thing}")
        return execution

    def _start_next(
        self, thing: str, namespace: str | None, body: Mapping[str, Json], now: float
    ) -> JobExecution | None:
        execution = self._jobs.next(thing, namespace)
        if execution is None or execution.status is ExecutionStatus.IN_PROGRESS:
            return execution
        return self._move(execution, Event.STARTED, now, _details(body), _step_minutes(body))

    def _update(self, execution: JobExecution, body: Mapping[str, Json], now: float) -> JobExecution:
        status, expected = body.get("status"), body.get("expectedVersion")
        if not isinstance(status, str) or status not in ExecutionStatus.__members__:
            raise Rejected("InvalidRequest", f"{status!r} is not a status of a job execution")
        if expected is not None and str(expected) != str(execution.version):
            text = f"expected version {expected}, the execution has {execution.version}"
            raise Rejected("VersionMismatch", text, execution)
        details, minutes = _details(body), _step_minutes(body)
        try:
            event = REPORTED.get(str(status))
            if event is None:
                raise InvalidTransition(f"a thing cannot report {status}")
            return self._move(execution, event, now, details, minutes)
        except InvalidTransition as error:
            raise Rejected("InvalidStateTransition", str(error), execution) from error

    # The API iot-jobs-data

    def describe_job_execution(self, request: Mapping[str, Json], context: RequestContext) -> dict[str, Json]:
        """``DescribeJobExecution``; ``$next`` is a job id as well."""
        job_id, thing = request["jobId"], request["thingName"]
        if job_id == topics.NEXT:
            execution = self._jobs.next(thing, None)
        else:
            execution = self._found(self._describable, topics.Request(thing, job_id, None, "get"), request)
        return self._output(execution, with_document=request.get("includeJobDocument", True) is not False)

    def get_pending_job_executions(self, request: Mapping[str, Json], context: RequestContext) -> dict[str, Json]:
        """``GetPendingJobExecutions``."""
        listing = topics.listing(self._jobs.pending(request["thingName"], None), self._now())
        return {key: listing[key] for key in ("inProgressJobs", "queuedJobs")}

    def start_next_pending_job_execution(self, request: Mapping[str, Json], context: RequestContext) -> dict[str, Json]:
        """``StartNextPendingJobExecution``."""
        try:
            execution = self._start_next(request["thingName"], None, request, self._now())
        except Rejected as error:
            raise topics.service_error(error) from error
        return self._output(execution, with_document=True)

    def update_job_execution(self, request: Mapping[str, Json], context: RequestContext) -> dict[str, Json]:
        """``UpdateJobExecution``."""
        asked = topics.Request(request["thingName"], request["jobId"], None, "update")
        execution = self._found(self._find, asked, request)
        try:
            after = self._update(execution, request, self._now())
        except Rejected as error:
            raise topics.service_error(error) from error
        output: dict[str, Json] = {}
        if request.get("includeJobExecutionState"):
            output["executionState"] = topics.state(after)
        if request.get("includeJobDocument"):
            output["jobDocument"] = json.dumps(self._jobs.document(after.job_id))
        return output

    def _found(
        self,
        find: Callable[[topics.Request, Mapping[str, Json]], JobExecution],
        request: topics.Request,
        body: Mapping[str, Json],
    ) -> JobExecution:
        try:
            return find(request, body)
        except Rejected as error:
            raise topics.service_error(error) from error

    def _output(self, execution: JobExecution | None, *, with_document: bool) -> dict[str, Json]:
        if execution is None:
            return {}
        described = topics.answer(execution, self._now())["execution"]
        if with_document:
            described["jobDocument"] = (self._jobs.document_text(execution.job_id) or b"null").decode()
        return {"execution": described}


def _details(body: Mapping[str, Json]) -> Mapping[str, str] | None:
    details = body.get("statusDetails")
    if details is None:
        return None
    if not isinstance(details, dict) or not all(isinstance(value, str) for value in details.values()):
        raise Rejected("InvalidRequest", "statusDetails is a flat map of strings")
    for name, value in details.items():
        if len(value) > _MAX_DETAIL_CHARACTERS:
            raise Rejected("InvalidRequest", f"statusDetails: {name} is longer than {_MAX_DETAIL_CHARACTERS}")
    return details


def _step_minutes(body: Mapping[str, Json]) -> int | None:
    minutes = body.get("stepTimeoutInMinutes")
    if minutes is None or (type(minutes) is int and (minutes == -1 or 1 <= minutes <= _MAX_STEP_MINUTES)):
        return minutes
    text = f"stepTimeoutInMinutes is 1 to {_MAX_STEP_MINUTES}, or -1 for none"
    raise Rejected("InvalidRequest", text)

"""The conversation of a thing with its jobs: topics and payloads, with and without a namespace; pure.

``$aws/things/<thing>/jobs/…``, with ``namespace-<ns>/`` before the verb where the job has a namespace:

* from the thing: ``get`` (all pending), ``start-next``, ``$next/get``, ``<job>/get``, ``<job>/update``
* to the thing: the same with ``/accepted`` or ``/rejected``, and ``notify``, ``notify-next``
  (``notify-namespace-<ns>``, ``notify-next-namespace-<ns>``)

Source: ``cloud.md`` 5; AWS IoT Core developer guide, "Jobs MQTT API operations".
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from monodon.cloud.job_store import JobExecution
from monodon.cloud.protocol.errors import ServiceError
from monodon.core.json import Json, read_json
from monodon.core.rollout import ExecutionStatus

NEXT: Final = "$next"
_NAMESPACE: Final = "namespace-"
_encode = json.JSONEncoder(separators=(",", ":")).encode

#: The code of a rejection, and the error of the HTTP API that says the same.
_ERRORS: Final = {
    "InvalidRequest": "InvalidRequestException",
    "ResourceNotFound": "ResourceNotFoundException",
    "VersionMismatch": "InvalidRequestException",
    "InvalidStateTransition": "InvalidStateTransitionException",
    "TerminalStateReached": "TerminalStateException",
}


class Rejected(Exception):
    """A request is answered on ``rejected``; ``execution`` is how things stand, where that helps the thing."""

    def __init__(self, code: str, message: str, execution: JobExecution | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.execution = execution


def service_error(error: Rejected) -> ServiceError:
    """The same refusal in the words of the HTTP API."""
    return ServiceError(_ERRORS[error.code], str(error))


@dataclass(frozen=True, slots=True)
class Request:
    """What a thing asks: ``verb`` is get, update or start-next; ``job_id`` may be ``$next``, or None for all jobs."""

    thing: str
    job_id: str | None
    namespace: str | None
    verb: str


def read_topic(topic: str) -> Request | None:
    """The request that a topic stands for; None: it is none (an answer, a notification, something unknown)."""
    levels = topic.split("/")
    if len(levels) < 5 or levels[0] != "$aws" or levels[1] != "things" or levels[3] != "jobs":
        return None
    thing, rest = levels[2], levels[4:]
    if rest in (["get"], ["start-next"]):
        return Request(thing, None, None, rest[0])
    namespace = None
    if len(rest) == 3 and rest[1].startswith(_NAMESPACE):
        namespace = rest[1].removeprefix(_NAMESPACE)
        rest = [rest[0], rest[2]]
    if len(rest) != 2 or rest[1] not in ("get", "update") or rest == [NEXT, "update"]:
        return None
    return Request(thing, rest[0], namespace, rest[1])


def read_body(payload: bytes) -> dict[str, Json]:
    """The request's JSON object; an empty payload is an empty one.

    Raises:
        Rejected: it is no such thing.
    """
    try:
        body = read_json(payload) if payload else {}
    except ValueError as error:
        raise Rejected("InvalidJson", "the payload is not JSON") from error
    if not isinstance(body, dict):
        raise Rejected("InvalidJson", "the payload is not a JSON object")
    token = body.get("clientToken")
    if token is not None and not isinstance(token, str):
        raise Rejected("InvalidRequest", "clientToken is not a string")
    return body


def _suffix(namespace: str | None) -> str:
    return "" if namespace is None else f"-{_NAMESPACE}{namespace}"


def notify_topic(thing: str, namespace: str | None) -> str:
    """Where a thing hears that its list of pending jobs changed."""
    return f"$aws/things/{thing}/jobs/notify{_suffix(namespace)}"


def notify_next_topic(thing: str, namespace: str | None) -> str:
    """Where a thing hears that another job is its next."""
    return f"$aws/things/{thing}/jobs/notify-next{_suffix(namespace)}"


def notification(pending: Sequence[JobExecution], now: float) -> dict[str, Json]:
    """What ``notify`` carries: the pending executions by status; an empty object when there is none."""
    jobs: dict[str, list[Json]] = {}
    for execution in pending:
        jobs.setdefault(execution.status.value, []).append(_summary(execution))
    return {"timestamp": int(now), "jobs": jobs}


def listing(pending: Sequence[JobExecution], now: float) -> dict[str, Json]:
    """The answer to ``get``: all pending executions."""
    running = [_summary(each) for each in pending if each.status is ExecutionStatus.IN_PROGRESS]
    queued = [_summary(each) for each in pending if each.status is ExecutionStatus.QUEUED]
    return {"timestamp": int(now), "inProgressJobs": running, "queuedJobs": queued}


def encode(payload: Mapping[str, Json]) -> bytes:
    """A payload as bytes."""
    return _encode(payload).encode()


def with_document(payload: bytes, document: bytes) -> bytes:
    """Put a job's document (JSON) at the end of the execution, which is the last member of the payload."""
    return payload[:-2] + b',"jobDocument":' + document + b"}}"


def first_of(pending: Sequence[JobExecution]) -> JobExecution | None:
    """``$next``: the one in progress if there is one, else the oldest that is queued."""
    running = (each for each in pending if each.status is ExecutionStatus.IN_PROGRESS)
    return next(running, pending[0] if pending else None)


def answer(execution: JobExecution | None, now: float) -> dict[str, Json]:
    """The answer that describes one execution, its document apart; without ``execution`` when there is none."""
    if execution is None:
        return {"timestamp": int(now)}
    described = {
        "jobId": execution.job_id,
        "thingName": execution.thing,
        **state(execution),
        **_times(execution),
        "executionNumber": execution.number,
    }
    if execution.deadline is not None:
        described["approximateSecondsBeforeTimedOut"] = max(0, int(execution.deadline - now))
    return {"timestamp": int(now), "execution": described}


def state(execution: JobExecution) -> dict[str, Json]:
    """How an execution stands."""
    details = dict(execution.details)
    return {"status": execution.status.value, "statusDetails": details, "versionNumber": execution.version}


def rejection(error: Rejected, token: str | None, now: float) -> dict[str, Json]:
    """What ``rejected`` carries."""
    payload: dict[str, Json] = {"code": error.code, "message": str(error), "timestamp": int(now)}
    if token is not None:
        payload["clientToken"] = token
    if error.execution is not None:
        payload["executionState"] = state(error.execution)
    return payload


def _summary(execution: JobExecution) -> Mapping[str, Json]:
    numbers = {"versionNumber": execution.version, "executionNumber": execution.number}
    return {"jobId": execution.job_id, **_times(execution), **numbers}


def _times(execution: JobExecution) -> dict[str, Json]:
    times: dict[str, Json] = {"queuedAt": int(execution.queued_at), "lastUpdatedAt": int(execution.updated_at)}
    if execution.started_at is not None:
        times["startedAt"] = int(execution.started_at)
    return times

"""The control plane of IoT jobs, over ``cloud.jobs``; operations named as in the model."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

from monodon.cloud.context import RequestContext
from monodon.cloud.iot.registry import Registry
from monodon.cloud.paging import page, page_of, read_token
from monodon.cloud.protocol import ServiceError
from monodon.core.json import Json, is_deeper, read_json

Request = dict[str, Any]
_PAGE = 250
_MAX_DOCUMENT = 32 * 1024
_MAX_TIMEOUT_MINUTES = 10_080
_MAX_DEPTH = 100


class Execution(Protocol):
    """``cloud.job_store.JobExecution``."""

    @property
    def job_id(self) -> str: ...
    @property
    def thing(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def queued_at(self) -> float: ...
    @property
    def updated_at(self) -> float: ...
    @property
    def started_at(self) -> float | None: ...
    @property
    def version(self) -> int: ...
    @property
    def number(self) -> int: ...
    @property
    def namespace(self) -> str | None: ...
    @property
    def details(self) -> Mapping[str, str]: ...
    @property
    def deadline(self) -> float | None: ...


class Job(Protocol):
    """``cloud.job_store.Job``."""

    @property
    def job_id(self) -> str: ...
    @property
    def arn(self) -> str: ...
    @property
    def targets(self) -> tuple[str, ...]: ...
    @property
    def namespace(self) -> str | None: ...
    @property
    def is_continuous(self) -> bool: ...
    @property
    def created_at(self) -> float: ...
    @property
    def updated_at(self) -> float: ...
    @property
    def completed_at(self) -> float | None: ...
    @property
    def status(self) -> str: ...
    @property
    def rollout(self) -> Mapping[str, Json] | None: ...
    @property
    def abort(self) -> Mapping[str, Json] | None: ...
    @property
    def timeout(self) -> Mapping[str, Json] | None: ...
    @property
    def reason_code(self) -> str | None: ...
    @property
    def comment(self) -> str | None: ...
    @property
    def is_forced(self) -> bool: ...


class JobControl(Protocol):
    """What is needed of ``cloud.jobs.Jobs``."""

    def create(
        self,
        job_id: str,
        targets: Collection[str],
        document: Mapping[str, Json],
        namespace: str | None = None,
        continuous: bool = False,
        rollout: Mapping[str, Json] | None = None,
        abort: Mapping[str, Json] | None = None,
        timeout: Mapping[str, Json] | None = None,
    ) -> str: ...
    def cancel(
        self, job_id: str, *, force: bool = False, reason_code: str | None = None, comment: str | None = None
    ) -> None: ...
    def cancel_execution(
        self, job_id: str, thing: str, *, force: bool = False, details: Mapping[str, str] | None = None
    ) -> None: ...
    def delete_execution(self, job_id: str, thing: str, number: int, *, force: bool = False) -> None: ...
    def update(
        self,
        job_id: str,
        *,
        rollout: Mapping[str, Json] | None = None,
        abort: Mapping[str, Json] | None = None,
        timeout: Mapping[str, Json] | None = None,
    ) -> None: ...
    def associate(self, job_id: str, targets: Collection[str]) -> Job: ...
    def delete(self, job_id: str) -> None: ...
    def job(self, job_id: str) -> Job: ...
    def jobs(self, *, after: str | None = None) -> Iterator[Job]: ...
    def document(self, job_id: str) -> Json: ...
    def counts(self, job_id: str) -> Mapping[Any, int]: ...
    def executions(self, job_id: str, *, after: str | None = None) -> Iterator[Execution]: ...
    def executions_of(self, thing: str) -> Collection[Execution]: ...


class JobOperations:
    """Operations of AWS IoT on jobs."""

    def __init__(self, registry: Registry, jobs: JobControl) -> None:
        self._registry = registry
        self._jobs = jobs
        self._descriptions = registry.store.table("iot.job_descriptions")

    def create_job(self, request: Request, context: RequestContext) -> dict[str, Json]:
        job_id = request["jobId"]
        _check_timeout(request)
        for target in request["targets"]:
            self._check_target(target)
        arn = self._jobs.create(
            job_id,
            request["targets"],
            _document(request),
            namespace=request.get("namespaceId"),
            continuous=request.get("targetSelection", "SNAPSHOT") == "CONTINUOUS",
            rollout=request.get("jobExecutionsRolloutConfig"),
            abort=request.get("abortConfig"),
            timeout=request.get("timeoutConfig"),
        )
        if "description" in request:
            self._descriptions.put(job_id, {"text": request["description"]})
        return {"jobArn": arn, "jobId": job_id, "description": request.get("description")}

    def describe_job(self, request: Request, context: RequestContext) -> dict[str, Json]:
        job = self._jobs.job(request["jobId"])
        counts = {str(status): count for status, count in self._jobs.counts(job.job_id).items()}
        described = {
            **_summary(job),
            "forceCanceled": job.is_forced or None,
            "reasonCode": job.reason_code,
            "comment": job.comment,
            "targets": list(job.targets),
            "description": self._description(job.job_id),
            "jobExecutionsRolloutConfig": job.rollout,
            "abortConfig": job.abort,
            "timeoutConfig": job.timeout,
            "namespaceId": job.namespace,
            "jobProcessDetails": {
                f"numberOf{name}Things": counts.get(status, 0)
                for name, status in (
                    ("Canceled", "CANCELED"),
                    ("Succeeded", "SUCCEEDED"),
                    ("Failed", "FAILED"),
                    ("Rejected", "REJECTED"),
                    ("Queued", "QUEUED"),
                    ("InProgress", "IN_PROGRESS"),
                    ("Removed", "REMOVED"),
                    ("TimedOut", "TIMED_OUT"),
                )
            },
        }
        return {"job": described}

    def list_jobs(self, request: Request, context: RequestContext) -> dict[str, Json]:
        group = request.get("thingGroupName")
        target = self._registry.group_arn(group) if group is not None else None
        entries = (
            (job.job_id, _summary(job))
            for job in self._jobs.jobs(after=read_token(request.get("nextToken")))
            if request.get("status", job.status) == job.status
            and request.get("namespaceId", job.namespace) == job.namespace
            and request.get("targetSelection", _selection(job)) == _selection(job)
            and (target is None or target in job.targets)
        )
        jobs, token = page(entries, request.get("maxResults", _PAGE))
        return {"jobs": jobs, "nextToken": token}

    def get_job_document(self, request: Request, context: RequestContext) -> dict[str, Json]:
        self._jobs.job(request["jobId"])
        return {"document": json.dumps(self._jobs.document(request["jobId"]))}

    def cancel_job(self, request: Request, context: RequestContext) -> dict[str, Json]:
        job = self._jobs.job(request["jobId"])
        self._jobs.cancel(
            job.job_id,
            force=request.get("force", False),
            reason_code=request.get("reasonCode"),
            comment=request.get("comment"),
        )
        return {"jobArn": job.arn, "jobId": job.job_id, "description": self._description(job.job_id)}

    def update_job(self, request: Request, context: RequestContext) -> None:
        _check_timeout(request)
        self._jobs.update(
            request["jobId"],
            rollout=request.get("jobExecutionsRolloutConfig"),
            abort=request.get("abortConfig"),
            timeout=request.get("timeoutConfig"),
        )
        if "description" in request:
            self._descriptions.put(request["jobId"], {"text": request["description"]})

    def associate_targets_with_job(self, request: Request, context: RequestContext) -> dict[str, Json]:
        for target in request["targets"]:
            self._check_target(target)
        job = self._jobs.associate(request["jobId"], request["targets"])
        return {"jobArn": job.arn, "jobId": job.job_id, "description": self._description(job.job_id)}

    def delete_job(self, request: Request, context: RequestContext) -> None:
        job = self._jobs.job(request["jobId"])
        if job.status == "IN_PROGRESS" and not request.get("force"):
            raise ServiceError(
                "InvalidStateTransitionException", f"Job {job.job_id} is in progress; cancel it or force", status=409
            )
        self._jobs.delete(job.job_id)
        self._descriptions.delete(job.job_id)

    def list_job_executions_for_job(self, request: Request, context: RequestContext) -> dict[str, Json]:
        self._jobs.job(request["jobId"])
        executions = self._jobs.executions(request["jobId"], after=read_token(request.get("nextToken")))
        entries = (
            (
                execution.thing,
                {"thingArn": self._registry.thing_arn(execution.thing), "jobExecutionSummary": _times(execution)},
            )
            for execution in executions
            if request.get("status", str(execution.status)) == str(execution.status)
        )
        found, token = page(entries, request.get("maxResults", _PAGE))
        return {"executionSummaries": found, "nextToken": token}

    def list_job_executions_for_thing(self, request: Request, context: RequestContext) -> dict[str, Json]:
        entries = self._of_thing(request)
        found, token = page_of(entries, request.get("nextToken"), request.get("maxResults", _PAGE))
        return {"executionSummaries": found, "nextToken": token}

    def describe_job_execution(self, request: Request, context: RequestContext) -> dict[str, Json]:
        return {"execution": self._execution(self._of(request))}

    def cancel_job_execution(self, request: Request, context: RequestContext) -> None:
        execution = self._of(request)
        expected = request.get("expectedVersion", execution.version)
        if expected != execution.version:
            text = f"the version is {execution.version}, not {expected}"
            raise ServiceError("VersionConflictException", text, status=409)
        self._jobs.cancel_execution(
            execution.job_id,
            execution.thing,
            force=request.get("force", False),
            details=request.get("statusDetails"),
        )

    def delete_job_execution(self, request: Request, context: RequestContext) -> None:
        number, force = request["executionNumber"], request.get("force", False)
        self._jobs.delete_execution(request["jobId"], request["thingName"], number, force=force)

    def _of(self, request: Request) -> Execution:
        """The execution that a request names by job, thing and perhaps its number."""
        job_id, thing = request["jobId"], request["thingName"]
        for execution in self._jobs.executions_of(thing):
            if execution.job_id == job_id and request.get("executionNumber", execution.number) == execution.number:
                return execution
        raise ServiceError("ResourceNotFoundException", f"Job {job_id} has no execution on {thing}", status=404)

    def _of_thing(self, request: Request) -> Iterator[tuple[str, dict[str, Json]]]:
        for execution in sorted(self._jobs.executions_of(request["thingName"]), key=lambda each: each.job_id):
            if request.get("status", str(execution.status)) != str(execution.status):
                continue
            if request.get("namespaceId", execution.namespace) != execution.namespace:
                continue
            if request.get("jobId", execution.job_id) == execution.job_id:
                yield execution.job_id, {"jobId": execution.job_id, "jobExecutionSummary": _times(execution)}

    def _execution(self, execution: Execution) -> dict[str, Json]:
        left = None
        if execution.deadline is not None:
            left = max(0, int(execution.deadline - self._registry.now()))
        return {
            **_times(execution),
            "jobId": execution.job_id,
            "thingArn": self._registry.thing_arn(execution.thing),
            "statusDetails": {"detailsMap": dict(execution.details)} if execution.details else None,
            "versionNumber": execution.version,
            "approximateSecondsBeforeTimedOut": left,
        }

    def _description(self, job_id: str) -> str | None:
        record = self._descriptions.get(job_id)
        return None if record is None else str(record["text"])

    def _check_target(self, arn: str) -> None:
        group, thing = self._registry.name_of(arn, "thinggroup"), self._registry.name_of(arn, "thing")
        if group is not None:
            self._registry.group(group)
        elif thing is not None:
            self._registry.thing(thing)
        else:
            raise ServiceError("InvalidRequestException", f"{arn} is no target of this account and region", status=400)


def _document(request: Request) -> dict[str, Json]:
    if "document" not in request:
        raise ServiceError("InvalidRequestException", "the embedded cloud takes jobs with `document` alone", status=400)
    text = request["document"]
    if len(text.encode()) > _MAX_DOCUMENT:
        raise ServiceError("LimitExceededException", f"a job document has at most {_MAX_DOCUMENT} bytes", status=410)
    try:
        document = read_json(text)
    except ValueError as error:
        raise ServiceError("InvalidRequestException", f"the document is not JSON: {error}", status=400) from error
    if not isinstance(document, dict) or is_deeper(document, _MAX_DEPTH):
        text = f"the document is not a JSON object of at most {_MAX_DEPTH} levels"
        raise ServiceError("InvalidRequestException", text, status=400)
    return document


def _check_timeout(request: Request) -> None:
    """What stands in the API's text and not in its shapes."""
    minutes = request.get("timeoutConfig", {}).get("inProgressTimeoutInMinutes")
    if minutes is not None and not 1 <= minutes <= _MAX_TIMEOUT_MINUTES:
        text = f"inProgressTimeoutInMinutes: {minutes} is not in 1 to {_MAX_TIMEOUT_MINUTES}"
        raise ServiceError("InvalidRequestException", text, status=400)


def _selection(job: Job) -> str:
    return "CONTINUOUS" if job.is_continuous else "SNAPSHOT"


def _summary(job: Job) -> dict[str, Json]:
    return {
        "jobArn": job.arn,
        "jobId": job.job_id,
        "targetSelection": _selection(job),
        "status": job.status,
        "createdAt": job.created_at,
        "lastUpdatedAt": job.updated_at,
        "completedAt": job.completed_at,
    }


def _times(execution: Execution) -> dict[str, Json]:
    return {
        "status": str(execution.status),
        "queuedAt": execution.queued_at,
        "startedAt": execution.started_at,
        "lastUpdatedAt": execution.updated_at,
        "executionNumber": execution.number,
    }

"""Follow a deployment until every device of its target has an answer, page by page."""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from monodon.core.json import read_json
from monodon.errors import FleetError
from monodon.fleet.aws import Aws, is_missing, told
from monodon.fleet.clustering import Cluster, Failure, clusters, printable
from monodon.fleet.known import FAILURES as FAILURES
from monodon.fleet.known import FINAL as FINAL
from monodon.fleet.known import LEFT as LEFT
from monodon.fleet.known import SUCCESSES as SUCCESSES
from monodon.fleet.live import core_devices, members_of
from monodon.fleet.patience import Patience

#: Devices that are asked for their reason; the rest is counted.
MAX_REASONS = 200
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.05, 3.0
#: How often a group's members are read again: who left it is not waited for.
_LOOKS_PER_MEMBERS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A deployment that AWS has accepted."""

    deployment_id: str
    target_arn: str
    job_id: str | None
    revision: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A device's execution has another status; ``reason`` says why it failed, ``codes`` in AWS's words."""

    thing: str
    status: str
    reason: str = ""
    at_s: float = 0.0
    codes: tuple[str, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether the device is done with the deployment."""
        return self.status in FINAL

    @property
    def is_success(self) -> bool:
        """Whether the device runs what was deployed."""
        return self.status in SUCCESSES

    @property
    def is_failure(self) -> bool:
        """Whether the device was to run it and does not."""
        return self.status in FAILURES


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What changed since the last look; ``counts`` by status, of ``total`` devices."""

    at_s: float
    changes: tuple[Change, ...]
    counts: Mapping[str, int]
    total: int


class Ending(StrEnum):
    """Why following ended."""

    DONE = "done"
    STOPPED = "stopped"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A device that has no answer yet. ``reported_s`` is when it last told AWS anything, None if it never did."""

    thing: str
    status: str
    reported_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a deployment stood when following ended."""

    ending: Ending
    at_s: float
    succeeded: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    failed: tuple[Change, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    superseded_by: str = ""

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """The failures by cause."""
        return clusters(
            Failure(thing=one.thing, status=one.status, reason=one.reason, codes=one.codes) for one in self.failed
        )


@dataclass(slots=True)
class _Seen:
    """What is known of each device so far."""

    statuses: dict[str, str] = field(default_factory=dict)
    failures: dict[str, Change] = field(default_factory=dict)
    members: tuple[str, ...] = ()
    reasons_left: int = MAX_REASONS

    @property
    def open(self) -> list[str]:
        """Devices without a final answer: those that have begun, and those that AWS has not told yet."""
        begun = [thing for thing, status in self.statuses.items() if status not in FINAL]
        return sorted({*begun, *(thing for thing in self.members if thing not in self.statuses)})


def watch(
    aws: Aws,
    created: Created,
    *,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    say: Callable[[str], None] = lambda text: None,
    max_reasons: int = MAX_REASONS,
) -> Generator[Progress, None, Result]:
    """Yield what changes at each look, until every device of the target has ended or the time is over.

    A group's devices are its members, so that a slow rollout is not over before it has reached them all; a thing that
    leaves the group meanwhile is not waited for.

    Args:
        say: told when AWS is busy and a call is made again.
        max_reasons: so many devices are asked why they failed.

    Raises:
        FleetError: AWS refuses a call for good.
    """
    started = clock()
    patience = Patience(limit_s=timeout_s, say=say, clock=clock, sleep=sleep)
    look = _Look(aws, created, patience)
    seen = _Seen(reasons_left=max_reasons, members=patience.call(lambda: members_of(aws, created.target_arn)))
    pause_s = _FIRST_PAUSE_S
    looks = 0
    while True:
        began = clock()
        changes = tuple(_changed(aws, created, seen, look.statuses(), began - started, patience))
        if changes or not looks:
            yield _progress(seen, changes, clock() - started)
        looks += 1
        if not seen.open or looks % _LOOKS_PER_MEMBERS == 0:
            seen.members = patience.call(lambda: members_of(aws, created.target_arn))
        ending = look.ending() if seen.open or "CANCELED" in seen.statuses.values() else None
        if ending is None and not seen.open:
            ending = Ending.DONE
        if ending is None and clock() - started > timeout_s:
            ending = Ending.EXPIRED
        if ending is not None:
            return _result(aws, seen, ending, look, clock() - started)
        pause_s = _FIRST_PAUSE_S if changes else min(pause_s * 1.3, _LAST_PAUSE_S)
        sleep(max(pause_s, min(2 * (clock() - began), 15.0)))  # a look that takes long is not taken all the time


def follow(
    aws: Aws,
    created: Created,
    *,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Change]:
    """Yield each change of status of each device, until all have ended.

    Raises:
        FleetError: not all have within ``timeout_s`` seconds (those that wait are named), the deployment was stopped or
            replaced, or AWS refuses a call.
    """
    watching = watch(aws, created, timeout_s=timeout_s, clock=clock, sleep=sleep)
    while True:
        try:
            progress = next(watching)
        except StopIteration as end:
            result: Result = end.value
            break
        yield from progress.changes
    if result.ending is not Ending.DONE:
        raise FleetError(told_ending(created, result, timeout_s), hint=hint_of(result.ending))


def told_ending(created: Created, result: Result, timeout_s: float) -> str:
    """Say why following ended early."""
    if result.ending is Ending.STOPPED:
        return f"deployment {created.deployment_id} was canceled: by somebody, or by its abort criteria"
    if result.ending is Ending.SUPERSEDED:
        return f"deployment {created.deployment_id} was replaced meanwhile by {result.superseded_by}"
    who = ", ".join(f"{one.thing} ({one.status})" for one in result.waiting[:5]) or "no device has taken it up"
    more = f" and {len(result.waiting) - 5} more" if len(result.waiting) > 5 else ""
    return f"deployment {created.deployment_id} has not ended within {timeout_s:g} s: {who}{more}"


def hint_of(ending: Ending) -> str:
    """Say what to do about it."""
    return {
        Ending.EXPIRED: "an offline device takes it up when it comes back; to follow on, deploy the same again",
        Ending.STOPPED: "see why devices failed; plan and deploy again when it is mended",
        Ending.SUPERSEDED: "plan again, and see what would change now",
    }.get(ending, "")


class _Look:
    """One look after the other at a deployment's executions."""

    def __init__(self, aws: Aws, created: Created, patience: Patience) -> None:
        self._aws = aws
        self._created = created
        self._patience = patience
        self._counts: object = None
        self._job_status = ""
        self.superseded_by = ""

    def statuses(self) -> Mapping[str, str]:
        """Return status by thing; nothing if a cheap call says that nothing changed."""
        return self._patience.call(self._statuses)

    def _statuses(self) -> Mapping[str, str]:
        job_id = self._created.job_id
        if job_id is None or ":thinggroup/" not in self._created.target_arn:
            return executions(self._aws, self._created)
        try:
            job = self._aws.iot.describe_job(jobId=job_id)["job"]
        except ClientError as error:
            if not is_missing(error):
                raise
            self._job_status = "DELETED"
            return {}
        self._job_status = str(job.get("status") or "")
        counts = job.get("jobProcessDetails")
        if counts and counts == self._counts:
            return {}
        found = executions(self._aws, self._created)
        self._counts = counts
        return found

    def ending(self) -> Ending | None:
        """Whether devices that have not begun never will."""
        if self._created.job_id is not None and self._job_status in ("", "IN_PROGRESS", "SCHEDULED"):
            return None
        return self._patience.call(self._ending)

    def _ending(self) -> Ending | None:
        for one in self._listed():
            if one["deploymentId"] != self._created.deployment_id:
                self.superseded_by = str(one["deploymentId"])
                return Ending.SUPERSEDED
            is_over = one.get("deploymentStatus") in ("CANCELED", "INACTIVE")
            return Ending.STOPPED if is_over or self._job_status else None
        return Ending.STOPPED

    def _listed(self) -> Iterator[Mapping[str, Any]]:
        arn = self._created.target_arn
        for page in self._aws.greengrass.get_paginator("list_deployments").paginate(targetArn=arn):
            yield from (one for one in page["deployments"] if one["targetArn"] == arn)


def _changed(
    aws: Aws, created: Created, seen: _Seen, now: Mapping[str, str], at_s: float, patience: Patience
) -> Iterator[Change]:
    for thing, status in now.items():
        if seen.statuses.get(thing) == status:
            continue
        seen.statuses[thing] = status
        reason: str = ""
        codes: tuple[str, ...] = ()
        if status in FAILURES and status != "CANCELED":
            seen.reasons_left -= 1
            if seen.reasons_left >= 0:
                reason, codes = patience.call(partial(diagnose, aws, thing, created))
        change = Change(thing=thing, status=status, reason=reason, at_s=at_s, codes=codes)
        seen.failures.pop(thing, None)
        if change.is_failure:
            seen.failures[thing] = change
        yield change


def _progress(seen: _Seen, changes: tuple[Change, ...], at_s: float) -> Progress:
    total = len({*seen.statuses, *seen.members})
    return Progress(at_s=at_s, changes=changes, counts=dict(Counter(seen.statuses.values())), total=total)


def _result(aws: Aws, seen: _Seen, ending: Ending, look: _Look, at_s: float) -> Result:
    waiting = seen.open
    devices = core_devices(aws, waiting) if waiting else {}
    return Result(
        ending=ending,
        at_s=at_s,
        succeeded=tuple(sorted(thing for thing, status in seen.statuses.items() if status in SUCCESSES)),
        left=tuple(sorted(thing for thing, status in seen.statuses.items() if status == LEFT)),
        failed=tuple(seen.failures[thing] for thing in sorted(seen.failures)),
        waiting=tuple(
            Waiting(
                thing=thing,
                status=seen.statuses.get(thing, "NOT_STARTED"),
                reported_s=devices[thing].reported_s if thing in devices else None,
            )
            for thing in waiting
        ),
        superseded_by=look.superseded_by,
    )


def executions(aws: Aws, created: Created) -> dict[str, str]:
    """Return the status of each thing of a deployment.

    Raises:
        FleetError: AWS refuses a call.
    """
    with told():
        if created.job_id is not None and ":thinggroup/" in created.target_arn:
            pages = aws.iot.get_paginator("list_job_executions_for_job").paginate(
                jobId=created.job_id, PaginationConfig={"PageSize": 250}
            )
            summaries = [summary for page in pages for summary in page["executionSummaries"]]
            return {one["thingArn"].rpartition("/")[2]: one["jobExecutionSummary"]["status"] for one in summaries}
        thing = created.target_arn.rpartition("/")[2]
        found = effective(aws, thing, created.deployment_id)
        return {thing: str(found["coreDeviceExecutionStatus"])} if found else {}


def effective(aws: Aws, thing: str, deployment_id: str) -> Mapping[str, Any] | None:
    """Return what AWS knows of one deployment on one device."""
    paginator = aws.greengrass.get_paginator("list_effective_deployments")
    try:
        for page in paginator.paginate(coreDeviceThingName=thing):
            for one in page["effectiveDeployments"]:
                if one["deploymentId"] == deployment_id:
                    found: Mapping[str, Any] = one
                    return found
    except ClientError as error:
        if not is_missing(error):  # a device that never reported
            raise
    return None


def why(aws: Aws, thing: str, created: Created) -> str:
    """Return why a device failed: the cause it gave, else its error codes, else what its components say."""
    return diagnose(aws, thing, created)[0]


def diagnose(aws: Aws, thing: str, created: Created) -> tuple[str, tuple[str, ...]]:
    """Return why a device failed, in its own words made fit to print, and AWS's error codes, general first.

    Raises:
        FleetError: AWS refuses a call.
    """
    with told():
        if created.job_id is not None and ":thinggroup/" in created.target_arn:
            cause, codes = _failure_cause(aws, thing, created.job_id)
            if cause:
                return cause, codes
        found = effective(aws, thing, created.deployment_id) or {}
        details = found.get("statusDetails") or {}
        stack = _codes(details.get("errorStack"))
        parts = [str(found.get("reason") or ""), " > ".join(stack)]
        parts += [
            f"{one['componentName']} is {one['lifecycleState']}: {one['lifecycleStateDetails']}"
            for one in installed(aws, thing)
            if one.get("lifecycleState") in ("BROKEN", "ERRORED") and one.get("lifecycleStateDetails")
        ]
    return printable("; ".join(part for part in parts if part)) or "the device gave no reason", stack


def _failure_cause(aws: Aws, thing: str, job_id: str) -> tuple[str, tuple[str, ...]]:
    """Return what the device wrote into its job execution; "" where it wrote nothing, or AWS has forgotten it."""
    try:
        execution = aws.iot.describe_job_execution(jobId=job_id, thingName=thing)["execution"]
    except ClientError as error:
        if is_missing(error):
            return "", ()
        raise
    details = (execution.get("statusDetails") or {}).get("detailsMap") or {}
    status, cause = details.get("detailed-deployment-status", ""), details.get("deployment-failure-cause", "")
    text = f"{status}: {cause}" if status and cause else cause or status
    return printable(text), _codes(details.get("deployment-error-stack"))


def _codes(value: object) -> tuple[str, ...]:
    """Error codes, as a list or as a JSON list in a text; whatever else a device writes is none."""
    if isinstance(value, str):
        try:
            value = read_json(value)
        except ValueError:
            return ()
    items: Iterable[object] = value if isinstance(value, list) else ()
    return tuple(printable(one, 100) for one in items if isinstance(one, str))


def installed(aws: Aws, thing: str) -> list[Mapping[str, Any]]:
    """Return the components that a core device reported last, all of them; none if it never did."""
    paginator = aws.greengrass.get_paginator("list_installed_components")
    try:
        pages = list(paginator.paginate(coreDeviceThingName=thing, topologyFilter="ALL"))
    except ClientError as error:
        if is_missing(error):
            return []
        raise
    return [one for page in pages for one in page["installedComponents"]]

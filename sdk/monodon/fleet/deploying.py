"""Create a deployment, and follow it until every device of its target has an answer."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from monodon.errors import FleetError
from monodon.fleet.aws import Aws, is_missing, told
from monodon.fleet.desired import Desired

#: What an execution ends in. Source: AWS IoT Jobs; COMPLETED is a single thing's SUCCEEDED (cloud.md 4).
SUCCESSES = frozenset({"SUCCEEDED", "COMPLETED"})
FAILURES = frozenset({"FAILED", "TIMED_OUT", "REJECTED", "CANCELED", "REMOVED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A deployment that AWS has accepted."""

    deployment_id: str
    target_arn: str
    job_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A device's execution has another status; ``reason`` says why it failed."""

    thing: str
    status: str
    reason: str = ""
    at_s: float = 0.0

    @property
    def is_final(self) -> bool:
        """Whether the device is done with the deployment."""
        return self.status in SUCCESSES | FAILURES

    @property
    def is_success(self) -> bool:
        """Whether the device runs what was deployed."""
        return self.status in SUCCESSES


def target_arn(aws: Aws, target: str) -> str:
    """Return the ARN of ``thinggroup/<name>``, ``thing/<name>`` or an ARN.

    Raises:
        FleetError: it is neither.
    """
    kind, _, name = target.partition("/")
    if target.startswith("arn:"):
        return target
    if kind == "thinggroup" and name:
        return aws.group_arn(name)
    if kind == "thing" and name:
        return aws.thing_arn(name)
    raise FleetError(f"{target!r} is no target", hint="write thinggroup/NAME, thing/NAME or an ARN")


def deploy(aws: Aws, desired: Desired) -> Created:
    """Create the deployment that makes a target run what is desired.

    Raises:
        FleetError: AWS refuses it.
    """
    arn = target_arn(aws, desired.target)
    with told():
        answer = aws.greengrass.create_deployment(**_request(arn, desired))
    return Created(deployment_id=answer["deploymentId"], target_arn=arn, job_id=answer.get("iotJobId"))


def _request(arn: str, desired: Desired) -> dict[str, Any]:
    components: dict[str, Any] = {}
    for name, one in desired.components.items():
        update: dict[str, Any] = {} if one.merge is None else {"merge": json.dumps(one.merge)}
        if one.reset:
            update["reset"] = list(one.reset)
        component = {"componentVersion": str(one.version), **({"configurationUpdate": update} if update else {})}
        components[str(name)] = component
    policies = {"failureHandlingPolicy": desired.on_failure or "ROLLBACK"}
    request = {"targetArn": arn, "components": components, "deploymentPolicies": policies}
    return request | ({"deploymentName": desired.name} if desired.name else {})


def follow(
    aws: Aws, created: Created, *, timeout_s: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[Change]:
    """Yield each change of status of each device, until all have ended.

    Raises:
        FleetError: not all have within ``timeout_s`` seconds (those that wait are named), or AWS refuses a call.
    """
    started = clock()
    statuses: dict[str, str] = {}
    pause_s = 0.05
    while True:
        before = dict(statuses)
        for thing, status in executions(aws, created).items():
            if statuses.get(thing) != status:
                statuses[thing] = status
                reason = why(aws, thing, created) if status in FAILURES else ""
                yield Change(thing=thing, status=status, reason=reason, at_s=clock() - started)
        waiting = sorted(thing for thing, status in statuses.items() if status not in SUCCESSES | FAILURES)
        if statuses and not waiting:
            return
        if clock() - started > timeout_s:
            who = ", ".join(f"{thing} ({statuses[thing]})" for thing in waiting[:5]) or "no device has taken it up"
            raise FleetError(
                f"deployment {created.deployment_id} has not ended within {timeout_s:g} s: {who}",
                hint="a device that is offline takes it up when it comes back; look with scripts/fleet_status",
            )
        pause_s = 0.05 if statuses != before else min(pause_s * 1.3, 3.0)
        time.sleep(pause_s)


def executions(aws: Aws, created: Created) -> dict[str, str]:
    """Return the status of each thing of a deployment."""
    with told():
        if created.job_id is not None and ":thinggroup/" in created.target_arn:
            pages = aws.iot.get_paginator("list_job_executions_for_job").paginate(jobId=created.job_id)
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
    with told():
        if created.job_id is not None and (cause := _failure_cause(aws, thing, created.job_id)):
            return cause
        found = effective(aws, thing, created.deployment_id) or {}
        details = found.get("statusDetails") or {}
        parts = [found.get("reason") or "", " > ".join(details.get("errorStack") or ())]
        parts += [
            f"{one['componentName']} is {one['lifecycleState']}: {one['lifecycleStateDetails']}"
            for one in installed(aws, thing)
            if one.get("lifecycleState") in ("BROKEN", "ERRORED") and one.get("lifecycleStateDetails")
        ]
    return "; ".join(part for part in parts if part) or "the device gave no reason"


def _failure_cause(aws: Aws, thing: str, job_id: str) -> str:
    """Return what the device wrote into its job execution; "" where it wrote nothing, or AWS has forgotten it."""
    try:
        execution = aws.iot.describe_job_execution(jobId=job_id, thingName=thing)["execution"]
    except ClientError as error:
        if is_missing(error):
            return ""
        raise
    details = (execution.get("statusDetails") or {}).get("detailsMap") or {}
    status, cause = details.get("detailed-deployment-status", ""), details.get("deployment-failure-cause", "")
    return f"{status}: {cause}" if status and cause else cause or status


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

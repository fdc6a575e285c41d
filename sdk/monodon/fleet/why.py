"""What AWS is asked to say why a device or a deployment is as it is."""

import re
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from monodon.errors import FleetError
from monodon.fleet.aws import Aws, is_missing, told
from monodon.fleet.clustering import Failure, clusters, printable
from monodon.fleet.diagnosing import (
    DeploymentFacts,
    DeviceFacts,
    Diagnosis,
    Stand,
    diagnose_deployment,
    diagnose_device,
    unwell,
)
from monodon.fleet.following import Created, diagnose, executions, installed
from monodon.fleet.known import FAILURES, FINAL
from monodon.fleet.live import core_devices, deployment, each, live_deployment, members_of, paged

#: What Greengrass gives deployments as ids; no thing is called so by people.
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
#: Failed devices that are asked for their reasons.
MAX_ASKED = 200


def explain(aws: Aws, subject: str, *, now_s: float | None = None) -> Diagnosis:
    """Say why the device, or the deployment, of this name is as it is.

    Raises:
        FleetError: there is neither, or AWS refuses a call.
    """
    now_s = time.time() if now_s is None else now_s
    if _UUID.fullmatch(subject):
        return explain_deployment(aws, subject, now_s=now_s)
    return explain_device(aws, subject.removeprefix("thing/"), now_s=now_s)


def explain_device(aws: Aws, thing: str, *, now_s: float) -> Diagnosis:
    """Say why a device is as it is.

    Raises:
        FleetError: there is no such thing, or AWS refuses a call.
    """
    members_of(aws, aws.thing_arn(thing))
    with told():
        try:
            device = aws.greengrass.get_core_device(coreDeviceThingName=thing)
        except ClientError as error:
            if not is_missing(error):
                raise
            return diagnose_device(DeviceFacts(thing=thing, now_s=now_s))
        effective = list(
            paged(aws.greengrass, "list_effective_deployments", "effectiveDeployments", coreDeviceThingName=thing)
        )
        components = installed(aws, thing)
    return diagnose_device(
        DeviceFacts(
            thing=thing,
            now_s=now_s,
            reported_s=device["lastStatusUpdateTimestamp"].timestamp(),
            status=str(device.get("status") or ""),
            runtime=str(device.get("runtime") or ""),
            stands=_stands(aws, thing, effective),
            unwell=unwell(components),
        )
    )


def _stands(aws: Aws, thing: str, effective: list[Mapping[str, Any]]) -> tuple[Stand, ...]:
    """Of each target the deployment that changed last; what was replaced before it matters no more."""
    latest: dict[str, Mapping[str, Any]] = {}
    for one in sorted(effective, key=lambda each: each["modifiedTimestamp"]):
        latest[one["targetArn"]] = one
    return tuple(each(partial(_stand, aws, thing), latest.values()))


def _stand(aws: Aws, thing: str, one: Mapping[str, Any]) -> Stand:
    status = str(one["coreDeviceExecutionStatus"])
    reason: str = ""
    codes: tuple[str, ...] = ()
    if status in FAILURES and status != "CANCELED":
        created = Created(
            deployment_id=one["deploymentId"], target_arn=one["targetArn"], job_id=one.get("iotJobId") or None
        )
        reason, codes = diagnose(aws, thing, created)
    return Stand(
        deployment_id=str(one["deploymentId"]),
        target=str(one["targetArn"]).rpartition(":")[2],
        status=status,
        modified_s=one["modifiedTimestamp"].timestamp(),
        name=str(one.get("deploymentName") or ""),
        reason=reason,
        codes=codes,
    )


def explain_deployment(aws: Aws, deployment_id: str, *, now_s: float) -> Diagnosis:
    """Say why a deployment is as it is.

    Raises:
        FleetError: there is no such deployment, or AWS refuses a call.
    """
    answer = deployment(aws, deployment_id)
    arn = answer["targetArn"]
    created = Created(deployment_id=deployment_id, target_arn=arn, job_id=answer.get("iotJobId"))
    statuses, job = _executions(aws, created), _job(aws, created.job_id)
    members = _members(aws, arn)
    created_s = answer["creationTimestamp"].timestamp()
    return diagnose_deployment(
        DeploymentFacts(
            deployment_id=deployment_id,
            target=arn.rpartition(":")[2],
            status=str(answer.get("deploymentStatus") or ""),
            now_s=now_s,
            created_s=created_s,
            counts=dict(Counter(statuses.values())),
            members=len(members),
            clusters=clusters(_failures(aws, created, statuses)),
            stopped_because=printable(job.get("comment") or job.get("reasonCode") or "", 200),
            silent=_silent(aws, statuses, members, created_s),
            rollout=(answer.get("iotJobConfiguration") or {}).get("jobExecutionsRolloutConfig") or {},
            replaced_by=_replaced_by(aws, arn, deployment_id),
        )
    )


def _executions(aws: Aws, created: Created) -> dict[str, str]:
    """How it stands on each device; nothing where AWS has forgotten the job."""
    try:
        return executions(aws, created)
    except FleetError as error:
        if isinstance(error.__cause__, ClientError) and is_missing(error.__cause__):
            return {}
        raise


def _job(aws: Aws, job_id: str | None) -> Mapping[str, Any]:
    if job_id is None:
        return {}
    with told():
        try:
            found: Mapping[str, Any] = aws.iot.describe_job(jobId=job_id)["job"]
        except ClientError as error:
            if is_missing(error):
                return {}
            raise
    return found


def _members(aws: Aws, arn: str) -> tuple[str, ...]:
    try:
        return members_of(aws, arn)
    except FleetError as error:
        if isinstance(error.__cause__, ClientError) and is_missing(error.__cause__):
            return ()  # the target was deleted since
        raise


def _failures(aws: Aws, created: Created, statuses: Mapping[str, str]) -> list[Failure]:
    failed = sorted(thing for thing, status in statuses.items() if status in FAILURES and status != "CANCELED")
    reasons = dict(each(lambda thing: (thing, diagnose(aws, thing, created)), failed[:MAX_ASKED]))
    return [
        Failure(thing=thing, status=statuses[thing], reason=reasons[thing][0], codes=reasons[thing][1])
        if thing in reasons
        else Failure(thing=thing, status=statuses[thing])
        for thing in failed
    ]


def _silent(aws: Aws, statuses: Mapping[str, str], members: tuple[str, ...], since_s: float) -> tuple[str, ...]:
    waiting = [thing for thing in members if statuses.get(thing) not in FINAL]
    devices = core_devices(aws, waiting) if waiting else {}
    return tuple(
        thing
        for thing in waiting
        if statuses.get(thing) == "QUEUED" and (thing not in devices or devices[thing].reported_s < since_s)
    )


def _replaced_by(aws: Aws, arn: str, deployment_id: str) -> str:
    latest = live_deployment(aws, arn)
    return "" if latest is None or latest["deploymentId"] == deployment_id else str(latest["deploymentId"])

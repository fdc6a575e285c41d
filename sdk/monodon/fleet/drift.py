"""Which devices run something else than their deployments, or a fleet file, say: what is asked of AWS for it."""

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from monodon.errors import FleetError
from monodon.fleet.aws import Aws, is_missing, told
from monodon.fleet.clustering import printable
from monodon.fleet.desired import Desired
from monodon.fleet.drifting import DeviceDrift, Order, Reported, drift_of
from monodon.fleet.following import Created, executions
from monodon.fleet.known import SUCCESSES
from monodon.fleet.live import core_devices, deployment, each, members_of, paged, target_arn

#: Devices whose components are asked for at a time, before the next are.
BATCH = 200
#: A deployment that says no more what its target shall run.
_GONE = frozenset({"INACTIVE"})


def drift(aws: Aws, target: str | None = None, *, desired: Desired | None = None) -> Iterator[DeviceDrift]:
    """Yield each device of a target (None: of the account), by name, compared with all deployments that reach it.

    Args:
        target: ``thinggroup/<name>``, ``thing/<name>`` or an ARN.
        desired: compare the devices of its target with this, instead of what is live there.

    Raises:
        FleetError: there is no such target, or AWS refuses a call.
    """
    _ = aws.greengrass, aws.iot  # made before threads share them
    replaced = target_arn(aws, desired.target) if desired is not None else None
    scope = replaced or (target_arn(aws, target) if target is not None else None)
    members = members_of(aws, scope) if scope is not None else _all_core_devices(aws)
    reaching = _orders(aws, set(members), besides=replaced)
    if desired is not None and replaced is not None:
        reaching.append((_wanted(aws, desired, replaced), frozenset(members)))
    devices = core_devices(aws, members)
    for start in range(0, len(members), BATCH):
        some = members[start : start + BATCH]
        reported = dict(each(lambda thing: (thing, _reported(aws, thing) if thing in devices else {}), some))
        for thing in some:
            mine = [order for order, things in reaching if thing in things]
            seen_s = devices[thing].reported_s if thing in devices else None
            yield drift_of(thing, seen_s, reported[thing], mine)


def _all_core_devices(aws: Aws) -> tuple[str, ...]:
    with told():
        return tuple(
            sorted(one["coreDeviceThingName"] for one in paged(aws.greengrass, "list_core_devices", "coreDevices"))
        )


def _orders(aws: Aws, wanted: set[str], *, besides: str | None) -> list[tuple[Order, frozenset[str]]]:
    """The live deployments that reach any of some things, each with the things that it reaches."""
    with told():
        summaries = [
            one
            for one in paged(aws.greengrass, "list_deployments", "deployments")
            if one["targetArn"] != besides
            and one.get("deploymentStatus") not in _GONE
            and (":thing/" not in one["targetArn"] or _name(one["targetArn"]) in wanted)
        ]
    return [found for found in each(lambda one: _order(aws, one, wanted), summaries) if found is not None]


def _order(aws: Aws, summary: Mapping[str, Any], wanted: set[str]) -> tuple[Order, frozenset[str]] | None:
    arn = summary["targetArn"]
    try:
        with told():
            things = wanted.intersection({_name(arn)} if ":thing/" in arn else _members(aws, arn))
        if not things:
            return None
        answer = deployment(aws, summary["deploymentId"])
        order = _live_order(aws, answer)
    except FleetError as error:
        if isinstance(error.__cause__, ClientError) and is_missing(error.__cause__):
            return None  # deleted since it was listed
        raise
    if answer.get("deploymentStatus") == "CANCELED":
        # Stopped half-way: it holds where it had ended, and says nothing of the others.
        things = {thing for thing in things if order.executions.get(thing) in SUCCESSES}
    return order, frozenset(things)


def _members(aws: Aws, arn: str) -> Iterator[str]:
    return paged(aws.iot, "list_things_in_thing_group", "things", 250, thingGroupName=_name(arn), recursive=True)


def _live_order(aws: Aws, answer: Mapping[str, Any]) -> Order:
    created = Created(
        deployment_id=answer["deploymentId"], target_arn=answer["targetArn"], job_id=answer.get("iotJobId")
    )
    return Order(
        target=_short(answer["targetArn"]),
        deployment_id=answer["deploymentId"],
        components={name: one["componentVersion"] for name, one in (answer.get("components") or {}).items()},
        executions=executions(aws, created),
    )


def _wanted(aws: Aws, desired: Desired, arn: str) -> Order:
    """What a fleet file asks; of a component without a version, any will do."""
    return Order(
        target=_short(arn),
        deployment_id="",
        components={str(name): str(one.version or ">=0.0.0-0") for name, one in desired.components.items()},
        executions={},
    )


def _reported(aws: Aws, thing: str) -> dict[str, Reported]:
    with told():
        try:
            found = list(
                paged(
                    aws.greengrass,
                    "list_installed_components",
                    "installedComponents",
                    coreDeviceThingName=thing,
                    topologyFilter="ALL",
                )
            )
        except ClientError as error:
            if is_missing(error):
                return {}
            raise
    return {
        str(one["componentName"]): Reported(
            version=str(one.get("componentVersion") or ""),
            state=str(one.get("lifecycleState") or ""),
            details=printable(one.get("lifecycleStateDetails") or ""),
            is_root=bool(one.get("isRoot")),
            source=str(one.get("lastInstallationSource") or ""),
        )
        for one in found
    }


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]


def _short(arn: str) -> str:
    return arn.rpartition(":")[2]

"""Apply a plan, once."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from monodon.core.json import Json
from monodon.errors import FleetError
from monodon.fleet.aws import Aws, told
from monodon.fleet.content import Content, content_of, is_same
from monodon.fleet.desired import Desired
from monodon.fleet.following import Change as Change
from monodon.fleet.following import Created as Created
from monodon.fleet.following import effective as effective
from monodon.fleet.following import follow as follow
from monodon.fleet.following import installed as installed
from monodon.fleet.following import why as why
from monodon.fleet.live import deployment, live_deployment, read_live
from monodon.fleet.live import target_arn as target_arn
from monodon.fleet.patience import Patience
from monodon.fleet.planned import Plan
from monodon.fleet.planning import plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What came of a plan.

    Args:
        is_new: False if what is live says all that was planned, so nothing was sent.
        overtook: ids of deployments that somebody else made between the plan and ours; ours replaced them.
    """

    created: Created
    is_new: bool = True
    overtook: tuple[str, ...] = ()


def make_plan(
    aws: Aws,
    desired: Desired,
    *,
    allow: tuple[str, ...] = (),
    again: bool = False,
    patience: Patience | None = None,
    now_s: float | None = None,
) -> Plan:
    """Return the plan that makes a target run what is desired; only reads.

    Args:
        allow: codes of findings that are meant, such as REMOVES.
        again: make a new revision even if it says the same.

    Raises:
        FleetError: there is no such target, or AWS refuses a call.
    """
    patience = patience or Patience(network=False)  # a wrong endpoint is told at once
    live = patience.call(lambda: read_live(aws, desired))
    parent = target_arn(aws, desired.parent_target) if desired.parent_target else ""
    if parent:  # a subdeployment counts as its parent's on devices (device notes 5): the two are no conflict
        live = replace(live, others=tuple(other for other in live.others if other.target_arn != parent))
    now_s = time.time() if now_s is None else now_s
    return plan(desired, live, now_s=now_s, parent_arn=parent, allow=allow, again=again)


def apply(aws: Aws, plan: Plan, *, patience: Patience | None = None) -> Applied:
    """Create the deployment that a plan asks for, unless it is live already.

    AWS cannot compare and set: between the last look and the call, somebody else's deployment may slip in. The client
    token and the look make that window one call long; ``overtook`` tells afterwards if it happened.

    Raises:
        FleetError: the plan has errors, what is live has changed since it was made, or AWS refuses it.
    """
    if plan.errors:
        first = plan.errors[0]
        raise FleetError(f"the plan cannot be applied: {first.message}", hint=first.hint)
    patience = patience or Patience()
    live = patience.call(lambda: live_deployment(aws, plan.target_arn))
    if live is not None and (plan.is_empty or live["deploymentId"] != plan.replaces) and says(live, plan.request):
        return Applied(created=_created(live), is_new=False)
    if (live["deploymentId"] if live is not None else None) != plan.replaces:
        raise FleetError(_moved(live, plan), hint="plan again, and see what would change now")
    answer = patience.call(lambda: aws.greengrass.create_deployment(**plan.request, clientToken=plan.token))
    made = patience.call(lambda: deployment(aws, answer["deploymentId"]))
    return Applied(created=_created({**made, **answer}), overtook=_overtaken(aws, plan, made, patience))


def deploy(aws: Aws, desired: Desired, *, say: Callable[[str], None] = lambda text: None) -> Created:
    """Plan, and apply the plan: make a target run what is desired.

    Raises:
        FleetError: something speaks against it, or AWS refuses it.
    """
    return apply(aws, make_plan(aws, desired), patience=Patience(say=say)).created


def says(live: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Tell whether a deployment says what a request asked for; AWS fills in what a request left out."""
    there, wanted = content_of(live), content_of(request)
    return is_same(there, replace(wanted, policies=_filled(wanted, there)))


def _filled(wanted: Content, there: Content) -> dict[str, Json]:
    def fill(key: str, default: Json) -> Json:
        value = wanted.policies.get(key, default)
        return {**default, **value} if isinstance(value, dict) and isinstance(default, dict) else value

    return {**wanted.policies, **{key: fill(key, default) for key, default in there.policies.items()}}


def _created(answer: Mapping[str, Any]) -> Created:
    return Created(
        deployment_id=answer["deploymentId"],
        target_arn=answer["targetArn"],
        job_id=answer.get("iotJobId"),
        revision=str(answer.get("revisionId") or ""),
    )


def _moved(live: Mapping[str, Any] | None, plan: Plan) -> str:
    planned = f"{plan.replaces} (revision {plan.revision})" if plan.replaces else "nothing"
    if live is None:
        return f"the live deployment changed since the plan: it was {planned}, and is gone"
    name = f" {live['deploymentName']!r}" if live.get("deploymentName") else ""
    now = f"{live['deploymentId']} (revision {live.get('revisionId')}){name}"
    return f"the live deployment changed since the plan: it was {planned}, and now is {now}"


def _overtaken(aws: Aws, plan: Plan, made: Mapping[str, Any], patience: Patience) -> tuple[str, ...]:
    """The deployments with revisions between the one that was planned on and ours."""
    before, ours = _number(plan.revision), _number(made.get("revisionId"))
    if ours <= before + 1:
        return ()

    def between() -> tuple[str, ...]:
        with told():
            pages = aws.greengrass.get_paginator("list_deployments").paginate(
                targetArn=plan.target_arn, historyFilter="ALL"
            )
            listed = [one for page in pages for one in page["deployments"]]
        return tuple(
            one["deploymentId"]
            for one in listed
            if before < _number(one.get("revisionId")) < ours and one["targetArn"] == plan.target_arn
        )

    return patience.call(between) if plan.replaces is not None else ()


def _number(revision: object) -> int:
    text = str(revision or "0")
    return int(text) if text.isdecimal() else 0

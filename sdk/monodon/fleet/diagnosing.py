"""Why a device does not do what it should, or a deployment does not end: one cause and one next step.

Rules only, the first that holds is told; ``why`` asks AWS for what they look at.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from monodon.fleet.clustering import ADVICE, Cluster, printable
from monodon.fleet.drifting import UNWELL
from monodon.fleet.known import FAILURES, LITE_RUNTIME, SILENT_AFTER_S, SUCCESSES

#: A device asks for a job as soon as it hears of it; this is more than any network takes.
PROMPT_S = 60.0
_DOCTOR = "monodon fleet doctor --thing {thing} checks its certificate and grants"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """How a deployment stands on a device; ``codes`` are AWS's, the general one first."""

    deployment_id: str
    target: str
    status: str
    modified_s: float
    name: str = ""
    reason: str = ""
    codes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What people call it."""
        name = f" {self.name!r}" if self.name else ""
        return f"deployment {self.deployment_id}{name} of {self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwell:
    """A component that is BROKEN or ERRORED, and what its device said of it."""

    name: str
    version: str
    state: str
    details: str = ""
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What AWS knows of a device.

    Args:
        reported_s: seconds since 1970 of its last report; None if there never was one.
        stands: its deployments, of each target the latest.
        unwell: its components that do not work.
    """

    thing: str
    now_s: float
    reported_s: float | None = None
    status: str = ""
    runtime: str = ""
    stands: tuple[Stand, ...] = ()
    unwell: tuple[Unwell, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentFacts:
    """What AWS knows of a deployment.

    Args:
        counts: devices by status of their execution.
        members: how many devices the target has.
        clusters: the failed ones by cause, the most frequent first.
        stopped_because: what the job says of its end.
        silent: devices that wait, and have not reported since the deployment was made.
        replaced_by: a newer deployment of the target.
    """

    deployment_id: str
    target: str
    status: str
    now_s: float
    created_s: float
    counts: Mapping[str, int] = field(default_factory=dict)
    members: int = 0
    clusters: tuple[Cluster, ...] = ()
    stopped_because: str = ""
    silent: tuple[str, ...] = ()
    rollout: Mapping[str, Any] = field(default_factory=dict)
    replaced_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One cause, one next step, and what speaks for them. ``is_well``: nothing is wrong."""

    subject: str
    cause: str
    next_step: str
    seen: tuple[str, ...] = ()
    is_well: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


_Found = tuple[str, str] | None


def diagnose_device(facts: DeviceFacts) -> Diagnosis:
    """Say why a device is not as it should be."""
    rules: Sequence[Callable[[DeviceFacts], _Found]] = (_unheard, _failed, _unwell, _queued, _under_way, _silent)
    return _diagnosis(f"device {facts.thing}", rules, facts, _seen_of_device(facts))


def diagnose_deployment(facts: DeploymentFacts) -> Diagnosis:
    """Say why a deployment has not ended well on all its devices."""
    rules: Sequence[Callable[[DeploymentFacts], _Found]] = (_stopped, _failures, _replaced, _empty, _waiting)
    subject = f"deployment {facts.deployment_id} of {facts.target}"
    return _diagnosis(subject, rules, facts, _seen_of_deployment(facts))


def _diagnosis(subject: str, rules: Iterable[Callable[[Any], _Found]], facts: Any, seen: Iterable[str]) -> Diagnosis:
    for rule in rules:
        found = rule(facts)
        if found is not None:
            return Diagnosis(subject=subject, cause=found[0], next_step=found[1], seen=tuple(seen))
    return Diagnosis(
        subject=subject, cause="nothing is wrong, as far as AWS was told", next_step="", seen=tuple(seen), is_well=True
    )


# --- A device -------------------------------------------------------------------------------------------------------


def _unheard(facts: DeviceFacts) -> _Found:
    if facts.reported_s is not None:
        return None
    return "its nucleus has never reported to AWS", f"start the nucleus; {_DOCTOR.format(thing=facts.thing)}"


def _failed(facts: DeviceFacts) -> _Found:
    failed = [one for one in facts.stands if one.status in FAILURES and one.status != "CANCELED"]
    if not failed:
        return None
    last = max(failed, key=lambda one: one.modified_s)
    advice = next((ADVICE[code] for code in reversed(last.codes) if code in ADVICE), ADVICE.get(last.status))
    said = last.reason or " > ".join(last.codes)
    cause = f"{last.title} ended {last.status}: {advice.cause if advice else said or 'the device gave no reason'}"
    if advice and said:
        cause += f" ({said})"
    return cause, advice.fix if advice and advice.fix else "read the nucleus's log on the device: monodon logs"


def _unwell(facts: DeviceFacts) -> _Found:
    if not facts.unwell:
        return None
    worst = min(facts.unwell, key=lambda one: (one.state != "BROKEN", one.name))
    said = worst.details or ", ".join(worst.codes) or "it gave no reason"
    step = f"read its log on the device: monodon logs {worst.name}; then deploy a version or configuration that works"
    for code, text in _LIFECYCLE_STEPS.items():
        if any(code in one for one in worst.codes):
            step = text.format(name=worst.name)
            break
    return f"{worst.name} {worst.version} is {worst.state}: {said}", step


#: By what a status code says. Source: nucleus, ``ComponentStatusCode``.
_LIFECYCLE_STEPS: Mapping[str, str] = {
    "TIMEOUT": "raise Timeout of that step in {name}'s recipe, or see in its log what it waits for",
    "MISSING_DEFAULT_RUNWITH": "set runWithDefault.posixUser of aws.greengrass.Nucleus, or runWith in the deployment",
    "INSTALL": "read {name}'s log: its Install step failed; what it downloads or needs may be missing on the device",
}


def _queued(facts: DeviceFacts) -> _Found:
    queued = [one for one in facts.stands if one.status == "QUEUED"]
    if not queued or facts.reported_s is None:
        return None
    first = min(queued, key=lambda one: one.modified_s)
    if first.target.startswith("thing/") and facts.runtime == LITE_RUNTIME:
        return (
            f"{first.title} does not reach it: nucleus lite takes no deployments of single things",
            "put the device into a thing group and deploy to that",
        )
    busy = next((one for one in facts.stands if one.status == "IN_PROGRESS"), None)
    if busy is not None:
        return f"{first.title} waits until {busy.title} has ended", f"see monodon fleet why {busy.deployment_id}"
    if facts.now_s - first.modified_s < PROMPT_S:
        return f"{first.title} was made {_ago(facts.now_s - first.modified_s)} ago", "wait for it"
    if facts.reported_s < first.modified_s:
        return (
            f"it is offline: {first.title} waits since {_ago(facts.now_s - first.modified_s)}, the last report is"
            f" {_ago(facts.now_s - facts.reported_s)} old",
            f"see to its power and network; it takes the deployment up by itself. {_DOCTOR.format(thing=facts.thing)}",
        )
    return (
        f"it reported since, but does not ask for {first.title}",
        f"{_DOCTOR.format(thing=facts.thing)}; then restart its nucleus",
    )


def _under_way(facts: DeviceFacts) -> _Found:
    busy = [one for one in facts.stands if one.status == "IN_PROGRESS"]
    if not busy:
        return None
    first = min(busy, key=lambda one: one.modified_s)
    return (
        f"{first.title} is under way since {_ago(facts.now_s - first.modified_s)}",
        "wait; a component may put it off, or install for long: monodon deployment status on the device tells",
    )


def _silent(facts: DeviceFacts) -> _Found:
    if facts.reported_s is None or facts.now_s - facts.reported_s < SILENT_AFTER_S:
        return None
    return (
        f"it has been silent for {_ago(facts.now_s - facts.reported_s)}; a nucleus reports every 24 hours",
        f"see to its power and network. {_DOCTOR.format(thing=facts.thing)}",
    )


def _seen_of_device(facts: DeviceFacts) -> Iterator[str]:
    if facts.reported_s is not None:
        yield f"{facts.status or 'no status'}, reported {_ago(facts.now_s - facts.reported_s)} ago"
    for one in sorted(facts.stands, key=lambda each: -each.modified_s):
        yield f"{one.title}: {one.status}{f': {one.reason}' if one.reason else ''}"
    for each in facts.unwell:
        yield f"{each.name} {each.version}: {each.state}{f': {each.details}' if each.details else ''}"


# --- A deployment ---------------------------------------------------------------------------------------------------


def _stopped(facts: DeploymentFacts) -> _Found:
    if facts.status != "CANCELED":
        return None
    worst = facts.clusters[0] if facts.clusters else None
    because = f": {facts.stopped_because}" if facts.stopped_because else ", by somebody or by its abort criteria"
    why = f"; {_told(worst)}" if worst else ""
    return f"it was canceled{because}{why}", _fix(worst) if worst else "plan and deploy again when it is meant"


def _failures(facts: DeploymentFacts) -> _Found:
    if not facts.clusters:
        return None
    return _told(facts.clusters[0]), _fix(facts.clusters[0])


def _replaced(facts: DeploymentFacts) -> _Found:
    if not facts.replaced_by:
        return None
    return f"it was replaced by {facts.replaced_by}", f"see monodon fleet why {facts.replaced_by}"


def _empty(facts: DeploymentFacts) -> _Found:
    if facts.members or facts.counts:
        return None
    return f"{facts.target} has no devices", "add things to it: monodon fleet provision THING --group NAME"


def _waiting(facts: DeploymentFacts) -> _Found:
    done = sum(facts.counts.get(status, 0) for status in SUCCESSES)
    open_ = max(facts.members, sum(facts.counts.values())) - done - facts.counts.get("REMOVED", 0)
    if open_ <= 0:
        return None
    if facts.silent:
        who = ", ".join(facts.silent[:5]) + (f" and {len(facts.silent) - 5} more" if len(facts.silent) > 5 else "")
        return (
            f"{len(facts.silent)} of {open_} that wait have not reported since it was made: {who}",
            "they take it up when they come back; see to their power and network",
        )
    not_started = facts.members - sum(facts.counts.values())
    if not_started > 0 and facts.rollout:
        return f"its rollout has not reached {not_started} of {facts.members} devices yet", "wait, or raise the rates"
    return (
        f"{open_} of {facts.members} have not ended: "
        + ", ".join(f"{count} {status}" for status, count in sorted(facts.counts.items()) if status not in SUCCESSES),
        "wait; monodon fleet why DEVICE says more of one",
    )


def _told(cluster: Cluster) -> str:
    count = len(cluster.things)
    who = ", ".join(cluster.things[:5]) + (f" and {count - 5} more" if count > 5 else "")
    said = f" ({cluster.example})" if cluster.example and cluster.example != cluster.cause else ""
    return f"{count} failed, {cluster.cause}{said}: {who}"


def _fix(cluster: Cluster) -> str:
    return cluster.fix or f"see monodon fleet why {cluster.things[0]}"


def _seen_of_deployment(facts: DeploymentFacts) -> Iterator[str]:
    yield f"{facts.status}, made {_ago(facts.now_s - facts.created_s)} ago, {facts.members} devices"
    if facts.counts:
        yield ", ".join(f"{count} {status}" for status, count in sorted(Counter(facts.counts).items()))
    for cluster in facts.clusters:
        yield _told(cluster)


def _ago(seconds: float) -> str:
    """A length of time as people say it; nothing is longer ago for a clock that was put back."""
    seconds = max(0.0, seconds)
    for unit, length in (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def unwell(components: Iterable[Mapping[str, Any]]) -> tuple[Unwell, ...]:
    """Pick those of a device's reported components that do not work."""
    return tuple(
        Unwell(
            name=str(one["componentName"]),
            version=str(one.get("componentVersion") or ""),
            state=str(one["lifecycleState"]),
            details=printable(one.get("lifecycleStateDetails") or ""),
            codes=tuple(str(code) for code in one.get("lifecycleStatusCodes") or ()),
        )
        for one in components
        if one.get("lifecycleState") in UNWELL
    )

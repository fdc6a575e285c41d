"""The difference between what a fleet shall run and what is live, as a value that ``deploying`` applies.

Pure: what AWS knows comes in as a ``Live``, the time as a number.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from monodon.core.names import Arn
from monodon.fleet import hazards
from monodon.fleet.configuring import Foretold, foretell
from monodon.fleet.content import Content, carried, content_of
from monodon.fleet.desired import Desired
from monodon.fleet.differences import differences
from monodon.fleet.known import SILENT_AFTER_S, Live, Published
from monodon.fleet.planned import Difference as Difference
from monodon.fleet.planned import Finding as Finding
from monodon.fleet.planned import Kind as Kind
from monodon.fleet.planned import Plan as Plan
from monodon.fleet.planned import Severity as Severity
from monodon.fleet.planned import Touched as Touched

#: What `plan` lets pass when its code is allowed; a version that is not there cannot be deployed by allowing it.
ALLOWABLE = frozenset({"REMOVES", "CONFLICT", "PLATFORM", "DEPENDENCY", "NO_ARTIFACT", "DELETED"})
_ENDED = frozenset({"CANCELED", "FAILED"})


def plan(
    desired: Desired,
    live: Live,
    *,
    now_s: float,
    parent_arn: str = "",
    allow: Collection[str] = (),
    again: bool = False,
) -> Plan:
    """Return what would change, what speaks against it, and the request that does it.

    Args:
        now_s: seconds since 1970.
        parent_arn: of the desired parent target.
        allow: codes of findings that are meant, such as REMOVES.
        again: make a new revision even if it says the same.

    Raises:
        FleetError: the live deployment cannot be understood.
    """
    before = content_of(live.deployment) if live.deployment is not None else None
    versions = {name: str(one.chosen.version) for name, one in live.components.items() if one.chosen is not None}
    after = carried(desired, before, target_arn=live.target_arn, versions=versions, parent_arn=parent_arn)
    foretold = dict(_foretold(before, after, live))
    return planned(desired, before, after, live, foretold, now_s=now_s, allow=allow, again=again)


def planned(
    desired: Desired,
    before: Content | None,
    after: Content,
    live: Live,
    foretold: Mapping[str, Foretold],
    *,
    now_s: float,
    allow: Collection[str] = (),
    again: bool = False,
) -> Plan:
    """Return the plan that leads from one content to another; arguments as of `plan`."""
    versions = {name: str(one.chosen.version) for name, one in live.components.items() if one.chosen is not None}
    changes = differences(before, after, foretold)
    if before is not None and not changes and (again or _status(live) in _ENDED):
        changes = (Difference(kind=Kind.CHANGED, what="deployment", old=_status(live), new="ACTIVE"),)
    kind = Arn.parse(live.target_arn).resource.partition("/")[0]
    findings = [*_findings(desired, before, after, live, foretold, changes, kind)]
    return Plan(
        target_arn=live.target_arn,
        replaces=live.deployment["deploymentId"] if live.deployment is not None else None,
        revision=str(live.deployment.get("revisionId") or "") if live.deployment is not None else "",
        request=after.request(),
        versions=versions,
        differences=changes,
        findings=tuple(_allowed(finding, allow) for finding in findings),
        devices=_touched(live, now_s),
    )


def _status(live: Live) -> str:
    return str(live.deployment.get("deploymentStatus") or "") if live.deployment is not None else ""


def _foretold(before: Content | None, after: Content, live: Live) -> Iterator[tuple[str, Foretold]]:
    for name, part in after.components.items():
        published = live.components.get(name, Published())
        old = before.components.get(name) if before is not None else None
        if old is not None and old == part:
            continue  # nothing of it changes
        old_recipe = published.live.recipe if published.live is not None else None
        if published.chosen is not None:
            yield name, foretell(old, old_recipe, part, published.chosen.recipe)


def _findings(
    desired: Desired,
    before: Content | None,
    after: Content,
    live: Live,
    foretold: Mapping[str, Foretold],
    changes: tuple[Difference, ...],
    kind: str,
) -> Iterator[Finding]:
    if desired.rings:
        yield hazards.warning(
            "RINGS",
            f"the file has {len(desired.rings)} rings, and this plan is for the whole target at once",
            "monodon fleet deploy goes ring by ring, each with a plan of its own",
        )
    yield from hazards.removals(changes)
    yield from hazards.versions(desired, before, live.components)
    yield from hazards.dependencies(after, live.components)
    yield from hazards.unmet(after, live)
    yield from hazards.conflicts(after, live)
    yield from hazards.platforms(live, after.components)
    yield from hazards.artifacts({name: live.components[name] for name in after.components}, live.artifacts)
    yield from hazards.sizes(after, kind)
    yield from hazards.resets(after)
    yield from hazards.defaults(before, after, foretold)
    if not live.members:
        yield hazards.note(
            "NO_DEVICES", "the target has no devices now; a device that joins it later gets the deployment"
        )


def _allowed(finding: Finding, allow: Collection[str]) -> Finding:
    """An error that is meant is a warning."""
    if finding.severity is Severity.ERROR and finding.code in allow and finding.code in ALLOWABLE:
        return replace(finding, severity=Severity.WARNING, hint=None)
    return finding


def _touched(live: Live, now_s: float) -> Touched:
    recent: list[str] = []
    silent: list[str] = []
    unknown: list[str] = []
    unhealthy: list[str] = []
    for thing in live.members:
        device = live.devices.get(thing)
        if device is None:
            unknown.append(thing)
            continue
        (silent if now_s - device.reported_s > SILENT_AFTER_S else recent).append(thing)
        if device.status == "UNHEALTHY":
            unhealthy.append(thing)
    return Touched(
        total=len(live.members),
        recent=tuple(recent),
        silent=tuple(silent),
        unknown=tuple(unknown),
        unhealthy=tuple(unhealthy),
    )

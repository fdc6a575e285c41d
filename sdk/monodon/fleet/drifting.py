"""Which devices run something else than their deployments say. Rules only; ``drift`` asks AWS.

AWS knows a device by its last report: its components, their versions and states. Configuration is not in it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from monodon.core.semver import Requirement, Version
from monodon.errors import InvalidRequirement, InvalidVersion
from monodon.fleet.known import OPEN

#: States in which a component does not do its work and will not by itself.
#: Source: Greengrass, component lifecycle states.
UNWELL = frozenset({"BROKEN", "ERRORED"})
#: The note on a component that came with a local deployment.
LOCALLY = "deployed on the device itself"


class Kind(StrEnum):
    """How a component differs from what a deployment says."""

    MISSING = "missing"
    OTHER_VERSION = "other version"
    EXTRA = "extra"
    UNWELL = "unwell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a target's live deployment asks of each of its devices.

    Args:
        components: name → exact version or range.
        executions: thing → how the deployment stands there, as AWS IoT Jobs calls it.
    """

    target: str
    deployment_id: str
    components: Mapping[str, str]
    executions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One component as its device reported it last."""

    version: str
    state: str = ""
    details: str = ""
    is_root: bool = True
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """One difference on one device.

    Args:
        wanted: version or range; "" for what no deployment names.
        found: the reported version; "" for what is not there.
        execution: how the deployment that names it stands on the device; "" if none does.
        note: what the device said of it, or where it came from.
    """

    component: str
    kind: Kind
    wanted: str = ""
    found: str = ""
    target: str = ""
    execution: str = ""
    note: str = ""

    @property
    def is_pending(self) -> bool:
        """Whether the deployment that would mend it has not ended on the device."""
        return self.kind is not Kind.UNWELL and self.execution in OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDrift:
    """How a device differs; ``reported_s`` is the time of its last report, None if there never was one."""

    thing: str
    reported_s: float | None
    deviations: tuple[Deviation, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether it does not run what it should, as far as AWS was told; a device never heard of differs."""
        return self.reported_s is None or bool(self.deviations)

    @property
    def is_pending(self) -> bool:
        """Whether all that differs may yet come by itself."""
        return bool(self.deviations) and all(one.is_pending for one in self.deviations)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        deviations = [{**asdict(one), "is_pending": one.is_pending} for one in self.deviations]
        return {**asdict(self), "differs": self.differs, "is_pending": self.is_pending, "deviations": deviations}


def drift_of(
    thing: str, reported_s: float | None, reported: Mapping[str, Reported], orders: Iterable[Order]
) -> DeviceDrift:
    """Compare what a device reported with all the orders that reach it."""
    if reported_s is None:
        return DeviceDrift(thing=thing, reported_s=None)
    orders = tuple(orders)
    deviations = [one for order in orders for one in _against(order, thing, reported)]
    named = {name for order in orders for name in order.components}
    deviations += [
        _extra(name, one, orders, thing) for name, one in reported.items() if one.is_root and name not in named
    ]
    known = {one.component for one in deviations}
    deviations += [
        Deviation(component=name, kind=Kind.UNWELL, found=one.version, note=_state(one))
        for name, one in reported.items()
        if one.state in UNWELL and name not in known
    ]
    return DeviceDrift(
        thing=thing,
        reported_s=reported_s,
        deviations=tuple(sorted(deviations, key=lambda one: (one.component, one.target))),
    )


def _against(order: Order, thing: str, reported: Mapping[str, Reported]) -> Iterable[Deviation]:
    execution = order.executions.get(thing, "")
    for name, wanted in order.components.items():
        found = reported.get(name)
        if found is not None and fits(wanted, found.version):
            continue
        yield Deviation(
            component=name,
            kind=Kind.MISSING if found is None else Kind.OTHER_VERSION,
            wanted=wanted,
            found="" if found is None else found.version,
            target=order.target,
            execution=execution,
            note="" if found is None or found.state not in UNWELL else _state(found),
        )


def _extra(name: str, found: Reported, orders: tuple[Order, ...], thing: str) -> Deviation:
    """A root that nobody asks for: deployed locally, or left over until a deployment that is under way."""
    source = {"LOCAL": LOCALLY, "": ""}.get(found.source, f"came with {found.source}")
    under_way = next((order for order in orders if order.executions.get(thing) in OPEN), None)
    return Deviation(
        component=name,
        kind=Kind.EXTRA,
        found=found.version,
        target=under_way.target if under_way else "",
        execution=under_way.executions[thing] if under_way and found.source != "LOCAL" else "",
        note=source,
    )


def _state(found: Reported) -> str:
    return f"{found.state}: {found.details}" if found.details else found.state


def fits(wanted: str, found: str) -> bool:
    """Tell whether a reported version is the one wanted, or in its range; what cannot be read is compared as text."""
    try:
        version = Version.parse(found, lax=True)
    except InvalidVersion:
        return wanted == found
    try:
        return Version.parse(wanted, lax=True) == version
    except InvalidVersion:
        pass
    try:
        return Requirement.parse(wanted).matches(version)
    except InvalidRequirement:
        return False

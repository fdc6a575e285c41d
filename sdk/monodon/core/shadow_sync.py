"""Keeping a shadow the same on a device and in the cloud: what each side must be told, given what both last had.

Every key is judged by itself, against its value when both sides were last the same. Changed on one side, it is taken
over by the other. Changed on both, what is ``reported`` is the device's, and what is ``desired`` the cloud's. A shadow
deleted on one side is deleted on the other. Two that have never met are united.

Source: aws.greengrass.ShadowManager, ``FullShadowSyncRequest.java``, ``SyncNodeMerger.java``,
``ShadowSyncConfiguration.java``; developer guide, "Sync local device shadows with AWS IoT Core".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from monodon.core.json import Json
from monodon.core.shadow import Shadow, same

DEFAULT_PERIOD_S: Final = 300.0
#: Requests a second: to the cloud, from components in all, from components for one thing.
#: Source: developer guide, shadow manager component, ``rateLimits``.
DEFAULT_OUTBOUND: Final = 100
DEFAULT_IN_ALL: Final = 200
DEFAULT_OF_A_THING: Final = 20
#: Belongs to the nucleus; the shadow manager leaves it alone.
RESERVED: Final = "AWSManagedGreengrassV2Deployment"

_SECTIONS: Final = ("desired", "reported")
_ABSENT: Final = object()

State = Mapping[str, Mapping[str, Json]]


class Direction(StrEnum):
    """Which way changes go."""

    BOTH = "betweenDeviceAndCloud"
    TO_CLOUD = "deviceToCloud"
    TO_DEVICE = "cloudToDevice"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSettings:
    """Which shadows are synchronised, by (thing, name), and how; ``problems`` says what was not understood."""

    shadows: frozenset[tuple[str, str]] = frozenset()
    direction: Direction = Direction.BOTH
    period_s: float | None = None
    outbound_per_s: int = DEFAULT_OUTBOUND
    problems: tuple[str, ...] = ()

    @classmethod
    def read(cls, configuration: Json, thing: str) -> "SyncSettings":
        """Return what the configuration of the shadow manager says; ``thing`` is the core device's own."""
        root = configuration if isinstance(configuration, Mapping) else {}
        synchronize = root.get("synchronize") or {}
        if not isinstance(synchronize, Mapping):
            return cls(problems=("synchronize must be a map",))
        limits = RateLimits.read(configuration)
        problems = list(limits.problems)
        entries = [(thing, synchronize["coreThing"])] if "coreThing" in synchronize else []
        entries += _other_things(synchronize, problems)
        shadows: set[tuple[str, str]] = set()
        for name, entry in entries:
            shadows |= _shadows_of(name, entry, problems)
        return cls(
            shadows=frozenset(shadows),
            direction=_direction(synchronize.get("direction"), problems),
            period_s=_period_s(root.get("strategy"), problems),
            outbound_per_s=limits.outbound,
            problems=tuple(problems),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """How many requests a second are sent to the cloud, and taken from components: in all, and for one thing."""

    outbound: int = DEFAULT_OUTBOUND
    in_all: int = DEFAULT_IN_ALL
    of_a_thing: int = DEFAULT_OF_A_THING
    problems: tuple[str, ...] = ()

    @classmethod
    def read(cls, configuration: Json) -> "RateLimits":
        """Return what ``rateLimits`` of the shadow manager says; a value that is no rate leaves the default."""
        limits = configuration.get("rateLimits") if isinstance(configuration, Mapping) else None
        if limits is not None and not isinstance(limits, Mapping):
            return cls(problems=("rateLimits must be a map",))
        problems: list[str] = []

        def rate(name: str, default: int) -> int:
            value = (limits or {}).get(name, default)
            if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < float("inf"):
                return int(value)
            problems.append(f"rateLimits/{name} {value!r} is not a number of requests a second: {default} holds")
            return default

        return cls(
            outbound=rate("maxOutboundSyncUpdatesPerSecond", DEFAULT_OUTBOUND),
            in_all=rate("maxTotalLocalRequestsRate", DEFAULT_IN_ALL),
            of_a_thing=rate("maxLocalRequestsPerSecondPerThing", DEFAULT_OF_A_THING),
            problems=tuple(problems),
        )


class Pace:
    """Tells when the next request may go: what a second allows at once, then evenly.

    Not for threads; times are in seconds on any monotonic clock.
    """

    def __init__(self) -> None:
        self._left: float | None = None
        self._at_s = 0.0

    def take(self, per_s: float, now_s: float) -> float:
        """Count one request, and return how many seconds it has to wait."""
        left = per_s if self._left is None else min(per_s, self._left + (now_s - self._at_s) * per_s)
        self._left, self._at_s = left - 1, now_s
        return max(0.0, (1 - left) / per_s)


def _other_things(synchronize: Mapping[str, Json], problems: list[str]) -> list[tuple[str, Json]]:
    found: list[tuple[str, Json]] = []
    listed, mapped = synchronize.get("shadowDocuments") or [], synchronize.get("shadowDocumentsMap") or {}
    for entry in listed if isinstance(listed, list) else [None]:
        if isinstance(entry, Mapping) and isinstance(entry.get("thingName"), str):
            found.append((entry["thingName"], entry))
        else:
            problems.append("synchronize/shadowDocuments must be a list of maps, each with a thingName")
    if isinstance(mapped, Mapping):
        found += [(str(name), entry) for name, entry in mapped.items()]
    else:
        problems.append("synchronize/shadowDocumentsMap must be a map of thing names")
    return found


def _shadows_of(thing: str, entry: Json, problems: list[str]) -> set[tuple[str, str]]:
    if not isinstance(entry, Mapping):
        problems.append(f"what is to be synchronised of {thing} must be a map")
        return set()
    names = entry.get("namedShadows") or []
    if not isinstance(names, list):
        problems.append(f"namedShadows of {thing} must be a list")
        names = []
    if RESERVED in names:
        problems.append(f"the shadow {RESERVED} of {thing} is the nucleus's own")
    found = {(thing, str(name)) for name in names if name != RESERVED}
    return found | {(thing, "")} if entry.get("classic", True) in (True, "true") else found


def _direction(value: Json, problems: list[str]) -> Direction:
    try:
        return Direction(value or Direction.BOTH)
    except ValueError:
        problems.append(f"synchronize/direction {value!r} is none of {', '.join(Direction)}")
        return Direction.BOTH


def _period_s(strategy: Json, problems: list[str]) -> float | None:
    if not isinstance(strategy, Mapping) or strategy.get("type", "realTime") == "realTime":
        return None
    if strategy.get("type") != "periodic":
        problems.append(f"strategy/type {strategy.get('type')!r} is neither realTime nor periodic")
        return None
    delay = strategy.get("delay", DEFAULT_PERIOD_S)
    if isinstance(delay, int | float) and not isinstance(delay, bool) and delay > 0:
        return float(delay)
    problems.append(f"strategy/delay {delay!r} is not a number of seconds")
    return DEFAULT_PERIOD_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A shadow as one side has it."""

    version: int
    state: State = field(default_factory=dict)

    @classmethod
    def of(cls, shadow: Shadow) -> "Side":
        """The device's side."""
        return cls(version=shadow.version, state={"desired": shadow.desired.state, "reported": shadow.reported.state})

    @classmethod
    def of_document(cls, document: Mapping[str, Json]) -> "Side":
        """The cloud's side, of its answer to a get."""
        state = document.get("state") or {}
        return cls(version=int(document["version"]), state={name: state.get(name) or {} for name in _SECTIONS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What both sides had when they were last the same, and the version that each gave it."""

    local_version: int
    cloud_version: int
    state: State

    def is_of(self, local: "Side", cloud: "Side") -> bool:
        """Whether neither side has changed since."""
        return (local.version, cloud.version) == (self.local_version, self.cloud_version)

    def to_record(self) -> dict[str, Json]:
        """What is kept on disk; ``from_record`` reads it."""
        return {"local": self.local_version, "cloud": self.cloud_version, "state": dict(self.state)}

    @classmethod
    def from_record(cls, record: Mapping[str, Json]) -> "Synced":
        """What ``to_record`` wrote."""
        return cls(local_version=record["local"], cloud_version=record["cloud"], state=record["state"])


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPlan:
    """What to do: delete on a side, or update its sections (empty: nothing). ``state`` is what both then have."""

    state: State | None
    local: State = field(default_factory=dict)
    cloud: State = field(default_factory=dict)
    deletes_local: bool = False
    deletes_cloud: bool = False


def plan_sync(local: Side | None, cloud: Side | None, synced: Synced | None, direction: Direction) -> SyncPlan:
    """Return what makes both sides the same. A side that ``direction`` does not listen to is overwritten."""
    if local is None and cloud is None:
        return SyncPlan(state=None)
    if cloud is None or local is None:
        return _plan_missing(local, cloud, was_synced=synced is not None, direction=direction)
    base = {} if synced is None else synced.state
    merged = {
        name: _merged(_section(local, name), _section(cloud, name), base.get(name) or {}, _owner(name, direction))
        for name in _SECTIONS
    }
    return SyncPlan(state=merged, local=_changes(local.state, merged), cloud=_changes(cloud.state, merged))


def _section(side: Side, name: str) -> Mapping[str, Json]:
    return side.state.get(name) or {}


def _plan_missing(local: Side | None, cloud: Side | None, *, was_synced: bool, direction: Direction) -> SyncPlan:
    if local is not None:
        if was_synced and direction is not Direction.TO_CLOUD:
            return SyncPlan(state=None, deletes_local=True)
        if direction is Direction.TO_DEVICE:
            return SyncPlan(state=None)
        return SyncPlan(state=local.state, cloud=_changes({}, local.state))
    assert cloud is not None
    if was_synced and direction is not Direction.TO_DEVICE:
        return SyncPlan(state=None, deletes_cloud=True)
    if direction is Direction.TO_CLOUD:
        return SyncPlan(state=None)
    return SyncPlan(state=cloud.state, local=_changes({}, cloud.state))


class _Owner(StrEnum):
    """Whose value counts: always, or only where both have changed it."""

    LOCAL = "local"
    CLOUD = "cloud"
    LOCAL_ALWAYS = "local always"
    CLOUD_ALWAYS = "cloud always"


def _owner(section: str, direction: Direction) -> _Owner:
    if direction is Direction.BOTH:
        return _Owner.CLOUD if section == "desired" else _Owner.LOCAL
    return _Owner.LOCAL_ALWAYS if direction is Direction.TO_CLOUD else _Owner.CLOUD_ALWAYS


def _merged(local: Mapping[str, Json], cloud: Mapping[str, Json], base: Json, owner: _Owner) -> dict[str, Json]:
    if owner is _Owner.LOCAL_ALWAYS:
        return dict(local)
    if owner is _Owner.CLOUD_ALWAYS:
        return dict(cloud)
    known = base if isinstance(base, Mapping) else {}
    found = {}
    for key in (*local, *(key for key in cloud if key not in local)):
        value = _merged_value(local.get(key, _ABSENT), cloud.get(key, _ABSENT), known.get(key, _ABSENT), owner)
        if value is not _ABSENT:
            found[key] = value
    return found


def _merged_value(local: Json, cloud: Json, base: Json, owner: _Owner) -> Json:
    if isinstance(local, Mapping) and isinstance(cloud, Mapping):
        return _merged(local, cloud, base, owner)
    if same(local, base):
        return cloud
    if same(cloud, base):
        return local
    return local if owner is _Owner.LOCAL else cloud


def _changes(before: State, after: State) -> dict[str, Mapping[str, Json]]:
    """Return an update's sections that make ``before`` into ``after``: null for what goes."""
    found = {name: _change(before.get(name) or {}, after.get(name) or {}) for name in _SECTIONS}
    return {name: change for name, change in found.items() if change}


def _change(before: Mapping[str, Json], after: Mapping[str, Json]) -> dict[str, Json]:
    found: dict[str, Json] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key, _ABSENT)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            inner = _change(old, value)
            if inner:
                found[key] = inner
        elif not same(old, value):
            found[key] = value
    return found

"""What must hold before the next ring begins, as values and rules. Pure.

::

    gates:
      successShare: 0.95          # of the devices that answered; 1.0 if it is left out
      minDevices: 3               # that must have answered; 1
      maxBroken: 0                # components of the deployment that are BROKEN, on all devices together; 0
      maxErrored: 0               # that are ERRORED; not looked at if it is left out
      maxStateChanges: 2          # of one component on one device while it bakes; not looked at if it is left out
      deadlineSeconds: 900        # figures that are not known this long after the bake began fail the ring
      metrics:
        - component: com.example.Camera
          metric: latency_ms
          value: p95              # or mean, p50, min, max
          baseline: before        # the same devices before the deployment; later: those of later rings; both
          maxRatio: 1.2           # of the baseline's value; minRatio; maxDrift: the difference; min, max: absolute
          minCount: 50            # measurements, of the baseline too; 30
          minReporting: 1.0       # of the devices that succeeded; 1.0

What is not known does not pass.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NoReturn

from monodon.core.json import Json
from monodon.core.metrics import MAX_VALUES, Report, Summary
from monodon.core.names import ComponentName
from monodon.errors import MonodonError
from monodon.fleet.known import FAILURES, LEFT, SUCCESSES

#: Told what is wrong: where below ``gates``, the message, a hint.
Refuse = Callable[[tuple[str | int, ...], str, str | None], NoReturn]

BASELINES = ("before", "later", "both")
VALUES = ("p95", "mean", "p50", "min", "max")
_LIMITS = {
    "maxRatio": "max_ratio",
    "minRatio": "min_ratio",
    "maxDrift": "max_drift",
    "min": "minimum",
    "max": "maximum",
}
_METRIC_KEYS = frozenset({"component", "metric", "value", "baseline", "minCount", "minReporting", *_LIMITS})
_COUNTS = {
    "minDevices": "min_devices",
    "maxBroken": "max_broken",
    "maxErrored": "max_errored",
    "maxStateChanges": "max_state_changes",
}
_KEYS = frozenset({"successShare", "deadlineSeconds", "metrics", *_COUNTS})
#: How long figures are waited for after the bake, unless the file says so: components report once a minute.
GRACE_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricGate:
    """A limit of one metric; None is no limit."""

    component: str
    metric: str
    value: str = "p95"
    baseline: str = "before"
    max_ratio: float | None = None
    min_ratio: float | None = None
    max_drift: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    min_count: int = 30
    min_reporting: float = 1.0

    @property
    def is_relative(self) -> bool:
        """Whether it needs a baseline."""
        return any(limit is not None for limit in (self.max_ratio, self.min_ratio, self.max_drift))

    @property
    def key(self) -> str:
        """What verdicts call it."""
        return f"{self.component} {self.metric} {self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """All gates of a ring."""

    success_share: float = 1.0
    min_devices: int = 1
    max_broken: int = 0
    max_errored: int | None = None
    max_state_changes: int | None = None
    deadline_s: float | None = None
    metrics: tuple[MetricGate, ...] = ()

    def ends_s(self, bake_s: float) -> float:
        """When what is not known has failed, in seconds after the bake began."""
        if self.deadline_s is not None:
            return max(self.deadline_s, bake_s)
        return bake_s + (GRACE_S if self.metrics else 0.0)


def read_gates(entry: Mapping[str, Json], refuse: Refuse) -> Gates:
    """Read a ring's ``gates``; ``refuse`` raises the error that names file and key."""
    _known((), entry, _KEYS, refuse)
    found: dict[str, Any] = {}
    if "successShare" in entry:
        found["success_share"] = _number(("successShare",), entry["successShare"], refuse, most=1)
    for key, name in _COUNTS.items():
        if key in entry:
            found[name] = _whole((key,), entry[key], refuse)
    if "deadlineSeconds" in entry:
        found["deadline_s"] = _number(("deadlineSeconds",), entry["deadlineSeconds"], refuse)
    metrics = entry.get("metrics", [])
    if not isinstance(metrics, list):
        refuse(("metrics",), "is not a list", "write metrics: [{component: …, metric: latency_ms, maxRatio: 1.2}]")
    found["metrics"] = tuple(_metric(("metrics", number), one, refuse) for number, one in enumerate(metrics))
    return Gates(**found)


def _metric(path: tuple[str | int, ...], entry: Json, refuse: Refuse) -> MetricGate:
    if not isinstance(entry, dict):
        refuse(path, "is not a mapping", None)
    _known(path, entry, _METRIC_KEYS, refuse)
    for key in ("component", "metric"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            refuse((*path, key), "is missing, or no text", None)
    try:
        ComponentName.parse(entry["component"])
    except MonodonError as error:
        refuse((*path, "component"), f"is no component's name: {error.message}", error.hint)
    found: dict[str, Any] = {"component": entry["component"], "metric": entry["metric"]}
    for key, choices in (("value", VALUES), ("baseline", BASELINES)):
        if key in entry and entry[key] not in choices:
            refuse((*path, key), f"is {str(entry[key])[:100]}, not {', '.join(choices)}", None)
        found |= {key: entry[key]} if key in entry else {}
    found |= _limits(path, entry, refuse)
    if "minCount" in entry:
        found["min_count"] = max(_whole((*path, "minCount"), entry["minCount"], refuse), 1)
    if "minReporting" in entry:
        found["min_reporting"] = _number((*path, "minReporting"), entry["minReporting"], refuse, most=1)
    return MetricGate(**found)


def _limits(path: tuple[str | int, ...], entry: Mapping[str, Json], refuse: Refuse) -> dict[str, float]:
    found = {}
    for key, name in _LIMITS.items():
        if key in entry:
            lowest = -math.inf if key in ("min", "max") else 0.0
            found[name] = _number((*path, key), entry[key], refuse, least=lowest)
    if not found:
        refuse(path, "has no limit", f"give one of {', '.join(_LIMITS)}")
    return found


def _known(path: tuple[str | int, ...], entry: Mapping[str, Json], keys: frozenset[str], refuse: Refuse) -> None:
    for key in entry:
        if key not in keys:
            refuse((*path, str(key)), "is an unknown key", f"known are {', '.join(sorted(keys))}")


def _number(
    path: tuple[str | int, ...], value: Json, refuse: Refuse, *, least: float = 0.0, most: float = math.inf
) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        refuse(path, "is not a number", None)
    if not least <= value <= most:
        refuse(path, f"is {value}, not between {least:g} and {most:g}", None)
    return float(value)


def _whole(path: tuple[str | int, ...], value: Json, refuse: Refuse) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        refuse(path, "is not a whole number", None)
    return value


# --- What is seen -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentSeen:
    """A component as its device reported it last. ``changes`` of its state were seen while it baked, at least."""

    version: str
    state: str
    changes: int = 0
    details: str = ""


Reports = Mapping[str, Report]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSeen:
    """A device of a ring: how its deployment stands, its components, and what they have measured since.

    Args:
        is_measured: components and figures were asked for; of a large ring only some devices are.
    """

    thing: str
    status: str
    reason: str = ""
    components: Mapping[str, ComponentSeen] = field(default_factory=dict)
    reports: Reports = field(default_factory=dict)
    is_measured: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Figures of the previous version: of the ring's own devices before, and of devices that do not have it yet."""

    before: Mapping[str, Reports] = field(default_factory=dict)
    later: Mapping[str, Reports] = field(default_factory=dict)


class Standing(StrEnum):
    """Whether a gate holds; ``unknown`` does not let pass."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How one gate stands, and what was seen."""

    gate: str
    standing: Standing
    seen: str


def evaluate(gates: Gates, devices: Sequence[DeviceSeen], baseline: Baseline) -> tuple[Verdict, ...]:
    """Return how each gate stands."""
    return (
        _success(gates, devices),
        *_components(gates, devices),
        *(_figures(gate, devices, baseline) for gate in gates.metrics),
    )


def standing(verdicts: Iterable[Verdict]) -> Standing:
    """Return how the ring stands: one failed gate fails it, and one unknown keeps it from passing."""
    found = {one.standing for one in verdicts}
    return next((one for one in (Standing.FAILED, Standing.UNKNOWN) if one in found), Standing.PASSED)


def _success(gates: Gates, devices: Sequence[DeviceSeen]) -> Verdict:
    """Queued is not failed: a device that has not taken the deployment up is not counted."""
    succeeded = sum(one.status in SUCCESSES for one in devices)
    failed = sum(one.status in FAILURES for one in devices)
    working = sum(one.status == "IN_PROGRESS" for one in devices)
    away = sum(one.status not in (*SUCCESSES, *FAILURES, LEFT, "IN_PROGRESS") for one in devices)
    answered = succeeded + failed + working
    seen = f"{succeeded} of {answered} devices that answered succeeded, {failed} failed, {away} have not begun"
    if gates.success_share > 0 and answered and (succeeded + working) / answered < gates.success_share:
        return Verdict(gate="successShare", standing=Standing.FAILED, seen=f"{seen}; needs {gates.success_share:g}")
    if answered < gates.min_devices:
        return Verdict(gate="minDevices", standing=Standing.UNKNOWN, seen=f"{seen}; needs {gates.min_devices} answers")
    if answered and succeeded / answered < gates.success_share:
        return Verdict(gate="successShare", standing=Standing.UNKNOWN, seen=f"{seen}; {working} are at it")
    return Verdict(gate="successShare", standing=Standing.PASSED, seen=seen)


def _components(gates: Gates, devices: Sequence[DeviceSeen]) -> Iterator[Verdict]:
    ran = [one for one in devices if one.status in SUCCESSES and one.is_measured]
    for gate, state, limit in (
        ("maxBroken", "BROKEN", gates.max_broken),
        ("maxErrored", "ERRORED", gates.max_errored),
    ):
        if limit is not None:
            where = [
                f"{name} on {one.thing}"
                for one in ran
                for name, component in one.components.items()
                if component.state == state
            ]
            yield _counted(gate, len(where), limit, f"{state}: {', '.join(where[:5])}" if where else f"none {state}")
    if gates.max_state_changes is not None:
        most = max(
            ((part.changes, name, one.thing) for one in ran for name, part in one.components.items()),
            default=(0, "", ""),
        )
        seen = f"{most[1]} on {most[2]} changed its state {most[0]} times" if most[0] else "no state changed"
        yield _counted("maxStateChanges", most[0], gates.max_state_changes, seen)


def _counted(gate: str, count: int, limit: int, seen: str) -> Verdict:
    if count > limit:
        return Verdict(gate=gate, standing=Standing.FAILED, seen=f"{seen}; at most {limit}")
    return Verdict(gate=gate, standing=Standing.PASSED, seen=seen)


def _figures(gate: MetricGate, devices: Sequence[DeviceSeen], baseline: Baseline) -> Verdict:
    ran = [one for one in devices if one.status in SUCCESSES and one.is_measured]
    ours = {one.thing: summary for one in ran if (summary := _summary(one.reports, gate)) is not None}
    count = sum(_weight(one) for one in ours.values())
    told = f"{count} measurements of {len(ours)} of {len(ran)} devices"
    if not ours or len(ours) < gate.min_reporting * len(ran) or count < gate.min_count:
        return Verdict(gate=gate.key, standing=Standing.UNKNOWN, seen=f"{told}; needs {gate.min_count}")
    value = pooled(gate.value, ours.values())
    seen = f"{value:g} ({told})"
    failed = list(_beyond(gate, value))
    unknown = ""
    if gate.is_relative:
        theirs = _baseline(gate, baseline, ours)
        base_count = sum(map(_weight, theirs))
        if base_count < gate.min_count:
            unknown = f"its baseline ({gate.baseline}) has {base_count} measurements; needs {gate.min_count}"
        else:
            base = pooled(gate.value, theirs)
            seen += f", baseline {base:g} ({base_count} measurements)"
            if base < 0 and (gate.max_ratio is not None or gate.min_ratio is not None):
                unknown = "a ratio to less than nothing says nothing; use maxDrift"
            failed += _apart(gate, value, base) if not unknown else []
    if failed:
        return Verdict(gate=gate.key, standing=Standing.FAILED, seen=f"{seen}; {', '.join(failed)}")
    if unknown:
        return Verdict(gate=gate.key, standing=Standing.UNKNOWN, seen=f"{seen}; {unknown}")
    return Verdict(gate=gate.key, standing=Standing.PASSED, seen=seen)


def _beyond(gate: MetricGate, value: float) -> Iterator[str]:
    if gate.minimum is not None and value < gate.minimum:
        yield f"at least {gate.minimum:g}"
    if gate.maximum is not None and value > gate.maximum:
        yield f"at most {gate.maximum:g}"


def _apart(gate: MetricGate, value: float, base: float) -> list[str]:
    found = []
    if gate.max_ratio is not None and value > base * gate.max_ratio:
        found.append(f"at most {gate.max_ratio:g} times the baseline")
    if gate.min_ratio is not None and value < base * gate.min_ratio:
        found.append(f"at least {gate.min_ratio:g} times the baseline")
    if gate.max_drift is not None and abs(value - base) > gate.max_drift:
        found.append(f"at most {gate.max_drift:g} from the baseline")
    return found


def _baseline(gate: MetricGate, baseline: Baseline, ours: Mapping[str, Summary]) -> list[Summary]:
    """Before: of the same devices that have figures now, so that like is compared with like."""
    sources: list[Reports] = []
    if gate.baseline in ("before", "both"):
        sources += [reports for thing, reports in baseline.before.items() if thing in ours]
    if gate.baseline in ("later", "both"):
        sources += baseline.later.values()
    return [summary for reports in sources if (summary := _summary(reports, gate)) is not None]


def _summary(reports: Reports, gate: MetricGate) -> Summary | None:
    report = reports.get(gate.component)
    found = report.metric(gate.metric) if report is not None else None
    if found is None or found.count < 1:
        return None
    return found if all(math.isfinite(getattr(found, name)) for name in VALUES) else None


def pooled(value: str, summaries: Iterable[Summary]) -> float:
    """Return one figure of several devices: the least or greatest, else the mean, each as often as it was measured.

    Percentiles of several devices cannot be had from their own; the weighted mean of them stands in.
    """
    found = [(getattr(one, value), _weight(one)) for one in summaries]
    if value in ("min", "max"):
        return float((min if value == "min" else max)(each for each, _ in found))
    return math.fsum(each * weight for each, weight in found) / sum(weight for _, weight in found)


def _weight(summary: Summary) -> int:
    """No device counts for more than a window holds, whatever it says."""
    return min(summary.count, MAX_VALUES)

"""What simulated components report of themselves: metrics with values in a range, by component and version. Pure."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from monodon.core.metrics import MAX_METRICS, MAX_NAME_BYTES, Report, summarize
from monodon.errors import FleetError

_VALUES: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRule:
    """A metric is measured between two values; of one component or version alone, if named."""

    name: str
    low: float
    high: float
    component: str | None = None
    version: str | None = None

    def fits(self, component: str, version: str) -> bool:
        """Whether it speaks of a version of a component."""
        return self.component in (None, component) and self.version in (None, version)

    @property
    def rank(self) -> int:
        """How particular it is: a version's rule goes before its component's, that before the one for all."""
        return (self.component is not None) + (self.version is not None)


def read_metric(text: str, of: str | None = None) -> MetricRule:
    """Read ``latency_ms=5`` or ``latency_ms=5..6``; ``of`` is ``com.example.Camera`` or ``com.example.Camera@2.0.0``.

    Raises:
        FleetError: it cannot be understood.
    """
    name, is_named, span = text.partition("=")
    first, has_end, last = span.partition("..")
    try:
        low, high = float(first), float(last if has_end else first)
    except ValueError:
        is_named = ""
        low = high = 0.0
    if not is_named or not name or len(name.encode()) > MAX_NAME_BYTES or not low <= high < float("inf"):
        raise FleetError(f"{text!r} is no metric", hint="write NAME=VALUE or NAME=LOW..HIGH, such as latency_ms=5..6")
    component, _, version = (of or "").partition("@")
    return MetricRule(name=name, low=low, high=high, component=component or None, version=version or None)


def reports(
    rules: Sequence[MetricRule], roots: Mapping[str, str], *, key: str, since_s: float, now_s: float
) -> Iterable[tuple[str, Report]]:
    """Yield what each component of ``roots`` (name to version) reports now; ``key`` decides its values."""
    for component, version in sorted(roots.items()):
        chosen: dict[str, MetricRule] = {}
        for rule in rules:
            if rule.fits(component, version) and (rule.name not in chosen or rule.rank >= chosen[rule.name].rank):
                chosen[rule.name] = rule
        if not chosen:
            continue
        chance = random.Random(f"{key}/{component}/{version}")  # noqa: S311
        summaries = [
            summarize(name, [chance.uniform(rule.low, rule.high) for _ in range(_VALUES)])
            for name, rule in list(chosen.items())[:MAX_METRICS]
        ]
        yield component, Report(at_s=now_s, since_s=since_s, metrics=tuple(summaries))

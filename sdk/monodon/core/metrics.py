"""What components report of themselves: bounded windows of values, and the shadow that carries their summaries.

AWS's nucleus takes PutComponentMetric from its own components alone. So a component's figures travel in the named
shadow ``monodon-metrics`` of its thing, where boto3 reads them, on AWS as well::

    {"state": {"reported": {"monodon.CameraClassifier": {
        "at": 1790000000, "since": 1789999700,
        "metrics": [{"name": "latency_ms", "count": 300, "mean": 5.1, "min": 4.0, "max": 9.2, "p50": 5.0, "p95": 6.1}]
    }}}}

``metrics`` is a list since a shadow replaces lists whole: what a component no longer measures goes by itself.
"""

import json
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from monodon.core.json import Json

SHADOW: Final = "monodon-metrics"
#: Seconds that a value counts, and values of one metric that do.
WINDOW_S: Final = 300.0
MAX_VALUES: Final = 1000
#: A shadow holds 8 KiB for all components of a thing; this many metrics take at most 2.5 KiB of it.
MAX_METRICS: Final = 16
MAX_NAME_BYTES: Final = 32
#: Seconds between two reports, at least.
REPORT_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The values of one metric within a window."""

    name: str
    count: int
    mean: float
    min: float
    max: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A component's metrics at one time; times are seconds since 1970, ``since`` that of the oldest value."""

    at_s: float
    since_s: float
    metrics: tuple[Summary, ...]

    def metric(self, name: str) -> Summary | None:
        """Return one of them; None if it was not measured."""
        return next((summary for summary in self.metrics if summary.name == name), None)


class Window:
    """Values of some metrics, the latest ones only.

    Whatever is added, it holds at most ``MAX_METRICS`` times ``MAX_VALUES`` values, none older than ``WINDOW_S``.
    """

    def __init__(self) -> None:
        self._values: dict[str, deque[tuple[float, float]]] = {}

    def add(self, name: str, value: float, now_s: float) -> None:
        """Add a value.

        Raises:
            ValueError: a name that is empty or over 32 bytes long, one metric too many, or no finite number.
        """
        if not math.isfinite(value):
            raise ValueError(f"metric {name} = {value}: not a finite number")
        values = self._values.get(name)
        if values is None:
            self._check(name)
            values = self._values[name] = deque(maxlen=MAX_VALUES)
        values.append((now_s, float(value)))

    def _check(self, name: str) -> None:
        if not name or len(name.encode()) > MAX_NAME_BYTES:
            raise ValueError(f"metric {name!r}: a name has 1 to {MAX_NAME_BYTES} bytes")
        if len(self._values) == MAX_METRICS:
            known = ", ".join(self._values)
            raise ValueError(f"metric {name!r} is one too many; {MAX_METRICS} are measured: {known}")

    def report(self, now_s: float) -> Report | None:
        """Return what the window holds at ``now_s``; None if that is nothing. What is too old is forgotten."""
        summaries, oldest = [], now_s
        for name, values in list(self._values.items()):
            while values and values[0][0] < now_s - WINDOW_S:
                values.popleft()
            if values:
                oldest = min(oldest, values[0][0])
                summaries.append(summarize(name, [value for _, value in values]))
            else:
                del self._values[name]
        return Report(at_s=now_s, since_s=oldest, metrics=tuple(summaries)) if summaries else None


def summarize(name: str, values: Sequence[float]) -> Summary:
    """Return the summary of at least one value; percentiles are of the nearest rank."""
    ordered = sorted(values)
    return Summary(
        name=name,
        count=len(ordered),
        mean=_short(math.fsum(ordered) / len(ordered)),
        min=_short(ordered[0]),
        max=_short(ordered[-1]),
        p50=_short(ordered[_rank(len(ordered), 0.50)]),
        p95=_short(ordered[_rank(len(ordered), 0.95)]),
    )


def _rank(count: int, share: float) -> int:
    return max(math.ceil(share * count) - 1, 0)


def _short(value: float) -> float:
    """Six significant digits: room in the shadow is scarce."""
    return float(f"{value:.6g}")


def shadow_update(component: str, report: Report) -> bytes:
    """Return the payload that puts a component's report into the shadow of its thing."""
    content = {
        "at": round(report.at_s),
        "since": round(report.since_s),
        "metrics": [asdict(summary) for summary in report.metrics],
    }
    return json.dumps({"state": {"reported": {component: content}}}, separators=(",", ":")).encode()


def update_topic(thing: str) -> str:
    """Return the AWS IoT topic that takes :func:`shadow_update`."""
    return f"$aws/things/{thing}/shadow/name/{SHADOW}/update"


def read_reports(document: Json) -> dict[str, Report]:
    """Return the report of each component from a shadow's document; what is not one is passed over."""
    reported = _mapping(_mapping(_mapping(document).get("state")).get("reported"))
    reports = {component: _read(content) for component, content in reported.items()}
    return {component: report for component, report in reports.items() if report is not None}


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _read(content: Json) -> Report | None:
    fields = _mapping(content)
    metrics = fields.get("metrics")
    try:
        return Report(
            at_s=float(fields["at"]),
            since_s=float(fields["since"]),
            metrics=tuple(_summaries(metrics if isinstance(metrics, list) else [])),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _summaries(items: Iterable[Json]) -> Iterable[Summary]:
    for item in items:
        numbers = {name: float(item[name]) for name in ("mean", "min", "max", "p50", "p95")}
        yield Summary(name=str(item["name"]), count=int(item["count"]), **numbers)

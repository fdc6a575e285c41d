"""Metrics that AWS's own components report; ordinary components are refused.

Source: Greengrass nucleus, ``ComponentMetricIPCEventStreamAgent.java``; ipc.md 4.8.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from monodon.core.policy import COMPONENT_METRIC
from monodon.ipc.errors import InvalidArgumentsError, UnauthorizedError
from monodon.ipc.service import Operation, Service
from monodon.ipc.shapes import Metric, PutComponentMetricRequest

UNITS: Final = frozenset({"BYTES", "BYTES_PER_SECOND", "COUNT", "COUNT_PER_SECOND", "MEGABYTES", "SECONDS"})
_MAX_NAME_BYTES: Final = 32
_REMEMBERED: Final = 100
_MAX_METRICS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement."""

    unit: str
    value: float


class ComponentMetrics:
    """The last samples of each component's metrics, in memory; the oldest metric gives way when there are many."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, str], deque[Sample]] = {}

    @property
    def samples(self) -> Mapping[tuple[str, str], deque[Sample]]:
        """Samples by (component, metric), oldest first."""
        return self._samples

    def add(self, component: str, name: str, sample: Sample) -> None:
        """Remember a sample."""
        key = (component, name)
        if key not in self._samples and len(self._samples) >= _MAX_METRICS:
            del self._samples[next(iter(self._samples))]
        self._samples.setdefault(key, deque(maxlen=_REMEMBERED)).append(sample)


def _checked(metric: Metric) -> tuple[str, Sample]:
    name, unit, value = metric.name or "", metric.unit or "", metric.value
    if not name or len(name.encode()) > _MAX_NAME_BYTES:
        raise InvalidArgumentsError(f"the metric name {name[:40]!r} is not 1 to {_MAX_NAME_BYTES} bytes long")
    if unit not in UNITS:
        raise InvalidArgumentsError(f"the unit {unit!r} of {name} is none of {', '.join(sorted(UNITS))}")
    if value is None or not 0 <= value < float("inf"):
        raise InvalidArgumentsError(f"the value of {name} must not be negative")
    return name, Sample(unit=unit, value=value)


def _names(request: PutComponentMetricRequest) -> tuple[str, ...]:
    if not request.metrics:
        raise InvalidArgumentsError("metrics are required")
    return tuple(metric.name or "" for metric in request.metrics)


def metric_service(metrics: ComponentMetrics) -> Service:
    """Return the service of component metrics."""

    def put_component_metric(request: PutComponentMetricRequest, caller: str) -> None:
        if not caller.startswith("aws."):
            raise UnauthorizedError(f"{caller} may not put component metrics: only components of AWS may")
        for name, sample in [_checked(metric) for metric in request.metrics or ()]:
            metrics.add(caller, name, sample)

    return Service(
        COMPONENT_METRIC,
        {"aws.greengrass#PutComponentMetric": Operation(put_component_metric, resource=_names)},
    )

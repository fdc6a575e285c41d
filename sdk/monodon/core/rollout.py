"""A job on its way through a fleet: whom to notify now, when to give up, which executions ran out of time.

Everything is decided from the job's rules, how its executions stand, and the time; the embedded cloud and the
simulator carry it out.

Source: AWS IoT Core developer guide, "Job rollout, scheduling, and abort configurations".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from monodon.core.json import Json
from monodon.errors import InvalidTransition

MINUTE_S: Final = 60.0
#: The most that AWS notifies in a minute when an exponential rate has no limit of its own.
DEFAULT_CAP_PER_MINUTE: Final = 1000


class ExecutionStatus(StrEnum):
    """Where one thing stands with one job."""

    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    REJECTED = "REJECTED"
    REMOVED = "REMOVED"
    CANCELED = "CANCELED"


class Event(StrEnum):
    """What happens to an execution: what its thing reports, and what the cloud decides."""

    STARTED = "STARTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    TIMED_OUT = "TIMED_OUT"
    CANCELED = "CANCELED"
    FORCE_CANCELED = "FORCE_CANCELED"
    REMOVED = "REMOVED"


_S = ExecutionStatus
TRANSITIONS: Final[Mapping[tuple[ExecutionStatus, Event], ExecutionStatus]] = {
    (_S.QUEUED, Event.STARTED): _S.IN_PROGRESS,
    (_S.QUEUED, Event.SUCCEEDED): _S.SUCCEEDED,
    (_S.QUEUED, Event.FAILED): _S.FAILED,
    (_S.QUEUED, Event.REJECTED): _S.REJECTED,
    (_S.QUEUED, Event.CANCELED): _S.CANCELED,
    (_S.QUEUED, Event.FORCE_CANCELED): _S.CANCELED,
    (_S.QUEUED, Event.REMOVED): _S.REMOVED,
    (_S.IN_PROGRESS, Event.STARTED): _S.IN_PROGRESS,
    (_S.IN_PROGRESS, Event.SUCCEEDED): _S.SUCCEEDED,
    (_S.IN_PROGRESS, Event.FAILED): _S.FAILED,
    (_S.IN_PROGRESS, Event.REJECTED): _S.REJECTED,
    (_S.IN_PROGRESS, Event.TIMED_OUT): _S.TIMED_OUT,
    (_S.IN_PROGRESS, Event.FORCE_CANCELED): _S.CANCELED,
    (_S.IN_PROGRESS, Event.REMOVED): _S.REMOVED,
}

#: What a thing may report of itself.
REPORTED: Final[Mapping[str, Event]] = {
    "IN_PROGRESS": Event.STARTED,
    "SUCCEEDED": Event.SUCCEEDED,
    "FAILED": Event.FAILED,
    "REJECTED": Event.REJECTED,
}
LIVE: Final = frozenset({_S.QUEUED, _S.IN_PROGRESS})
#: What AWS calls executed: ended by the thing, or by its silence.
EXECUTED: Final = frozenset({_S.SUCCEEDED, _S.FAILED, _S.TIMED_OUT, _S.REJECTED})
_FAILURES: Final[Mapping[str, frozenset[ExecutionStatus]]] = {
    "FAILED": frozenset({_S.FAILED}),
    "REJECTED": frozenset({_S.REJECTED}),
    "TIMED_OUT": frozenset({_S.TIMED_OUT}),
    "ALL": frozenset({_S.FAILED, _S.REJECTED, _S.TIMED_OUT}),
}


def advance(status: ExecutionStatus, event: Event) -> ExecutionStatus:
    """Return the next status of an execution.

    Raises:
        InvalidTransition: ``event`` cannot happen in this state; a terminal one has no event.
    """
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise InvalidTransition(f"a job execution that is {status} cannot become {event}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialRate:
    """A rate that grows by a factor each time enough things were notified, or have succeeded."""

    base_per_minute: int
    factor: float
    notified: int | None = None
    succeeded: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortCriterion:
    """Give up when ``percentage`` of at least ``minimum`` executed things ended as ``failure_type``."""

    failure_type: str
    percentage: float
    minimum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a job is rolled out. Without rules everyone is notified at once, and nothing ends it."""

    maximum_per_minute: int | None = None
    exponential: ExponentialRate | None = None
    abort: tuple[AbortCriterion, ...] = ()
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How far the rollout has come: its rate, whom it released in the last minute, when the rate last grew."""

    rate_per_minute: float | None = None
    released: tuple[tuple[float, int], ...] = ()
    notified: int = 0
    mark: int = 0

    def to_record(self) -> dict[str, Json]:
        """What is kept on disk; ``from_record`` reads it."""
        released = [list(each) for each in self.released]
        return {"rate": self.rate_per_minute, "released": released, "notified": self.notified, "mark": self.mark}

    @classmethod
    def from_record(cls, record: Mapping[str, Json]) -> "Pace":
        """The pace that ``to_record`` wrote."""
        released = tuple((float(at), int(count)) for at, count in record["released"])
        return cls(rate_per_minute=record["rate"], released=released, notified=record["notified"], mark=record["mark"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now: how many of the waiting to notify, whether to abort, when to ask again (None: on a change)."""

    pace: Pace
    release: int
    abort: AbortCriterion | None
    again_at_s: float | None


def read_rules(
    rollout: Mapping[str, Json] | None, abort: Mapping[str, Json] | None, timeout: Mapping[str, Json] | None
) -> Rules:
    """Read ``jobExecutionsRolloutConfig``, ``abortConfig`` and ``timeoutConfig`` as the API's model checked them."""
    rollout, abort, timeout = rollout or {}, abort or {}, timeout or {}
    exponential = rollout.get("exponentialRate")
    minutes = timeout.get("inProgressTimeoutInMinutes")
    return Rules(
        maximum_per_minute=rollout.get("maximumPerMinute"),
        exponential=None if exponential is None else _read_exponential(exponential),
        abort=tuple(
            AbortCriterion(
                failure_type=each["failureType"],
                percentage=float(each["thresholdPercentage"]),
                minimum=each["minNumberOfExecutedThings"],
            )
            for each in abort.get("criteriaList", ())
        ),
        timeout_s=None if minutes is None else minutes * MINUTE_S,
    )


def _read_exponential(value: Mapping[str, Json]) -> ExponentialRate:
    criteria = value["rateIncreaseCriteria"]
    return ExponentialRate(
        base_per_minute=value["baseRatePerMinute"],
        factor=float(value["incrementFactor"]),
        notified=criteria.get("numberOfNotifiedThings"),
        succeeded=criteria.get("numberOfSucceededThings"),
    )


def decide(rules: Rules, pace: Pace, waiting: int, counts: Mapping[ExecutionStatus, int], now: float) -> Decision:
    """Return what to do now with ``waiting`` things not notified yet; ``counts`` are the executions by status.

    In any 60 seconds no more are released than the rate of the moment allows. ``now`` is in seconds on any clock that
    survives with the pace.
    """
    criterion = _abort(rules, counts)
    if criterion is not None:
        return Decision(pace=pace, release=0, abort=criterion, again_at_s=None)
    pace = _grow(rules, pace, counts)
    if pace.rate_per_minute is None:
        return Decision(
            pace=replace(pace, notified=pace.notified + waiting), release=waiting, abort=None, again_at_s=None
        )
    recent = tuple((at, count) for at, count in pace.released if at > now - MINUTE_S)
    room = max(0, int(pace.rate_per_minute) - sum(count for _, count in recent))
    release = min(room, waiting)
    if release:
        recent = (*recent, (now, release))
    pace = replace(pace, released=recent, notified=pace.notified + release)
    again = recent[0][0] + MINUTE_S if waiting > release and recent else None
    return Decision(pace=pace, release=release, abort=None, again_at_s=again)


def _grow(rules: Rules, pace: Pace, counts: Mapping[ExecutionStatus, int]) -> Pace:
    """Set the rate on the first look, and multiply it when its criterion was reached since it last grew."""
    exponential = rules.exponential
    if exponential is None:
        return replace(
            pace, rate_per_minute=None if rules.maximum_per_minute is None else float(rules.maximum_per_minute)
        )
    cap = float(rules.maximum_per_minute or DEFAULT_CAP_PER_MINUTE)
    if pace.rate_per_minute is None:
        return replace(pace, rate_per_minute=min(cap, float(exponential.base_per_minute)))
    if exponential.notified is not None:
        reached, needed = pace.notified, exponential.notified
    else:
        reached, needed = counts.get(ExecutionStatus.SUCCEEDED, 0), exponential.succeeded or 1
    if reached - pace.mark < needed:
        return pace
    return replace(pace, rate_per_minute=min(cap, pace.rate_per_minute * exponential.factor), mark=reached)


def _abort(rules: Rules, counts: Mapping[ExecutionStatus, int]) -> AbortCriterion | None:
    executed = sum(counts.get(status, 0) for status in EXECUTED)
    for criterion in rules.abort:
        failed = sum(counts.get(status, 0) for status in _FAILURES[criterion.failure_type])
        if executed >= max(1, criterion.minimum) and failed * 100 >= criterion.percentage * executed and failed:
            return criterion
    return None


def timed_out(rules: Rules, started: Iterable[tuple[str, float]], now: float) -> tuple[str, ...]:
    """Return the things, of those IN_PROGRESS since a time, whose time is up."""
    if rules.timeout_s is None:
        return ()
    limit = rules.timeout_s
    return tuple(thing for thing, at in started if now - at >= limit)

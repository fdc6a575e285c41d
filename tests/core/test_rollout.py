"""Rollout, abort and time-out of a job, decided from its rules, its executions and the time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.core.rollout import (
    REPORTED,
    TRANSITIONS,
    Event,
    ExecutionStatus,
    ExponentialRate,
    Pace,
    Rules,
    advance,
    decide,
    read_rules,
    timed_out,
)
from monodon.errors import InvalidTransition

S = ExecutionStatus


def test_without_rules_everyone_is_notified_at_once() -> None:
    decision = decide(Rules(), Pace(), 10_000, {}, 0.0)
    assert (decision.release, decision.abort, decision.again_at_s) == (10_000, None, None)


def schedule(rules: Rules, things: int, *, until_s: float) -> list[tuple[float, int]]:
    """Who is notified when, if each succeeds at once, the rules being asked whenever they want to be."""
    pace, waiting, now, succeeded, log = Pace(), things, 0.0, 0, []
    while now <= until_s:
        decision = decide(rules, pace, waiting, {S.SUCCEEDED: succeeded}, now)
        pace, waiting = decision.pace, waiting - decision.release
        succeeded += decision.release
        if decision.release:
            log.append((now, decision.release))
        if decision.again_at_s is None:
            break
        now = decision.again_at_s
    return log


def test_a_constant_rate_notifies_so_many_in_a_minute() -> None:
    assert schedule(Rules(maximum_per_minute=4), 10, until_s=600) == [(0.0, 4), (60.0, 4), (120.0, 2)]


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        ({"numberOfNotifiedThings": 5}, [(0.0, 5), (60.0, 10), (120.0, 20), (180.0, 20)]),
        ({"numberOfSucceededThings": 15}, [(0.0, 5), (60.0, 5), (120.0, 5), (180.0, 10)]),
    ],
)
def test_an_exponential_rate_grows_when_its_criterion_is_reached(
    criterion: dict[str, int], expected: list[tuple[float, int]]
) -> None:
    rollout = {
        "maximumPerMinute": 20,
        "exponentialRate": {"baseRatePerMinute": 5, "incrementFactor": 2, "rateIncreaseCriteria": criterion},
    }
    assert schedule(read_rules(rollout, None, None), 500, until_s=180) == expected


def test_ten_hours_of_rollout_are_over_in_no_time() -> None:
    log = schedule(Rules(maximum_per_minute=10), 6_000, until_s=36_000)
    assert sum(count for _, count in log) == 6_000
    assert log[-1][0] == 599 * 60.0


@given(
    st.integers(1, 30),
    st.lists(st.tuples(st.floats(0, 90), st.integers(0, 40)), min_size=1, max_size=20),
    st.booleans(),
)
def test_no_minute_releases_more_than_the_limit(limit: int, arrivals: list[tuple[float, int]], grows: bool) -> None:
    exponential = ExponentialRate(base_per_minute=1, factor=2.0, notified=3) if grows else None
    rules = Rules(maximum_per_minute=limit, exponential=exponential)
    pace, waiting, now = Pace(), 0, 0.0
    log: list[tuple[float, int]] = []
    for pause, arrived in arrivals:
        now, waiting = now + pause, waiting + arrived
        decision = decide(rules, pace, waiting, {}, now)
        pace = Pace.from_record(decision.pace.to_record())
        waiting -= decision.release
        log.append((now, decision.release))
        assert waiting >= 0
    for at, _ in log:
        assert sum(count for other, count in log if at - 60 < other <= at) <= limit


ABORTS = [
    ({S.FAILED: 1}, "FAILED", 50.0, 1, True),
    ({S.FAILED: 1, S.SUCCEEDED: 1}, "FAILED", 50.0, 2, True),
    ({S.FAILED: 1, S.SUCCEEDED: 2}, "FAILED", 50.0, 2, False),
    ({S.FAILED: 1}, "FAILED", 50.0, 2, False),
    ({S.TIMED_OUT: 2, S.IN_PROGRESS: 9}, "FAILED", 10.0, 1, False),
    ({S.TIMED_OUT: 1, S.REJECTED: 1, S.SUCCEEDED: 2}, "ALL", 50.0, 4, True),
    ({S.REJECTED: 1}, "REJECTED", 100.0, 1, True),
    ({S.SUCCEEDED: 5}, "ALL", 0.0, 1, False),
]


@pytest.mark.parametrize(("counts", "kind", "percentage", "minimum", "expected"), ABORTS)
def test_a_job_aborts_when_enough_of_enough_have_failed(
    counts: dict[ExecutionStatus, int], kind: str, percentage: float, minimum: int, expected: bool
) -> None:
    criterion = {
        "failureType": kind,
        "action": "CANCEL",
        "thresholdPercentage": percentage,
        "minNumberOfExecutedThings": minimum,
    }
    decision = decide(read_rules(None, {"criteriaList": [criterion]}, None), Pace(), 7, counts, 0.0)
    assert (decision.abort is not None) is expected
    assert decision.release == (0 if expected else 7)


def test_an_execution_in_progress_times_out_and_not_before() -> None:
    rules = read_rules(None, None, {"inProgressTimeoutInMinutes": 2})
    assert timed_out(rules, [("a", 0.0), ("b", 0.1)], 120.0) == ("a",)
    assert timed_out(Rules(), [("a", 0.0)], 1e9) == ()


def test_a_terminal_execution_stays_as_it_is() -> None:
    for status in S:
        for event in Event:
            if (status, event) in TRANSITIONS:
                assert status in (S.QUEUED, S.IN_PROGRESS)
            else:
                with pytest.raises(InvalidTransition):
                    advance(status, event)


def test_cancelling_leaves_what_runs_unless_forced() -> None:
    assert advance(S.QUEUED, Event.CANCELED) is S.CANCELED
    assert (S.IN_PROGRESS, Event.CANCELED) not in TRANSITIONS
    assert advance(S.IN_PROGRESS, Event.FORCE_CANCELED) is S.CANCELED


@pytest.mark.parametrize("status", REPORTED)
def test_a_thing_may_report_any_end_of_a_job_it_has_not_ended(status: str) -> None:
    assert advance(S.QUEUED, REPORTED[status]) == status
    assert advance(S.IN_PROGRESS, REPORTED[status]) == status

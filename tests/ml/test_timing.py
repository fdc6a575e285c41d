"""Percentiles by rank."""

from hypothesis import given
from hypothesis import strategies as st

from monodon.ml.timing import WINDOW, Latencies


def test_no_measurement_no_percentile() -> None:
    assert Latencies().summary() == {"p50": None, "p95": None}


def test_percentiles_are_measurements() -> None:
    latencies = Latencies()
    for value in range(1, 101):
        latencies.add(value)
    assert latencies.summary() == {"p50": 50, "p95": 95}


@given(st.lists(st.floats(0, 1e4), min_size=1), st.floats(0.01, 1))
def test_at_least_the_share_does_not_exceed_it(values: list[float], share: float) -> None:
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    result = latencies.percentile(share)
    assert result in values
    assert sum(value <= result for value in values) >= share * len(values)


def test_memory_is_bounded() -> None:
    latencies = Latencies()
    for value in range(WINDOW + 5):
        latencies.add(value)
    assert len(latencies) == WINDOW

"""Windows of values, their summaries, and the shadow that carries them."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.core.metrics import (
    MAX_METRICS,
    MAX_NAME_BYTES,
    MAX_VALUES,
    WINDOW_S,
    Report,
    Window,
    read_reports,
    shadow_update,
    summarize,
    update_topic,
)


def test_a_window_is_summarized() -> None:
    window = Window()
    for number in range(1, 101):
        window.add("latency_ms", number, 1000.0 + number)
    window.add("kept", 1, 1100.0)
    report = window.report(1100.0)
    assert report is not None
    assert (report.at_s, report.since_s) == (1100.0, 1001.0)
    latency = report.metric("latency_ms")
    assert latency is not None
    assert (latency.count, latency.mean, latency.min, latency.max, latency.p50, latency.p95) == (
        100,
        50.5,
        1,
        100,
        50,
        95,
    )
    assert report.metric("kept") == summarize("kept", [1.0])
    assert report.metric("lost") is None


def test_what_is_too_old_is_forgotten_and_makes_room() -> None:
    window = Window()
    for number in range(MAX_METRICS):
        window.add(f"m{number}", 1, 0.0)
    with pytest.raises(ValueError, match="one too many"):
        window.add("another", 1, 0.0)
    assert window.report(WINDOW_S + 1) is None
    window.add("another", 1, WINDOW_S + 1)


@pytest.mark.parametrize(("name", "value"), [("", 1), ("x" * 33, 1), ("a", math.nan), ("a", math.inf)])
def test_what_cannot_be_told_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="metric"):
        Window().add(name, value, 0)


def test_the_update_of_a_full_window_leaves_room_for_other_components() -> None:
    """A shadow holds 8 KiB for all components of a thing."""
    window = Window()
    for number in range(MAX_METRICS):
        for value in range(MAX_VALUES + 10):
            window.add(f"{number:02}".ljust(MAX_NAME_BYTES, "x"), -value / 7e9, 0.0)
    report = window.report(0.0)
    assert report is not None
    assert report.metrics[0].count == MAX_VALUES
    payload = shadow_update("com.example.One", report)
    assert len(payload) <= 2560
    assert read_reports(json.loads(payload)) == {"com.example.One": report}


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(-1e9, 1e9), st.integers(0, 1000)), max_size=50),
    st.integers(0, 2000),
)
def test_a_report_is_read_back_as_it_was_written(values: list[tuple[str, float, int]], now_s: int) -> None:
    window = Window()
    for name, value, at_s in sorted(values, key=lambda each: each[2]):
        window.add(name, value, at_s)
    report = window.report(now_s)
    if report is None:
        return
    assert read_reports(json.loads(shadow_update("c", report))) == {"c": report}
    for summary in report.metrics:
        assert summary.min <= summary.p50 <= summary.p95 <= summary.max
        assert 1 <= summary.count <= len(values)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"state": {"reported": {"c": {"at": "x", "since": 1, "metrics": []}}}},
        {"state": {"reported": {"c": {"at": 1, "since": 1, "metrics": [1]}}}},
        {"state": {"reported": {"c": {"at": 1, "since": 1, "metrics": [{"name": "a"}]}}}},
        {"state": {"reported": {"c": 1}}},
        {"state": {"desired": {"c": {}}}},
    ],
)
def test_what_others_put_into_the_shadow_is_passed_over(document: Any) -> None:
    assert read_reports(document) == {}


def test_its_topic_is_that_of_a_named_shadow() -> None:
    assert update_topic("drone-1") == "$aws/things/drone-1/shadow/name/monodon-metrics/update"
    assert Report(at_s=1, since_s=0, metrics=()).metric("a") is None

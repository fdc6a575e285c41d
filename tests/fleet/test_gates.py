"""Gates: what holds, what does not, and what nobody knows; by values alone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from monodon.core.json import Json
from monodon.core.metrics import Report, Summary, summarize
from monodon.errors import FleetError
from monodon.fleet.gates import (
    GRACE_S,
    Baseline,
    ComponentSeen,
    DeviceSeen,
    Gates,
    MetricGate,
    Standing,
    evaluate,
    pooled,
    read_gates,
    standing,
)
from monodon.fleet.reading import parse_desired

NAME = "com.example.Camera"
PASSED, FAILED, UNKNOWN = Standing.PASSED, Standing.FAILED, Standing.UNKNOWN


def gates(**entry: Json) -> Gates:
    def refuse(path: object, what: str, hint: str | None) -> Any:
        raise FleetError(f"{path} {what}", hint=hint)

    return read_gates(entry, refuse)


def reports(*values: float, metric: str = "latency_ms") -> Mapping[str, Report]:
    return {NAME: Report(at_s=10, since_s=5, metrics=(summarize(metric, values),))} if values else {}


def device(thing: str = "a", status: str = "SUCCEEDED", state: str = "RUNNING", **members: Any) -> DeviceSeen:
    changes = members.pop("changes", 0)
    seen = ComponentSeen(version="1.0.0", state=state, changes=changes)
    return DeviceSeen(thing=thing, status=status, components={NAME: seen}, **members)


def verdict(
    of: Gates, *devices: DeviceSeen, before: Mapping[str, Any] | None = None, later: Mapping[str, Any] | None = None
) -> Standing:
    return standing(evaluate(of, devices, Baseline(before=before or {}, later=later or {})))


def latency(**limits: Any) -> Gates:
    return Gates(metrics=(MetricGate(component=NAME, metric="latency_ms", **{"min_count": 2, **limits}),))


@pytest.mark.parametrize(
    ("statuses", "share", "found"),
    [
        (["SUCCEEDED"], 1.0, PASSED),
        (["COMPLETED", "QUEUED"], 1.0, PASSED),
        (["SUCCEEDED", "REMOVED", "NOT_STARTED"], 1.0, PASSED),
        (["SUCCEEDED", "FAILED"], 1.0, FAILED),
        (["SUCCEEDED", "TIMED_OUT"], 0.6, FAILED),
        (["SUCCEEDED", "REJECTED"], 0.5, PASSED),
        (["SUCCEEDED", "CANCELED"], 1.0, FAILED),
        (["SUCCEEDED", "IN_PROGRESS"], 1.0, UNKNOWN),
        (["SUCCEEDED", "IN_PROGRESS"], 0.5, PASSED),
        (["FAILED", "IN_PROGRESS"], 0.6, FAILED),
        (["QUEUED"], 1.0, UNKNOWN),
        ([], 1.0, UNKNOWN),
        (["FAILED"], 0.0, PASSED),
    ],
)
def test_the_share_of_those_that_answered(statuses: list[str], share: float, found: Standing) -> None:
    devices = [device(str(number), status) for number, status in enumerate(statuses)]
    assert verdict(Gates(success_share=share), *devices) is found


def test_too_few_answers_are_not_known() -> None:
    assert verdict(Gates(min_devices=2), device()) is UNKNOWN
    assert verdict(Gates(min_devices=2), device(), device("b")) is PASSED


def test_components_that_broke() -> None:
    assert verdict(Gates(), device(state="BROKEN")) is FAILED
    assert verdict(Gates(max_broken=1), device(state="BROKEN")) is PASSED
    assert verdict(Gates(), device(state="ERRORED")) is PASSED
    assert verdict(Gates(max_errored=0), device(state="ERRORED")) is FAILED
    assert verdict(Gates(max_state_changes=2), device(changes=2), device("b")) is PASSED
    assert verdict(Gates(max_state_changes=2), device(changes=3), device("b")) is FAILED


def test_a_device_that_failed_is_counted_once() -> None:
    assert verdict(Gates(success_share=0.5), device(), device("b", "FAILED", "BROKEN")) is PASSED


@pytest.mark.parametrize(
    ("limits", "value", "found"),
    [
        ({"max_ratio": 1.2}, 12.0, PASSED),
        ({"max_ratio": 1.2}, 12.1, FAILED),
        ({"min_ratio": 0.8}, 8.0, PASSED),
        ({"min_ratio": 0.8}, 7.9, FAILED),
        ({"max_drift": 1}, 11.0, PASSED),
        ({"max_drift": 1}, 8.9, FAILED),
        ({"maximum": 10}, 10.0, PASSED),
        ({"maximum": 10}, 10.1, FAILED),
        ({"minimum": 10}, 9.9, FAILED),
        ({"minimum": 1, "max_ratio": 2}, 15.0, PASSED),
    ],
)
def test_a_limit_of_a_metric(limits: dict[str, float], value: float, found: Standing) -> None:
    seen = device(reports=reports(value, value))
    assert verdict(latency(**limits), seen, before={"a": reports(10, 10)}) is found


def test_what_was_not_measured_is_not_known() -> None:
    gate = latency(max_ratio=1.2)
    before = {"a": reports(10, 10)}
    assert verdict(gate, device(), before=before) is UNKNOWN
    assert verdict(gate, device(reports=reports(10)), before=before) is UNKNOWN  # too few
    assert verdict(gate, device(reports=reports(10, 10, metric="fps")), before=before) is UNKNOWN
    assert verdict(gate, device(reports=reports(10, 10))) is UNKNOWN  # no baseline
    assert verdict(gate, device(reports=reports(10, 10)), before={"a": reports(10)}) is UNKNOWN
    assert verdict(gate, device(reports=reports(10, 10)), before={"b": reports(10, 10)}) is UNKNOWN  # of another
    assert verdict(latency(maximum=20), device(reports=reports(10, 10))) is PASSED  # needs none


def test_every_device_reports_unless_fewer_are_enough() -> None:
    mute = device("b")
    seen = device(reports=reports(10, 10))
    assert verdict(latency(maximum=20), seen, mute) is UNKNOWN
    assert verdict(latency(maximum=20, min_reporting=0.5), seen, mute) is PASSED
    assert verdict(latency(maximum=20), seen, device("c", "QUEUED"), replace(mute, is_measured=False)) is PASSED


def test_the_baseline_is_of_the_same_devices_or_of_later_rings() -> None:
    seen = device(reports=reports(10, 10))
    before, later = {"a": reports(9, 9)}, {"z": reports(5, 5)}
    for baseline, found in (("before", PASSED), ("later", FAILED), ("both", FAILED)):
        assert verdict(latency(max_ratio=1.2, baseline=baseline), seen, before=before, later=later) is found, baseline
    assert verdict(latency(max_ratio=1.2, baseline="both"), seen, before=before) is PASSED


def test_a_failed_absolute_limit_needs_no_baseline() -> None:
    assert verdict(latency(maximum=5, max_ratio=1.2), device(reports=reports(10, 10))) is FAILED


def test_ratios_of_nothing_and_less() -> None:
    zero, some = {"a": reports(0, 0)}, device(reports=reports(1, 1))
    assert verdict(latency(max_ratio=1.2), some, before=zero) is FAILED
    assert verdict(latency(max_ratio=1.2), device(reports=reports(0, 0)), before=zero) is PASSED
    assert verdict(latency(max_ratio=1.2), some, before={"a": reports(-1, -1)}) is UNKNOWN
    assert verdict(latency(max_drift=3), some, before={"a": reports(-1, -1)}) is PASSED


def test_a_device_cannot_shout_the_others_down() -> None:
    quiet = summarize("latency_ms", [5.0] * 1000)
    loud = replace(summarize("latency_ms", [1.0]), count=10**12)
    assert pooled("mean", [quiet, loud]) == 3.0
    assert pooled("max", [quiet, loud]) == 5.0
    assert pooled("min", [quiet, loud]) == 1.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_was_not_measured(value: float) -> None:
    nonsense = Summary(name="latency_ms", count=99, mean=1, min=1, max=1, p50=1, p95=value)
    seen = device(reports={NAME: Report(at_s=1, since_s=1, metrics=(nonsense,))})
    assert verdict(latency(maximum=5), seen) is UNKNOWN


def test_reading_gates() -> None:
    metric = {"component": NAME, "metric": "latency_ms", "value": "mean", "baseline": "both", "maxRatio": 1.2}
    read = gates(successShare=0.9, minDevices=3, maxErrored=1, deadlineSeconds=900, metrics=[{**metric, "minCount": 0}])
    assert read == Gates(
        success_share=0.9,
        min_devices=3,
        max_errored=1,
        deadline_s=900,
        metrics=(
            MetricGate(component=NAME, metric="latency_ms", value="mean", baseline="both", max_ratio=1.2, min_count=1),
        ),
    )
    assert gates() == Gates()


def test_when_what_is_not_known_has_failed() -> None:
    assert Gates().ends_s(60) == 60
    assert latency(maximum=1).ends_s(60) == 60 + GRACE_S
    assert Gates(deadline_s=90).ends_s(60) == 90
    assert Gates(deadline_s=30).ends_s(60) == 60


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{succesShare: 1}", r"rings.0.gates.succesShare is an unknown key \(line 3\)"),
        ("{successShare: 95}", "rings.0.gates.successShare is 95, not between 0 and 1"),
        ("{successShare: yes}", "rings.0.gates.successShare is not a number"),
        ("{successShare: .nan}", "gates"),
        ("{maxBroken: -1}", "rings.0.gates.maxBroken is not a whole number"),
        ("{metrics: {}}", "rings.0.gates.metrics is not a list"),
        ("{metrics: [1]}", "rings.0.gates.metrics.0 is not a mapping"),
        ("{metrics: [{metric: a, max: 1}]}", "rings.0.gates.metrics.0.component is missing"),
        ("{metrics: [{component: a, metric: a}]}", "rings.0.gates.metrics.0 has no limit"),
        ("{metrics: [{component: a, metric: a, max: 1, value: p99}]}", "metrics.0.value is p99, not p95, mean"),
        ("{metrics: [{component: a/b, metric: a, max: 1}]}", "metrics.0.component is no component's name"),
        ("{metrics: [{component: a, metric: a, maxRatio: -1}]}", "metrics.0.maxRatio is -1, not between 0 and inf"),
        ("{metrics: [{component: a, metric: a, max: 1, minReporting: 2}]}", "minReporting is 2, not between 0 and 1"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_key(written: str, message: str) -> None:
    text = f"target: thinggroup/a\ncomponents: {{}}\nrings: [{{name: canary, target: thinggroup/b, gates: {written}}}]"
    with pytest.raises(FleetError, match=rf"fleet.yaml: .*{message}"):
        parse_desired(text, file="fleet.yaml")

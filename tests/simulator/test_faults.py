"""Faults: how they are written, whom they hit; and when a device is connected."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.errors import FleetError
from monodon.simulator.faults import (
    KINDS,
    NEVER,
    Failure,
    Fault,
    Profile,
    Share,
    draw,
    read_duration,
    read_fault,
    read_span,
    unit,
)
from monodon.simulator.figures import read_metric, reports
from monodon.simulator.presence import Presence


@pytest.mark.parametrize(
    ("kind", "text", "profile"),
    [
        ("offline", "5%", Profile(away=(0.0, NEVER))),
        ("offline", "5%:10m", Profile(away=(0.0, 600.0))),
        ("offline", "5%:10m..2h", Profile(away=(600.0, 7200.0))),
        ("fail", "3%", Profile(failures=(Failure(),))),
        ("fail", "3%:DISK_SPACE_CRITICAL", Profile(failures=(Failure(code="DISK_SPACE_CRITICAL"),))),
        (
            "fail",
            "2:COMPONENT_BROKEN:com.example.Camera@2.0.0",
            Profile(failures=(Failure(component="com.example.Camera", version="2.0.0"),)),
        ),
        ("slow", "10%:30s", Profile(takes=(30.0, 30.0))),
        ("slow", "10%:10s..1d", Profile(takes=(10.0, 86_400.0))),
        ("flap", "1%", Profile(flaps_every=30.0)),
        ("flap", "1%:250ms", Profile(flaps_every=0.25)),
        ("reject", "1", Profile(rejects=True)),
        ("hang", "1", Profile(hangs=True)),
        ("duplicate", "1", Profile(duplicates=True)),
        ("disorder", "1", Profile(disorders=True)),
        ("garbage", "1", Profile(talks_garbage=True)),
    ],
)
def test_a_fault_is_a_share_and_how(kind: str, text: str, profile: Profile) -> None:
    assert read_fault(kind, text).apply(Profile()) == profile


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("nap", "5%"),
        ("offline", ""),
        ("offline", "101%"),
        ("offline", "-1"),
        ("offline", "5%:2h..10m"),
        ("offline", "nan%"),
        ("fail", "3%:oops"),
        ("slow", "3%:30 s"),
        ("slow", "3%:1e9s"),
        ("flap", "3%:0s"),
        ("hang", "3%:10s"),
    ],
)
def test_what_is_no_fault_is_refused_with_a_hint(kind: str, text: str) -> None:
    with pytest.raises(FleetError) as caught:
        read_fault(kind, text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "devices", "count"), [("5%", 100, 5), ("1%", 10, 1), ("0%", 10, 0), ("2.5%", 100, 3), ("7", 5, 5)]
)
def test_a_share_of_something_is_one_at_least(text: str, devices: int, count: int) -> None:
    assert Share.parse(text).of(devices) == count


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(), st.lists(st.sampled_from(KINDS), max_size=9))
def test_shares_are_kept_exactly_and_the_same_for_a_seed(devices: int, seed: int, kinds: list[str]) -> None:
    faults = [read_fault(kind, "10%") for kind in dict.fromkeys(kinds)]
    profiles = draw(faults, devices, seed)
    assert profiles == draw(faults, devices, seed)
    assert len(profiles) == devices
    taken: Counter[str] = Counter()
    for fault in faults:
        (name, value), *_ = fault.change.items()
        hit = sum(getattr(each, name) == value for each in profiles)
        assert hit == min(fault.share.of(devices), devices - taken[fault.family])
        taken[fault.family] += hit


def test_a_device_ends_a_deployment_in_one_way_alone() -> None:
    profiles = draw([read_fault("fail", "60%"), read_fault("reject", "60%"), read_fault("hang", "5%")], 100, 1)
    ends = Counter((bool(each.failures), each.rejects, each.hangs) for each in profiles)
    assert ends == {(True, False, False): 60, (False, True, False): 40}


def test_another_seed_hits_others() -> None:
    fault: list[Fault] = [read_fault("fail", "10%")]
    assert draw(fault, 1000, 1) != draw(fault, 1000, 2)
    assert 0 <= unit(1, "a") < 1
    assert unit(1, "a") != unit(2, "a")


def test_a_failure_names_its_component() -> None:
    roots = {"b": "1.0.0", "a": "2.0.0"}
    assert Failure().culprit(roots) == "a"
    assert Failure(component="b").culprit(roots) == "b"
    assert Failure(component="b", version="2.0.0").culprit(roots) is None
    assert Failure().culprit({}) == ""


def test_durations() -> None:
    assert [read_duration(text) for text in ("250ms", "30", "30s", "10m", "2h", "10d")] == [
        0.25,
        30.0,
        30.0,
        600.0,
        7200.0,
        864_000.0,
    ]
    assert read_span("0s..1m") == (0.0, 60.0)


def test_a_device_is_away_when_it_should_be() -> None:
    presence = Presence(Profile(away=(10.0, 20.0)), thing="a", seed=0, born=100.0)
    assert [presence.is_wanted(at) for at in (100.0, 109.9, 110.0, 119.9, 120.0)] == [True, True, False, False, True]
    assert [presence.next_at(at) for at in (100.0, 110.0, 120.0)] == [110.0, 120.0, NEVER]


def test_a_flapping_connection_ends_by_itself_and_comes_back() -> None:
    presence = Presence(Profile(flaps_every=10.0), thing="a", seed=0, born=0.0)
    presence.connected(0.0)
    cut = presence.next_at(0.0)
    assert 5.0 <= cut <= 15.0
    presence.look(cut)
    assert not presence.is_wanted(cut)
    assert presence.next_at(cut) == cut + 1.0
    assert presence.is_wanted(cut + 1.0)


@pytest.mark.parametrize("text", ["latency_ms", "=5", "x=a", "x=6..5", "x=nan", "x=1..inf", "x" * 33 + "=1"])
def test_what_is_no_metric_is_refused(text: str) -> None:
    with pytest.raises(FleetError, match="is no metric"):
        read_metric(text)


def test_the_most_particular_metric_holds() -> None:
    rules = [
        read_metric("latency_ms=50", "a@2.0.0"),
        read_metric("latency_ms=5..6"),
        read_metric("kept=1", "a"),
    ]

    def means(**roots: str) -> dict[str, dict[str, float]]:
        found = reports(rules, roots, key="k", since_s=0.0, now_s=60.0)
        return {component: {each.name: each.mean for each in report.metrics} for component, report in found}

    assert means(a="2.0.0") == {"a": {"latency_ms": 50.0, "kept": 1.0}}
    assert 5 <= means(a="1.0.0")["a"]["latency_ms"] <= 6
    assert means(b="2.0.0")["b"].keys() == {"latency_ms"}
    assert list(reports(rules[:1], {"b": "1.0.0"}, key="k", since_s=0.0, now_s=60.0)) == []

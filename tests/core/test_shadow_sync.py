"""What a device and the cloud are told to have the same shadow."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.core.shadow import Shadow, read_request, update
from monodon.core.shadow_sync import Direction, Pace, RateLimits, Side, Synced, SyncSettings, plan_sync

VALUES = st.recursive(
    st.booleans() | st.integers(-2, 2) | st.sampled_from(["a", "b"]) | st.lists(st.integers(0, 1), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=4,
)
STATES = st.fixed_dictionaries(
    {name: st.dictionaries(st.sampled_from("xyz"), VALUES, max_size=3) for name in ("desired", "reported")}
)
BOTH = Direction.BOTH


def side(desired: Any = None, reported: Any = None, version: int = 1) -> Side:
    return Side(version=version, state={"desired": desired or {}, "reported": reported or {}})


def synced(desired: Any = None, reported: Any = None) -> Synced:
    return Synced(local_version=1, cloud_version=1, state={"desired": desired or {}, "reported": reported or {}})


def applied(before: Any, change: Any) -> Any:
    """The state of a shadow after an update, as the device and the cloud do it."""
    shadow = None
    for sections in (before, change):
        shadow = update(shadow, read_request(json.dumps({"state": sections})), 0, limit_bytes=None).shadow
    assert shadow is not None
    return Side.of(shadow).state


@given(STATES, STATES, STATES, st.sampled_from(Direction))
def test_both_sides_become_the_same(local: Any, cloud: Any, base: Any, direction: Direction) -> None:
    plan = plan_sync(
        Side(version=1, state=local),
        Side(version=1, state=cloud),
        Synced(local_version=1, cloud_version=1, state=base),
        direction,
    )
    assert applied(local, plan.local) == applied(cloud, plan.cloud) == plan.state
    if direction is Direction.TO_CLOUD:
        assert plan.local == {}
    if direction is Direction.TO_DEVICE:
        assert plan.cloud == {}
    again = plan_sync(
        Side(version=2, state=plan.state or {}),
        Side(version=2, state=plan.state or {}),
        Synced(local_version=2, cloud_version=2, state=plan.state or {}),
        direction,
    )
    assert (again.local, again.cloud) == ({}, {})


def test_a_change_on_one_side_is_taken_over_by_the_other() -> None:
    base = {"a": {"x": 1, "y": 1}, "b": 1, "c": 1}
    plan = plan_sync(
        side({"a": {"x": 2, "y": 1}, "b": 1, "c": 1}), side({"a": {"x": 1, "y": 3}, "c": 1}), synced(base), BOTH
    )
    assert plan.local == {"desired": {"a": {"y": 3}, "b": None}}
    assert plan.cloud == {"desired": {"a": {"x": 2}}}


def test_of_changes_on_both_sides_the_device_reports_and_the_cloud_desires() -> None:
    plan = plan_sync(side({"k": 1}, {"k": 1}), side({"k": 2}, {"k": 2}), synced({"k": 0}, {"k": 0}), BOTH)
    assert plan.state == {"desired": {"k": 2}, "reported": {"k": 1}}
    gone = plan_sync(side({}, {}), side({"k": 2}, {"k": 2}), synced({"k": 0}, {"k": 0}), BOTH)
    assert gone.state == {"desired": {"k": 2}, "reported": {}}


def test_two_that_never_met_are_united() -> None:
    plan = plan_sync(side({"a": 1}, {"r": 1}), side({"b": 2}, {"r": 2}), None, BOTH)
    assert plan.state == {"desired": {"a": 1, "b": 2}, "reported": {"r": 1}}


@pytest.mark.parametrize(
    ("local", "cloud", "was_synced", "direction", "done"),
    [
        (True, False, False, BOTH, "cloud"),
        (True, False, True, BOTH, "deletes_local"),
        (True, False, True, Direction.TO_CLOUD, "cloud"),
        (True, False, True, Direction.TO_DEVICE, "deletes_local"),
        (True, False, False, Direction.TO_DEVICE, ""),
        (False, True, False, BOTH, "local"),
        (False, True, True, BOTH, "deletes_cloud"),
        (False, True, True, Direction.TO_DEVICE, "local"),
        (False, True, True, Direction.TO_CLOUD, "deletes_cloud"),
        (False, True, False, Direction.TO_CLOUD, ""),
        (False, False, True, BOTH, ""),
    ],
)
def test_one_that_is_missing_is_made_or_the_other_deleted(
    local: bool, cloud: bool, was_synced: bool, direction: Direction, done: str
) -> None:
    plan = plan_sync(
        side({"a": 1}) if local else None,
        side({"a": 1}) if cloud else None,
        synced({"a": 1}) if was_synced else None,
        direction,
    )
    steps = {name for name in ("local", "cloud", "deletes_local", "deletes_cloud") if getattr(plan, name)}
    assert steps == ({done} if done else set())


def test_settings_are_read_as_aws_writes_them() -> None:
    configuration = {
        "strategy": {"type": "periodic", "delay": 60},
        "synchronize": {
            "coreThing": {"classic": True, "namedShadows": ["core", "AWSManagedGreengrassV2Deployment"]},
            "shadowDocuments": [{"thingName": "one", "classic": False, "namedShadows": ["a", "b"]}],
            "shadowDocumentsMap": {"two": {"namedShadows": ["c"]}},
            "direction": "deviceToCloud",
        },
    }
    settings = SyncSettings.read(configuration, "core-thing")
    assert settings.shadows == {
        ("core-thing", ""),
        ("core-thing", "core"),
        ("one", "a"),
        ("one", "b"),
        ("two", ""),
        ("two", "c"),
    }
    assert (settings.direction, settings.period_s) == (Direction.TO_CLOUD, 60.0)
    assert len(settings.problems) == 1
    assert "AWSManagedGreengrassV2Deployment" in settings.problems[0]


@pytest.mark.parametrize("configuration", [None, {}, {"synchronize": {}}, {"strategy": {"type": "realTime"}}])
def test_without_a_word_nothing_is_synchronised(configuration: Any) -> None:
    assert SyncSettings.read(configuration, "t") == SyncSettings()


@pytest.mark.parametrize(
    "configuration",
    [
        {"synchronize": ["x"]},
        {"synchronize": {"coreThing": 1}},
        {"synchronize": {"coreThing": {"classic": False, "namedShadows": "x"}}},
        {"synchronize": {"shadowDocuments": {"x": 1}}},
        {"synchronize": {"shadowDocuments": [{"classic": True}]}},
        {"synchronize": {"shadowDocumentsMap": ["x"]}},
        {"synchronize": {"direction": "up"}},
        {"strategy": {"type": "sometimes"}},
        {"strategy": {"type": "periodic", "delay": 0}},
    ],
)
def test_what_is_not_understood_is_named(configuration: Any) -> None:
    settings = SyncSettings.read(configuration, "t")
    assert len(settings.problems) == 1
    assert settings.shadows == frozenset()


def test_records_and_documents_are_read_again() -> None:
    kept = synced({"a": 1}, {"b": [1]})
    assert Synced.from_record(kept.to_record()) == kept
    document = {"state": {"desired": {"a": 1}, "delta": {"a": 1}}, "metadata": {}, "version": 7}
    assert Side.of_document(document) == side({"a": 1}, version=7)
    assert Side.of(Shadow(version=7, timestamp_s=0)) == side(version=7)


def test_rates_are_read_as_aws_writes_them() -> None:
    configuration = {
        "rateLimits": {
            "maxOutboundSyncUpdatesPerSecond": 50,
            "maxTotalLocalRequestsRate": 100,
            "maxLocalRequestsPerSecondPerThing": 10,
        }
    }
    assert RateLimits.read(configuration) == RateLimits(outbound=50, in_all=100, of_a_thing=10)
    assert SyncSettings.read(configuration, "t").outbound_per_s == 50
    for nothing in (None, {}, {"rateLimits": {}}, {"rateLimits": None}):
        assert RateLimits.read(nothing) == RateLimits(outbound=100, in_all=200, of_a_thing=20)


@pytest.mark.parametrize("value", [0, -1, "100", True, None, float("inf"), float("nan"), []])
def test_what_is_no_rate_is_named_and_the_default_holds(value: Any) -> None:
    read = RateLimits.read({"rateLimits": {"maxOutboundSyncUpdatesPerSecond": value}})
    assert read.outbound == 100
    (problem,) = read.problems
    assert problem.startswith("rateLimits/maxOutboundSyncUpdatesPerSecond ")
    assert SyncSettings.read({"rateLimits": 5}, "t").problems == ("rateLimits must be a map",)


@given(st.integers(1, 50), st.lists(st.floats(0, 3), max_size=80))
def test_no_second_has_more_requests_than_twice_the_rate_and_none_waits_for_nothing(
    rate: int, pauses: list[float]
) -> None:
    """Twice: what was saved up, and what came in meanwhile."""
    pace, now, sent = Pace(), 0.0, []
    for pause in pauses:
        now += pause
        now += pace.take(rate, now)
        sent.append(now)
    for at in sent:
        assert sum(at <= other < at + 1 - 1e-6 for other in sent) <= 2 * rate
    assert now <= sum(pauses) + len(pauses) / rate + 1e-6


def test_a_pace_is_even_after_the_first_second() -> None:
    pace = Pace()
    assert [pace.take(4, 0.0) for _ in range(7)] == [0, 0, 0, 0, 0.25, 0.5, 0.75]
    assert pace.take(4, 1.0) == 0

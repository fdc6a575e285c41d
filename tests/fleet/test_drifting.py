"""What is called drift: tables over what a device reported and what its deployments say."""

import pytest

from monodon.fleet.drifting import Kind, Order, Reported, drift_of, fits

NOW = 1_800_000_000.0


def order(components: dict[str, str], execution: str = "SUCCEEDED", target: str = "thinggroup/drones") -> Order:
    return Order(target=target, deployment_id="d1", components=components, executions={"drone": execution})


def drift(reported: dict[str, Reported], *orders: Order) -> list[tuple[str, Kind, str, str, bool]]:
    found = drift_of("drone", NOW, reported, orders)
    return [(one.component, one.kind, one.wanted, one.found, one.is_pending) for one in found.deviations]


def test_a_device_that_runs_what_it_should_does_not_drift() -> None:
    reported = {"A": Reported(version="1.0.0", state="RUNNING"), "Dep": Reported(version="3.0.0", is_root=False)}
    assert not drift_of("drone", NOW, reported, [order({"A": "1.0.0"})]).differs


def test_missing_other_and_extra_components() -> None:
    reported = {"A": Reported(version="1.0.0"), "Z": Reported(version="9.0.0", source="LOCAL")}
    assert drift(reported, order({"A": "1.1.0", "B": "2.0.0"})) == [
        ("A", Kind.OTHER_VERSION, "1.1.0", "1.0.0", False),
        ("B", Kind.MISSING, "2.0.0", "", False),
        ("Z", Kind.EXTRA, "", "9.0.0", False),
    ]


@pytest.mark.parametrize(("execution", "pending"), [("QUEUED", True), ("IN_PROGRESS", True), ("FAILED", False)])
def test_what_a_deployment_under_way_will_mend_is_pending(execution: str, pending: bool) -> None:
    """An extra root too: the deployment takes it away, unless it was put there on the device itself."""
    reported = {"Old": Reported(version="1.0.0"), "Mine": Reported(version="1.0.0", source="LOCAL")}
    assert drift(reported, order({"A": "1.0.0"}, execution)) == [
        ("A", Kind.MISSING, "1.0.0", "", pending),
        ("Mine", Kind.EXTRA, "", "1.0.0", False),
        ("Old", Kind.EXTRA, "", "1.0.0", pending),
    ]


def test_all_groups_of_a_device_count() -> None:
    reported = {"A": Reported(version="1.0.0"), "B": Reported(version="1.0.0")}
    assert drift(reported, order({"A": "1.0.0"}), order({"B": "1.0.0"}, target="thing/drone")) == []


def test_a_broken_component_of_the_right_version_is_unwell() -> None:
    reported = {"A": Reported(version="1.0.0", state="BROKEN", details="exit 1")}
    found = drift_of("drone", NOW, reported, [order({"A": "1.0.0"})])
    assert [(one.kind, one.note, one.is_pending) for one in found.deviations] == [
        (Kind.UNWELL, "BROKEN: exit 1", False)
    ]


def test_a_device_that_never_reported_differs_in_itself() -> None:
    found = drift_of("drone", None, {}, [order({"A": "1.0.0"})])
    assert (found.differs, found.is_pending, found.deviations) == (True, False, ())


@pytest.mark.parametrize(
    ("wanted", "found", "answer"),
    [
        ("1.0.0", "1.0.0", True),
        (">=1.0.0 <2.0.0", "1.4.0", True),
        (">=1.0.0 <2.0.0", "2.0.0", False),
        ("1.0.0", "garbage", False),
        ("garbage", "garbage", True),
        ("gar bage !", "1.0.0", False),
    ],
)
def test_versions_and_ranges(wanted: str, found: str, answer: bool) -> None:
    assert fits(wanted, found) is answer

"""One cause and one next step: tables over what AWS knows."""

from dataclasses import replace
from typing import Any

import pytest

from monodon.fleet.clustering import Cluster
from monodon.fleet.diagnosing import (
    DeploymentFacts,
    DeviceFacts,
    Stand,
    Unwell,
    diagnose_deployment,
    diagnose_device,
)

NOW = 1_800_000_000.0
WELL = DeviceFacts(thing="drone", now_s=NOW, reported_s=NOW - 60, status="HEALTHY")


def stand(status: str, age_s: float = 3600.0, **members: Any) -> Stand:
    defaults = {"deployment_id": "d1", "target": "thinggroup/drones"}
    return Stand(status=status, modified_s=NOW - age_s, **(defaults | members))


DEVICES = [
    (replace(WELL, reported_s=None), "never reported", "doctor"),
    (
        replace(WELL, stands=(stand("FAILED", codes=("DEPLOYMENT_FAILURE", "COMPONENT_BROKEN"), reason="A broke"),)),
        "ended FAILED: a component failed three times (A broke)",
        "log",
    ),
    (replace(WELL, stands=(stand("FAILED", reason="odd"),)), "ended FAILED: odd", "nucleus's log"),
    (replace(WELL, stands=(stand("FAILED"),)), "the device gave no reason", "nucleus's log"),
    (
        replace(WELL, unwell=(Unwell(name="A", version="1.0.0", state="BROKEN", details="exit 3"),)),
        "A 1.0.0 is BROKEN: exit 3",
        "monodon logs A",
    ),
    (
        replace(WELL, unwell=(Unwell(name="A", version="1.0.0", state="ERRORED", codes=("STARTUP_TIMEOUT",)),)),
        "ERRORED: STARTUP_TIMEOUT",
        "raise Timeout",
    ),
    (replace(WELL, reported_s=NOW - 7200, stands=(stand("QUEUED"),)), "it is offline", "power and network"),
    (replace(WELL, stands=(stand("QUEUED"),)), "does not ask for", "restart its nucleus"),
    (replace(WELL, stands=(stand("QUEUED", 5),)), "was made 5 seconds ago", "wait"),
    (
        replace(WELL, stands=(stand("QUEUED"), stand("IN_PROGRESS", deployment_id="d2"))),
        "waits until deployment d2",
        "fleet why d2",
    ),
    (
        replace(WELL, runtime="aws_nucleus_lite", stands=(stand("QUEUED", target="thing/drone"),)),
        "lite takes no deployments of single things",
        "thing group",
    ),
    (replace(WELL, stands=(stand("IN_PROGRESS", 300),)), "under way since 5 minutes", "wait"),
    (replace(WELL, reported_s=NOW - 3 * 86_400), "silent for 3 days", "power and network"),
]


@pytest.mark.parametrize(("facts", "cause", "step"), DEVICES)
def test_why_a_device_is_as_it_is(facts: DeviceFacts, cause: str, step: str) -> None:
    found = diagnose_device(facts)
    assert cause in found.cause
    assert step in found.next_step
    assert not found.is_well


def test_a_device_with_which_nothing_is_wrong() -> None:
    found = diagnose_device(replace(WELL, stands=(stand("SUCCEEDED"), stand("CANCELED"))))
    assert (found.is_well, found.next_step) == (True, "")
    assert "HEALTHY, reported 60 seconds ago" in found.seen


def test_the_last_failure_is_told() -> None:
    found = diagnose_device(
        replace(WELL, stands=(stand("FAILED", 900, reason="old"), stand("FAILED", 9, reason="new")))
    )
    assert "new" in found.cause


def test_a_clock_that_was_put_back_makes_nothing_older() -> None:
    assert "0 seconds" in diagnose_device(replace(WELL, stands=(stand("IN_PROGRESS", -500),))).cause


CLUSTER = Cluster(code="COMPONENT_BROKEN", cause="it broke", fix="mend it", things=("a", "b"), example="exit 1")
FACTS = DeploymentFacts(
    deployment_id="d1", target="thinggroup/drones", status="ACTIVE", now_s=NOW, created_s=NOW - 3600, members=4
)
DEPLOYMENTS = [
    (replace(FACTS, status="CANCELED", clusters=(CLUSTER,)), "canceled, by somebody or by its abort", "mend it"),
    (replace(FACTS, status="CANCELED", stopped_because="JOB_ABORTED"), "canceled: JOB_ABORTED", "plan and deploy"),
    (replace(FACTS, clusters=(CLUSTER,)), "2 failed, it broke (exit 1): a, b", "mend it"),
    (replace(FACTS, clusters=(replace(CLUSTER, fix=""),)), "2 failed", "fleet why a"),
    (replace(FACTS, counts={"QUEUED": 4}, replaced_by="d2"), "replaced by d2", "fleet why d2"),
    (replace(FACTS, members=0), "has no devices", "provision"),
    (replace(FACTS, counts={"QUEUED": 3, "SUCCEEDED": 1}, silent=("a",)), "1 of 3 that wait have not", "come back"),
    (replace(FACTS, counts={"SUCCEEDED": 1}, rollout={"maximumPerMinute": 1}), "not reached 3 of 4", "rates"),
    (replace(FACTS, counts={"IN_PROGRESS": 1, "SUCCEEDED": 3}), "1 of 4 have not ended: 1 IN_PROGRESS", "why DEVICE"),
]


@pytest.mark.parametrize(("facts", "cause", "step"), DEPLOYMENTS)
def test_why_a_deployment_is_as_it_is(facts: DeploymentFacts, cause: str, step: str) -> None:
    found = diagnose_deployment(facts)
    assert cause in found.cause
    assert step in found.next_step
    assert not found.is_well


@pytest.mark.parametrize("counts", [{"SUCCEEDED": 4}, {"SUCCEEDED": 3, "REMOVED": 1}])
def test_a_deployment_that_ended_well(counts: dict[str, int]) -> None:
    assert diagnose_deployment(replace(FACTS, counts=counts)).is_well

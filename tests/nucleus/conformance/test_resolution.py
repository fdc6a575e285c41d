"""Cases 17 to 24: resolution to exact versions, by deployments to a device whose cloud is a folder."""

from typing import Any

from tests.nucleus.device import FOREVER, NOT_MET

from monodon.core.deployment import DetailedStatus


async def test_case_17_a_later_constraint_replaces_a_choice_and_its_tree(device: Any, cloud: Any) -> None:
    """Given: A→B1 `1.x`, B2; B1→C `>=1.0.0`, B2→C `>=2.0.0`

    Expect: C 2.0.0 and its tree only, nothing of C 1.0.0's
    """
    cloud.publish("A", "1.0.0", {}, needs={"B1": "1.x", "B2": "*"})
    cloud.publish("B1", "1.0.0", {}, needs={"C": ">=1.0.0"})
    cloud.publish("B2", "1.0.0", {}, needs={"C": ">=2.0.0"})
    cloud.publish("C", "1.0.0", {}, needs={"OnlyOfC1": "*"})
    cloud.publish("OnlyOfC1", "1.0.0", {})
    assert (await device.deploy({"B1": "1.0.0"})).has_succeeded
    assert device.installed() == {"B1": "1.0.0", "C": "1.0.0", "OnlyOfC1": "1.0.0"}
    cloud.publish("C", "2.0.0", {}, needs={"OnlyOfC2": "*"})
    cloud.publish("OnlyOfC2", "1.0.0", {})
    assert (await device.deploy({"A": "1.0.0"})).has_succeeded
    assert device.installed() == {
        "A": "1.0.0", "B1": "1.0.0", "B2": "1.0.0", "C": "2.0.0", "OnlyOfC2": "1.0.0",
    }  # fmt: skip


async def test_case_18_a_conflict_changes_nothing_and_names_both_sources(device: Any, cloud: Any) -> None:
    """Given: C wanted `<=1.1.0` by B1 and `>=1.2.0` by B2

    Expect: fails, no state change, names both sources
    """
    cloud.publish("B1", "1.0.0", {}, needs={"C": "<=1.1.0"})
    cloud.publish("B2", "1.0.0", {}, needs={"C": ">=1.2.0"})
    cloud.publish("C", "1.0.0", {})
    outcome = await device.deploy({"B1": "1.0.0", "B2": "1.0.0"})
    assert outcome.detailed is DetailedStatus.FAILED_NO_STATE_CHANGE
    assert outcome.error_stack == ("DEPLOYMENT_FAILURE", NOT_MET)
    assert "B1 1.0.0 needs <=1.1.0, B2 1.0.0 needs >=1.2.0" in outcome.cause
    assert "no usable version of C" in outcome.cause
    assert device.installed() == {}
    assert "\n" not in outcome.job_details()["deployment-failure-cause"]


async def test_case_19_a_circle_is_refused(device: Any, cloud: Any) -> None:
    """Given: A→B→A

    Expect: circular dependency failure
    """
    cloud.publish("A", "1.0.0", {}, needs={"B": "*"})
    cloud.publish("B", "1.0.0", {}, needs={"A": "*"})
    outcome = await device.deploy({"A": "1.0.0"})
    assert outcome.detailed is DetailedStatus.FAILED_NO_STATE_CHANGE
    assert outcome.error_stack == ("DEPLOYMENT_FAILURE", "COMPONENT_CIRCULAR_DEPENDENCY_ERROR")
    assert "A -> B -> A" in outcome.cause
    assert device.installed() == {}


async def test_case_20_another_groups_constraint_moves_a_version(device: Any, cloud: Any) -> None:
    """Given: B moves 1→2 by another group's constraint

    Expect: B 1's own dependencies disappear
    """
    device.uplink.groups = ("a", "z")
    cloud.publish("A", "1.0.0", {}, needs={"B": ">=1.0.0"})
    cloud.publish("Z", "1.0.0", {}, needs={"B": ">=2.0.0"})
    cloud.publish("B", "1.0.0", {}, needs={"OnlyOfB1": "*"})
    cloud.publish("OnlyOfB1", "1.0.0", {})
    assert (await device.deploy({"A": "1.0.0"}, group="a")).has_succeeded
    assert device.installed() == {"A": "1.0.0", "B": "1.0.0", "OnlyOfB1": "1.0.0"}
    cloud.publish("B", "2.0.0", {})
    assert (await device.deploy({"Z": "1.0.0"}, group="z")).has_succeeded
    assert device.installed() == {"A": "1.0.0", "B": "2.0.0", "Z": "1.0.0"}


async def test_case_21_two_groups_that_disagree(device: Any, cloud: Any) -> None:
    """Given: two groups naming the same root at incompatible versions

    Expect: second fails; after leaving the first group it succeeds
    """
    cloud.publish("A", "1.0.0", {"Run": FOREVER})
    cloud.publish("A", "2.0.0", {"Run": FOREVER})
    device.uplink.groups = ("first", "second")
    await device.deploy({"A": "1.0.0"}, group="first")
    failed = await device.deploy({"A": "2.0.0"}, group="second")
    assert failed.detailed is DetailedStatus.FAILED_NO_STATE_CHANGE
    assert NOT_MET in failed.error_stack
    device.uplink.groups = ("second",)
    assert (await device.deploy({"A": "2.0.0"}, group="second")).has_succeeded
    assert device.installed() == {"A": "2.0.0"}
    assert list(device.state.targets()) == ["thinggroup/second"]


async def test_case_22_a_running_version_that_fits_stays(device: Any, cloud: Any) -> None:
    """Given: running 1.0.0, store has 1.1.0, dependency `^1.0.0`

    Expect: stays 1.0.0
    """
    cloud.publish("A", "1.0.0", {}, needs={"B": "^1.0.0"})
    cloud.publish("B", "1.0.0", {})
    assert (await device.deploy({"A": "1.0.0"})).has_succeeded
    await device.idle()
    device.keep("B", "1.1.0", {})
    device.uplink.is_connected = device.uplink.is_configured = False
    assert (await device.deploy({"A": "1.0.0"})).has_succeeded
    assert device.installed() == {"A": "1.0.0", "B": "1.0.0"}


async def test_case_23_a_local_deployment_that_finds_all_here_asks_no_cloud(device: Any, cloud: Any) -> None:
    """Given: local deployment, range satisfied locally, cloud reachable

    Expect: cloud not asked
    """
    cloud.publish("A", "1.9.0", {})
    device.keep("A", "1.5.0", {})
    assert (await device.deploy_locally({"rootComponentVersionsToAdd": {"A": "^1.0.0"}})).has_succeeded
    assert device.installed() == {"A": "1.5.0"}
    assert device.uplink.asked == []


async def test_case_24_offline_with_nothing_here(device: Any, cloud: Any) -> None:
    """Given: offline, nothing local

    Expect: fails, COMPONENT_VERSION_REQUIREMENTS_NOT_MET

    Differs: only where no cloud is configured, or it refuses; while a configured cloud merely does not answer, the \
deployment waits for it, as AWS's device does (section 5.4, step 3).
    """
    device.uplink.is_connected = device.uplink.is_configured = False
    outcome = await device.deploy({"A": "1.0.0"})
    assert outcome.detailed is DetailedStatus.FAILED_NO_STATE_CHANGE
    assert outcome.error_stack == ("DEPLOYMENT_FAILURE", NOT_MET)
    assert outcome.error_types == ("REQUEST_ERROR",)

"""Deployments on a device with real processes: section 5 of the device notes and its conformance cases."""

import asyncio
import importlib.util
import io
import json
import os
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from monodon.core.deployment import DetailedStatus, Status
from monodon.core.lifecycle import State
from monodon.core.names import ComponentName
from monodon.nucleus.deployer import Hooks
from monodon.nucleus.uplink.protocol import Channel, DeploymentArrived, DeploymentCanceled


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("device_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


PROGRAM = Path(__file__).with_name("device.py")
bench: Any = load(PROGRAM)
Cloud = bench.Cloud

FOREVER = "exec sleep 1000"
#: Appends a word to a file of the device's folder at each start, install or stop.
SAY = 'echo "{}" >> "$OUT/said"; '


def said(root: Path) -> list[str]:
    path = root / "said"
    return path.read_text().split() if path.exists() else []


def running(word: str) -> dict[str, str]:
    return {
        "Install": SAY.format(f"install-{word}"),
        "Run": SAY.format(f"run-{word}") + FOREVER,
        "Shutdown": SAY.format(f"stop-{word}"),
    }


@pytest.fixture
def cloud(tmp_path: Path) -> Any:
    return Cloud(tmp_path / "cloud")


@pytest.fixture
async def device(tmp_path: Path, cloud: Any) -> AsyncIterator[Any]:
    async with bench.device(tmp_path / "root", cloud) as one:
        yield one


async def until_said(one: Any, word: str) -> None:
    async with asyncio.timeout(bench.DEADLINE_S):
        while word not in said(one.root.parent):
            await asyncio.sleep(0.01)


async def test_a_deployment_installs_starts_reports_and_is_remembered(device: Any, cloud: Any) -> None:
    cloud.publish("Base", "1.0.0", {"Startup": "true"}, artifacts={"data.bin": b"data"})
    cloud.publish("App", "1.2.0", running("app"), needs={"Base": "^1.0.0"}, configuration={"a": 1})
    outcome = await device.deploy({"App": "1.2.0"})
    assert outcome.detailed is DetailedStatus.SUCCESSFUL
    assert device.installed() == {"App": "1.2.0", "Base": "1.0.0"}
    assert device.states() == {"App": "RUNNING", "Base": "RUNNING"}
    assert device.configuration("App") == {"a": 1}
    assert device.state.roots("thinggroup/drones") == {"App": "1.2.0"}
    assert device.state.last_deployment("thinggroup/drones")["timestamp_ms"] == device.now_ms
    assert device.state.installed[ComponentName("App")].is_root
    assert not device.state.installed[ComponentName("Base")].is_root
    assert device.state.open_deployment is None
    assert (device.store.artifacts_path(ComponentName("Base"), device.state.installed["Base"].version)).is_dir()
    assert [each["status"] for each in cloud.reports()] == ["IN_PROGRESS", "SUCCEEDED"]


async def test_variables_see_configuration_artifacts_and_dependencies(device: Any, cloud: Any, tmp_path: Path) -> None:
    """Case 35, end to end: {B:configuration:/p} with B a dependency updated in the same deployment."""
    cloud.publish("B", "1.0.0", {}, configuration={"p": "old"}, artifacts={"x.txt": b"artifact"})
    cloud.publish(
        "A",
        "1.0.0",
        {"Run": 'cp {B:artifacts:path}/x.txt "$OUT/x"; echo {B:configuration:/p} {iot:thingName} > "$OUT/seen"'},
        needs={"B": "*"},
    )
    merge = {"version": "1.0.0", "configurationUpdate": {"merge": {"p": "new"}}}
    await device.deploy({"A": "1.0.0", "B": merge})
    async with asyncio.timeout(bench.DEADLINE_S):
        await device.supervisor.wait_until(lambda statuses: statuses["A"].state is State.FINISHED)
    assert (tmp_path / "seen").read_text() == "new drone-1\n"
    assert (tmp_path / "x").read_bytes() == b"artifact"


async def test_47_a_new_version_stops_by_the_old_shutdown_and_installs(device: Any, cloud: Any, tmp_path: Path) -> None:
    """Case 47: version change of a running one: old Shutdown script, reinstall."""
    cloud.publish("A", "1.0.0", running("one"))
    cloud.publish("A", "2.0.0", running("two"))
    await device.deploy({"A": "1.0.0"})
    await until_said(device, "run-one")
    await device.deploy({"A": "2.0.0"})
    await until_said(device, "run-two")
    assert said(tmp_path) == ["install-one", "run-one", "stop-one", "install-two", "run-two"]
    assert device.state.installed["A"].previous_version == device.store.versions(ComponentName("A"))[0]


async def test_48_what_restarts_a_component(device: Any, cloud: Any) -> None:
    """Case 48: Run text changes / Setenv changes / only configuration changes: restart / restart / nothing."""
    lifecycle = {"Setenv": {"COLOUR": "{configuration:/colour}"}, "Run": "echo {configuration:/word}; " + FOREVER}
    cloud.publish("A", "1.0.0", lifecycle, configuration={"word": "a", "colour": "red", "unused": 1})

    async def pid_after(**merge: object) -> list[int]:
        update = {"version": "1.0.0", "configurationUpdate": {"merge": merge}}
        outcome = await device.deploy({"A": update})
        assert outcome.has_succeeded
        pids: list[int] = device.pids("A")
        return pids

    first = await pid_after()
    assert await pid_after(unused=2) == first
    assert device.configuration("A") == {"word": "a", "colour": "red", "unused": 2}
    second = await pid_after(word="b")
    assert second != first
    assert await pid_after(colour="blue") != second


async def test_configuration_watchers_hear_of_a_deployment(device: Any, cloud: Any) -> None:
    cloud.publish("A", "1.0.0", {"Run": FOREVER}, configuration={"wanted": ["x"]})
    await device.deploy({"A": "1.0.0"})
    heard: list[object] = []
    device.state.watch_configuration(ComponentName("A"), heard.append)
    await device.deploy({"A": {"version": "1.0.0", "configurationUpdate": {"merge": {"wanted": ["y"]}}}})
    assert heard == [(("wanted",),)]


async def test_51_the_same_document_twice_restarts_nothing_and_is_quick(device: Any, cloud: Any) -> None:
    """Case 51."""
    for number in range(5):
        cloud.publish(f"A{number}", "1.0.0", {"Run": FOREVER}, artifacts={"data": bytes(1000)})
    roots = {f"A{number}": "1.0.0" for number in range(5)}
    await device.deploy(roots)
    before = {name: device.pids(name) for name in roots}
    downloaded = list(device.uplink.downloaded)
    started = time.perf_counter()
    progress = await device.ended(device.submit(device.document(roots)).deployment_id)
    took_s = time.perf_counter() - started
    assert progress.outcome.has_succeeded
    assert progress.unchanged_roots == tuple(roots)
    assert {name: device.pids(name) for name in roots} == before
    assert device.uplink.downloaded == downloaded
    assert took_s < 1


async def test_52_a_component_that_breaks_is_rolled_back(device: Any, cloud: Any, tmp_path: Path) -> None:
    """Case 52, ROLLBACK: the former set is back, FAILED_ROLLBACK_COMPLETE, and the reason is told."""
    cloud.publish("A", "1.0.0", running("one"), configuration={"k": "one"}, artifacts={"f": b"1"})
    cloud.publish("A", "2.0.0", running("two"), configuration={"k": "two", "new": 1})
    cloud.publish("Gone", "1.0.0", running("gone"))
    cloud.publish("Bad", "1.0.0", {"Startup": "echo no such camera >&2; exit 3"})
    await device.deploy({"A": {"version": "1.0.0", "configurationUpdate": {"merge": {"mine": 5}}}, "Gone": "1.0.0"})
    record = device.state.installed["A"].configuration
    outcome = await device.deploy({"A": "2.0.0", "Bad": "1.0.0"})
    assert outcome.status is Status.FAILED
    assert outcome.detailed is DetailedStatus.FAILED_ROLLBACK_COMPLETE
    assert outcome.error_stack == ("DEPLOYMENT_FAILURE", "COMPONENT_UPDATE_ERROR", "COMPONENT_BROKEN")
    assert outcome.error_types == ("COMPONENT_ERROR",)
    assert "Bad is BROKEN (STARTUP_ERROR)" in outcome.cause
    assert "3" in outcome.cause
    assert "no such camera" in outcome.cause
    assert device.installed() == {"A": "1.0.0", "Gone": "1.0.0"}
    assert device.states() == {"A": "RUNNING", "Gone": "RUNNING"}
    assert device.state.installed["A"].configuration == record
    assert device.state.roots("thinggroup/drones") == {"A": "1.0.0", "Gone": "1.0.0"}
    assert device.state.open_deployment is None
    assert "stop-gone" not in said(tmp_path)
    assert (await device.deploy({"A": "2.0.0"})).has_succeeded
    assert device.installed() == {"A": "2.0.0"}


async def test_a_component_that_exits_at_once_is_rolled_back(tmp_path: Path, cloud: Any) -> None:
    """Section 5.6: the device looks once a second, so a Run that fails three times by then has broken."""
    cloud.publish("A", "1.0.0", running("one"))
    cloud.publish("A", "2.0.0", running("two"))
    cloud.publish("Bad", "1.0.0", {"Run": "sleep 0.1; echo no such camera >&2; exit 3"})
    cloud.publish("Brief", "1.0.0", {"Run": "sleep 0.1"})
    async with bench.device(tmp_path / "root", cloud, steady_s=5.0) as device:
        assert (await device.deploy({"Brief": "1.0.0"})).has_succeeded
        assert device.states() == {"Brief": "FINISHED"}
    async with bench.device(tmp_path / "root", cloud, steady_s=0.5) as device:
        assert (await device.deploy({"A": "1.0.0"})).has_succeeded
        outcome = await device.deploy({"A": "2.0.0", "Bad": "1.0.0"})
        assert outcome.detailed is DetailedStatus.FAILED_ROLLBACK_COMPLETE
        assert "Bad is BROKEN (RUN_ERROR)" in outcome.cause
        assert "no such camera" in outcome.cause
        assert device.installed() == {"A": "1.0.0"}
        assert device.states() == {"A": "RUNNING"}


async def test_52_do_nothing_leaves_the_broken_component(device: Any, cloud: Any) -> None:
    """Case 52, DO_NOTHING: it stays BROKEN, FAILED_ROLLBACK_NOT_REQUESTED; rule F1: the roots are recorded."""
    cloud.publish("A", "1.0.0", running("one"))
    cloud.publish("Bad", "1.0.0", {"Run": "exit 1"})
    cloud.publish("Bad", "2.0.0", {"Run": FOREVER})
    await device.deploy({"A": "1.0.0"})
    outcome = await device.deploy({"A": "1.0.0", "Bad": "1.0.0"}, failureHandlingPolicy="DO_NOTHING")
    # A Run component is RUNNING as soon as its process exists; this one may crash before or after the end.
    if outcome.status is Status.FAILED:
        assert outcome.detailed is DetailedStatus.FAILED_ROLLBACK_NOT_REQUESTED
    assert device.installed() == {"A": "1.0.0", "Bad": "1.0.0"}
    assert device.state.roots("thinggroup/drones") == {"A": "1.0.0", "Bad": "1.0.0"}
    async with asyncio.timeout(bench.DEADLINE_S):
        await device.supervisor.wait_until(lambda statuses: statuses["Bad"].state is State.BROKEN)
    assert (await device.deploy({"A": "1.0.0", "Bad": "2.0.0"})).has_succeeded
    assert device.states() == {"A": "RUNNING", "Bad": "RUNNING"}


async def test_53_what_was_broken_before_does_not_hold_up_a_rollback(device: Any, cloud: Any) -> None:
    """Case 53: a component was BROKEN before, another breaks, ROLLBACK: completes, the old one may still be BROKEN."""
    cloud.publish("Old", "1.0.0", {"Startup": "exit 1"})
    cloud.publish("Needy", "1.0.0", {"Run": FOREVER}, needs={"Old": "*"})
    cloud.publish("Bad", "1.0.0", {"Startup": "exit 1"})
    first = await device.deploy({"Needy": "1.0.0"}, failureHandlingPolicy="DO_NOTHING")
    assert first.detailed is DetailedStatus.FAILED_ROLLBACK_NOT_REQUESTED
    outcome = await device.deploy({"Needy": "1.0.0", "Bad": "1.0.0"})
    assert outcome.detailed is DetailedStatus.FAILED_ROLLBACK_COMPLETE
    assert device.installed() == {"Needy": "1.0.0", "Old": "1.0.0"}


async def test_x5_a_broken_component_that_stays_is_installed_again(device: Any, cloud: Any, tmp_path: Path) -> None:
    """Rule X5: a deployment reinstalls what was BROKEN before it and stays."""
    cloud.publish("A", "1.0.0", {"Startup": 'test -e "$OUT/repaired"'})
    await device.deploy({"A": "1.0.0"}, failureHandlingPolicy="DO_NOTHING")
    assert device.states() == {"A": "BROKEN"}
    (tmp_path / "repaired").touch()
    assert (await device.deploy({"A": "1.0.0"})).has_succeeded
    assert device.states() == {"A": "RUNNING"}


async def test_54_a_component_defers_a_deployment(tmp_path: Path, cloud: Any) -> None:
    """Case 54: a deferral is waited for and asked again; with SKIP_NOTIFY nobody is asked."""
    answers, asked, told = [0.05, 0.01, 0.0], [], []

    async def ask(deployment_id: str, timeout_s: float) -> float:
        asked.append((deployment_id, timeout_s))
        return answers.pop(0)

    async def updated(deployment_id: str) -> None:
        told.append(deployment_id)

    async with bench.device(tmp_path / "root", cloud, hooks=Hooks(ask_update=ask, updated=updated)) as one:
        cloud.publish("A", "1.0.0", {})
        policy = {"timeout": 7, "action": "NOTIFY_COMPONENTS"}
        document = one.document({"A": "1.0.0"}, componentUpdatePolicy=policy)
        await one.ended(one.submit(document).deployment_id)
        assert asked == [(document["deploymentId"], 7.0)] * 3
        await one.deploy({"A": "1.0.0"})
        assert len(asked) == 3
        assert told == [document["deploymentId"]]


async def test_a_component_may_refuse_its_configuration(tmp_path: Path, cloud: Any) -> None:
    """Section 5.6: same version, configuration changed: asked; a refusal changes nothing."""
    asked = []

    async def validate(name: str, configuration: Any, deployment_id: str, timeout_s: float) -> str | None:
        asked.append((name, configuration, timeout_s))
        return "too hot" if configuration["heat"] > 9 else None

    async with bench.device(tmp_path / "root", cloud, hooks=Hooks(validate=validate)) as one:
        cloud.publish("A", "1.0.0", {"Run": FOREVER}, configuration={"heat": 1})
        await one.deploy({"A": "1.0.0"})
        assert asked == []
        policy = {"timeout": 3}
        hot = {"A": {"version": "1.0.0", "configurationUpdate": {"merge": {"heat": 10}}}}
        outcome = await one.deploy(hot, configurationValidationPolicy=policy)
        assert outcome.detailed is DetailedStatus.FAILED_NO_STATE_CHANGE
        assert outcome.error_stack[-1] == "COMPONENT_CONFIGURATION_NOT_VALID"
        assert "too hot" in outcome.cause
        assert one.configuration("A") == {"heat": 1}
        assert asked == [("A", {"heat": 10}, 3.0)]


async def test_55_artifacts_of_the_version_before_the_former_go(device: Any, cloud: Any) -> None:
    """Case 55: 1.0.0 → 2.0.0 → 3.0.0: artifacts of 1.0.0 gone, 2.0.0 kept."""
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        cloud.publish("A", version, {}, artifacts={"f": version.encode()})
        await device.deploy({"A": version})
    async with asyncio.timeout(bench.DEADLINE_S):
        while device.deployer.is_deploying:
            await asyncio.sleep(0.01)
    folder = device.store.artifacts_path(ComponentName("A"), device.state.installed["A"].version).parent
    assert sorted(path.name for path in folder.iterdir()) == ["2.0.0", "3.0.0"]


async def test_56_an_older_deployment_of_the_same_parent_is_rejected(device: Any, cloud: Any) -> None:
    """Case 56: subgroup deployments A2 then A1 (older): A1 REJECTED."""
    cloud.publish("A", "1.0.0", {})
    parent = "arn:aws:iot:eu-west-1:123456789012:thinggroup/fleet"
    older = device.document({"A": "1.0.0"}, group="sub1", parentTargetArn=parent)
    newer = device.document({"A": "1.0.0"}, group="sub2", parentTargetArn=parent)
    assert (await device.ended(device.submit(newer).deployment_id)).status is Status.SUCCEEDED
    progress = await device.ended(device.submit(older).deployment_id)
    assert progress.status is Status.REJECTED
    assert progress.outcome.error_stack == ("DEPLOYMENT_REJECTED", "REJECTED_STALE_DEPLOYMENT")
    assert cloud.reports()[-1]["status"] == "REJECTED"
    assert list(device.state.targets()) == ["thinggroup/fleet"]


async def test_57_a_local_deployment_offline_leaves_group_components(device: Any, cloud: Any, tmp_path: Path) -> None:
    """Case 57: local deployment offline on a device with group components: group components stay."""
    cloud.publish("Grouped", "1.0.0", {"Run": FOREVER})
    await device.deploy({"Grouped": "1.0.0"})
    device.uplink.is_connected = device.uplink.is_configured = False
    recipes, artifacts = tmp_path / "recipes", tmp_path / "artifacts/Mine/1.0.0"
    recipes.mkdir()
    artifacts.mkdir(parents=True)
    (artifacts / "main.sh").write_text(SAY.format("mine"))
    recipe = {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": "Mine",
        "ComponentVersion": "1.0.0",
        "Manifests": [
            {"Lifecycle": {"Run": ". {artifacts:path}/main.sh; " + FOREVER}, "Artifacts": [{"Uri": "s3://x/main.sh"}]}
        ],
    }
    (recipes / "mine.json").write_text(json.dumps(recipe))
    request = {
        "rootComponentVersionsToAdd": {"Mine": "^1.0.0"},
        "recipeDirectoryPath": str(recipes),
        "artifactsDirectoryPath": str(tmp_path / "artifacts"),
    }
    assert (await device.deploy_locally(request)).has_succeeded
    await until_said(device, "mine")
    assert device.states() == {"Grouped": "RUNNING", "Mine": "RUNNING"}
    assert device.state.roots("LOCAL_DEPLOYMENT") == {"Mine": "1.0.0"}
    # The same version with other bytes: the process is started again, which AWS's device would not do.
    (artifacts / "main.sh").write_text(SAY.format("changed"))
    assert (await device.deploy_locally(request)).has_succeeded
    await until_said(device, "changed")
    assert (await device.deploy_locally({"rootComponentsToRemove": ["Mine"]})).has_succeeded
    assert device.states() == {"Grouped": "RUNNING"}


async def test_a_locally_deployed_failure_is_the_users(device: Any, cloud: Any) -> None:
    device.uplink.is_configured = False
    outcome = await device.deploy_locally({"rootComponentVersionsToAdd": {"Nowhere": "1.0.0"}})
    assert outcome.error_stack == ("DEPLOYMENT_FAILURE", "COMPONENT_VERSION_REQUIREMENTS_NOT_MET")
    assert "no version of Nowhere fits: LOCAL_DEPLOYMENT needs 1.0.0" in outcome.cause
    assert "store has none" in outcome.cause


async def test_60_an_uninstall_that_fails_does_not_keep_a_component(device: Any, cloud: Any, tmp_path: Path) -> None:
    """Case 60: Uninstall script fails: component removed, deployment succeeds."""
    cloud.publish("A", "1.0.0", {"Run": FOREVER, "Uninstall": SAY.format("uninstalled") + "exit 1"})
    cloud.publish("B", "1.0.0", {"Run": FOREVER})
    await device.deploy({"A": "1.0.0", "B": "1.0.0"})
    assert (await device.deploy({"B": "1.0.0"})).has_succeeded
    assert device.states() == device_states(device, B="RUNNING")
    assert device.installed() == {"B": "1.0.0"}
    assert said(tmp_path) == ["uninstalled"]


def device_states(_: Any, **states: str) -> dict[str, str]:
    return states


async def test_18_a_conflict_changes_nothing(device: Any, cloud: Any) -> None:
    """Case 18, end to end: fails, no state change, names both sources."""
    cloud.publish("B1", "1.0.0", {}, needs={"C": "<=1.1.0"})
    cloud.publish("B2", "1.0.0", {}, needs={"C": ">=1.2.0"})
    cloud.publish("C", "1.0.0", {})
    outcome = await device.deploy({"B1": "1.0.0", "B2": "1.0.0"})
    assert outcome.detailed is DetailedStatus.FAILED_NO_STATE_CHANGE
    assert "B1 1.0.0 needs <=1.1.0, B2 1.0.0 needs >=1.2.0" in outcome.cause
    assert "no usable version of C" in outcome.cause
    assert device.installed() == {}
    assert "\n" not in outcome.job_details()["deployment-failure-cause"]


async def test_21_leaving_a_group_takes_effect_at_the_next_deployment(device: Any, cloud: Any) -> None:
    """Case 21 and rule F2: incompatible roots of two groups; after leaving the first, the second succeeds."""
    cloud.publish("A", "1.0.0", {"Run": FOREVER})
    cloud.publish("A", "2.0.0", {"Run": FOREVER})
    device.uplink.groups = ("first", "second")
    await device.deploy({"A": "1.0.0"}, group="first")
    failed = await device.deploy({"A": "2.0.0"}, group="second")
    assert failed.detailed is DetailedStatus.FAILED_NO_STATE_CHANGE
    device.uplink.groups = ("second",)
    assert (await device.deploy({"A": "2.0.0"}, group="second")).has_succeeded
    assert device.installed() == {"A": "2.0.0"}
    assert list(device.state.targets()) == ["thinggroup/second"]


async def test_several_groups_stack(device: Any, cloud: Any) -> None:
    cloud.publish("A", "1.0.0", {"Run": FOREVER})
    cloud.publish("B", "1.0.0", {"Run": FOREVER})
    device.uplink.groups = ("one", "two")
    await device.deploy({"A": "1.0.0"}, group="one")
    await device.deploy({"B": "1.0.0"}, group="two")
    assert device.installed() == {"A": "1.0.0", "B": "1.0.0"}
    await device.deploy({}, group="one")
    assert device.installed() == {"B": "1.0.0"}


async def test_24_a_cloud_that_is_away_is_waited_for_unless_the_store_has_it(device: Any, cloud: Any) -> None:
    """Section 5.4, step 3: on failure the candidate; without one the call is retried on network errors."""
    cloud.publish("A", "1.0.0", {})
    device.deployer._preparation.first_pause_s = 0.001
    device.uplink.failures = 3
    assert (await device.deploy({"A": "1.0.0"})).has_succeeded
    device.uplink.failures = 10**6
    assert (await device.deploy({"A": "1.0.0"})).has_succeeded


async def test_a_deployment_is_cancelled_while_it_is_prepared(device: Any, cloud: Any) -> None:
    """Rule Q5: works before the merge; a cancelled job reports nothing, a shadow CANCELED."""
    cloud.publish("A", "1.0.0", {})
    device.uplink.hold = asyncio.Event().wait
    for job, last in (("job", "IN_PROGRESS"), (None, "CANCELED")):
        document = device.document({"A": "1.0.0"})
        device.submit(document, job=job)
        await device.reached(document["deploymentId"], Status.IN_PROGRESS)
        assert device.deployer.cancel(document["deploymentId"])
        assert (await device.ended(document["deploymentId"])).status is Status.CANCELED
        assert cloud.reports()[-1]["status"] == last
    assert device.installed() == {}
    assert device.state.open_deployment is None
    assert not device.deployer.cancel("unknown")


async def test_59_a_newer_shadow_deployment_replaces_one_that_waits(device: Any, cloud: Any) -> None:
    """Case 59 and rules Q2 to Q4: shadow queued twice: only the newer runs; doubles of a job are dropped."""
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        cloud.publish("A", version, {"Run": FOREVER})
    cloud.publish("B", "1.0.0", {})
    gate = asyncio.Event()
    device.uplink.hold = gate.wait
    job = device.document({"B": "1.0.0"})
    device.submit(job)
    await device.reached(job["deploymentId"], Status.IN_PROGRESS)
    first = device.document({"A": "1.0.0"}, target="thing/drone-1")
    second = device.document({"A": "2.0.0"}, target="thing/drone-1")
    device.submit(first, job=None)
    device.submit(second, job=None)
    device.submit(job)
    assert not device.deployer.submit(bench.read_document(job))
    gate.set()
    await device.ended(second["deploymentId"])
    assert device.installed() == {"A": "2.0.0", "B": "1.0.0"}
    assert not [each for each in cloud.reports() if each["id"] == first["deploymentId"]]
    # Q4: a running shadow deployment gives way to another one.
    device.uplink.hold = asyncio.Event().wait
    third = device.document({"A": "1.0.0"}, target="thing/drone-1")
    device.submit(third, job=None)
    await device.reached(third["deploymentId"], Status.IN_PROGRESS)
    device.uplink.hold = None
    fourth = device.document({"A": "3.0.0"}, target="thing/drone-1")
    device.submit(fourth, job=None)
    assert (await device.ended(third["deploymentId"])).status is Status.CANCELED
    assert (await device.ended(fourth["deploymentId"])).status is Status.SUCCEEDED
    assert device.installed() == {"A": "3.0.0", "B": "1.0.0"}


async def test_arrivals_of_an_uplink_are_followed(device: Any, cloud: Any) -> None:
    cloud.publish("A", "1.0.0", {})
    device.uplink.hold = asyncio.Event().wait
    document = device.document({"A": "1.0.0"})
    deployment = bench.read_document(document)

    async def arrivals() -> AsyncIterator[Any]:
        yield DeploymentArrived(deployment=deployment, job_id="job")
        await device.reached(deployment.deployment_id, Status.IN_PROGRESS)
        yield DeploymentCanceled(channel=Channel.JOB, deployment_ids=(deployment.deployment_id,))

    await device.deployer.follow(arrivals())
    assert (await device.ended(deployment.deployment_id)).status is Status.CANCELED
    assert device.deployer.progress(deployment.deployment_id).status is Status.CANCELED


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"requiredCapabilities": ["TELEPORT"]}, "NUCLEUS_MISSING_REQUIRED_CAPABILITIES"),
        ({"requiredCapabilities": ["LARGE_CONFIGURATION"]}, "NUCLEUS_MISSING_REQUIRED_CAPABILITIES"),
        ({"components": {"Plugin": {"version": "1.0.0"}}}, "RECIPE_PARSE_ERROR"),
        ({"components": {"Booted": {"version": "1.0.0"}}}, "COMPONENT_BOOTSTRAP_ERROR"),
        ({"components": {"Broken": {"version": "1.0.0"}}}, "RECIPE_PARSE_ERROR"),
        (
            {"components": {"aws.greengrass.StreamManager": {"version": "2.1.0"}}},
            "COMPONENT_VERSION_REQUIREMENTS_NOT_MET",
        ),
    ],
)
async def test_what_cannot_be_deployed_changes_nothing(
    device: Any, cloud: Any, members: dict[str, Any], code: str
) -> None:
    cloud.publish("Plugin", "1.0.0", {}, kind="aws.greengrass.plugin")
    cloud.publish("Booted", "1.0.0", {"bootstrap": "true"})
    (cloud.folder / "recipes/Broken@1.0.0.json").write_text("{")
    outcome = await device.deploy(**{"components": {}, **members})
    assert outcome.detailed is DetailedStatus.FAILED_NO_STATE_CHANGE
    assert code in outcome.error_stack
    assert device.installed() == {}


async def test_a_pointer_without_a_slash_fails_without_a_detailed_status(device: Any, cloud: Any) -> None:
    """Rule I4."""
    cloud.publish("A", "1.0.0", {"Run": "echo {configuration:word}"})
    outcome = await device.deploy({"A": "1.0.0"})
    assert outcome.status is Status.FAILED
    assert outcome.error_stack == ("DEPLOYMENT_FAILURE",)
    assert device.installed() == {}


async def test_awss_own_components_need_no_artifact(device: Any) -> None:
    names = ["aws.greengrass.Nucleus", "aws.greengrass.Cli", "aws.greengrass.TokenExchangeService"]
    merge = {"configurationUpdate": {"merge": {"deploymentConfigurationTimeSource": "deploymentProcessingTime"}}}
    outcome = await device.deploy({name: {"version": "2.5.0", **merge} for name in names})
    assert outcome.has_succeeded
    assert device.states() == dict.fromkeys(names, "FINISHED")
    assert device.configuration(names[0]) == merge["configurationUpdate"]["merge"]
    assert device.uplink.asked == []


async def test_i9_configuration_is_interpolated_where_the_nucleus_says_so(device: Any, cloud: Any) -> None:
    """Cases 36 and 37: {artifacts:path} in a configuration becomes the path, {configuration:…} stays."""
    cloud.publish("A", "1.0.0", {}, configuration={"where": "{artifacts:path}", "b": "{configuration:/where}"})
    await device.deploy({"A": "1.0.0"})
    assert device.configuration("A") == {"where": "{artifacts:path}", "b": "{configuration:/where}"}
    setting = {"merge": {"interpolateComponentConfiguration": True}}
    await device.deploy({"A": "1.0.0", "aws.greengrass.Nucleus": {"version": "2.18.0", "configurationUpdate": setting}})
    path = str(device.store.artifacts_path(ComponentName("A"), device.state.installed["A"].version))
    assert device.configuration("A") == {"where": path, "b": "{configuration:/where}"}


async def test_a_tampered_artifact_changes_nothing(device: Any, cloud: Any) -> None:
    cloud.publish("A", "1.0.0", {}, artifacts={"f.bin": b"right"})
    (cloud.folder / "objects/A/1.0.0/f.bin").write_bytes(b"wrong")
    outcome = await device.deploy({"A": "1.0.0"})
    assert outcome.detailed is DetailedStatus.FAILED_NO_STATE_CHANGE
    assert outcome.error_stack == ("DEPLOYMENT_FAILURE", "ARTIFACT_CHECKSUM_MISMATCH")
    assert outcome.error_types == ("COMPONENT_RECIPE_ERROR",)


async def test_components_run_from_an_unpacked_zip(device: Any, cloud: Any, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("main.sh", SAY.format("unzipped"))
    run = {"Startup": "sh {artifacts:decompressedPath}/app/main.sh"}
    cloud.publish("A", "1.0.0", run, artifacts={"app.zip": buffer.getvalue()}, unarchive="ZIP")
    assert (await device.deploy({"A": "1.0.0"})).has_succeeded
    assert said(tmp_path) == ["unzipped"]


async def test_what_is_written_during_a_failed_deployment_to_others_stays(
    device: Any, cloud: Any, tmp_path: Path
) -> None:
    """Rolling back restores what the deployment configured; what it left alone keeps acknowledged writes."""
    cloud.publish("A", "1.0.0", {"Run": FOREVER}, configuration={"count": 0})
    cloud.publish("Bad", "1.0.0", {"Startup": 'while [ ! -e "$OUT/go" ]; do sleep 0.01; done; exit 1'})
    await device.deploy({"A": "1.0.0"})
    document = device.document({"A": "1.0.0", "Bad": "1.0.0"})
    device.submit(document)
    async with asyncio.timeout(bench.DEADLINE_S):
        await device.supervisor.wait_until(lambda statuses: "Bad" in statuses)
    device.state.update_configuration(ComponentName("A"), (), {"count": 7}, device.now_ms + 5)
    (tmp_path / "go").touch()
    outcome = (await device.ended(document["deploymentId"])).outcome
    assert outcome.detailed is DetailedStatus.FAILED_ROLLBACK_COMPLETE
    assert device.configuration("A") == {"count": 7}


async def test_a_nucleus_that_stops_in_the_middle_goes_on(tmp_path: Path, cloud: Any) -> None:
    """Section 5.7: an interrupted deployment is not rolled back; it is finished at the next start."""
    cloud.publish("A", "1.0.0", {"Startup": 'while [ ! -e "$OUT/go" ]; do sleep 0.01; done'})
    async with bench.device(tmp_path / "root", cloud) as one:
        document = one.document({"A": "1.0.0"})
        one.submit(document)
        async with asyncio.timeout(bench.DEADLINE_S):
            await one.supervisor.wait_until(lambda statuses: "A" in statuses)
    (tmp_path / "go").touch()
    async with bench.device(tmp_path / "root", cloud) as again:
        progress = await again.ended(document["deploymentId"])
        assert progress.status is Status.SUCCEEDED
        assert again.state.roots("thinggroup/drones") == {"A": "1.0.0"}
    assert [each["status"] for each in cloud.reports()] == ["IN_PROGRESS", "SUCCEEDED"]


async def test_a_local_deployment_that_was_cut_short_has_failed(tmp_path: Path, cloud: Any) -> None:
    """Section 5.9 (choice)."""
    cloud.publish("A", "1.0.0", {})
    async with bench.device(tmp_path / "root", cloud) as one:
        one.uplink.hold = asyncio.Event().wait
        deployment = bench.read_local(
            {"rootComponentVersionsToAdd": {"A": "1.0.0"}}, deployment_id="mine", timestamp_ms=5
        )
        one.deployer.submit(deployment)
        await one.reached("mine", Status.IN_PROGRESS)
    async with bench.device(tmp_path / "root", cloud) as again:
        progress = await again.ended("mine")
        assert progress.outcome.error_stack == ("DEPLOYMENT_FAILURE", "DEPLOYMENT_INTERRUPTED")
        assert again.installed() == {}


async def run_program(tmp_path: Path, *arguments: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), str(tmp_path / "root"), str(tmp_path / "cloud"), *arguments,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "sdk")},
    )  # fmt: skip
    async with asyncio.timeout(2 * bench.DEADLINE_S):
        return await process.wait()


OLD = {"installed": {"A": "1.0.0", "Gone": "1.0.0"}, "configuration": {"A": {"k": 1, "mine": 5}, "Gone": {}}}
NEW = {"installed": {"A": "2.0.0", "B": "1.0.0"}, "configuration": {"A": {"k": 1, "mine": 6, "fresh": 2}, "B": {}}}


async def prepared(tmp_path: Path, *, is_bad: bool = False) -> None:
    """A device with a former set, and a job for a new one of three changing components."""
    cloud = Cloud(tmp_path / "cloud")
    cloud.publish("A", "1.0.0", running("one"), configuration={"k": 1}, artifacts={"f": b"one"})
    cloud.publish("A", "2.0.0", running("two"), configuration={"k": 2, "fresh": 2}, artifacts={"f": b"two"})
    cloud.publish("Gone", "1.0.0", running("gone"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("main.sh", "true")
    startup = "exit 1" if is_bad else "sh {artifacts:decompressedPath}/b/main.sh"
    cloud.publish("B", "1.0.0", {"Startup": startup}, artifacts={"b.zip": buffer.getvalue()}, unarchive="ZIP")
    async with bench.device(tmp_path / "root", cloud) as one:
        mine = {"version": "1.0.0", "configurationUpdate": {"merge": {"mine": 5}}}
        assert (await one.deploy({"A": mine, "Gone": "1.0.0"})).has_succeeded
        job = one.document({"A": {"version": "2.0.0", "configurationUpdate": {"merge": {"mine": 6}}}, "B": "1.0.0"})
    (cloud.folder / "reports").unlink()
    (cloud.folder / "job.json").write_text(json.dumps(job))


@pytest.mark.slow
@pytest.mark.parametrize("is_bad", [False, True], ids=["good", "bad"])
async def test_a_kill_at_any_named_point_leaves_the_old_or_the_new_set(tmp_path: Path, is_bad: bool) -> None:
    """SIGKILL at each named point of a deployment; after a restart the device is wholly at one set, and says so."""
    await prepared(tmp_path / "all", is_bad=is_bad)
    shutil.copytree(tmp_path / "all", tmp_path / "before")
    assert await run_program(tmp_path / "all") == 0
    points = json.loads((tmp_path / "all/result.json").read_text())["points"]
    distinct = [(point, points[: index + 1].count(point)) for index, point in enumerate(points)]
    limit = asyncio.Semaphore(2)

    async def killed(point: str, number: int) -> str:
        folder = tmp_path / f"{number} {point}".replace(" ", "-")
        async with limit:
            shutil.copytree(tmp_path / "before", folder)
            assert await run_program(folder, point, str(number)) == -signal.SIGKILL, (point, number)
            assert await run_program(folder) == 0, (point, number)
        result = json.loads((folder / "result.json").read_text())
        wanted = OLD if is_bad else NEW
        assert {key: result[key] for key in wanted} == wanted, (point, number)
        assert set(result["states"].values()) == {"RUNNING"}, (point, number)
        assert result["open"] is None
        assert result["roots"] == {"thinggroup/drones": {"A": "1.0.0", "Gone": "1.0.0"} if is_bad else NEW["installed"]}
        final = [each for each in Cloud(folder / "cloud").reports() if each["status"] != "IN_PROGRESS"]
        assert {each["detailed"] for each in final} == {"FAILED_ROLLBACK_COMPLETE" if is_bad else "SUCCESSFUL"}
        return point

    async with asyncio.TaskGroup() as tasks:
        done = [tasks.create_task(killed(point, number)) for point, number in dict.fromkeys(distinct)]
    assert len(done) > 20

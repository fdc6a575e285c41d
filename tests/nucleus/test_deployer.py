"""Deployments on a device with real processes: section 5 of the device notes and its conformance cases."""

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.nucleus import device as bench
from tests.nucleus.device import FOREVER, SAY, running, said

from monodon.core.deployment import DetailedStatus, Status
from monodon.core.lifecycle import State
from monodon.core.names import ComponentName
from monodon.nucleus.hooks import Hooks
from monodon.nucleus.uplink.protocol import Channel, DeploymentArrived, DeploymentCanceled

PROGRAM = Path(bench.__file__)


Cloud = bench.Cloud


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


async def test_configuration_watchers_hear_of_a_deployment(device: Any, cloud: Any) -> None:
    cloud.publish("A", "1.0.0", {"Run": FOREVER}, configuration={"wanted": ["x"]})
    await device.deploy({"A": "1.0.0"})
    heard: list[object] = []
    device.state.watch_configuration(ComponentName("A"), heard.append)
    await device.deploy({"A": {"version": "1.0.0", "configurationUpdate": {"merge": {"wanted": ["y"]}}}})
    assert heard == [(("wanted",),)]


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


async def test_x5_a_broken_component_that_stays_is_installed_again(device: Any, cloud: Any, tmp_path: Path) -> None:
    """Rule X5: a deployment reinstalls what was BROKEN before it and stays."""
    cloud.publish("A", "1.0.0", {"Startup": 'test -e "$OUT/repaired"'})
    await device.deploy({"A": "1.0.0"}, failureHandlingPolicy="DO_NOTHING")
    assert device.states() == {"A": "BROKEN"}
    (tmp_path / "repaired").touch()
    assert (await device.deploy({"A": "1.0.0"})).has_succeeded
    assert device.states() == {"A": "RUNNING"}


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


async def test_a_locally_deployed_failure_is_the_users(device: Any, cloud: Any) -> None:
    device.uplink.is_configured = False
    outcome = await device.deploy_locally({"rootComponentVersionsToAdd": {"Nowhere": "1.0.0"}})
    assert outcome.error_stack == ("DEPLOYMENT_FAILURE", "COMPONENT_VERSION_REQUIREMENTS_NOT_MET")
    assert "no version of Nowhere fits: LOCAL_DEPLOYMENT needs 1.0.0" in outcome.cause
    assert "store has none" in outcome.cause


async def test_several_groups_stack(device: Any, cloud: Any) -> None:
    cloud.publish("A", "1.0.0", {"Run": FOREVER})
    cloud.publish("B", "1.0.0", {"Run": FOREVER})
    device.uplink.groups = ("one", "two")
    await device.deploy({"A": "1.0.0"}, group="one")
    await device.deploy({"B": "1.0.0"}, group="two")
    assert device.installed() == {"A": "1.0.0", "B": "1.0.0"}
    await device.deploy({}, group="one")
    assert device.installed() == {"B": "1.0.0"}


async def test_leaving_a_group_takes_effect_with_the_next_deployment(device: Any, cloud: Any) -> None:
    """Rule F2; rule F1: the group that was left is forgotten."""
    cloud.publish("A", "1.0.0", {"Run": FOREVER})
    cloud.publish("B", "1.0.0", {"Run": FOREVER})
    device.uplink.groups = ("one", "two")
    await device.deploy({"A": "1.0.0"}, group="one")
    await device.deploy({"B": "1.0.0"}, group="two")
    device.uplink.groups = ("two",)
    assert device.states() == {"A": "RUNNING", "B": "RUNNING"}
    await device.deploy({"B": "1.0.0"}, group="two")
    assert device.states() == {"B": "RUNNING"}
    assert set(device.state.targets()) == {"thinggroup/two"}


async def test_the_same_version_again_becomes_the_former_one(device: Any, cloud: Any) -> None:
    """Rule F4, a slip in AWS's device: the artifacts of what ran before go at that cleanup."""
    for version in ("1.0.0", "2.0.0"):
        cloud.publish("A", version, {}, artifacts={"f": version.encode()})
        await device.deploy({"A": version})
    await device.deploy({"A": "2.0.0"})
    await device.idle()
    installed = device.state.installed[ComponentName("A")]
    assert installed.previous_version == installed.version
    folder = device.store.artifacts_path(ComponentName("A"), installed.version).parent
    assert [path.name for path in folder.iterdir()] == ["2.0.0"]


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
        ({"requiredCapabilities": ["LARGE_CONFIGURATION"]}, "GET_DEPLOYMENT_CONFIGURATION_ACCESS_DENIED"),
        ({"components": {"Plugin": {"version": "1.0.0"}}}, "RECIPE_PARSE_ERROR"),
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
    (cloud.folder / "recipes/Broken@1.0.0.json").write_text("{")
    outcome = await device.deploy(**{"components": {}, **members})
    assert outcome.detailed is DetailedStatus.FAILED_NO_STATE_CHANGE
    assert code in outcome.error_stack
    assert device.installed() == {}


async def test_the_configuration_of_a_large_document_is_fetched(device: Any, cloud: Any) -> None:
    cloud.publish("A", "1.0.0", {"Run": FOREVER}, configuration={"a": 1})
    short = device.document({"A": "1.0.0"}, requiredCapabilities=["LARGE_CONFIGURATION"])
    update = {"version": "1.0.0", "configurationUpdate": {"merge": {"a": 2, "long": "x" * 100_000}}}
    whole = {**short, "components": {"A": update}}
    (cloud.folder / f"{short['deploymentId'].replace('/', '+')}.json").write_text(json.dumps(whole))
    assert (await device.ended(device.submit(short).deployment_id)).outcome.has_succeeded
    assert device.configuration("A") == {"a": 2, "long": "x" * 100_000}


async def test_a_pointer_without_a_slash_fails_without_a_detailed_status(device: Any, cloud: Any) -> None:
    """Rule I4."""
    cloud.publish("A", "1.0.0", {"Run": "echo {configuration:word}"})
    outcome = await device.deploy({"A": "1.0.0"})
    assert outcome.status is Status.FAILED
    assert outcome.error_stack == ("DEPLOYMENT_FAILURE",)
    assert outcome.detailed is None
    assert "write {configuration:/word}" in outcome.cause
    assert device.installed() == {}


async def test_a_deployment_that_does_not_name_the_nucleus_leaves_it_configured(device: Any, cloud: Any) -> None:
    """Source: ``KernelConfigResolver.java``, ``getNucleusComponentConfig``."""
    cloud.publish("A", "1.0.0", {"Run": FOREVER})
    merge = {"logging": {"level": "DEBUG"}}
    nucleus = {"version": "2.18.0", "configurationUpdate": {"merge": merge}}
    assert (await device.deploy({"A": "1.0.0", "aws.greengrass.Nucleus": nucleus})).has_succeeded
    for components in ({"A": "1.0.0"}, {}):
        assert (await device.deploy(components)).has_succeeded
        assert device.configuration("aws.greengrass.Nucleus") == merge
        assert set(device.installed()) == {*components, "aws.greengrass.Nucleus"}
        assert not device.state.installed["aws.greengrass.Nucleus"].is_root


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


async def test_a_deployment_may_have_a_time_and_says_who_is_awaited(tmp_path: Path, cloud: Any) -> None:
    """The nucleus's setting deploymentTimeoutSeconds; AWS's device waits without end. Going back has its own time."""
    cloud.publish("Good", "1.0.0", {"Run": FOREVER})
    cloud.publish("Slow", "1.0.0", {"Startup": FOREVER})
    cloud.publish("Needy", "1.0.0", {"Run": FOREVER}, needs={"Slow": "*"})
    limits = [None, 0.5]
    async with bench.device(tmp_path / "root", cloud, timeout_s=lambda: limits.pop(0)) as one:
        assert (await one.deploy({"Good": "1.0.0"})).has_succeeded
        outcome = await one.deploy({"Good": "1.0.0", "Needy": "1.0.0"})
        assert outcome.detailed is DetailedStatus.FAILED_ROLLBACK_COMPLETE
        assert "it still waits for Needy (INSTALLED), Slow (STARTING)" in outcome.cause
        assert one.states() == {"Good": "RUNNING"}


async def test_local_deployments_are_known_after_a_restart(tmp_path: Path, cloud: Any) -> None:
    """Section 5.9: who was given an id learns what became of it; what had not begun has failed."""
    root = tmp_path / "root"
    root.mkdir()
    async with bench.device(root, cloud) as stopped:
        await stopped.deploy_locally({})
        await stopped.deploy_locally({"rootComponentVersionsToAdd": {"nowhere": "1.0.0"}})
        for name in ("waits", "waits-too"):  # nothing is awaited: neither begins before the device stops
            stopped.deployer.submit(bench.read_local({}, deployment_id=name, timestamp_ms=stopped.now_ms))
        before = stopped.deployer.deployments()
    for _ in range(2):
        async with bench.device(root, cloud) as again:
            found = {one.deployment.deployment_id: one for one in again.deployer.deployments()}
            assert list(found) == [one.deployment.deployment_id for one in before]
            assert [str(one.status) for one in found.values()] == ["SUCCEEDED", "FAILED", "FAILED", "FAILED"]
            assert [one.outcome for one in found.values()][:2] == [one.outcome for one in before][:2]
            for name in ("waits", "waits-too"):
                outcome = found[name].outcome
                assert outcome is not None
                assert outcome.error_stack[-1] == "DEPLOYMENT_INTERRUPTED"


async def test_a_local_deployment_may_say_how_long_it_may_take(device: Any, cloud: Any) -> None:
    """The time counts from the beginning: what is not ready to be applied in it changes nothing."""
    cloud.publish("A", "1.0.0", {"Startup": FOREVER})
    cloud.publish("B", "1.0.0", {})
    said = {"monodon.Deployment": {"MERGE": {"timeoutSeconds": 0.3}}}
    request = {"rootComponentVersionsToAdd": {"A": "1.0.0"}, "componentToConfiguration": said}
    outcome = await device.deploy_locally({**request, "failureHandlingPolicy": "ROLLBACK"})
    assert outcome.detailed is DetailedStatus.FAILED_ROLLBACK_COMPLETE
    assert "time is over; it still waits for A (STARTING)" in outcome.cause
    device.uplink.hold = asyncio.Event().wait
    outcome = await device.deploy_locally({**request, "rootComponentVersionsToAdd": {"B": "1.0.0"}})
    assert outcome.detailed is DetailedStatus.FAILED_NO_STATE_CHANGE
    assert "the deployment's 0.3 s are over" in outcome.cause
    device.uplink.hold = None
    assert (await device.deploy_locally({"rootComponentVersionsToAdd": {"B": "1.0.0"}})).has_succeeded


async def test_who_is_awaited_is_told_while_a_deployment_goes_on(device: Any, cloud: Any) -> None:
    cloud.publish("Slow", "1.0.0", {"Startup": 'while [ ! -e "$OUT/go" ]; do sleep 0.02; done'})
    cloud.publish("Needy", "1.0.0", {"Run": FOREVER}, needs={"Slow": "*"})
    deployment = device.submit(device.document({"Needy": "1.0.0"}))
    await device.until(lambda statuses: "Slow" in statuses and statuses["Slow"].state is State.STARTING)
    await device.until(lambda statuses: statuses["Needy"].state is State.INSTALLED)
    told = device.deployer.progress(deployment.deployment_id).awaited
    assert told == "Needy (INSTALLED), Slow (STARTING)"
    (device.root.parent / "go").touch()
    assert (await device.ended(deployment.deployment_id)).outcome.has_succeeded
    assert device.deployer.progress(deployment.deployment_id).awaited == ""

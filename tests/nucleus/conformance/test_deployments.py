"""Cases 51 to 60: deployments to a device with real processes."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.nucleus.device import DEADLINE_S, FOREVER, SAY, running, said, through_restarts
from tests.nucleus.device import device as running_device

from monodon.core.deployment import DetailedStatus, Status, read_document
from monodon.core.lifecycle import State
from monodon.core.names import ComponentName
from monodon.core.recipe.reading import parse_recipe
from monodon.nucleus.nucleus import running as nucleus_running


async def test_case_51_the_same_document_twice_restarts_nothing(device: Any, cloud: Any) -> None:
    """Given: same document twice

    Expect: no restart
    """
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


async def test_case_52_a_new_component_that_breaks(device: Any, cloud: Any, tmp_path: Path) -> None:
    """Given: new component breaks: ROLLBACK / DO_NOTHING

    Expect: former set back, FAILED_ROLLBACK_COMPLETE / stays BROKEN, FAILED_ROLLBACK_NOT_REQUESTED
    """
    cloud.publish("A", "1.0.0", running("one"), configuration={"k": "one"}, artifacts={"f": b"1"})
    cloud.publish("A", "2.0.0", running("two"), configuration={"k": "two", "new": 1})
    cloud.publish("Gone", "1.0.0", running("gone"))
    cloud.publish("Bad", "2.0.0", {"Run": FOREVER})
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
    # DO_NOTHING; rule F1: its roots are recorded.
    outcome = await device.deploy({"A": "2.0.0", "Bad": "1.0.0"}, failureHandlingPolicy="DO_NOTHING")
    assert outcome.detailed is DetailedStatus.FAILED_ROLLBACK_NOT_REQUESTED
    assert device.installed() == {"A": "2.0.0", "Bad": "1.0.0"}
    assert device.state.roots("thinggroup/drones") == {"A": "2.0.0", "Bad": "1.0.0"}
    async with asyncio.timeout(DEADLINE_S):
        await device.supervisor.wait_until(lambda statuses: statuses["Bad"].state is State.BROKEN)
    assert (await device.deploy({"A": "2.0.0", "Bad": "2.0.0"})).has_succeeded
    assert device.states() == {"A": "RUNNING", "Bad": "RUNNING"}


async def test_case_53_what_was_broken_before_does_not_hold_up_a_rollback(device: Any, cloud: Any) -> None:
    """Given: component was BROKEN before, another breaks, ROLLBACK

    Expect: completes, old one may still be BROKEN
    """
    cloud.publish("Old", "1.0.0", {"Startup": "exit 1"})
    cloud.publish("Needy", "1.0.0", {"Run": FOREVER}, needs={"Old": "*"})
    cloud.publish("Bad", "1.0.0", {"Startup": "exit 1"})
    first = await device.deploy({"Needy": "1.0.0"}, failureHandlingPolicy="DO_NOTHING")
    assert first.detailed is DetailedStatus.FAILED_ROLLBACK_NOT_REQUESTED
    outcome = await device.deploy({"Needy": "1.0.0", "Bad": "1.0.0"})
    assert outcome.detailed is DetailedStatus.FAILED_ROLLBACK_COMPLETE
    assert device.installed() == {"Needy": "1.0.0", "Old": "1.0.0"}


#: A component on AWS's SDK that has a deployment wait for half a second, once.
BUSY = """
import time
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

client, heard = GreengrassCoreIPCClientV2(), []
def on_event(event):
    before = event.pre_update_event
    if before is not None:
        heard.append(before.deployment_id)
        open("heard", "a").write(before.deployment_id + "\\n")
        client.defer_component_update(deployment_id=before.deployment_id, recheck_after_ms=0 if heard[1:] else 500)
client.subscribe_to_component_updates(on_stream_event=on_event, on_stream_error=print, on_stream_closed=print)
client.update_state(state="RUNNING")
time.sleep(100)
"""


async def test_case_54_a_component_defers_its_update(tmp_path: Path, cloud: Any) -> None:
    """Given: component defers its update 5 s

    Expect: deployment waits 5 s; with SKIP_NOTIFY not
    """
    (tmp_path / "busy.py").write_text(BUSY)
    recipe = {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": "Busy",
        "ComponentVersion": "1.0.0",
        "Manifests": [{"Lifecycle": {"Startup": {"Script": f"exec {sys.executable} {tmp_path}/busy.py"}}}],
    }
    async with nucleus_running(tmp_path / "root") as nucleus:
        nucleus.store.put_recipe(parse_recipe(json.dumps(recipe).encode(), file="busy.json"), None)

        async def deploy(number: int, action: str) -> float:
            document = {
                "deploymentId": f"d{number}",
                "creationTimestamp": time.time_ns() // 1_000_000,
                "components": {"Busy": {"version": "1.0.0", "configurationUpdate": {"merge": {"n": number}}}},
                "componentUpdatePolicy": {"timeout": 10, "action": action},
            }
            started = time.perf_counter()
            nucleus.deployer.submit(read_document(document))
            async with asyncio.timeout(DEADLINE_S):
                while (progress := nucleus.deployer.progress(f"d{number}")).status is not Status.SUCCEEDED:
                    assert progress.outcome is None
                    awaited.append(progress.awaited)
                    await asyncio.sleep(0.01)
            return time.perf_counter() - started

        awaited: list[str] = []
        heard = tmp_path / "root/work/Busy/heard"
        await deploy(1, "NOTIFY_COMPONENTS")
        assert await deploy(2, "NOTIFY_COMPONENTS") >= 0.5
        assert heard.read_text().split() == ["d2", "d2"]
        assert "Busy (defers by 0.5 s)" in awaited
        assert await deploy(3, "SKIP_NOTIFY_COMPONENTS") < 0.5
        assert heard.read_text().split() == ["d2", "d2"]


async def test_case_55_artifacts_of_the_version_before_the_former_go(device: Any, cloud: Any) -> None:
    """Given: 1.0.0 → 2.0.0 → 3.0.0

    Expect: artifacts of 1.0.0 gone, 2.0.0 kept
    """
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        cloud.publish("A", version, {}, artifacts={"f": version.encode()})
        await device.deploy({"A": version})
    await device.idle()
    folder = device.store.artifacts_path(ComponentName("A"), device.state.installed["A"].version).parent
    assert sorted(path.name for path in folder.iterdir()) == ["2.0.0", "3.0.0"]


async def test_case_56_an_older_deployment_of_the_same_parent(device: Any, cloud: Any) -> None:
    """Given: subgroup deployments A2 then A1 (older)

    Expect: A1 REJECTED
    """
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


async def test_case_57_a_local_deployment_offline_leaves_group_components(
    device: Any, cloud: Any, tmp_path: Path
) -> None:
    """Given: local deployment offline on a device with group components

    Expect: group components stay

    Differs: the same version with other artifact bytes is installed again, where AWS would leave the \
old process (5.2, rule 6).
    """
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
    await device.heard("mine")
    assert device.states() == {"Grouped": "RUNNING", "Mine": "RUNNING"}
    assert device.state.roots("LOCAL_DEPLOYMENT") == {"Mine": "1.0.0"}
    # The same version with other bytes: the process is started again, which AWS's device would not do.
    (artifacts / "main.sh").write_text(SAY.format("changed"))
    assert (await device.deploy_locally(request)).has_succeeded
    await device.heard("changed")
    assert (await device.deploy_locally({"rootComponentsToRemove": ["Mine"]})).has_succeeded
    assert device.states() == {"Grouped": "RUNNING"}


async def test_case_58_bootstrap_restarts_reboots_or_fails(tmp_path: Path, cloud: Any) -> None:
    """Given: bootstrap exit 100 / 101 / 1

    Expect: restart / reboot / fail and roll back

    Differs: a reboot needs `monodon nucleus run --on-reboot COMMAND`; without it the nucleus alone restarts.
    """
    cloud.publish("Old", "1.0.0", running("old"))
    for name, code in (("Hundred", 100), ("HundredOne", 101)):
        cloud.publish(name, "1.0.0", {"Bootstrap": SAY.format(name) + f"exit {code}", "Startup": "true"})
    cloud.publish("Bad", "1.0.0", {"Bootstrap": "exit 1", "Run": FOREVER})
    root = tmp_path / "root"
    async with running_device(root, cloud) as one:
        assert (await one.deploy({"Old": "1.0.0"})).has_succeeded
        await one.heard("run-old")
        first = one.document({"Old": "1.0.0", "Hundred": "1.0.0", "HundredOne": "1.0.0"})
        second = one.document({"Old": "1.0.0", "Hundred": "1.0.0", "HundredOne": "1.0.0", "Bad": "1.0.0"})
    outcome, codes, states = await through_restarts(root, cloud, first)
    assert outcome.has_succeeded
    assert codes == [100, 101, 100]
    assert states == dict.fromkeys(("Old", "Hundred", "HundredOne"), "RUNNING")
    assert [word for word in said(tmp_path) if word.startswith("Hundred")] == ["Hundred", "HundredOne"]
    outcome, codes, states = await through_restarts(root, cloud, second)
    assert outcome.detailed is DetailedStatus.FAILED_ROLLBACK_COMPLETE
    assert outcome.error_stack == ("DEPLOYMENT_FAILURE", "COMPONENT_UPDATE_ERROR", "COMPONENT_BOOTSTRAP_ERROR")
    assert "Bad 1.0.0: Bootstrap exited with code 1" in outcome.cause
    assert codes == [100]
    assert states == dict.fromkeys(("Old", "Hundred", "HundredOne"), "RUNNING")


async def test_case_59_a_newer_shadow_deployment_replaces_one_that_waits(device: Any, cloud: Any) -> None:
    """Given: shadow queued twice

    Expect: only the newer runs
    """
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
    assert not device.deployer.submit(read_document(job))
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


async def test_case_60_an_uninstall_that_fails_or_overruns_does_not_keep_a_component(
    device: Any, cloud: Any, tmp_path: Path
) -> None:
    """Given: Uninstall script fails or overruns

    Expect: component removed, deployment succeeds
    """
    cloud.publish("A", "1.0.0", {"Run": FOREVER, "Uninstall": SAY.format("uninstalled") + "exit 1"})
    cloud.publish("Slow", "1.0.0", {"Run": FOREVER, "Uninstall": {"Script": "sleep 1000", "Timeout": 0}})
    cloud.publish("B", "1.0.0", {"Run": FOREVER})
    await device.deploy({"A": "1.0.0", "B": "1.0.0", "Slow": "1.0.0"})
    assert (await device.deploy({"B": "1.0.0"})).has_succeeded
    assert device.states() == {"B": "RUNNING"}
    assert device.installed() == {"B": "1.0.0"}
    assert said(tmp_path) == ["uninstalled"]

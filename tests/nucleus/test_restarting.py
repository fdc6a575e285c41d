"""Deployments that the nucleus restarts for: rules B1 to B4 and section 5.9 of the device notes."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.nucleus.device import FINAL, FOREVER, SAY, Cloud, running, said, through_restarts
from tests.nucleus.device import device as running_device

from monodon.core.deployment import DetailedStatus


class Killed(BaseException):
    """Stands for a SIGKILL at a named point: nothing of this nucleus happens any more."""


def boot(word: str, *, exits: int = 0, again: bool = False) -> dict[str, Any]:
    script = SAY.format(f"boot-{word}") + f"exit {exits}"
    return {**running(word), "Bootstrap": {"Script": script, "BootstrapOnRollback": again}}


async def deployed(root: Path, cloud: Cloud, **versions: str) -> None:
    async with running_device(root, cloud) as one:
        document = one.document(versions)
    outcome, _, _ = await through_restarts(root, cloud, document)
    assert outcome.has_succeeded, outcome


def later(components: dict[str, Any], number: int = 7, **members: Any) -> dict[str, Any]:
    return {
        "deploymentId": f"later-{number}",
        "configurationArn": f"arn:aws:greengrass:eu-west-1:123456789012:configuration:thinggroup/drones:{number}",
        "creationTimestamp": 2_000_000 + number,
        "components": {name: {"version": one} if isinstance(one, str) else one for name, one in components.items()},
        "componentUpdatePolicy": {"action": "SKIP_NOTIFY_COMPONENTS"},
        **members,
    }


async def test_bootstraps_run_in_order_with_everything_stopped_and_only_when_due(tmp_path: Path, cloud: Cloud) -> None:
    """B1 and B3: dependencies first, one at a time, everything else stopped; not again for what has not changed."""
    cloud.publish("Base", "1.0.0", boot("base"))
    cloud.publish("App", "1.0.0", boot("app"), needs={"Base": "*"})
    cloud.publish("Other", "1.0.0", running("other"))
    root = tmp_path / "root"
    await deployed(root, cloud, Other="1.0.0")
    outcome, codes, states = await through_restarts(root, cloud, later({"App": "1.0.0", "Other": "1.0.0"}))
    assert outcome.has_succeeded
    assert codes == [100]
    assert states == {"App": "RUNNING", "Base": "RUNNING", "Other": "RUNNING"}
    words = said(tmp_path)
    boots = [word for word in words if word.startswith("boot")]
    assert boots == ["boot-base", "boot-app"]
    assert words.index("stop-other") < words.index("boot-base") < words.index("boot-app")
    assert "run-app" not in words[: words.index("boot-app")]
    outcome, codes, _ = await through_restarts(root, cloud, later({"App": "1.0.0", "Other": "1.0.0"}, 8))
    assert outcome.has_succeeded
    assert codes == []


async def test_what_breaks_after_the_restart_brings_another_restart_and_the_former_set(
    tmp_path: Path, cloud: Cloud
) -> None:
    """KERNEL_ACTIVATION fails: KERNEL_ROLLBACK by a restart, whatever the policy; B4: only BootstrapOnRollback."""
    cloud.publish("A", "1.0.0", boot("one", again=True), configuration={"k": 1})
    cloud.publish("A", "2.0.0", boot("two"), configuration={"k": 2, "new": 1})
    cloud.publish("B", "1.0.0", boot("b"))
    cloud.publish("B", "2.0.0", boot("bb"))
    cloud.publish("Bad", "1.0.0", {"Startup": "exit 1"})
    root = tmp_path / "root"
    await deployed(root, cloud, A="1.0.0", B="1.0.0")
    (tmp_path / "said").unlink()
    roots = {"A": "2.0.0", "B": "2.0.0", "Bad": "1.0.0"}
    document = later(roots, failureHandlingPolicy="DO_NOTHING")
    outcome, codes, states = await through_restarts(root, cloud, document)
    assert outcome.detailed is DetailedStatus.FAILED_ROLLBACK_COMPLETE
    assert "Bad is BROKEN" in outcome.cause
    assert codes == [100, 100]
    assert states == {"A": "RUNNING", "B": "RUNNING"}
    assert [word for word in said(tmp_path) if word.startswith("boot")] == ["boot-two", "boot-bb", "boot-one"]
    async with running_device(root, cloud) as one:
        assert one.installed() == {"A": "1.0.0", "B": "1.0.0"}
        assert one.configuration("A") == {"k": 1}


async def test_a_rollback_whose_bootstrap_fails_is_said_and_everything_is_started(tmp_path: Path, cloud: Cloud) -> None:
    """ROLLBACK_BOOTSTRAP ends FAILED_UNABLE_TO_ROLLBACK when it fails."""
    again = {"Bootstrap": {"Script": 'test ! -e "$OUT/spoiled"', "BootstrapOnRollback": True}, "Run": FOREVER}
    cloud.publish("A", "1.0.0", again)
    cloud.publish("A", "2.0.0", {"Bootstrap": 'touch "$OUT/spoiled"; exit 3', "Run": FOREVER})
    root = tmp_path / "root"
    await deployed(root, cloud, A="1.0.0")
    outcome, codes, _ = await through_restarts(root, cloud, later({"A": "2.0.0"}))
    assert outcome.detailed is DetailedStatus.FAILED_UNABLE_TO_ROLLBACK
    assert "A 2.0.0: Bootstrap exited with code 3" in outcome.cause
    assert "A 1.0.0: Bootstrap.Script exited with code 1" in outcome.cause
    assert codes == []
    async with running_device(root, cloud) as one:
        await one.until(lambda statuses: "A" in statuses and statuses["A"].state == "RUNNING")
        assert one.installed() == {"A": "1.0.0"}


async def test_a_bootstrap_that_overruns_fails_the_deployment(tmp_path: Path, cloud: Cloud) -> None:
    cloud.publish("A", "1.0.0", {"Bootstrap": {"Script": "sleep 1000", "Timeout": 0}})
    outcome, _, _ = await through_restarts(tmp_path / "root", cloud, later({"A": "1.0.0"}))
    assert outcome.error_stack[-1] == "COMPONENT_BOOTSTRAP_TIMEOUT"
    assert outcome.detailed is DetailedStatus.FAILED_ROLLBACK_COMPLETE


async def test_a_setting_that_needs_a_restart_brings_one(tmp_path: Path, cloud: Cloud) -> None:
    """B2: a new default user or shell."""
    merge = {"runWithDefault": {"posixShell": "/bin/sh"}}
    nucleus = {"version": "2.18.0", "configurationUpdate": {"merge": merge}}
    document = later({"aws.greengrass.Nucleus": nucleus})
    outcome, codes, _ = await through_restarts(tmp_path / "root", cloud, document)
    assert outcome.has_succeeded
    assert codes == [100]
    document = later({"aws.greengrass.Nucleus": nucleus}, 8)
    outcome, codes, _ = await through_restarts(tmp_path / "root", cloud, document)
    assert codes == []


async def test_where_nobody_starts_it_again_it_goes_on_in_the_same_process(tmp_path: Path, cloud: Cloud) -> None:
    cloud.publish("Old", "1.0.0", running("old"))
    cloud.publish("A", "1.0.0", boot("a", exits=100))
    async with running_device(tmp_path / "root", cloud, restart=None) as one:
        assert (await one.deploy({"Old": "1.0.0"})).has_succeeded
        assert (await one.deploy({"A": "1.0.0", "Old": "1.0.0"})).has_succeeded
        assert one.states() == {"A": "RUNNING", "Old": "RUNNING"}
        assert said(tmp_path).count("install-old") == 2


async def stopped_at(root: Path, cloud: Cloud, document: dict[str, Any], point: str) -> None:
    """Run a device until a named point is reached, and no further, as if it had been killed there."""
    reached = asyncio.Event()

    def at(name: str) -> None:
        if name == point:
            reached.set()
            raise Killed(name)

    async def until() -> None:
        async with running_device(root, cloud, at=at) as one:
            one.submit(document)
            async with asyncio.timeout(20):
                await reached.wait()
            await asyncio.Event().wait()

    with pytest.raises(BaseExceptionGroup):
        await until()
    assert reached.is_set()


@pytest.mark.parametrize(
    "point",
    ["bootstrapping noted", "bootstrapping switched", "bootstrap A", "bootstrapped A", "restart"],
)
@pytest.mark.parametrize("is_bad", [False, True])
async def test_a_kill_at_any_stage_goes_on_from_there(tmp_path: Path, cloud: Cloud, point: str, is_bad: bool) -> None:
    """Section 5.9: after a kill at any stage the deployment ends wholly at the new set, or at the former one."""
    cloud.publish("A", "1.0.0", running("one"), configuration={"k": 1})
    cloud.publish("A", "2.0.0", boot("two"), configuration={"k": 1, "new": 1})
    cloud.publish("Z", "1.0.0", boot("z", exits=1 if is_bad else 0))
    root = tmp_path / "root"
    await deployed(root, cloud, A="1.0.0")
    document = later({"A": "2.0.0", "Z": "1.0.0"})
    await stopped_at(root, cloud, document, point)
    outcome, _, states = await through_restarts(root, cloud, document)
    assert outcome.has_succeeded is not is_bad
    assert states == ({"A": "RUNNING"} if is_bad else {"A": "RUNNING", "Z": "RUNNING"})
    async with running_device(root, cloud) as one:
        assert one.installed() == ({"A": "1.0.0"} if is_bad else {"A": "2.0.0", "Z": "1.0.0"})
        assert one.configuration("A") == ({"k": 1} if is_bad else {"k": 1, "new": 1})
        assert one.state.open_deployment is None
    assert len([each for each in cloud.reports() if each["id"] == "later-7" and each["status"] in FINAL]) == 1

"""A clock that is put back an hour, or ahead a year, while a nucleus runs and between two of its lives."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from awsiot.greengrasscoreipc import connect
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
from tests.nucleus.device import FOREVER, Cloud, Device, running
from tests.nucleus.test_nucleus import ENDED, until, write_recipe

from monodon.core.names import ComponentName
from monodon.nucleus.nucleus import Nucleus
from monodon.nucleus.nucleus import running as running_nucleus

NAME = ComponentName.parse("com.example.A")
HOUR_S, YEAR_S = 3600.0, 365 * 86400.0


class Clock:
    """The time of day, as somebody sets it."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset_s


def merge(root: Path, recipes: Path, value: int) -> str:
    """Deploy the component locally with another value, as a tool of the user does; the status."""
    (file,) = (root / "cli_ipc_info").iterdir()
    found = json.loads(file.read_text())
    connection = connect(ipc_socket=found["domain_socket_path"], authtoken=found["cli_auth_token"])
    client = GreengrassCoreIPCClientV2(client=connection)
    try:
        key = client.create_local_deployment(
            root_component_versions_to_add={NAME: "1.0.0"},
            component_to_configuration={NAME: {"MERGE": {"value": value}}},
            recipe_directory_path=str(recipes),
        ).deployment_id
        return str(
            until(lambda: (s := client.get_local_deployment_status(deployment_id=key).deployment.status) in ENDED and s)
        )
    finally:
        client.close()


@pytest.mark.slow
@pytest.mark.parametrize("jump_s", [-HOUR_S, YEAR_S], ids=["an hour back", "a year ahead"])
async def test_later_deployments_win_whatever_the_clock_says(tmp_path: Path, jump_s: float) -> None:
    """The component runs on, each deployment succeeds, and the last value is the one that holds."""
    root, clock = tmp_path / "root", Clock()
    recipes = write_recipe(tmp_path / "recipes", str(NAME), configuration={"value": 0}, Run=FOREVER)

    async def deployed(nucleus: Nucleus, value: int) -> Any:
        assert await asyncio.to_thread(merge, root, recipes, value) == "SUCCEEDED"
        return nucleus.state.installed[NAME].configuration.get(("value",))

    async with running_nucleus(root, now_s=clock) as nucleus:
        assert await deployed(nucleus, 1) == 1
        pids = nucleus.supervisor.pids(NAME)
        clock.offset_s += jump_s
        assert await deployed(nucleus, 2) == 2
        clock.offset_s -= jump_s
        assert await deployed(nucleus, 3) == 3
        assert nucleus.supervisor.pids(NAME) == pids
    clock.offset_s += jump_s
    async with running_nucleus(root, now_s=clock) as nucleus:
        assert await deployed(nucleus, 4) == 4
    clock.offset_s -= jump_s
    async with running_nucleus(root, now_s=clock) as nucleus:
        assert await deployed(nucleus, 5) == 5
        await nucleus.supervisor.wait_until(lambda statuses: statuses[NAME].state == "RUNNING")
    dates = {line[:4] for path in (root / "logs").glob("greengrass*.log") for line in path.read_text().splitlines()}
    assert str(time.gmtime(clock() + jump_s).tm_year) in dates


async def test_the_clouds_deployments_go_on_after_a_year_ahead(
    device: Device, cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    """Rule C3 holds: what was written in a year still wins for its key. It is said; all else of them is applied."""
    cloud.publish("A", "1.0.0", running("one"), configuration={"k": 0, "other": 0})
    cloud.publish("A", "2.0.0", running("two"), configuration={"k": 0, "other": 0})
    assert (await device.deploy({"A": "1.0.0"})).has_succeeded
    present_ms = device.now_ms
    name = ComponentName("A")
    device.state.update_configuration(name, (), {"k": "of a wrong clock"}, present_ms + int(YEAR_S) * 1000)
    update = {"merge": {"k": 1, "other": 1}}
    assert (await device.deploy({"A": {"version": "2.0.0", "configurationUpdate": update}})).has_succeeded
    assert device.installed() == {"A": "2.0.0"}
    assert device.configuration("A") == {"k": "of a wrong clock", "other": 1}
    assert "A: the merge of /k has no effect: the value was written later" in caplog.text


async def test_time_by_processing_is_never_before_what_was_deployed(device: Device, cloud: Cloud) -> None:
    """``deploymentConfigurationTimeSource: deploymentProcessingTime`` on a device whose clock was put back."""
    assert device.state.after_deployments_ms(5) == 5
    device.state.commit(last={"thinggroup/g": {"arn": "", "timestamp_ms": 9_000, "deployment_id": "d"}})
    device.state.commit(last={"LOCAL_DEPLOYMENT": {"arn": "", "timestamp_ms": 7_000, "deployment_id": "e"}})
    assert device.state.after_deployments_ms(8_000) == 9_001
    assert device.state.after_deployments_ms(10_000) == 10_000

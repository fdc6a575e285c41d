"""What an author's component decides about a deployment of the cloud: when it may begin, and what it must not set."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.journeys.scene import GROUP, PATIENCE_S, Fleet

from monodon.core.json import Json
from monodon.device.device import connected
from monodon.fleet import Change, Created

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("fleets")]

NAME = "com.example.Careful"
#: Notes what befalls it, and is busy until it finds the file ``free``.
MAIN = """
import asyncio
from dataclasses import dataclass
from pathlib import Path

from monodon.component import Component


@dataclass(frozen=True)
class Settings:
    limit: int = 1
    version: str = ""


def note(what):
    with open("journal", "a") as journal:
        journal.write(f"{what}\\n")


def judge(new):
    return "limit must be below 10, or the belt tears" if new.limit >= 10 else None


async def main(component):
    component.refuse_when(judge)
    component.on_change(lambda new: note(f"limit {new.limit}"))
    note(f"begin {component.settings.version}")
    try:
        async with component.busy(recheck_s=0.2):
            await component.ready()
            while not Path("free").exists():
                await asyncio.sleep(0.02)
            note("free")
        await asyncio.Event().wait()
    finally:
        note(f"end {component.settings.version}")


if __name__ == "__main__":
    Component.run(main, Settings)
"""


def recipe(main: Path, version: str) -> str:
    """The component with its code where it lies, so that nothing need be built."""
    return json.dumps(
        {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": NAME,
            "ComponentVersion": version,
            "ComponentConfiguration": {"DefaultConfiguration": {"limit": 1, "version": version}},
            "Manifests": [{"Lifecycle": {"Startup": f"exec {sys.executable} -u {main}"}}],
        }
    )


class Operator:
    """Deploys versions of the component to the group, and reads what the device made of it."""

    def __init__(self, fleet: Fleet, greengrass: Any) -> None:
        self.fleet = fleet
        self.greengrass = greengrass
        self.work = fleet.root / "work" / NAME

    def deploy(self, version: str, merge: Mapping[str, Json]) -> Created:
        arn = f"arn:aws:iot:{self.fleet.aws.region}:{self.fleet.aws.account}:thinggroup/{GROUP}"
        made = self.greengrass.create_deployment(
            targetArn=arn,
            components={NAME: {"componentVersion": version, "configurationUpdate": {"merge": json.dumps(merge)}}},
            deploymentPolicies={
                "componentUpdatePolicy": {"action": "NOTIFY_COMPONENTS", "timeoutInSeconds": 60},
                "configurationValidationPolicy": {"timeoutInSeconds": 60},
            },
        )
        return Created(deployment_id=made["deploymentId"], target_arn=arn, job_id=made["iotJobId"])

    def outcome(self, version: str, merge: Mapping[str, Json]) -> Change:
        return self.fleet.outcome(self.deploy(version, merge))

    def journal(self) -> list[str]:
        return (self.work / "journal").read_text().splitlines()

    def configuration(self) -> Json:
        async def ask() -> Json:
            async with connected(self.fleet.root) as device:
                return await device.call("GetConfiguration", {"componentName": NAME})

        return asyncio.run(ask())["value"]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def operator(fleet: Fleet, tmp_path: Path) -> Any:
    main = tmp_path / "main.py"
    main.write_text(MAIN)
    session = boto3.Session("key", "secret", region_name=fleet.aws.region)
    client = session.client("greengrassv2", endpoint_url=fleet.cloud.ready["endpoint"])
    for version in ("1.0.0", "1.0.1"):
        client.create_component_version(inlineRecipe=recipe(main, version))
    yield Operator(fleet, client)
    client.close()


def test_a_component_puts_off_a_deployment_and_refuses_a_configuration(operator: Operator) -> None:
    """Busy, it is not stopped before it is free; a refused configuration is never its own, not for a moment."""
    assert operator.outcome("1.0.0", {}).status == "SUCCEEDED"

    update = operator.deploy("1.0.1", {"version": "1.0.1"})
    log = operator.fleet.root / "logs" / f"{NAME}.log"
    until(lambda: log.read_text().count("shall wait: busy") >= 3)
    assert operator.journal() == ["begin 1.0.0"]
    (operator.work / "free").touch()
    assert operator.fleet.outcome(update).status == "SUCCEEDED"
    until(lambda: operator.journal()[-1] == "free")
    assert operator.journal() == ["begin 1.0.0", "free", "end 1.0.0", "begin 1.0.1", "free"]

    refused = operator.outcome("1.0.1", {"version": "1.0.1", "limit": 50})
    assert refused.status == "FAILED"
    assert "limit must be below 10, or the belt tears" in refused.reason
    assert operator.configuration() == {"limit": 1, "version": "1.0.1"}

    assert operator.outcome("1.0.1", {"version": "1.0.1", "limit": 5}).status == "SUCCEEDED"
    until(lambda: operator.journal()[-1] == "limit 5")
    assert operator.journal()[5:] == ["limit 5"]
    assert operator.configuration() == {"limit": 5, "version": "1.0.1"}

"""Documents beyond what a job or a shadow carries, from boto3 to a component's configuration on a real device."""

import json
from typing import Any

import boto3
import pytest
from tests.journeys.scene import GROUP, THING, Fleet

from monodon.core.names import ComponentName
from monodon.fleet import Created
from monodon.nucleus.journal import JOURNAL_FOLDER, Journal
from monodon.nucleus.state import DeviceState

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("fleets")]

NAME = ComponentName("com.example.Large")
RECIPE = f"""\
RecipeFormatVersion: "2020-01-25"
ComponentName: {NAME}
ComponentVersion: 1.0.0
Manifests:
  - Lifecycle:
      Run: echo {{configuration:/revision}} > revision; exec sleep 1000
"""


@pytest.fixture
def greengrass(fleet: Fleet) -> Any:
    session = boto3.Session("key", "secret", region_name=fleet.aws.region)
    client = session.client("greengrassv2", endpoint_url=fleet.cloud.ready["endpoint"])
    client.create_component_version(inlineRecipe=RECIPE)
    yield client
    client.close()


def deploy(fleet: Fleet, greengrass: Any, target: str, merge: dict[str, Any]) -> tuple[str, str]:
    """Deploy, and return how it ended and why."""
    arn = f"arn:aws:iot:{fleet.aws.region}:{fleet.aws.account}:{target}"
    update = {"componentVersion": "1.0.0", "configurationUpdate": {"merge": json.dumps(merge)}}
    made = greengrass.create_deployment(targetArn=arn, components={NAME: update})
    end = fleet.outcome(
        Created(deployment_id=made["deploymentId"], target_arn=arn, job_id=made.get("iotJobId")),
    )
    return end.status, end.reason


def test_a_large_document_is_fetched_and_applied(fleet: Fleet, greengrass: Any) -> None:
    """1 MB to a group, 9 MB to a thing; what the device keeps is on its disk."""
    steps = ((f"thinggroup/{GROUP}", 1_000_000, "SUCCEEDED"), (f"thing/{THING}", 9_000_000, "COMPLETED"))
    for revision, (target, size, status) in enumerate(steps, start=1):
        ended = deploy(fleet, greengrass, target, {"revision": revision, "text": "x" * size})
        assert ended == (status, "")
        assert (fleet.root / "work" / NAME / "revision").read_text() == f"{revision}\n"
    fleet.lab.stop_server(fleet.device)
    journal = Journal.open(fleet.root / JOURNAL_FOLDER)
    try:
        configuration = DeviceState(journal).configuration(NAME)
        assert configuration is not None
        assert configuration.value() == {"revision": 2, "text": "x" * 9_000_000}
    finally:
        journal.close()

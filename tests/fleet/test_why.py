"""``fleet why`` and ``fleet drift`` with boto3 against the embedded cloud, from the command line too."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.fleet.embedded import WRITES, Fleet, embedded_fleet

from monodon.cli.fleet import command
from monodon.errors import FleetError
from monodon.fleet.deploying import deploy
from monodon.fleet.drift import drift
from monodon.fleet.following import Created
from monodon.fleet.reading import parse_desired
from monodon.fleet.why import explain

CAMERA = "com.example.Camera"
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with embedded_fleet(tmp_path_factory.mktemp("cloud")) as fleet:
        fleet.publish(CAMERA, "1.0.0")
        fleet.publish(CAMERA, "2.0.0")
        yield fleet


@pytest.fixture
def group(fleet: Fleet) -> str:
    number = next(NUMBERS)
    fleet.add(f"group-{number}", f"drone-{number}-a", f"drone-{number}-b")
    return f"group-{number}"


@pytest.fixture
def things(group: str) -> tuple[str, str]:
    return group.replace("group", "drone") + "-a", group.replace("group", "drone") + "-b"


def desired(group: str, version: str = "1.0.0") -> Any:
    return parse_desired(f"target: thinggroup/{group}\ncomponents:\n  {CAMERA}: {{version: '{version}'}}\n", file="f")


def deployed(fleet: Fleet, group: str, version: str = "1.0.0") -> Created:
    return deploy(fleet.aws, desired(group, version))


def reports(fleet: Fleet, thing: str, version: str, sequence: int = 2, **members: Any) -> None:
    component = {
        "componentName": CAMERA,
        "version": version,
        "isRoot": True,
        "fleetConfigArns": [],
        "status": "RUNNING",
    }
    fleet.report_health(thing, sequenceNumber=sequence, components=[component | members])


def run(fleet: Fleet, *arguments: str) -> tuple[int, str]:
    environment = {
        "AWS_ENDPOINT_URL": fleet.ready.endpoint,
        "AWS_REGION": fleet.ready.region,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
    }
    result = CliRunner().invoke(command, arguments, env=environment)
    return result.exit_code, result.output


def test_drift_of_a_group(fleet: Fleet, group: str, things: tuple[str, str]) -> None:
    created = deployed(fleet, group)
    reports(fleet, things[0], "1.0.0")
    fleet.report_job(things[0], created.job_id, "SUCCEEDED")
    first, second = drift(fleet.aws, f"thinggroup/{group}")
    assert (first.thing, first.differs) == (things[0], False)
    assert (second.thing, second.differs, second.is_pending) == (things[1], True, True)
    code, output = run(fleet, "drift", f"thinggroup/{group}")
    assert code == 1
    assert f"missing        {CAMERA}: not there, wanted 1.0.0 by thinggroup/{group} [QUEUED]" in output
    assert "1 of 2 devices differs" in output


def test_a_device_changed_by_hand_drifts_after_its_deployment_succeeded(
    fleet: Fleet, group: str, things: tuple[str, str]
) -> None:
    created = deployed(fleet, group)
    fleet.report_job(things[0], created.job_id, "SUCCEEDED")
    reports(fleet, things[0], "2.0.0")
    (found,) = drift(fleet.aws, f"thing/{things[0]}")
    assert [(one.wanted, one.found, one.execution) for one in found.deviations] == [("1.0.0", "2.0.0", "SUCCEEDED")]
    code, output = run(fleet, "drift", f"thing/{things[0]}", "--json")
    assert code == 1
    assert json.loads(output)["deviations"][0]["kind"] == "other version"


def test_drift_from_a_file(fleet: Fleet, group: str, things: tuple[str, str], tmp_path: Path) -> None:
    for thing in things:
        reports(fleet, thing, "1.0.0")
    file = tmp_path / "fleet.yaml"
    text = f"target: thinggroup/{group}\ncomponents:\n  {CAMERA}: {{version: '>=1.0.0 <2.0.0'}}\n"
    file.write_text(text)
    assert run(fleet, "drift", str(file)) == (0, "0 of 2 devices differ\n")
    file.write_text(text.replace(">=1.0.0 <2.0.0", "2.0.0"))
    assert run(fleet, "drift", str(file))[0] == 1


def test_a_thing_without_a_nucleus_has_never_reported(fleet: Fleet, group: str) -> None:
    fleet.aws.iot.create_thing(thingName=f"{group}-new")
    fleet.aws.iot.add_thing_to_thing_group(thingGroupName=group, thingName=f"{group}-new")
    assert f"{group}-new  has never reported" in run(fleet, "drift", f"thinggroup/{group}")[1]
    assert "never reported" in explain(fleet.aws, f"{group}-new").cause


def test_why_a_device_failed(fleet: Fleet, group: str, things: tuple[str, str]) -> None:
    created = deployed(fleet, group)
    stack = ["DEPLOYMENT_FAILURE", "ARTIFACT_DOWNLOAD_ERROR", "S3_GET_OBJECT_ACCESS_DENIED"]
    fleet.report_job(things[0], created.job_id, "FAILED", cause="403 from S3", codes=stack)
    code, output = run(fleet, "why", things[0])
    assert code == 1
    assert "the devices' role may not read an artifact" in output
    assert "403 from S3" in output
    assert "next: grant s3:GetObject" in output


def test_why_a_deployment_failed_on_some_and_waits_for_others(
    fleet: Fleet, group: str, things: tuple[str, str]
) -> None:
    created = deployed(fleet, group)
    fleet.report_job(things[0], created.job_id, "FAILED", cause="no space", codes=["DISK_SPACE_CRITICAL"])
    found = json.loads(run(fleet, "why", created.deployment_id, "--json")[1])
    assert found["cause"] == f"1 failed, the device's disk is full (FAILED_ROLLBACK_COMPLETE: no space): {things[0]}"
    assert "free disk space" in found["next_step"]
    assert "1 FAILED, 1 QUEUED" in found["seen"]


def test_a_deployment_that_was_replaced_and_one_that_ended_well(
    fleet: Fleet, group: str, things: tuple[str, str]
) -> None:
    old, new = deployed(fleet, group), deployed(fleet, group, "2.0.0")
    assert f"replaced by {new.deployment_id}" in explain(fleet.aws, old.deployment_id).cause
    for thing in things:
        fleet.report_job(thing, new.job_id, "SUCCEEDED")
    assert run(fleet, "why", new.deployment_id)[0] == 0


def test_a_broken_component_explains_a_device(fleet: Fleet, group: str, things: tuple[str, str]) -> None:
    details = {"statusCodes": ["STARTUP_ERROR"], "statusReason": "exit code 3"}
    reports(fleet, things[0], "1.0.0", status="BROKEN", componentStatusDetails=details)
    assert explain(fleet.aws, things[0]).cause == f"{CAMERA} 1.0.0 is BROKEN: exit code 3"
    assert explain(fleet.aws, things[1]).is_well


def test_neither_writes_anything(fleet: Fleet, group: str, things: tuple[str, str]) -> None:
    created = deployed(fleet, group)
    with fleet.calls() as sent:
        list(drift(fleet.aws))
        explain(fleet.aws, things[0])
        explain(fleet.aws, created.deployment_id)
    assert sent
    assert not [one for one in sent if one.startswith(WRITES)]


@pytest.mark.parametrize("subject", ["nobody", "11111111-2222-3333-4444-555555555555"])
def test_what_is_not_there(fleet: Fleet, subject: str) -> None:
    with pytest.raises(FleetError, match="no thing nobody|GetDeployment failed"):
        explain(fleet.aws, subject)


def test_a_group_that_is_not_there(fleet: Fleet) -> None:
    with pytest.raises(FleetError, match="no thing group nobody"):
        list(drift(fleet.aws, "thinggroup/nobody"))

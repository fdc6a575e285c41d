"""The operator's IAM policy in docs/fleet.md against the calls that each verb really makes."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monodon.core.names import ComponentName
from monodon.core.recipe.reading import parse_recipe
from monodon.core.semver import Version
from monodon.fleet import Aws, Desired, DesiredComponent, apply, export, fleet_status, make_plan, watch
from monodon.fleet.doctor import examine
from monodon.fleet.nucleus_config import Endpoints
from monodon.fleet.provisioning import device_policy, provision_fleet
from monodon.publish import ArtifactFile, Package, Registry, publish

GUIDE = Path(__file__).parents[2] / "docs" / "fleet.md"
THING, GROUP, COMPONENT = "operator-1", "operators", "com.example.Operator"
#: Actions that are named otherwise than the call. Source: AWS, "Actions, resources, and condition keys for Amazon S3".
ACTIONS = {
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:PutBucketTagging": "s3:PutBucketTagging",
}
#: What AWS does in the operator's name, and what only another account's answer brings about; no call of ours.
#: Source: AWS, "Actions, resources, and condition keys for AWS IoT Greengrass V2", dependent actions.
UNSEEN = {
    "provision": {"iam:PassRole", "iot:DescribeEndpoint"},
    "doctor": {"iam:GetPolicy", "iam:GetPolicyVersion"},
    "publish": {"s3:GetObject"},
    "plan": {"iot:DescribeJob", "iot:DescribeThing", "iot:DescribeThingGroup", "iot:GetThingShadow"},
    "deploy": {
        *("iot:CancelJob", "iot:CreateJob", "iot:DeleteThingShadow", "iot:DescribeJob", "iot:DescribeJobExecution"),
        *("iot:DescribeThing", "iot:DescribeThingGroup", "iot:GetThingShadow", "iot:UpdateJob"),
        *("iot:UpdateThingShadow", "greengrass:TagResource"),
    },
    "status": set[str](),
    "export": {"iot:DescribeJob", "iot:DescribeThing", "iot:DescribeThingGroup", "iot:GetThingShadow"},
}


class Recorded:
    """An operator's boto3, and the IAM actions of its calls."""

    def __init__(self, endpoint: str, region: str) -> None:
        self.aws = Aws(endpoint_url=endpoint, region=region)
        self.actions: set[str] = set()
        self.aws._session.events.register("before-call", self.note)

    def note(self, model: Any, **event: Any) -> None:
        service = model.service_model.signing_name.replace("iotdata", "iot")
        action = f"{service}:{model.name}"
        self.actions.add(ACTIONS.get(action, action))

    def during(self, work: Callable[[], object]) -> set[str]:
        self.actions.clear()
        work()
        return set(self.actions)


def named_in_the_guide() -> dict[str, set[str]]:
    """The actions of each verb: a statement's Sid begins with it."""
    found: dict[str, set[str]] = {}
    for block in re.findall(r"```json\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        for statement in json.loads(block).get("Statement", ()):
            if sid := statement.get("Sid"):
                verb = re.match(r"[A-Z][a-z]+", sid)
                assert verb, sid
                actions = statement["Action"]
                found.setdefault(verb[0].lower(), set()).update([actions] if isinstance(actions, str) else actions)
    return found


@pytest.fixture(scope="module")
def calls(embedded: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What each verb calls, for a fleet of one device that fails."""
    folder, ready = tmp_path_factory.mktemp("operator"), embedded.ready.result()
    recorded = Recorded(ready.endpoint, ready.region)
    aws = recorded.aws
    local = Endpoints(iot_data="localhost", credentials="localhost:1", data_plane="localhost")
    place: dict[str, Any] = {"things": [THING], "group": GROUP, "roots": {THING: folder / THING}, "root_ca": b"ca"}
    found = {"provision": recorded.during(lambda: list(provision_fleet(aws, **place, endpoints=local)))}
    found["publish"] = recorded.during(lambda: list(_publish(aws, folder)))
    desired = Desired(
        target=f"thinggroup/{GROUP}",
        components={ComponentName(COMPONENT): DesiredComponent(version=Version.parse("1.0.0"))},
        tags={"of": "operators"},
    )
    health = {"ggcVersion": "2.18.0", "platform": "linux", "architecture": "amd64", "thing": THING}
    health |= {"overallDeviceStatus": "HEALTHY", "sequenceNumber": 1, "timestamp": 1, "trigger": "NUCLEUS_LAUNCH"}
    embedded.say(THING, "greengrassv2/health/json", {**health, "messageType": "COMPLETE", "components": []})
    found["plan"] = recorded.during(lambda: make_plan(aws, desired))
    found["deploy"] = recorded.during(lambda: _deploy(embedded, aws, desired))
    found["plan"] |= recorded.during(lambda: make_plan(aws, replace(desired, name="another")))
    found["status"] = recorded.during(lambda: [*fleet_status(aws), *fleet_status(aws, group=GROUP)])
    found["export"] = recorded.during(lambda: export(aws, f"thinggroup/{GROUP}"))
    found["doctor"] = recorded.during(lambda: list(examine(aws, group=GROUP)))
    return found


def _publish(aws: Aws, folder: Path) -> Iterator[object]:
    (folder / "a.txt").write_text("hello")
    text = (
        f'RecipeFormatVersion: "2020-01-25"\nComponentName: {COMPONENT}\nComponentVersion: 1.0.0\nManifests:\n'
        f'  - Artifacts: [{{URI: "s3://{aws.bucket}/a.txt"}}]\n    Lifecycle: {{run: "true"}}\n'
    )
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    files = (ArtifactFile(name="a.txt", path=folder / "a.txt", sha256=digest),)
    registry = Registry(s3=aws.s3, greengrass=aws.greengrass, bucket=aws.bucket, region=aws.region, account=aws.account)
    yield from publish(Package(recipe=parse_recipe(text, file="a.yaml"), files=files), registry)


def _deploy(embedded: Any, aws: Aws, desired: Desired) -> None:
    created = apply(aws, make_plan(aws, desired)).created
    topic = f"jobs/{created.job_id}/namespace-aws-gg-deployment/update"
    embedded.say(THING, topic, {"status": "IN_PROGRESS"})
    embedded.say(THING, topic, {"status": "FAILED", "statusDetails": {"deployment-failure-cause": "on purpose"}})
    for _ in watch(aws, created, timeout_s=30):
        pass


@pytest.mark.parametrize("verb", sorted(UNSEEN))
def test_the_guides_policy_is_what_a_verb_needs(calls: dict[str, set[str]], verb: str) -> None:
    """Enough: every call is allowed. Least: nothing is allowed that is neither called nor needed by AWS itself."""
    called = calls[verb] - {"sts:GetCallerIdentity"}  # which needs no permission
    named = named_in_the_guide()[verb]
    assert called - named == set(), f"missing in the guide for {verb}"
    assert named - called - UNSEEN[verb] == set(), f"too much in the guide for {verb}"


def test_planning_writes_nothing(calls: dict[str, set[str]]) -> None:
    reads = re.compile(r"\w+:(Get|List|Describe|Search)\w*")
    for verb in ("plan", "status", "export", "doctor"):
        unsafe = {action for action in calls[verb] if not reads.fullmatch(action)}
        assert unsafe <= {"iam:SimulatePrincipalPolicy"}, verb


def test_the_guides_policy_of_devices_is_what_is_made() -> None:
    class Place:
        region, account = "REGION", "ACCOUNT"

    blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", GUIDE.read_text(), re.DOTALL)]
    assert device_policy(Place()) in blocks  # type: ignore[arg-type]

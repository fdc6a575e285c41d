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
from monodon.fleet.desired import Ring
from monodon.fleet.doctor import examine
from monodon.fleet.drift import drift
from monodon.fleet.entries import Outcome
from monodon.fleet.history import history
from monodon.fleet.ledger import Ledger
from monodon.fleet.live import live_deployment
from monodon.fleet.nucleus_config import Endpoints
from monodon.fleet.provisioning import device_policy, provision_fleet
from monodon.fleet.rings import Rollout
from monodon.fleet.rollback import Way
from monodon.fleet.why import explain
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
#: How the devices of more than one thing are read.
MANY = "greengrass:ListCoreDevices"
AWS_READS = {"iot:DescribeJob", "iot:DescribeThing", "iot:DescribeThingGroup", "iot:GetThingShadow"}
AWS_DEPLOYS = AWS_READS | {
    *("iot:CancelJob", "iot:CreateJob", "iot:DeleteThingShadow", "iot:UpdateJob", "iot:UpdateThingShadow"),
}
#: The ledger's tags of a thing are those of its core device; old ones make room after twenty revisions.
LEDGER = {
    *("greengrass:ListTagsForResource", "greengrass:TagResource", "greengrass:UntagResource", "iot:UntagResource"),
}
UNSEEN = {
    "provision": {"iam:PassRole", "iot:DescribeEndpoint"},
    "doctor": {"iam:GetPolicy", "iam:GetPolicyVersion"},
    "publish": {"s3:GetObject"},
    "plan": {"iot:DescribeJob", "iot:DescribeThing", "iot:DescribeThingGroup", "iot:GetThingShadow", MANY},
    "deploy": {
        *("iot:CancelJob", "iot:CreateJob", "iot:DeleteThingShadow", "iot:DescribeJob", "iot:DescribeJobExecution"),
        *("iot:DescribeThing", "iot:DescribeThingGroup", "iot:GetThingShadow", "iot:UpdateJob"),
        *("iot:UpdateThingShadow", MANY, *LEDGER),
    },
    "rings": {*AWS_DEPLOYS, *LEDGER, "iot:DescribeJobExecution", MANY},
    "rollback": {*AWS_DEPLOYS, *LEDGER, "iot:DescribeJobExecution", MANY},
    "history": {*AWS_READS, "greengrass:ListTagsForResource"},
    "why": {*AWS_READS, MANY, "iot:ListThingsInThingGroup"},
    "drift": {*AWS_READS, MANY, "greengrass:GetCoreDevice"},
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
    found["deploy"] = recorded.during(lambda: _deploy(embedded, aws, desired, folder))
    found["plan"] |= recorded.during(lambda: make_plan(aws, replace(desired, name="another")))
    found["status"] = recorded.during(lambda: [*fleet_status(aws), *fleet_status(aws, group=GROUP)])
    found["export"] = recorded.during(lambda: export(aws, f"thinggroup/{GROUP}"))
    found["why"] = recorded.during(lambda: _explain(aws))
    found["drift"] = recorded.during(lambda: [*drift(aws), *drift(aws, f"thinggroup/{GROUP}")])
    ledger = Ledger(aws, folder=folder / "ledger")
    found["rings"] = recorded.during(lambda: _rings(embedded, aws, desired, ledger, folder))
    found["rollback"] = recorded.during(lambda: _rollback(embedded, aws, ledger))
    found["history"] = recorded.during(lambda: history(aws, ledger, f"thinggroup/{GROUP}"))
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


def _answer(embedded: Any, aws: Aws, status: str) -> None:
    """Let the device end what is live, by other clients than those that are recorded."""
    other = Aws(endpoint_url=embedded.ready.result().endpoint, region=aws.region)
    live = live_deployment(other, other.group_arn(GROUP))
    if live is not None:
        embedded.say(THING, f"jobs/{live['iotJobId']}/namespace-aws-gg-deployment/update", {"status": status})


def _rings(embedded: Any, aws: Aws, desired: Desired, ledger: Ledger, folder: Path) -> None:
    """A ring whose figures are not known: deployed, baked, rolled back."""
    gate: dict[str, Any] = {"component": COMPONENT, "metric": "latency_ms", "maxRatio": 2}
    ring = Ring(name="all", targets=(f"thinggroup/{GROUP}",), gates={"metrics": [gate], "deadlineSeconds": 0.0})
    place: dict[str, Any] = {"evidence": folder / "evidence", "state": folder / "rings"}
    rollout = Rollout(aws, replace(desired, name="ringed", rings=(ring,)), ledger, timeout_s=30, **place)
    for event in rollout.run():
        if event.kind in ("created", "rollback"):
            _answer(embedded, aws, "SUCCEEDED")


def _rollback(embedded: Any, aws: Aws, ledger: Ledger) -> None:
    way = Way(aws, ledger)
    found = way.plan(f"thinggroup/{GROUP}", to="1")
    assert not found.plan.is_empty
    created = way.apply(found).created
    embedded.say(THING, f"jobs/{created.job_id}/namespace-aws-gg-deployment/update", {"status": "SUCCEEDED"})
    for _ in watch(aws, created, timeout_s=30):
        pass


def _explain(aws: Aws) -> None:
    explain(aws, THING)
    live = live_deployment(aws, aws.group_arn(GROUP))
    assert live is not None
    explain(aws, live["deploymentId"])


def _deploy(embedded: Any, aws: Aws, desired: Desired, folder: Path) -> None:
    plan = make_plan(aws, desired)
    created = apply(aws, plan).created
    ledger = Ledger(aws, folder=folder / "ledger")
    ledger.record(created, plan.request, replaces=None)
    ledger.judge(created.target_arn, created.deployment_id, Outcome.BAD)
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
    for verb in ("plan", "status", "export", "history", "why", "drift", "doctor"):
        unsafe = {action for action in calls[verb] if not reads.fullmatch(action)}
        assert unsafe <= {"iam:SimulatePrincipalPolicy"}, verb


def test_the_guides_policy_of_devices_is_what_is_made() -> None:
    class Place:
        region, account = "REGION", "ACCOUNT"

    blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", GUIDE.read_text(), re.DOTALL)]
    assert device_policy(Place()) in blocks  # type: ignore[arg-type]

"""The doctor: each verdict out of its facts, and a fleet on the embedded cloud that is broken piece by piece."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from monodon.cli.fleet import command
from monodon.cloud.cloud import Ready
from monodon.core.iot_policy import read_policy
from monodon.errors import FleetError
from monodon.fleet import Aws
from monodon.fleet.doctor import examine, judge_certificate, judge_clock
from monodon.fleet.doctor_grants import THING, Need, component_needs, device_needs, statements, unmet
from monodon.fleet.doctor_role import judge_trust
from monodon.fleet.nucleus_config import Endpoints
from monodon.fleet.on_device import Level, Verdict, judge
from monodon.fleet.on_device_facts import gather
from monodon.fleet.on_device_report import is_fine
from monodon.fleet.provisioning import (
    ROLE,
    ROLE_ALIAS,
    ROLE_POLICY,
    Shared,
    cloud_endpoints,
    device_policy,
    provision_account,
    provision_fleet,
)

PREFIX = "arn:aws:iot:eu-west-1:1:"
VARIABLES = {"iot:Connection.Thing.ThingName": "drone-1"}
NOW = datetime(2026, 11, 22, tzinfo=UTC)
NUMBERS = itertools.count(1)


def control(*resources: str, operations: Sequence[str] = ("aws.greengrass#PublishToIoTCore",)) -> dict[str, Any]:
    policy = {"operations": list(operations), "resources": list(resources)}
    return {"accessControl": {"aws.greengrass.ipc.mqttproxy": {"a:mqttproxy:1": policy}}}


def policy(*statements: dict[str, Any]) -> Any:
    return read_policy(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


def allow(action: Any, *resources: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": [PREFIX + resource for resource in resources]}


# Grants against IoT policies


@pytest.mark.parametrize(
    ("resource", "granted", "is_met"),
    [
        ("a/b", "topic/a/b", True),
        ("a/b", "topic/a/*", True),
        ("a/b", "topic/a/c", False),
        ("a/*", "topic/a/*", True),
        ("a/*", "topic/*", True),
        ("a/*", "topic/a/?", False),
        ("a/*", "topic/a/b", False),
        ("a/*", "topic/a/*/c", False),
        ("*/a", "topic/*", True),
        ("a/+/c", "topic/a/*/c", True),
        ("a/+/c", "topic/a/b/c", False),
        ("a/#", "topic/a/*", True),
        ("a/#", "topic/a", False),
        ("#", "topic/*", True),
        ("a/c++", "topic/a/c++", True),
        ("a/${*}", "topic/a/${*}", True),
        ("a/${*}", "topic/a/b", False),
        ("{iot:thingName}/a", "topic/drone-1/a", True),
        ("{iot:thingName}/a", f"topic/{THING}/*", True),
        ("{iot:thingName}/a", "topic/drone-2/a", False),
    ],
)
def test_a_grant_is_met_where_the_policy_allows_all_of_it(resource: str, granted: str, is_met: bool) -> None:
    needs = component_needs("a.B", control(resource), "drone-1")
    found = unmet(needs, [policy(allow("iot:Publish", granted))], PREFIX, VARIABLES)
    assert (not found) == is_met


def test_a_denial_of_a_part_is_found() -> None:
    needs = component_needs("a.B", control("a/*"), "drone-1")
    everything = allow("iot:Publish", "topic/*")
    refused = {"Effect": "Deny", "Action": "iot:Publish", "Resource": PREFIX + "topic/a/*"}
    assert not unmet(needs, [policy(everything)], PREFIX, VARIABLES)
    assert unmet(needs, [policy(everything), policy(refused)], PREFIX, VARIABLES) == needs


def test_subscribing_needs_a_filter_and_what_it_brings() -> None:
    needs = component_needs("a.B", control("a/+/c", operations=["aws.greengrass#SubscribeToIoTCore"]), "drone-1")
    assert {(need.action, need.resource) for need in needs} == {
        ("iot:Subscribe", "topicfilter/a/+/c"),
        ("iot:Receive", "topic/a/*/c"),
    }
    only_filter = policy(allow("iot:Subscribe", "topicfilter/a/*"))
    assert [need.action for need in unmet(needs, [only_filter], PREFIX, VARIABLES)] == ["iot:Receive"]


@pytest.mark.parametrize(
    "configuration",
    [
        None,
        [],
        {"accessControl": None},
        {"accessControl": {"aws.greengrass.ipc.mqttproxy": [1]}},
        {"accessControl": {"aws.greengrass.ipc.mqttproxy": {"p": {"operations": 1, "resources": [None]}}}},
        {"accessControl": {"aws.greengrass.ipc.pubsub": {"p": {"operations": ["*"], "resources": ["*"]}}}},
    ],
)
def test_what_is_no_grant_needs_nothing(configuration: Any) -> None:
    assert component_needs("a.B", configuration, "drone-1") == ()


def test_the_missing_statements_are_enough() -> None:
    """Pasted as they are, nothing is missing any more: for the device and for every kind of grant."""
    needs = device_needs("drone-1", "Alias")
    for resource in ("a/*", "{iot:thingName}/+/x", "all/#", "star/${*}/${?}", "plain"):
        needs += component_needs("a.B", control(resource, operations=["*"]), "drone-1")
    assert unmet(needs, [], PREFIX, VARIABLES) == needs
    pasted = policy(*statements(needs, PREFIX))
    assert unmet(needs, [pasted], PREFIX, VARIABLES) == ()
    assert unmet(needs, [pasted], PREFIX, {"iot:Connection.Thing.ThingName": "drone-2"}) != ()


def test_what_provisioning_makes_is_what_a_nucleus_needs() -> None:
    class Place:
        region, account = "eu-west-1", "1"

    made = policy(*device_policy(Place())["Statement"])  # type: ignore[arg-type]
    assert unmet(device_needs("drone-1", ROLE_ALIAS), [made], PREFIX, VARIABLES) == ()
    assert unmet(device_needs("drone-1", "Other"), [made], PREFIX, VARIABLES) == (
        Need(
            component="the nucleus",
            action="iot:AssumeRoleWithCertificate",
            resource="rolealias/Other",
            probes=("rolealias/Other",),
        ),
    )


# Clock, certificate, role


@pytest.mark.parametrize(
    ("skew_s", "level", "says"),
    [
        (0, Level.FINE, "0 s"),
        (-59, Level.FINE, "59 s behind"),
        (61, Level.WARNING, "61 s ahead of"),
        (-299, Level.WARNING, "behind"),
        (300, Level.WRONG, "300 s ahead of AWS"),
        (-86400, Level.WRONG, "86400 s behind AWS"),
    ],
)
def test_a_clock_is_compared_with_awss(skew_s: int, level: Level, says: str) -> None:
    verdict = judge_clock(NOW + timedelta(seconds=skew_s), NOW)
    assert (verdict.level, says in verdict.message) == (level, True), verdict
    assert judge_clock(NOW, None).level is Level.UNKNOWN


def pem(end: datetime) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - timedelta(days=9), end)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("status", "left", "level", "says"),
    [
        ("ACTIVE", 31, Level.FINE, "active until 2026-12-23"),
        ("ACTIVE", 29, Level.WARNING, "expires on 2026-12-21"),
        ("ACTIVE", 0, Level.WRONG, "expired on 2026-11-22"),
        ("INACTIVE", 31, Level.WRONG, "is INACTIVE"),
        ("REVOKED", 31, Level.WRONG, "is REVOKED"),
    ],
)
def test_a_certificate_is_active_and_lasts(status: str, left: int, level: Level, says: str) -> None:
    described = {"certificateId": "c" * 64, "status": status, "certificatePem": pem(NOW + timedelta(days=left))}
    verdict = judge_certificate("drone-1", described, NOW)
    assert (verdict.level, says in verdict.message) == (level, True), verdict
    unreadable = judge_certificate("drone-1", {**described, "status": "ACTIVE", "certificatePem": "x"}, NOW)
    assert unreadable.level is Level.UNKNOWN


@pytest.mark.parametrize(
    ("principal", "action", "level"),
    [
        ({"Service": "credentials.iot.amazonaws.com"}, "sts:AssumeRole", Level.FINE),
        ({"Service": ["a", "credentials.iot.amazonaws.com"]}, ["sts:AssumeRole"], Level.FINE),
        ({"Service": "iot.amazonaws.com"}, "sts:AssumeRole", Level.WRONG),
        ("*", "sts:AssumeRole", Level.WRONG),
        ({"Service": "credentials.iot.amazonaws.com"}, "sts:TagSession", Level.WRONG),
    ],
)
def test_aws_iot_must_be_trusted_with_the_role(principal: Any, action: Any, level: Level) -> None:
    document = {"Statement": {"Effect": "Allow", "Principal": principal, "Action": action}}
    for given in (document, json.dumps(document)):
        verdict = judge_trust("R", given)
        assert verdict.level is level
        assert (verdict.statement is not None) == (level is Level.WRONG)


# A fleet on the embedded cloud, and on moto

RECIPE = {
    "RecipeFormatVersion": "2020-01-25",
    "ComponentName": "com.example.Teller",
    "ComponentVersion": "1.0.0",
    "ComponentConfiguration": {
        "DefaultConfiguration": control(
            "monodon/{iot:thingName}/told", "elsewhere/*", operations=["aws.greengrass#PublishToIoTCore"]
        )
    },
    "Manifests": [{"Lifecycle": {"run": "true"}}],
}


class Ward:
    """A provisioned thing with names of its own."""

    def __init__(self, aws: Aws, folder: Path, name: str) -> None:
        self.aws, self.folder, self.thing, self.group = aws, folder, f"{name}-1", f"{name}s"
        self.shared = Shared(
            policy=f"{name}-policy", role=f"{name}-role", role_alias=f"{name}-alias", bucket=f"{name}-artifacts"
        )
        local = Endpoints(iot_data="localhost", credentials="localhost:1", data_plane="localhost")
        list(
            provision_fleet(
                aws,
                things=[self.thing],
                group=self.group,
                roots={self.thing: folder / self.thing},
                root_ca=b"ca",
                endpoints=local,
                shared=self.shared,
            )
        )

    @property
    def certificate(self) -> str:
        (arn,) = self.aws.iot.list_thing_principals(thingName=self.thing)["principals"]
        return str(arn)

    def examine(self, **more: Any) -> list[Verdict]:
        more.setdefault("things", [self.thing])
        return list(examine(self.aws, role_alias=self.shared.role_alias, **more))

    def wrong(self, **more: Any) -> list[Verdict]:
        """What is wrong, but for the account's bucket, which this thing's role does not read."""
        return [
            verdict
            for verdict in self.examine(**more)
            if verdict.level is Level.WRONG and verdict.check != f"s3:GetObject on {self.aws.bucket}"
        ]


@pytest.fixture
def ward(cloud_aws: Aws, tmp_path: Path) -> Ward:
    return Ward(cloud_aws, tmp_path, f"ward{next(NUMBERS)}")


def test_what_was_provisioned_is_fine(cloud_aws: Aws, tmp_path: Path) -> None:
    local = Endpoints(iot_data="localhost", credentials="localhost:1", data_plane="localhost")
    list(
        provision_fleet(
            cloud_aws,
            things=["fine-1", "fine-2"],
            group="fine",
            roots={name: tmp_path / name for name in ("fine-1", "fine-2")},
            root_ca=b"ca",
            endpoints=local,
        )
    )
    verdicts = list(examine(cloud_aws, group="fine"))
    assert is_fine(verdicts), [verdict for verdict in verdicts if verdict.level is not Level.FINE]
    assert {"fine-1: certificate", "fine-2: policies", "clock", "endpoint iot:Data-ATS"} <= {v.check for v in verdicts}
    (bucket,) = [verdict for verdict in verdicts if verdict.check == f"s3:GetObject on {cloud_aws.bucket}"]
    assert "read from Artifacts" in bucket.message, "it says how it was found out"
    assert is_fine(examine(cloud_aws, root=tmp_path / "fine-1"))


def test_a_grant_that_the_iot_policy_refuses_is_named_with_what_to_paste(ward: Ward) -> None:
    """The promise: the exact statement, from what is deployed; pasted, the fleet is fine."""
    aws = ward.aws
    aws.greengrass.create_component_version(inlineRecipe=json.dumps(RECIPE).encode())
    aws.greengrass.create_deployment(
        targetArn=aws.group_arn(ward.group), components={"com.example.Teller": {"componentVersion": "1.0.0"}}
    )
    (verdict,) = ward.wrong()
    assert verdict.check == f"{ward.thing}: policies"
    assert verdict.message == "com.example.Teller may not: iot:Publish on topic/elsewhere/*"
    assert verdict.fix == f"add to the IoT policy {ward.shared.policy}:"
    assert verdict.statement == {
        "Effect": "Allow",
        "Action": ["iot:Publish"],
        "Resource": [f"arn:aws:iot:{aws.region}:{aws.account}:topic/elsewhere/*"],
    }
    document = json.loads(aws.iot.get_policy(policyName=ward.shared.policy)["policyDocument"])
    document["Statement"].append(verdict.statement)
    aws.iot.create_policy_version(policyName=ward.shared.policy, policyDocument=json.dumps(document), setAsDefault=True)
    assert ward.wrong() == []


def test_the_merge_of_a_deployment_grants_too(ward: Ward) -> None:
    name = "com.example.Merged"
    recipe = {**RECIPE, "ComponentName": name, "ComponentConfiguration": {"DefaultConfiguration": {}}}
    ward.aws.greengrass.create_component_version(inlineRecipe=json.dumps(recipe).encode())
    update = {"merge": json.dumps(control("merged/#"))}
    ward.aws.greengrass.create_deployment(
        targetArn=ward.aws.thing_arn(ward.thing),
        components={name: {"componentVersion": "1.0.0", "configurationUpdate": update}},
    )
    (verdict,) = ward.wrong()
    assert "iot:Publish on topic/merged/*" in verdict.message


def test_recipes_are_checked_before_they_are_deployed(ward: Ward, tmp_path: Path) -> None:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "com.example.Teller-1.0.0.json").write_text(json.dumps(RECIPE))
    (verdict,) = ward.wrong(recipes=recipes)
    assert "topic/elsewhere/*" in verdict.message
    with pytest.raises(FleetError, match="cannot read .*missing.yaml"):
        ward.examine(recipes=tmp_path / "missing.yaml")


def test_a_policy_of_a_group_counts(ward: Ward) -> None:
    aws = ward.aws
    aws.iot.detach_policy(policyName=ward.shared.policy, target=ward.certificate)
    (nucleus,) = ward.wrong()
    assert nucleus.message.startswith("the nucleus may not: iot:Connect")
    assert nucleus.statement is not None
    aws.iot.attach_policy(policyName=ward.shared.policy, target=aws.group_arn(ward.group))
    assert ward.wrong() == []


def test_a_certificate_that_is_off_or_missing_is_wrong(ward: Ward) -> None:
    arn = ward.certificate
    ward.aws.iot.update_certificate(certificateId=arn.rpartition("/")[2], newStatus="INACTIVE")
    assert "is INACTIVE" in ward.wrong()[0].message
    ward.aws.iot.detach_thing_principal(thingName=ward.thing, principal=arn)
    assert [verdict.message for verdict in ward.wrong()] == ["it holds none"]
    ward.aws.iot.delete_thing(thingName=ward.thing)
    assert [verdict.message for verdict in ward.wrong()] == ["there is no such thing"]


def test_a_role_that_may_not_read_is_wrong(ward: Ward) -> None:
    aws, role = ward.aws, ward.shared.role
    list(provision_account(aws))  # with the account's own bucket, which is not this role's
    (denied,) = [verdict for verdict in ward.examine() if verdict.check == f"s3:GetObject on {aws.bucket}"]
    assert denied.level is Level.WRONG
    objects = f"arn:aws:s3:::{aws.bucket}/*"
    assert denied.statement == {"Effect": "Allow", "Action": "s3:GetObject", "Resource": objects}
    pasted = {"Version": "2012-10-17", "Statement": [denied.statement]}
    aws.iam.put_role_policy(RoleName=role, PolicyName="More", PolicyDocument=json.dumps(pasted))
    assert is_fine(ward.examine())
    aws.iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps({"Statement": []}))
    assert [verdict.check for verdict in ward.wrong()] == [f"role {role}: trust"]
    for name in aws.iam.list_role_policies(RoleName=role)["PolicyNames"]:
        aws.iam.delete_role_policy(RoleName=role, PolicyName=name)
    aws.iam.delete_role(RoleName=role)
    assert "there is no such role" in ward.wrong()[0].message
    aws.iot.delete_role_alias(roleAlias=ward.shared.role_alias)
    assert ward.wrong()[0].message == "there is none"


def test_a_root_of_another_account_is_found(ward: Ward) -> None:
    root = ward.folder / ward.thing
    config = root / "config/config.yaml"
    there = "elsewhere.amazonaws.com"
    config.write_text(config.read_text().replace("iotDataEndpoint: localhost", f"iotDataEndpoint: {there}"))
    (verdict,) = ward.wrong(root=root, things=[])
    assert (verdict.check, there in verdict.message) == ("endpoint iot:Data-ATS", True)
    config.write_text("nothing")
    with pytest.raises(FleetError, match="is not what provisioning writes"):
        ward.examine(root=root)


def test_an_empty_group_is_said(cloud_aws: Aws) -> None:
    cloud_aws.iot.create_thing_group(thingGroupName="nobody")
    assert [v.message for v in examine(cloud_aws, group="nobody") if v.check == "group nobody"] == ["it has no members"]
    with pytest.raises(FleetError, match="ResourceNotFoundException"):
        list(examine(cloud_aws, group="nowhere"))


# The command, and a device that is really there


def doctor(ready: Ready, *arguments: str) -> Result:
    keys = {"AWS_ENDPOINT_URL": ready.endpoint, "AWS_REGION": ready.region}
    keys |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    return CliRunner(env=keys).invoke(command, ["doctor", *arguments])


def test_the_commands_exit_code_says_whether_all_is_well(ward: Ward, module_cloud: Ready) -> None:
    list(provision_account(ward.aws))
    pasted = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{ward.aws.bucket}/*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [pasted]})
    ward.aws.iam.put_role_policy(RoleName=ward.shared.role, PolicyName="More", PolicyDocument=document)
    of = ("--thing", ward.thing, "--role-alias", ward.shared.role_alias)
    assert doctor(module_cloud, *of).exit_code == 0
    ward.aws.iot.detach_policy(policyName=ward.shared.policy, target=ward.certificate)
    wrong = doctor(module_cloud, *of)
    assert wrong.exit_code == 1
    assert '"Effect": "Allow"' in wrong.output
    told = [json.loads(line) for line in doctor(module_cloud, *of, "--json").output.splitlines()]
    (lacking,) = [one for one in told if one["level"] == "wrong"]
    assert lacking["check"] == f"{ward.thing}: policies"
    pasteable = read_policy(json.dumps({"Statement": lacking["statement"]["Statement"]}))
    prefix = f"arn:aws:iot:{ward.aws.region}:{ward.aws.account}:"
    needs, variables = device_needs(ward.thing, ward.shared.role_alias), {"iot:Connection.Thing.ThingName": ward.thing}
    assert unmet(needs, [pasteable], prefix, variables) == ()
    assert doctor(module_cloud, "--on-device", "--group", "x").exit_code == 2


def test_a_device_of_a_running_cloud_reaches_its_endpoints(cloud_aws: Aws, module_cloud: Ready, tmp_path: Path) -> None:
    root = tmp_path / "reach-1"
    endpoints = cloud_endpoints(asdict(module_cloud))
    roots, ca = {"reach-1": root}, Path(module_cloud.ca_file)
    place: dict[str, Any] = {"things": ["reach-1"], "group": "reach", "roots": roots, "root_ca": ca}
    list(provision_fleet(cloud_aws, **place, endpoints=endpoints))
    facts = gather(root)
    assert {port.purpose for port in facts.ports} == {"MQTT", "data plane", "role credentials"}
    assert [port.error for port in facts.ports] == ["", "", ""]
    assert (facts.thing, facts.certificate_error, facts.key_error, facts.key_mode) == ("reach-1", "", "", 0o600)
    judged = {verdict.check: verdict.level for verdict in judge(facts)}
    assert judged["certificate"] is judged["key"] is judged[f"port {module_cloud.mqtt_port}"] is Level.FINE
    assert is_fine(examine(cloud_aws, root=root))


def test_an_account_is_examined_on_moto(moto_aws: Aws) -> None:
    """moto is an IAM that somebody else wrote; it has no greengrassv2, so no things here."""
    assert {v.message for v in examine(moto_aws) if v.level is Level.WRONG} == {"there is none"}
    list(provision_account(moto_aws))
    verdicts = list(examine(moto_aws))
    assert is_fine(verdicts), verdicts
    (bucket,) = [verdict for verdict in verdicts if verdict.check.startswith("s3:GetObject")]
    assert f"the role {ROLE} may" in bucket.message
    moto_aws.iam.delete_role_policy(RoleName=ROLE, PolicyName=ROLE_POLICY)
    (verdict,) = [verdict for verdict in examine(moto_aws) if verdict.level is Level.WRONG]
    assert verdict.statement is not None

"""Provisioning against moto, an independent AWS that has s3, iot, iam and sts, and against the embedded cloud."""

import http.server
import json
import os
import ssl
import tarfile
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from monodon.cli.fleet import command
from monodon.cloud.cloud import Ready
from monodon.core.iot_policy import allowed, read_policy
from monodon.errors import FleetError, StateError
from monodon.fleet import Aws, Endpoints, provision, provision_account
from monodon.fleet.doctor_grants import device_needs, unmet
from monodon.fleet.provisioning import (
    POLICY,
    ROLE,
    ROLE_ALIAS,
    ROLE_POLICY,
    Shared,
    artifact_policy,
    cloud_endpoints,
    device_policy,
    numbered,
)
from monodon.fleet.steps import Step

ENDPOINTS = Endpoints(
    iot_data="localhost", credentials="localhost:8443", data_plane="localhost", data_plane_port=8443, mqtt_port=8883
)


@pytest.fixture
def root_ca(tmp_path: Path) -> Path:
    path = tmp_path / "AmazonRootCA1.pem"
    path.write_text("-----BEGIN CERTIFICATE-----\n")
    return path


def test_a_thing_gets_all_that_a_nucleus_needs(moto_aws: Aws, tmp_path: Path, root_ca: Path) -> None:
    root = tmp_path / "drone-1"
    steps = list(provision(moto_aws, thing="drone-1", group="drones", root=root, root_ca=root_ca, endpoints=ENDPOINTS))
    assert all(step.made for step in steps)
    members = moto_aws.iot.list_things_in_thing_group(thingGroupName="drones")["things"]
    assert members == ["drone-1"]
    (principal,) = moto_aws.iot.list_thing_principals(thingName="drone-1")["principals"]
    (policy,) = moto_aws.iot.list_attached_policies(target=principal)["policies"]
    assert policy["policyName"] == POLICY
    moto_aws.s3.head_bucket(Bucket=moto_aws.bucket)
    assert moto_aws.bucket == f"monodon-{moto_aws.account}-eu-west-1"
    config = yaml.safe_load((root / "config/config.yaml").read_text())
    assert config["system"]["thingName"] == "drone-1"
    for key in ("certificateFilePath", "privateKeyPath", "rootCaPath"):
        assert Path(config["system"][key]).is_file()
    nucleus = config["services"]["aws.greengrass.Nucleus"]["configuration"]
    assert nucleus["iotRoleAlias"] == ROLE_ALIAS
    assert nucleus["awsRegion"] == "eu-west-1"
    assert nucleus["mqtt"] == {"port": 8883}


def test_the_private_key_is_its_owners_alone(moto_aws: Aws, tmp_path: Path, root_ca: Path) -> None:
    root = tmp_path / "drone-1"
    list(provision(moto_aws, thing="drone-1", group="drones", root=root, root_ca=root_ca, endpoints=ENDPOINTS))
    assert (root / "certs/device.key.pem").stat().st_mode & 0o777 == 0o600
    assert (root / "config/config.yaml").stat().st_mode & 0o777 == 0o600


def test_provisioning_again_makes_nothing_twice(moto_aws: Aws, tmp_path: Path, root_ca: Path) -> None:
    def once() -> list[bool]:
        root = tmp_path / "drone-1"
        steps = provision(moto_aws, thing="drone-1", group="drones", root=root, root_ca=root_ca, endpoints=ENDPOINTS)
        return [step.made for step in steps if not step.what.startswith("configuration")]

    assert all(once())
    key = (tmp_path / "drone-1/certs/device.key.pem").read_bytes()
    assert not any(once())
    assert (tmp_path / "drone-1/certs/device.key.pem").read_bytes() == key
    assert len(moto_aws.iot.list_certificates()["certificates"]) == 1


def test_provisioning_that_was_interrupted_is_finished(moto_aws: Aws, tmp_path: Path, root_ca: Path) -> None:
    def steps() -> Generator[Step, None, None]:
        root = tmp_path / "drone-1"
        yield from provision(moto_aws, thing="drone-1", group="drones", root=root, root_ca=root_ca, endpoints=ENDPOINTS)

    for count in range(1, 9):
        started = steps()
        for _ in range(count):
            next(started)
        started.close()  # Ctrl-C, one step further each time
    assert not any(step.made for step in list(steps())[:8])
    assert moto_aws.iam.get_role_policy(RoleName=ROLE, PolicyName=ROLE_POLICY)["PolicyDocument"]["Statement"]


def test_two_operators_at_once_do_not_mind(moto_aws: Aws) -> None:
    """Each looks before the other has made it; whoever is slower finds it made."""
    assert moto_aws.account
    assert all((moto_aws.s3, moto_aws.iot, moto_aws.iam))  # making clients is not for several threads
    with ThreadPoolExecutor(4) as pool:
        accounts = [pool.submit(lambda: list(provision_account(moto_aws))) for _ in range(4)]
    names = {tuple(step.what for step in account.result()) for account in accounts}
    assert len(names) == 1


def test_the_device_policy_names_the_thing_and_no_more(moto_aws: Aws, tmp_path: Path, root_ca: Path) -> None:
    root = tmp_path / "drone-1"
    list(provision(moto_aws, thing="drone-1", group="drones", root=root, root_ca=root_ca, endpoints=ENDPOINTS))
    document = json.loads(moto_aws.iot.get_policy(policyName=POLICY)["policyDocument"])
    for statement in document["Statement"]:
        if statement["Action"] != "iot:AssumeRoleWithCertificate" and "greengrass:" not in str(statement["Action"]):
            assert all("${iot:Connection.Thing.ThingName}" in resource for resource in statement["Resource"])


def test_a_root_of_another_thing_is_refused(moto_aws: Aws, tmp_path: Path, root_ca: Path) -> None:
    root = tmp_path / "root"
    list(provision(moto_aws, thing="drone-1", group="drones", root=root, root_ca=root_ca, endpoints=ENDPOINTS))
    with pytest.raises(StateError, match="belongs to the thing drone-1, not drone-2"):
        list(provision(moto_aws, thing="drone-2", group="drones", root=root, root_ca=root_ca, endpoints=ENDPOINTS))
    (root / "config/config.yaml").write_text("just text")
    with pytest.raises(StateError, match="is not a nucleus configuration"):
        list(provision(moto_aws, thing="drone-1", group="drones", root=root, root_ca=root_ca, endpoints=ENDPOINTS))


def test_an_aws_that_is_not_there_is_one_clear_error(tmp_path: Path, root_ca: Path) -> None:
    aws = Aws(endpoint_url="http://127.0.0.1:9", region="eu-west-1")
    with pytest.raises(FleetError, match="AWS cannot be reached"):
        list(provision(aws, thing="a", group="b", root=tmp_path / "a", root_ca=root_ca, endpoints=ENDPOINTS))


def test_an_embedded_clouds_ports_come_from_what_it_said() -> None:
    ready = {"https_endpoint": "https://localhost:4443", "mqtt_host": "localhost", "mqtt_port": 1999}
    assert cloud_endpoints(ready) == Endpoints(
        iot_data="localhost", credentials="localhost:4443", data_plane="localhost", data_plane_port=4443, mqtt_port=1999
    )


def test_a_server_that_is_no_aws_is_one_clear_error() -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>It works!<br></html>")
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(FleetError, match="AWS cannot be reached: Unable to parse response"):
                _ = Aws(endpoint_url=f"http://127.0.0.1:{server.server_port}", region="us-east-1").account
        finally:
            server.shutdown()
            thread.join()


# Interrupted after every call


class Cut(Exception):
    """The line went dead: after the call was carried out, before its answer was read."""


class Wire:
    """Counts the calls of one Aws, and goes dead after the one asked for."""

    def __init__(self, aws: Aws) -> None:
        self.calls: list[str] = []
        self.cut_after: int | None = None
        for client in (aws.iot, aws.iam, aws.s3):
            client.meta.events.register("after-call", self.note)

    def note(self, model: Any, **event: Any) -> None:
        self.calls.append(model.name)
        if len(self.calls) == self.cut_after:
            raise Cut(model.name)


@pytest.fixture
def wired_aws(module_cloud: Ready) -> tuple[Aws, Wire]:
    aws = Aws(endpoint_url=module_cloud.endpoint, region=module_cloud.region)
    return aws, Wire(aws)


def facts(aws: Aws, thing: str, group: str, root: Path, shared: Shared) -> dict[str, Any]:
    """All that provisioning promises, without what is random in it."""
    principals = aws.iot.list_thing_principals(thingName=thing)["principals"]
    own = (root / "certs/certificate.arn").read_text()
    described = aws.iot.describe_certificate(certificateId=own.rpartition("/")[2])["certificateDescription"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(root / "certs/device.pem.crt", root / "certs/device.key.pem")
    return {
        "its own certificate alone": principals == [own],
        "status": described["status"],
        "policies": [one["policyName"] for one in aws.iot.list_attached_policies(target=own)["policies"]],
        "groups": [one["groupName"] for one in aws.iot.list_thing_groups_for_thing(thingName=thing)["thingGroups"]],
        "policy": json.loads(aws.iot.get_policy(policyName=shared.policy)["policyDocument"])
        == device_policy(aws, shared),
        "role": aws.iam.get_role_policy(RoleName=shared.role, PolicyName=shared.role_policy)["PolicyDocument"]
        == artifact_policy(aws, shared),
        "alias": aws.iot.describe_role_alias(roleAlias=shared.role_alias)["roleAliasDescription"]["roleArn"].endswith(
            f":role/{shared.role}"
        ),
        "bucket": aws.s3.head_bucket(Bucket=shared.bucket)["ResponseMetadata"]["HTTPStatusCode"],
        "modes": {path.name: path.stat().st_mode & 0o777 for path in sorted(root.rglob("*")) if path.is_file()},
        "thing": yaml.safe_load((root / "config/config.yaml").read_text())["system"]["thingName"] == thing,
        "left over": [path.name for path in root.rglob("*.tmp")],
    }


def names(prefix: str) -> Shared:
    tags = {"of": prefix}
    return Shared(
        policy=f"{prefix}-p", role=f"{prefix}-r", role_alias=f"{prefix}-a", bucket=f"{prefix}-bucket", tags=tags
    )


def make(aws: Aws, prefix: str, folder: Path) -> list[Step]:
    place: dict[str, Any] = {"thing": f"{prefix}-1", "group": prefix, "root": folder / f"{prefix}-1"}
    return list(provision(aws, **place, root_ca=b"ca", endpoints=ENDPOINTS, shared=names(prefix)))


def test_cut_off_after_any_call_and_run_again_is_the_same(wired_aws: tuple[Aws, Wire], tmp_path: Path) -> None:
    """The call was carried out and its answer lost, for each call in turn: the worst that can happen to a line."""
    aws, wire = wired_aws
    assert aws.account
    make(aws, "whole", tmp_path)
    calls = len(wire.calls)
    expected = facts(aws, "whole-1", "whole", tmp_path / "whole-1", names("whole"))
    assert expected["status"] == "ACTIVE"
    assert expected["its own certificate alone"]
    assert expected["modes"]["device.key.pem"] == 0o600
    cut = []
    for number in range(1, calls + 1):
        prefix = f"cut{number}"
        wire.calls.clear()
        wire.cut_after = number
        with pytest.raises(Cut):
            make(aws, prefix, tmp_path)
        cut.append(wire.calls[-1])
        wire.cut_after = None
        make(aws, prefix, tmp_path)
        found = facts(aws, f"{prefix}-1", prefix, tmp_path / f"{prefix}-1", names(prefix))
        assert found == {**expected, "policies": [f"{prefix}-p"], "groups": [prefix]}, f"cut after {cut[-1]}"
    critical = {
        "CreateKeysAndCertificate",
        "UpdateCertificate",
        "AttachThingPrincipal",
        "CreateBucket",
        "PutRolePolicy",
    }
    assert critical <= set(cut)
    # What an answer that never came may leave behind is inactive, and belongs to nothing.
    orphans = [one for one in aws.iot.list_certificates(pageSize=250)["certificates"] if one["status"] == "INACTIVE"]
    assert len(orphans) == cut.count("CreateKeysAndCertificate")
    for one in orphans:
        assert aws.iot.list_principal_things(principal=one["certificateArn"])["things"] == []
        assert aws.iot.list_attached_policies(target=one["certificateArn"])["policies"] == []


def test_cut_off_after_any_call_on_moto(moto_aws: Aws, tmp_path: Path) -> None:
    """One call further each time, on the same account, until it is whole."""
    wire = Wire(moto_aws)
    assert moto_aws.account
    cuts = 0
    for number in range(1, 60):
        wire.calls.clear()
        wire.cut_after = number
        try:
            make(moto_aws, "moto", tmp_path)
        except Cut:
            cuts += 1
        else:
            break
    wire.cut_after = None
    found = facts(moto_aws, "moto-1", "moto", tmp_path / "moto-1", names("moto"))
    assert found.pop("status") == "ACTIVE"
    assert found["its own certificate alone"]
    assert found["policies"] == ["moto-p"]
    assert cuts > 10


def test_a_lost_key_makes_a_new_certificate_and_says_so(cloud_aws: Aws, tmp_path: Path) -> None:
    make(cloud_aws, "lost", tmp_path)
    certs = tmp_path / "lost-1/certs"
    earlier = (certs / "certificate.arn").read_text()
    (certs / "device.key.pem").unlink()
    said = [step.what for step in make(cloud_aws, "lost", tmp_path) if step.what.startswith("certificate")]
    assert len(said) == 1
    assert "the key of the earlier one is lost; switch that one off: aws iot update-certificate" in said[0]
    assert earlier.rpartition("/")[2] in said[0]
    assert (certs / "certificate.arn").read_text() != earlier
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certs / "device.pem.crt", certs / "device.key.pem")


def test_a_foreign_key_is_a_lost_one_and_a_lost_certificate_is_read_again(cloud_aws: Aws, tmp_path: Path) -> None:
    make(cloud_aws, "foreign", tmp_path)
    certs = tmp_path / "foreign-1/certs"
    pem = (certs / "device.pem.crt").read_bytes()
    (certs / "device.pem.crt").unlink()
    assert not any(step.made for step in make(cloud_aws, "foreign", tmp_path))
    assert (certs / "device.pem.crt").read_bytes() == pem
    made = cloud_aws.iot.create_keys_and_certificate(setAsActive=False)
    (certs / "device.key.pem").write_text(made["keyPair"]["PrivateKey"])
    assert any("is lost" in step.what for step in make(cloud_aws, "foreign", tmp_path))


@pytest.mark.parametrize("status", ["INACTIVE", "REVOKED"])
def test_a_certificate_that_was_switched_off_stays_off(cloud_aws: Aws, tmp_path: Path, status: str) -> None:
    prefix = f"off-{status.lower()}"
    make(cloud_aws, prefix, tmp_path)
    arn = (tmp_path / f"{prefix}-1/certs/certificate.arn").read_text()
    cloud_aws.iot.update_certificate(certificateId=arn.rpartition("/")[2], newStatus=status)
    with pytest.raises(FleetError, match=f"the certificate of {prefix}-1 is {status}"):
        make(cloud_aws, prefix, tmp_path)
    described = cloud_aws.iot.describe_certificate(certificateId=arn.rpartition("/")[2])["certificateDescription"]
    assert described["status"] == status


def test_a_certificate_that_aws_forgot_is_made_again(cloud_aws: Aws, tmp_path: Path) -> None:
    make(cloud_aws, "forgot", tmp_path)
    arn = (tmp_path / "forgot-1/certs/certificate.arn").read_text()
    cloud_aws.iot.detach_thing_principal(thingName="forgot-1", principal=arn)
    cloud_aws.iot.update_certificate(certificateId=arn.rpartition("/")[2], newStatus="INACTIVE")
    cloud_aws.iot.delete_certificate(certificateId=arn.rpartition("/")[2], forceDelete=True)
    assert any("AWS knows the earlier one no more" in step.what for step in make(cloud_aws, "forgot", tmp_path))
    assert facts(cloud_aws, "forgot-1", "forgot", tmp_path / "forgot-1", names("forgot"))["status"] == "ACTIVE"


def test_all_that_can_have_tags_has_them(cloud_aws: Aws, tmp_path: Path) -> None:
    make(cloud_aws, "tagged", tmp_path)
    wanted, shared = [{"Key": "of", "Value": "tagged"}], names("tagged")
    iot = f"arn:aws:iot:{cloud_aws.region}:{cloud_aws.account}"
    arns = [cloud_aws.group_arn("tagged"), f"{iot}:policy/{shared.policy}", f"{iot}:rolealias/{shared.role_alias}"]
    for arn in arns:
        assert cloud_aws.iot.list_tags_for_resource(resourceArn=arn)["tags"] == wanted, arn
    assert cloud_aws.s3.get_bucket_tagging(Bucket=shared.bucket)["TagSet"] == wanted
    assert cloud_aws.iam.get_role(RoleName=shared.role)["Role"]["Tags"] == wanted


def test_no_key_is_told_or_logged(cloud_aws: Aws, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    said = [step.what for step in make(cloud_aws, "quiet", tmp_path)]
    key = (tmp_path / "quiet-1/certs/device.key.pem").read_text().splitlines()[1]
    assert key not in "".join(said)
    assert key not in caplog.text
    assert "PRIVATE KEY" not in caplog.text


def test_us_east_1_takes_no_location(moto_endpoint: str) -> None:
    """S3 refuses LocationConstraint us-east-1, and demands one everywhere else; moto does as well."""
    for region in ("us-east-1", "eu-central-1"):
        aws = Aws(endpoint_url=moto_endpoint, region=region)
        assert next(iter(provision_account(aws))).made
        place = aws.s3.get_bucket_location(Bucket=f"monodon-{aws.account}-{region}")["LocationConstraint"]
        assert place == (None if region == "us-east-1" else region)


def test_a_bucket_of_somebody_else_is_said(cloud_aws: Aws) -> None:
    def refuse(params: Any, **event: Any) -> tuple[Any, Any]:
        from botocore.awsrequest import AWSResponse

        error = {"Code": "403", "Message": "Forbidden"}
        return AWSResponse("", 403, {}, None), {"Error": error, "ResponseMetadata": {}}

    aws = Aws(endpoint_url=cloud_aws._endpoint_url, region=cloud_aws.region)
    aws.s3.meta.events.register("before-call.s3.HeadBucket", refuse)
    with pytest.raises(FleetError, match=f"the bucket {aws.bucket} is there, but not for you"):
        list(provision_account(aws))


def test_a_thing_may_have_a_policy_of_its_own(moto_aws: Aws, tmp_path: Path) -> None:
    """AWS fills in a thing's name for its first connection alone; written out, it holds for drone-1#2, too."""
    shared = Shared(own_policies=True)
    place: dict[str, Any] = {"thing": "drone-1", "group": "drones", "root": tmp_path}
    made = [step.what for step in provision(moto_aws, **place, root_ca=b"ca", endpoints=ENDPOINTS, shared=shared)]
    assert f"policy {POLICY}-drone-1" in made
    assert f"policy {POLICY}" not in made
    (principal,) = moto_aws.iot.list_thing_principals(thingName="drone-1")["principals"]
    (attached,) = moto_aws.iot.list_attached_policies(target=principal)["policies"]
    document = moto_aws.iot.get_policy(policyName=attached["policyName"])["policyDocument"]
    assert "${" not in document
    prefix = f"arn:aws:iot:{moto_aws.region}:{moto_aws.account}:"
    for client, may in (("drone-1", True), ("drone-1#2", True), ("drone-10", False), ("drone-2", False)):
        assert allowed([read_policy(document)], "iot:Connect", f"{prefix}client/{client}", {}) == may, client
    assert unmet(device_needs("drone-1", ROLE_ALIAS), [read_policy(document)], prefix, {}) == ()
    assert Shared(own_policies=True).policy_of("a:b") == f"{POLICY}-a=b"


# Several at once, and the command line


@pytest.mark.parametrize(
    ("count", "expected"), [(1, ["d1"]), (3, ["d1", "d2", "d3"]), (10, [f"d{n:02d}" for n in range(1, 11)])]
)
def test_things_are_numbered_with_as_many_digits_as_needed(count: int, expected: list[str]) -> None:
    assert numbered("d", count) == expected


def test_several_things_are_made_with_their_bundles_by_one_command(
    module_cloud: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = Path(module_cloud.ca_file).parents[1]
    keys = {"AWS_ENDPOINT_URL": module_cloud.endpoint, "AWS_REGION": module_cloud.region}
    keys |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    monkeypatch.chdir(tmp_path)

    def said(*arguments: str, code: int = 0) -> str:
        done = CliRunner(env=keys).invoke(command, ["provision", *arguments, "--group", "bulk", "--cloud", str(cloud)])
        assert done.exit_code == code, done.output
        return str(done.exception) if isinstance(done.exception, FleetError) else done.output

    first = said("bulk-", "--count", "3", "--bundle", "java")
    assert [f"made thing bulk-{n}" in first for n in (1, 2, 3)] == [True] * 3
    assert first.count("role alias") == 1, "what they share is looked at once"
    with tarfile.open(tmp_path / "bulk-2.tar.gz") as archive:
        config = yaml.safe_load(archive.extractfile("bulk-2/config.yaml") or b"")
    assert config["system"]["thingName"] == "bulk-2"
    assert (tmp_path / ".monodon/devices/bulk-3/certs/device.key.pem").is_file()
    assert "found certificate of bulk-1" in said("bulk-1", "--bundle", "java", "-o", "x.tar.gz")
    assert (tmp_path / "x.tar.gz").stat().st_mode & 0o777 == 0o600
    assert "8883 alone" in said("bulk-1", "--bundle", "lite", code=1)
    assert "say --bundle" in said("bulk-1", "-o", "x.tar.gz", code=2)
    assert "--root is for one thing" in said("a", "b", "--root", "x", code=2)
    assert "--count takes one THING" in said("a", "b", "--count", "2", code=2)
    assert "Missing argument" in said(code=2)


def test_without_the_clouds_folder_a_device_would_look_for_aws(
    module_cloud: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = Path(module_cloud.ca_file).parents[1]
    keys = {"AWS_ENDPOINT_URL": module_cloud.endpoint, "AWS_REGION": module_cloud.region}
    keys |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    config = tmp_path / ".monodon/devices/lost-1/config/config.yaml"
    monkeypatch.chdir(tmp_path)

    def said(*arguments: str) -> str:
        done = CliRunner(env=keys).invoke(command, ["provision", "lost-1", "--group", "lost", *arguments])
        assert done.exit_code == 0, done.output
        return done.output

    assert "hint: for the embedded cloud, run it again with --cloud" in said()
    assert "greengrassDataPlaneEndpoint: greengrass-ats.iot" in config.read_text()
    assert "warning" not in said("--cloud", str(cloud))
    assert "greengrassDataPlaneEndpoint: localhost" in config.read_text()
    assert config.parents[1].joinpath("certs/root-ca.pem").read_bytes() == Path(module_cloud.ca_file).read_bytes()


def test_without_credentials_the_hint_says_which_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with pytest.raises(FleetError, match="there are no AWS credentials") as refused:
        print(Aws().account)
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in (refused.value.hint or "")

"""Provisioning against moto: an independent AWS that has s3, iot, iam and sts."""

import http.server
import json
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from monodon.errors import FleetError, StateError
from monodon.fleet import Aws, Endpoints, provision, provision_account
from monodon.fleet.provisioning import POLICY, ROLE, ROLE_ALIAS, ROLE_POLICY, Step, cloud_endpoints

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

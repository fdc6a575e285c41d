"""A device's identity: thing, certificate, policy, group, role alias, artifact bucket; and its root folder's files.

Every step looks first, so that provisioning again changes nothing but what is missing.
"""

import json
import os
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import ClientError

from monodon.errors import FleetError, StateError
from monodon.fleet.aws import Aws, exists_already, is_missing, told

NUCLEUS = "aws.greengrass.Nucleus"
NUCLEUS_VERSION = "2.18.0"
POLICY = "MonodonCoreDevice"
ROLE = "MonodonTokenExchange"
ROLE_POLICY = "Artifacts"
ROLE_ALIAS = "MonodonTokenExchangeAlias"

#: What a core device may do in AWS IoT; each as narrow as Greengrass allows, with the thing's own name.
#: Source: AWS IoT Greengrass developer guide, "Minimal AWS IoT policy for core devices".
_THING = "${iot:Connection.Thing.ThingName}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where a device finds its cloud; ``port`` of the data plane and of MQTT."""

    iot_data: str
    credentials: str
    data_plane: str
    data_plane_port: int = 8443
    mqtt_port: int = 8883


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing done or found: ``what`` it is, and whether it was ``made`` just now."""

    what: str
    made: bool


def provision(
    aws: Aws, *, thing: str, group: str, root: Path, root_ca: Path, endpoints: Endpoints | None = None
) -> Iterator[Step]:
    """Make a thing that can run a nucleus in ``root``, a member of ``group``; each step is yielded as it is done.

    Args:
        root_ca: the certificate authority that the device trusts (of AWS: AmazonRootCA1.pem).
        endpoints: of the cloud, unless AWS is asked.

    Raises:
        FleetError: AWS refuses a call.
        StateError: ``root`` belongs to another thing.
    """
    _check_root(root, thing)
    with told():
        yield from provision_account(aws)
        yield from _group(aws, group)
        yield from _thing(aws, thing, group)
        certificate_arn = yield from _certificate(aws, thing, root)
        aws.iot.attach_policy(policyName=POLICY, target=certificate_arn)
        aws.iot.attach_thing_principal(thingName=thing, principal=certificate_arn)
        found = endpoints or ask_endpoints(aws)
    _write(root / "certs" / "root-ca.pem", root_ca.read_bytes(), 0o644)
    _write(root / "config" / "config.yaml", _config(aws, thing, root, found), 0o600)
    yield Step(what=f"configuration {root / 'config/config.yaml'}", made=True)


def provision_account(aws: Aws) -> Iterator[Step]:
    """Make what all devices of an account share: artifact bucket, IoT policy, role and role alias."""
    with told():
        yield _ensure(f"bucket {aws.bucket}", lambda: aws.s3.head_bucket(Bucket=aws.bucket), lambda: _make_bucket(aws))
        yield _ensure(
            f"policy {POLICY}",
            lambda: aws.iot.get_policy(policyName=POLICY),
            lambda: aws.iot.create_policy(policyName=POLICY, policyDocument=json.dumps(device_policy(aws))),
        )
        yield _ensure(f"role {ROLE}", lambda: aws.iam.get_role(RoleName=ROLE), lambda: _make_role(aws))
        policy = {"RoleName": ROLE, "PolicyName": ROLE_POLICY}
        yield _ensure(
            f"policy {ROLE_POLICY} of the role",
            lambda: aws.iam.get_role_policy(**policy),
            lambda: aws.iam.put_role_policy(**policy, PolicyDocument=json.dumps(artifact_policy(aws))),
        )
        role_arn = f"arn:aws:iam::{aws.account}:role/{ROLE}"
        yield _ensure(
            f"role alias {ROLE_ALIAS}",
            lambda: aws.iot.describe_role_alias(roleAlias=ROLE_ALIAS),
            lambda: aws.iot.create_role_alias(roleAlias=ROLE_ALIAS, roleArn=role_arn),
        )


def device_policy(aws: Aws) -> dict[str, Any]:
    """Return the IoT policy of a core device: its own client id and reserved topics, ``monodon/…``, the data plane."""
    prefix = f"arn:aws:iot:{aws.region}:{aws.account}"

    def topics(kind: str, *names: str) -> list[str]:
        return [f"{prefix}:{kind}/{name}" for name in names]

    names = (f"$aws/things/{_THING}/*", f"monodon/{_THING}/*")
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "iot:Connect", "Resource": topics("client", f"{_THING}*")},
            {"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"], "Resource": topics("topic", *names)},
            {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": topics("topicfilter", *names)},
            {
                "Effect": "Allow",
                "Action": [
                    "greengrass:GetComponentVersionArtifact",
                    "greengrass:ResolveComponentCandidates",
                    "greengrass:GetDeploymentConfiguration",
                    "greengrass:ListThingGroupsForCoreDevice",
                ],
                "Resource": "*",
            },
            {
                "Effect": "Allow",
                "Action": "iot:AssumeRoleWithCertificate",
                "Resource": f"{prefix}:rolealias/{ROLE_ALIAS}",
            },
        ],
    }


def artifact_policy(aws: Aws) -> dict[str, Any]:
    """Return the policy of the role that devices take on: they read the artifact bucket."""
    read = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{aws.bucket}/*"}
    return {"Version": "2012-10-17", "Statement": [read]}


def cloud_endpoints(ready: Mapping[str, Any]) -> Endpoints:
    """Return the endpoints of an embedded cloud from what it said when it was ready."""
    address = str(ready["https_endpoint"]).partition("://")[2].rstrip("/")
    host, _, port = address.rpartition(":")
    return Endpoints(
        iot_data=ready["mqtt_host"],
        credentials=address,
        data_plane=host,
        data_plane_port=int(port),
        mqtt_port=int(ready["mqtt_port"]),
    )


def ask_endpoints(aws: Aws) -> Endpoints:
    """Return the account's own endpoints."""

    def ask(kind: str) -> str:
        return str(aws.iot.describe_endpoint(endpointType=kind)["endpointAddress"])

    return Endpoints(
        iot_data=ask("iot:Data-ATS"),
        credentials=ask("iot:CredentialProvider"),
        data_plane=f"greengrass-ats.iot.{aws.region}.amazonaws.com",
    )


def _ensure(what: str, look: Any, make: Any) -> Step:
    try:
        look()
    except ClientError as error:
        if not is_missing(error):
            raise
        try:
            make()
        except ClientError as refusal:
            if not exists_already(refusal):
                raise
            return Step(what=what, made=False)  # another operator was faster
        return Step(what=what, made=True)
    return Step(what=what, made=False)


def _make_bucket(aws: Aws) -> None:
    where = {} if aws.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": aws.region}}
    aws.s3.create_bucket(Bucket=aws.bucket, **where)


def _make_role(aws: Aws) -> None:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "credentials.iot.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    aws.iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(trust))


def _group(aws: Aws, group: str) -> Iterator[Step]:
    yield _ensure(
        f"thing group {group}",
        lambda: aws.iot.describe_thing_group(thingGroupName=group),
        lambda: aws.iot.create_thing_group(thingGroupName=group),
    )


def _thing(aws: Aws, thing: str, group: str) -> Iterator[Step]:
    yield _ensure(
        f"thing {thing}",
        lambda: aws.iot.describe_thing(thingName=thing),
        lambda: aws.iot.create_thing(thingName=thing),
    )
    aws.iot.add_thing_to_thing_group(thingGroupName=group, thingName=thing)


def _certificate(aws: Aws, thing: str, root: Path) -> Generator[Step, None, str]:
    """Return the ARN of the certificate whose key lies in the root; made if there is none."""
    note = root / "certs" / "certificate.arn"
    if note.exists():
        yield Step(what=f"certificate of {thing}", made=False)
        return note.read_text().strip()
    made = aws.iot.create_keys_and_certificate(setAsActive=True)
    _write(root / "certs" / "device.key.pem", made["keyPair"]["PrivateKey"].encode(), 0o600)
    _write(root / "certs" / "device.pem.crt", made["certificatePem"].encode(), 0o644)
    _write(note, made["certificateArn"].encode(), 0o644)
    yield Step(what=f"certificate of {thing}", made=True)
    return str(made["certificateArn"])


def _check_root(root: Path, thing: str) -> None:
    config = root / "config" / "config.yaml"
    if not config.exists():
        return
    try:
        found = yaml.safe_load(config.read_text())["system"]["thingName"]
    except (yaml.YAMLError, KeyError, TypeError):
        raise StateError(f"{config} is not a nucleus configuration", hint="choose another root folder") from None
    if found != thing:
        raise StateError(f"{root} belongs to the thing {found}, not {thing}", hint="choose another root folder")


def _config(aws: Aws, thing: str, root: Path, endpoints: Endpoints) -> bytes:
    certs = root.resolve() / "certs"
    document = {
        "system": {
            "certificateFilePath": str(certs / "device.pem.crt"),
            "privateKeyPath": str(certs / "device.key.pem"),
            "rootCaPath": str(certs / "root-ca.pem"),
            "rootpath": str(root.resolve()),
            "thingName": thing,
        },
        "services": {
            NUCLEUS: {
                "componentType": "NUCLEUS",
                "version": NUCLEUS_VERSION,
                "configuration": {
                    "awsRegion": aws.region,
                    "iotRoleAlias": ROLE_ALIAS,
                    "iotDataEndpoint": endpoints.iot_data,
                    "iotCredEndpoint": endpoints.credentials,
                    "greengrassDataPlaneEndpoint": endpoints.data_plane,
                    "greengrassDataPlanePort": endpoints.data_plane_port,
                    "mqtt": {"port": endpoints.mqtt_port},
                },
            }
        },
    }
    return yaml.safe_dump(document, sort_keys=False).encode()


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.with_suffix(".tmp"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        path.with_suffix(".tmp").replace(path)
    except OSError as error:
        raise FleetError(f"cannot write {path}: {error.strerror}") from error

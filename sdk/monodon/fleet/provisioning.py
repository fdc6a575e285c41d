"""A device's identity: thing, certificate, policy, group, role alias, artifact bucket; and its root folder's files.

Every step looks first, so that provisioning again changes nothing but what is missing, wherever it was interrupted.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from botocore.exceptions import ClientError

from monodon.core.names import ThingName, partition_of
from monodon.errors import FleetError, StateError
from monodon.fleet.aws import Aws, told
from monodon.fleet.credentials import ROOT_CA, ensure_certificate, write_private
from monodon.fleet.nucleus_config import Endpoints as Endpoints
from monodon.fleet.nucleus_config import Identity, places, write_config
from monodon.fleet.steps import Step, ensure

POLICY = "MonodonCoreDevice"
ROLE = "MonodonTokenExchange"
ROLE_POLICY = "Artifacts"
ROLE_ALIAS = "MonodonTokenExchangeAlias"

#: What a core device may do in AWS IoT; each as narrow as Greengrass allows, with the thing's own name.
#: Source: AWS IoT Greengrass developer guide, "Minimal AWS IoT policy for core devices".
_THING = "${iot:Connection.Thing.ThingName}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all devices share, by name; ``bucket`` is ``monodon-<account>-<region>`` unless named.

    ``tags`` go on all that is made and can have tags (certificates and things cannot). With ``own_policies`` each thing
    has an IoT policy of its own, ``<policy>-<thing>``, with its name written out; see ``device_policy``.
    """

    policy: str = POLICY
    role: str = ROLE
    role_policy: str = ROLE_POLICY
    role_alias: str = ROLE_ALIAS
    bucket: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    own_policies: bool = False

    def policy_of(self, thing: str) -> str:
        """Return the name of the IoT policy of a thing; names of policies have no colon."""
        return f"{self.policy}-{thing.replace(':', '=')}" if self.own_policies else self.policy

    def bucket_of(self, aws: Aws) -> str:
        """Return the name of the artifact bucket."""
        return self.bucket or aws.bucket

    @property
    def tag_list(self) -> list[dict[str, str]]:
        """The tags as AWS takes them."""
        return [{"Key": key, "Value": value} for key, value in self.tags.items()]


def provision(
    aws: Aws,
    *,
    thing: str,
    group: str,
    root: Path,
    root_ca: Path | bytes,
    endpoints: Endpoints | None = None,
    shared: Shared | None = None,
) -> Iterator[Step]:
    """Make a thing that can run a nucleus in ``root``, a member of ``group``; each step is yielded as it is done.

    Args:
        root_ca: the certificate authority that the device trusts (of AWS: AmazonRootCA1.pem), or its PEM.
        endpoints: of the cloud, unless AWS is asked.

    Raises:
        FleetError: AWS refuses a call, or the thing's certificate was switched off.
        StateError: ``root`` belongs to another thing.
    """
    yield from provision_fleet(
        aws, things=[thing], group=group, roots={thing: root}, root_ca=root_ca, endpoints=endpoints, shared=shared
    )


def provision_fleet(
    aws: Aws,
    *,
    things: Sequence[str],
    group: str,
    roots: Mapping[str, Path],
    root_ca: Path | bytes,
    endpoints: Endpoints | None = None,
    shared: Shared | None = None,
) -> Iterator[Step]:
    """Make several things, each with its root folder; what they share is made once (errors as ``provision``)."""
    shared = shared or Shared()
    for thing in things:
        _check_root(roots[ThingName.parse(thing)], thing)
    trusted = root_ca if isinstance(root_ca, bytes) else root_ca.read_bytes()
    with told():
        yield from provision_account(aws, shared)
        yield _group(aws, group, shared)
        found = endpoints or ask_endpoints(aws)
        for thing in things:
            yield from _thing(aws, thing, group)
            if shared.own_policies:
                yield _policy(aws, shared, shared.policy_of(thing), thing)
            yield from ensure_certificate(aws, thing, roots[thing] / "certs", shared.policy_of(thing))
            yield _root(aws, thing, roots[thing], trusted, found, shared)


def provision_account(aws: Aws, shared: Shared | None = None) -> Iterator[Step]:
    """Make what all devices of an account share: artifact bucket, IoT policy, role and role alias."""
    shared = shared or Shared()
    tags, bucket = shared.tag_list, shared.bucket_of(aws)
    tagged = {"tags": tags} if tags else {}
    with told():
        yield ensure(f"bucket {bucket}", lambda: _look_for_bucket(aws, bucket), lambda: _make_bucket(aws, bucket))
        if tags:
            aws.s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
        if not shared.own_policies:
            yield _policy(aws, shared, shared.policy)
        yield ensure(
            f"role {shared.role}", lambda: aws.iam.get_role(RoleName=shared.role), lambda: _make_role(aws, shared)
        )
        policy = {"RoleName": shared.role, "PolicyName": shared.role_policy}
        yield ensure(
            f"policy {shared.role_policy} of the role",
            lambda: aws.iam.get_role_policy(**policy),
            lambda: aws.iam.put_role_policy(**policy, PolicyDocument=json.dumps(artifact_policy(aws, shared))),
        )
        role_arn = f"arn:{partition_of(aws.region)}:iam::{aws.account}:role/{shared.role}"
        yield ensure(
            f"role alias {shared.role_alias}",
            lambda: aws.iot.describe_role_alias(roleAlias=shared.role_alias),
            lambda: aws.iot.create_role_alias(roleAlias=shared.role_alias, roleArn=role_arn, **tagged),
        )


def device_policy(aws: Aws, shared: Shared | None = None, *, thing: str | None = None) -> dict[str, Any]:
    """Return the IoT policy of a core device: its own client id and reserved topics, ``monodon/…``, the data plane.

    Args:
        thing: whose name is written out. Without it one policy serves all things by a variable, which AWS fills in
            where the client id is the thing's name: on a nucleus's first connection, and not on the further ones that
            it opens for more than 50 subscriptions (``<thing>#2``, …).

    Source: AWS IoT Greengrass developer guide, "AWS IoT policies for data plane operations".
    """
    name = thing or _THING
    prefix = f"arn:{partition_of(aws.region)}:iot:{aws.region}:{aws.account}"

    def topics(kind: str, *names: str) -> list[str]:
        return [f"{prefix}:{kind}/{one}" for one in names]

    names = (f"$aws/things/{name}/*", f"monodon/{name}/*")
    clients = (name, f"{name}#*") if thing else (f"{name}*",)
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "iot:Connect", "Resource": topics("client", *clients)},
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
                "Resource": f"{prefix}:rolealias/{(shared or Shared()).role_alias}",
            },
        ],
    }


def artifact_policy(aws: Aws, shared: Shared | None = None) -> dict[str, Any]:
    """Return the policy of the role that devices take on: they read the artifact bucket."""
    bucket = (shared or Shared()).bucket_of(aws)
    objects = f"arn:{partition_of(aws.region)}:s3:::{bucket}/*"
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": objects}],
    }


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

    domain = "amazonaws.com.cn" if partition_of(aws.region) == "aws-cn" else "amazonaws.com"
    return Endpoints(
        iot_data=ask("iot:Data-ATS"),
        credentials=ask("iot:CredentialProvider"),
        data_plane=f"greengrass-ats.iot.{aws.region}.{domain}",
    )


def numbered(prefix: str, count: int) -> list[str]:
    """Return ``count`` things' names, numbered from 1 with as many digits as the last one needs: ``drone-01``…"""
    return [f"{prefix}{number:0{len(str(count))}d}" for number in range(1, count + 1)]


def _look_for_bucket(aws: Aws, bucket: str) -> None:
    try:
        aws.s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("403", "AccessDenied"):
            raise FleetError(
                f"the bucket {bucket} is there, but not for you",
                hint="it belongs to another account, or you lack s3:ListBucket on it",
            ) from error
        raise


def _make_bucket(aws: Aws, bucket: str) -> None:
    where = {} if aws.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": aws.region}}
    aws.s3.create_bucket(Bucket=bucket, **where)


def _make_role(aws: Aws, shared: Shared) -> None:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "credentials.iot.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    tagged = {"Tags": shared.tag_list} if shared.tags else {}
    aws.iam.create_role(RoleName=shared.role, AssumeRolePolicyDocument=json.dumps(trust), **tagged)


def _policy(aws: Aws, shared: Shared, name: str, thing: str | None = None) -> Step:
    tagged = {"tags": shared.tag_list} if shared.tags else {}
    document = json.dumps(device_policy(aws, shared, thing=thing))
    return ensure(
        f"policy {name}",
        lambda: aws.iot.get_policy(policyName=name),
        lambda: aws.iot.create_policy(policyName=name, policyDocument=document, **tagged),
    )


def _group(aws: Aws, group: str, shared: Shared) -> Step:
    tagged = {"tags": shared.tag_list} if shared.tags else {}
    return ensure(
        f"thing group {group}",
        lambda: aws.iot.describe_thing_group(thingGroupName=group),
        lambda: aws.iot.create_thing_group(thingGroupName=group, **tagged),
    )


def _thing(aws: Aws, thing: str, group: str) -> Iterator[Step]:
    yield ensure(
        f"thing {thing}",
        lambda: aws.iot.describe_thing(thingName=thing),
        lambda: aws.iot.create_thing(thingName=thing),
    )
    aws.iot.add_thing_to_thing_group(thingGroupName=group, thingName=thing)


def _root(aws: Aws, thing: str, root: Path, root_ca: bytes, endpoints: Endpoints, shared: Shared) -> Step:
    """Write what the nucleus reads at its first start, unless it is there already."""
    identity = Identity(thing=thing, region=aws.region, role_alias=shared.role_alias, endpoints=endpoints)
    wanted = {
        root / "certs" / ROOT_CA: (root_ca, 0o644),
        root / "config" / "config.yaml": (write_config(identity, places(PurePosixPath(root.resolve()))), 0o600),
    }
    made = False
    for path, (content, mode) in wanted.items():
        if not path.exists() or path.read_bytes() != content:
            write_private(path, content, mode)
            made = True
    return Step(what=f"configuration {root / 'config/config.yaml'}", made=made)


def _check_root(root: Path, thing: str) -> None:
    config = root / "config" / "config.yaml"
    if not config.exists():
        return
    try:
        found = yaml.safe_load(config.read_text())["system"]["thingName"]
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        raise StateError(f"{config} is not a nucleus configuration", hint="choose another root folder") from None
    if found != thing:
        raise StateError(f"{root} belongs to the thing {found}, not {thing}", hint="choose another root folder")

"""Is a fleet as it must be in AWS? Reads endpoints, role alias, certificates and policies, and changes nothing."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import ClientError

from monodon.core.iot_policy import Policy, PolicyError, read_policy
from monodon.core.json import Json
from monodon.core.names import partition_of
from monodon.errors import FleetError
from monodon.fleet.aws import Aws, is_missing, told
from monodon.fleet.bundle import read_identity
from monodon.fleet.credentials import certificate_id
from monodon.fleet.doctor_deployed import Grants, Known, deployed, local_recipes
from monodon.fleet.doctor_grants import Need, component_needs, device_needs, statements, unmet
from monodon.fleet.doctor_role import examine_role
from monodon.fleet.nucleus_config import Identity
from monodon.fleet.on_device import EXPIRES_SOON, Level, Verdict
from monodon.fleet.provisioning import ROLE_ALIAS
from monodon.fleet.x509 import certificate_bytes, validity

#: AWS refuses a signed request that is further off than this. Source: AWS, "Signature Version 4", RequestExpired.
CLOCK_WRONG, CLOCK_WARNING = timedelta(minutes=5), timedelta(minutes=1)


def examine(
    aws: Aws,
    *,
    things: Sequence[str] = (),
    group: str | None = None,
    root: Path | None = None,
    recipes: Path | None = None,
    role_alias: str | None = None,
) -> Iterator[Verdict]:
    """Yield what was found, the account first, then each thing.

    Args:
        things, group: whom to look at; of a group all members. Without either, the thing of ``root``.
        root: a device's root folder on this machine, whose configuration must agree with AWS.
        recipes: a folder of recipes that will be deployed: their grants are checked as well.

    Raises:
        FleetError: AWS refuses a call for another reason than that something is missing.
    """
    with told():
        yield examine_clock(aws)
        identity = _read_root(root) if root else None
        yield from _examine_endpoints(aws, identity)
        alias = role_alias or (identity.role_alias if identity else ROLE_ALIAS)
        names = list(things) or ([identity.thing] if identity and not group else [])
        if group:
            pages = aws.iot.get_paginator("list_things_in_thing_group").paginate(thingGroupName=group, recursive=True)
            names += [name for page in pages for name in page["things"] if name not in names]
        local = local_recipes(recipes) if recipes else {}
        known, buckets = Known(), {aws.bucket}
        found: list[Verdict] = []
        for name in names:
            groups = _groups_of(aws, name)
            grants = deployed(aws, name, groups, known)
            buckets |= grants.buckets
            found += _examine_thing(aws, name, groups, alias, grants, local, known)
        yield from examine_role(aws, alias, sorted(buckets))
        yield from found
        if group and not names:
            yield Verdict(check=f"group {group}", level=Level.WARNING, message="it has no members")


def examine_clock(aws: Aws) -> Verdict:
    """Compare this machine's clock with AWS's, by the date of an answer."""
    answer = aws.iot.list_role_aliases(pageSize=1)
    now, date = datetime.now(UTC), answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return judge_clock(now, parsedate_to_datetime(date) if date else None)


def judge_clock(local: datetime, remote: datetime | None) -> Verdict:
    """Say how far two clocks are apart; None if AWS's answer had no date."""
    if remote is None:
        return Verdict(check="clock", level=Level.UNKNOWN, message="the answer had no date")
    skew = local - remote
    apart = f"this machine is {abs(skew.total_seconds()):.0f} s {'ahead of' if skew > timedelta() else 'behind'} AWS"
    if abs(skew) >= CLOCK_WRONG:
        return Verdict(check="clock", level=Level.WRONG, message=apart, fix="set the clock: timedatectl set-ntp true")
    if abs(skew) >= CLOCK_WARNING:
        return Verdict(check="clock", level=Level.WARNING, message=apart, fix="timedatectl set-ntp true")
    return Verdict(check="clock", level=Level.FINE, message=apart)


def judge_certificate(thing: str, described: Mapping[str, Any], now: datetime) -> Verdict:
    """Say whether a certificate that a thing holds can be used, and for how long."""
    check, identifier = f"{thing}: certificate", described["certificateId"]
    short = f"{identifier[:8]}…"
    if described["status"] != "ACTIVE":
        fix = f"aws iot update-certificate --new-status ACTIVE --certificate-id {identifier}"
        return Verdict(check=check, level=Level.WRONG, message=f"{short} is {described['status']}", fix=fix)
    try:
        end = validity(certificate_bytes(described["certificatePem"])).not_after
    except ValueError as error:
        return Verdict(check=check, level=Level.UNKNOWN, message=f"{short} cannot be read: {error}")
    if end <= now:
        return Verdict(
            check=check,
            level=Level.WRONG,
            message=f"{short} expired on {end:%Y-%m-%d}",
            fix="provision again with an empty certs folder, and bring the new one to the device",
        )
    if end - now < EXPIRES_SOON:
        message = f"{short} expires on {end:%Y-%m-%d}"
        return Verdict(check=check, level=Level.WARNING, message=message, fix="replace it before")
    return Verdict(check=check, level=Level.FINE, message=f"{short} is active until {end:%Y-%m-%d}")


def _read_root(root: Path) -> Identity:
    path = root / "config" / "config.yaml"
    try:
        return read_identity(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FleetError(f"cannot read {path}: {error.strerror}", hint="provision the root first") from error
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise FleetError(f"{path} is not what provisioning writes") from error


def _examine_endpoints(aws: Aws, identity: Identity | None) -> Iterator[Verdict]:
    if identity and identity.region != aws.region:
        yield Verdict(
            check="region",
            level=Level.WRONG,
            message=f"the device is in {identity.region}, and this asks {aws.region}",
            fix=f"AWS_REGION={identity.region}",
        )
    configured = {
        "iot:Data-ATS": identity.endpoints.iot_data if identity else None,
        "iot:CredentialProvider": identity.endpoints.credentials if identity else None,
    }
    for kind, there in configured.items():
        address = str(aws.iot.describe_endpoint(endpointType=kind)["endpointAddress"])
        if there is None or _host(there) == _host(address):
            yield Verdict(check=f"endpoint {kind}", level=Level.FINE, message=address)
        else:
            yield Verdict(
                check=f"endpoint {kind}",
                level=Level.WRONG,
                message=f"the device asks {there}, and this account answers at {address}",
                fix="is it of another account or region? provision it again",
            )


def _host(address: str) -> str:
    return address.partition(":")[0]


def _examine_thing(
    aws: Aws,
    thing: str,
    groups: Sequence[str],
    alias: str,
    grants: Grants,
    local: Mapping[str, Sequence[Json]],
    known: Known,
) -> Iterator[Verdict]:
    try:
        described = aws.iot.describe_thing(thingName=thing)
    except ClientError as error:
        if not is_missing(error):
            raise
        fix = f"monodon fleet provision {thing} --group GROUP"
        yield Verdict(check=thing, level=Level.WRONG, message="there is no such thing", fix=fix)
        return
    pages = aws.iot.get_paginator("list_thing_principals").paginate(thingName=thing)
    principals = [arn for page in pages for arn in page["principals"] if ":cert/" in arn]
    if not principals:
        fix = f"monodon fleet provision {thing} --group GROUP"
        yield Verdict(check=f"{thing}: certificate", level=Level.WRONG, message="it holds none", fix=fix)
    needs = list(device_needs(thing, alias))
    for component, configurations in [*grants.configurations.items(), *local.items()]:
        for configuration in configurations:
            needs += component_needs(component, configuration, thing)
    for unread in grants.unread:
        yield Verdict(check=f"{thing}: recipes", level=Level.UNKNOWN, message=f"{unread} cannot be read")
    variables = _variables(thing, described)
    wanted = tuple(dict.fromkeys(needs))
    for arn in principals:
        found = aws.iot.describe_certificate(certificateId=certificate_id(arn))["certificateDescription"]
        yield judge_certificate(thing, found, datetime.now(UTC))
        names = _policies_of(aws, [arn, *groups])
        yield from _examine_policies(aws, thing, names, wanted, variables, known)


def _examine_policies(
    aws: Aws, thing: str, names: Sequence[str], needs: Sequence[Need], variables: Mapping[str, str], known: Known
) -> Iterator[Verdict]:
    check = f"{thing}: policies"
    policies: list[Policy] = []
    for name in names:
        if name not in known.policies:
            known.policies[name] = _policy(aws, name)
        policy = known.policies[name]
        if policy is None:
            yield Verdict(check=check, level=Level.UNKNOWN, message=f"{name} is gone, or is no policy")
        else:
            policies.append(policy)
    prefix = f"arn:{partition_of(aws.region)}:iot:{aws.region}:{aws.account}:"
    missing = unmet(needs, policies, prefix, variables)
    where = f"the IoT policy {names[0]}" if names else "an IoT policy, and attach it to the certificate"
    for component in dict.fromkeys(need.component for need in missing):
        lacking = [need for need in missing if need.component == component]
        allow = statements(lacking, prefix)
        told_of = ", ".join(dict.fromkeys(f"{need.action} on {need.resource}" for need in lacking))
        yield Verdict(
            check=check,
            level=Level.WRONG,
            message=f"{component} may not: {told_of}",
            fix=f"add to {where}:",
            statement=allow[0] if len(allow) == 1 else {"Statement": list(allow)},
        )
    if not missing:
        message = (
            f"{', '.join(names)}: all that the nucleus and {len({n.component for n in needs}) - 1} components need"
        )
        yield Verdict(check=check, level=Level.FINE, message=message)


def _groups_of(aws: Aws, thing: str) -> list[str]:
    """Return the ARNs of the groups that a thing is in; none if there is no such thing."""
    pages = aws.iot.get_paginator("list_thing_groups_for_thing").paginate(thingName=thing)
    try:
        return [entry["groupArn"] for page in pages for entry in page["thingGroups"]]
    except ClientError as error:
        if is_missing(error):
            return []
        raise


def _policies_of(aws: Aws, targets: Sequence[str]) -> list[str]:
    """Return the names of the policies that count for a certificate: its own, and those of its thing's groups."""
    names: dict[str, None] = {}
    for target in targets:
        recursive = {"recursive": True} if ":thinggroup/" in target else {}
        for page in aws.iot.get_paginator("list_attached_policies").paginate(target=target, **recursive):
            names |= {entry["policyName"]: None for entry in page["policies"]}
    return list(names)


def _policy(aws: Aws, name: str) -> Policy | None:
    try:
        return read_policy(aws.iot.get_policy(policyName=name)["policyDocument"])
    except PolicyError:
        return None
    except ClientError as error:
        if is_missing(error):
            return None
        raise


def _variables(thing: str, described: Mapping[str, Any]) -> dict[str, str]:
    variables = {
        "iot:ClientId": thing,
        "iot:Connection.Thing.ThingName": thing,
        "iot:Connection.Thing.IsAttached": "true",
    }
    if described.get("thingTypeName"):
        variables["iot:Connection.Thing.ThingTypeName"] = described["thingTypeName"]
    attributes = described.get("attributes") or {}
    return variables | {f"iot:Connection.Thing.Attributes[{key}]": value for key, value in attributes.items()}

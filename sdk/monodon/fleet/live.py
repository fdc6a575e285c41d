"""Reading what AWS has of a target: its live deployment, its devices, what is published. Only reads, page by page."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from botocore.exceptions import ClientError, ParamValidationError

from monodon.core.names import Arn, ThingName, component_arn, component_version_arn
from monodon.core.recipe.model import Recipe
from monodon.core.recipe.reading import parse_recipe
from monodon.core.semver import Requirement, Version
from monodon.errors import FleetError, InvalidName, InvalidVersion, MonodonError
from monodon.fleet.aws import Aws, is_missing, told
from monodon.fleet.desired import Desired, Wanted
from monodon.fleet.hazards import uris
from monodon.fleet.known import Device, Live, Other, Published, PublishedVersion

#: Whose the public components are, as their ARNs say.
PUBLIC = "aws"
#: Calls at a time; botocore keeps ten connections.
WORKERS = 8
#: Versions of a range that are looked at before giving up, and deployments of single things that are compared.
MAX_TRIED, MAX_COMPARED = 10, 50
_NO_TARGET = "make it first: monodon fleet provision does"

Item = TypeVar("Item")
Result = TypeVar("Result")


def target_arn(aws: Aws, target: str) -> str:
    """Return the ARN of ``thinggroup/<name>``, ``thing/<name>`` or an ARN.

    Raises:
        FleetError: it is neither, or belongs to another account or region than the credentials.
    """
    kind, _, name = target.partition("/")
    if target.startswith("arn:"):
        return _own(aws, target)
    if kind not in ("thing", "thinggroup") or not name:
        raise FleetError(f"{target[:200]!r} is no target", hint="write thinggroup/NAME, thing/NAME or an ARN")
    _check_name(name)
    return aws.group_arn(name) if kind == "thinggroup" else aws.thing_arn(name)


def _check_name(name: str) -> None:
    try:
        ThingName.parse(name)
    except InvalidName as error:
        raise FleetError(error.message, hint=error.hint) from error


def _own(aws: Aws, text: str) -> str:
    try:
        arn = Arn.parse(text)
    except InvalidName as error:
        raise FleetError(error.message, hint=error.hint) from error
    kind, _, name = arn.resource.partition("/")
    if arn.service != "iot" or kind not in ("thing", "thinggroup"):
        raise FleetError(f"{text} is neither a thing nor a thing group", hint="write arn:aws:iot:…:thinggroup/NAME")
    _check_name(name)
    if arn.region != aws.region:
        raise FleetError(f"{text} is in {arn.region}, and the region here is {aws.region}", hint="set AWS_REGION")
    if arn.account != aws.account:
        raise FleetError(
            f"{text} belongs to account {arn.account}, and these credentials to {aws.account}",
            hint="use that account's credentials (AWS_PROFILE), or write the target without its ARN",
        )
    return text


def live_deployment(aws: Aws, arn: str) -> Mapping[str, Any] | None:
    """Return GetDeployment's answer for a target's latest revision; None if it never had one.

    Raises:
        FleetError: AWS refuses a call.
    """
    found = live_id(aws, arn)
    return deployment(aws, found) if found is not None else None


def live_id(aws: Aws, arn: str) -> str | None:
    """Return the id of a target's latest revision, by one call; None if it never had one.

    Raises:
        FleetError: AWS refuses the call.
    """
    with told():
        for one in paged(aws.greengrass, "list_deployments", "deployments", targetArn=arn):
            if one.get("targetArn", arn) == arn and one.get("isLatestForTarget", True):
                return str(one["deploymentId"])
    return None


def deployment(aws: Aws, deployment_id: str) -> Mapping[str, Any]:
    """Return GetDeployment's answer.

    Raises:
        FleetError: there is no such deployment, or AWS refuses the call.
    """
    with told():
        answer: dict[str, Any] = aws.greengrass.get_deployment(deploymentId=deployment_id)
    answer.pop("ResponseMetadata", None)
    return answer


def published_recipe(aws: Aws, name: str, version: str) -> Recipe | None:
    """Return a version's recipe; None if there is none, or it cannot be read.

    Raises:
        FleetError: AWS refuses a call.
    """
    parsed = _parsed(version)
    if parsed is None:
        return None
    with told():
        found = _version(aws, name, parsed)
    return found.recipe if found is not None else None


def read_live(aws: Aws, desired: Desired) -> Live:
    """Read all that a plan for ``desired`` needs.

    Raises:
        FleetError: there is no such target, or AWS refuses a call.
    """
    with told():
        return _read(aws, desired)


def _read(aws: Aws, desired: Desired) -> Live:
    _ = aws.greengrass, aws.iot, aws.s3  # made before threads share them
    arn = target_arn(aws, desired.target)
    members = members_of(aws, arn)
    current = live_deployment(aws, arn)
    running = {name: entry["componentVersion"] for name, entry in ((current or {}).get("components") or {}).items()}
    wanted = {str(name): one.version or _parsed(running.get(str(name))) for name, one in desired.components.items()}
    components = dict(
        each(lambda name: (name, _published(aws, name, wanted[name], _parsed(running.get(name)))), wanted)
    )
    recipes = [one.chosen.recipe for one in components.values() if one.chosen is not None]
    artifacts = sorted({uri for recipe in recipes for uri in uris(recipe)})
    statuses = dict(each(lambda uri: (uri, _artifact_status(aws, uri)), artifacts))
    needed = sorted({str(name) for one in recipes if one is not None for name in one.dependencies} - set(wanted))
    others, not_compared = _others(aws, arn, members, set(wanted))
    return Live(
        target_arn=arn,
        deployment=current,
        components=components,
        artifacts=statuses,
        members=members,
        devices=core_devices(aws, members),
        others=others,
        not_compared=not_compared,
        dependencies=dict(each(lambda name: (name, tuple(one for one, _ in _versions(aws, name))), needed)),
    )


# --- Devices --------------------------------------------------------------------------------------------------------


def members_of(aws: Aws, arn: str) -> tuple[str, ...]:
    """Return the things of a target, those of groups below it included, by name.

    Raises:
        FleetError: there is no such thing or group, or AWS refuses a call.
    """
    kind, _, name = Arn.parse(arn).resource.partition("/")
    try:
        with told():
            if kind == "thing":
                aws.iot.describe_thing(thingName=name)
                return (name,)
            pages = paged(aws.iot, "list_things_in_thing_group", "things", 250, thingGroupName=name, recursive=True)
            return tuple(sorted(pages))
    except FleetError as error:
        if isinstance(error.__cause__, ClientError) and is_missing(error.__cause__):
            what = "thing" if kind == "thing" else "thing group"
            raise FleetError(f"there is no {what} {name}", hint=_NO_TARGET) from error.__cause__
        raise


def core_devices(aws: Aws, members: Iterable[str]) -> dict[str, Device]:
    """Return the core devices among some things, by name; all of the account are read, a hundred a call.

    Raises:
        FleetError: AWS refuses a call.
    """
    wanted = set(members)
    with told():
        if len(wanted) == 1:
            return _core_device(aws, next(iter(wanted)))
        found = map(_device, paged(aws.greengrass, "list_core_devices", "coreDevices") if wanted else ())
        return {device.thing: device for device in found if device.thing in wanted}


def reported_of(aws: Aws, arn: str) -> dict[str, float]:
    """Return when each core device of a target told its status last: a hundred devices a call, of this target alone.

    Raises:
        FleetError: AWS refuses a call.
    """
    if ":thinggroup/" not in arn:
        return {thing: one.reported_s for thing, one in core_devices(aws, [_name(arn)]).items()}
    with told():
        found = map(_device, paged(aws.greengrass, "list_core_devices", "coreDevices", thingGroupArn=arn))
        return {one.thing: one.reported_s for one in found}


def _core_device(aws: Aws, thing: str) -> dict[str, Device]:
    try:
        return {thing: _device(aws.greengrass.get_core_device(coreDeviceThingName=thing))}
    except ClientError as error:
        if is_missing(error):
            return {}
        raise


def _device(one: Mapping[str, Any]) -> Device:
    reported = one.get("lastStatusUpdateTimestamp")
    return Device(
        thing=str(one["coreDeviceThingName"]),
        status=str(one.get("status") or ""),
        reported_s=reported.timestamp() if reported is not None else 0.0,
        platform=str(one.get("platform") or ""),
        architecture=str(one.get("architecture") or ""),
        runtime=str(one.get("runtime") or ""),
    )


# --- Other targets --------------------------------------------------------------------------------------------------


def _others(aws: Aws, arn: str, members: tuple[str, ...], names: set[str]) -> tuple[tuple[Other, ...], int]:
    """Live deployments of other targets with components of these names, on things that this target has too."""
    mine = set(members)
    if not mine:
        return (), 0
    summaries = [
        one
        for one in paged(aws.greengrass, "list_deployments", "deployments")
        if one["targetArn"] != arn and one.get("deploymentStatus") not in ("CANCELED", "INACTIVE")
    ]
    things = [one for one in summaries if ":thing/" in one["targetArn"] and _name(one["targetArn"]) in mine]
    groups = [one for one in summaries if ":thinggroup/" in one["targetArn"]]
    if arn.rpartition(":")[2].startswith("thing/") and groups:
        of_thing = _groups_of(aws, members[0])
        groups = [one for one in groups if _name(one["targetArn"]) in of_thing]
    found = each(lambda one: _other(aws, one, mine, names), [*groups, *things[:MAX_COMPARED]])
    return tuple(one for one in found if one is not None), max(0, len(things) - MAX_COMPARED)


def _other(aws: Aws, summary: Mapping[str, Any], mine: set[str], names: set[str]) -> Other | None:
    try:
        answer = deployment(aws, summary["deploymentId"])
        if names.isdisjoint(answer.get("components") or {}):
            return None
        shared = mine.intersection(members_of(aws, summary["targetArn"]))
    except FleetError as error:
        if isinstance(error.__cause__, ClientError) and is_missing(error.__cause__):
            return None  # deleted since it was listed
        raise
    if not shared:
        return None
    return Other(target_arn=summary["targetArn"], deployment=answer, shared=tuple(sorted(shared)))


def _groups_of(aws: Aws, thing: str) -> set[str]:
    """Names of the groups of a thing, and of the groups above these."""
    pages = paged(aws.iot, "list_thing_groups_for_thing", "thingGroups", 250, thingName=thing)
    names = {one["groupName"] for one in pages}
    for name in list(names):
        answer = aws.iot.describe_thing_group(thingGroupName=name).get("thingGroupMetadata") or {}
        names.update(up["groupName"] for up in answer.get("rootToParentThingGroups") or ())
    return names


# --- What is published ----------------------------------------------------------------------------------------------


def _published(aws: Aws, name: str, wanted: Wanted | None, running: Version | None) -> Published:
    if wanted is None:
        return Published()
    versions: tuple[Version, ...] = ()
    tried: tuple[PublishedVersion, ...] = ()
    if isinstance(wanted, Version):
        chosen = _version(aws, name, wanted)
        if chosen is None:
            versions = tuple(version for version, _ in _versions(aws, name))
    else:
        listed = list(_versions(aws, name))
        versions = tuple(version for version, _ in listed)
        chosen, tried = _newest(aws, listed, wanted)
    live = None
    if running is not None:
        live = chosen if chosen is not None and chosen.version == running else _version(aws, name, running)
    return Published(chosen=chosen, live=live, tried=tried, versions=versions)


def _newest(
    aws: Aws, listed: list[tuple[Version, str]], wanted: Requirement
) -> tuple[PublishedVersion | None, tuple[PublishedVersion, ...]]:
    """The newest version that fits and is deployable, and those that were passed over for it."""
    tried: list[PublishedVersion] = []
    for version, arn in [one for one in listed if wanted.matches(one[0])][:MAX_TRIED]:
        found = _described(aws, version, arn)
        if found is None:
            continue  # deleted since it was listed
        if found.state == "DEPLOYABLE" and found.guidance != "DELETED":
            return found, tuple(tried)
        tried.append(found)
    return None, tuple(tried)


def _versions(aws: Aws, name: str) -> Iterator[tuple[Version, str]]:
    """Yield the account's own versions of a component and AWS's, each with its ARN, newest first."""
    found: dict[Version, str] = {}
    for owner in (PUBLIC, aws.account):
        arn = str(component_arn(aws.region, owner, name))
        try:
            for one in paged(aws.greengrass, "list_component_versions", "componentVersions", arn=arn):
                if (version := _parsed(one["componentVersion"])) is not None:
                    found[version] = one["arn"]
        except ClientError as error:
            if not is_missing(error):
                raise
    for version in sorted(found, key=lambda each: (each.precedence, each.build), reverse=True):
        yield version, found[version]


def _version(aws: Aws, name: str, version: Version) -> PublishedVersion | None:
    for owner in (aws.account, PUBLIC):
        found = _described(aws, version, str(component_version_arn(aws.region, owner, name, version)))
        if found is not None:
            return found
    return None


def _described(aws: Aws, version: Version, arn: str) -> PublishedVersion | None:
    try:
        status = aws.greengrass.describe_component(arn=arn).get("status") or {}
    except ClientError as error:
        # What AWS publishes may be there and not be told of.
        if is_missing(error) or (f":{PUBLIC}:" in arn and error.response["Error"]["Code"] == "AccessDeniedException"):
            return None
        raise
    return PublishedVersion(
        version=version,
        arn=arn,
        state=status.get("componentState") or "",
        errors=status.get("errors") or {},
        guidance=status.get("vendorGuidance") or "",
        guidance_message=status.get("vendorGuidanceMessage") or "",
        recipe=_recipe(aws, arn),
    )


def _recipe(aws: Aws, arn: str) -> Recipe | None:
    try:
        return parse_recipe(
            aws.greengrass.get_component(arn=arn, recipeOutputFormat="JSON")["recipe"], file=f"{arn}.json"
        )
    except MonodonError:
        return None
    except ClientError as error:
        if is_missing(error) or error.response["Error"]["Code"] == "AccessDeniedException":
            return None
        raise


def _artifact_status(aws: Aws, uri: str) -> int:
    """The HTTP status of looking at an S3 object."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        aws.s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
    except ParamValidationError:  # nothing in S3 can be named so
        return 404
    return 200


# --- Calls ----------------------------------------------------------------------------------------------------------


def paged(client: Any, operation: str, key: str, size: int = 100, **arguments: Any) -> Iterator[Any]:
    """Yield the items under ``key`` of all pages of a list operation."""
    for page in client.get_paginator(operation).paginate(**arguments, PaginationConfig={"PageSize": size}):
        yield from page[key]


def each(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Do ``work`` on each item, some at a time; boto3's clients may be shared by threads."""
    todo = list(items)
    if len(todo) < 2:
        return [work(item) for item in todo]
    with ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="live") as pool:
        return list(pool.map(work, todo))


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]


def _parsed(text: str | None) -> Version | None:
    try:
        return Version.parse(text, lax=True) if text is not None else None
    except InvalidVersion:
        return None

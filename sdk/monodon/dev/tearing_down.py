"""Remove all that an acceptance run made, by its name alone: what is gone already is passed over."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from monodon.core.names import component_arn
from monodon.dev.acceptance import Run
from monodon.fleet.aws import Aws, is_missing

#: AWS detaches and deactivates in the background; what still holds on is asked again.
ATTEMPTS, PAUSE_S = 6, 2.0
_HELD = ("InvalidRequestException", "DeleteConflictException", "DeleteConflict", "ConflictException")


def tear_down(aws: Aws, run: Run, *, sleep: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """Yield a line for each thing removed; one that starts with ``LEFT`` for what could not be."""
    for what, remove in _removals(aws, run):
        outcome = _try(remove, sleep)
        if outcome is None:
            yield f"removed {what}"
        elif outcome:
            yield f"LEFT {what}: {outcome}"


def _try(remove: Callable[[], Any], sleep: Callable[[float], None]) -> str | None:
    """Return None if something was removed, "" if it was gone already, else why it could not be."""
    for attempt in range(ATTEMPTS):
        try:
            remove()
        except ClientError as error:
            if is_missing(error):
                return ""
            code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
            if code not in _HELD or attempt + 1 == ATTEMPTS:
                return f"{code}: {message}"
            sleep(PAUSE_S)
        except BotoCoreError as error:
            return str(error)
        else:
            return None
    return ""


def _removals(aws: Aws, run: Run) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what is to be removed, in an order in which nothing holds on to what is still there."""
    yield from _deployments(aws, run)
    yield f"core device {run.prefix}", lambda: aws.greengrass.delete_core_device(coreDeviceThingName=run.prefix)
    arn = str(component_arn(aws.region, aws.account, run.component))
    for version in _list(lambda: aws.greengrass.list_component_versions(arn=arn)["componentVersions"]):
        yield (
            f"component {run.component} {version['componentVersion']}",
            partial(aws.greengrass.delete_component, arn=version["arn"]),
        )
    yield from _thing(aws, run)
    yield from _shared(aws, run)


def _deployments(aws: Aws, run: Run) -> Iterator[tuple[str, Callable[[], Any]]]:
    target = aws.group_arn(run.prefix)
    listed = _list(
        lambda: aws.greengrass.list_deployments(targetArn=target, historyFilter="ALL", maxResults=100)["deployments"]
    )
    for one in listed:
        identifier = one["deploymentId"]

        def remove(identifier: str = identifier, is_active: bool = one["deploymentStatus"] == "ACTIVE") -> None:
            if is_active:
                aws.greengrass.cancel_deployment(deploymentId=identifier)
            aws.greengrass.delete_deployment(deploymentId=identifier)

        yield f"deployment {identifier}", remove


def _thing(aws: Aws, run: Run) -> Iterator[tuple[str, Callable[[], Any]]]:
    for arn in _list(lambda: aws.iot.list_thing_principals(thingName=run.prefix)["principals"]):
        identifier = arn.rpartition("/")[2]

        def remove(arn: str = arn, identifier: str = identifier) -> None:
            aws.iot.detach_thing_principal(thingName=run.prefix, principal=arn)
            aws.iot.update_certificate(certificateId=identifier, newStatus="INACTIVE")
            aws.iot.delete_certificate(certificateId=identifier, forceDelete=True)

        yield f"certificate {identifier[:8]}…", remove
    yield f"thing {run.prefix}", lambda: aws.iot.delete_thing(thingName=run.prefix)
    yield f"thing group {run.prefix}", lambda: aws.iot.delete_thing_group(thingGroupName=run.prefix)


def _shared(aws: Aws, run: Run) -> Iterator[tuple[str, Callable[[], Any]]]:
    shared = run.shared(aws)
    bucket = shared.bucket_of(aws)
    yield f"role alias {shared.role_alias}", lambda: aws.iot.delete_role_alias(roleAlias=shared.role_alias)
    yield f"policy {shared.policy}", lambda: aws.iot.delete_policy(policyName=shared.policy)
    for name in _list(lambda: aws.iam.list_role_policies(RoleName=shared.role)["PolicyNames"]):
        yield (
            f"policy {name} of the role",
            partial(aws.iam.delete_role_policy, RoleName=shared.role, PolicyName=name),
        )
    yield f"role {shared.role}", lambda: aws.iam.delete_role(RoleName=shared.role)
    for entry in _list(lambda: aws.s3.list_objects_v2(Bucket=bucket).get("Contents", [])):
        yield f"object {entry['Key']}", partial(aws.s3.delete_object, Bucket=bucket, Key=entry["Key"])
    yield f"bucket {bucket}", lambda: aws.s3.delete_bucket(Bucket=bucket)


def _list(look: Callable[[], Any]) -> list[Any]:
    """Return what is there; nothing where its holder is gone, or cannot be asked: its own removal then says why."""
    try:
        return list(look())
    except (ClientError, BotoCoreError):
        return []

"""Which versions of a component AWS has: the account's own, and those that AWS publishes."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from monodon.core.names import component_arn
from monodon.core.semver import Version
from monodon.errors import InvalidVersion, PublishError

#: Whose the public components are, as their ARNs say.
AWS_ACCOUNT = "aws"


def versions_of(name: str, greengrass: Any, *, region: str, account: str) -> frozenset[Version]:
    """Return every version of a component that a deployment of this account could use; none if there is no such one.

    Args:
        greengrass: a boto3 client of ``greengrassv2``.

    Raises:
        PublishError: AWS refuses, or cannot be reached.
    """
    return frozenset(
        version
        for owner in (account, AWS_ACCOUNT)
        for version in _listed(name, greengrass, arn=str(component_arn(region, owner, name)))
    )


def _listed(name: str, greengrass: Any, *, arn: str) -> Iterator[Version]:
    try:
        for page in greengrass.get_paginator("list_component_versions").paginate(arn=arn):
            for one in page["componentVersions"]:
                with suppress(InvalidVersion):  # no requirement could match it
                    yield Version.parse(one["componentVersion"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise PublishError(f"versions of {name}: {error.response['Error']['Message']}") from error
    except BotoCoreError as error:
        raise PublishError(
            f"versions of {name}: AWS cannot be reached: {error}", hint="is AWS_ENDPOINT_URL right?"
        ) from error

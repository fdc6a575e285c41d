"""Names that AWS gives to things: checked once when parsed, then trusted."""

import re
from dataclasses import dataclass
from typing import Literal, Self

from monodon.errors import InvalidName

_COMPONENT = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_THING = re.compile(r"[A-Za-z0-9:_-]{1,128}", re.ASCII)
_ARN = re.compile(r"arn:([^:\s]+):([^:\s]+):([^:\s]*):([^:\s]*):(\S+)")
_CONFIGURATION = re.compile(r"configuration:((?:thing|thinggroup)/[^/\s]+):(\d+)")

TargetKind = Literal["thing", "thinggroup"]


class ComponentName(str):
    """The name of a component: 1 to 128 of ``A-Z a-z 0-9 - _ .``."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return ``text`` as a component name.

        Raises:
            InvalidName: AWS would refuse it, or it is ``.`` or ``..`` and could not be a folder on a device.
        """
        if not _COMPONENT.fullmatch(text) or text in (".", ".."):
            raise InvalidName(
                f"{_shown(text)} is not a component name",
                hint="use 1 to 128 letters, digits, '-', '_' and '.', such as com.example.Camera",
            )
        return cls(text)


class ThingName(str):
    """The name of a thing (a core device): 1 to 128 of ``A-Z a-z 0-9 : _ -``."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return ``text`` as a thing name.

        Raises:
            InvalidName: AWS would refuse it.
        """
        if not _THING.fullmatch(text):
            raise InvalidName(
                f"{_shown(text)} is not a thing name", hint="use 1 to 128 letters, digits, ':', '_' and '-'"
            )
        return cls(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arn:
    """An Amazon resource name, in its five parts."""

    partition: str
    service: str
    region: str
    account: str
    resource: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the parts of ``text``.

        Raises:
            InvalidName: it is no ARN.
        """
        found = _ARN.fullmatch(text)
        if found is None:
            raise InvalidName(f"{_shown(text)} is not an ARN", hint="write arn:partition:service:region:account:name")
        partition, service, region, account, resource = found.groups()
        return cls(partition=partition, service=service, region=region, account=account, resource=resource)

    def __str__(self) -> str:
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:{self.resource}"


def partition_of(region: str) -> str:
    """Return the partition that a region belongs to."""
    for prefix, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"), ("us-iso-", "aws-iso")):
        if region.startswith(prefix):
            return partition
    return "aws-iso-b" if region.startswith("us-isob-") else "aws"


def _arn(service: str, region: str, account: str, resource: str) -> Arn:
    return Arn(partition=partition_of(region), service=service, region=region, account=account, resource=resource)


def component_arn(region: str, account: str, name: str) -> Arn:
    """Return the ARN of a component, all versions; ``account`` is ``aws`` for public ones."""
    return _arn("greengrass", region, account, f"components:{name}")


def component_version_arn(region: str, account: str, name: str, version: object) -> Arn:
    """Return the ARN of one version of a component."""
    return _arn("greengrass", region, account, f"components:{name}:versions:{version}")


def deployment_arn(region: str, account: str, deployment_id: str) -> Arn:
    """Return the ARN of a deployment."""
    return _arn("greengrass", region, account, f"deployments:{deployment_id}")


def configuration_arn(region: str, account: str, target_kind: TargetKind, name: str, revision: int) -> Arn:
    """Return the ARN that a device knows a revision of a target's deployment by."""
    return _arn("greengrass", region, account, f"configuration:{target_kind}/{name}:{revision}")


def thing_arn(region: str, account: str, name: str) -> Arn:
    """Return the ARN of a thing."""
    return _arn("iot", region, account, f"thing/{name}")


def thing_group_arn(region: str, account: str, name: str) -> Arn:
    """Return the ARN of a thing group."""
    return _arn("iot", region, account, f"thinggroup/{name}")


def job_arn(region: str, account: str, job_id: str) -> Arn:
    """Return the ARN of an IoT job."""
    return _arn("iot", region, account, f"job/{job_id}")


def target_of_configuration_arn(text: str) -> str:
    """Return ``thinggroup/<name>`` or ``thing/<name>``: the resource part without the revision.

    Raises:
        InvalidName: not the ARN of a configuration.
    """
    found = _CONFIGURATION.fullmatch(Arn.parse(text).resource)
    if found is None:
        raise InvalidName(f"{_shown(text)} is not the ARN of a configuration")
    return found.group(1)


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 140 else f"{text[:140]!r}… ({len(text)} characters)"

"""Failures of many devices, put together by cause, each with what to do about it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Advice(NamedTuple):
    """What a code means, and what to do."""

    cause: str
    fix: str


#: By AWS's error code; a device gives a stack of them, the general one first.
#: Source: Greengrass nucleus, ``deployment/errorcode/DeploymentErrorCode.java``.
ADVICE: Mapping[str, Advice] = {
    "COMPONENT_VERSION_REQUIREMENTS_NOT_MET": Advice(
        "no version of a component meets all that is required of it",
        "compare what this deployment, other groups' deployments and dependencies ask for; publish what is missing",
    ),
    "COMPONENT_CIRCULAR_DEPENDENCY_ERROR": Advice(
        "components depend on each other in a circle", "take one of the dependencies out and publish a new version"
    ),
    "NUCLEUS_MISSING_REQUIRED_CAPABILITIES": Advice(
        "the nucleus is too old for this deployment", "deploy a newer aws.greengrass.Nucleus first"
    ),
    "MULTIPLE_NUCLEUS_RESOLVED_ERROR": Advice("two nuclei were asked for", "name one nucleus component only"),
    "UNAUTHORIZED_NUCLEUS_MINOR_VERSION_UPDATE": Advice(
        "a dependency would move the nucleus to another minor version",
        "name aws.greengrass.Nucleus with its version among the deployment's components",
    ),
    "RUN_WITH_CONFIG_NOT_VALID": Advice(
        "runWith cannot be used on the device", "correct runWith: the user must exist, limits must be above 0"
    ),
    "NO_AVAILABLE_COMPONENT_VERSION": Advice(
        "no version of a component is for the device's platform and meets all that is asked for there",
        "compare what the groups and dependencies in the reason ask for: let them name one version, or publish one",
    ),
    "MISSING_DOCKER_APPLICATION_MANAGER": Advice(
        "a docker artifact needs aws.greengrass.DockerApplicationManager", "name that component in the deployment"
    ),
    "DEPLOYMENT_DOCUMENT_NOT_VALID": Advice("the device cannot read the deployment", "the reason says which key"),
    "COMPONENT_VERSION_NOT_VALID": Advice(
        "a version is one that devices cannot deploy", "let a pre-release begin with a letter, such as 1.0.0-rc.1"
    ),
    "COMPONENT_DEPENDENCY_NOT_VALID": Advice(
        "a recipe's dependency cannot be read", "monodon recipe check finds what is wrong with it"
    ),
    "RECIPE_MISSING_ARTIFACT_HASH_ALGORITHM": Advice(
        "a recipe has a digest without its algorithm", "publish it again: AWS fills in both"
    ),
    "COMPONENT_UPDATE_ERROR": Advice("a component could not be brought up to date", "read its log on a device"),
    "RECIPE_PARSE_ERROR": Advice("a recipe cannot be read", "monodon recipe check finds what is wrong with it"),
    "RECIPE_MISSING_MANIFEST": Advice(
        "a recipe has no manifest for this device", "publish a version with a manifest for its platform"
    ),
    "LOCAL_RECIPE_NOT_FOUND": Advice(
        "a recipe cannot be used on this device", "publish a version with a manifest for its platform"
    ),
    "LOCAL_RECIPE_CORRUPTED": Advice("a recipe on the device is damaged", "deploy again: it is fetched anew"),
    "UNSUPPORTED_ARTIFACT_SCHEME": Advice("an artifact's URI cannot be fetched", "put the artifact into S3"),
    "EMPTY_ARTIFACT_SCHEME": Advice("an artifact's URI has no scheme", "write s3://BUCKET/KEY in the recipe"),
    "ARTIFACT_CHECKSUM_MISMATCH": Advice(
        "an artifact in S3 is not what was published", "publish a new version; an artifact must never be overwritten"
    ),
    "S3_HEAD_OBJECT_ACCESS_DENIED": Advice(
        "the devices' role may not read an artifact", "grant s3:GetObject on the bucket to the role of the role alias"
    ),
    "S3_GET_OBJECT_ACCESS_DENIED": Advice(
        "the devices' role may not read an artifact", "grant s3:GetObject on the bucket to the role of the role alias"
    ),
    "S3_HEAD_OBJECT_RESOURCE_NOT_FOUND": Advice(
        "an artifact is not in S3", "upload it again, or publish a new version"
    ),
    "S3_GET_OBJECT_RESOURCE_NOT_FOUND": Advice("an artifact is not in S3", "upload it again, or publish a new version"),
    "S3_BAD_REQUEST": Advice(
        "S3 refused the device's request", "look at the role's credentials and the device's clock"
    ),
    "ACCESS_DENIED": Advice("AWS refused a device's request", "monodon fleet doctor names the missing grant"),
    "CONFLICTED_REQUEST": Advice("AWS was asked for two things that exclude each other", "deploy again"),
    "RESOURCE_NOT_FOUND": Advice("something that the deployment needs is not in AWS", "publish it, then deploy again"),
    "GET_GREENGRASS_V2_ERROR": Advice(
        "the device could not ask AWS", "monodon fleet doctor checks endpoints and grants"
    ),
    "NETWORK_ERROR": Advice("the device's network failed", "deploy again when it is back"),
    "DOWNLOAD_GREENGRASS_ARTIFACT_ERROR": Advice("an artifact could not be fetched", "look at the device's network"),
    "ARTIFACT_DOWNLOAD_ERROR": Advice(
        "an artifact could not be fetched", "monodon fleet doctor checks grants, endpoints and network"
    ),
    "DOWNLOAD_DEPLOYMENT_DOCUMENT_ERROR": Advice(
        "the device could not fetch a large deployment", "look at the device's network, then deploy again"
    ),
    "RESOLVE_COMPONENT_CANDIDATES_ACCESS_DENIED": Advice(
        "the device may not ask AWS for versions",
        "grant greengrass:ResolveComponentCandidates in its IoT policy",
    ),
    "GET_COMPONENT_VERSION_ARTIFACT_ACCESS_DENIED": Advice(
        "the device may not fetch artifacts of AWS's components",
        "grant greengrass:GetComponentVersionArtifact in the thing's IoT policy",
    ),
    "IO_UNZIP_ERROR": Advice("an artifact is no zip that can be unpacked", "build and publish a new version"),
    "DISK_SPACE_CRITICAL": Advice("the device's disk is full", "free disk space on the device, then deploy again"),
    "SET_PERMISSION_ERROR": Advice("the nucleus may not change files' owners", "run the nucleus as root"),
    "COMPONENT_CONFIGURATION_NOT_VALID": Advice(
        "a component refused its new configuration", "correct the merge; the component's log says what it does not take"
    ),
    "COMPONENT_BOOTSTRAP_TIMEOUT": Advice(
        "a component's bootstrap took too long", "raise Timeout of Bootstrap in its recipe, or see what it waits for"
    ),
    "COMPONENT_BOOTSTRAP_ERROR": Advice("a component's bootstrap failed", "read the component's log on a device"),
    "COMPONENT_BROKEN": Advice(
        "a component failed three times", "read its log on the device: monodon logs COMPONENT, or logs/COMPONENT.log"
    ),
    "REMOVE_COMPONENT_ERROR": Advice("a component could not be removed", "read its log on a device"),
    "REJECTED_STALE_DEPLOYMENT": Advice(
        "the device has a newer deployment of this target already", "nothing: look which one with monodon fleet status"
    ),
    "DEPLOYMENT_INTERRUPTED": Advice("the nucleus was stopped meanwhile", "deploy again"),
    "IO_WRITE_ERROR": Advice("the device cannot write to its disk", "see if it is full or mounted read-only"),
    "TIMED_OUT": Advice(
        "devices began and did not end within the job's time-out",
        "see if they are online; raise timeout.inProgressTimeoutInMinutes",
    ),
    "CANCELED": Advice("the deployment was stopped before these devices began", "plan and deploy again"),
    "REJECTED": Advice("the devices refused the deployment", "the reason says why"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A device that failed: AWS's codes (general first), and what it said; both are the device's own words."""

    thing: str
    status: str
    reason: str = ""
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Devices that failed for the same cause.

    Args:
        code: the most particular one that is known; else what stands for it.
        fix: "" if nobody knows.
        example: what one of the devices said.
    """

    code: str
    cause: str
    fix: str
    things: tuple[str, ...]
    example: str


def clusters(failures: Iterable[Failure]) -> tuple[Cluster, ...]:
    """Put failures together by cause, the most frequent first."""
    by_code: dict[str, list[Failure]] = {}
    for failure in failures:
        by_code.setdefault(_code(failure), []).append(failure)
    found = []
    for code, group in by_code.items():
        advice = ADVICE.get(code, Advice(code, ""))
        things = tuple(sorted(one.thing for one in group))
        example = next((one.reason for one in group if one.reason), "")
        found.append(Cluster(code=code, cause=advice.cause, fix=advice.fix, things=things, example=example))
    return tuple(sorted(found, key=lambda one: (-len(one.things), one.code)))


def _code(failure: Failure) -> str:
    for code in reversed(failure.codes):
        if code in ADVICE:
            return code
    if failure.status in ADVICE and not failure.codes:
        return failure.status
    if failure.codes:
        return failure.codes[-1]
    return _without_numbers(failure.reason.replace(failure.thing, "DEVICE")) or failure.status


def _without_numbers(text: str) -> str:
    """What remains alike when devices say the same of different processes, times and places."""
    return re.sub(r"\d+", "N", text)[:200]


def printable(text: object, limit: int = 1000) -> str:
    """Return what may be shown of a text that a device wrote: one line, no control characters, not too long."""
    shown = str(text)[: limit + 1]
    clean = " ".join("".join(character if character.isprintable() else " " for character in shown).split())
    return clean if len(shown) <= limit else clean[:limit] + "…"

"""What AWS knows that a plan is made of, as values; ``live`` reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from monodon.core.recipe.model import Recipe
from monodon.core.semver import Version

#: A nucleus tells its health every 24 hours at least; an hour for the way.
SILENT_AFTER_S = 25 * 3600.0
JAVA_RUNTIME = "aws_nucleus_classic"
LITE_RUNTIME = "aws_nucleus_lite"
#: What an execution ends in. Source: AWS IoT Jobs; COMPLETED is a single thing's SUCCEEDED (cloud.md 4).
SUCCESSES = frozenset({"SUCCEEDED", "COMPLETED"})
FAILURES = frozenset({"FAILED", "TIMED_OUT", "REJECTED", "CANCELED"})
#: It left the target: neither a success nor a failure.
LEFT = "REMOVED"
FINAL = SUCCESSES | FAILURES | {LEFT}
#: Executions after which a device may still come to run what it should.
OPEN = frozenset({"QUEUED", "IN_PROGRESS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedVersion:
    """One version of a component.

    Args:
        state: DEPLOYABLE, REQUESTED, INITIATED, FAILED or DEPRECATED.
        guidance: ACTIVE, DISCONTINUED or DELETED; "" if its vendor says nothing.
        recipe: None if it cannot be read.
    """

    version: Version
    arn: str
    state: str = "DEPLOYABLE"
    errors: Mapping[str, str] = field(default_factory=dict)
    guidance: str = ""
    guidance_message: str = ""
    recipe: Recipe | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What is published of one component.

    Args:
        chosen: what the desired version, or range, comes to; None if nothing does.
        live: the version of the live deployment; None if there is none, or it was deleted.
        tried: versions that fit and were passed over, since they are not deployable.
        versions: all there are, newest first; only asked for where it matters.
    """

    chosen: PublishedVersion | None = None
    live: PublishedVersion | None = None
    tried: tuple[PublishedVersion, ...] = ()
    versions: tuple[Version, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A core device by its last report; whatever it said of itself, so not to be trusted."""

    thing: str
    status: str = ""
    reported_s: float = 0.0
    platform: str = ""
    architecture: str = ""
    runtime: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """Another target's live deployment, and the things that get both."""

    target_arn: str
    deployment: Mapping[str, Any]
    shared: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A target as AWS has it.

    Args:
        deployment: GetDeployment's answer for the latest revision; None if there is none.
        components: by name, of what is desired or live.
        artifacts: S3 URI → HTTP status of looking at it, where that was not 200.
        members: the things of the target, by name.
        devices: those of them that are core devices, by thing.
        others: live deployments of other targets that some of the members get.
        not_compared: things with a deployment of their own that was not looked at.
        dependencies: what recipes need and the target does not name → the versions there are.
    """

    target_arn: str
    deployment: Mapping[str, Any] | None = None
    components: Mapping[str, Published] = field(default_factory=dict)
    artifacts: Mapping[str, int] = field(default_factory=dict)
    members: tuple[str, ...] = ()
    devices: Mapping[str, Device] = field(default_factory=dict)
    others: tuple[Other, ...] = ()
    not_compared: int = 0
    dependencies: Mapping[str, tuple[Version, ...]] = field(default_factory=dict)

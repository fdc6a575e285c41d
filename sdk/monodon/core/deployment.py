"""Deployment documents: what the cloud sends, what a local caller asks for, and how both are written down.

Keys are read without regard to case, unknown ones are ignored, numbers may be floats.
Source: Greengrass nucleus, ``deployment/model/*.java``, ``DeploymentDocumentConverter.java``; device notes 5.1, 5.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from monodon.core.configuration import ConfigurationUpdate
from monodon.core.document_reader import Reader, not_valid, read_name
from monodon.core.json import Json
from monodon.core.names import Arn, ComponentName, target_of_configuration_arn
from monodon.core.outcome import CANCELED as CANCELED
from monodon.core.outcome import SUCCEEDED as SUCCEEDED
from monodon.core.outcome import DetailedStatus as DetailedStatus
from monodon.core.outcome import Outcome as Outcome
from monodon.core.outcome import Status as Status
from monodon.core.outcome import failure as failure
from monodon.core.outcome import rejection as rejection
from monodon.core.plan import RunWith
from monodon.core.semver import Version
from monodon.errors import DeploymentError, InvalidVersion, MonodonError

SCHEMA_DATE = "2021-05-17"
LOCAL_TARGET = "LOCAL_DEPLOYMENT"

#: Beside components, ``componentToConfiguration`` of a local deployment may have what is meant for the deployment
#: itself: AWS's shapes have no room for it, and its device ignores what is configured for no root.
OPTIONS = ComponentName("monodon.Deployment")
TIMEOUT_OPTION = "timeoutSeconds"

DEFAULT_UPDATE_TIMEOUT_S = 60.0
#: Without any policy in the document, and with one that names no time.
DEFAULT_VALIDATION_TIMEOUT_S = 60.0
UNSAID_VALIDATION_TIMEOUT_S = 20.0

LARGE_CONFIGURATION = "LARGE_CONFIGURATION"
CAPABILITIES = frozenset({LARGE_CONFIGURATION, "LINUX_RESOURCE_LIMITS", "SUB_DEPLOYMENTS"})


class FailureHandling(StrEnum):
    """What to do with the device when a component breaks."""

    ROLLBACK = "ROLLBACK"
    DO_NOTHING = "DO_NOTHING"


class UpdateAction(StrEnum):
    """Whether components are asked before a deployment is applied."""

    NOTIFY_COMPONENTS = "NOTIFY_COMPONENTS"
    SKIP_NOTIFY_COMPONENTS = "SKIP_NOTIFY_COMPONENTS"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePolicy:
    """How long to wait for components that want a deployment deferred."""

    timeout_s: float = DEFAULT_UPDATE_TIMEOUT_S
    action: UpdateAction = UpdateAction.NOTIFY_COMPONENTS


@dataclass(frozen=True, slots=True, kw_only=True)
class RootComponent:
    """A component that a deployment names: an exact version (a local deployment may give a range)."""

    requirement: str
    update: ConfigurationUpdate | None = None
    run_with: RunWith | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRequest:
    """What only a local deployment has. ``components`` of its Deployment are the additions until `with_roots`."""

    removals: tuple[ComponentName, ...] = ()
    updates: Mapping[ComponentName, ConfigurationUpdate] = field(default_factory=dict)
    run_with: Mapping[ComponentName, RunWith] = field(default_factory=dict)
    recipes: str | None = None
    artifacts: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One revision of what a target shall run.

    ``target`` is ``thinggroup/<name>``, ``thing/<name>`` or LOCAL_TARGET; of a subgroup's deployment, the parent's.
    ``timeout_s`` is how long it may take in all, None as long as the nucleus is told; only a local one can say.
    """

    deployment_id: str
    target: str
    timestamp_ms: int
    name: str | None = None
    configuration_arn: str | None = None
    components: Mapping[ComponentName, RootComponent] = field(default_factory=dict)
    on_failure: FailureHandling = FailureHandling.ROLLBACK
    update_policy: UpdatePolicy = UpdatePolicy()
    validation_timeout_s: float = DEFAULT_VALIDATION_TIMEOUT_S
    required_capabilities: tuple[str, ...] = ()
    parent_target_arn: str | None = None
    on_behalf_of: str | None = None
    timeout_s: float | None = None
    local: LocalRequest | None = None

    @property
    def is_local(self) -> bool:
        """Whether it was asked for on the device itself."""
        return self.local is not None

    @property
    def unknown_capabilities(self) -> tuple[str, ...]:
        """What the deployment needs and this nucleus does not have."""
        return tuple(name for name in self.required_capabilities if name not in CAPABILITIES)

    def is_stale(self, last_timestamp_ms: int | None) -> bool:
        """Whether a deployment of this target that was made later has been applied already.

        Source: Greengrass nucleus, ``DeploymentService.java``, check of stale deployments (rule Q6).
        """
        return not self.is_local and last_timestamp_ms is not None and self.timestamp_ms < last_timestamp_ms


def read_document(document: Json) -> Deployment:
    """Read a deployment document as it comes in a job or, decoded once more, in the deployment shadow.

    Raises:
        DeploymentError: it is no such document; the message names the key and what is wrong with it.
    """
    top = Reader(document, "")
    configuration_arn, parent = top.text("configurationArn"), top.text("parentTargetArn")
    policy = top.reader("componentUpdatePolicy")
    validation = top.reader("configurationValidationPolicy")
    return Deployment(
        deployment_id=top.required_text("deploymentId"),
        name=top.text("deploymentName"),
        configuration_arn=configuration_arn,
        target=_target(parent, configuration_arn, top.required_text("deploymentId")),
        timestamp_ms=int(top.number("creationTimestamp", required=True) or 0),
        components={name: _read_root(root) for name, root in top.components("components").items()},
        on_failure=top.choice("failureHandlingPolicy", FailureHandling.ROLLBACK),
        update_policy=UpdatePolicy(
            timeout_s=policy.number("timeout", DEFAULT_UPDATE_TIMEOUT_S),
            action=policy.choice("action", UpdateAction.NOTIFY_COMPONENTS),
        ),
        validation_timeout_s=validation.number(
            "timeout", UNSAID_VALIDATION_TIMEOUT_S if validation.is_present else DEFAULT_VALIDATION_TIMEOUT_S
        ),
        required_capabilities=top.texts("requiredCapabilities"),
        parent_target_arn=parent,
        on_behalf_of=top.text("onBehalfOf"),
    )


def write_document(deployment: Deployment) -> dict[str, Json]:
    """Write a deployment as the cloud sends it to a device; ``read_document`` reads the same back.

    Source: cloud notes, section 5.
    """
    document: dict[str, Json] = {
        "deploymentId": deployment.deployment_id,
        "schemaDate": SCHEMA_DATE,
        "deploymentName": deployment.name,
        "configurationArn": deployment.configuration_arn,
        "parentTargetArn": deployment.parent_target_arn,
        "onBehalfOf": deployment.on_behalf_of,
        "creationTimestamp": deployment.timestamp_ms,
        "components": {str(name): _write_root(root) for name, root in deployment.components.items()},
        "failureHandlingPolicy": str(deployment.on_failure),
        "requiredCapabilities": list(deployment.required_capabilities),
        "componentUpdatePolicy": {
            "timeout": _plain(deployment.update_policy.timeout_s),
            "action": str(deployment.update_policy.action),
        },
        "configurationValidationPolicy": {"timeout": _plain(deployment.validation_timeout_s)},
    }
    return {key: value for key, value in document.items() if value is not None}


def read_local(request: Json, *, deployment_id: str, timestamp_ms: int) -> Deployment:
    """Read a CreateLocalDeployment request; its roots are known only when it starts (`with_roots`).

    Raises:
        DeploymentError: the request cannot be understood.
    """
    top = Reader(request, "")
    group = top.text("groupName") or None  # an empty one is none: DeploymentDocumentConverter.java
    if group is not None and ":" in group:
        raise not_valid(f"groupName: {group!r} cannot name a thing group")
    additions = {name: RootComponent(requirement=text) for name, text in top.versions().items()}
    updates = {name: _read_update(item) for name, item in top.components("componentToConfiguration").items()}
    timeout_s = _read_timeout(updates.pop(OPTIONS, None))
    return Deployment(
        deployment_id=deployment_id,
        target=LOCAL_TARGET if group is None else f"thinggroup/{group}",
        timestamp_ms=timestamp_ms,
        components=additions,
        on_failure=top.choice("failureHandlingPolicy", FailureHandling.DO_NOTHING),
        update_policy=UpdatePolicy(action=UpdateAction.SKIP_NOTIFY_COMPONENTS),
        validation_timeout_s=UNSAID_VALIDATION_TIMEOUT_S,
        timeout_s=timeout_s,
        local=LocalRequest(
            removals=tuple(read_name(text, "rootComponentsToRemove") for text in top.texts("rootComponentsToRemove")),
            updates=updates,
            run_with={name: _read_run_with(item) for name, item in top.components("componentToRunWithInfo").items()},
            recipes=top.text("recipeDirectoryPath"),
            artifacts=top.text("artifactsDirectoryPath"),
        ),
    )


def write_local(deployment: Deployment) -> dict[str, Json]:
    """Write a local deployment as the request that ``read_local`` reads."""
    local = deployment.local or LocalRequest()
    updates = dict(local.updates)
    if deployment.timeout_s is not None:
        updates[OPTIONS] = ConfigurationUpdate(merge={TIMEOUT_OPTION: deployment.timeout_s})
    request: dict[str, Json] = {
        "groupName": None if deployment.target == LOCAL_TARGET else deployment.target.partition("/")[2],
        "rootComponentVersionsToAdd": {str(name): root.requirement for name, root in deployment.components.items()},
        "rootComponentsToRemove": [str(name) for name in local.removals],
        "componentToConfiguration": {
            str(name): {key.upper(): value for key, value in _write_update(update).items()}
            for name, update in updates.items()
        },
        "componentToRunWithInfo": {str(name): _write_run_with(run_with) for name, run_with in local.run_with.items()},
        "recipeDirectoryPath": local.recipes,
        "artifactsDirectoryPath": local.artifacts,
        "failureHandlingPolicy": str(deployment.on_failure),
    }
    return {key: value for key, value in request.items() if value is not None}


def with_roots(deployment: Deployment, running: Mapping[ComponentName, Version]) -> Deployment:
    """Return a local deployment with all its roots: those of its target as they run, less removals, plus additions.

    Configuration for a component that is not a root then is dropped, as AWS drops it.

    Args:
        running: the roots that the target has now, each with the version that runs.
    """
    local = deployment.local
    if local is None:
        return deployment
    kept = {
        name: RootComponent(requirement=str(version)) for name, version in running.items() if name not in local.removals
    }
    components = {
        name: replace(root, update=local.updates.get(name), run_with=local.run_with.get(name))
        for name, root in {**kept, **deployment.components}.items()
    }
    return replace(deployment, components=components)


def ignored_updates(deployment: Deployment) -> tuple[ComponentName, ...]:
    """Return the components that a local deployment (after `with_roots`) configures in vain, not being its roots."""
    local = deployment.local or LocalRequest()
    return tuple(sorted({*local.updates, *local.run_with} - set(deployment.components)))


def to_record(deployment: Deployment) -> dict[str, Json]:
    """The JSON object that ``from_record`` reads: how the journal keeps a deployment that is under way."""
    if deployment.is_local:
        return {
            "local": write_local(deployment),
            "deployment_id": deployment.deployment_id,
            "timestamp_ms": deployment.timestamp_ms,
        }
    return {"document": write_document(deployment)}


def from_record(record: Mapping[str, Json]) -> Deployment:
    """Read what ``to_record`` wrote."""
    if "local" in record:
        return read_local(record["local"], deployment_id=record["deployment_id"], timestamp_ms=record["timestamp_ms"])
    return read_document(record["document"])


def _target(parent: str | None, configuration_arn: str | None, deployment_id: str) -> str:
    try:
        if parent is not None:
            return Arn.parse(parent).resource
        return target_of_configuration_arn(configuration_arn) if configuration_arn else deployment_id
    except MonodonError as error:
        raise not_valid(f"configurationArn or parentTargetArn: {error.message}") from error


def _read_root(item: "Reader") -> RootComponent:
    version = item.required_text("version")
    try:
        parsed = Version.parse(version)
    except InvalidVersion as error:
        raise DeploymentError(
            f"{item.where}version: {error.message}", codes=("COMPONENT_VERSION_NOT_VALID",), hint=error.hint
        ) from None
    if parsed.prerelease and parsed.prerelease[0][:1].isdigit():
        # Rule V5: AWS's device cannot turn such a version into a requirement.
        raise DeploymentError(
            f"{item.where}version: the pre-release part of {version!r} begins with a digit",
            codes=("COMPONENT_VERSION_NOT_VALID",),
            hint="name it with a letter first, such as 1.0.0-rc.1",
        )
    update, run_with = item.reader("configurationUpdate"), item.reader("runWith")
    return RootComponent(
        requirement=version,
        update=_read_update(update) if update.is_present else None,
        run_with=_read_run_with(run_with) if run_with.is_present else None,
    )


def _write_root(root: RootComponent) -> dict[str, Json]:
    written: dict[str, Json] = {"version": root.requirement}
    if root.update is not None:
        written["configurationUpdate"] = _write_update(root.update)
    if root.run_with is not None:
        written["runWith"] = _write_run_with(root.run_with)
    return written


def _read_update(item: "Reader") -> ConfigurationUpdate:
    merge = item.reader("merge")
    return ConfigurationUpdate(merge=merge.value if merge.is_present else None, reset=item.texts("reset"))


def _write_update(update: ConfigurationUpdate) -> dict[str, Json]:
    written: dict[str, Json] = {}
    if update.merge is not None:
        written["merge"] = dict(update.merge)
    if update.reset:
        written["reset"] = list(update.reset)
    return written


def _read_timeout(options: ConfigurationUpdate | None) -> float | None:
    merge = None if options is None else options.merge
    seconds = None if merge is None else Reader(merge, f"{OPTIONS}.").optional_number(TIMEOUT_OPTION)
    if seconds is not None and seconds <= 0:
        raise not_valid(f"{OPTIONS}.{TIMEOUT_OPTION} must be above 0")
    return seconds


def _read_run_with(item: "Reader") -> RunWith:
    limits = item.reader("systemResourceLimits")
    memory, cpus, pids = (limits.optional_number(key) for key in ("memory", "cpus", "pids"))
    if any(limit is not None and limit <= 0 for limit in (memory, cpus, pids)):
        raise DeploymentError(
            f"{limits.where}memory, cpus and pids must be above 0", codes=("RUN_WITH_CONFIG_NOT_VALID",)
        )
    return RunWith(
        posix_user=item.text("posixUser") or None,
        memory_kb=None if memory is None else int(memory),
        cpus=cpus,
        pids=None if pids is None else int(pids),
        windows_user=item.text("windowsUser") or None,
    )


def _write_run_with(run_with: RunWith) -> dict[str, Json]:
    users = {"posixUser": run_with.posix_user, "windowsUser": run_with.windows_user}
    written: dict[str, Json] = {key: user for key, user in users.items() if user is not None}
    limits = {"memory": run_with.memory_kb, "cpus": run_with.cpus, "pids": run_with.pids}
    if any(value is not None for value in limits.values()):
        written["systemResourceLimits"] = {key: value for key, value in limits.items() if value is not None}
    return written


def _plain(seconds: float) -> int | float:
    return int(seconds) if seconds == int(seconds) else seconds

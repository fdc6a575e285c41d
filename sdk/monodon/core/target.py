"""What a device will run, from the recipes that were chosen and the deployment that chose them.

Pure: running it again on the configuration of the moment gives the target of that moment.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from monodon.core import provided
from monodon.core.configuration import EMPTY, Configuration, ConfigurationUpdate, changed_paths, resolve
from monodon.core.deployment import Deployment, RootComponent
from monodon.core.interpolation import Scope, Variables, interpolate, interpolate_configuration
from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.nucleus_settings import ignored
from monodon.core.origins import deployed
from monodon.core.plan import Installed, RunWith, Target
from monodon.core.recipe.model import ComponentType, Manifest, Recipe
from monodon.core.recipe.platform import select_lifecycle, select_manifest
from monodon.core.semver import Version
from monodon.errors import DeploymentError


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What recipe variables and platform pairs ask of a device."""

    platform: Mapping[str, str]
    thing: str
    root: str
    artifacts: Callable[[ComponentName, Version], str]
    unarchived: Callable[[ComponentName, Version], str]
    work: Callable[[ComponentName], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A target, and what its author should hear about it."""

    target: Target
    warnings: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Configured:
    """The live configuration of a component, and the one that variables shall see."""

    running: Configuration
    update: ConfigurationUpdate | None
    value: dict[str, Json]
    warnings: list[str] = field(default_factory=list)


def choose_manifests(
    recipes: Mapping[ComponentName, Recipe], platform: Mapping[str, str]
) -> dict[ComponentName, Manifest]:
    """Return the manifest of each recipe that fits the platform.

    Raises:
        DeploymentError: a recipe has none that fits, or is of a type that Monodon cannot run.
    """
    chosen = {}
    for name, recipe in recipes.items():
        if recipe.type in (ComponentType.PLUGIN, ComponentType.LAMBDA) and not provided.is_provided(name):
            reason = provided.why_missing(name) or f"its type is {recipe.type}, made for AWS's Java nucleus"
            raise DeploymentError(f"{name} {recipe.version} cannot run here: {reason}", codes=("RECIPE_PARSE_ERROR",))
        manifest = select_manifest(recipe, platform)
        if manifest is None:
            shown = ", ".join(f"{key}={value}" for key, value in platform.items())
            raise DeploymentError(
                f"{name} {recipe.version} is not usable on this platform ({shown})",
                codes=("LOCAL_RECIPE_NOT_FOUND",) if recipe.manifests else ("RECIPE_MISSING_MANIFEST",),
                hint="add a manifest for it; AWS spells architectures amd64, aarch64, arm",
            )
        chosen[name] = manifest
    return chosen


def build(
    deployment: Deployment,
    recipes: Mapping[ComponentName, Recipe],
    running: Target,
    *,
    device: Device,
    at_ms: int,
    roots: Collection[ComponentName],
    arns: Mapping[ComponentName, str | None],
) -> Built:
    """Return everything the device shall run after ``deployment``.

    Args:
        running: what it runs now, with its live configuration.
        at_ms: the time of the deployment's merges.
        roots: the components that any target names, this deployment's included.
        arns: ARNs of component versions that came from the cloud.

    Raises:
        DeploymentError: a recipe does not fit the platform, or a variable cannot be resolved at all.

    Source: Greengrass nucleus, ``KernelConfigResolver.java``; device notes 5.5.
    """
    manifests = choose_manifests(recipes, device.platform)
    configured = {
        name: _configure(recipe, running.get(name), deployment.components.get(name), at_ms)
        for name, recipe in recipes.items()
    }
    variables = _variables(recipes, configured, device)
    if _interpolates_configuration(configured, running):
        # (choice) all configurations first, so that what a lifecycle sees does not depend on an order.
        for name, one in configured.items():
            one.value = interpolate_configuration(one.value, variables[name]).value
        variables = _variables(recipes, configured, device)
    warnings: list[str] = []
    target: dict[ComponentName, Installed] = {}
    for name, recipe in recipes.items():
        one = configured[name]
        lifecycle = interpolate(dict(select_lifecycle(recipe, manifests[name])), variables[name])
        target[name] = installed = replace(
            _installed(recipe, one, running.get(name), deployment, at_ms),
            lifecycle=lifecycle.value,
            is_root=name in roots,
            arn=arns.get(name),
        )
        warnings += [*one.warnings, *_kept_values(name, one.value, installed.configuration, at_ms)]
        warnings += [
            f"{name} {recipe.version}: {text} stands for nothing and stays as it is" for text in lifecycle.unresolved
        ]
    if provided.NUCLEUS in deployment.components:
        without = ignored(target[provided.NUCLEUS].configuration.value())
        warnings += [f"{provided.NUCLEUS}: ignored are {', '.join(without)}"] if without else []
    if provided.NUCLEUS in running and provided.NUCLEUS not in target:
        # A device is never without its nucleus: what was configured for it holds until it is configured anew.
        target[provided.NUCLEUS] = replace(running[provided.NUCLEUS], is_root=False)
    return Built(target=target, warnings=tuple(warnings))


def _installed(
    recipe: Recipe, configured: _Configured, before: Installed | None, deployment: Deployment, at_ms: int
) -> Installed:
    """A component as the deployment wants it, but for what hangs on others: its lifecycle, and whether it is a root."""
    live = configured.running.replace(configured.value, at_ms=at_ms)
    return Installed(
        name=recipe.name,
        version=recipe.version,
        previous_version=None if before is None else before.version,
        dependencies={other: dependency.type for other, dependency in recipe.dependencies.items()},
        lifecycle={},
        run_with=_run_with(deployment, recipe.name, before),
        configuration=live,
        origins=deployed(
            {} if before is None else before.origins,
            configured.running,
            live,
            defaults=recipe.configuration,
            version=str(recipe.version),
            update=configured.update,
            deployment_id=deployment.deployment_id,
            at_ms=at_ms,
        ),
    )


def validated_changes(running: Target, target: Target) -> dict[ComponentName, Json]:
    """Return the new configuration of each component that keeps its version and is configured anew.

    These are the ones asked to validate it before anything is touched.
    """
    return {
        name: after.configuration.value()
        for name, after in target.items()
        if name in running
        and running[name].version == after.version
        and changed_paths(running[name].configuration, after.configuration)
    }


def new_bootstraps(running: Target, target: Target) -> tuple[ComponentName, ...]:
    """Return the components whose Bootstrap step has to run: it is new, changed, or of another version (B1)."""
    return tuple(
        sorted(
            name
            for name, after in target.items()
            if (wanted := _bootstrap(after))
            and (name not in running or running[name].version != after.version or _bootstrap(running[name]) != wanted)
        )
    )


#: Settings of the nucleus that take effect by a restart (B2). Source: ``deployment/DeviceConfiguration.java``.
RESTARTING_SETTINGS = (
    ("networkProxy",),
    ("runWithDefault", "posixUser"),
    ("runWithDefault", "posixShell"),
    ("mqtt", "version"),
    ("mqtt", "spooler", "storageType"),
    ("fipsMode",),
)


def restarting_settings(running: Target, target: Target) -> tuple[str, ...]:
    """Return the settings of the nucleus that change and need a restart to take effect, as pointers."""
    before, after = (
        EMPTY if provided.NUCLEUS not in one else one[provided.NUCLEUS].configuration for one in (running, target)
    )
    if provided.NUCLEUS not in target:
        return ()
    return tuple(_pointer(path) for path in RESTARTING_SETTINGS if _setting(before, path) != _setting(after, path))


def _setting(configuration: Configuration, path: Sequence[str]) -> Json:
    return configuration.get(path) if configuration.contains(path) else None


def _bootstrap(installed: Installed) -> Json:
    step = next((value for key, value in installed.lifecycle.items() if key.lower() == "bootstrap"), None)
    if isinstance(step, Mapping):
        return {key.lower(): str(value) for key, value in step.items()}
    return step or None


def _configure(recipe: Recipe, before: Installed | None, root: RootComponent | None, at_ms: int) -> _Configured:
    running = EMPTY if before is None else before.configuration
    update = None if root is None else root.update
    resolved = resolve(running, recipe.configuration, update, at_ms=at_ms)
    configured = _Configured(running=running, update=update, value=resolved.value())
    if update is not None:
        lost = () if update.merge is None else running.losing_paths(update.merge, at_ms=at_ms)
        configured.warnings += [f"{recipe.name}: reset of {pointer!r} is ignored" for pointer in update.refused]
        configured.warnings += [
            f"{recipe.name}: the merge of {_pointer(path)} has no effect: the value was written later" for path in lost
        ]
    return configured


def _kept_values(name: ComponentName, value: Mapping[str, Json], live: Configuration, at_ms: int) -> list[str]:
    """Consequence C4: a reset that lost to a later write is seen by variables alone."""
    return [
        f"{name}: {_pointer(path)} stays as it was written after this deployment was made, "
        "while the variables of its recipe see the deployment's value"
        for path in changed_paths(EMPTY.merge((), value, at_ms=at_ms), live)
    ]


def _variables(
    recipes: Mapping[ComponentName, Recipe], configured: Mapping[ComponentName, _Configured], device: Device
) -> dict[ComponentName, Variables]:
    scopes = {
        name: Scope(
            name=name,
            version=str(recipe.version),
            configuration=configured[name].value,
            artifacts=device.artifacts(name, recipe.version),
            unarchived=device.unarchived(name, recipe.version),
            work=device.work(name),
        )
        for name, recipe in recipes.items()
    }
    return {
        name: Variables(
            own=scopes[name],
            dependencies={other: scopes[other] for other in recipe.dependencies if other in scopes},
            root=device.root,
            thing=device.thing,
        )
        for name, recipe in recipes.items()
    }


def _interpolates_configuration(configured: Mapping[ComponentName, _Configured], running: Target) -> bool:
    """Rule I9: the nucleus's setting, of this deployment if it has one, else as it is now."""
    key = "interpolateComponentConfiguration"
    value: Json = None
    if provided.NUCLEUS in configured:
        value = configured[provided.NUCLEUS].value.get(key)
    elif provided.NUCLEUS in running and running[provided.NUCLEUS].configuration.contains((key,)):
        value = running[provided.NUCLEUS].configuration.get((key,))
    return value is True or str(value).lower() == "true"


def _pointer(path: Sequence[str]) -> str:
    return "/" + "/".join(path)


def _run_with(deployment: Deployment, name: ComponentName, before: Installed | None) -> RunWith:
    """A cloud deployment decides for its roots, saying nothing means the default; a local one only where it speaks."""
    kept = RunWith() if before is None else before.run_with
    root = deployment.components.get(name)
    if root is None or (deployment.is_local and root.run_with is None):
        return kept
    return root.run_with or RunWith()

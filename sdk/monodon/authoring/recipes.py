"""What a recipe.py is written with: a recipe in a few lines of typed Python.

::

    from monodon.authoring.recipes import artifact, may_publish, recipe, step

    RECIPES = (
        recipe(
            name="com.example.Hello",
            version="1.0.0",
            grants=(may_publish("hello/world"),),
            dependencies={"monodon.PythonRuntime": "^1.0.0"},
            lifecycle={"Startup": step("exec python3 …", timeout_s=60)},
            artifacts=(artifact("hello.zip"),),
        ),
    )
"""

import hashlib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.policy import SECRET_MANAGER, SHADOW_MANAGER
from monodon.core.recipe.model import Artifact, Dependency, Manifest, Permission, Recipe, Unarchive
from monodon.core.semver import Requirement, Version
from monodon.errors import RecipeError

LINUX: Mapping[str, str] = {"os": "linux"}
#: Stands for the component's own name in what a grant says.
_OWN_NAME = "<component>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Operations of one IPC service that the component may use on some resources."""

    service: str
    operations: tuple[str, ...]
    resources: tuple[str, ...]
    description: str


def may_publish(*topics: str) -> Grant:
    """Allow publishing on local topics."""
    return _grant("aws.greengrass.ipc.pubsub", "PublishToTopic", topics)


def may_subscribe(*topics: str) -> Grant:
    """Allow subscribing to local topics."""
    return _grant("aws.greengrass.ipc.pubsub", "SubscribeToTopic", topics)


def may_publish_to_iot(*topics: str) -> Grant:
    """Allow publishing to AWS IoT Core; ``+`` and ``#`` stand for topic levels."""
    return _grant("aws.greengrass.ipc.mqttproxy", "PublishToIoTCore", topics)


def may_subscribe_to_iot(*topics: str) -> Grant:
    """Allow subscribing to AWS IoT Core."""
    return _grant("aws.greengrass.ipc.mqttproxy", "SubscribeToIoTCore", topics)


def may_request(*topics: str) -> tuple[Grant, Grant]:
    """Allow asking on local topics (``component.request``); for ``grants=(*may_request("gps/where"), …)``."""
    replies = [f"{topic}/replies/{_OWN_NAME}" for topic in topics]
    return may_publish(*topics), may_subscribe(*replies)


def may_answer(*topics: str) -> tuple[Grant, Grant]:
    """Allow answering what is asked on local topics (``component.requests``), whoever asks."""
    return may_subscribe(*topics), may_publish(*(f"{topic}/replies/*" for topic in topics))


def may_read_secret(*arns: str) -> Grant:
    """Allow reading secrets; policies know them by ARN alone, with or without a ``*``.

    Raises:
        RecipeError: one of them is a name.
    """
    for arn in arns:
        if arn != "*" and not arn.startswith("arn:"):
            raise RecipeError(
                f"{arn} is not a secret's ARN, so no policy with it allows anything",
                hint="`monodon secret list` and AWS Secrets Manager show the ARN",
            )
    return _grant(SECRET_MANAGER, "GetSecretValue", arns)


def may_read_shadow(*names: str, thing: str = "*") -> Grant:
    """Allow reading shadows of a thing (any without one); the name ``""`` is the classic shadow."""
    return _grant(SHADOW_MANAGER, "GetThingShadow", _shadows(thing, names))


def may_update_shadow(*names: str, thing: str = "*") -> tuple[Grant, Grant]:
    """Allow reading and updating shadows: what `component.shadow`, its ``report`` and ``desire`` need."""
    return may_read_shadow(*names, thing=thing), _grant(SHADOW_MANAGER, "UpdateThingShadow", _shadows(thing, names))


def may_delete_shadow(*names: str, thing: str = "*") -> Grant:
    """Allow deleting shadows."""
    return _grant(SHADOW_MANAGER, "DeleteThingShadow", _shadows(thing, names))


def may_list_shadows(*things: str) -> Grant:
    """Allow listing the named shadows of things."""
    return _grant(SHADOW_MANAGER, "ListNamedShadowsForThing", things)


def may_watch_shadow(*names: str, thing: str = "*") -> Grant:
    """Allow following the changes of shadows (``shadow.changes``), which are told on local topics."""
    return may_subscribe(*(f"{shadow}/update/documents" for shadow in _shadows(thing, names)))


def _shadows(thing: str, names: Sequence[str]) -> list[str]:
    return [f"$aws/things/{thing}/shadow" + (f"/name/{name}" if name else "") for name in names]


def _grant(service: str, operation: str, resources: Sequence[str]) -> Grant:
    description = f"Allows {operation} on {', '.join(resources)}."
    return Grant(
        service=service,
        operations=(f"aws.greengrass#{operation}",),
        resources=tuple(resources),
        description=description,
    )


def access_control(component: str, grants: Sequence[Grant]) -> dict[str, Json]:
    """Return the ``accessControl`` of a component.

    A policy's id carries a digest of its content: a device keeps the merged value of a key it knows, so under an
    unchanged id a changed grant would never arrive on devices that were configured before.
    """
    services: dict[str, Json] = {}
    for grant in grants:
        policy = {
            "policyDescription": grant.description.replace(_OWN_NAME, component),
            "operations": list(grant.operations),
            "resources": [resource.replace(_OWN_NAME, component) for resource in grant.resources],
        }
        digest = hashlib.sha256(json.dumps(policy, sort_keys=True).encode()).hexdigest()[:8]
        short = grant.operations[0].rpartition("#")[2]
        services.setdefault(grant.service, {})[f"{component}:{short}:{digest}"] = policy
    return services


def artifact(
    file: str,
    *,
    read: Permission = Permission.OWNER,
    execute: Permission = Permission.NONE,
    unarchive: Unarchive | None = None,
    folder: str = "",
) -> Artifact:
    """Return an artifact that publishing builds and uploads; a ``.zip`` is unpacked on the device.

    Args:
        folder: a folder more in its S3 key, to tell files of one name for several platforms apart.
    """
    inner = f"{folder}/{file}" if folder else file
    if unarchive is None:
        unarchive = Unarchive.ZIP if file.endswith(".zip") else Unarchive.NONE
    uri = f"s3://BUCKET_NAME/COMPONENT_NAME/COMPONENT_VERSION/{inner}"
    return Artifact(uri=uri, unarchive=unarchive, read=read, execute=execute)


def step(
    script: str,
    *,
    timeout_s: int | None = None,
    skipif: str | None = None,
    requires_privilege: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Json:
    """Return a lifecycle step: the script alone, or a map with what else is said of it."""
    extras = {
        "Timeout": timeout_s,
        "Skipif": skipif,
        "RequiresPrivilege": requires_privilege or None,
        "Setenv": dict(environment) if environment else None,
    }
    said = {key: value for key, value in extras.items() if value is not None}
    return {"Script": script, **said} if said else script


def recipe(
    *,
    name: str,
    version: str,
    description: str | None = None,
    publisher: str | None = None,
    configuration: Mapping[str, Json] | None = None,
    grants: Sequence[Grant] = (),
    dependencies: Mapping[str, str | Dependency] | None = None,
    platform: Mapping[str, str] = LINUX,
    lifecycle: Mapping[str, Json] | None = None,
    artifacts: Sequence[Artifact] = (),
    manifests: Sequence[Manifest] | None = None,
) -> Recipe:
    """Return a recipe, with one manifest of ``platform``, ``lifecycle`` and ``artifacts`` unless others are given.

    Raises:
        InvalidName, InvalidVersion, InvalidRequirement: as their types say.
    """
    defaults = dict(configuration or {})
    if grants:
        defaults["accessControl"] = access_control(name, grants)
    only = Manifest(platform=dict(platform), lifecycle=dict(lifecycle or {}), artifacts=tuple(artifacts))
    return Recipe(
        name=ComponentName.parse(name),
        version=Version.parse(version),
        description=description,
        publisher=publisher,
        configuration=defaults,
        dependencies={
            ComponentName.parse(other): (
                wanted if isinstance(wanted, Dependency) else Dependency(requirement=Requirement.parse(wanted))
            )
            for other, wanted in (dependencies or {}).items()
        },
        manifests=(only,) if manifests is None else tuple(manifests),
    )


def load_main(recipe_file: str) -> ModuleType:
    """Return the main.py beside a recipe.py, so that the recipe can take its ``Settings``: ``load_main(__file__)``.

    Raises:
        RecipeError: it cannot be imported.
    """
    return load_module(Path(recipe_file).resolve().with_name("main.py"))


def load_module(file: Path) -> ModuleType:
    """Import a file under a name of its own: every component has a main.py and a recipe.py.

    Raises:
        RecipeError: it is missing, or fails while it is imported.
    """
    name = f"monodon_component_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise RecipeError(f"{file} is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while they are made
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise RecipeError(f"{file}{_line_of(error, file)}: {type(error).__name__}: {error}") from error
    return module


def _line_of(error: Exception, file: Path) -> str:
    if isinstance(error, SyntaxError):
        return f":{error.lineno}"
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f":{line}" if line else ""

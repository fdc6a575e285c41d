"""The AWS components that Monodon stands in for: they resolve everywhere, at AWS's versions, without an artifact.

Their configuration works, their code is the nucleus's own. Others of AWS's that cannot run here say why.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.recipe.model import ComponentType, Manifest, Recipe
from monodon.core.semver import Requirement, Version, conjunction
from monodon.errors import InvalidRequirement, InvalidVersion

NUCLEUS = ComponentName("aws.greengrass.Nucleus")

#: The version of AWS's nucleus whose behaviour ours follows.
NUCLEUS_VERSION = Version(2, 18, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provided:
    """One stand-in: the version it has when none is asked for, and its default configuration."""

    version: Version
    does: str
    type: ComponentType = ComponentType.GENERIC
    configuration: Mapping[str, Json] = field(default_factory=dict)


#: Source: AWS's public components and the defaults of their configuration, IoT Greengrass developer guide.
PROVIDED: Mapping[ComponentName, Provided] = {
    NUCLEUS: Provided(version=NUCLEUS_VERSION, does="the nucleus itself", type=ComponentType.NUCLEUS),
    ComponentName("aws.greengrass.NucleusLite"): Provided(
        version=Version(2, 3, 0), does="the nucleus itself", type=ComponentType.NUCLEUS
    ),
    ComponentName("aws.greengrass.Cli"): Provided(
        version=NUCLEUS_VERSION, does="local deployments and component control over IPC"
    ),
    ComponentName("aws.greengrass.TokenExchangeService"): Provided(
        version=Version(2, 0, 3),
        does="role credentials at AWS_CONTAINER_CREDENTIALS_FULL_URI",
        configuration={"port": 0},
    ),
    ComponentName("aws.greengrass.ShadowManager"): Provided(
        version=Version(2, 3, 11),
        does="shadows over IPC",
        configuration={
            "strategy": {"type": "realTime"},
            "synchronize": {},
            "rateLimits": {
                "maxOutboundSyncUpdatesPerSecond": 100,
                "maxTotalLocalRequestsRate": 200,
                "maxLocalRequestsPerSecondPerThing": 20,
            },
            "shadowDocumentSizeLimitBytes": 8192,
        },
    ),
    ComponentName("aws.greengrass.SecretManager"): Provided(
        version=Version(2, 2, 4), does="secrets over IPC", configuration={"cloudSecrets": []}
    ),
    ComponentName("aws.greengrass.clientdevices.Auth"): Provided(
        version=Version(2, 5, 4),
        does="client devices of a local broker, verified and authorised over IPC",
        configuration={"deviceGroups": {"formatVersion": "2021-03-05", "definitions": {}, "policies": {}}},
    ),
    ComponentName("aws.greengrass.LogManager"): Provided(
        version=Version(2, 3, 9),
        does="log upload",
        configuration={"logsUploaderConfiguration": {}, "periodicUploadIntervalSec": "300"},
    ),
}

_JAVA_PLUGIN = "it is a plugin that AWS's Java nucleus loads into its own process"

#: AWS's components that Monodon cannot run, and why.
_OUT_OF_REACH: Mapping[str, str] = {
    "aws.greengrass.StreamManager": "it is a Java program of AWS's; Monodon has no stand-in for its stream server",
    "aws.greengrass.LambdaLauncher": "Lambda functions do not run under Monodon; make the function a component",
    "aws.greengrass.LambdaManager": "Lambda functions do not run under Monodon; make the function a component",
    "aws.greengrass.LambdaRuntimes": "Lambda functions do not run under Monodon; make the function a component",
    "aws.greengrass.LegacySubscriptionRouter": "Lambda functions do not run under Monodon; publish over IPC",
    "aws.greengrass.DockerApplicationManager": "Monodon pulls no images; run `docker` from your recipe's own steps",
    "aws.greengrass.DiskSpooler": _JAVA_PLUGIN,
    "aws.greengrass.telemetry.NucleusEmitter": _JAVA_PLUGIN,
    "aws.greengrass.clientdevices.mqtt.Bridge": _JAVA_PLUGIN,
    "aws.greengrass.clientdevices.mqtt.Moquette": _JAVA_PLUGIN,
    "aws.greengrass.clientdevices.IPDetector": _JAVA_PLUGIN,
    "aws.greengrass.LocalDebugConsole": _JAVA_PLUGIN,
}


def recipe(
    name: ComponentName, requirements: Collection[Requirement] = (), running: Version | None = None
) -> Recipe | None:
    """Return the recipe of a stand-in at a version that meets ``requirements``; None if there is none.

    The running version stays if it fits; else it is ours, else the highest that the requirements name themselves.
    """
    provided = PROVIDED.get(name)
    if provided is None:
        return None
    version = _version(provided, requirements, running)
    if version is None:
        return None
    return Recipe(
        name=name,
        version=version,
        description=f"Monodon's stand-in: {provided.does}",
        publisher="AWS",
        type=provided.type,
        source=None,
        configuration=dict(provided.configuration),
        dependencies={},
        manifests=(Manifest(name=None, platform={}, lifecycle={}, selections=None, artifacts=()),),
        lifecycle={},
        extra={},
    )


def is_provided(name: str) -> bool:
    """Whether Monodon stands in for this component."""
    return ComponentName(name) in PROVIDED


def why_missing(name: str) -> str | None:
    """Return why one of AWS's components cannot run here, in one clause; None for any other component."""
    return _OUT_OF_REACH.get(name)


def _version(provided: Provided, requirements: Collection[Requirement], running: Version | None) -> Version | None:
    if not requirements:
        return running or provided.version
    try:
        together = conjunction(requirements)
    except InvalidRequirement:
        return None
    for version in (running, provided.version):
        if version is not None and together.matches(version):
            return version
    named = [version for version in map(_named, _bounds(requirements)) if version is not None]
    fitting = [version for version in named if together.matches(version)]
    return max(fitting, key=lambda version: version.precedence, default=None)


def _bounds(requirements: Collection[Requirement]) -> list[str]:
    return [str(comparator.bound.completed) for requirement in requirements for comparator in requirement.comparators]


def _named(text: str) -> Version | None:
    try:
        return Version.parse(text, lax=True)
    except InvalidVersion:
        return None

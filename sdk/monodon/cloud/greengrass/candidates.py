"""Which version a device gets: ResolveComponentCandidates, with AWS's words where the device reads them."""

from collections.abc import Mapping
from typing import Any

from monodon.cloud.context import RequestContext
from monodon.cloud.greengrass.components import PUBLIC, Components
from monodon.cloud.greengrass.errors import invalid
from monodon.cloud.protocol import ServiceError
from monodon.core.json import Json
from monodon.core.names import ComponentName, component_version_arn
from monodon.core.provided import PROVIDED, why_missing
from monodon.core.provided import recipe as provided_recipe
from monodon.core.recipe.model import Recipe
from monodon.core.recipe.platform import select_manifest
from monodon.core.recipe.writing import write_json
from monodon.core.semver import Requirement, Version
from monodon.errors import InvalidRequirement, InvalidVersion

Request = dict[str, Any]
_NAMED = 10


class Candidates:
    """The operation that resolves; used by signed clients and, through the device API, by devices."""

    def __init__(self, components: Components, *, region: str) -> None:
        self._components = components
        self._region = region

    def resolve_component_candidates(self, request: Request, context: RequestContext) -> dict[str, Json]:
        platform = request.get("platform", {}).get("attributes", {})
        candidates = request.get("componentCandidates", [])
        return {"resolvedComponentVersions": [self._resolve(candidate, platform) for candidate in candidates]}

    def _resolve(self, candidate: Mapping[str, Json], platform: Mapping[str, str]) -> dict[str, Json]:
        if "componentName" not in candidate:
            raise invalid("componentCandidates", "a candidate needs its componentName")
        name = ComponentName(candidate["componentName"])
        requirements = _requirements(candidate.get("versionRequirements", {}))
        if name in PROVIDED:
            recipe = provided_recipe(name, list(requirements.values()), _local(candidate))
            if recipe is None:
                raise self._missing(name, requirements, [str(PROVIDED[name].version)])
            arn = str(component_version_arn(self._region, PUBLIC, name, recipe.version))
            return _resolved(arn, recipe)
        fitting = False
        for version, recipe in self._components.deployable(name):
            if not all(requirement.matches(version) for requirement in requirements.values()):
                continue
            fitting = True
            if select_manifest(recipe, platform) is not None:
                return _resolved(self._components.arn(name, version), recipe)
        if fitting:
            raise _not_found(
                name,
                f"The versions of component {name} that satisfy {_told(requirements)} do not claim platform "
                f"{', '.join(f'{key} {value}' for key, value in sorted(platform.items())) or 'any'} compatibility",
            )
        raise self._missing(name, requirements, [str(version) for version in self._components.versions(name)])

    @staticmethod
    def _missing(name: str, requirements: Mapping[str, Requirement], published: list[str]) -> ServiceError:
        shown = ", ".join(published[:_NAMED]) + (" …" if len(published) > _NAMED else "")
        there = f"published are {shown}" if published else "none is published"
        reason = why_missing(name)
        return _not_found(
            name,
            f"There is no usable version of component {name} for {_told(requirements)}: {there}"
            + (f"; {reason}" if reason else ""),
        )


def _requirements(texts: Mapping[str, str]) -> dict[str, Requirement]:
    requirements: dict[str, Requirement] = {}
    for source, text in texts.items():
        try:
            requirements[source] = Requirement.parse(text)
        except InvalidRequirement as error:
            raise invalid(f"versionRequirements.{source}", error.message) from error
    return requirements


def _local(candidate: Mapping[str, Json]) -> Version | None:
    """The version that the device has; one that is no version is as good as none."""
    text = candidate.get("componentVersion")
    try:
        return None if text is None else Version.parse(text, lax=True)
    except InvalidVersion:
        return None


def _resolved(arn: str, recipe: Recipe) -> dict[str, Json]:
    return {
        "arn": arn,
        "componentName": str(recipe.name),
        "componentVersion": str(recipe.version),
        "recipe": write_json(recipe).encode(),
    }


def _told(requirements: Mapping[str, Requirement]) -> str:
    return ", ".join(f"{source} needs {requirement}" for source, requirement in requirements.items()) or "any version"


def _not_found(name: str, message: str) -> ServiceError:
    return ServiceError("ResourceNotFoundException", message, resourceId=name, resourceType="COMPONENT")

"""A recipe without dependencies of one's own: their artifacts folded into it, for nucleus lite.

Nucleus lite knows no ``{dependency:…}`` variables. What a component reads of others it brings itself: their artifacts,
from where they are published, and their install steps in front of its own.
"""

from collections.abc import Mapping
from dataclasses import replace

from monodon.authoring.building import BUCKET_WORD
from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.recipe.keys import STEPS
from monodon.core.recipe.model import Artifact, Dependency, Manifest, Recipe
from monodon.core.recipe.platform import select_lifecycle, select_manifest
from monodon.core.semver import Requirement, best
from monodon.errors import RecipeError

#: What the name of such a component ends in: it is another component, with other content.
SUFFIX = ".SelfContained"
#: What a device with nucleus lite has; ``os`` and ``architecture`` come from the manifest.
_LITE = {"runtime": "aws_nucleus_lite"}
_FOLDABLE = frozenset({"install", "setenv"})


def self_contained(recipe: Recipe, known: Mapping[ComponentName, tuple[Recipe, ...]]) -> Recipe:
    """Return the recipe with every known dependency folded in, and in the words of nucleus lite.

    Raises:
        RecipeError: a dependency runs something of its own, is not for the platform, or has a file of the same name;
            or a variable asks for more of it than its artifacts.
    """
    folded = _newest(recipe, known, {})
    kept = {
        name: replace(wanted, requirement=Requirement.parse(wanted.requirement.rendered))
        for name, wanted in _all_dependencies(recipe, folded).items()
        if name not in folded
    }
    name = ComponentName.parse(f"{recipe.name}{SUFFIX}")
    manifests = tuple(_fold(recipe, manifest, folded) for manifest in recipe.manifests)
    return replace(recipe, name=name, dependencies=kept, manifests=manifests, lifecycle={})


def _newest(
    recipe: Recipe, known: Mapping[ComponentName, tuple[Recipe, ...]], found: dict[ComponentName, Recipe]
) -> dict[ComponentName, Recipe]:
    """Return the newest fitting version of each known dependency, those of dependencies first."""
    for name, wanted in recipe.dependencies.items():
        versions = {one.version: one for one in known.get(name, ())}
        newest = best(versions, wanted.requirement)
        if newest is not None and name not in found:
            _newest(versions[newest], known, found)
            found[name] = versions[newest]
    return found


def _all_dependencies(recipe: Recipe, folded: Mapping[ComponentName, Recipe]) -> Mapping[ComponentName, Dependency]:
    found: dict[ComponentName, Dependency] = {}
    for one in (*folded.values(), recipe):
        found.update(one.dependencies)
    return found


def _fold(recipe: Recipe, manifest: Manifest, folded: Mapping[ComponentName, Recipe]) -> Manifest:
    artifacts = [*manifest.artifacts]
    lifecycle = dict(select_lifecycle(recipe, manifest))
    installs: list[Json] = []
    platform: dict[str, str] = {}
    for name, other in folded.items():
        theirs = _manifest_for(other, manifest, recipe)
        platform.update(theirs.platform)
        artifacts += [_published(artifact, other) for artifact in theirs.artifacts]
        steps = {key: step for key, step in select_lifecycle(other, theirs).items() if step is not None}
        running = [key for key in steps if key.lower() not in _FOLDABLE]
        if running:
            raise RecipeError(f"{recipe.name} cannot contain {name}, which has the step {running[0]}")
        installs += [_without_names(step, folded) for key, step in steps.items() if key.lower() == "install"]
    _refuse_clashes(recipe, artifacts)
    lifecycle = _without_names(lifecycle, folded)
    if installs:
        own = next((key for key in lifecycle if key.lower() == "install"), "Install")
        steps_in_order = [*installs, *([lifecycle[own]] if own in lifecycle else [])]
        lifecycle = {own: _one_after_the_other(steps_in_order), **{k: v for k, v in lifecycle.items() if k != own}}
    return replace(
        manifest,
        platform={**platform, **manifest.platform, "runtime": "*"},
        lifecycle=_spelled(lifecycle),
        selections=None,
        artifacts=tuple(artifacts),
    )


def _manifest_for(other: Recipe, manifest: Manifest, recipe: Recipe) -> Manifest:
    """Return what the other component would bring to a device of this manifest; the first, if that leaves it open."""
    found = select_manifest(other, {**_LITE, **manifest.platform})
    if found is None:
        found = next((one for one in other.manifests if _is_narrower(one.platform, manifest.platform)), None)
    if found is None:
        raise RecipeError(f"{other.name} {other.version} does not run on {dict(manifest.platform)}, {recipe.name} does")
    return found


def _is_narrower(theirs: Mapping[str, str], ours: Mapping[str, str]) -> bool:
    return all(theirs.get(key) in (None, value) or value == "*" for key, value in ours.items())


def _published(artifact: Artifact, other: Recipe) -> Artifact:
    ours, theirs = f"{BUCKET_WORD}/COMPONENT_NAME/COMPONENT_VERSION/", f"{BUCKET_WORD}/{other.name}/{other.version}/"
    return replace(artifact, uri=artifact.uri.replace(ours, theirs))


def _refuse_clashes(recipe: Recipe, artifacts: list[Artifact]) -> None:
    seen: set[str] = set()
    for artifact in artifacts:
        if artifact.folder_name in seen:
            hint = "rename the file in one of the components"
            raise RecipeError(f"{recipe.name} cannot contain two artifacts named {artifact.folder_name}", hint=hint)
        seen.add(artifact.folder_name)


def _without_names(value: Json, folded: Mapping[ComponentName, Recipe]) -> Json:
    """Return a lifecycle with the artifacts of folded components as its own."""
    if isinstance(value, Mapping):
        return {key: _without_names(entry, folded) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_names(entry, folded) for entry in value]
    if not isinstance(value, str):
        return value
    for name in folded:
        value = value.replace(f"{{{name}:artifacts:", "{artifacts:")
        if f"{{{name}:" in value:
            raise RecipeError(f"{value!r} asks for more of {name} than its artifacts", hint="make it a setting")
    return value


def _one_after_the_other(steps: list[Json]) -> Json:
    """Return one install step of several; each in a shell of its own, since an ``exec`` would end the rest."""
    maps = [step if isinstance(step, Mapping) else {"Script": step} for step in steps]
    if len(maps) == 1:
        return maps[0]
    scripts = [str(_value(step, "Script")).strip() for step in maps]
    script = " &&\n".join(f"(\n{text}\n)" for text in scripts) + "\n"
    merged = {key: value for step in maps for key, value in step.items() if key.lower() not in ("script", "timeout")}
    timeout_s = sum(int(_value(step, "Timeout") or 120) for step in maps)
    return {"Script": script, "Timeout": timeout_s, **merged}


def _value(step: Mapping[str, Json], key: str) -> Json:
    return next((value for name, value in step.items() if name.lower() == key.lower()), None)


def _spelled(lifecycle: Mapping[str, Json]) -> dict[str, Json]:
    names = {name.lower(): name for name in (*STEPS, "Setenv")}
    return {names.get(key.lower(), key): value for key, value in lifecycle.items()}

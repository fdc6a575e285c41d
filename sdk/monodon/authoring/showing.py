"""What a device would run of a recipe: ``monodon recipe show``."""

from collections.abc import Mapping
from pathlib import Path

from monodon.authoring.checking import known_recipes
from monodon.authoring.project import find_components
from monodon.core.configuration import EMPTY
from monodon.core.interpolation import Scope, Variables, interpolate
from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.recipe.model import Recipe
from monodon.core.recipe.platform import select_lifecycle, select_manifest
from monodon.core.semver import best
from monodon.errors import RecipeError


def show_recipe(
    file: Path,
    *,
    platform: Mapping[str, str],
    changes: Mapping[str, Json],
    thing: str,
    root: str,
    version: str | None = None,
) -> tuple[dict[str, Json], tuple[str, ...]]:
    """Return the manifest's steps, artifacts and configuration as a device would have them, and unresolved variables.

    Dependencies are looked for beside the recipe.

    Raises:
        RecipeError: the recipe is wrong, or not for this platform.
        DeploymentError: a pointer that fails the deployment.
    """
    recipe = _choose(file, version)
    manifest = select_manifest(recipe, platform)
    if manifest is None:
        wanted = "; ".join(str(dict(one.platform)) for one in recipe.manifests) or "no manifest"
        said = ", ".join(f"{key}={value}" for key, value in platform.items())
        raise RecipeError(f"{recipe.name} {recipe.version} does not run on {said}", hint=f"its manifests: {wanted}")
    own = _scope(recipe, root, changes)
    dependencies = _dependencies(recipe, file, root)
    variables = Variables(own=own, dependencies=dependencies, root=root, thing=thing)
    found = interpolate(select_lifecycle(recipe, manifest), variables)
    shown: dict[str, Json] = {
        "Name": str(recipe.name),
        "Version": str(recipe.version),
        "Platform": dict(manifest.platform),
        "Configuration": own.configuration,
        "Lifecycle": found.value,
        "Artifacts": [artifact.uri for artifact in manifest.artifacts],
    }
    return shown, found.unresolved


def _choose(file: Path, version: str | None) -> Recipe:
    recipes = [recipe for source in find_components(file) for recipe in source.recipes()]
    chosen = [recipe for recipe in recipes if version is None or str(recipe.version) == version]
    if not chosen:
        there = ", ".join(str(recipe.version) for recipe in recipes) or "none"
        raise RecipeError(f"{file} has no version {version}", hint=f"versions: {there}")
    if len({recipe.name for recipe in chosen}) > 1:
        raise RecipeError(f"{file} has several components", hint="name one recipe's file")
    return max(chosen, key=lambda recipe: recipe.version)


def _dependencies(recipe: Recipe, file: Path, root: str) -> dict[str, Scope]:
    home = file if file.is_dir() else file.parent
    around = home.parent if file.is_dir() or file.name.startswith("recipe.") else home
    known = known_recipes(find_components(around)) if recipe.dependencies else {}
    scopes = {}
    for name, dependency in recipe.dependencies.items():
        versions = {one.version: one for one in known.get(ComponentName(name), ())}
        newest = best(versions, dependency.requirement)
        if newest is not None:
            scopes[str(name)] = _scope(versions[newest], root, {})
    return scopes


def _scope(recipe: Recipe, root: str, changes: Mapping[str, Json]) -> Scope:
    configuration = EMPTY.merge((), dict(recipe.configuration), at_ms=1).merge((), dict(changes), at_ms=2).value()
    packages = f"{root}/packages"
    return Scope(
        name=recipe.name,
        version=str(recipe.version),
        configuration=configuration,
        artifacts=f"{packages}/artifacts/{recipe.name}/{recipe.version}",
        unarchived=f"{packages}/artifacts-unarchived/{recipe.name}/{recipe.version}",
        work=f"{root}/work/{recipe.name}",
    )

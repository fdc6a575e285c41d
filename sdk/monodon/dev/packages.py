"""The components of a checkout, built and ready to be published."""

from pathlib import Path

from monodon.authoring.building import build
from monodon.authoring.project import Source, find_components
from monodon.authoring.tree import Builder
from monodon.core.names import ComponentName
from monodon.core.recipe.model import Recipe
from monodon.publish import ArtifactFile, Package

PYTHON_RUNTIME = ComponentName("monodon.PythonRuntime")


def build_packages(checkout: Path, cache: Path) -> tuple[Package, ...]:
    """Build every component version below ``checkout``/components.

    Args:
        cache: where artifacts are built, and kept from run to run.

    Raises:
        MonodonError: a recipe is wrong, or an artifact cannot be built.
    """
    sources = find_components(checkout / "components")
    return tuple(
        package_of(source, recipe, checkout=checkout, cache=cache) for source in sources for recipe in source.recipes()
    )


def package_of(source: Source, recipe: Recipe, *, checkout: Path, cache: Path) -> Package:
    """Build the artifacts of one component version; those in somebody else's bucket are theirs to publish.

    Raises:
        PublishError: nothing in the component's folder makes an artifact that its recipe names.
    """
    bundles = build(source, recipe, cache=cache, builder=_builder(checkout))
    files = (ArtifactFile(name=one.name, path=one.path, sha256=one.sha256) for one in bundles)
    return Package(recipe=recipe, files=tuple(files))


def _builder(checkout: Path) -> Builder:
    """Use the checkout's pip, and the wheels that scripts/setup has fetched, where they are."""
    pips = sorted((checkout / "scripts/locks").glob("pip-*.whl"))
    wheelhouse = checkout / ".venv/wheelhouse"
    return Builder(pip=pips[-1] if pips else None, wheelhouse=wheelhouse if wheelhouse.is_dir() else None)

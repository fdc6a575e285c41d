"""The components of a checkout, built and ready to be published."""

from collections.abc import Iterator
from pathlib import Path

from monodon.authoring.bundle import Bundle, bundle_folder
from monodon.authoring.project import Source, find_components
from monodon.authoring.tree import Builder, build_tree
from monodon.core.names import ComponentName
from monodon.core.recipe.model import Recipe
from monodon.errors import PublishError
from monodon.publish import ArtifactFile, Package

PYTHON_RUNTIME = ComponentName("monodon.PythonRuntime")
#: Only files of this scheme and place are built here; all other artifacts lie where their URI says.
BUILT = "s3://BUCKET_NAME/"


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
    """Build the artifacts of one component version.

    ``monodon.PythonRuntime`` is its lock, unpacked; a component with a folder named as the version is that folder; any
    other is its own folder, with Monodon's modules for the device beside its main.py.
    """
    bundles = (_build(source, recipe, name, checkout=checkout, cache=cache) for name in _built_names(recipe))
    files = (ArtifactFile(name=one.name, path=one.path, sha256=one.sha256) for one in bundles)
    return Package(recipe=recipe, files=tuple(files))


def _built_names(recipe: Recipe) -> Iterator[str]:
    for manifest in recipe.manifests:
        for artifact in manifest.artifacts:
            if artifact.uri.startswith(BUILT):
                yield artifact.file_name


def _build(source: Source, recipe: Recipe, name: str, *, checkout: Path, cache: Path) -> Bundle:
    folder = source.folder
    if recipe.name == PYTHON_RUNTIME:
        scripts = {script: folder / script for script in ("install.py", "run.py")}
        trees = cache / "trees"
        return build_tree(
            folder / "requirements.txt", scripts=scripts, cache=trees, name=name, builder=_builder(checkout)
        )
    destination = cache / "bundles" / recipe.name / str(recipe.version) / name
    version_folder = folder / str(recipe.version)
    if version_folder.is_dir():
        return bundle_folder(version_folder, destination)
    if not (folder / "main.py").is_file():
        raise PublishError(
            f"{recipe.name} {recipe.version}: nothing to build {name} from",
            hint=f"{folder} needs a main.py, or a folder {recipe.version}",
        )
    return bundle_folder(folder, destination, with_monodon=True)


def _builder(checkout: Path) -> Builder:
    """Use the checkout's pip, and the wheels that scripts/setup has fetched, where they are."""
    pips = sorted((checkout / "scripts/locks").glob("pip-*.whl"))
    wheelhouse = checkout / ".venv/wheelhouse"
    return Builder(pip=pips[-1] if pips else None, wheelhouse=wheelhouse if wheelhouse.is_dir() else None)

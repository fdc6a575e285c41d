"""A component's folder → the artifacts that its recipe names.

What goes into ``<file>.zip`` is told by what the folder holds:

- ``<version>/``: the files of that folder (a model, and whatever else has no code);
- ``main.py``: the folder, and Monodon's own modules beside it;
- ``requirements.txt``: a tree of its packages, and the folder's other Python files beside it.

Any other artifact, and a zip that none of these makes, is the file of its name in ``<version>/`` or in the folder.
"""

from pathlib import Path

from monodon.authoring.bundle import Bundle, bundle_file, bundle_folder
from monodon.authoring.project import Source
from monodon.authoring.tree import Builder, build_tree
from monodon.core.recipe.model import Artifact, Recipe
from monodon.errors import PublishError

#: In a recipe's URIs it stands for the bucket to publish to: such artifacts are ours to build.
BUCKET_WORD = "BUCKET_NAME"


def build(source: Source, recipe: Recipe, *, cache: Path, builder: Builder | None = None) -> tuple[Bundle, ...]:
    """Build the artifacts of one version of a component, those in somebody else's bucket excepted.

    Args:
        cache: where built files are kept; trees are built once.

    Raises:
        PublishError: an artifact that nothing in the folder can be made into.
    """
    ours = [one for manifest in recipe.manifests for one in manifest.artifacts if is_ours(one)]
    names = dict.fromkeys(artifact.file_name for artifact in ours)
    return tuple(_build_one(source.folder, recipe, name, cache, builder or Builder()) for name in names)


def is_ours(artifact: Artifact) -> bool:
    """Tell whether publishing builds and uploads this artifact; those of other components are published by them."""
    return artifact.uri.startswith(f"s3://{BUCKET_WORD}/COMPONENT_NAME/")


def _build_one(folder: Path, recipe: Recipe, name: str, cache: Path, builder: Builder) -> Bundle:
    destination = cache / "bundles" / recipe.name / str(recipe.version) / name
    version_folder, lock = folder / str(recipe.version), folder / "requirements.txt"
    if name.endswith(".zip"):
        if version_folder.is_dir():
            return bundle_folder(version_folder, destination)
        if (folder / "main.py").is_file():
            return bundle_folder(folder, destination, with_monodon=True)
        if lock.is_file():
            scripts = {path.name: path for path in sorted(folder.glob("*.py")) if path.name != "recipe.py"}
            return build_tree(lock, scripts=scripts, cache=cache / "trees", name=name, builder=builder)
    for file in (version_folder / name, folder / name):
        if file.is_file():
            return bundle_file(file)
    made_of = f", or {recipe.version}/, main.py or requirements.txt to make it of" if name.endswith(".zip") else ""
    raise PublishError(
        f"{recipe.name} {recipe.version}: nothing in {folder} makes {name}",
        hint=f"put the file {name} there{made_of}",
    )

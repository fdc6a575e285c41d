"""Component folders → recipes and artifacts in AWS's layout, as a local deployment takes them.

::

    <stage>/recipes/<component>.yaml        <stage>/artifacts/<component>/<version>/<file>
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from monodon.authoring.building import build, is_ours
from monodon.authoring.bundle import bundle_folder
from monodon.authoring.project import RECIPE_FILES, Source, find_components
from monodon.authoring.tree import Builder
from monodon.core import provided
from monodon.core.names import ComponentName
from monodon.core.recipe.model import Artifact, Manifest, Recipe
from monodon.core.recipe.writing import write_yaml
from monodon.errors import PublishError, RecipeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A component to run: where it is written down, and the highest version that stands there."""

    source: Source
    recipe: Recipe

    @property
    def name(self) -> ComponentName:
        """The component's name."""
        return self.recipe.name

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders (or the one recipe) whose files make it: a saved file there touches it, and nothing else."""
        folder, file = self.source.folder.resolve(), self.source.file.resolve()
        own = folder if file.name == "recipe.py" or file.name in RECIPE_FILES else file
        return (own, *(shelf.parent for shelf in self.shelves))

    @property
    def shelves(self) -> tuple[Path, ...]:
        """Where AWS's layout has its artifacts: ``artifacts/<component>/<version>`` beside the recipe, or beside it."""
        folder = self.source.folder.resolve()
        inner = Path("artifacts", self.name, str(self.recipe.version))
        return tuple(path for path in (folder / inner, folder.parent / inner) if path.is_dir())


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """What a project was made into: its version, its recipe as text, and the digest of each file."""

    version: str
    recipe: str
    files: Mapping[str, str] = field(default_factory=dict)

    def differences(self, before: "Staged | None") -> tuple[str, ...]:
        """Say in words what is not as before."""
        if before is None:
            return ("it is new",)
        if before.version != self.version:
            return (f"it is {self.version} now",)
        words = ["its recipe has changed"] if before.recipe != self.recipe else []
        other = sorted(name for name in self.files if before.files.get(name) != self.files[name])
        return (*words, *(f"{name} has other bytes: it is installed again" for name in other))


def discover(folders: Iterable[Path]) -> dict[ComponentName, Project]:
    """Return the components below ``folders``, and those that they depend on and that lie beside them.

    Raises:
        RecipeError: a recipe is wrong, or there is no component at all.
    """
    folders = tuple(folders)
    found: dict[ComponentName, Project] = {}
    for folder in folders:
        _add(found, folder)
    if not found:
        raise RecipeError(
            f"no component in {', '.join(map(str, folders))}",
            hint="a component's folder has a recipe.py or recipe.yaml",
        )
    pending = list(found.values())
    while pending:
        project = pending.pop()
        for name in project.recipe.dependencies:
            beside = project.source.folder.resolve().parent / name
            if name not in found and not provided.is_provided(name) and beside.is_dir():
                _add(found, beside)
                pending += [found[name]] if name in found else []
    return found


def stage(project: Project, folder: Path, *, platform: Mapping[str, str], cache: Path) -> Staged:
    """Write the project's recipe and the artifacts it has on ``platform`` into ``folder``.

    Raises:
        PublishError: nothing makes an artifact that its recipe names.
    """
    from monodon.core.recipe.platform import select_manifest

    recipe = _without_digests(project.recipe)
    manifest = select_manifest(recipe, platform)
    text = write_yaml(recipe)
    file = folder / "recipes" / f"{recipe.name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    files = {}
    for name, path in _artifacts(project, manifest, cache):
        destination = folder / "artifacts" / recipe.name / str(recipe.version) / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        _place(path, destination)
        with destination.open("rb") as content:
            files[name] = hashlib.file_digest(content, "sha256").hexdigest()
    return Staged(version=str(recipe.version), recipe=text, files=files)


def _add(found: dict[ComponentName, Project], folder: Path) -> None:
    for source in find_components(folder):
        recipe = max(source.recipes(), key=lambda one: one.version)
        known = found.get(recipe.name)
        if known is None or known.recipe.version < recipe.version:
            found[recipe.name] = Project(source=source, recipe=recipe)


def _without_digests(recipe: Recipe) -> Recipe:
    """A digest is of what was published once; what lies here is what shall run."""

    def bare(manifest: Manifest) -> Manifest:
        return replace(manifest, artifacts=tuple(replace(a, digest=None, algorithm=None) for a in manifest.artifacts))

    return replace(recipe, manifests=tuple(map(bare, recipe.manifests)))


def _artifacts(project: Project, manifest: Manifest | None, cache: Path) -> Iterator[tuple[str, Path]]:
    """The file of each artifact: from AWS's layout, from the component's folder, or built."""
    built: dict[str, Path] | None = None
    for artifact in () if manifest is None else manifest.artifacts:
        name = artifact.file_name
        if "://" not in artifact.uri or not artifact.uri.lower().startswith(("s3:", "greengrass:")):
            continue  # an image, say: the nucleus knows what to say of it
        lying = next((path for path in _places(project, name) if path.is_file()), None)
        if lying is not None:
            yield name, lying
            continue
        if built is None and is_ours(artifact) and _has_a_rule(project):
            builder = _builder(project.source.folder)
            built = {one.name: one.path for one in build(project.source, project.recipe, cache=cache, builder=builder)}
        yield name, (built or {}).get(name) or _bundled(project, artifact, cache)


def _has_a_rule(project: Project) -> bool:
    """Whether publishing knows how to build it: see `authoring.building`."""
    folder = project.source.folder
    return any((folder / name).exists() for name in (str(project.recipe.version), "main.py", "requirements.txt"))


def _places(project: Project, name: str) -> Iterator[Path]:
    for shelf in project.shelves:
        yield shelf / name
    yield project.source.folder / name


def _bundled(project: Project, artifact: Artifact, cache: Path) -> Path:
    """A zip of somebody else's recipe is the component's folder, as GDK makes it."""
    folder, name = project.source.folder, artifact.file_name
    if not name.endswith(".zip") or folder.name == "recipes":
        looked = ", ".join(map(str, _places(project, name)))
        raise PublishError(f"{project.name}: nothing makes {artifact.uri}", hint=f"looked for {looked}")
    destination = cache / "bundles" / project.name / str(project.recipe.version) / name
    return bundle_folder(folder, destination, with_monodon=(folder / "main.py").is_file()).path


def _builder(folder: Path) -> Builder:
    """Use the checkout's pip, and the wheels that its scripts/setup has fetched, where there are such."""
    for checkout in folder.resolve().parents:
        pips = sorted((checkout / "scripts/locks").glob("pip-*.whl"))
        if pips:
            wheelhouse = checkout / ".venv/wheelhouse"
            return Builder(pip=pips[-1], wheelhouse=wheelhouse if wheelhouse.is_dir() else None)
    return Builder()


def _place(source: Path, destination: Path) -> None:
    try:
        os.link(source, destination)
    except OSError:  # another file system
        shutil.copyfile(source, destination)

"""Recipes and artifacts on disk: checked before they are trusted, put in place whole or not at all.

Layout (below the nucleus's root), names and modes are AWS's: ``packages/recipes/<hash>@<version>.recipe.yaml`` with
``.metadata.json`` beside it, ``packages/artifacts/<name>/<version>/``, ``packages/artifacts-unarchived/…``,
``work/<name>/``. What is under way has a name that begins with a dot.

Source: Greengrass nucleus, ``componentmanager/ComponentStore.java``; device notes 1.8 and 4.
"""

import asyncio
import base64
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.recipe.model import Manifest, Recipe
from monodon.core.recipe.reading import parse_recipe
from monodon.core.recipe.writing import write_yaml
from monodon.core.semver import Version
from monodon.errors import DeploymentError, InvalidVersion, RecipeError
from monodon.nucleus import disk
from monodon.nucleus.artifacts import MAX_STORE_BYTES, PATIENT, Artifacts, Download, Retry

_log = logging.getLogger(__name__)

_RECIPE_SUFFIX = ".recipe.yaml"
_METADATA_SUFFIX = ".metadata.json"


class Store:
    """The recipes and artifacts of one device."""

    def __init__(
        self,
        root: Path,
        *,
        retry: Retry = PATIENT,
        max_bytes: int = MAX_STORE_BYTES,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
        at: Callable[[str], None] = lambda point: None,
    ) -> None:
        """Open the store below ``root``, making its folders.

        Args:
            max_bytes: how much all artifacts together may take (``componentStoreMaxSizeBytes``).
            free_bytes: how much the file system of a path can still take.
            at: called with a name at each point where being killed must do no harm (crash tests); in threads too.
        """
        self._root, self._at = root, at
        packages = root / "packages"
        self._artifacts = Artifacts(packages, retry=retry, max_bytes=max_bytes, free_bytes=free_bytes, at=at)
        self._recipes = packages / "recipes"
        self._recipes.mkdir(exist_ok=True)
        self._recipes.chmod(0o700)
        self._read: dict[Path, tuple[tuple[int, int], Recipe]] = {}

    # Recipes

    def versions(self, name: ComponentName) -> tuple[Version, ...]:
        """The versions of a component whose recipe is here, lowest first."""
        found = []
        for path in self._recipes.glob(f"{_hash(name)}@*{_RECIPE_SUFFIX}"):
            try:
                found.append(Version.parse(path.name.removesuffix(_RECIPE_SUFFIX).split("@", 1)[1], lax=True))
            except InvalidVersion:
                _log.warning("%s has no version in its name and is left alone", path)
        return tuple(sorted(found))

    def recipe(self, name: ComponentName, version: Version) -> Recipe | None:
        """The recipe of one version; None if it is not here.

        Raises:
            DeploymentError: it is here and cannot be read.
        """
        path = self._recipe_path(name, version)
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            known = self._read.get(path)
            if known is not None and known[0] == stamp:
                return known[1]
            recipe = parse_recipe(path.read_bytes(), file=str(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise disk.disk_error(error, f"could not read the recipe of {name} {version}", "IO_READ_ERROR") from error
        except RecipeError as error:
            raise DeploymentError(
                f"the stored recipe of {name} {version} is damaged: {error.message}", codes=("LOCAL_RECIPE_CORRUPTED",)
            ) from error
        self._read[path] = (stamp, recipe)
        return recipe

    def arn(self, name: ComponentName, version: Version) -> str | None:
        """The ARN of a component version that came from the cloud; None for a local one."""
        try:
            metadata: Json = json.loads(disk.read(self._metadata_path(name, version)) or b"{}")
        except ValueError:
            return None
        arn = metadata.get("arn") if isinstance(metadata, Mapping) else None
        return arn if isinstance(arn, str) else None

    def put_recipe(self, recipe: Recipe, arn: str | None = None) -> None:
        """Keep a recipe, replacing another of the same version; nothing is written when it is here as it is.

        Raises:
            DeploymentError: the disk refuses it.
        """
        path = self._recipe_path(recipe.name, recipe.version)
        metadata = self._metadata_path(recipe.name, recipe.version)
        try:
            if arn is None:
                metadata.unlink(missing_ok=True)
            elif self.arn(recipe.name, recipe.version) != arn:
                disk.write_whole(metadata, json.dumps({"arn": arn}).encode(), at=self._at)
            if not self._has(recipe):
                disk.write_whole(path, write_yaml(recipe).encode(), at=self._at)
        except OSError as error:
            doing = f"could not keep the recipe of {recipe.name} {recipe.version}"
            raise disk.disk_error(error, doing, "IO_WRITE_ERROR") from error

    def _has(self, recipe: Recipe) -> bool:
        try:
            return self.recipe(recipe.name, recipe.version) == recipe
        except DeploymentError as error:
            _log.warning("%s; it is written anew", error)
            return False

    # Where things are

    def artifacts_path(self, name: ComponentName, version: Version) -> Path:
        """The folder of a version's artifacts, ``{artifacts:path}``."""
        return self._artifacts.path(name, version)

    def unarchived_path(self, name: ComponentName, version: Version) -> Path:
        """The folder of a version's unpacked artifacts, ``{artifacts:decompressedPath}``."""
        return self._artifacts.unarchived_path(name, version)

    def work_path(self, name: ComponentName) -> Path:
        """The working folder of a component, ``{work:path}``; made by whoever starts it."""
        return self._root / "work" / name

    # Bringing and cleaning

    async def fetch(self, recipe: Recipe, manifest: Manifest, download: Download, *, arn: str | None = None) -> bool:
        """Bring a component's artifacts, check and unpack them; what is here and right is left alone.

        Returns:
            Whether any file was brought or unpacked.

        Raises:
            DeploymentError: an artifact cannot be had, is not what its digest says, is unsafe, or the disk is full.
        """
        return await self._artifacts.fetch(recipe, manifest, download, arn)

    def copy_local(self, recipes: Path | None, artifacts: Path | None) -> tuple[tuple[ComponentName, Version], ...]:
        """Copy the recipes and artifacts of a local deployment into the store, over what is there.

        Args:
            recipes: walked recursively; empty files and other extensions than .yaml, .yml, .json are skipped.
            artifacts: laid out as ``<name>/<version>/…``.

        Returns:
            The component versions whose artifacts differ from before, for a reinstall.

        Raises:
            DeploymentError: a recipe is wrong (all its problems are named), or a folder or file cannot be read.
        """
        if artifacts is not None and self._root.resolve().is_relative_to(artifacts.resolve()):
            raise DeploymentError(f"the artifacts folder {artifacts} holds the nucleus's own store")
        try:
            for recipe in () if recipes is None else tuple(_local_recipes(recipes)):
                self.put_recipe(recipe)
            return () if artifacts is None else tuple(self._artifacts.copy_local(artifacts))
        except OSError as error:
            doing = f"could not copy {error.filename or 'the local files'}"
            raise disk.disk_error(error, doing, "IO_WRITE_ERROR") from error

    async def clean(self, keep: Collection[tuple[ComponentName, Version]]) -> None:
        """Delete recipes, artifacts and unpacked files of all other versions, and what was left half done (F3).

        As on AWS's device, what has no artifacts is not looked at: its recipe stays, and can be deployed without being
        given again. Source: ``ComponentStore.listAvailableComponentVersions``.

        Raises:
            OSError: something could not be deleted.
        """
        await asyncio.to_thread(self._clean, {(str(name), str(version)) for name, version in keep})

    def _clean(self, keep: set[tuple[str, str]]) -> None:
        for left in self._recipes.glob(".*.part"):
            left.unlink(missing_ok=True)
        for name, version in self._artifacts.versions() - keep:
            for suffix in (_RECIPE_SUFFIX, _METADATA_SUFFIX):
                (self._recipes / f"{_hash(name)}@{version}{suffix}").unlink(missing_ok=True)
        self._read = {path: known for path, known in self._read.items() if path.exists()}
        self._artifacts.clean(keep)

    def _recipe_path(self, name: ComponentName, version: Version) -> Path:
        return self._recipes / f"{_hash(name)}@{version}{_RECIPE_SUFFIX}"

    def _metadata_path(self, name: ComponentName, version: Version) -> Path:
        return self._recipes / f"{_hash(name)}@{version}{_METADATA_SUFFIX}"


def stored_recipe(root: Path, name: ComponentName, version: Version) -> Recipe | None:
    """Return a recipe from the store below ``root``, touching nothing; None if it is not there.

    Raises:
        RecipeError: it is damaged.
    """
    path = root / "packages" / "recipes" / f"{_hash(name)}@{version}{_RECIPE_SUFFIX}"
    data = disk.read(path)
    return None if data is None else parse_recipe(data, file=str(path))


def _hash(name: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()).rstrip(b"=").decode()


def _local_recipes(folder: Path) -> Iterator[Recipe]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix.lower() not in (".yaml", ".yml", ".json") or path.stat().st_size == 0:
            _log.error("%s is no recipe file and is left out", path)
            continue
        try:
            yield parse_recipe(path.read_bytes(), file=str(path))
        except RecipeError as error:
            raise DeploymentError(error.message, codes=("RECIPE_PARSE_ERROR",), hint=error.hint) from error

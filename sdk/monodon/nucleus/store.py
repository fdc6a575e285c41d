"""Recipes and artifacts on disk: checked before they are trusted, put in place whole or not at all.

Layout (below the nucleus's root), names and modes are AWS's: ``packages/recipes/<hash>@<version>.recipe.yaml`` with
``.metadata.json`` beside it, ``packages/artifacts/<name>/<version>/``, ``packages/artifacts-unarchived/…``,
``work/<name>/``. What is under way has a name that begins with a dot.

Source: Greengrass nucleus, ``componentmanager/ComponentStore.java``; device notes 1.8 and 4.
"""

import asyncio
import base64
import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.recipe.model import Artifact, Manifest, Permission, Recipe, Unarchive
from monodon.core.recipe.reading import parse_recipe
from monodon.core.recipe.writing import write_yaml
from monodon.core.semver import Version
from monodon.errors import DeploymentError, InvalidVersion, MonodonError, NetworkError, RecipeError
from monodon.nucleus import archive

_log = logging.getLogger(__name__)

#: Source: rule A4 of the device notes.
MIN_FREE_BYTES = 20 * 1024 * 1024
MAX_STORE_BYTES = 10_000_000_000

_RECIPE_SUFFIX = ".recipe.yaml"
_CHUNK_BYTES = 1 << 20
_SIDE_BY_SIDE = 4

#: Append an artifact's bytes from an offset on: URI, component version ARN, destination, offset (`Uplink.download`).
Download: TypeAlias = Callable[[str, str | None, Path, int], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a download is tried again. A broken connection is waited for without end, less and less often.

    A wrong digest is asked for again only while its bytes differ from the time before: the same wrong bytes twice
    are no accident of the way. (AWS's device asks ten times, a minute apart.)
    """

    first_s: float = 1.0
    most_s: float = 60.0
    digests: int = 10


class Store:
    """The recipes and artifacts of one device. File work of any size runs in threads."""

    def __init__(
        self,
        root: Path,
        *,
        retry: Retry = Retry(),
        max_bytes: int = MAX_STORE_BYTES,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
        at: Callable[[str], None] = lambda point: None,
    ) -> None:
        """Open the store below ``root``, making its folders.

        Args:
            free_bytes: how much the file system of a path can still take.
            at: called with a name at each point where being killed must do no harm (crash tests).
        """
        self._root = root
        self._retry = retry
        self._max_bytes = max_bytes
        self._free_bytes = free_bytes
        self._at = at
        self._recipes = root / "packages" / "recipes"
        self._artifacts = root / "packages" / "artifacts"
        self._unarchived = root / "packages" / "artifacts-unarchived"
        self._read: dict[Path, tuple[tuple[int, int], Recipe]] = {}
        self._verified: dict[Path, tuple[int, int, int]] = {}
        for folder, mode in (
            (root / "packages", 0o755),
            (self._recipes, 0o700),
            (self._artifacts, 0o755),
            (self._unarchived, 0o755),
        ):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)

    # Recipes

    def versions(self, name: ComponentName) -> tuple[Version, ...]:
        """The versions of a component whose recipe is here, lowest first."""
        found = []
        for path in self._recipes.glob(f"{_hash(name)}@*{_RECIPE_SUFFIX}"):
            try:
                found.append(Version.parse(_version_text(path), lax=True))
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
            raise disk_error(error, f"could not read the recipe of {name} {version}", "IO_READ_ERROR") from error
        except RecipeError as error:
            raise DeploymentError(
                f"the stored recipe of {name} {version} is damaged: {error.message}", codes=("LOCAL_RECIPE_CORRUPTED",)
            ) from error
        self._read[path] = (stamp, recipe)
        return recipe

    def arn(self, name: ComponentName, version: Version) -> str | None:
        """The ARN of a component version that came from the cloud; None for a local one."""
        try:
            metadata: Json = json.loads(self._metadata_path(name, version).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        arn = metadata.get("arn") if isinstance(metadata, Mapping) else None
        return arn if isinstance(arn, str) else None

    def put_recipe(self, recipe: Recipe, arn: str | None = None) -> None:
        """Keep a recipe, replacing another of the same version; nothing is written when it is here as it is.

        Raises:
            DeploymentError: the disk refuses it.
        """
        path, metadata = (
            self._recipe_path(recipe.name, recipe.version),
            self._metadata_path(recipe.name, recipe.version),
        )
        try:
            if arn is None:
                metadata.unlink(missing_ok=True)
            elif self.arn(recipe.name, recipe.version) != arn:
                self._write(metadata, json.dumps({"arn": arn}).encode())
            text = write_yaml(recipe).encode()
            if _bytes(path) != text:
                self._write(path, text)
        except OSError as error:
            doing = f"could not keep the recipe of {recipe.name} {recipe.version}"
            raise disk_error(error, doing, "IO_WRITE_ERROR") from error

    # Where things are

    def artifacts_path(self, name: ComponentName, version: Version) -> Path:
        """The folder of a version's artifacts, ``{artifacts:path}``."""
        return self._artifacts / name / str(version)

    def unarchived_path(self, name: ComponentName, version: Version) -> Path:
        """The folder of a version's unpacked artifacts, ``{artifacts:decompressedPath}``."""
        return self._unarchived / name / str(version)

    def work_path(self, name: ComponentName) -> Path:
        """The working folder of a component, ``{work:path}``; made by whoever starts it."""
        return self._root / "work" / name

    # Artifacts

    async def fetch(self, recipe: Recipe, manifest: Manifest, download: Download, *, arn: str | None = None) -> bool:
        """Bring a component's artifacts, check and unpack them; what is here and right is left alone.

        Returns:
            Whether any file was brought or unpacked.

        Raises:
            DeploymentError: an artifact cannot be had, is not what its digest says, is unsafe, or the disk is full.
        """
        names = [artifact.file_name for artifact in manifest.artifacts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DeploymentError(f"{recipe.name} {recipe.version} has several artifacts named {', '.join(twice)}")
        limit = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def bring(artifact: Artifact) -> bool:
            async with limit:
                return await self._bring(recipe, artifact, download, arn)

        async with asyncio.TaskGroup() as tasks:
            brought = [
                tasks.create_task(bring(artifact), name=f"fetch {artifact.uri}") for artifact in manifest.artifacts
            ]
        return any(task.result() for task in brought)

    async def _bring(self, recipe: Recipe, artifact: Artifact, download: Download, arn: str | None) -> bool:
        path = self.artifacts_path(recipe.name, recipe.version) / artifact.file_name
        try:
            is_new = not await asyncio.to_thread(self._is_right, artifact, path)
            if is_new:
                _refuse_scheme(recipe, artifact)
                await asyncio.to_thread(self._make_room, path)
                await self._download(recipe, artifact, download, arn, path)
            await asyncio.to_thread(self._set_mode, path, _mode(artifact))
            if artifact.unarchive is Unarchive.ZIP:
                is_new |= await asyncio.to_thread(self._unpack, recipe, artifact, path)
        except OSError as error:
            doing = f"could not store artifact {artifact.file_name} of {recipe.name} {recipe.version}"
            raise disk_error(error, doing, "IO_WRITE_ERROR") from error
        return is_new

    def _is_right(self, artifact: Artifact, path: Path) -> bool:
        """Rule A2: a file that is here is taken as it is, unless the recipe has a digest that it does not match."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return False
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        if artifact.digest is None or artifact.algorithm is None or self._verified.get(path) == stamp:
            return True
        if _digest(path, artifact.algorithm) != artifact.digest:
            _log.warning("%s does not match its digest any more and is fetched again", path)
            path.unlink()
            return False
        self._verified[path] = stamp
        return True

    def _make_room(self, path: Path) -> None:
        folders = [path.parent.parent, path.parent]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(archive.FOLDER_MODE)
        self._refuse_full()

    def _refuse_full(self) -> None:
        free, used = self._free_bytes(self._artifacts), _bytes_below(self._artifacts, self._unarchived)
        if free < MIN_FREE_BYTES:
            raise DeploymentError(
                f"only {free} bytes are free on the device's disk; a download needs {MIN_FREE_BYTES}",
                codes=("DISK_SPACE_CRITICAL",),
            )
        if used > self._max_bytes:
            raise DeploymentError(
                f"the component store holds {used} bytes; {self._max_bytes} are allowed",
                codes=("DISK_SPACE_CRITICAL",),
                hint="raise componentStoreMaxSizeBytes of the nucleus, or deploy fewer components",
            )

    async def _download(
        self, recipe: Recipe, artifact: Artifact, download: Download, arn: str | None, path: Path
    ) -> None:
        """Bring one file, going on where an earlier try ended; the name is given to checked bytes alone."""
        if artifact.digest is not None and artifact.algorithm is None:
            raise DeploymentError(
                f"artifact {artifact.uri} of {recipe.name} {recipe.version} has a digest and no algorithm",
                codes=("RECIPE_MISSING_ARTIFACT_HASH_ALGORITHM",),
            )
        part = path.with_name(f".{hashlib.sha256((artifact.digest or '').encode()).hexdigest()[:8]}.{path.name}.part")
        if artifact.digest is None:
            part.unlink(missing_ok=True)
        wrong: str | None = None
        for attempt in range(self._retry.digests):
            await self._transfer(artifact, download, arn, part)
            self._at("store.downloaded")
            found = await asyncio.to_thread(_digest, part, artifact.algorithm or "SHA-256")
            if artifact.digest in (None, found):
                break
            part.unlink()
            if found == wrong or attempt + 1 == self._retry.digests:
                raise DeploymentError(
                    f"artifact {artifact.uri} of {recipe.name} {recipe.version} is not what was published: "
                    f"its {artifact.algorithm} is {found}, the recipe says {artifact.digest}",
                    codes=("ARTIFACT_CHECKSUM_MISMATCH",),
                    hint="the object was changed after the component version was created; publish a new version",
                )
            wrong = found
            await asyncio.sleep(self._retry.first_s)
        await asyncio.to_thread(self._settle, part, path)
        status = path.stat()
        self._verified[path] = (status.st_ino, status.st_size, status.st_mtime_ns)

    async def _transfer(self, artifact: Artifact, download: Download, arn: str | None, part: Path) -> None:
        pause_s = self._retry.first_s
        while True:
            offset = part.stat().st_size if part.exists() else 0
            try:
                await download(artifact.uri, arn, part, offset)
            except NetworkError as error:
                now = part.stat().st_size if part.exists() else 0
                pause_s = self._retry.first_s if now > offset else min(pause_s * 2, self._retry.most_s)
                _log.warning("%s: %s; trying again in %.0f s from byte %d", artifact.uri, error, pause_s, now)
                await asyncio.sleep(pause_s)
            else:
                return

    def _settle(self, part: Path, path: Path) -> None:
        part.touch()
        _sync(part)
        self._refuse_full()
        self._at("store.rename")
        part.replace(path)
        _sync(path.parent)

    def _set_mode(self, path: Path, mode: int) -> None:
        if path.stat().st_mode & 0o7777 != mode:
            path.chmod(mode)

    def _unpack(self, recipe: Recipe, artifact: Artifact, path: Path) -> bool:
        """Unpack beside the place and move the whole folder there, unless it came from this very file."""
        parent = self.unarchived_path(recipe.name, recipe.version)
        folder, marker = parent / artifact.folder_name, parent / f".{artifact.folder_name}.source"
        status = path.stat()
        source = json.dumps(
            {"bytes": status.st_size, "modified_ns": status.st_mtime_ns, "mode": _mode(artifact)}
        ).encode()
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        if folder.is_dir() and _bytes(marker) == source:
            if self._verified.get(folder) == stamp or archive.holds(path, folder):
                self._verified[folder] = stamp
                return False
            _log.warning("%s lacks files of %s and is unpacked again", folder, path.name)
        for made in (parent.parent, parent):
            made.mkdir(parents=True, exist_ok=True)
            made.chmod(archive.FOLDER_MODE)
        fresh, old = parent / f".{artifact.folder_name}.new", parent / f".{artifact.folder_name}.old"
        _remove(fresh)
        _remove(old)
        room = min(
            self._max_bytes - _bytes_below(self._artifacts, self._unarchived),
            self._free_bytes(parent) - MIN_FREE_BYTES,
        )
        try:
            archive.unpack(path, fresh, file_mode=_mode(artifact), max_bytes=max(room, 0))
        except (DeploymentError, OSError):
            _remove(fresh)
            raise
        self._at("store.unpacked")
        marker.unlink(missing_ok=True)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        self._write(marker, source)
        _remove(old)
        self._verified[folder] = stamp
        return True

    # Local components

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
        try:
            for recipe in [] if recipes is None else list(_local_recipes(recipes)):
                self.put_recipe(recipe)
            if artifacts is None:
                return ()
            if self._root.resolve().is_relative_to(artifacts.resolve()):
                raise DeploymentError(f"the artifacts folder {artifacts} holds the nucleus's own store")
            return tuple(self._copy_artifacts(artifacts))
        except OSError as error:
            raise disk_error(
                error, f"could not copy {error.filename or 'the local files'}", "IO_WRITE_ERROR"
            ) from error

    def _copy_artifacts(self, artifacts: Path) -> Iterator[tuple[ComponentName, Version]]:
        for folder in sorted(artifacts.glob("*/*/")):
            try:
                name, version = ComponentName.parse(folder.parent.name), Version.parse(folder.name, lax=True)
            except MonodonError as error:
                _log.warning("%s is no folder of artifacts and is left out: %s", folder, error)
                continue
            destination = self.artifacts_path(name, version)
            changed = [self._copy_file(file, destination / file.relative_to(folder)) for file in _files(folder)]
            if any(changed):
                yield name, version

    def _copy_file(self, source: Path, destination: Path) -> bool:
        if destination.is_file() and _digest(source, "SHA-256") == _digest(destination, "SHA-256"):
            return False
        destination.parent.mkdir(parents=True, exist_ok=True)
        part = destination.with_name(f".{destination.name}.part")
        shutil.copyfile(source, part)
        part.replace(destination)
        return True

    # Cleaning

    async def clean(self, keep: Collection[tuple[ComponentName, Version]]) -> None:
        """Delete recipes, artifacts and unpacked files of all other versions, and what was left half done (F3)."""
        await asyncio.to_thread(self._clean, {(str(name), str(version)) for name, version in keep})

    def _clean(self, keep: set[tuple[str, str]]) -> None:
        hashes = {(_hash(name), version) for name, version in keep}
        for path in self._recipes.iterdir():
            text = path.name.removesuffix(_RECIPE_SUFFIX).removesuffix(".metadata.json")
            if tuple(text.split("@", 1)) not in hashes:
                path.unlink(missing_ok=True)
                self._read.pop(path, None)
        for store in (self._artifacts, self._unarchived):
            for component in store.iterdir():
                for version in component.iterdir():
                    if (component.name, version.name) not in keep:
                        _remove(version)
                        continue
                    for left in version.glob(".*"):
                        if left.suffix in (".part", ".new", ".old"):
                            _remove(left)
                if not any(component.iterdir()):
                    component.rmdir()
        self._verified = {path: stamp for path, stamp in self._verified.items() if path.exists()}

    def _recipe_path(self, name: ComponentName, version: Version) -> Path:
        return self._recipes / f"{_hash(name)}@{version}{_RECIPE_SUFFIX}"

    def _metadata_path(self, name: ComponentName, version: Version) -> Path:
        return self._recipes / f"{_hash(name)}@{version}.metadata.json"

    def _write(self, path: Path, content: bytes) -> None:
        """Write a small file whole or not at all."""
        part = path.with_name(f".{path.name}.part")
        with part.open("wb") as sink:
            sink.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        self._at("store.write")
        part.replace(path)
        _sync(path.parent)


def disk_error(error: OSError, doing: str, code: str) -> DeploymentError:
    """Return a file error as the deployment error it means; a full disk is DISK_SPACE_CRITICAL."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return DeploymentError(
        f"{doing}: {error.strerror or error}",
        codes=("DISK_SPACE_CRITICAL",) if is_full else (code,),
        hint="free some space on the device" if is_full else None,
    )


def _refuse_scheme(recipe: Recipe, artifact: Artifact) -> None:
    scheme, colon, _ = artifact.uri.partition(":")
    where = f"artifact {artifact.uri!r} of {recipe.name} {recipe.version}"
    if not colon or not scheme:
        raise DeploymentError(f"{where} has no scheme", codes=("EMPTY_ARTIFACT_SCHEME",), hint="s3:// or greengrass:")
    if scheme.upper() == "DOCKER":
        raise DeploymentError(
            f"{where} is a container image; Monodon pulls none",
            codes=("MISSING_DOCKER_APPLICATION_MANAGER",),
            hint="run `docker` from your recipe's own steps",
        )
    if scheme.upper() not in ("S3", "GREENGRASS"):
        raise DeploymentError(
            f"{where} is neither in the store nor of a scheme that can be fetched",
            codes=("UNSUPPORTED_ARTIFACT_SCHEME",),
            hint="use s3:// or greengrass:, or copy it to artifacts/<name>/<version>/ for a local deployment",
        )


def _mode(artifact: Artifact) -> int:
    """Rule A6. A nucleus that is not root keeps what it needs itself: its files stay its own to read and write."""
    bits = {Permission.NONE: 0, Permission.OWNER: 0o100, Permission.ALL: 0o111}
    execute = bits[artifact.execute]
    read = bits[artifact.read] | execute
    return (read << 2) | execute | (0 if os.geteuid() == 0 else 0o600)


def _hash(name: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()).rstrip(b"=").decode()


def _version_text(path: Path) -> str:
    return path.name.removesuffix(_RECIPE_SUFFIX).split("@", 1)[1]


def _digest(path: Path, algorithm: str) -> str:
    """The base64 digest of a file."""
    try:
        hashed = hashlib.new(algorithm.replace("-", "").lower())
    except ValueError:
        raise DeploymentError(
            f"{path.name} has a digest by {algorithm!r}, which this device does not know",
            codes=("RECIPE_MISSING_ARTIFACT_HASH_ALGORITHM",),
        ) from None
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            hashed.update(chunk)
    return base64.b64encode(hashed.digest()).decode()


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _bytes_below(*folders: Path) -> int:
    total, waiting = 0, list(map(str, folders))
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _local_recipes(folder: Path) -> Iterator[Recipe]:
    for path in _files(folder):
        if path.suffix.lower() not in (".yaml", ".yml", ".json") or path.stat().st_size == 0:
            _log.error("%s is no recipe file and is left out", path)
            continue
        try:
            yield parse_recipe(path.read_bytes(), file=str(path))
        except RecipeError as error:
            raise DeploymentError(error.message, codes=("RECIPE_PARSE_ERROR",), hint=error.hint) from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

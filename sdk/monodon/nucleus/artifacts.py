"""A component's artifacts on disk: fetched, checked against their digests, unpacked, given their modes.

``packages/artifacts/<name>/<version>/`` holds the files, ``packages/artifacts-unarchived/<name>/<version>/<archive>/``
what was in them. A name without a leading dot is whole and checked.

Source: device notes 1.8, rules A1 to A7.
"""

import asyncio
import hashlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeAlias, TypeVar

from monodon.core.names import ComponentName
from monodon.core.recipe.model import Artifact, Manifest, Permission, Recipe, Unarchive
from monodon.core.semver import Version
from monodon.errors import DeploymentError, MonodonError, NetworkError
from monodon.nucleus import archive, disk
from monodon.nucleus.side_by_side import side_by_side

_log = logging.getLogger(__name__)

#: Source: rule A4 of the device notes.
MIN_FREE_BYTES = 20 * 1024 * 1024
MAX_STORE_BYTES = 10_000_000_000

_SIDE_BY_SIDE = 4

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

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


#: What a device does by itself.
PATIENT = Retry()


class Artifacts:
    """The artifacts of all component versions on one device. File work of any size runs in threads."""

    def __init__(
        self,
        packages: Path,
        *,
        retry: Retry = PATIENT,
        max_bytes: int = MAX_STORE_BYTES,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
        at: Callable[[str], None] = lambda point: None,
    ) -> None:
        """Open the folders below ``packages``, making them; see `Store` for the arguments."""
        self._retry, self._max_bytes, self._free_bytes, self._at = retry, max_bytes, free_bytes, at
        self._files = packages / "artifacts"
        self._unarchived = packages / "artifacts-unarchived"
        self._limit = asyncio.Semaphore(_SIDE_BY_SIDE)
        self._unpacking: dict[Path, threading.Lock] = {}
        #: What was found right, by inode, size and time, so that it is not read again each time.
        self._verified: dict[Path, tuple[int, int, int]] = {}
        for folder in (self._files, self._unarchived):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(archive.FOLDER_MODE)

    def path(self, name: ComponentName, version: Version) -> Path:
        """The folder of a version's files."""
        return self._files / name / str(version)

    def unarchived_path(self, name: ComponentName, version: Version) -> Path:
        """The folder of a version's unpacked files."""
        return self._unarchived / name / str(version)

    async def fetch(self, recipe: Recipe, manifest: Manifest, download: Download, arn: str | None) -> bool:
        """Bring the artifacts of a manifest side by side; return whether anything was brought or unpacked.

        Raises:
            DeploymentError: an artifact cannot be had, is not what its digest says, is unsafe, or the disk is full.
        """
        names = [artifact.file_name for artifact in manifest.artifacts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DeploymentError(f"{recipe.name} {recipe.version} has several artifacts named {', '.join(twice)}")

        async def bring(artifact: Artifact) -> bool:
            async with self._limit:
                return await self._bring(recipe, artifact, download, arn)

        return any((await side_by_side({one.uri: bring(one) for one in manifest.artifacts})).values())

    async def _bring(self, recipe: Recipe, artifact: Artifact, download: Download, arn: str | None) -> bool:
        name = artifact.file_name
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            _refuse_scheme(recipe, artifact)
            raise DeploymentError(
                f"artifact {artifact.uri!r} of {recipe.name} {recipe.version} names no file",
                codes=("UNSUPPORTED_ARTIFACT_SCHEME",),
            )
        path = self.path(recipe.name, recipe.version) / name
        try:
            is_new = not await _to_the_end(self._is_right, artifact, path)
            if is_new:
                _refuse_scheme(recipe, artifact)
                await _to_the_end(self._make_room, path)
                await self._download(recipe, artifact, download, arn, path)
            await _to_the_end(_set_mode, path, _mode(artifact))
            if artifact.unarchive is Unarchive.ZIP:
                is_new |= await _to_the_end(self._unpack_alone, recipe, artifact, path)
        except OSError as error:
            doing = f"could not store artifact {name} of {recipe.name} {recipe.version}"
            raise disk.disk_error(error, doing, "IO_WRITE_ERROR") from error
        return is_new

    def _is_right(self, artifact: Artifact, path: Path) -> bool:
        """Rule A2: a file that is here is taken as it is, unless the recipe has a digest that it does not match."""
        stamp = _stamp(path)
        if stamp is None:
            return False
        if artifact.digest is None or artifact.algorithm is None or self._verified.get(path) == stamp:
            return True
        if disk.digest(path, artifact.algorithm) != artifact.digest:
            _log.warning("%s does not match its digest any more and is fetched again", path)
            path.unlink()
            return False
        self._verified[path] = stamp
        return True

    def _make_room(self, path: Path) -> None:
        _make_folders(path.parent)
        self._refuse_full()

    def _refuse_full(self) -> None:
        free, used = self._free_bytes(self._files), disk.bytes_below(self._files, self._unarchived)
        if free < MIN_FREE_BYTES:
            raise DeploymentError(
                f"only {free} bytes are free on the device's disk; a download needs {MIN_FREE_BYTES}",
                codes=("DISK_SPACE_CRITICAL",),
                hint="free some space on the device",
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
        where = f"artifact {artifact.uri} of {recipe.name} {recipe.version}"
        if artifact.digest is not None and artifact.algorithm is None:
            raise DeploymentError(
                f"{where} has a digest and no algorithm", codes=("RECIPE_MISSING_ARTIFACT_HASH_ALGORITHM",)
            )
        mark = hashlib.sha256((artifact.digest or "").encode()).hexdigest()[:8]
        part = path.with_name(f".{path.name}.{mark}.part")
        if artifact.digest is None:
            part.unlink(missing_ok=True)
        former: str | None = None
        for _ in range(self._retry.digests):
            await self._transfer(artifact, download, arn, part)
            self._at("artifact downloaded")
            found = artifact.digest and await _to_the_end(disk.digest, part, artifact.algorithm or "SHA-256")
            if found == artifact.digest:
                await _to_the_end(self._settle, part, path)
                return
            part.unlink()
            if found == former:
                break
            former = found
            await asyncio.sleep(self._retry.first_s)
        raise DeploymentError(
            f"{where} is not what was published: its {artifact.algorithm} is {former}, the recipe says "
            f"{artifact.digest}",
            codes=("ARTIFACT_CHECKSUM_MISMATCH",),
            hint="the object was changed after the component version was created; publish a new version",
        )

    async def _transfer(self, artifact: Artifact, download: Download, arn: str | None, part: Path) -> None:
        pause_s = self._retry.first_s
        while True:
            offset = disk.size(part)
            try:
                await download(artifact.uri, arn, part, offset)
            except NetworkError as error:
                now = disk.size(part)
                pause_s = self._retry.first_s if now > offset else min(pause_s * 2, self._retry.most_s)
                _log.warning("%s: %s; going on in %.0f s from byte %d", artifact.uri, error, pause_s, now)
                await asyncio.sleep(pause_s)
            else:
                return

    def _settle(self, part: Path, path: Path) -> None:
        """Give checked bytes their name."""
        part.touch()
        disk.sync(part)
        self._refuse_full()
        self._at("artifact rename")
        part.replace(path)
        disk.sync(path.parent)
        stamp = _stamp(path)
        assert stamp is not None
        self._verified[path] = stamp

    def _unpack_alone(self, recipe: Recipe, artifact: Artifact, path: Path) -> bool:
        """Unpack once no other thread does the same."""
        with self._unpacking.setdefault(path, threading.Lock()):
            return self._unpack(recipe, artifact, path)

    def _unpack(self, recipe: Recipe, artifact: Artifact, path: Path) -> bool:
        """Unpack beside the place and move the whole folder there, unless it came from this very file."""
        parent = self.unarchived_path(recipe.name, recipe.version)
        folder, marker = parent / artifact.folder_name, parent / f".{artifact.folder_name}.source"
        stamp, mode = _stamp(path), _mode(artifact)
        assert stamp is not None
        source = json.dumps({"bytes": stamp[1], "modified_ns": stamp[2], "mode": mode}).encode()
        if folder.is_dir() and disk.read(marker) == source:
            if self._verified.get(folder) == stamp or archive.holds(path, folder):
                self._verified[folder] = stamp
                return False
            _log.warning("%s lacks files of %s and is unpacked again", folder, path.name)
        _make_folders(parent)
        fresh, old = parent / f".{artifact.folder_name}.new", parent / f".{artifact.folder_name}.old"
        disk.remove(fresh)
        disk.remove(old)
        used = disk.bytes_below(self._files, self._unarchived)
        room = min(self._max_bytes - used, self._free_bytes(parent) - MIN_FREE_BYTES)
        try:
            archive.unpack(path, fresh, file_mode=mode, max_bytes=max(room, 0))
        except (DeploymentError, OSError):
            disk.remove(fresh)
            raise
        self._at("artifact unpacked")
        marker.unlink(missing_ok=True)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        disk.write_whole(marker, source, at=self._at)
        disk.remove(old)
        self._verified[folder] = stamp
        return True

    def copy_local(self, folder: Path) -> Iterator[tuple[ComponentName, Version]]:
        """Copy the files below ``<name>/<version>/`` of ``folder`` over what is here; yield versions that changed.

        Raises:
            OSError: a file cannot be read or written.
        """
        for source in sorted(folder.glob("*/*/")):
            try:
                name, version = ComponentName.parse(source.parent.name), Version.parse(source.name, lax=True)
            except MonodonError as error:
                _log.warning("%s is no folder of artifacts and is left out: %s", source, error)
                continue
            destination = self.path(name, version)
            files = [file for file in sorted(source.rglob("*")) if file.is_file()]
            copied = [_copy(file, destination / file.relative_to(source)) for file in files]
            if any(copied):
                yield name, version

    def versions(self) -> set[tuple[str, str]]:
        """Name and version of each component that has files here."""
        return {
            (component.name, version.name)
            for store in (self._files, self._unarchived)
            for component in store.iterdir()
            for version in component.iterdir()
        }

    def clean(self, keep: Collection[tuple[str, str]]) -> None:
        """Delete the files of all versions but those of ``keep``, and what was left half done."""
        for store in (self._files, self._unarchived):
            for component in store.iterdir():
                for version in component.iterdir():
                    if (component.name, version.name) not in keep:
                        disk.remove(version)
                        continue
                    for left in version.glob(".*"):
                        if left.suffix in (".part", ".new", ".old"):
                            disk.remove(left)
                if not any(component.iterdir()):
                    component.rmdir()
        self._verified = {path: stamp for path, stamp in self._verified.items() if path.exists()}


async def _to_the_end(
    function: Callable[_Arguments, _Result], *arguments: _Arguments.args, **options: _Arguments.kwargs
) -> _Result:
    """Run ``function`` in a thread; when cancelled, wait for its end all the same.

    What went on behind the back of a deployment that has ended would meet the files of the next one.
    """
    work = asyncio.get_running_loop().run_in_executor(None, partial(function, *arguments, **options))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # nobody else asks for it
        raise


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
    execute, read = bits[artifact.execute], bits[artifact.readable_by]
    return (read << 2) | execute | (0 if os.geteuid() == 0 else 0o600)


def _set_mode(path: Path, mode: int) -> None:
    if path.stat().st_mode & 0o7777 != mode:
        path.chmod(mode)


def _make_folders(version: Path) -> None:
    """The folders ``<name>/<version>`` of one of the stores."""
    for folder in (version.parent, version):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(archive.FOLDER_MODE)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _copy(source: Path, destination: Path) -> bool:
    if destination.is_file() and disk.digest(source, "SHA-256") == disk.digest(destination, "SHA-256"):
        return False
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(f".{destination.name}.part")
    shutil.copyfile(source, part)
    part.replace(destination)
    return True

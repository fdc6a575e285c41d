"""Files → a zip that is the same, byte for byte, wherever and whenever it is made, and its digest.

A device ignores a zip's mode bits and turns symbolic links into text files: neither goes in.
"""

import hashlib
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from monodon.errors import PublishError

#: The oldest time that a zip can hold.
_EPOCH = (1980, 1, 1, 0, 0, 0)
#: Monodon's own modules that a component needs on the device; all else of it stays here.
DEVICE_MODULES = ("__init__.py", "errors.py", "deadlines.py", "core", "component", "ml")
#: What lies in a component's folder for its author alone.
_FOR_THE_AUTHOR = frozenset({"recipe.py", "recipe.yaml", "recipe.yml", "recipe.json", "gdk-config.json", "README.md"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A built artifact: ``name`` is its file name on the device; ``left_out`` says what did not go in, and why."""

    name: str
    path: Path
    sha256: str
    size_bytes: int
    left_out: tuple[str, ...] = ()


def bundle_folder(folder: Path, destination: Path, *, with_monodon: bool = False) -> Bundle:
    """Zip a folder into ``destination``.

    Args:
        with_monodon: put Monodon's modules for the device beside the files, so that main.py can import them.

    Raises:
        PublishError: the folder is empty, or has a ``monodon`` of its own in the way.
    """
    left_out: list[str] = []
    entries = dict(_files(folder, left_out))
    if not entries:
        raise PublishError(f"{folder} has no files to bundle", hint=f"left out: {', '.join(left_out) or 'nothing'}")
    if with_monodon:
        in_the_way = [name for name in entries if name.partition("/")[0] == "monodon"]
        if in_the_way:
            raise PublishError(f"{folder}/{in_the_way[0]} is in the way of Monodon's own modules", hint="rename it")
        entries.update(device_modules())
    return write_zip(entries, destination, left_out=left_out)


def bundle_file(file: Path) -> Bundle:
    """Take a file as it is for an artifact of its name."""
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    return Bundle(name=file.name, path=file, sha256=sha256, size_bytes=file.stat().st_size)


def device_modules(package: Path | None = None) -> dict[str, Path]:
    """Return Monodon's modules for the device by their name in a zip."""
    home = package or Path(__file__).parents[1]
    found: dict[str, Path] = {}
    for name in DEVICE_MODULES:
        part = home / name
        files = [part] if part.is_file() else sorted(part.rglob("*.py"))
        found.update({f"monodon/{file.relative_to(home).as_posix()}": file for file in files})
    return found


def _files(folder: Path, left_out: list[str]) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        reason = _reason_to_leave_out(path)
        if reason:
            left_out.append(f"{path.name} ({reason})")
        elif path.is_dir():
            inner: list[str] = []
            for name, file in _files(path, inner):
                yield f"{path.name}/{name}", file
            left_out += [f"{path.name}/{entry}" for entry in inner]
        else:
            yield path.name, path


def _reason_to_leave_out(path: Path) -> str | None:
    if path.is_symlink():
        return "a symbolic link would be a text file on the device"
    if path.name.startswith("."):
        return "hidden"
    if path.name == "__pycache__" or path.suffix == ".pyc":
        return "bytecode"
    if path.name in _FOR_THE_AUTHOR:
        return "for the author"
    return None if path.is_file() or path.is_dir() else "not a plain file"


def write_zip(
    entries: Mapping[str, Path | bytes], destination: Path, *, level: int = 6, left_out: Iterable[str] = ()
) -> Bundle:
    """Write the entries, sorted by name, with fixed times and modes; memory stays bounded."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    unfinished = destination.with_name(destination.name + ".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name in sorted(entries):
            _add(archive, name, entries[name])
    unfinished.replace(destination)
    return bundle_of(destination, left_out=left_out)


def _add(archive: zipfile.ZipFile, name: str, source: Path | bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3
    info.external_attr = 0o100644 << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    if isinstance(source, bytes):
        archive.writestr(info, source)
        return
    info.file_size = source.stat().st_size
    with source.open("rb") as reader, archive.open(info, "w") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)


def bundle_of(path: Path, *, left_out: Iterable[str] = ()) -> Bundle:
    """Return what is to be known of an artifact that is built already."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Bundle(name=path.name, path=path, sha256=digest, size_bytes=path.stat().st_size, left_out=tuple(left_out))

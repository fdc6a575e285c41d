"""A requirements lock → a zip with every package unpacked and compiled, so that a device installs nothing.

The device's unzip is all there is to installing; a tag file says which Python and machine the tree is for. The zip
depends on the lock and those tags alone, so it is built once and kept by their digest.
"""

import hashlib
import json
import logging
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from monodon.authoring.bundle import Bundle, bundle_of, write_zip
from monodon.errors import PublishError

logger = logging.getLogger(__name__)

#: Raise it when the same lock shall give another zip.
FORMAT = 1
TAG_FILE = "tag.json"
TREE = "tree"
#: Fast: packing the demo's tree takes 4 s instead of 12 s at level 6, for a tenth more bytes.
_LEVEL = 1
#: Never used on a device, and a third of the size: tests, compilers, drivers of other machines' accelerators.
_DROPPED = (
    re.compile(r"bin/"),
    re.compile(r"numpy/(?:.+/)?tests/"),
    re.compile(r"numpy/f2py/"),
    re.compile(r"ai_edge_litert/(?:aot|tools|vendors)/"),
    re.compile(r"ai_edge_litert/libLiteRtWebGpuAccelerator\.so"),
    re.compile(r"(?:.+/)?__pycache__/.+\.opt-[12]\.pyc"),
    re.compile(r"[^/]+\.dist-info/(?:RECORD|INSTALLER|REQUESTED|direct_url\.json)"),
)
_GLIBC = re.compile(r"manylinux_(\d+)_(\d+)_|manylinux(1|2010|2014)_")
_LEGACY_GLIBC = {"1": (2, 5), "2010": (2, 12), "2014": (2, 17)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """How packages are fetched: the Python that the tree is for, pip's own wheel if that Python has no pip, and a
    folder of wheels to use instead of an index."""

    python: str = sys.executable
    pip: Path | None = None
    wheelhouse: Path | None = None

    @property
    def pip_command(self) -> Sequence[str]:
        """The beginning of a pip command line."""
        return (self.python, f"{self.pip}/pip") if self.pip else (self.python, "-m", "pip")


def build_tree(lock: Path, *, scripts: Mapping[str, Path], cache: Path, name: str, builder: Builder) -> Bundle:
    """Return the zip of a lock's packages, from the cache if it was built before.

    Args:
        lock: a requirements file with hashes.
        scripts: files that go beside the tree, by their name in the zip.
        cache: a folder to keep built trees in.
        name: the zip's file name.

    Raises:
        PublishError: pip cannot install the lock, or there is no pip.
    """
    tags = _tags(builder.python)
    folder = cache / _digest(lock, scripts, tags)
    built = folder / name
    if built.is_file():
        return bundle_of(built)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as temporary:
        work = Path(temporary)
        tree = work / TREE
        _install(lock, tree, builder)
        _compile(tree, builder.python)
        tag = {**tags, "glibc": ".".join(map(str, _needed_glibc(tree)))}
        entries: dict[str, Path | bytes] = {f"{TREE}/{path}": tree / path for path in _kept(tree)}
        entries.update(scripts)
        entries[TAG_FILE] = (json.dumps(tag, indent=2, sort_keys=True) + "\n").encode()
        write_zip(entries, work / "zip" / name, level=_LEVEL)
        folder.mkdir(exist_ok=True)
        (work / "zip" / name).replace(built)
    bundle = bundle_of(built)
    logger.info("built %s: %d files, %.0f MB", name, len(entries), bundle.size_bytes / 1e6)
    return bundle


def _digest(lock: Path, scripts: Mapping[str, Path], tags: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, dict(tags)], sort_keys=True).encode())
    for name, path in sorted({"requirements.txt": lock, **scripts}.items()):
        content = path.read_bytes()
        digest.update(f"\n{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tags:
    python: str
    implementation: str
    system: str
    machine: str


def _tags(python: str) -> Mapping[str, str]:
    if python == sys.executable:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        implementation = sys.implementation.name
    else:
        code = "import sys; print('%d.%d' % sys.version_info[:2], sys.implementation.name)"
        version, implementation = _run((python, "-I", "-c", code), "ask Python for its version").split()
    tags = _Tags(python=version, implementation=implementation, system=platform.system(), machine=platform.machine())
    return asdict(tags)


def _install(lock: Path, tree: Path, builder: Builder) -> None:
    source = ("--no-index", "--find-links", str(builder.wheelhouse)) if builder.wheelhouse else ()
    options = ("--disable-pip-version-check", "--no-input", "--no-compile", "--no-warn-conflicts", "--quiet")
    strict = ("--require-hashes", "--only-binary", ":all:", "--no-deps")
    command = (*builder.pip_command, "install", *options, *strict, *source, "--target", str(tree), "-r", str(lock))
    _run(command, f"install {lock}")


def _compile(tree: Path, python: str) -> None:
    """Compile for good: time stamps would be stale after unzipping, and a read-only tree compiles at each start.

    Files written for another Python do not compile, and are not imported either: their failure is no error.
    """
    options = ("-q", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "-s", str(tree))
    command = (python, "-I", "-m", "compileall", *options, str(tree))
    subprocess.run(command, capture_output=True, check=False, text=True)


def _run(command: Sequence[str], purpose: str) -> str:
    finished = subprocess.run(command, capture_output=True, check=False, text=True)
    if finished.returncode == 0:
        return finished.stdout
    lines = [line for line in finished.stderr.splitlines() if line.strip()] or ["no output"]
    reason = next((line for line in lines if line.startswith("ERROR")), lines[-1])
    hint = "give pip's wheel, or a Python that has pip" if "No module named pip" in reason else None
    raise PublishError(f"cannot {purpose}: {reason.removeprefix('ERROR: ')}", hint=hint)


def _kept(tree: Path) -> Iterator[str]:
    for path in sorted(tree.rglob("*")):
        name = path.relative_to(tree).as_posix()
        if path.is_file() and not path.is_symlink() and not any(pattern.match(name) for pattern in _DROPPED):
            yield name


def _needed_glibc(tree: Path) -> tuple[int, int]:
    """Return the oldest glibc that every package runs on: of each wheel its most modest tag, of those the highest."""
    needed = (0, 0)
    for wheel in tree.glob("*.dist-info/WHEEL"):
        found = [_glibc_of(match) for match in _GLIBC.finditer(wheel.read_text(encoding="utf-8"))]
        needed = max(needed, min(found, default=(0, 0)))
    return needed


def _glibc_of(match: re.Match[str]) -> tuple[int, int]:
    return _LEGACY_GLIBC[match[3]] if match[3] else (int(match[1]), int(match[2]))


def clean(cache: Path, *, keep: Sequence[Path]) -> None:
    """Remove built trees that are not among ``keep``."""
    kept = {path.parent.resolve() for path in keep}
    for folder in cache.iterdir():
        if folder.is_dir() and folder.resolve() not in kept:
            shutil.rmtree(folder)

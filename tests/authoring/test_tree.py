"""A lock becomes a tree that a device only has to unzip."""

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from monodon.authoring.bundle import Bundle
from monodon.authoring.tree import Builder, build_tree, clean
from monodon.errors import PublishError

CHECKOUT = Path(__file__).parents[2]
PIP = next((CHECKOUT / "scripts" / "locks").glob("pip-*.whl"))
RUNTIME = CHECKOUT / "components" / "monodon.PythonRuntime"


def make_wheel(folder: Path, name: str, files: Mapping[str, str], tag: str = "py3-none-any") -> str:
    """Write a wheel by hand; return its line for a lock."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    members = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\n"
        + "".join(f"Tag: {part}\n" for part in tag.split(".")),
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
        f"{info}/RECORD": "",
    }
    wheel = folder / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, text in members.items():
            archive.writestr(member, text)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return make_lock(tmp_path)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tree for tests that only read it."""
    folder = tmp_path_factory.mktemp("built")
    return build(make_lock(folder), folder / "cache")


def make_lock(folder: Path) -> Path:
    house = folder / "house"
    lines = [
        make_wheel(
            house, "greet", {"greet/__init__.py": "def main():\n    return 'hello'\n", "greet/data.txt": "data"}
        ),
        make_wheel(
            house, "numpy", {"numpy/__init__.py": "", "numpy/core/tests/test_a.py": "", "numpy/bad.py": "def ("}
        ),
    ]
    file = folder / "requirements.txt"
    file.write_text("".join(lines))
    return file


def build(lock: Path, cache: Path) -> Bundle:
    scripts = {name: RUNTIME / name for name in ("install.py", "run.py")}
    builder = Builder(pip=PIP, wheelhouse=lock.parent / "house")
    return build_tree(lock, scripts=scripts, cache=cache, name="runtime.zip", builder=builder)


def test_a_tree_runs_where_it_is_unzipped(built: Bundle, tmp_path: Path) -> None:
    device = tmp_path / "device"
    with zipfile.ZipFile(built.path) as archive:
        names = archive.namelist()
        archive.extractall(device)
    assert names == sorted(names)
    cached = f"tree/greet/__pycache__/__init__.cpython-{sys.version_info.major}{sys.version_info.minor}.pyc"
    assert {"install.py", "run.py", "tag.json", "tree/greet/__init__.py", "tree/greet/data.txt", cached} <= set(names)
    assert not any("/tests/" in name or "/bin/" in name or name.endswith("RECORD") for name in names)
    assert (device / cached).read_bytes()[4:8] == b"\x01\x00\x00\x00"  # hash-based, never checked

    main = tmp_path / "main" / "main.py"
    main.parent.mkdir()
    (main.parent / "beside.py").write_text("NAME = 'beside'")
    main.write_text(
        "import greet, beside, sys\n"
        "print(greet.main(), beside.NAME, sys.argv[1:], __name__, greet.main.__code__.co_filename)"
    )
    command = [sys.executable, "-I", "-u", str(device / "run.py"), str(main), "--flag"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": "/nonsense"})
    assert finished.stderr == ""
    assert finished.stdout == f"hello beside ['--flag'] __main__ {device}/tree/greet/__init__.py\n"
    assert not (device / "__pycache__").exists()


@pytest.mark.slow
def test_the_same_lock_is_built_once_and_to_the_same_bytes(lock: Path, tmp_path: Path) -> None:
    first = build(lock, tmp_path / "cache")
    modified = first.path.stat().st_mtime_ns
    assert build(lock, tmp_path / "cache") == first
    assert first.path.stat().st_mtime_ns == modified
    assert build(lock, tmp_path / "another").sha256 == first.sha256
    lock.write_text("# changed\n" + lock.read_text())
    changed = build(lock, tmp_path / "cache")
    assert changed.path != first.path
    clean(tmp_path / "cache", keep=[changed.path])
    assert not first.path.exists()
    assert changed.path.exists()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("python", "2.7", "python 2.7, and this is 3."),
        ("machine", "vax", "machine vax, and this is "),
        ("glibc", "99.9", "glibc 99.9, and this"),
    ],
)
def test_a_device_of_another_kind_refuses_in_one_line(
    built: Bundle, tmp_path: Path, key: str, value: str, reason: str
) -> None:
    device = tmp_path / "device"
    with zipfile.ZipFile(built.path) as archive:
        archive.extractall(device)
    install = [sys.executable, "-I", str(device / "install.py")]
    assert subprocess.run(install, check=False).returncode == 0
    tag = json.loads((device / "tag.json").read_text())
    assert tag["glibc"] == "0.0"
    (device / "tag.json").write_text(json.dumps({**tag, key: value}))
    for command in (install, [sys.executable, "-I", "-u", str(device / "run.py"), str(device / "install.py")]):
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (finished.returncode, finished.stdout) == (1, "")
        assert finished.stderr.count("\n") == 1
        assert reason in finished.stderr


def test_the_launcher_names_a_missing_program(lock: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-I", str(RUNTIME / "run.py")]
    for arguments, reason in (([], "usage"), (["/nowhere/main.py"], "/nowhere/main.py is missing")):
        finished = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert finished.returncode == 1
        assert reason in finished.stderr


def test_the_oldest_glibc_is_read_from_the_wheels(tmp_path: Path) -> None:
    tags = ("py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64", "py3-none-manylinux2010_x86_64")
    from monodon.authoring.tree import _needed_glibc

    for index, tag in enumerate(tags):
        info = tmp_path / f"p{index}.dist-info"
        info.mkdir()
        (info / "WHEEL").write_text("".join(f"Tag: {part}\n" for part in tag.split(".")))
    assert _needed_glibc(tmp_path) == (2, 17)


@pytest.mark.parametrize("text", ["greet==1.0\n", "greet==1.0 --hash=sha256:" + "0" * 64 + "\n", "missing==1.0\n"])
def test_a_lock_that_pip_refuses_is_one_clear_error(lock: Path, tmp_path: Path, text: str) -> None:
    lock.write_text(text)
    with pytest.raises(PublishError) as error:
        build(lock, tmp_path / "cache")
    assert str(lock) in error.value.message
    assert "\n" not in error.value.message
    assert list((tmp_path / "cache").iterdir()) == []

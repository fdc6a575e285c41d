"""A bundle is the same bytes wherever and whenever it is made, and says what it leaves out."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from monodon.authoring.bundle import bundle_folder, device_modules, write_zip
from monodon.errors import PublishError


def make_folder(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_bytes_do_not_depend_on_times_modes_or_order(tmp_path: Path) -> None:
    files = {"b.py": "b", "a/c.txt": "c", "a.py": "a"}
    one = make_folder(tmp_path / "one", files)
    other = make_folder(tmp_path / "other", dict(reversed(files.items())))
    os.utime(one / "a.py", (0, 10**9))
    (other / "b.py").chmod(0o755)
    bundles = [bundle_folder(folder, tmp_path / f"{folder.name}.zip") for folder in (one, other)]
    assert bundles[0].sha256 == bundles[1].sha256
    assert bundles[0].path.read_bytes() == bundles[1].path.read_bytes()
    with zipfile.ZipFile(bundles[0].path) as archive:
        assert archive.namelist() == ["a.py", "a/c.txt", "b.py"]
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_what_is_left_out_is_listed(tmp_path: Path) -> None:
    folder = make_folder(
        tmp_path / "component",
        {"main.py": "", "recipe.py": "", "README.md": "", ".secret": "", "data/__pycache__/x.pyc": "", "data/x.txt": "",
         "test_main.py": ""},
    )  # fmt: skip
    (folder / "link").symlink_to(folder / "main.py")
    bundle = bundle_folder(folder, tmp_path / "main.zip")
    with zipfile.ZipFile(bundle.path) as archive:
        assert archive.namelist() == ["data/x.txt", "main.py", "test_main.py"]
    assert bundle.left_out == (
        ".secret (hidden)",
        "README.md (for the author)",
        "data/__pycache__ (bytecode)",
        "link (a symbolic link would be a text file on the device)",
        "recipe.py (for the author)",
    )


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "component", {".hidden": ""})
    with pytest.raises(PublishError) as error:
        bundle_folder(folder, tmp_path / "main.zip")
    assert error.value.hint == "left out: .hidden (hidden)"
    assert not (tmp_path / "main.zip").exists()


def test_a_package_named_monodon_is_in_the_way(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "component", {"main.py": "", "monodon/__init__.py": ""})
    with pytest.raises(PublishError):
        bundle_folder(folder, tmp_path / "main.zip", with_monodon=True)


def test_the_device_gets_the_modules_that_a_component_imports(tmp_path: Path) -> None:
    """Only what needs no shell of ours: neither the nucleus nor the cloud travels."""
    folder = make_folder(tmp_path / "component", {"main.py": "import monodon.core.topics, monodon.errors\nprint('up')"})
    bundle = bundle_folder(folder, tmp_path / "main.zip", with_monodon=True)
    with zipfile.ZipFile(bundle.path) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "device")
    assert {"main.py", "monodon/__init__.py", "monodon/errors.py", "monodon/core/json.py"} <= names
    assert {name.split("/")[1] for name in names if name.startswith("monodon/")} == {
        "__init__.py", "errors.py", "deadlines.py", "core", "component", "ml",
    }  # fmt: skip
    code = "import runpy, sys; sys.path.insert(0, sys.argv[1]); runpy.run_path(sys.argv[1] + '/main.py')"
    command = [sys.executable, "-I", "-S", "-c", code, str(tmp_path / "device")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (finished.stdout, finished.stderr) == ("up\n", "")
    assert not any("__pycache__" in name for name in device_modules())


def test_a_zip_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_zip({"a": b"a", "b": tmp_path / "missing"}, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()
    bundle = write_zip({"a": b"a"}, tmp_path / "out.zip")
    assert (bundle.name, bundle.size_bytes) == ("out.zip", (tmp_path / "out.zip").stat().st_size)

"""The reference components under the owners and modes that AWS's nucleus gives to what it unpacks.

There, files are the run-as user's or, of a component without a step, root's; an artifact is readable by its owner alone
unless its recipe says ``Read: ALL``; processes start through sudo with an environment of their own; zip mode bits and
links count for nothing. Source: nucleus.md A5, A6, E2, E7.
"""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from monodon.authoring.bundle import bundle_folder
from monodon.authoring.project import find_components
from monodon.core.recipe.model import Permission, Recipe
from monodon.publish import Package

CHECKOUT = Path(__file__).parents[2]
COMPONENTS = CHECKOUT / "components"
CLASSIFIER, RUNTIME = "monodon.CameraClassifier", "monodon.PythonRuntime"
MODEL = "monodon.Model.EfficientNetLite0"
NOBODY = 65534


def newest(name: str) -> Recipe:
    (source,) = find_components(COMPONENTS / name)
    return max(source.recipes(), key=lambda recipe: recipe.version)


def has_step(recipe: Recipe) -> bool:
    return any(manifest.lifecycle for manifest in recipe.manifests) or bool(recipe.lifecycle)


def file_mode(recipe: Recipe) -> int:
    """Return the mode of the files of a component: no write, read as its recipe says (A6)."""
    (artifact,) = recipe.manifests[0].artifacts
    return {Permission.NONE: 0, Permission.OWNER: 0o400, Permission.ALL: 0o444}[artifact.readable_by]


def unpack(archive: Path, folder: Path, mode: int, owner: int | None) -> None:
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else mode)
        if owner is not None:
            os.chown(path, owner, owner)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="mn"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def python_for(user: int) -> str | None:
    """Return a Python of our minor that another user may start; None where there is none."""
    if os.getuid() != 0:
        return None
    for candidate in (os.path.realpath(getattr(sys, "_base_executable", sys.executable)), "/usr/bin/python3"):
        try:
            asked = subprocess.run(
                [candidate, "-I", "-c", "import sys; print(sys.version_info[:2])"],
                user=user,
                group=user,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                text=True,
            )
        except OSError:
            continue
        if asked.stdout.strip() == str(sys.version_info[:2]):
            return candidate
    return None


@pytest.mark.journey
@pytest.mark.xdist_group("journeys")
def test_the_classifier_works_as_a_second_user(open_folder: Path, packages: tuple[Package, ...]) -> None:
    newest_first = sorted(packages, key=lambda package: package.recipe.version, reverse=True)
    archives = {
        name: next(package.files[0].path for package in newest_first if package.recipe.name == name)
        for name in (RUNTIME, MODEL, CLASSIFIER)
    }
    python = python_for(NOBODY)
    folders = {}
    for name, archive in archives.items():
        recipe = newest(name)
        folders[name] = open_folder / "packages/artifacts-unarchived" / name / str(recipe.version) / archive.stem
        owner = (NOBODY if has_step(recipe) else 0) if os.getuid() == 0 else None
        unpack(archive, folders[name], file_mode(recipe), owner)
    work = open_folder / "work"
    work.mkdir(mode=0o700)
    if python is None:  # nobody to be: what another user could read is told by the modes
        others = [path for path in folders[MODEL].rglob("*") if path.is_file()]
        assert others
        assert all(path.stat().st_mode & stat.S_IROTH for path in others)
        python, identity = os.path.realpath(getattr(sys, "_base_executable", sys.executable)), {}
    else:
        os.chown(work, NOBODY, NOBODY)
        identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    photos = open_folder / "photos"
    shutil.copytree(CHECKOUT / "tests/data/photos", photos)
    options = ["--set", f"source={photos}", "--set", 'labels=["narwhal"]', "--set", "status_interval_s=0.1"]
    started = subprocess.Popen(
        [python, "-I", "-u", folders[RUNTIME] / "run.py", folders[CLASSIFIER] / "main.py", *options],
        cwd=work,
        env={"PATH": "/usr/bin:/bin", "MODEL": str(folders[MODEL])},  # sudo leaves no PYTHONPATH and no LD_*
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **identity,
    )
    try:
        assert started.stdout is not None
        assert started.stderr is not None
        said = []
        for line in started.stdout:
            said.append(line)
            if '"state": "done"' in line:
                break
        else:
            pytest.fail(f"it ended: {started.stderr.read()}")
    finally:
        started.terminate()
        started.communicate(timeout=30)
    assert any(line.startswith("monodon/kept") and "narwhal" in line for line in said)
    assert len(list((work / "kept/2.0.0").glob("*.jpg"))) == 1


@pytest.mark.parametrize("name", [RUNTIME, MODEL, CLASSIFIER])
def test_what_another_component_reads_is_readable_by_all(name: str) -> None:
    """An artifact of a component without a step stays root's, mode 0400, unless it says Read: ALL."""
    (artifact,) = newest(name).manifests[0].artifacts
    assert (artifact.readable_by is Permission.ALL) == (name in (RUNTIME, MODEL))


def test_the_runtime_zip_needs_no_link_and_no_executable_bit(tmp_path: Path) -> None:
    bundle = bundle_folder(COMPONENTS / CLASSIFIER, tmp_path / "classifier.zip", with_monodon=True)
    with zipfile.ZipFile(bundle.path) as archive:
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o100644}
        names = set(archive.namelist())
    assert {"main.py", "monodon/__init__.py", "monodon/ml/frames.py", "monodon/component/client.py"} <= names
    assert not [name for name in names if name.startswith(("monodon/cloud", "monodon/nucleus", "monodon/cli"))]
    assert "recipe.py" not in names

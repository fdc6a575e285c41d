"""The documentation is true: its code runs, its commands work, its links lead somewhere."""

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from monodon.authoring.project import find_components
from monodon.authoring.recipes import load_module
from monodon.component import LoopbackNucleus
from monodon.dev.packages import package_of
from monodon.ml.frames import read_picture
from monodon.publish import Package

CHECKOUT = Path(__file__).parents[1]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md")), *CHECKOUT.glob("components/*/README.md")]


def blocks(page: Path, language: str) -> list[str]:
    """Return a page's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def load(code: str, file: Path) -> ModuleType:
    file.parent.mkdir(exist_ok=True)
    file.write_text(code)
    return load_module(file)


async def run_test(code: str, names: dict[str, Any], loopback: LoopbackNucleus) -> None:
    """Run the one test of a documentation's block."""
    space = {**names, "asyncio": asyncio}
    exec(compile(code, "documentation", "exec"), space)
    (test,) = (value for name, value in space.items() if name.startswith("test_"))
    await test(loopback)


async def test_the_component_of_the_readme_passes_its_test(loopback: LoopbackNucleus, tmp_path: Path) -> None:
    code, test = blocks(CHECKOUT / "README.md", "python")
    await run_test(test, vars(load(code, tmp_path / "main.py")), loopback)


async def test_the_component_of_the_guide_is_one(loopback: LoopbackNucleus, tmp_path: Path) -> None:
    code, recipe, test = blocks(CHECKOUT / "docs/components.md", "python")
    folder = tmp_path / "com.example.Hello"
    await run_test(test, vars(load(code, folder / "main.py")), loopback)
    (folder / "recipe.py").write_text(recipe)
    (source,) = find_components(tmp_path)
    (read,) = source.recipes()
    assert read.configuration["whom"] == "world"
    (file,) = package_of(source, read, checkout=CHECKOUT, cache=tmp_path / "cache").files
    assert file.name == "hello.zip"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_decision_is_listed() -> None:
    listed = (CHECKOUT / "docs/adr/README.md").read_text()
    for page in (CHECKOUT / "docs/adr").glob("0*.md"):
        assert f"]({page.name})" in listed


@pytest.mark.journey
@pytest.mark.xdist_group("journeys")
def test_the_commands_of_the_readme_work(tmp_path: Path, packages: tuple[Package, ...], build_cache: Path) -> None:
    """In a folder that looks like a fresh checkout, one after the other, in one shell."""
    # The environment is shared with this checkout: were it out of date, the commands would install that folder into it.
    assert is_up_to_date(), "run scripts/setup dev first"
    for path in CHECKOUT.iterdir():
        if path.name not in (".git", ".monodon"):
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / ".monodon").mkdir()
    (tmp_path / ".monodon/cache").symlink_to(build_cache)
    commands = "".join(block for block in blocks(CHECKOUT / "README.md", "sh") if "scripts/test" not in block)
    assert "scripts/demo\n" in commands
    done = subprocess.run(
        ["bash", "-eux", "-c", commands],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "recall" in done.stdout
    assert "drone-1  HEALTHY" in done.stdout
    check_story(json.loads((tmp_path / "demo.json").read_text()))


def is_up_to_date() -> bool:
    """Tell whether ``scripts/setup dev`` has nothing to do: its stamp is the digest of what it installs from."""
    names = ("scripts/locks/dev.txt", "pyproject.toml", "components/monodon.PythonRuntime/requirements.txt")
    stamp = CHECKOUT / ".venv/.monodon-dev"
    digest = hashlib.sha256(b"".join((CHECKOUT / name).read_bytes() for name in names)).hexdigest()
    return stamp.exists() and stamp.read_text().strip() == digest


def check_story(result: dict[str, Any]) -> None:
    """The demo's JSON tells what really lies in its folders."""
    assert list(result["runs"]) == ["1.0.0", "2.0.0"]
    first, second = result["runs"].values()
    assert (first["frames_seen"], first["frames_kept"]) == (599, 123)
    assert (first["precision"], first["recall"]) == (1.0, 0.82)
    assert (second["frames_seen"], second["frames_kept"]) == (599, 150)
    assert (second["precision"], second["recall"]) == (1.0, 1.0)
    for run in (first, second):
        assert run["heard_by_cloud"] == run["frames_kept"]
        assert 0 < run["latency_ms"]["p50"] <= run["latency_ms"]["p95"]
        pictures = sorted(Path(run["kept_dir"]).glob("*.jpg"))
        assert len(pictures) == run["frames_kept"]
        assert sum(path.stat().st_size for path in pictures) == run["bytes_kept"]
        assert run["bytes_seen"] == 599 * 1280 * 720 * 3
    assert [one["status"] for one in result["deployments"]] == ["SUCCEEDED", "SUCCEEDED"]
    assert all(one["target"].endswith(":thinggroup/drones") for one in result["deployments"])
    sheet = read_picture(Path(result["contact_sheet"]))
    assert sheet is not None
    assert sheet.shape[0] > 4 * 135

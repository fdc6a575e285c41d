"""The commands of the fleet's guides, in an empty folder, one after the other, as a reader would type them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import monodon

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("fleets")]
SDK = Path(monodon.__file__).parents[1]
DOCS = Path(__file__).parents[2] / "docs"
CLOUD = "monodon cloud run"
#: The guides' address; the test's cloud has a port of its own.
ENDPOINT = "http://127.0.0.1:8443"
PATIENCE_S = 120


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def typed(page: str) -> list[str]:
    """What follows the prompt in a page's terminals, lines that go on put together."""
    text = "\n".join(blocks(page, "console")).replace("\\\n", " ")
    return re.findall(r"^\$ (.*)$", text, re.MULTILINE)


def shell(commands: str, folder: Path) -> str:
    """Run commands as typed into one terminal, which ends what it started when it is closed."""
    done = subprocess.run(
        ["bash", "-eu", "-c", f"trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n{commands}"],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment(folder: Path) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MONODON_"))}
    path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**plain, "PATH": path, "PYTHONPATH": str(SDK)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder and a ``monodon`` on the path."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin/monodon"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m monodon "$@"\n')
    script.chmod(0o755)
    return tmp_path


def test_from_an_empty_folder_to_a_fleet(folder: Path) -> None:
    (component, *_) = blocks("laptop.md", "sh")
    cloud, *commands = blocks("fleet.md", "sh")
    assert cloud.strip() == CLOUD
    export, plan, _ = blocks("fleet-plan.md", "")[0].splitlines()
    shell(component, folder)
    with subprocess.Popen(
        ["monodon", "cloud", "run", "--port", "0", "--mqtt-port", "0"],
        cwd=folder,
        env=environment(folder),
        executable=folder / "bin/monodon",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("monodon cloud ready: ")
            endpoint = json.loads((folder / ".monodon/cloud/ready.json").read_text())["endpoint"]
            simulate = f"{typed('simulator.md')[1].replace('--devices 200', '--devices 10')} --for 1s"
            said = shell("\n".join([*commands, export, plan, simulate]).replace(ENDPOINT, endpoint), folder)
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
    for told in (
        "made thing drone-1",
        "com.example.Hello 1.0.0  deployable",
        "drone-1 SUCCEEDED",
        "com.example.Hello 1.0.0  RUNNING",
        "0 of 1 device differs",
        "device drone-1: nothing is wrong",
        "hello sea",
        ": nothing to do",
        "connected 9 of 10",
    ):
        assert told in said, said


def test_a_rollout_is_rehearsed_without_a_cloud(folder: Path) -> None:
    (file,) = blocks("simulator.md", "yaml")
    (folder / "fleet.yaml").write_text(file)
    cloud, _, rehearse = typed("simulator.md")
    assert cloud == f"{CLOUD} &"
    assert " SUCCEEDED 960 · FAILED 30 · TIMED_OUT 10 · done" in shell(rehearse, folder)

"""The founding story, as a new user runs it: one command, the real thing, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from monodon.dev.lab import running
from monodon.publish import Package

CHECKOUT = Path(__file__).parents[2]
pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("journeys")]


def demo(state: Path, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "monodon", "demo", "--state", str(state), *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=240,
        check=check,
    )


def processes_under(folder: Path) -> list[str]:
    """Return the command lines of living processes that name a folder, or work in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                place = str((entry / "cwd").readlink())
            except OSError:
                continue
            if str(folder) in command or place.startswith(str(folder)):
                found.append(command)
    return found


@pytest.fixture
def state(tmp_path: Path, packages: tuple[Package, ...], build_cache: Path) -> Path:
    """A state folder whose cache holds what was built before."""
    assert packages
    (tmp_path / "state").mkdir()
    (tmp_path / "state/cache").symlink_to(build_cache)
    return tmp_path / "state"


def test_a_wish_of_ones_own_and_a_demo_that_stays_up(state: Path) -> None:
    """The story itself is told by the README's test; here the clip and the label are the user's."""
    kept = demo(state, "--clip", "tests/data/clips/dive_720p.mp4", "--keep", "narwhal", "--keep-running", "--json")
    try:
        result = json.loads(kept.stdout)
        assert result["runs"]["1.0.0"] is None
        assert "model 1.0.0 does not know 'narwhal': skipped" in kept.stderr
        assert result["runs"]["2.0.0"]["frames_kept"] == 150
        assert {server.name for server in running(state)} == {"drone-1", "cloud"}
        refused = demo(state, check=False)
        assert refused.returncode == 1
        assert "of an earlier run still uses" in refused.stderr
        assert "--stop" in refused.stderr
    finally:
        stopped = demo(state, "--stop")
    assert stopped.stdout.count("stopped ") == 2
    assert processes_under(state) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--clip", "/no/clip.mp4"), "error: no such clip: /no/clip.mp4"),
        (("--keep", "narval"), "error: the model has no label 'narval'"),
    ],
)
def test_a_wrong_wish_is_one_clear_line(state: Path, arguments: tuple[str, ...], message: str) -> None:
    done = demo(state, *arguments, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_not_ours_is_not_touched(tmp_path: Path) -> None:
    precious = tmp_path / "state/cloud/precious.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    done = demo(tmp_path / "state", check=False)
    assert done.returncode == 1
    assert "was not made by the demo, so it is not touched" in done.stderr
    assert precious.read_text() == "mine"


def test_an_undecodable_clip_fails_the_deployment_and_says_why(state: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    done = demo(state, "--clip", str(tmp_path / "text.mp4"), check=False)
    assert done.returncode == 1
    assert "FAILED" in done.stderr
    assert "can be decoded" in done.stderr
    assert processes_under(state) == []


def test_a_demo_that_is_interrupted_leaves_no_process(state: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "monodon", "demo", "--state", str(state)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if "core device" in line:
                process.send_signal(signal.SIGINT)
                break
        process.stdout.read()
    assert process.wait(60) == 130
    assert processes_under(state) == []

"""The founding story, as a new user runs it: one command, the real thing, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from monodon.dev.lab import running
from monodon.ml.frames import read_picture

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


def test_the_whole_loop(tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = demo(state, "--json")
    result = json.loads(done.stdout)
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
    assert processes_under(state) == []

    again = demo(state, "--clip", "tests/data/clips/dive_720p.mp4", "--keep", "narwhal", "--keep-running", "--json")
    try:
        result = json.loads(again.stdout)
        assert result["runs"]["1.0.0"] is None
        assert "model 1.0.0 does not know 'narwhal': skipped" in again.stderr
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
def test_a_wrong_wish_is_one_clear_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = demo(tmp_path / "state", *arguments, check=False)
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


def test_an_undecodable_clip_fails_the_deployment_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    done = demo(tmp_path / "state", "--clip", str(tmp_path / "text.mp4"), check=False)
    assert done.returncode == 1
    assert "FAILED" in done.stderr
    assert "can be decoded" in done.stderr
    assert processes_under(tmp_path / "state") == []


def test_a_demo_that_is_interrupted_leaves_no_process(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "monodon", "demo", "--state", str(tmp_path / "state")],
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
    assert processes_under(tmp_path / "state") == []

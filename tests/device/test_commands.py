"""``monodon topic`` and ``monodon ipc`` as somebody types them."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.device.conftest import nucleus

pytestmark = pytest.mark.slow

MONODON = [sys.executable, "-m", "monodon"]


def run(root: Path | None, *arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "MONODON_ROOT"}
    if root is not None:
        environment["MONODON_ROOT"] = str(root)
    return subprocess.run(
        [*MONODON, *arguments], env=environment, cwd=cwd, text=True, capture_output=True, timeout=60, check=False
    )


@contextmanager
def watching(root: Path, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """A command that has subscribed."""
    with subprocess.Popen(
        [*MONODON, *arguments, "--root", str(root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("watching ")
        try:
            yield process
        finally:
            process.kill()


def output(process: "subprocess.Popen[str]", count: int) -> Sequence[str]:
    assert process.stdout is not None
    return [process.stdout.readline().rstrip("\n") for _ in range(count)]


def test_a_restarted_nucleus_is_watched_on(root: Path) -> None:
    """Its tokens are new ones; that messages may be missing is said before the first of them."""
    other = root.parent / "restarted"
    with nucleus(other) as first, watching(other, "topic", "watch", "a/#") as process:
        assert run(other, "topic", "pub", "a/b", "1").returncode == 0
        first.kill()
        first.wait()
        with nucleus(other):
            assert process.stderr is not None
            assert process.stderr.readline().startswith("the connection to the nucleus is lost")
            for _ in range(40):
                assert run(other, "topic", "pub", "a/b", "2").returncode == 0
                if select.select([process.stderr], [], [], 0)[0]:
                    break
            assert process.stderr.readline() == "messages may be missing here\n"
            assert output(process, 2) == ["a/b 1", "a/b 2"]


def test_what_is_published_is_watched(root: Path) -> None:
    with watching(root, "topic", "watch", "a/#", "b") as process:
        for topic, message in (("a/1", '{"n": 1}'), ("b", "plain"), ("c", "unseen"), ("a/2", "[1]")):
            assert run(root, "topic", "pub", topic, message).returncode == 0
        assert output(process, 3) == ['a/1 {"n": 1}', "b plain", "a/2 [1]"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143


def test_what_is_no_text_is_watched_too(root: Path) -> None:
    """Bytes as they were typed, and JSON with half a surrogate pair."""
    with watching(root, "topic", "watch", "odd") as process:
        assert run(root, "topic", "pub", "odd", "\udcff").returncode == 0
        half = '{"topic": "odd", "publishMessage": {"jsonMessage": {"message": {"x": "\\ud800"}}}}'
        assert run(root, "ipc", "call", "PublishToTopic", half).returncode == 0
        assert output(process, 2) == ["odd <1 bytes>", r'odd {"x": "\ud800"}']


def test_iot_topics_are_others(root: Path) -> None:
    with watching(root, "topic", "watch", "fleet/+", "--iot", "--count", "1", "--json") as process:
        assert run(root, "topic", "pub", "fleet/a", "local").returncode == 0
        assert run(root, "topic", "pub", "fleet/a", '{"n": 1}', "--iot").returncode == 0
        (line,) = output(process, 1)
        assert process.wait(20) == 0
    assert json.loads(line)["iot"] is True


def test_a_recording_is_replayed(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "day.jsonl"
    with watching(root, "topic", "record", str(file), "--count", "3") as process:
        for number in range(3):
            run(root, "topic", "pub", f"r/{number}", json.dumps({"n": number}))
        assert process.wait(20) == 0
    with watching(root, "topic", "watch", "r/+", "--count", "3") as process:
        done = run(root, "topic", "replay", str(file), "--speed", "0")
        assert (done.returncode, done.stderr) == (0, "3 messages\n")
        assert output(process, 3) == [f'r/{number} {{"n": {number}}}' for number in range(3)]


def test_any_operation_is_called(root: Path) -> None:
    done = run(root, "ipc", "call", "ListComponents")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"components": []})
    done = run(root, "ipc", "call", "SubscribeToConfigurationUpdate", '{"componentName": "no.Such"}')
    assert done.returncode == 1
    assert "ResourceNotFoundError" in done.stderr
    assert "Traceback" not in done.stderr
    done = run(root, "ipc", "call", "ListComponents", "[]")
    assert done.returncode == 2
    assert "not a JSON object" in done.stderr


def test_the_only_device_here_is_found(root: Path, tmp_path: Path) -> None:
    devices = tmp_path / ".monodon/devices"
    devices.mkdir(parents=True)
    assert "error: which device?" in run(None, "ipc", "call", "ListComponents", cwd=tmp_path).stderr
    (devices / "drone-1").symlink_to(root)
    assert run(None, "ipc", "call", "ListComponents", cwd=tmp_path).returncode == 0


def test_without_a_nucleus_it_is_one_clear_error(tmp_path: Path) -> None:
    done = run(tmp_path, "topic", "watch", "#")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: no nucleus runs in {tmp_path}\nhint: start it")


def test_what_cannot_be_recorded_is_one_clear_error(root: Path, tmp_path: Path) -> None:
    """A full disk, too; and a recording there is stays as it was when there is no nucleus."""
    done = run(root, "topic", "record", str(tmp_path / "none" / "day.jsonl"))
    assert (done.returncode, done.stderr) == (
        1,
        f"error: {tmp_path}/none/day.jsonl cannot be written: No such file or directory\n",
    )
    with watching(root, "topic", "record", "/dev/full", "full") as process:
        assert run(root, "topic", "pub", "full", "x").returncode == 0
        assert process.wait(20) == 1
        assert process.stderr is not None
        assert process.stderr.read() == "error: /dev/full cannot be written: No space left on device\n"
    before = tmp_path / "day.jsonl"
    before.write_text("precious\n")
    assert run(tmp_path, "topic", "record", str(before)).returncode == 1
    assert before.read_text() == "precious\n"

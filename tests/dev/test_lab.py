"""Labs share a machine: each keeps to its own folder, and leaves nothing running."""

import json
from pathlib import Path

import pytest

from monodon.dev.lab import MARK, Lab, running
from monodon.errors import StateError


def test_a_lab_renews_what_labs_have_made_and_keeps_the_cache(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        (lab.cache / "built").write_text("kept")
        (tmp_path / "devices/old").mkdir()
    with Lab(tmp_path):
        assert not (tmp_path / "devices/old").exists()
        assert (tmp_path / "cache/built").read_text() == "kept"


def test_a_folder_that_no_lab_has_made_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "devices/mine").mkdir(parents=True)
    with pytest.raises(StateError, match="devices was not made by the demo"), Lab(tmp_path):
        pass
    assert (tmp_path / "devices/mine").exists()
    (tmp_path / "devices/mine").rmdir()
    with Lab(tmp_path):  # an empty folder is nobody's
        pass


def test_two_labs_do_not_share_a_folder(tmp_path: Path) -> None:
    with Lab(tmp_path), pytest.raises(StateError, match="another demo is running"), Lab(tmp_path):
        pass
    with Lab(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"made": 3}'])
def test_a_damaged_mark_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / MARK).write_text(text)
    with pytest.raises(StateError, match="monodon-lab is damaged"), Lab(tmp_path):
        pass


def test_a_state_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot make the state folder"), Lab(tmp_path / "file/state"):
        pass


def test_a_ready_file_of_a_dead_process_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "cloud").mkdir()
    for content in ("", "{}", json.dumps({"pid": 2**22 + 1})):
        (tmp_path / "cloud/ready.json").write_text(content)
        assert list(running(tmp_path)) == []


@pytest.mark.slow
def test_a_cloud_that_cannot_start_says_why(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        first = lab.start_cloud()
        port = int(first.ready["endpoint"].rpartition(":")[2])
        with pytest.raises(StateError, match="cloud ended with 1: ") as caught:
            lab.start_cloud(port=port)
        assert "log" in str(caught.value.hint)

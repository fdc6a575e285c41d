"""The journal: atomic, durable, and honest about damage; with real files and writers that are really killed."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.errors import StateError
from monodon.nucleus.journal import Journal

WRITER = """
import os, signal, sys
from pathlib import Path
from monodon.nucleus.journal import Journal
folder, die_at, countdown = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def probe(point):
    global countdown
    if point == die_at:
        countdown -= 1
        if countdown == 0:
            os.kill(os.getpid(), signal.SIGKILL)

with Journal.open(folder, probe=probe) as journal:
    number = (journal.get("a") or 0) + 1
    while number < 4000:
        journal.write({"a": number, f"b{number % 3}": number, "blob": "x" * 5000, f"gone{number - 1}": None,
                       f"gone{number}": 1, "last": number})
        print(number, flush=True)
        number += 1
"""


def write_until_killed(folder: Path, die_at: str, countdown: int) -> int:
    """Run a writer that dies at that point; return the last number it was told is safe."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(folder), die_at, str(countdown)],
        stdout=subprocess.PIPE, timeout=60, check=False, env={**os.environ, "PYTHONPATH": "sdk"},
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == -9
    return int(done.stdout.split()[-1]) if done.stdout else 0


def check_whole(folder: Path, at_least: int) -> int:
    with Journal.open(folder) as journal:
        number = journal.get("a")
        assert number == journal.get("last")
        assert number is None or journal.get(f"b{number % 3}") == number
        assert list(journal.items("gone")) == ([f"gone{number}"] if number else [])
        assert (number or 0) >= at_least
        return number or 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "countdown"),
    [("journal append", 3), ("journal sync", 5), ("journal synced", 2), ("journal compact", 1),
     ("journal compact", 2), ("journal rename", 1), ("journal rename", 2), ("journal renamed", 1),
     ("journal renamed", 2)],
)  # fmt: skip
def test_a_kill_at_any_point_loses_nothing_acknowledged_and_halves_nothing(
    tmp_path: Path, point: str, countdown: int
) -> None:
    safe = write_until_killed(tmp_path, point, countdown)
    number = check_whole(tmp_path, safe)
    again = write_until_killed(tmp_path, "journal sync", 1)
    assert check_whole(tmp_path, max(again, number)) >= number


@pytest.mark.slow
def test_a_kill_from_outside_loses_nothing_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(7)
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, str(tmp_path), "never", "0"]
        environment = {**os.environ, "PYTHONPATH": "sdk"}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, env=environment, cwd=Path(__file__).parents[2]
        ) as writer:
            assert writer.stdout is not None
            safe = 0
            for _ in range(chance.randrange(5, 120)):
                safe = int(writer.stdout.readline())
            writer.kill()
            last = writer.stdout.read().split()
        check_whole(tmp_path, int(last[-1]) if last else safe)


def filled(folder: Path) -> Path:
    with Journal.open(folder) as journal:
        for number in range(4):
            journal.write({"n": number, f"k{number}": "v" * 30})
    return folder / "journal.log"


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(0, 60))
def test_any_torn_tail_is_cut_off(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("journal")
    path = filled(folder)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - cut])
    with Journal.open(folder) as journal:
        assert journal.get("n") == (3 if cut == 0 else 2)
        assert set(journal.items("k")) == {f"k{n}" for n in range(4 if cut == 0 else 3)}
        journal.write({"n": 9})
    with Journal.open(folder) as journal:
        assert journal.get("n") == 9
    assert (folder / "journal.torn").exists() == (cut > 0)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_flipped_bit_is_reported_with_its_place(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    path = filled(folder)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 2))
    changed = whole[at] ^ (1 << data.draw(st.integers(0, 7)))
    if b"\n" in (whole[at : at + 1], bytes([changed])):
        return
    path.write_bytes(whole[:at] + bytes([changed]) + whole[at + 1 :])
    with pytest.raises(StateError, match=rf"record {whole[:at].count(10) + 1} at byte \d+ is damaged"):
        Journal.open(folder)


def test_values_come_back_and_none_deletes(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "deep" / "er") as journal:
        journal.write({"a": {"x": [1, 2.5, True, None, "ü\n"]}, "b": 0, "c/1": 1, "c/2": 2})
        journal.write({"b": None, "never": None})
    with Journal.open(tmp_path / "deep" / "er") as journal:
        assert journal.items() == {"a": {"x": [1, 2.5, True, None, "ü\n"]}, "c/1": 1, "c/2": 2}
        assert journal.items("c/") == {"c/1": 1, "c/2": 2}
        assert journal.get("b") is None
        journal.get("a")["x"].clear()  # type: ignore[index]
        assert journal.get("a") == {"x": [1, 2.5, True, None, "ü\n"]}


def test_writing_what_is_there_already_writes_nothing(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.write({"a": 1})
        size = (tmp_path / "journal.log").stat().st_size
        journal.write({"a": 1, "b": None})
        assert (tmp_path / "journal.log").stat().st_size == size
        journal.write({"a": True})
        assert journal.get("a") is True


def test_the_file_stays_small_however_often_a_key_changes(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        for number in range(400):
            journal.write({"a": [number] * 400})
        assert (tmp_path / "journal.log").stat().st_size < 300_000
    with Journal.open(tmp_path) as journal:
        assert journal.get("a") == [399] * 400
        assert (tmp_path / "journal.log").stat().st_size < 10_000


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with Journal.open(tmp_path), pytest.raises(StateError, match="in use"):
        Journal.open(tmp_path)
    Journal.open(tmp_path).close()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"something else\n"), "record 1 at byte 0 is damaged"),
        (lambda path: path.write_bytes(b'499bb30b 0 {"kind":"monodon-journal","format":2}\n'), "format 2"),
        (lambda path: path.write_bytes(b"0b5dcce1 0 {}\n"), "not a journal"),
    ],
)
def test_files_of_others_are_refused(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(filled(tmp_path))
    with pytest.raises(StateError, match=message):
        Journal.open(tmp_path)


def test_a_full_disk_refuses_the_write_and_keeps_the_rest(tmp_path: Path) -> None:
    """A file size limit stands in for the full disk: the write fails in its middle."""
    script = """
import resource, sys
from pathlib import Path
from monodon.errors import StateError
from monodon.nucleus.journal import Journal
with Journal.open(Path(sys.argv[1])) as journal:
    journal.write({"a": 1})
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        journal.write({"a": 2, "big": "x" * 9000})
    except StateError as error:
        assert "File too large" in str(error), error
    assert journal.get("a") == 1
    journal.write({"a": 3})
"""
    environment = {**os.environ, "PYTHONPATH": "sdk"}
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=True, env=environment, cwd=Path(__file__).parents[2]
    )
    with Journal.open(tmp_path) as journal:
        assert journal.items() == {"a": 3}

"""The journal: atomic, durable, and honest about damage; with real files and writers that are really killed."""

import errno
import json
import logging
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monodon.errors import StateError
from monodon.nucleus.journal import Journal, _replay, peek

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


@contextmanager
def said(name: str) -> Iterator[list[str]]:
    """What a logger says within the block."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger(name).addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger(name).removeHandler(handler)


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


KEYS = {"n": 3, **{f"k{number}": "v" * 30 for number in range(4)}}


def test_every_single_bit_is_found(tmp_path: Path) -> None:
    path = filled(tmp_path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in range(8):
            replay = _replay(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :], path)
            assert {key: json.loads(text) for key, text in replay.entries.items()} == KEYS, (at, bit)
            assert (replay.mended, replay.end) == ((at,), len(whole))


@settings(deadline=None, max_examples=25)
@given(at=st.integers(0, 344), bit=st.integers(0, 7))
@example(at=344, bit=0)
@example(at=48, bit=6)
def test_any_flipped_bit_is_turned_back_and_said(tmp_path_factory: pytest.TempPathFactory, at: int, bit: int) -> None:
    """Line ends too, and the very last byte: nothing that was acknowledged is lost, nothing is wrong in silence."""
    folder = tmp_path_factory.mktemp("journal")
    path = filled(folder)
    whole = path.read_bytes()
    assert (len(whole), whole[48:49], whole[344:]) == (345, b"\n", b"\n")
    spoilt = whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :]
    path.write_bytes(spoilt)
    with said("monodon.nucleus.journal") as lines, Journal.open(folder) as journal:
        assert journal.items() == KEYS
        journal.write({"n": 4})
    number = whole[:at].count(10) + 1
    (line,) = (line for line in lines if "flipped" in line)
    assert f"record {number} had a flipped bit at byte {at}" in line
    assert (folder / "journal.damaged").read_bytes() == spoilt
    assert peek(folder) == KEYS | {"n": 4}
    with said("monodon.nucleus.journal") as lines, Journal.open(folder):
        assert lines == []


@settings(deadline=None, max_examples=25)
@given(bits=st.sets(st.integers(0, 48 * 8 - 1), min_size=2, max_size=2))
def test_more_than_a_flipped_bit_is_refused_with_its_place(
    tmp_path_factory: pytest.TempPathFactory, bits: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    path = filled(folder)
    data = bytearray(path.read_bytes())
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    with pytest.raises(StateError, match="record 1 at byte 0 is damaged"):
        Journal.open(folder)
    assert path.read_bytes() == data


def test_a_compaction_that_cannot_be_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Something in the way of the new file: the write that brought it about is whole, and the next ones too."""
    with Journal.open(tmp_path) as journal:
        (tmp_path / "journal.tmp").mkdir()
        for number in range(400):
            journal.write({"a": [number] * 400})
        assert "could not be compacted: Is a directory" in caplog.text
        assert (tmp_path / "journal.log").stat().st_size > 300_000
        (tmp_path / "journal.tmp").rmdir()
        journal.write({"b": 1})
        assert (tmp_path / "journal.log").stat().st_size < 10_000
    assert peek(tmp_path) == {"a": [399] * 400, "b": 1}


def test_a_name_that_is_not_yet_on_disk_loses_nothing(tmp_path: Path) -> None:
    """The folder could not be synced after the rename: what follows goes to the new file all the same."""
    failing: list[str] = []

    def probe(point: str) -> None:
        if point in failing:
            raise OSError(errno.EIO, "Input/output error")

    with Journal.open(tmp_path, probe=probe) as journal:
        failing.append("journal renamed")
        for number in range(200):
            journal.write({"a": [number] * 400})
        assert peek(tmp_path) == {"a": [199] * 400}


def test_a_torn_end_need_not_be_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On a full disk what was torn cannot be put aside: the journal opens all the same."""
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes() + b"12345678 5 half")
    (tmp_path / "journal.torn").mkdir()
    with Journal.open(tmp_path) as journal:
        assert journal.items() == KEYS
    assert "journal.torn could not be kept" in caplog.text


def test_what_a_failed_write_left_is_cut_off_before_the_next(tmp_path: Path) -> None:
    """As on a disk that was read-only for a while: it could not be cut off then."""
    failing: list[str] = []

    def probe(point: str) -> None:
        if point in failing:
            with (tmp_path / "journal.log").open("ab") as other:
                other.write(b"half a record that nobody could cut off")
            raise OSError(errno.EROFS, "Read-only file system")

    with Journal.open(tmp_path, probe=probe) as journal:
        journal.write({"a": 1})
        failing.append("journal append")
        with pytest.raises(StateError, match="Read-only file system"):
            journal.write({"a": 2})
        failing.clear()
        journal.write({"a": 3})
    assert peek(tmp_path) == {"a": 3}


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

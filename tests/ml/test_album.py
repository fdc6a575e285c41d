"""Kept frames are on disk whole or not at all, and the ledger survives."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from monodon.errors import FrameError
from monodon.ml.album import LEDGER_NAME, Album, Counts, read_counts
from monodon.ml.frames import Frame, read_picture


def frame(index: int, value: int = 128) -> Frame:
    return Frame(index, 1000.0 + index, np.full((36, 64, 3), value, np.uint8))


BYTES = 36 * 64 * 3


def test_a_kept_frame_is_a_picture_with_its_sidecar(tmp_path: Path) -> None:
    album = Album(tmp_path / "kept")
    path = album.keep(frame(7, 200), {"frame_index": 7, "label": "narwhal", "score": 0.9})
    album.drop(frame(8))
    album.close()
    assert path == tmp_path / "kept" / "00000001_frame-000007.jpg"
    image = read_picture(path)
    assert image is not None
    assert abs(int(image[5, 5, 0]) - 200) <= 2
    assert json.loads(path.with_suffix(".json").read_text()) == {"frame_index": 7, "label": "narwhal", "score": 0.9}
    assert read_counts(tmp_path / "kept") == Counts(
        seen=2, kept=1, dropped=1, bytes_seen=2 * BYTES, bytes_kept=path.stat().st_size
    )


def test_counts_go_on_after_a_restart(tmp_path: Path) -> None:
    for start in (0, 10):
        album = Album(tmp_path)
        album.keep(frame(start), {})
        album.drop(frame(start + 1))
        album.close()
    assert (album.counts.seen, album.counts.kept, album.counts.dropped) == (4, 2, 2)
    assert sorted(path.name for path in tmp_path.glob("*.jpg")) == [
        "00000001_frame-000000.jpg",
        "00000002_frame-000010.jpg",
    ]


def test_a_torn_ledger_line_leaves_the_one_before(tmp_path: Path) -> None:
    album = Album(tmp_path)
    for index in range(5):
        album.drop(frame(index))
    album.close()
    ledger = tmp_path / LEDGER_NAME
    lines = ledger.read_bytes().splitlines(keepends=True)
    newest = max(range(2), key=lambda i: json.loads(lines[i])["sequence"])
    lines[newest] = lines[newest][:100] + b"\0" * 412
    ledger.write_bytes(b"".join(lines))
    assert read_counts(tmp_path).seen == 4


def test_what_a_kill_cut_short_is_removed_and_what_it_finished_is_counted(tmp_path: Path) -> None:
    album = Album(tmp_path)
    album.keep(frame(1), {})
    ledger = (tmp_path / LEDGER_NAME).read_bytes()
    finished = album.keep(frame(2), {})
    assert finished is not None
    album.close()
    (tmp_path / LEDGER_NAME).write_bytes(ledger)  # killed after the rename, before the ledger
    (tmp_path / "00000003_frame-000009.json").write_text("{}")  # killed between sidecar and picture
    (tmp_path / "00000003_frame-000009.jpg.tmp").write_bytes(b"half")
    again = Album(tmp_path)
    again.close()
    assert (again.counts.seen, again.counts.kept) == (2, 2)
    assert again.counts.bytes_seen == 2 * BYTES
    assert {path.name for path in tmp_path.iterdir()} == {
        LEDGER_NAME,
        "00000001_frame-000001.jpg",
        "00000001_frame-000001.json",
        finished.name,
        finished.with_suffix(".json").name,
    }


def test_the_oldest_make_room_within_the_budget(tmp_path: Path) -> None:
    size = len(Album(tmp_path / "probe").keep(frame(0), {}).read_bytes()) + 2  # type: ignore[union-attr]
    album = Album(tmp_path / "kept", budget_bytes=3 * size)
    for index in range(5):
        album.keep(frame(index), {})
    album.close()
    assert [path.stem[-1] for path in sorted((tmp_path / "kept").glob("*.jpg"))] == ["2", "3", "4"]
    assert (album.counts.kept, album.counts.evicted) == (5, 2)
    assert len(list((tmp_path / "kept").glob("*.json"))) == 3


def test_a_frame_beyond_the_whole_budget_is_refused_and_nothing_lost(tmp_path: Path) -> None:
    album = Album(tmp_path, budget_bytes=100)
    assert album.keep(frame(0), {}) is None
    album.close()
    assert (album.counts.seen, album.counts.dropped, album.counts.refused) == (1, 1, 1)
    assert not list(tmp_path.glob("*.jpg"))


def test_an_evicted_frame_that_its_owner_moved_away_does_no_harm(tmp_path: Path) -> None:
    album = Album(tmp_path, budget_bytes=2500)
    first = album.keep(frame(0), {})
    assert first is not None
    first.unlink()
    for index in range(1, 6):
        assert album.keep(frame(index), {}) is not None
    album.close()


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from monodon.ml.album import Album
from monodon.ml.frames import Frame
album = Album(Path(sys.argv[1]))
noise = np.random.default_rng(1).integers(0, 256, (400, 400, 3), np.uint8)
small = np.zeros((40, 40, 3), np.uint8)
assert album.keep(Frame(0, 0.0, small), {})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # the system refuses to write more into any file
assert album.keep(Frame(1, 0.0, noise), {}) is None
assert album.keep(Frame(2, 0.0, noise), {}) is None
assert album.keep(Frame(3, 0.0, small), {})
album.close()
"""


def test_a_disk_that_takes_no_more_costs_the_frame_and_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be kept") == 1  # said once, not at every frame
    counts = read_counts(tmp_path)
    assert (counts.seen, counts.kept, counts.dropped, counts.refused) == (4, 2, 2, 2)
    assert not list(tmp_path.glob("*.tmp"))
    assert len(list(tmp_path.glob("*.jpg"))) == len(list(tmp_path.glob("*.json"))) == 2


KEEP_ON = """
import sys
from pathlib import Path
import numpy as np
from monodon.ml.album import Album
from monodon.ml.frames import Frame
album = Album(Path(sys.argv[1]))
noise = np.random.default_rng(1).integers(0, 256, (200, 200, 3), np.uint8)
for index in range(1_000_000):
    path = album.keep(Frame(index, 0.0, noise), {"frame_index": index})
    print(path.name, flush=True)
"""


@pytest.mark.parametrize("after", [3, 17, 40])
def test_after_sigkill_every_acknowledged_frame_is_whole_and_counted(tmp_path: Path, after: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", KEEP_ON, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        acknowledged = [process.stdout.readline().strip() for _ in range(after)]
        process.send_signal(signal.SIGKILL)
        acknowledged += process.stdout.read().split()
    process.wait()
    album = Album(tmp_path)
    album.close()
    pictures = sorted(path.name for path in tmp_path.glob("*.jpg"))
    assert set(acknowledged) <= set(pictures)
    assert album.counts.kept == album.counts.seen == len(pictures)
    for name in pictures:
        assert read_picture(tmp_path / name) is not None
        assert json.loads((tmp_path / name).with_suffix(".json").read_text())["frame_index"] >= 0


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FrameError, match="cannot keep frames in"):
        Album(tmp_path / "file" / "kept")


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    album = Album(tmp_path)
    album.keep(frame(0), {})
    album.close()
    album.close()
    assert len(os.listdir("/proc/self/fd")) == before

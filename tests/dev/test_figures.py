"""Precision and recall against the truth beside a clip; the contact sheet."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.dev.figures import accuracy, draw_contact_sheet, kept_frames, read_truth
from monodon.errors import FrameError
from monodon.ml.frames import read_picture

CHECKOUT = Path(__file__).parents[2]
DIVE = CHECKOUT / "tests/data/clips/dive_720p.mp4"


def test_the_truth_of_the_dive() -> None:
    narwhals = read_truth(DIVE, "narwhal")
    assert narwhals == frozenset(range(50, 125)) | frozenset(range(499, 574))
    assert read_truth(DIVE, "Polar Bear") == frozenset(range(175, 237))
    assert read_truth(DIVE, "unicorn") == frozenset()


def test_a_clip_without_truth_has_none(tmp_path: Path) -> None:
    assert read_truth(tmp_path / "mine.mp4", "narwhal") is None
    assert accuracy([1, 2], None).precision is None


def test_a_wrong_truth_table_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("from,to\n1,2\n")
    with pytest.raises(FrameError, match="is no truth table") as caught:
        read_truth(tmp_path / "mine.mp4", "narwhal")
    assert "start_frame,end_frame,photo" in str(caught.value.hint)


@given(st.sets(st.integers(0, 30)), st.frozensets(st.integers(0, 30)))
def test_precision_and_recall_are_shares(kept: set[int], truth: frozenset[int]) -> None:
    found = accuracy(kept, truth)
    assert (found.precision is None) == (not kept)
    assert (found.recall is None) == (not truth)
    if kept and truth:
        assert found.precision == pytest.approx(len(kept & truth) / len(kept), abs=1e-4)
        assert found.recall == pytest.approx(len(kept & truth) / len(truth), abs=1e-4)


def test_the_contact_sheet_shows_kept_and_dropped_frames(tmp_path: Path) -> None:
    for place, index in enumerate((50, 51, 60)):
        (tmp_path / f"{place:08d}_frame-{index:06d}.json").write_text(json.dumps({"frame_index": index}))
    assert kept_frames(tmp_path) == [50, 51, 60]
    clip = shutil.copy(DIVE, tmp_path / "clip.mp4")
    draw_contact_sheet(tmp_path / "sheet.png", Path(clip), [("model 1.0.0", tmp_path, 599)])
    sheet = read_picture(tmp_path / "sheet.png")
    assert sheet is not None
    assert sheet.shape[0] > 3 * 135

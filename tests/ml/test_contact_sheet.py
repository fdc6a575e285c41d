"""The contact sheet is one picture with every thumbnail on it."""

from pathlib import Path

import numpy as np
import pytest

from monodon.errors import FrameError
from monodon.ml.contact_sheet import COLUMNS, contact_sheet, spread, write_picture
from monodon.ml.frames import read_picture


def test_it_holds_every_picture_and_can_be_read_again(tmp_path: Path) -> None:
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)] * 3
    pictures = [(f"frame {i}", np.full((90, 160, 3), colour, np.uint8)) for i, colour in enumerate(colours)]
    write_picture(tmp_path / "sheet.png", contact_sheet([("kept", pictures), ("dropped", [])]))
    sheet = read_picture(tmp_path / "sheet.png")
    assert sheet is not None
    assert sheet.shape[1] > COLUMNS * 240
    for colour in set(colours):
        assert (sheet == colour).all(axis=2).sum() >= 3 * 240 * 135


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="cannot write the picture"):
        write_picture(tmp_path / "missing" / "sheet.png", np.zeros((4, 4, 3), np.uint8))


def test_a_selection_is_spread_from_the_first_to_the_last() -> None:
    assert spread(list(range(100)), 5) == [0, 25, 50, 74, 99]
    assert spread([3, 4], 5) == [3, 4]

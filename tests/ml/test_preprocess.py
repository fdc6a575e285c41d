"""Crops, letterboxes and the numbers a network takes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.errors import FrameError, ModelError
from monodon.ml.preprocess import Size, centre_crop, letterbox, look_up, scaling_table


def test_the_centre_square_of_a_wide_image_is_its_middle() -> None:
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 100:200] = 200
    assert (centre_crop(image, Size(50, 50)) == 200).all()


def test_a_fraction_leaves_the_border_out() -> None:
    image = np.zeros((80, 80, 3), np.uint8)
    image[10:70, 10:70] = 90
    assert (centre_crop(image, Size(30, 30), fraction=0.75) == 90).all()


def test_letterbox_keeps_the_shape_and_says_where() -> None:
    canvas, placement = letterbox(np.full((50, 100, 3), 255, np.uint8), Size(200, 200))
    assert canvas.shape == (200, 200, 3)
    assert (placement.scale, placement.left, placement.top) == (2.0, 0, 50)
    assert (canvas[:50] == 0).all()
    assert (canvas[50:150] == 255).all()
    assert (canvas[150:] == 0).all()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((5, 5, 3), np.float32),
    ],
)
def test_what_is_no_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(FrameError, match="is not uint8"):
        centre_crop(image, Size(4, 4))
    with pytest.raises(FrameError, match="is not uint8"):
        letterbox(image, Size(4, 4))


def test_unknown_ways_to_crop_are_refused() -> None:
    image = np.zeros((5, 5, 3), np.uint8)
    with pytest.raises(ModelError, match="a crop of 0"):
        centre_crop(image, Size(4, 4), fraction=0)
    with pytest.raises(ModelError, match="resize is 'cubic', not one of nearest, linear, area"):
        centre_crop(image, Size(4, 4), resize="cubic")


def test_a_float_input_takes_the_normalised_pixels() -> None:
    table = scaling_table(mean=127, std=128, dtype=np.float32, scale=0, zero_point=0)
    assert table.dtype == np.float32
    assert table[[0, 127, 255]].tolist() == [-0.9921875, 0.0, 1.0]


@given(st.floats(0.001, 0.1), st.integers(-128, 127))
def test_a_quantised_input_is_the_nearest_step_within_its_type(scale: float, zero_point: int) -> None:
    table = scaling_table(mean=127, std=128, dtype=np.int8, scale=scale, zero_point=zero_point)
    real = (np.arange(256) - 127) / 128
    back = (table.astype(np.float64) - zero_point) * scale
    inside = (table > -128) & (table < 127)
    assert np.abs(back - real)[inside].max(initial=0) <= scale / 2 + 1e-9
    assert (np.diff(table.astype(int)) >= 0).all()


def test_a_quantised_input_without_scale_is_refused() -> None:
    with pytest.raises(ModelError, match="needs a scale above 0"):
        scaling_table(mean=0, std=1, dtype=np.int8, scale=0, zero_point=0)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float32])
def test_look_up_replaces_every_value(dtype: type) -> None:
    table = np.arange(256).astype(dtype)[::-1].copy()
    image = np.random.default_rng(1).integers(0, 256, (7, 5, 3), np.uint8)
    result = look_up(image, table)
    assert result.shape == (1, 7, 5, 3)
    assert result.dtype == dtype
    assert (result[0] == table[image]).all()

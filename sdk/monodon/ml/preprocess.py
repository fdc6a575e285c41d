"""Arrays to arrays: crop, letterbox, and the numbers a network takes (pure)."""

from dataclasses import dataclass
from typing import Any

from monodon.errors import FrameError, ModelError
from monodon.ml.arrays import Array, Image, cv2, np

#: How pixels are mixed when a picture shrinks. Area is the best and, measured, the slowest by far.
INTERPOLATIONS = {"nearest": cv2.INTER_NEAREST, "linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image landed: scale factor, and offset in pixels of its top left corner."""

    scale: float
    left: int
    top: int


def centre_crop(image: Image, size: Size, *, fraction: float = 1.0, resize: str = "linear") -> Image:
    """Return the centred square of ``fraction`` of the shorter side, scaled to ``size``.

    Args:
        image: uint8, shape (height, width, 3).
        fraction: above 0, at most 1.

    Raises:
        FrameError: the image is empty, or not uint8 with three channels.
        ModelError: ``fraction`` or ``resize`` is none that we know.
    """
    _check(image)
    if not 0 < fraction <= 1:
        raise ModelError(f"a crop of {fraction} is not above 0 and at most 1")
    height, width = image.shape[:2]
    side = max(1, int(min(height, width) * fraction))
    top, left = (height - side) // 2, (width - side) // 2
    return _scale(image[top : top + side, left : left + side], size, resize)


def letterbox(image: Image, size: Size, *, resize: str = "linear") -> tuple[Image, Placement]:
    """Fit an image into ``size`` without stretching it, padding the rest with black.

    Args:
        image: uint8, shape (height, width, 3).

    Returns:
        uint8, shape (size.height, size.width, 3); and where the image landed.

    Raises:
        FrameError: the image is empty, or not uint8 with three channels.
    """
    _check(image)
    height, width = image.shape[:2]
    scale = min(size.width / width, size.height / height)
    inner = Size(max(1, round(width * scale)), max(1, round(height * scale)))
    left, top = (size.width - inner.width) // 2, (size.height - inner.height) // 2
    canvas: Image = np.zeros((size.height, size.width, 3), np.uint8)
    canvas[top : top + inner.height, left : left + inner.width] = _scale(image, inner, resize)
    return canvas, Placement(scale=scale, left=left, top=top)


def scaling_table(*, mean: float, std: float, dtype: Any, scale: float, zero_point: int) -> Array:
    """Return the 256 numbers that stand for the pixel values 0 to 255 in a network's input.

    ``(pixel - mean) / std``, and for a quantised input divided by ``scale``, rounded to even, moved by ``zero_point``
    and held within the type. One look-up a pixel replaces all that arithmetic.
    """
    real = (np.arange(256, dtype=np.float64) - mean) / std
    if np.issubdtype(dtype, np.floating):
        return real.astype(dtype)
    if scale <= 0:
        raise ModelError(f"a quantised input needs a scale above 0, not {scale}")
    limits = np.iinfo(dtype)
    return np.clip(np.round(real / scale) + zero_point, limits.min, limits.max).astype(dtype)


def look_up(image: Image, table: Array) -> Array:
    """Return ``table[pixel]`` for every value, shape (1, height, width, 3), of the table's type."""
    return np.asarray(cv2.LUT(image, table.reshape(1, 256)))[np.newaxis]


def _scale(image: Image, size: Size, resize: str) -> Image:
    if resize not in INTERPOLATIONS:
        raise ModelError(f"resize is {resize!r}, not one of {', '.join(INTERPOLATIONS)}")
    return np.asarray(cv2.resize(image, (size.width, size.height), interpolation=INTERPOLATIONS[resize]))


def _check(image: Image) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise FrameError(f"an image of {image.dtype} and shape {image.shape} is not uint8 (height, width, 3)")

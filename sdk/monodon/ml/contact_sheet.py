"""A contact sheet: the kept and the dropped frames of a run, side by side on one picture."""

from collections.abc import Sequence
from pathlib import Path

from monodon.errors import FrameError
from monodon.ml.arrays import Image, cv2, np
from monodon.ml.preprocess import Size, letterbox

THUMBNAIL = Size(240, 135)
COLUMNS = 6
_MARGIN, _TITLE = 6, 34
_PAPER = (250, 250, 250)


def contact_sheet(rows: Sequence[tuple[str, Sequence[tuple[str, Image]]]]) -> Image:
    """Return one picture with a titled band of captioned thumbnails for each row.

    Args:
        rows: (title, [(caption, image), …]); images are uint8 RGB of any size.

    Returns:
        uint8 RGB, as wide as six thumbnails.
    """
    return np.vstack([_band(title, pictures) for title, pictures in rows])


def write_picture(path: Path, image: Image) -> None:
    """Write an image in the format of the path's ending.

    Raises:
        FrameError: it cannot be written.
    """
    if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
        raise FrameError(f"cannot write the picture {path}")


def spread(items: Sequence[int], count: int) -> list[int]:
    """Return at most ``count`` of the items, evenly spread from the first to the last."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _band(title: str, pictures: Sequence[tuple[str, Image]]) -> Image:
    lines = max(1, -(-len(pictures) // COLUMNS))
    width = COLUMNS * (THUMBNAIL.width + _MARGIN) + _MARGIN
    height = _TITLE + lines * (THUMBNAIL.height + 20 + _MARGIN) + _MARGIN
    band: Image = np.full((height, width, 3), _PAPER, np.uint8)
    _write(band, title, (_MARGIN + 2, 24), 0.62, (30, 30, 30), thickness=2)
    for place, (caption, image) in enumerate(pictures):
        left = _MARGIN + place % COLUMNS * (THUMBNAIL.width + _MARGIN)
        top = _TITLE + place // COLUMNS * (THUMBNAIL.height + 20 + _MARGIN)
        small, _ = letterbox(image, THUMBNAIL, resize="area")
        band[top : top + THUMBNAIL.height, left : left + THUMBNAIL.width] = small
        _write(band, caption, (left + 2, top + THUMBNAIL.height + 15), 0.42, (70, 70, 70), thickness=1)
    return band


def _write(
    image: Image, text: str, at: tuple[int, int], size: float, colour: tuple[int, int, int], *, thickness: int
) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, thickness, cv2.LINE_AA)

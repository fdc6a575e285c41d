"""How well a run kept what it should have kept: against the clip's truth, and as a picture."""

import csv
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from monodon.errors import FrameError

if TYPE_CHECKING:
    from monodon.ml.arrays import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Shares of 0 to 1; None where they cannot be told."""

    precision: float | None
    recall: float | None


def read_truth(clip: Path, label: str) -> frozenset[int] | None:
    """Return the frames that show ``label``, from the CSV beside a clip; None where there is no such file.

    Its rows are start_frame, end_frame (exclusive) and what the frames show, such as ``narwhal``.

    Raises:
        FrameError: the CSV has another form.
    """
    path = clip.with_suffix(".csv")
    if not path.is_file():
        return None
    frames: set[int] = set()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["photo"].replace("_", " ").casefold() == label.casefold():
                    frames.update(range(int(row["start_frame"]), int(row["end_frame"])))
    except (KeyError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise FrameError(f"{path} is no truth table: {error!r}", hint="columns: start_frame,end_frame,photo") from error
    return frozenset(frames)


def accuracy(kept: Collection[int], truth: frozenset[int] | None) -> Accuracy:
    """Return precision (of what was kept) and recall (of what there was)."""
    if truth is None:
        return Accuracy(precision=None, recall=None)
    right = len(truth & set(kept))
    return Accuracy(
        precision=round(right / len(kept), 4) if kept else None,
        recall=round(right / len(truth), 4) if truth else None,
    )


def kept_frames(folder: Path) -> list[int]:
    """Return the frame indices of an album's sidecars, in the order in which they were kept."""
    return [json.loads(path.read_text())["frame_index"] for path in sorted(folder.glob("*_frame-*.json"))]


def draw_contact_sheet(path: Path, clip: Path, runs: Sequence[tuple[str, Path, int]]) -> None:
    """Write a PNG of kept and dropped frames.

    Args:
        runs: (title, folder of the kept frames, frames seen).

    Raises:
        FrameError: the clip or a kept picture cannot be read, or the PNG not be written.
    """
    from monodon.ml.contact_sheet import COLUMNS, contact_sheet, spread, write_picture

    chosen: list[tuple[str, list[int]]] = []
    for title, folder, seen in runs:
        kept = kept_frames(folder)
        dropped = sorted(set(range(seen)) - set(kept))
        chosen.append((f"{title}: kept {len(kept)}", spread(kept, 2 * COLUMNS)))
        chosen.append((f"{title}: dropped {len(dropped)}", spread(dropped, 2 * COLUMNS)))
    images = _frames_of(clip, {index for _, indices in chosen for index in indices})
    rows = [(title, [(f"frame {i}", images[i]) for i in indices if i in images]) for title, indices in chosen]
    write_picture(path, contact_sheet(rows))


def _frames_of(clip: Path, indices: Collection[int]) -> dict[int, "Image"]:
    import asyncio

    from monodon.ml.frames import Camera

    async def collect() -> dict[int, "Image"]:
        async with Camera.open(str(clip)) as camera:
            return {frame.index: frame.image async for frame in camera if frame.index in indices}

    return asyncio.run(collect())

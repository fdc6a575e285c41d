"""A folder of kept frames: each written whole or not at all, within a byte budget, with a ledger that survives.

::

    <folder>/00000042_frame-000123.jpg     the picture; renamed into place last, so it stands for a finished keep
    <folder>/00000042_frame-000123.json    its sidecar
    <folder>/ledger.jsonl                  two lines of fixed width, written in turn; the valid one with the higher
                                           ``sequence`` counts. Its room is taken once: it is kept up on a full disk.
"""

import contextlib
import json
import logging
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from monodon.errors import FrameError
from monodon.ml.arrays import Image, cv2
from monodon.ml.frames import Frame, read_picture
from monodon.ml.keep import Kept, evict

logger = logging.getLogger(__name__)

LEDGER_NAME = "ledger.jsonl"
_LINE_BYTES = 512
_NAME = re.compile(r"(\d{8})_frame-\d+")
JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of the frames, over all restarts: seen = kept + dropped, and ``refused`` is a part of dropped.

    ``bytes_seen`` counts pixels as the camera gave them (height x width x 3), ``bytes_kept`` picture files as written.
    ``evicted`` were kept and had to make room.
    """

    seen: int = 0
    kept: int = 0
    dropped: int = 0
    refused: int = 0
    evicted: int = 0
    bytes_seen: int = 0
    bytes_kept: int = 0
    bytes_evicted: int = 0


class Album:
    """A folder of kept frames, open for writing. Blocking; to be used from one thread at a time."""

    def __init__(self, folder: Path, *, budget_bytes: int = 0) -> None:
        """Open or make the folder: finish what a kill cut short, and read the ledger.

        Args:
            budget_bytes: of pictures and sidecars in the folder; above it the oldest go. 0 means no limit.

        Raises:
            FrameError: the folder cannot be made or written.
        """
        self.folder = folder
        self.budget_bytes = budget_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._ledger = _Ledger(folder / LEDGER_NAME)
            self.counts, self._kept = _recover(folder, self._ledger.counts)
        except OSError as error:
            raise FrameError(f"cannot keep frames in {folder}: {error.strerror}") from error
        self._is_refusing = False

    def drop(self, frame: Frame) -> None:
        """Count a frame that is not kept."""
        self._count(frame, dropped=1)

    def keep(self, frame: Frame, sidecar: Mapping[str, Any]) -> Path | None:
        """Write a frame and its sidecar, and count it.

        Returns:
            The picture's path, on disk for good; or None if the disk or the budget has no room: then the frame is
            counted as refused, and nothing of it stays.
        """
        picture, text = encode(frame.image), json.dumps(dict(sidecar)).encode()
        size_bytes = len(picture) + len(text)
        if self.budget_bytes and size_bytes > self.budget_bytes:
            self._refuse(frame, f"its {size_bytes} bytes exceed the budget of {self.budget_bytes}")
            return None
        name = f"{self.counts.kept + 1:08d}_frame-{frame.index:06d}"
        try:
            self._evict(size_bytes)
            _write_pair(self.folder, name, picture, text)
        except OSError as error:
            self._refuse(frame, error.strerror or str(error))
            return None
        self._is_refusing = False
        self._kept.append(Kept(name, size_bytes))
        self._count(frame, kept=1, bytes_kept=len(picture))
        return self.folder / f"{name}.jpg"

    def close(self) -> None:
        """Bring the ledger to disk and let go of it."""
        self._ledger.close()

    def _evict(self, incoming_bytes: int) -> None:
        for old in evict(self._kept, incoming_bytes, self.budget_bytes):
            picture = self.folder / f"{old.name}.jpg"
            with contextlib.suppress(FileNotFoundError):  # its owner may have moved it away
                size = picture.stat().st_size
                picture.unlink()
                self.counts = _add(self.counts, evicted=1, bytes_evicted=size)
            picture.with_suffix(".json").unlink(missing_ok=True)
            self._kept.remove(old)

    def _refuse(self, frame: Frame, why: str) -> None:
        if not self._is_refusing:
            logger.warning("frame %d cannot be kept in %s: %s", frame.index, self.folder, why)
        self._is_refusing = True
        self._count(frame, dropped=1, refused=1)

    def _count(self, frame: Frame, **more: int) -> None:
        self.counts = _add(self.counts, seen=1, bytes_seen=frame.image.nbytes, **more)
        self._ledger.write(self.counts)


def encode(image: Image) -> bytes:
    """Return an image as JPEG.

    Args:
        image: uint8 RGB, shape (height, width, 3).
    """
    is_good, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not is_good:
        raise FrameError(f"an image of shape {image.shape} cannot be written as JPEG")
    return bytes(data)


def read_counts(folder: Path) -> Counts:
    """Return the counts of an album's ledger without opening the album; zeros where there is none."""
    try:
        return _newest((folder / LEDGER_NAME).read_bytes())[1]
    except FileNotFoundError:
        return Counts()


class _Ledger:
    """Two fixed lines written in turn: a write that a power cut tears leaves the other one."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            content = os.pread(self._file, 2 * _LINE_BYTES, 0)
            self._sequence, self.counts = _newest(content)
            if len(content) < 2 * _LINE_BYTES:
                os.pwrite(self._file, _line(self._sequence, self.counts) * 2, 0)
                os.fsync(self._file)
        except OSError:
            os.close(self._file)
            raise

    def write(self, counts: Counts) -> None:
        self._sequence += 1
        os.pwrite(self._file, _line(self._sequence, counts), (self._sequence % 2) * _LINE_BYTES)

    def close(self) -> None:
        if self._file >= 0:
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1


def _line(sequence: int, counts: Counts) -> bytes:
    body = json.dumps({"sequence": sequence, **asdict(counts)})
    return f'{body[:-1]}, "crc32": {zlib.crc32(body.encode())}}}'.ljust(_LINE_BYTES - 1).encode() + b"\n"


def _newest(content: bytes) -> tuple[int, Counts]:
    """Return the highest valid sequence and its counts."""
    newest = (0, Counts())
    for line in content.splitlines():
        try:
            record = json.loads(line)
            checksum = record.pop("crc32")
            if checksum == zlib.crc32(json.dumps(record).encode()) and record["sequence"] >= newest[0]:
                newest = (record["sequence"], Counts(**{field.name: record[field.name] for field in fields(Counts)}))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return newest


def _recover(folder: Path, counts: Counts) -> tuple[Counts, list[Kept]]:
    """Remove half-written files, and count pictures that were finished but not yet in the ledger."""
    kept: list[Kept] = []
    for path in sorted(folder.iterdir()):
        if path.suffix == ".tmp" or (path.suffix == ".json" and not path.with_suffix(".jpg").exists()):
            path.unlink()
        elif path.suffix == ".jpg" and (match := _NAME.fullmatch(path.stem)):
            size = path.stat().st_size
            sidecar = path.with_suffix(".json")
            kept.append(Kept(path.stem, size + (sidecar.stat().st_size if sidecar.exists() else 0)))
            if int(match[1]) > counts.kept:
                image = read_picture(path)
                pixels = 0 if image is None else image.nbytes
                counts = _add(counts, seen=1, kept=1, bytes_kept=size, bytes_seen=pixels)
    return counts, kept


def _write_pair(folder: Path, name: str, picture: bytes, sidecar: bytes) -> None:
    parts = ((folder / f"{name}.json", sidecar), (folder / f"{name}.jpg", picture))
    try:
        for path, content in parts:
            with path.with_suffix(path.suffix + ".tmp").open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, _ in parts:
            path.with_suffix(path.suffix + ".tmp").replace(path)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError:
        for path, _ in parts:
            path.with_suffix(path.suffix + ".tmp").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        raise


def _add(counts: Counts, **more: int) -> Counts:
    return replace(counts, **{name: getattr(counts, name) + value for name, value in more.items()})

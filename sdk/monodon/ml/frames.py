"""Frames from a camera, a stream, a clip or a folder of pictures: all ``async for frame in camera``.

A live source drops the older frame when its reader is slow, and counts it; when it fails it is opened again with
growing pauses. A recording waits for its reader, so that each of its frames is seen once, in order.
"""

import asyncio
import logging
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from monodon.errors import FrameError
from monodon.ml.arrays import Image, cv2

logger = logging.getLogger(__name__)

PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_STREAM = re.compile(r"(https?|rtsps?|rtmp|udp|tcp)://", re.IGNORECASE)
#: A live source must deliver its first and each later frame within this time.
STREAM_TIMEOUT_S = 10.0
#: Pauses between attempts to open a live source again; the last one repeats.
RETRY_PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture: its place in the source (from 0), when it was read (seconds since the epoch), and its pixels.

    ``image`` is uint8 RGB, shape (height, width, 3).
    """

    index: int
    captured_at: float
    image: Image


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraState:
    """Whether a live source delivers; if not, why, and when it is tried again."""

    is_connected: bool
    reason: str = ""
    retry_in_s: float | None = None


class Camera:
    """A source of frames, opened by one source string; an async context manager and iterator.

    ``dropped`` counts frames of a live source that came and were never asked for.
    """

    is_live = False
    dropped = 0

    @staticmethod
    def open(source: str, *, on_state: Callable[[CameraState], None] | None = None) -> "Camera":
        """Return the camera that a source string names.

        Args:
            source: ``0`` or ``/dev/video0`` (a camera), ``rtsp://…`` or ``http://…`` (a stream), or the path of a
                clip, a picture, or a folder of pictures (in the order of their names).
            on_state: is told, on the event loop, when a live source fails or delivers again.

        Raises:
            FrameError: the path does not exist, or nothing in it can be decoded.
        """
        if source.isdecimal() or source.startswith("/dev/") or _STREAM.match(source):
            return LiveCamera(source, on_state=on_state, retry_pauses_s=RETRY_PAUSES_S)
        path = Path(source.removeprefix("file://")).expanduser()
        if path.is_dir():
            return Recording(_Pictures(_pictures_in(path)))
        if not path.exists():
            raise FrameError(f"no such clip, picture or folder: {path}", hint="a source is a path, a device or a URL")
        return Recording(_Pictures([path])) if path.suffix.lower() in PICTURES else Recording(_Clip(path))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self.every(0)

    def every(self, interval_s: float) -> AsyncIterator[Frame]:
        """Iterate over frames at least ``interval_s`` seconds apart; a recording gives every frame as fast as asked."""
        raise TypeError("open a camera with Camera.open(source)")

    async def close(self) -> None:
        """Let go of the device, stream or file; it may be called twice."""


class Recording(Camera):
    """A clip or pictures: the next frame is decoded while the caller works on the present one."""

    def __init__(self, images: "_Clip | _Pictures") -> None:
        self._images = images
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="frames")

    async def every(self, interval_s: float) -> AsyncIterator[Frame]:
        """Iterate over all frames, each once; ``interval_s`` is for live sources alone."""
        loop = asyncio.get_running_loop()
        images = iter(self._images)
        index = 0
        ahead = loop.run_in_executor(self._pool, next, images, None)
        try:
            while (image := await ahead) is not None:
                ahead = loop.run_in_executor(self._pool, next, images, None)
                yield Frame(index, time.time(), image)
                index += 1
        finally:
            ahead.cancel()

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)
        self._images.close()


class LiveCamera(Camera):
    """A camera or stream, read by a thread of its own; only the newest frame waits for the caller."""

    is_live = True

    def __init__(
        self, source: str, *, on_state: Callable[[CameraState], None] | None, retry_pauses_s: tuple[float, ...]
    ) -> None:
        self.name = re.sub(r"//[^/@]*@", "//…@", source)  # no password in a log
        self._source = source
        self._on_state = on_state
        self._pauses_s = retry_pauses_s
        self._newest: Frame | None = None
        self._arrived = asyncio.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._read, args=(loop,), name=f"camera {self.name}", daemon=True)
        self._thread.start()
        return self

    async def every(self, interval_s: float) -> AsyncIterator[Frame]:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + interval_s
            await self._arrived.wait()
            self._arrived.clear()
            frame, self._newest = self._newest, None
            if frame is None:
                continue
            yield frame
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def close(self) -> None:
        self._closing.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, STREAM_TIMEOUT_S + 1)

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """The thread: open, read until it fails, pause, open again."""
        index = attempt = 0
        while not self._closing.is_set():
            capture = _open_live(self._source)
            reason = "cannot be opened"
            while not self._closing.is_set():
                is_good, image = capture.read()
                if not is_good:
                    break
                if attempt or index == 0:
                    self._tell(loop, self._report, CameraState(is_connected=True))
                attempt, reason = 0, "stopped delivering frames"
                frame = Frame(index, time.time(), _rgb(image))
                self._tell(loop, self._put, frame)
                index += 1
            capture.release()
            pause_s = self._pauses_s[min(attempt, len(self._pauses_s) - 1)]
            attempt += 1
            if not self._closing.is_set():
                self._tell(loop, self._report, CameraState(is_connected=False, reason=reason, retry_in_s=pause_s))
            self._closing.wait(pause_s)

    def _tell(self, loop: asyncio.AbstractEventLoop, call: Callable[[Any], None], what: object) -> None:
        if not loop.is_closed() and not self._closing.is_set():
            loop.call_soon_threadsafe(call, what)

    def _put(self, frame: Frame) -> None:
        if self._newest is not None:
            self.dropped += 1
        self._newest = frame
        self._arrived.set()

    def _report(self, state: CameraState) -> None:
        if state.is_connected:
            logger.info("camera %s delivers frames", self.name)
        else:
            logger.warning("camera %s %s; trying again in %g s", self.name, state.reason, state.retry_in_s)
        if self._on_state is not None:
            self._on_state(state)


class _Clip:
    """The frames of a video file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture = cv2.VideoCapture(str(path))
        self._first = self._decode()
        if self._first is None:
            self._capture.release()
            raise FrameError(
                f"no frame of {path} can be decoded", hint="is it a whole video file that OpenCV can play?"
            )
        self._announced = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))

    def __iter__(self) -> Iterator[Image]:
        count, image = 0, self._first
        self._first = None
        while image is not None:
            yield image
            count += 1
            image = self._decode()
        if count < self._announced:
            logger.warning("%s ended after %d of %d frames: is it cut short?", self._path, count, self._announced)

    def _decode(self) -> Image | None:
        is_good, image = self._capture.read()
        return _rgb(image) if is_good else None

    def close(self) -> None:
        self._capture.release()


class _Pictures:
    """Picture files; one that cannot be decoded is reported and left out, unless it is the first."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        if read_picture(paths[0]) is None:
            raise FrameError(f"the picture {paths[0]} cannot be decoded")

    def __iter__(self) -> Iterator[Image]:
        for path in self._paths:
            image = read_picture(path)
            if image is None:
                logger.warning("left out %s: it cannot be decoded", path)
            else:
                yield image

    def close(self) -> None:
        """Nothing is held open between pictures."""


def read_picture(path: Path) -> Image | None:
    """Return a picture file as uint8 RGB, shape (height, width, 3); None if it cannot be decoded."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return None if image is None else _rgb(image)


def _rgb(bgr: Any) -> Image:
    """Return OpenCV's order of channels in ours, in the same memory."""
    rgb: Image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, bgr)
    return rgb


def _pictures_in(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    if not paths:
        raise FrameError(f"no pictures in {folder}", hint=f"it takes files named {', '.join(sorted(PICTURES))}")
    return paths


def _open_live(source: str) -> Any:
    if source.isdecimal():
        return cv2.VideoCapture(int(source))
    if source.startswith("/dev/"):
        return cv2.VideoCapture(source, cv2.CAP_V4L2)
    timeout_ms = int(STREAM_TIMEOUT_S * 1000)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    return cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)

"""Frames from clips, folders and live streams."""

import asyncio
import http.server
import logging
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from monodon.errors import FrameError
from monodon.ml.frames import Camera, CameraState, Frame, LiveCamera


async def all_of(source: str | Path) -> list[Frame]:
    async with Camera.open(str(source)) as camera:
        return [frame async for frame in camera]


async def test_every_frame_of_a_clip_is_seen_once_in_order(dive: Path) -> None:
    indices, shapes = [], set()
    async with Camera.open(str(dive)) as camera:
        assert not camera.is_live
        async for frame in camera:
            indices.append(frame.index)
            shapes.add((frame.image.shape, frame.image.dtype.name))
            if frame.index % 200 == 0:
                await asyncio.sleep(0)
    assert indices == list(range(599))
    assert shapes == {((720, 1280, 3), "uint8")}


async def test_images_are_rgb(tmp_path: Path) -> None:
    blue_in_bgr = np.zeros((8, 8, 3), np.uint8)
    blue_in_bgr[..., 0] = 255
    cv2.imwrite(str(tmp_path / "blue.png"), blue_in_bgr)
    (frame,) = await all_of(tmp_path / "blue.png")
    assert frame.image[0, 0].tolist() == [0, 0, 255]


async def test_a_folder_gives_its_pictures_by_name_and_leaves_broken_ones_out(
    tmp_path: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(photos / "cat.webp", tmp_path / "a.webp")
    (tmp_path / "b.jpg").write_bytes(b"not a picture")
    shutil.copy(photos / "rocket.jpg", tmp_path / "c.jpg")
    (tmp_path / "notes.txt").write_text("not looked at")
    frames = await all_of(tmp_path)
    assert [frame.index for frame in frames] == [0, 1]
    assert frames[0].image.shape != frames[1].image.shape
    assert "left out" in caplog.text
    assert "b.jpg" in caplog.text


async def test_leaving_early_closes_the_clip(dive: Path) -> None:
    async with Camera.open(str(dive)) as camera:
        async for frame in camera:
            if frame.index == 3:
                break
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("frames")]


def test_what_cannot_be_looked_at_is_one_clear_error(tmp_path: Path, dive: Path) -> None:
    with pytest.raises(FrameError, match="no such clip, picture or folder: .*missing.mp4"):
        Camera.open(str(tmp_path / "missing.mp4"))
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(FrameError, match=r"no frame of .*text\.mp4 can be decoded"):
        Camera.open(str(tmp_path / "text.mp4"))
    (tmp_path / "cut.mp4").write_bytes(dive.read_bytes()[:50_000])
    with pytest.raises(FrameError, match=r"no frame of .*cut\.mp4"):
        Camera.open(str(tmp_path / "cut.mp4"))
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(FrameError, match=r"the picture .*empty\.png cannot be decoded"):
        Camera.open(str(tmp_path / "empty.png"))
    with pytest.raises(FrameError, match="no pictures in"):
        (tmp_path / "none").mkdir()
        Camera.open(str(tmp_path / "none"))


async def test_a_damaged_clip_gives_what_it_has_and_a_warning(
    tmp_path: Path, dive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = bytearray(dive.read_bytes())
    half = len(content) // 2
    content[half : half + 800_000] = bytes(800_000)  # the index at the end stays
    (tmp_path / "damaged.mp4").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        frames = 0
        async with Camera.open(str(tmp_path / "damaged.mp4")) as camera:
            async for _ in camera:
                frames += 1
    assert 0 < frames <= 599
    assert frames == 599 or "is it cut short?" in caplog.text


class MjpegServer(http.server.ThreadingHTTPServer):
    """Sends ``per_connection`` pictures to each client, then hangs up."""

    daemon_threads = True

    def __init__(self, per_connection: int) -> None:
        picture = cv2.imencode(".jpg", np.full((48, 64, 3), 80, np.uint8))[1].tobytes()
        self.part = b"--f\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(picture), picture)
        self.per_connection = per_connection
        self.connections = 0
        super().__init__(("127.0.0.1", 0), MjpegHandler)


class MjpegHandler(http.server.BaseHTTPRequestHandler):
    server: MjpegServer

    def do_GET(self) -> None:
        self.server.connections += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=f")
        self.end_headers()
        try:
            for _ in range(self.server.per_connection):
                self.wfile.write(self.server.part)
        except OSError:
            pass

    def log_message(self, *args: object) -> None:
        """Stay quiet."""


@contextmanager
def mjpeg(per_connection: int) -> Iterator[MjpegServer]:
    server = MjpegServer(per_connection)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_stream_that_stops_is_opened_again_and_says_so() -> None:
    states: list[CameraState] = []
    with mjpeg(per_connection=40) as server:
        url = f"http://127.0.0.1:{server.server_port}/camera.mjpg"
        async with LiveCamera(url, on_state=states.append, retry_pauses_s=(0.01,)) as camera, asyncio.timeout(30):
            async for _ in camera:
                if server.connections >= 3 and len(states) >= 3:
                    break
    assert [state.is_connected for state in states[:3]] == [True, False, True]
    assert "stopped delivering frames" in states[1].reason
    assert states[1].retry_in_s == 0.01


async def test_a_slow_reader_of_a_live_source_gets_the_newest_frame_and_the_rest_is_counted() -> None:
    with mjpeg(per_connection=100_000) as server:
        url = f"http://127.0.0.1:{server.server_port}/camera.mjpg"
        async with LiveCamera(url, on_state=None, retry_pauses_s=(60,)) as camera, asyncio.timeout(30):
            frames = camera.every(0)
            first = await anext(frames)
            before = camera.dropped
            while camera.dropped < before + 50:
                await asyncio.sleep(0)
            second = await anext(frames)
            assert second.index - first.index - 1 >= 50
            await close(frames)


async def test_a_camera_that_is_not_there_is_tried_again() -> None:
    states: list[CameraState] = []
    arrived = asyncio.Event()

    def note(state: CameraState) -> None:
        states.append(state)
        if len(states) >= 3:
            arrived.set()

    async with LiveCamera("/dev/video-none", on_state=note, retry_pauses_s=(0.01, 0.02)), asyncio.timeout(30):
        await arrived.wait()
    assert [state.retry_in_s for state in states[:3]] == [0.01, 0.02, 0.02]
    assert {state.reason for state in states} == {"cannot be opened"}


async def test_a_password_in_a_url_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    arrived = asyncio.Event()
    url = "http://user:secret@127.0.0.1:1/camera"
    async with LiveCamera(url, on_state=lambda _: arrived.set(), retry_pauses_s=(60,)), asyncio.timeout(30):
        await arrived.wait()
    assert "127.0.0.1:1/camera" in caplog.text
    assert "secret" not in caplog.text


async def close(frames: AsyncIterator[Frame]) -> None:
    await frames.aclose()  # type: ignore[attr-defined]

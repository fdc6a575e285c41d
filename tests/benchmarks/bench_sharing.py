"""Frames by reference against frames by value, between two processes.

The other process answers each frame with its brightest pixel, so that it has read it all. By value a frame travels as
IPC carries bytes: in base64 within JSON, over a Unix socket, with nothing in between; by reference the same way, but
for the frame itself. Medians of a hundred round trips each, in turns.
"""

import base64
import json
import multiprocessing
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from monodon.component.sharing import Sharer, receive

ROUNDS = 100
SHAPES = {"640x480": (480, 640, 3), "1280x720": (720, 1280, 3), "1920x1080": (1080, 1920, 3)}


def send(end: socket.socket, message: Any) -> None:
    """Send a JSON message."""
    body = json.dumps(message).encode()
    end.sendall(struct.pack(">I", len(body)) + body)


def take(end: socket.socket) -> Any:
    """Receive one."""
    (length,) = struct.unpack(">I", end.recv(4, socket.MSG_WAITALL))
    return json.loads(end.recv(length, socket.MSG_WAITALL))


def viewer(end: socket.socket) -> None:
    """Answer each frame with its brightest pixel, until there are no more."""
    while (message := take(end)) is not None:
        if "frame" in message:
            with receive(message["frame"]) as shared:
                brightest = int(shared.array.max())
        else:
            shape = message["shape"]
            brightest = int(np.frombuffer(base64.b64decode(message["bytes"]), np.uint8).reshape(shape).max())
        send(end, brightest)


def main() -> dict[str, Any]:
    """Return milliseconds of a round trip for each size, by reference and by value."""
    mine, others = socket.socketpair()
    process = multiprocessing.get_context("spawn").Process(target=viewer, args=(others,))
    process.start()
    others.close()
    sharer = Sharer()

    def by_reference(frame: Any) -> None:
        send(mine, {"frame": asdict(sharer.share(frame))})

    def by_value(frame: Any) -> None:
        send(mine, {"shape": frame.shape, "bytes": base64.b64encode(frame).decode()})

    ways = {"by_reference": by_reference, "by_value": by_value}
    figures = {name: _measure(mine, shape, ways) for name, shape in SHAPES.items()}
    send(mine, None)
    process.join()
    mine.close()
    sharer.close()
    for name, each in figures.items():
        print(f"{name}: {each['by_reference_ms']} ms by reference, {each['by_value_ms']} by value", file=sys.stderr)
    return {"rounds": ROUNDS, "sizes": figures}


def _measure(end: socket.socket, shape: tuple[int, ...], ways: Mapping[str, Callable[[Any], None]]) -> dict[str, float]:
    frame = np.random.default_rng(1).integers(0, 255, shape, np.uint8)
    frame[-1, -1, -1] = 255
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 5):
        for name, way in ways.items():
            started = time.perf_counter()
            way(frame)
            assert take(end) == 255
            if number >= 5:
                took[name].append((time.perf_counter() - started) * 1000)
    medians = {f"{name}_ms": round(statistics.median(each), 2) for name, each in took.items()}
    return {**medians, "times_faster": round(medians["by_value_ms"] / medians["by_reference_ms"], 1)}

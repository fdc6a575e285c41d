"""Messages of a device as a file: one JSON object a line, with the time at which each came.

``{"time": 1790000000.25, "topic": "a/b", "message": {…}}``; bytes are ``"binary"`` in base64, messages of AWS IoT Core
carry ``"iot": true``.
"""

import asyncio
import base64
import binascii
import json
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from monodon.component.messages import CONNECTION_LOST, Message
from monodon.core.json import Json
from monodon.device.device import Device
from monodon.device.operations import to_text
from monodon.errors import IpcError, StateError

_CONTROLS = {number: repr(chr(number))[1:-1] for number in (*range(32), *range(127, 160))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One message and when it came, in seconds since 1970; ``content`` as in a Message."""

    time_s: float
    topic: str
    content: dict[str, Json] | bytes
    is_iot: bool = False

    @property
    def line(self) -> str:
        """The message as a line of a recording."""
        record: dict[str, Json] = {"time": round(self.time_s, 6), "topic": self.topic}
        if isinstance(self.content, bytes):
            record["binary"] = base64.b64encode(self.content).decode()
        else:
            record["message"] = self.content
        if self.is_iot:
            record["iot"] = True
        return to_text(record)

    @property
    def text(self) -> str:
        """Topic and message for people: one line, in which nothing steers a terminal."""
        try:
            content = self.content.decode() if isinstance(self.content, bytes) else to_text(self.content)
        except UnicodeDecodeError:
            content = f"<{len(self.content)} bytes>"
        return f"{self.topic} {content}".translate(_CONTROLS).encode(errors="backslashreplace").decode()


def read_recording(path: Path) -> list[Recorded]:
    """Return the messages of a recording, as they stand there.

    Raises:
        StateError: it cannot be read, or a line is no message; the error names it.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a topic may hold other line ends
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"{path} cannot be read: {error}") from error
    return [_read(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def _read(line: str, where: str) -> Recorded:
    try:
        record = json.loads(line)
        content = record["message"] if "message" in record else base64.b64decode(record["binary"], validate=True)
        if not isinstance(content, dict | bytes) or not isinstance(record["topic"], str):
            raise TypeError("not of the right types")
        is_iot, time_s = bool(record.get("iot", False)), float(record["time"])
        if not math.isfinite(time_s):
            raise ValueError("no time")
        return Recorded(time_s=time_s, topic=record["topic"], content=content, is_iot=is_iot)
    except (ValueError, OverflowError, KeyError, TypeError, binascii.Error) as error:
        raise StateError(f"{where}: no recorded message: {error!r}") from error


def _recorded(message: Message, is_iot: bool) -> Recorded:
    content = message.content if isinstance(message.content, bytes) else dict(message.content)
    return Recorded(time_s=time.time(), topic=message.topic, content=content, is_iot=is_iot)


async def watch(
    device: Device,
    filters: Sequence[str],
    *,
    is_iot: bool = False,
    on_ready: Callable[[], None] = lambda: None,
    on_gap: Callable[[], None] | None = None,
) -> AsyncGenerator[Recorded, None]:
    """Yield every message under the filters as it comes; one that two of them cover comes twice.

    Args:
        on_ready: called once nothing published from then on is missed.
        on_gap: called before a message that others may be missing before.

    Raises:
        IpcError: the nucleus refuses a filter, or is gone for good.
    """
    async with device.subscribe(*filters, iot=is_iot, on_gap=on_gap) as messages:
        on_ready()
        async for message in messages:
            yield _recorded(message, is_iot)


async def replay(
    device: Device, recording: Iterable[Recorded], *, speed: float = 1.0, on_gap: Callable[[], None] = lambda: None
) -> int:
    """Publish the messages again in order, with the pauses between them divided by ``speed``; return how many.

    A ``speed`` of 0 leaves out the pauses. A message that was under way when the nucleus ended is published once more
    when it is back.

    Args:
        on_gap: called before a message is published once more: it may come twice.

    Raises:
        IpcError: the nucleus refuses one, or does not come back.
    """
    loop = asyncio.get_running_loop()
    begun_s, count = loop.time(), 0
    for after_s, each in _paced(recording):
        if speed:
            await asyncio.sleep(begun_s + after_s / speed - loop.time())
        try:
            await _publish(device, each)
        except IpcError as error:
            if error.code != CONNECTION_LOST:
                raise
            on_gap()
            await _publish(device, each)
        count += 1
    return count


async def _publish(device: Device, message: Recorded) -> None:
    if message.is_iot:
        await device.publish_to_iot(message.topic, message.content)
    else:
        await device.publish(message.topic, message.content)


def _paced(recording: Iterable[Recorded]) -> Iterator[tuple[float, Recorded]]:
    """Yield each message and its seconds after the first; time that ran backwards counts as none."""
    first_s: float | None = None
    latest_s = 0.0
    for each in recording:
        first_s = each.time_s if first_s is None else first_s
        latest_s = max(latest_s, each.time_s - first_s)
        yield latest_s, each

"""Recordings: lines, and publishing them again with their pauses."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.device.recording import Recorded, read_recording, replay
from monodon.errors import IpcError, StateError

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_CONTENT = st.binary(max_size=8) | st.dictionaries(_TEXT, st.none() | st.booleans() | st.integers() | _TEXT, max_size=3)
_RECORDED = st.builds(
    Recorded,
    time_s=st.integers(0, 2_000_000_000).map(float),
    topic=_TEXT,
    content=_CONTENT,
    is_iot=st.booleans(),
)


@settings(deadline=None)
@given(st.lists(_RECORDED, max_size=5))
def test_what_was_recorded_is_read_back(messages: list[Recorded]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.jsonl"
        path.write_text("".join(f"{each.line}\n" for each in messages), encoding="utf-8")
        assert read_recording(path) == messages


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"time": 1, "topic": "a"}',
        '{"time": NaN, "topic": "a", "message": {}}',
        '{"time": Infinity, "topic": "a", "message": {}}',
        '{"time": 1' + "0" * 400 + ', "topic": "a", "message": {}}',
        '{"time": "x", "topic": "a", "message": {}}',
        '{"time": 1, "topic": "a", "message": [1]}',
        '{"time": 1, "topic": 5, "message": {}}',
        '{"time": 1, "topic": "a", "binary": "?"}',
    ],
)
def test_a_line_that_is_no_message_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"time": 1, "topic": "a", "message": {}}\n\n' + line)
    with pytest.raises(StateError, match=r"r\.jsonl:3: no recorded message"):
        read_recording(path)


@pytest.mark.parametrize(
    ("topic", "content", "text"),
    [
        ("a/b", {"ü": "\x1b[2J"}, 'a/b {"ü": "\\u001b[2J"}'),
        ("a\x1b]0;owned\x07", b"two\nlines\r\t\x9b", "a\\x1b]0;owned\\x07 <12 bytes>"),
        ("half \ud800", {"x": "é\udfff"}, r'half \ud800 {"x": "\u00e9\udfff"}'),
        ("a", "two\nlines \x9b31m\x7f".encode(), "a two\\nlines \\x9b31m\\x7f"),
    ],
)
def test_what_people_see_is_one_line_that_steers_no_terminal(topic: str, content: Any, text: str) -> None:
    recorded = Recorded(time_s=0, topic=topic, content=content)
    assert recorded.text == text
    assert recorded.line.encode()


class Sink:
    """A device that notes what is published on it, and when."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any, float]] = []

    async def publish(self, topic: str, message: Any) -> None:
        self.sent.append((topic, message, asyncio.get_running_loop().time()))

    async def publish_to_iot(self, topic: str, payload: Any) -> None:
        await self.publish(f"iot:{topic}", payload)


RECORDING = [
    Recorded(time_s=1000.0, topic="a", content={"n": 1}),
    Recorded(time_s=1000.2, topic="b", content=b"2", is_iot=True),
    Recorded(time_s=999.0, topic="c", content={}),
    Recorded(time_s=1000.4, topic="d", content={}),
]


@pytest.mark.parametrize(("speed", "least_s"), [(1.0, 0.4), (2.0, 0.2), (0.0, 0.0)])
async def test_the_pauses_are_kept_at_the_speed_asked_for(speed: float, least_s: float) -> None:
    sink: Any = Sink()
    assert await replay(sink, RECORDING, speed=speed) == 4
    assert [topic for topic, _, _ in sink.sent] == ["a", "iot:b", "c", "d"]
    times = [at for _, _, at in sink.sent]
    assert times[1] - times[0] >= 0.99 * least_s / 2
    assert times[3] - times[0] >= 0.99 * least_s
    assert times[3] - times[0] < least_s + 5


async def test_what_was_lost_with_the_nucleus_is_published_once_more() -> None:
    """Once: a nucleus that does not come back ends the replay."""

    class Restarting(Sink):
        losses = 1

        async def publish(self, topic: str, message: Any) -> None:
            if topic == "c" and self.losses:
                self.losses -= 1
                raise IpcError("the connection broke", code="ConnectionLost")
            await super().publish(topic, message)

    sink: Any = Restarting()
    gaps: list[int] = []
    assert await replay(sink, RECORDING, speed=0, on_gap=lambda: gaps.append(len(sink.sent))) == 4
    assert [topic for topic, _, _ in sink.sent] == ["a", "iot:b", "c", "d"]
    assert gaps == [2]
    sink.losses = 2
    with pytest.raises(IpcError, match="the connection broke"):
        await replay(sink, RECORDING, speed=0)

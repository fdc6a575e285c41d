"""One child: its lines however they are cut, its end, its pipes, and orphans that are reaped."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.nucleus import orphans
from monodon.nucleus.process import Command, Lines, Process, is_running_child

DEADLINE_S = 20.0


class Output:
    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {"stdout": [], "stderr": []}

    def __call__(self, stream: str, lines: Sequence[str]) -> None:
        self.lines[stream] += lines


def command(script: str, **environment: str) -> Command:
    return Command(script=script, environment={"PATH": os.environ["PATH"], **environment}, folder=Path.cwd())


async def ended(process: Process) -> int:
    async with asyncio.timeout(DEADLINE_S):
        code = await process.wait()
    process.close()
    return code


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=12)), st.data())
def test_lines_are_the_same_however_the_bytes_are_cut(texts: list[str], data: st.DataObject) -> None:
    whole = "".join(text + "\n" for text in texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    lines = Lines(max_bytes=1000)
    seen = [
        line
        for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)
        for line in lines.feed(whole[start:stop])
    ]
    assert seen + lines.flush() == texts


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1, max_size=200))
def test_a_long_line_comes_in_pieces_that_cut_no_character(text: str) -> None:
    lines = Lines(max_bytes=16)
    pieces = lines.feed(text.encode()) + lines.flush()
    assert "".join(pieces) == text
    assert all(len(piece.encode()) <= 16 for piece in pieces)


def test_bytes_that_are_no_text_and_windows_line_ends() -> None:
    lines = Lines()
    assert lines.feed(b"a\r\n\xff\xfe\nb") == ["a", "\ufffd\ufffd"]
    assert lines.flush() == ["b"]
    assert lines.flush() == []


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 100", 100), ("kill -9 $$", -9)])
async def test_the_exit_code_and_all_output_before_it(script: str, code: int) -> None:
    output = Output()
    before = descriptors()
    process = Process(command(f"seq 3000; echo bad >&2; printf last; {script}"), output)
    assert is_running_child(process.pid)
    assert await ended(process) == code == process.returncode
    assert output.lines["stdout"] == [*map(str, range(1, 3001)), "last"]
    assert process.tail == ("bad",)
    assert descriptors() == before
    assert not is_running_child(process.pid)


async def test_the_last_lines_of_stderr_are_kept_short() -> None:
    process = Process(command("seq 30 >&2; head -c 1000 /dev/zero | tr '\\0' x >&2; echo >&2"), Output())
    await ended(process)
    assert process.tail == (*map(str, range(22, 31)), "x" * 300)


async def test_many_exit_codes_are_all_right() -> None:
    async with orphans.Reaper(is_running_child):
        processes = [Process(command(f"exit {number}"), Output()) for number in range(60)]
        assert [await ended(process) for process in processes] == list(range(60))


async def test_a_script_begins_only_when_it_was_admitted(tmp_path: Path) -> None:
    admitted: list[int] = []
    output = Output()
    path = tmp_path / "began"

    def admit(pid: int) -> None:
        assert not path.exists()
        admitted.append(pid)

    process = Process(command(f"touch {path}; echo $$; read -r line; echo never"), output, admit)
    async with asyncio.timeout(DEADLINE_S):
        while not output.lines["stdout"]:
            await asyncio.sleep(0.005)
    assert output.lines["stdout"] == [str(process.pid)]
    assert admitted == [process.pid]
    await orphans.end(lambda: orphans.alive([process.pid]))
    assert await ended(process) < 0


async def test_who_is_refused_never_begins(tmp_path: Path) -> None:
    def refuse(pid: int) -> None:
        raise OSError("no")

    before = descriptors()
    with pytest.raises(OSError, match="no"):
        Process(command(f"touch {tmp_path}/began"), Output(), refuse)
    async with asyncio.timeout(DEADLINE_S):
        while descriptors() != before:
            await asyncio.sleep(0.005)
    assert not (tmp_path / "began").exists()


async def test_orphans_are_adopted_found_by_their_mark_and_reaped() -> None:
    async with orphans.Reaper(is_running_child):
        script = "setsid sh -c 'sleep 1000 & exec sleep 1000' >/dev/null 2>&1 & echo $!"
        output = Output()
        process = Process(command(script, **{orphans.MARK: "/root/of/A"}), output)
        await ended(process)
        first = int(output.lines["stdout"][0])

        def found() -> list[int]:
            return orphans.alive(orphans.marked(orphans.children(os.getpid()), "/root/of/A"))

        async with asyncio.timeout(DEADLINE_S):
            while len(found()) < 2:
                await asyncio.sleep(0.005)
        assert first in found()
        assert orphans.marked(found(), "/root/of/") == found()
        assert orphans.marked(found(), "/root/of/B") == []
        assert await orphans.end(found) == []
        async with asyncio.timeout(DEADLINE_S):
            while orphans.children(os.getpid()):
                await asyncio.sleep(0.005)


async def test_who_ignores_sigterm_is_killed_after_the_grace() -> None:
    output = Output()
    process = Process(command("trap '' TERM; echo ready; while :; do sleep 1000; done"), output)
    async with asyncio.timeout(DEADLINE_S):
        while not output.lines["stdout"]:
            await asyncio.sleep(0.005)
    assert await orphans.end(lambda: orphans.alive([process.pid]), grace_s=0.1) == []
    assert await ended(process) == -9

"""One child process: started in a session of its own, its lines streamed, its end noticed by pidfd.

No asyncio subprocess: its watchers lose exit codes beside a reaper of orphans. Output is read in bounded pieces,
written to the log before the next piece is read, so a process that floods its output waits, not the nucleus.
"""

import asyncio
import functools
import os
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

#: Longer lines are logged in pieces.
MAX_LINE_BYTES = 16 * 1024
#: Small, since a piece may be thousands of lines and nothing else happens while they are written.
READ_BYTES = 8 * 1024
#: What is still in the pipes when a process ends is read up to this much before its end is reported.
_DRAIN_BYTES = 1024 * 1024
_TAIL_LINES = 10
_TAIL_CHARACTERS = 300

_RUNNING_PIDS: set[int] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """As whom a process runs when it is not the nucleus's own user."""

    name: str
    home: str
    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run: a script for the shell, in a folder, with exactly this environment."""

    script: str
    environment: Mapping[str, str]
    folder: Path
    shell: str = "sh"
    account: Account | None = None


class Lines:
    """Bytes in, lines out, however the bytes are cut; a line over the limit comes in pieces."""

    def __init__(self, max_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that ``data`` completes, without their ends; bytes that are no UTF-8 become U+FFFD."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        lines = [text for line in whole for text in self._pieces(line.removesuffix(b"\r"))]
        while len(self._rest) > self._max_bytes:
            piece = self._piece(self._rest)
            lines.append(piece.decode("utf-8", "replace"))
            self._rest = self._rest[len(piece) :]
        return lines

    def flush(self) -> list[str]:
        """Return what came without a line end."""
        rest, self._rest = self._rest, b""
        return self._pieces(rest) if rest else []

    def _pieces(self, line: bytes) -> list[str]:
        pieces = []
        while len(line) > self._max_bytes:
            piece = self._piece(line)
            pieces.append(piece.decode("utf-8", "replace"))
            line = line[len(piece) :]
        return [*pieces, line.decode("utf-8", "replace")]

    def _piece(self, line: bytes) -> bytes:
        """The longest beginning within the limit that does not cut a character in two."""
        end = self._max_bytes
        while end > self._max_bytes - 4 and line[end] & 0xC0 == 0x80:
            end -= 1
        return line[:end]


class _Stream:
    """One of the two outputs of a process, read when there is something to read."""

    def __init__(self, pipe: IO[bytes], deliver: Callable[[list[str]], None]) -> None:
        self._pipe = pipe
        self._deliver = deliver
        self._lines = Lines()
        self._loop = asyncio.get_running_loop()
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe.fileno(), self._read)

    def drain(self) -> None:
        """Deliver what is in the pipe now."""
        left = _DRAIN_BYTES
        while not self._pipe.closed and left > 0:
            got = self._read()
            if not got:
                break
            left -= got

    def close(self) -> None:
        """Deliver the rest, also a line without an end, and close the pipe."""
        if self._pipe.closed:
            return
        self._loop.remove_reader(self._pipe.fileno())
        self._pipe.close()
        if lines := self._lines.flush():
            self._deliver(lines)

    @property
    def is_closed(self) -> bool:
        return self._pipe.closed

    def _read(self) -> int:
        try:
            data = os.read(self._pipe.fileno(), READ_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            self.close()
            return 0
        if lines := self._lines.feed(data):
            self._deliver(lines)
        return len(data)


class Process:
    """A child that runs, or has ended. `close` it once all that may hold its pipes has been ended."""

    def __init__(
        self,
        command: Command,
        on_lines: Callable[[str, Sequence[str]], None],
        admit: Callable[[int], None] | None = None,
    ) -> None:
        """Start ``command`` on the running loop.

        Args:
            on_lines: given ``stdout`` or ``stderr`` and the lines just printed.
            admit: given the pid before the script begins, to put the process under limits.

        Raises:
            OSError: it could not be started. ValueError: a NUL in the script or the environment.
        """
        self._on_lines = on_lines
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._popen = _popen(command, is_gated=admit is not None)
        _RUNNING_PIDS.add(self._popen.pid)
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self._streams = (
            _Stream(self._popen.stdout, lambda lines: self._deliver("stdout", lines)),
            _Stream(self._popen.stderr, lambda lines: self._deliver("stderr", lines)),
        )
        try:
            self._pidfd = os.pidfd_open(self._popen.pid)
        except OSError:
            self._give_up()
            raise
        self._loop.add_reader(self._pidfd, self._on_exit)
        if admit is not None:
            self._admit(admit)

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its group and session."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the number of the signal that ended it; None while it runs."""
        return self._popen.returncode

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines on stderr, each shortened."""
        return tuple(self._tail)

    @property
    def is_closed(self) -> bool:
        """Whether it has ended, and nobody below it holds its outputs open."""
        return self._ended.done() and all(stream.is_closed for stream in self._streams)

    async def wait(self) -> int:
        """Return `returncode` as soon as there is one and its output up to there has been delivered."""
        return await asyncio.shield(self._ended)

    def close(self) -> None:
        """Stop listening to its pipes; one that still runs is waited for all the same."""
        for stream in self._streams:
            stream.close()
        self._close_stdin()

    def _admit(self, admit: Callable[[int], None]) -> None:
        assert self._popen.stdin is not None
        try:
            admit(self.pid)
            self._popen.stdin.write(b"\n")
        except OSError:
            self._popen.kill()
            self.close()
            raise

    def _give_up(self) -> None:
        """Without a pidfd its end would go unnoticed: it must not live."""
        self._popen.kill()
        self._popen.wait()
        _RUNNING_PIDS.discard(self.pid)
        self.close()

    def _deliver(self, stream: str, lines: Sequence[str]) -> None:
        if stream == "stderr":
            self._tail.extend(line[:_TAIL_CHARACTERS] for line in lines[-_TAIL_LINES:])
        self._on_lines(stream, lines)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        code = self._popen.wait()
        _RUNNING_PIDS.discard(self.pid)
        for stream in self._streams:
            stream.drain()
        if all(stream.is_closed for stream in self._streams):
            self._close_stdin()
        self._ended.set_result(code)

    def _close_stdin(self) -> None:
        if self._popen.stdin is not None:
            self._popen.stdin.close()


def is_running_child(pid: int) -> bool:
    """Say whether ``pid`` is a child started here whose end is still to be noticed."""
    return pid in _RUNNING_PIDS


@functools.lru_cache(maxsize=64)
def _program(name: str, path: str | None) -> str | None:
    """Where a program is; looked up here once, and not in every child while its parent waits."""
    return shutil.which(name, path=path)


def _popen(command: Command, *, is_gated: bool) -> "subprocess.Popen[bytes]":
    arguments = [command.shell, "-c", command.script]
    if is_gated:
        arguments = ["sh", "-c", 'read -r _ && exec "$@"', "sh", *arguments]
    account = command.account
    return subprocess.Popen(
        arguments,
        executable=_program(arguments[0], command.environment.get("PATH")),
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=command.folder,
        env=dict(command.environment),
        start_new_session=True,
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else account.groups,
    )

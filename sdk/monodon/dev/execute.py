"""``dev exec``: any command as a component of a nucleus of its own, for as long as the command runs."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from monodon.core.json import Json
from monodon.core.policy import SERVICES
from monodon.errors import StateError

#: Seconds that the nucleus may take to stop.
STOP_S = 20.0
#: What a shell answers: not found, found but not to be run, ended by a signal (plus its number).
NOT_FOUND, NOT_EXECUTABLE, BY_SIGNAL = 127, 126, 128


def allow_everything() -> dict[str, Json]:
    """Return an ``accessControl`` that allows every operation of every service."""
    return {service: {"dev": {"operations": ["*"], "resources": ["*"]}} for service in sorted(SERVICES)}


def execute(command: Sequence[str], *, name: str, configuration: Mapping[str, Json], thing: str = "local") -> int:
    """Run ``command`` as component ``name`` and return its exit code; it keeps its folder, terminal and environment.

    The nucleus lives in a temporary root, has no cloud (IoT topics go round in memory), and leaves nothing behind.
    SIGTERM and SIGHUP are passed on to the command; Ctrl-C reaches it by itself.

    Raises:
        StateError: the nucleus could not start.
    """
    order = {"name": name, "thing": thing, "configuration": dict(configuration)}
    with _hosted(order) as environment, _passing_on() as started:
        try:
            process = subprocess.Popen(command, env={**os.environ, **environment})
        except FileNotFoundError:
            print(f"error: no such command: {command[0]}", file=sys.stderr)  # noqa: T201
            return NOT_FOUND
        except OSError as error:
            print(f"error: {command[0]} cannot be run: {error.strerror}", file=sys.stderr)  # noqa: T201
            if error.errno == errno.ENOEXEC:
                print("hint: a script begins with its interpreter, such as #!/bin/sh", file=sys.stderr)  # noqa: T201
            return NOT_EXECUTABLE
        started(process)
        code = process.wait()
    return BY_SIGNAL - code if code < 0 else code


@contextmanager
def _hosted(order: Mapping[str, Json]) -> Iterator[dict[str, str]]:
    """A nucleus in a process of its own; what the component finds in its environment."""
    host = subprocess.Popen(
        [sys.executable, "-m", "monodon.dev.hosting"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert host.stdin is not None
    assert host.stdout is not None
    try:
        host.stdin.write(json.dumps(order) + "\n")
        host.stdin.flush()
        line = host.stdout.readline()
        answer: dict[str, Json] = json.loads(line) if line else {"error": "the nucleus ended at once", "hint": None}
        if "error" in answer:
            raise StateError(answer["error"], hint=answer["hint"])
        yield answer["environment"]
    finally:
        host.stdin.close()  # tells it to stop
        host.stdout.close()
        try:
            host.wait(STOP_S)
        except subprocess.TimeoutExpired:
            host.kill()
            host.wait()


@contextmanager
def _passing_on() -> Iterator[Callable[["subprocess.Popen[bytes]"], None]]:
    """SIGTERM and SIGHUP are for the command, also if they come while that starts; SIGINT comes from the terminal.

    Yields what takes the process, once there is one.
    """
    early: list[int] = []
    commands: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if commands:
            commands[0].send_signal(number)
        else:
            early.append(number)

    def started(process: "subprocess.Popen[bytes]") -> None:
        commands.append(process)
        for number in early:
            process.send_signal(number)

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, pass_on)}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, pass_on)
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield started
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

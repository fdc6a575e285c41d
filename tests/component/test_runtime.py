"""``Component.run`` as a real process: under a nucleus, and on a plain terminal."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import monodon

MAIN = Path(__file__).parent / "echo" / "main.py"
SDK = Path(monodon.__file__).parents[1]
NAME = "com.example.Echo"


@dataclass(frozen=True)
class Settings:
    """What the echo component understands."""

    heard: str = "echo/in"
    said: str = "echo/out"
    times: int = 1
    trouble: str = ""


@pytest.fixture(autouse=True)
async def _in_time() -> Any:
    async with asyncio.timeout(30):
        yield


@dataclass(frozen=True)
class Ended:
    code: int | None
    out: list[str]
    err: list[str]


class Running:
    """A component's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def end(self) -> Ended:
        out, err = await self.process.communicate()
        return Ended(self.process.returncode, out.decode().splitlines(), err.decode().splitlines())

    async def terminate(self, which: signal.Signals = signal.SIGTERM) -> Ended:
        self.process.send_signal(which)
        return await self.end()


@asynccontextmanager
async def started(work: Path, environ: dict[str, str], arguments: Sequence[str] = ()) -> AsyncIterator[Running]:
    """The echo component, with no HOME, no PATH and nothing else in its environment."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", str(MAIN), *arguments),
        cwd=work,
        env={"PYTHONPATH": str(SDK), "TMPDIR": "/proc", **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    running = Running(process)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
            await running.end()


def under(nucleus: Any, work: Path, **settings: Any) -> Any:
    return started(work, nucleus.install(Settings(**settings), name=NAME))


async def test_it_runs_under_a_nucleus_until_sigterm_and_cleans_up_over_ipc(
    socket_nucleus: Any, tmp_path: Path
) -> None:
    async with under(socket_nucleus, tmp_path, times=2) as echo:
        await socket_nucleus.nucleus.wait_for_state("RUNNING", name=NAME, timeout_s=20)
        await socket_nucleus.nucleus.publish("echo/in", {"n": 1})
        await socket_nucleus.nucleus.wait_for("echo/out", 2)
        await socket_nucleus.set_configuration({"times": 1}, name=NAME)
        await again(socket_nucleus, "GetConfiguration", 3)
        ended = await echo.terminate()
    assert ended.code == 0
    assert ended.err == []
    assert socket_nucleus.nucleus.published("echo/out") == [
        {"echo": {"n": 1}, "of": NAME},
        {"echo": {"n": 1}, "of": NAME},
        {"bye": "loopback"},
    ]
    assert ended.out[0].startswith("INFO __main__: settings Settings(heard='echo/in'")
    assert f"artifacts echo, work {tmp_path}" in ended.out[0]
    assert "INFO monodon.component.runtime: asked to stop (SIGTERM)" in ended.out


async def again(nucleus: Any, operation: str, count: int) -> None:
    while nucleus.requests.count(operation) < count:
        await asyncio.sleep(0.005)


async def test_it_runs_against_the_devices_own_services(services_world: Any, tmp_path: Path) -> None:
    async with under(services_world, tmp_path) as echo:
        await services_world.wait_for_state("RUNNING", name=NAME)
        await services_world.set_configuration({"said": "changed/out"}, name=NAME)
        await services_world.publish("echo/in", {"n": 1})
        while not services_world.published("+/out"):
            await asyncio.sleep(0.005)
        ended = await echo.terminate()
    assert (ended.code, ended.err) == (0, [])
    assert services_world.published("+/out") == [{"echo": {"n": 1}, "of": NAME}, {"bye": "loopback"}]


async def test_it_outlives_a_dropped_connection(socket_nucleus: Any, tmp_path: Path) -> None:
    async with under(socket_nucleus, tmp_path) as echo:
        await socket_nucleus.nucleus.wait_for_state("RUNNING", name=NAME, timeout_s=20)
        await socket_nucleus.drop()
        await again(socket_nucleus, "SubscribeToTopic", 2)
        await socket_nucleus.nucleus.publish("echo/in", {"n": 2})
        await socket_nucleus.nucleus.wait_for("echo/out")
        ended = await echo.terminate()
    assert ended.code == 0
    assert ended.err == ["WARNING monodon.component.connection: the connection to the nucleus is lost; trying again"]


@pytest.mark.parametrize(
    ("trouble", "last_lines"),
    [
        ("error", ["error: labels.txt has 3 labels, the model 1000", "hint: publish both again"]),
        ("group", ["error: labels.txt has 3 labels, the model 1000", "hint: publish both again"]),
        ("crash", ["ValueError: two", "lines", "error: the component failed: ValueError: two | lines"]),
    ],
)
async def test_an_error_ends_it_with_1_and_a_clear_last_line(
    socket_nucleus: Any, tmp_path: Path, trouble: str, last_lines: list[str]
) -> None:
    async with under(socket_nucleus, tmp_path, trouble=trouble) as echo:
        ended = await echo.end()
    assert ended.code == 1
    assert ended.err[-len(last_lines) :] == last_lines
    assert ("Traceback (most recent call last):" in ended.err) == (trouble == "crash")


async def test_settings_that_do_not_fit_are_one_clear_line(socket_nucleus: Any, tmp_path: Path) -> None:
    environ = socket_nucleus.install(Settings(), name=NAME)
    await socket_nucleus.nucleus.set_configuration({"times": "often"}, name=NAME, validate=False)
    async with started(tmp_path, environ) as echo:
        ended = await echo.end()
    assert ended.code == 1
    assert ended.err[0] == "error: configuration does not fit Settings: times = 'often': expected a whole number"


async def test_half_an_environment_is_told_apart_from_a_terminal(tmp_path: Path) -> None:
    async with started(tmp_path, {"SVCUID": "token"}) as echo:
        ended = await echo.end()
    assert ended.code == 1
    assert "the environment has no AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT" in ended.err[0]


async def test_log_lines_are_whole_and_sorted_by_level(socket_nucleus: Any, tmp_path: Path) -> None:
    async with under(socket_nucleus, tmp_path, trouble="noise") as echo:
        assert echo.process.stderr is not None
        line = await echo.process.stderr.readline()
        ended = await echo.terminate()
    assert line == b"WARNING __main__: a warning | of two lines\n"
    assert "plain print" in ended.out


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["stuck", "thread"])
async def test_clean_up_that_never_ends_is_cut_off(socket_nucleus: Any, tmp_path: Path, trouble: str) -> None:
    async with under(socket_nucleus, tmp_path, trouble=trouble) as echo:
        assert echo.process.stdout is not None
        while await echo.process.stdout.readline() != b"here\n":
            pass
        async with asyncio.timeout(8):
            ended = await echo.terminate()
    assert ended.code in (0, 1)
    assert "did not stop within 4.5 s; ending" in ended.err[-1]


# --- on a plain terminal ---


async def test_on_a_terminal_what_is_published_is_printed(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"said": "from/file"}))
    async with started(tmp_path, {}, ["--config", str(config), "--set", "times=2"]) as echo:
        assert echo.process.stderr is not None
        line = await echo.process.stderr.readline()
        ended = await echo.terminate(signal.SIGINT)
    assert b"said='from/file', times=2" in line
    assert ended.out == ['from/file {"bye": ""}']
    assert ended.code == 130


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--set", "times=x"], 1, "error: configuration does not fit Settings: times = 'x': expected a whole number"),
        (["--set", "tims=1"], 1, "error: configuration does not fit Settings: tims = 1: unknown"),
        (["--config", "none.json"], 1, "error: --config none.json: No such file"),
        (["--config", "{"], 1, "error: --config {: not JSON"),
        (["--unknown"], 2, "usage: main.py"),
    ],
)
async def test_a_wrong_option_is_one_clear_line(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    async with started(tmp_path, {}, arguments) as echo:
        ended = await echo.end()
    assert ended.code == code
    assert ended.err[0].startswith(message)
    assert "Traceback" not in "".join(ended.err)


async def test_help_lists_the_settings(tmp_path: Path) -> None:
    async with started(tmp_path, {}, ["--help"]) as echo:
        ended = await echo.end()
    assert ended.code == 0
    assert "  times: a whole number, default 1" in ended.out


def test_it_stops_when_nobody_reads_on(tmp_path: Path) -> None:
    """As after ``main.py | head``."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, str(MAIN), "--set", "trouble=talkative"]
    try:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={"PYTHONPATH": str(SDK)},
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=20,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_an_author_imports_nothing_heavy() -> None:
    """errors, core and component travel to devices that have neither yaml nor click."""
    code = "import sys; from monodon.component import Component, LoopbackNucleus; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SDK)}, capture_output=True, check=True)
    modules = set(done.stdout.decode().split())
    assert modules.isdisjoint({"yaml", "click", "boto3", "botocore", "awscrt", "awsiot", "numpy", "cv2"})

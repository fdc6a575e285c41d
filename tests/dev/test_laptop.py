"""The commands of docs/laptop.md, in order, in an empty folder; what stays in the foreground runs beside the next."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import monodon

pytestmark = pytest.mark.slow

SDK = Path(monodon.__file__).parents[1]
PAGE = SDK.parent / "docs/laptop.md"
#: The foreground commands, and what they print when the next command may come.
READY = {"monodon dev run": "watches for saved files", "monodon nucleus run": "monodon nucleus ready"}


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="mn"))
    (made / "bin").mkdir()
    script = made / "bin/monodon"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m monodon "$@"\n')
    script.chmod(0o755)
    yield made
    shutil.rmtree(made)


def until(condition: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while text not in condition.read_text():
        assert time.monotonic() < deadline, condition.read_text()
        time.sleep(0.05)


class Terminals:
    """One terminal with what stays in the foreground, another with everything else."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.first = folder, folder / "first.txt"
        self.environment = {
            **os.environ, "PYTHONPATH": str(SDK), "PYTHONUNBUFFERED": "1",
            "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip
        self.running: subprocess.Popen[bytes] | None = None

    def stay(self, command: str, ready: str) -> None:
        self.end()
        with self.first.open("wb") as output:
            self.running = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.folder, env=self.environment, stdout=output, stderr=output
            )
        until(self.first, ready)

    def run(self, commands: str) -> str:
        done = subprocess.run(
            ["bash", "-eu", "-c", commands], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def end(self) -> None:
        if self.running is not None:
            self.running.send_signal(signal.SIGINT)
            assert self.running.wait(30) == 0, self.first.read_text()
        self.running = None


def test_the_page_s_commands_work(folder: Path) -> None:
    terminals = Terminals(folder)
    said: list[str] = []
    try:
        for block in re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
            ready = next((text for command, text in READY.items() if block.startswith(command)), None)
            if ready is None:
                said.append(terminals.run(block))
                continue
            terminals.stay(block.strip(), ready)
            if "watch" in block:
                recipe = folder / "components/com.example.Hello/recipe.yaml"
                recipe.write_text(recipe.read_text().replace("world", "moon"))
                until(terminals.first, "| hello moon")
    finally:
        terminals.end()
    _, looked, deployed = said
    assert "com.example.Hello 1.0.0  RUNNING" in looked
    assert '/whom: "moon"' in looked
    assert '  - "moon"\n  + "sea"\n' in deployed
    assert deployed.count("SUCCEEDED") >= 3

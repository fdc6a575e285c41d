"""`monodon dev run` as a process: what it runs, what a saved file touches, and that nothing stays."""

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

import monodon
from monodon.nucleus.root import CLI_FOLDER

pytestmark = pytest.mark.slow

SDK = Path(monodon.__file__).parents[1]
DEADLINE_S = 60.0
FOREVER = "exec sleep 1000"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where somebody develops; short, for the socket's sake."""
    made = Path(tempfile.mkdtemp(prefix="mn"))
    yield made
    shutil.rmtree(made)


def write(
    folder: Path, name: str, *, code: str | None = None, defaults: Any = None, needs: str = "", **steps: Any
) -> None:
    """A component with a shell script as its artifact, and these lifecycle steps."""
    (folder / name).mkdir(exist_ok=True)
    artifacts = [] if code is None else [{"Uri": f"s3://b/{name}/run.sh"}]
    recipe = {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": name,
        "ComponentVersion": "1.0.0",
        "ComponentConfiguration": {"DefaultConfiguration": defaults or {}},
        "ComponentDependencies": {needs: {"VersionRequirement": "^1.0.0"}} if needs else {},
        "Manifests": [{"Platform": {"os": "*"}, "Lifecycle": steps, "Artifacts": artifacts}],
    }
    if code is not None:
        (folder / name / "run.sh").write_text(code)
    (folder / name / "recipe.json").write_text(json.dumps(recipe))


class Running:
    """The command, and the lines that it prints on both streams."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self._pending: queue.Queue[str | None] = queue.Queue()
        environment = {**os.environ, "PYTHONPATH": str(SDK), "PYTHONUNBUFFERED": "1", "TMPDIR": str(folder)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "monodon", "dev", "run", *arguments],
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self.process.stdout.close()  # type: ignore[union-attr]

    def _read(self) -> None:
        for line in self.process.stdout:  # type: ignore[union-attr]
            self._pending.put(re.sub(r" +", " ", line.rstrip("\n")))
        self._pending.put(None)

    def until(self, *texts: str) -> str:
        """Wait for a line with each of these texts; return the last one."""
        wanted, deadline, line = list(texts), time.monotonic() + DEADLINE_S, ""
        while wanted:
            try:
                found = self._pending.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                found = None
            assert found is not None, f"{wanted} never came: {self.lines}"
            self.lines.append(line := found)
            wanted = [text for text in wanted if text not in line]
        return line

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.end()

    def end(self) -> int:
        code = self.process.wait(DEADLINE_S)
        while (line := self._pending.get()) is not None:
            self.lines.append(line)
        return code


def test_saved_files_restart_just_what_they_touch(folder: Path) -> None:
    write(folder, "com.example.A", code="echo one $1; exec sleep 1000", defaults={"x": "a"},
          Run="sh {artifacts:path}/run.sh {configuration:/x}", Install="echo installs")  # fmt: skip
    write(folder, "com.example.B", Run=f"echo other; {FOREVER}")
    with Running(folder, ".", "--watch", "--config", '{"com.example.A": {"y": 1}}') as dev:
        dev.until("com.example.A | one a", "com.example.B | other", "watches for saved files")
        (folder / "com.example.A/run.sh").write_text("echo two $1; exec sleep 1000")
        dev.until("A - run.sh has other bytes: it is installed again", "A | installs", "A | two a", "deployed")
        write(folder, "com.example.A", defaults={"x": "b"}, Run=f"echo three {{configuration:/x}}; {FOREVER}")
        dev.until("A - its recipe has changed", "A - the default of /x is now 'b'", "A | three b", "deployed")
        (folder / "com.example.A/recipe.json").write_text("{")
        write(folder, "com.example.D", Run=f"echo fourth; {FOREVER}")
        dev.until("! error: ")
        (folder / "com.example.A/notes.txt").write_text("of no interest")
        write(folder, "com.example.A", defaults={"x": "b"}, Run=f"echo three {{configuration:/x}}; {FOREVER}")
        dev.until("D | fourth", "deployed com.example.D")
        (folder / "com.example.A/notes.txt").write_text("of no interest again")
        dev.until("nothing that runs has changed")
        write(folder, "com.example.C", Run=f"echo third; {FOREVER}")
        dev.until("C | third", "deployed com.example.C")
        shutil.rmtree(folder / "com.example.C")
        dev.until("deployed com.example.C (removed)")
        assert dev.stop() == 0
    assert [line for line in dev.lines if "B | other" in line] == ["com.example.B | other"]
    assert not (folder / ".monodon/devices").exists()


MAIN = """
import asyncio
from dataclasses import dataclass
from monodon.component import Component

@dataclass(frozen=True)
class Settings:
    whom: str = "world"

async def main(component: Component[Settings]) -> None:
    await component.ready()
    print("hello", component.settings.whom, flush=True)
    async for settings in component.changes():
        print("now", settings.whom, flush=True)

if __name__ == "__main__":
    Component.run(main, Settings)
"""
RECIPE = """
from monodon.authoring.recipes import artifact, load_main, recipe, step
from monodon.component import default_configuration

RECIPES = (
    recipe(
        name="com.example.Ours",
        version="1.0.0",
        configuration=default_configuration(load_main(__file__).Settings),
        lifecycle={"Startup": step("exec python3 -u {artifacts:decompressedPath}/ours/main.py", timeout_s=60)},
        artifacts=(artifact("ours.zip"),),
    ),
)
"""


def test_a_component_of_ours_is_built_and_its_saved_settings_arrive(folder: Path) -> None:
    own = folder / "com.example.Ours"
    own.mkdir()
    (own / "main.py").write_text(MAIN)
    (own / "recipe.py").write_text(RECIPE)
    with Running(folder, "com.example.Ours", "--watch") as dev:
        dev.until("Ours | hello world", "watches for saved files")
        (own / "main.py").write_text(MAIN.replace('"world"', '"earth"').replace('"hello"', '"hi"'))
        dev.until("Ours - the default of /whom is now 'earth'", "Ours | hi earth", "deployed")
        assert dev.stop() == 0
    assert not (own / "__pycache__").exists()


def test_other_tools_find_it_and_no_process_stays(folder: Path) -> None:
    write(folder, "com.example.A", Run="trap 'echo clean; exit 0' TERM; echo $$ runs; while :; do sleep 0.05; done")
    with Running(folder, "com.example.A", "--thing", "desk") as dev:
        pid = int(dev.until("runs").split()[2])
        dev.until("deployed")
        root = folder / ".monodon/devices/desk"
        assert list((root / CLI_FOLDER).iterdir())
        listed = subprocess.run(
            [sys.executable, "-m", "monodon", "component", "list"],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(SDK)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert listed.stdout.split() == ["com.example.A", "1.0.0", "RUNNING"]
        assert dev.stop(signal.SIGTERM) == 0
    assert "com.example.A | clean" in dev.lines
    assert not Path(f"/proc/{pid}").exists()
    assert not root.exists()


def test_what_breaks_ends_it_with_the_cause_unless_it_watches(folder: Path) -> None:
    write(folder, "com.example.A", Run="echo no such camera >&2; exit 3")
    with Running(folder, ".") as dev:
        dev.until("A ! BROKEN: ", "error: the deployment is FAILED")
        assert dev.end() == 1
    assert any(line == "com.example.A | no such camera" for line in dev.lines)
    with Running(folder, ".", "--watch") as dev:
        dev.until("watches for saved files")
        write(folder, "com.example.A", Run=f"echo better; {FOREVER}")
        dev.until("A | better", "deployed")
        assert dev.stop() == 0


@pytest.mark.parametrize("step", ["Install", "Startup"])
def test_what_hangs_does_not_keep_a_better_version_waiting(folder: Path, step: str) -> None:
    write(folder, "com.example.A", **{step: f"echo hangs; {FOREVER}"})
    with Running(folder, ".", "--watch") as dev:
        dev.until("A | hangs")
        write(folder, "com.example.A", Run=f"echo better; {FOREVER}")
        dev.until("A - was saved while it was awaited", "A | better", "A = RUNNING", "nucleus - deployed")
        assert dev.stop() == 0


def test_a_flood_of_lines_keeps_nothing_else_waiting(folder: Path) -> None:
    write(folder, "com.example.Flood", Run="exec yes 'a line of a flood'")
    write(folder, "com.example.A", Run=f"echo one; {FOREVER}")
    with Running(folder, ".", "--watch") as dev:
        dev.until("Flood | a line of a flood", "A | one", "watches for saved files")
        write(folder, "com.example.A", Run=f"echo two; {FOREVER}")
        dev.until("A | two", "deployed com.example.A")
        assert dev.stop() == 0


def test_a_kept_root_goes_on_and_a_strange_one_is_not_touched(folder: Path) -> None:
    write(folder, "com.example.A", Run="date >> runs; wc -l < runs; " + FOREVER)
    for number in ("1", "2"):
        with Running(folder, ".", "--root", "mine", "--keep-root") as dev:
            dev.until(f"A | {number}", "deployed")
            assert dev.stop() == 0
    (folder / "mine/.monodon-dev-run").unlink()
    with Running(folder, ".", "--root", "mine") as dev:
        dev.until("was not made by `dev run`")
        assert dev.end() == 1
    assert (folder / "mine/work/com.example.A/runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((".", "--config", '{"com.example.No": {}}'), "error: --config: com.example.No is not among the components"),
        ((".", "--config", '{"com.example.A": 1}'), "error: --config: com.example.A needs an object"),
        (("empty",), "error: no component in empty"),
    ],
)
def test_wrong_orders_are_refused_in_a_line(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    (folder / "empty").mkdir()
    write(folder, "com.example.A", Run=FOREVER)
    with Running(folder, *arguments) as dev:
        dev.until(message)
        assert dev.end() == 1


def test_a_bootstrap_step_restarts_the_nucleus_as_on_a_device(folder: Path) -> None:
    write(folder, "com.example.Boot", Bootstrap='echo "$$" >> "../boots"; exit 100', Run=f"echo up; {FOREVER}")
    write(folder, "com.example.Reboot", Bootstrap="exit 101", Run=FOREVER)
    with Running(folder, ".") as command:
        command.until("restarts for a Bootstrap step")
        command.until("a Bootstrap step asks for a reboot: the nucleus alone restarts")
        command.until("deployed com.example.Boot, com.example.Reboot")
        assert command.stop() == 0
    assert any("com.example.Boot" in line and "up" in line for line in command.lines)

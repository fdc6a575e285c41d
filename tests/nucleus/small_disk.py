"""What a nucleus does on a disk of its own that is really full, or really read-only.

A program, to be run where it may mount: after ``unshare --mount`` or ``unshare --user --map-root-user --mount``. It
mounts a small tmpfs on a folder, drives a nucleus there as a tool of its user does, and prints what came of it as JSON.
"""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.nucleus.test_nucleus import COMMAND, driven, until, write_recipe

SIZE = "6m"
NAME = "com.example.Sleeper"
#: How long the component's versions sleep, which tells their processes apart.
SLEEPS = {"1.0.0": 86401, "2.0.0": 86402}


def sleepers() -> list[str]:
    """The versions of the component whose process runs."""
    running = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (path / "cmdline").read_bytes().split(b"\0")
            running += [version for version, sleep in SLEEPS.items() if words[:2] == [b"sleep", str(sleep).encode()]]
    return running


def fill(root: Path) -> Path:
    """Write until nothing fits any more."""
    file = root / "filler"
    with file.open("ab", buffering=0) as sink, suppress(OSError):
        while sink.write(b"x" * 4096):
            pass
    return file


def drive(place: Path) -> dict[str, Any]:
    root, recipes = place / "root", place / "recipes"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(root)], check=True)
    for version, sleep in SLEEPS.items():
        write_recipe(recipes, NAME, version, configuration={"of": version}, Run=f"echo up; exec sleep {sleep}")
    found: dict[str, Any] = {}
    with driven(root) as nucleus:
        found["installed"] = nucleus.deploy(recipes, **{NAME: "1.0.0"})[0]
        filler = fill(root)
        found["full"] = nucleus.deploy(recipes, **{NAME: "2.0.0"})
        found["runs when full"] = sleepers()
        nucleus.end(9)
    for file in (root / "ready.json", *(root / "cli_ipc_info").iterdir()):
        file.unlink()
    fill(root)
    with subprocess.Popen([*COMMAND, "--root", str(root)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found["starts when full"] = process.stdout.readline().split(":")[0]
        until(lambda: sleepers() == ["1.0.0"])
        found["found when full"] = (root / "ready.json").exists()
        filler.unlink()
        until((root / "ready.json").exists)
        process.terminate()
    found["left running"] = sleepers()
    with driven(root) as nucleus:
        found["room again"] = nucleus.deploy(recipes, **{NAME: "2.0.0"})[0]
        until(lambda: sleepers() == ["2.0.0"])
        nucleus.end()
    subprocess.run(["mount", "-o", "remount,ro", "none", str(root)], check=True)
    done = subprocess.run([*COMMAND, "--root", str(root)], capture_output=True, text=True, check=False)
    found["read-only"] = [done.returncode, done.stderr.replace(str(root), "ROOT")]
    return found


if __name__ == "__main__":
    print(json.dumps(drive(Path(sys.argv[1]))))

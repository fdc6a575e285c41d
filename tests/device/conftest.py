"""A nucleus as a process of its own, without a cloud, for all tests of a module."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """The root of a running nucleus."""
    folder = Path(tempfile.mkdtemp(prefix="mn"))
    command = [
        sys.executable,
        "-m",
        "monodon",
        "nucleus",
        "run",
        "--root",
        str(folder / "r"),
        "--thing",
        "t",
        "--quiet",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("monodon nucleus ready")
        yield folder / "r"
        process.terminate()
    shutil.rmtree(folder)

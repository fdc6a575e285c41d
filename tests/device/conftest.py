"""A nucleus as a process of its own, without a cloud, for all tests of a module."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def nucleus(root: Path) -> "Iterator[subprocess.Popen[str]]":
    """A nucleus that is ready."""
    command = [sys.executable, "-m", "monodon", "nucleus", "run", "--root", str(root), "--thing", "t", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("monodon nucleus ready")
            yield process
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """The root of a running nucleus."""
    folder = Path(tempfile.mkdtemp(prefix="mn"))
    with nucleus(folder / "r"):
        yield folder / "r"
    shutil.rmtree(folder)

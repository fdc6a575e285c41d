"""The pytest plug-in: there by installing, and no burden on a run that doesn't use it."""

import subprocess
import sys
from importlib.metadata import entry_points

from monodon.component import LoopbackNucleus


def test_it_is_registered_by_installing() -> None:
    assert [entry.value for entry in entry_points(group="pytest11", name="monodon")] == ["monodon.testing"]


def test_importing_it_imports_no_part_of_the_sdk() -> None:
    code = "import sys, pytest, monodon.testing; print(*[name for name in sys.modules if name.startswith('monodon')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert set(done.stdout.decode().split()) == {"monodon", "monodon.testing"}


def test_a_nucleus_in_memory_is_a_fixture(loopback: LoopbackNucleus) -> None:
    assert loopback.published() == []

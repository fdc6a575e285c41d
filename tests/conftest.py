"""What tests of several folders share. Imports wait: tests/ml runs where nothing but the older engine is installed."""

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from monodon.publish import Package

CHECKOUT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Let ``--hypothesis-profile=quick`` try each law five times instead of a hundred."""
    if config.pluginmanager.hasplugin("hypothesispytest"):
        from hypothesis import settings

        settings.register_profile("quick", max_examples=5)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the journeys: those of one device, and those of fleets, each one after the other, side by side."""
    items.sort(key=lambda item: item.get_closest_marker("journey") is None)


@pytest.fixture(scope="session")
def build_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the components of this checkout are built once, and found again, by every worker of a run."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return tmp_path_factory.mktemp("cache")
    cache = tmp_path_factory.getbasetemp().parent / "cache"
    cache.mkdir(exist_ok=True)
    return cache


@pytest.fixture(scope="session")
def packages(build_cache: Path) -> "tuple[Package, ...]":
    """The components of this checkout, built once."""
    from monodon.dev.packages import build_packages

    with (build_cache.parent / "cache.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two workers would build the same twice
        return build_packages(CHECKOUT, build_cache)

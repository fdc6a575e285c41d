"""What tests of several folders share. Imports wait: tests/ml runs where nothing but the older engine is installed."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from monodon.publish import Package

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> "tuple[Package, ...]":
    """The components of this checkout, built once."""
    from monodon.dev.packages import build_packages

    return build_packages(CHECKOUT, tmp_path_factory.mktemp("cache"))

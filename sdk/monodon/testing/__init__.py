"""The pytest plug-in of Monodon: fixtures to test a component with. Imports wait until a fixture is asked for."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from monodon.component.loopback import LoopbackNucleus


@pytest.fixture
def loopback() -> "LoopbackNucleus":
    """A nucleus in memory: ``await main(loopback.component(Settings(...)))``, then ``loopback.published(topic)``."""
    from monodon.component.loopback import LoopbackNucleus

    return LoopbackNucleus()

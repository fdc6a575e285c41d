"""The pytest plug-in of Monodon: fixtures to test a component with. Imports wait until a fixture is asked for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from monodon.component.loopback import LoopbackNucleus
    from monodon.testing.nucleus import RealNucleus


@pytest.fixture
def loopback() -> "LoopbackNucleus":
    """A nucleus in memory: ``await main(loopback.component(Settings(...)))``, then ``loopback.published(topic)``."""
    from monodon.component.loopback import LoopbackNucleus

    return LoopbackNucleus()


@pytest.fixture
def nucleus() -> "Iterator[RealNucleus]":
    """The real nucleus, in a process of its own: ``async with nucleus.running(main, Settings(...))``."""
    from monodon.testing.nucleus import real_nucleus

    with real_nucleus() as nucleus:
        yield nucleus

"""While a component is busy, deployments wait; the same in memory and over IPC."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from monodon.component.component import Component

ONE, TWO = "com.example.One", "com.example.Two"


@dataclass(frozen=True)
class Settings:
    pass


class World(Protocol):
    def open(self, settings: Settings, *, name: str) -> AbstractAsyncContextManager[Component[Settings]]: ...

    async def ask_update(self) -> float: ...


@pytest.fixture(autouse=True)
async def _in_time() -> Any:
    async with asyncio.timeout(20):
        yield


async def test_a_deployment_waits_for_who_is_busy(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        assert await world.ask_update() == 0
        async with one.busy():
            assert await world.ask_update() == 5
            async with one.busy(recheck_s=30):
                assert await world.ask_update() == 30
            assert await world.ask_update() == 5
        assert await world.ask_update() == 0


async def test_the_busiest_of_several_counts(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one, world.open(Settings(), name=TWO) as two:
        async with one.busy(recheck_s=1), two.busy(recheck_s=2):
            assert await world.ask_update() == 2
        async with one.busy(recheck_s=1):
            assert await world.ask_update() == 1


async def test_an_error_ends_it_too(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        with pytest.raises(ZeroDivisionError):
            async with one.busy():
                _ = 1 / 0
        assert await world.ask_update() == 0

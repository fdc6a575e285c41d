"""Shadows as objects, the same in memory and over IPC."""

import asyncio
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from monodon.component.component import Component
from monodon.errors import IpcError

ONE = "com.example.One"


@dataclass(frozen=True)
class Settings:
    pass


@dataclass(frozen=True)
class Lamp:
    on: bool = False
    colour: str = "white"


class World(Protocol):
    def open(self, settings: Settings, *, name: str) -> AbstractAsyncContextManager[Component[Settings]]: ...


@pytest.fixture(autouse=True)
async def _in_time() -> Any:
    async with asyncio.timeout(20):
        yield


async def test_a_shadow_that_is_not_there_is_empty(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        shadow = await one.shadow("lamp")
        assert (shadow.version, shadow.desired, shadow.reported, shadow.delta) == (0, {}, {}, {})
        assert (shadow.thing_name, shadow.name) == ("loopback", "lamp")
        assert shadow.read_desired(Lamp) == Lamp()


async def test_what_is_desired_and_reported_make_the_delta(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        shadow = await one.shadow("lamp")
        await shadow.desire(Lamp(on=True, colour="red"))
        await shadow.report({"on": True, "watts": 5, "inner": {"a": 1, "b": 2}})
        assert shadow.delta == {"colour": "red"}
        await shadow.report({"colour": "red", "inner": {"a": None}})
        assert (shadow.version, shadow.delta) == (3, {})
        again = await one.shadow("lamp")
        for each in (shadow, again):
            assert each.desired == {"on": True, "colour": "red"}
            assert each.reported == {"on": True, "watts": 5, "inner": {"b": 2}, "colour": "red"}
        assert again.version == 3
        assert again.read_desired(Lamp) == Lamp(on=True, colour="red")


async def test_another_s_update_is_seen_with_one_s_own(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        shadow, other = await one.shadow(), await one.shadow()
        await other.desire({"on": True})
        await shadow.report({"watts": 5})
        assert (shadow.version, shadow.desired, shadow.reported) == (2, {"on": True}, {"watts": 5})


async def test_an_update_of_another_version_is_a_conflict(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        shadow, other = await one.shadow("lamp"), await one.shadow("lamp")
        await shadow.report({"a": 1})
        await other.report({"a": 2})
        with pytest.raises(IpcError) as caught:
            await shadow.report({"a": 3}, version=shadow.version)
        assert caught.value.code == "ConflictError"


async def test_shadows_of_a_thing_are_apart(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        await (await one.shadow("lamp")).report({"a": 1})
        assert (await one.shadow()).version == 0
        assert (await one.shadow("lamp", thing_name="other")).version == 0


async def test_a_deleted_shadow_begins_anew(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        shadow = await one.shadow("lamp")
        with pytest.raises(IpcError) as caught:
            await shadow.delete()
        assert caught.value.code == "ResourceNotFoundError"
        await shadow.report({"a": 1})
        await shadow.delete()
        assert (shadow.version, shadow.reported) == (0, {})
        await shadow.report({"b": 1})
        assert (await one.shadow("lamp")).reported == {"b": 1}


@pytest.mark.parametrize("changes", [{"a": "x" * 8200}, {"a": {"b": {"c": {"d": {"e": {"f": {}}}}}}}])
async def test_what_a_shadow_cannot_hold_is_refused(world: World, changes: dict[str, Any]) -> None:
    async with world.open(Settings(), name=ONE) as one:
        shadow = await one.shadow("lamp")
        with pytest.raises(IpcError) as caught:
            await shadow.report(changes)
        assert caught.value.code == "InvalidArgumentsError"
        assert shadow.reported == {}


async def test_what_is_desired_but_does_not_fit_is_named(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        shadow = await one.shadow("lamp")
        await shadow.desire({"on": "yes"})
        with pytest.raises(IpcError, match="no Lamp: on = 'yes': expected true or false"):
            shadow.read_desired(Lamp)


async def test_changes_are_followed_from_how_it_is_now(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        shadow, other = await one.shadow("lamp"), await one.shadow("lamp")
        await other.desire({"on": True})
        async with aclosing(shadow.changes()) as changes:
            assert (await anext(changes)).delta == {"on": True}
            await shadow.report({"on": True})  # its own is no news
            await other.desire({"on": False})
            assert (await anext(changes)).delta == {"on": False}
            assert shadow.version == 3
            await other.delete()
            await other.desire({"on": True})
            assert (await anext(changes)).version == 1
            assert shadow.delta == {"on": True}

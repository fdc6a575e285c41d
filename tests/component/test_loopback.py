"""What the nucleus in memory offers to a test, and how it says that a test failed."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from monodon.component import Component, LoopbackNucleus
from monodon.errors import IpcError


@dataclass(frozen=True)
class Settings:
    topic: str = "numbers"
    count: int = 3


async def main(component: Component[Settings]) -> None:
    await component.ready()
    for number in range(component.settings.count):
        await component.publish(component.settings.topic, {"n": number})


async def test_a_component_runs_and_what_it_published_is_there(loopback: LoopbackNucleus) -> None:
    """The whole test of a small component; the fixture comes with the plug-in."""
    await main(loopback.component(Settings(count=2)))
    assert loopback.published("numbers") == [{"n": 0}, {"n": 1}]
    assert loopback.state() == "RUNNING"


async def test_a_component_that_goes_on_is_watched_from_outside(loopback: LoopbackNucleus) -> None:
    async def forward(component: Component[Settings]) -> None:
        async with component.subscribe("in/#") as messages:
            await component.ready()
            async for message in messages:
                await component.publish_to_iot(f"out/{component.settings.count}", message.json)

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(forward(loopback.component(Settings())))
        await loopback.wait_for_state("RUNNING")
        await loopback.set_configuration({"count": 9})
        await loopback.publish("in/x", {"n": 1})
        await loopback.wait_for_iot("out/+")
        running.cancel()
    assert [message.topic for message in loopback.published_to_iot()] == ["out/9"]


async def test_waiting_in_vain_says_what_came_instead(loopback: LoopbackNucleus) -> None:
    await loopback.publish("a", {})
    await loopback.publish("b", {})
    with pytest.raises(TimeoutError, match=r"1 of 2 messages on a within 0.01 s; published on: \['a', 'b'\]"):
        await loopback.wait_for("a", 2, timeout_s=0.01)


async def test_waiting_for_iot_messages_in_vain_says_what_came(loopback: LoopbackNucleus) -> None:
    with pytest.raises(TimeoutError, match=r"0 of 1 IoT messages on a/# within 0.01 s; published on: nothing"):
        await loopback.wait_for_iot("a/#", timeout_s=0.01)


async def test_waiting_for_a_state_in_vain_says_which_it_is(loopback: LoopbackNucleus) -> None:
    loopback.component(Settings())
    with pytest.raises(TimeoutError, match="is STARTING, not RUNNING"):
        await loopback.wait_for_state("RUNNING", timeout_s=0.01)


async def test_an_unknown_component_is_named(loopback: LoopbackNucleus) -> None:
    loopback.component(Settings(), name="com.example.One")
    with pytest.raises(IpcError, match=r"no component com.example.Two here; known: com.example.One") as caught:
        loopback.state("com.example.Two")
    assert caught.value.code == "ResourceNotFoundError"


async def test_folders_are_what_the_test_gives(loopback: LoopbackNucleus, tmp_path: Path) -> None:
    component = loopback.component(Settings(), artifacts=tmp_path / "a", work=tmp_path / "w")
    assert (component.artifacts, component.work) == (tmp_path / "a", tmp_path / "w")
    assert component.thing_name == "loopback"


async def test_a_receiver_does_not_share_the_senders_list(loopback: LoopbackNucleus) -> None:
    component = loopback.component(Settings())
    numbers = [1]
    async with component.subscribe("n") as messages:
        await component.publish("n", {"numbers": numbers})
        numbers.append(2)
        assert (await anext(messages)).json == {"numbers": [1]}


async def test_nothing_is_left_of_a_subscription(loopback: LoopbackNucleus) -> None:
    component = loopback.component(Settings())
    async with component.subscribe("a/+"), component.subscribe_to_iot("b/#"):
        assert loopback.subscriptions == 2
    assert loopback.subscriptions == 0


async def test_a_hook_that_fails_harms_no_other(loopback: LoopbackNucleus, caplog: pytest.LogCaptureFixture) -> None:
    component = loopback.component(Settings())
    seen: list[int] = []

    def bad(settings: Settings) -> None:
        raise ValueError("bad hook")

    component.on_change(bad)
    component.on_change(lambda settings: seen.append(settings.count))
    await loopback.set_configuration({"count": 5})
    assert seen == [5]
    assert "a hook failed on the changed configuration" in caplog.messages


async def test_of_several_changes_the_last_one_counts(loopback: LoopbackNucleus) -> None:
    component = loopback.component(Settings())
    changes = component.changes()
    first = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    for count in (4, 5, 6):
        await loopback.set_configuration({"count": count})
    assert (await first).count == 6
    await changes.aclose()


async def test_a_killed_nucleus_is_missed_and_its_return_tells_of_the_gap() -> None:
    nucleus = LoopbackNucleus()
    component = nucleus.component(Settings(), name="com.example.One")
    gaps: list[str] = []
    async with component.subscribe("a", on_gap=lambda: gaps.append("gap")) as messages:
        await component.publish("a", {"n": 1})
        nucleus.kill()
        with pytest.raises(IpcError) as caught:
            await component.publish("a", {"n": 2})
        assert caught.value.code == "ConnectionLost"
        await nucleus.publish("a", {"n": 3})
        nucleus.start()
        await component.publish("a", {"n": 4})
        received = [await anext(messages) for _ in range(2)]
    assert [(message.json["n"], message.after_gap) for message in received] == [(1, False), (4, True)]
    assert gaps == ["gap"]

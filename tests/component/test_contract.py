"""What a component may rely on, the same in memory and over IPC."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from monodon.component.component import Component
from monodon.component.loopback import LoopbackNucleus
from monodon.component.messages import INVALID_MESSAGE
from monodon.errors import ConfigurationError, IpcError, ModelError

ONE, TWO = "com.example.One", "com.example.Two"


@dataclass(frozen=True)
class Settings:
    topic: str = "a/b"
    count: int = 1


class World(Protocol):
    nucleus: LoopbackNucleus

    def open(self, settings: Settings, *, name: str) -> AbstractAsyncContextManager[Component[Settings]]: ...

    async def set_configuration(self, changes: dict[str, Any], *, name: str, validate: bool = True) -> None: ...

    async def ask_update(self) -> float: ...

    def put_secret(self, name: str, value: str | bytes) -> None: ...


@pytest.fixture(autouse=True)
async def _in_time() -> Any:
    async with asyncio.timeout(20):
        yield


async def test_it_knows_its_name_thing_and_settings(world: World) -> None:
    async with world.open(Settings(count=4), name=ONE) as component:
        assert component.name == ONE
        assert component.thing_name == "loopback"
        assert component.settings == Settings(count=4)


async def test_a_message_reaches_another_component(world: World) -> None:
    async with (
        world.open(Settings(), name=ONE) as one,
        world.open(Settings(), name=TWO) as two,
        two.subscribe("a/+") as messages,
    ):
        await one.publish("a/b", {"n": 1, "x": [None, 0.5, "ö"]})
        message = await anext(messages)
    assert message.topic == "a/b"
    assert message.json == {"n": 1, "x": [None, 0.5, "ö"]}
    assert not message.after_gap
    assert world.nucleus.published("a/b") == [{"n": 1, "x": [None, 0.5, "ö"]}]


async def test_bytes_travel_as_they_are(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one, one.subscribe("raw") as messages:
        await one.publish("raw", bytes(range(256)))
        assert (await anext(messages)).payload == bytes(range(256))
        await one.publish("raw", b"")
        assert (await anext(messages)).payload == b""


async def test_a_dataclass_is_published_and_read(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one, one.subscribe("settings") as messages:
        await one.publish("settings", Settings("t", 9))
        assert (await anext(messages)).read(Settings) == Settings("t", 9)


async def test_messages_of_one_publisher_stay_in_order(world: World) -> None:
    async with (
        world.open(Settings(), name=ONE) as one,
        world.open(Settings(), name=TWO) as two,
        two.subscribe("n") as messages,
    ):
        for number in range(100):
            await one.publish("n", {"n": number})
        received = [(await anext(messages)).json["n"] for _ in range(100)]
    assert received == list(range(100))


async def test_own_messages_come_back_unless_the_filter_has_a_wildcard(world: World) -> None:
    """ipc.md 4.1, receiveMode default."""
    async with (
        world.open(Settings(), name=ONE) as one,
        one.subscribe("x/y") as exact,
        one.subscribe("x/#") as wild,
        one.subscribe("x/#", own_messages=True) as all_of_them,
        one.subscribe("x/y", own_messages=False) as others,
    ):
        await one.publish("x/y", {"own": True})
        assert (await anext(exact)).json == {"own": True}
        assert (await anext(all_of_them)).json == {"own": True}
        await world.nucleus.publish("x/y", {"own": False})
        assert (await anext(wild)).json == {"own": False}
        assert (await anext(others)).json == {"own": False}


async def test_a_handler_may_call_its_nucleus(world: World) -> None:
    """ipc.md 7: with the bare client this is a deadlock."""
    async with world.open(Settings(), name=ONE) as one, world.open(Settings(), name=TWO) as two:

        async def answer() -> None:
            async with two.subscribe("question") as questions:
                await two.ready()
                async for question in questions:
                    await two.publish("answer", {"twice": question.json["n"] * 2})
                    return

        async with asyncio.TaskGroup() as tasks, one.subscribe("answer") as answers:
            tasks.create_task(answer())
            await world.nucleus.wait_for_state("RUNNING", name=TWO)
            await one.publish("question", {"n": 21})
            assert (await anext(answers)).json == {"twice": 42}


async def test_what_was_unsubscribed_no_longer_comes(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        async with one.subscribe("a") as messages:
            await one.publish("a", {"n": 1})
            assert (await anext(messages)).json == {"n": 1}
        await one.publish("a", {"n": 2})
        assert [message async for message in messages] == []


@pytest.mark.parametrize("topic", ["a/+", "#", "a*b"])
async def test_a_wildcard_in_a_topic_to_publish_on_is_refused(world: World, topic: str) -> None:
    async with world.open(Settings(), name=ONE) as one:
        with pytest.raises(IpcError) as caught:
            await one.publish(topic, {})
        assert caught.value.code == "InvalidArgumentsError"
        await one.publish("still/works", {})


async def test_no_policy_covers_an_empty_topic(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        for work in (one.publish("", {}), anext(one.subscribe("")), anext(one.subscribe_to_iot(""))):
            with pytest.raises(IpcError) as caught:
                await work
            assert caught.value.code == "UnauthorizedError"


async def test_what_is_no_message_is_not_sent(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        with pytest.raises(IpcError) as caught:
            await one.publish("a", [1, 2])
        assert caught.value.code == INVALID_MESSAGE
    assert world.nucleus.published() == []


async def test_iot_messages_go_round_with_their_properties(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one, one.subscribe_to_iot("fleet/#", qos=1) as messages:
        await one.publish_to_iot(
            "fleet/a", {"n": 1}, qos=1, user_properties=(("k", "v"),), response_topic="r", correlation_data=b"\x01"
        )
        message = await anext(messages)
        await one.publish_to_iot("fleet", b"", qos=0)
        empty = await anext(messages)
    assert (message.topic, message.json) == ("fleet/a", {"n": 1})
    assert message.user_properties == (("k", "v"),)
    assert (message.response_topic, message.correlation_data) == ("r", b"\x01")
    assert (empty.topic, empty.payload) == ("fleet", b"")
    assert [sent.topic for sent in world.nucleus.published_to_iot("fleet/+")] == ["fleet/a"]


async def test_local_and_iot_topics_are_different_worlds(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one, one.subscribe("t") as local, one.subscribe_to_iot("t") as iot:
        await one.publish_to_iot("t", b"iot")
        await one.publish("t", b"local")
        assert (await anext(local)).payload == b"local"
        assert (await anext(iot)).payload == b"iot"


@pytest.mark.parametrize(
    ("topic", "payload", "qos", "code"),
    [
        ("a/#", b"", 1, "ServiceError"),
        ("", b"", 1, "UnauthorizedError"),
        ("1/2/3/4/5/6/7/8/9", b"", 1, "ServiceError"),
        ("a", bytes(128 * 1024 + 1), 1, "ServiceError"),
        ("a", b"", 2, "InvalidArgumentsError"),
    ],
)
async def test_what_iot_core_does_not_take_is_refused(
    world: World, topic: str, payload: bytes, qos: int, code: str
) -> None:
    """ipc.md 4.2."""
    async with world.open(Settings(), name=ONE) as one:
        with pytest.raises(IpcError) as caught:
            await one.publish_to_iot(topic, payload, qos)
    assert caught.value.code == code


async def test_states_are_reported(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with world.open(Settings(), name=ONE) as one:
        assert world.nucleus.state(ONE) == "STARTING"
        await one.ready()
        assert world.nucleus.state(ONE) == "RUNNING"
        await one.failed("no camera")
        assert world.nucleus.state(ONE) == "ERRORED"
    assert "no camera" in caplog.messages


async def test_a_changed_configuration_changes_the_settings(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        hooked: list[Settings] = []
        one.on_change(hooked.append)
        changes = one.changes()

        async def first() -> Settings:
            return await anext(changes)

        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(first())
            await asyncio.sleep(0)
            await world.set_configuration({"count": 7.0}, name=ONE)
        assert waiting.result() == Settings(count=7)
        assert one.settings == Settings(count=7)
        assert hooked[-1] == Settings(count=7)
        await changes.aclose()


async def test_a_bad_configuration_is_refused_before_it_is_applied(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        with pytest.raises(ConfigurationError, match="count = 'x': expected a whole number"):
            await world.set_configuration({"count": "x"}, name=ONE)
        assert one.settings == Settings()
    assert world.nucleus.configuration(ONE)["count"] == 1


async def test_a_bad_configuration_that_was_applied_leaves_the_former_settings(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.open(Settings(), name=ONE) as one:
        news: asyncio.Queue[Settings] = asyncio.Queue()
        one.on_change(news.put_nowait)
        await world.set_configuration({"count": "x"}, name=ONE, validate=False)
        await world.set_configuration({"count": 3}, name=ONE, validate=False)
        assert (await news.get()) == Settings(count=3)


async def test_the_author_s_own_judge_refuses_a_configuration_before_it_is_applied(world: World) -> None:
    def judge(settings: Settings) -> str | None:
        if settings.count > 9:
            raise ModelError("only nine cameras", hint="buy another")
        return "no topic" if not settings.topic else None

    async with world.open(Settings(), name=ONE) as one:
        one.refuse_when(judge)
        with pytest.raises(ConfigurationError, match=r"only nine cameras \(buy another\)"):
            await world.set_configuration({"count": 10}, name=ONE)
        with pytest.raises(ConfigurationError, match="no topic"):
            await world.set_configuration({"topic": ""}, name=ONE)
        assert one.settings == Settings()
    assert world.nucleus.configuration(ONE)["count"] == 1


async def test_a_judge_that_crashes_refuses(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with world.open(Settings(), name=ONE) as one:
        one.refuse_when(lambda settings: str(1 // (settings.count - 2)))
        with pytest.raises(ConfigurationError, match="ZeroDivisionError"):
            await world.set_configuration({"count": 2}, name=ONE)
        assert one.settings == Settings()


async def test_what_the_judge_refuses_is_not_taken_over_either(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with world.open(Settings(), name=ONE) as one:
        news: asyncio.Queue[Settings] = asyncio.Queue()
        one.on_change(news.put_nowait)
        one.refuse_when(lambda settings: "too many" if settings.count > 9 else None)
        await world.set_configuration({"count": 10}, name=ONE, validate=False)
        await world.set_configuration({"count": 3}, name=ONE, validate=False)
        assert (await news.get()) == Settings(count=3)


async def test_a_component_changes_its_own_configuration(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        news: asyncio.Queue[Settings] = asyncio.Queue()
        one.on_change(news.put_nowait)
        await one.update_configuration({"topic": "c"})
        assert await news.get() == Settings(topic="c")
        one.refuse_when(lambda settings: "too many" if settings.count > 9 else None)
        for wrong in ({"count": "five"}, {"typo": 1}, {"count": 10}):
            with pytest.raises(ConfigurationError, match=r"count = 'five'|typo = 1|too many"):
                await one.update_configuration(wrong)
        assert one.settings == Settings(topic="c")
    assert world.nucleus.configuration(ONE)["topic"] == "c"
    assert "typo" not in world.nucleus.configuration(ONE)
    assert world.nucleus.configuration(ONE)["count"] == Settings().count

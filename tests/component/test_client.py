"""The IPC client when things go wrong; what it does when they don't is in test_contract.py."""

import asyncio
import gc
import json
import logging
import os
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from monodon.component.client import IpcLink, connect
from monodon.component.runtime import TOKEN
from monodon.component.subscription import Subscription
from monodon.core.policy import AccessControl
from monodon.errors import IpcError

NAME = "com.example.One"


@dataclass(frozen=True)
class Settings:
    count: int = 1


@pytest.fixture(autouse=True)
async def _in_time() -> Any:
    async with asyncio.timeout(30):
        yield


def link_to(nucleus: Any, **options: float) -> AbstractAsyncContextManager[IpcLink]:
    token = nucleus.install(Settings(), name=NAME)[TOKEN]
    options = {"first_delay_s": 0.01, "longest_delay_s": 0.05, **options}
    return connect(socket=str(nucleus.path), token=token, **options)


def subscription(link: IpcLink, topic: str, gaps: list[int]) -> Subscription:
    return Subscription(topic, lambda box: link.subscribe(topic, box, own_messages=True), on_gap=lambda: gaps.append(1))


async def again(nucleus: Any, operation: str, count: int) -> None:
    """Wait until an operation was asked for ``count`` times."""
    while nucleus.requests.count(operation) < count:
        await asyncio.sleep(0.005)


async def test_a_dropped_connection_is_made_again_with_its_subscriptions(
    socket_nucleus: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gaps: list[int] = []
    async with link_to(socket_nucleus) as link, subscription(link, "a", gaps) as messages:
        await link.publish("a", {"n": 1})
        first = await anext(messages)
        await socket_nucleus.drop()
        await again(socket_nucleus, "SubscribeToTopic", 2)
        await link.publish("a", {"n": 2})
        second = await anext(messages)
        await link.publish("a", {"n": 3})
        third = await anext(messages)
    assert [message.json["n"] for message in (first, second, third)] == [1, 2, 3]
    assert [message.after_gap for message in (first, second, third)] == [False, True, False]
    assert gaps == [1]
    assert "the connection to the nucleus is lost; trying again" in caplog.messages
    assert "connected to the nucleus again" in caplog.messages


async def test_a_call_while_the_nucleus_is_away_waits_for_its_return(
    socket_nucleus: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with link_to(socket_nucleus) as link:
        await socket_nucleus.stop()
        while "the connection to the nucleus is lost" not in caplog.text:  # what was sent before would be lost with it
            await asyncio.sleep(0.005)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(link.publish("a", {"n": 1}))
            await asyncio.sleep(0.05)
            assert socket_nucleus.nucleus.published() == []
            await socket_nucleus.start()
        assert socket_nucleus.nucleus.published() == [{"n": 1}]


async def test_a_call_has_a_deadline_without_a_nucleus_too(socket_nucleus: Any) -> None:
    async with link_to(socket_nucleus, deadline_s=0.3) as link:
        await socket_nucleus.stop()
        with pytest.raises(IpcError) as caught:
            await link.publish("a", {})
        assert caught.value.code == "ConnectionLost"
        await socket_nucleus.start()


async def test_a_call_that_is_never_answered_ends_by_its_deadline(socket_nucleus: Any) -> None:
    socket_nucleus.silent.add("PublishToTopic")
    async with link_to(socket_nucleus, deadline_s=0.3) as link:
        with pytest.raises(IpcError, match=r"publish_to_topic: no answer from the nucleus within 0.3 s") as caught:
            await link.publish("a", {})
        assert caught.value.code == "Timeout"
        socket_nucleus.silent.clear()
        await link.publish("a", {"n": 2})
    assert socket_nucleus.nucleus.published() == [{"n": 2}]


async def test_a_call_whose_connection_breaks_says_so(socket_nucleus: Any) -> None:
    socket_nucleus.silent.add("PublishToTopic")
    async with link_to(socket_nucleus) as link:

        async def publish() -> None:
            with pytest.raises(IpcError) as caught:
                await link.publish("a", {})
            assert caught.value.code == "ConnectionLost"

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(publish())
            await again(socket_nucleus, "PublishToTopic", 1)
            await socket_nucleus.drop()


async def test_a_refusal_has_the_models_name_and_a_hint(socket_nucleus: Any) -> None:
    socket_nucleus.errors["PublishToTopic"] = "UnauthorizedError"
    async with socket_nucleus.open(Settings(), name=NAME) as component:
        with pytest.raises(IpcError, match="UnauthorizedError: UnauthorizedError on purpose") as caught:
            await component.publish("a/b", {})
        with pytest.raises(IpcError) as nameless:
            await component.publish("", {})
    assert nameless.value.hint == "no policy allows an empty topic or name"
    assert caught.value.code == "UnauthorizedError"
    _, _, block = str(caught.value.hint).partition(": ")
    assert AccessControl.read(json.loads(block)["accessControl"]).allows(
        "aws.greengrass.ipc.pubsub", "aws.greengrass#PublishToTopic", "a/b"
    )


async def test_an_unknown_token_is_refused_at_once(socket_nucleus: Any) -> None:
    with pytest.raises(IpcError, match="refuses the token") as caught:
        async with connect(socket=str(socket_nucleus.path), token="wrong"):
            pytest.fail("connected")
    assert caught.value.code == "AccessDenied"


async def test_a_token_with_quotes_breaks_nothing(socket_nucleus: Any) -> None:
    with pytest.raises(IpcError, match="refuses the token"):
        async with connect(socket=str(socket_nucleus.path), token='a"b'):
            pytest.fail("connected")


async def test_without_a_nucleus_connecting_fails_by_the_deadline(tmp_path: Path) -> None:
    with pytest.raises(IpcError, match="no nucleus answers"):
        async with connect(socket=str(tmp_path / "s"), token="t", deadline_s=0.2):
            pytest.fail("connected")


async def test_a_nucleus_that_no_longer_knows_the_process_ends_it(socket_nucleus: Any) -> None:
    """After a restart of the nucleus its components have new tokens, and new processes."""
    cleaned_up = []
    with pytest.raises(IpcError, match="no longer knows this process") as caught:
        async with link_to(socket_nucleus):
            socket_nucleus.tokens.clear()
            await socket_nucleus.drop()
            try:
                await asyncio.Event().wait()
            finally:
                cleaned_up.append(True)
    assert caught.value.code == "AccessDenied"
    assert cleaned_up == [True]


async def test_a_stream_that_the_nucleus_ends_is_opened_again(socket_nucleus: Any) -> None:
    gaps: list[int] = []
    async with link_to(socket_nucleus) as link, subscription(link, "a", gaps) as messages:
        socket_nucleus.end_streams()
        await again(socket_nucleus, "SubscribeToTopic", 2)
        await link.publish("a", {"n": 1})
        assert (await anext(messages)).after_gap
    assert gaps == [1]


async def test_a_subscription_that_is_no_longer_allowed_ends_with_the_error(socket_nucleus: Any) -> None:
    async with link_to(socket_nucleus) as link, subscription(link, "a", []) as messages:
        await link.publish("a", {"n": 1})
        socket_nucleus.errors["SubscribeToTopic"] = "UnauthorizedError"
        await socket_nucleus.drop()
        assert (await anext(messages)).json == {"n": 1}
        with pytest.raises(IpcError) as caught:
            await anext(messages)
    assert caught.value.code == "UnauthorizedError"


async def test_a_configuration_changed_while_away_is_read_on_return(socket_nucleus: Any) -> None:
    async with socket_nucleus.open(Settings(), name=NAME) as component:
        news: asyncio.Queue[Settings] = asyncio.Queue()
        component.on_change(news.put_nowait)
        await socket_nucleus.stop()
        await socket_nucleus.nucleus.set_configuration({"count": 5}, name=NAME)
        await socket_nucleus.start()
        assert await news.get() == Settings(5)


async def test_a_nucleus_without_validation_is_no_hindrance(socket_nucleus: Any) -> None:
    socket_nucleus.errors["SubscribeToValidateConfigurationUpdates"] = "ServiceError"
    async with socket_nucleus.open(Settings(), name=NAME) as component:
        await component.ready()


async def test_a_message_larger_than_a_frame_is_refused_and_the_connection_lives(socket_nucleus: Any) -> None:
    async with link_to(socket_nucleus) as link:
        with pytest.raises(IpcError, match="the message is too large") as caught:
            await link.publish("a", bytes(20 * 1024 * 1024))
        assert caught.value.code == "InvalidMessage"
        assert "24 MiB" in str(caught.value.hint)
        await link.publish("a", {"n": 1})


async def test_an_error_of_the_block_is_raised_as_it_is(socket_nucleus: Any) -> None:
    error = ValueError("the author's own")
    with pytest.raises(ValueError, match="the author's own") as caught:
        async with link_to(socket_nucleus):
            raise error
    assert caught.value is error


def threads_and_descriptors() -> tuple[int, int]:
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


async def test_closing_leaves_no_thread_no_descriptor_and_no_noise(
    socket_nucleus: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async with link_to(socket_nucleus):
        pass
    gc.collect()
    await asyncio.sleep(0.1)
    before = threads_and_descriptors()
    caplog.clear()
    for _ in range(10):
        async with link_to(socket_nucleus) as link, subscription(link, "a", []) as messages:
            await link.publish("a", {})
            await anext(messages)
    gc.collect()
    async with asyncio.timeout(5):
        while any(now > then for now, then in zip(threads_and_descriptors(), before, strict=True)):
            await asyncio.sleep(0.02)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert capfd.readouterr().err == ""


async def test_many_drops_under_load_leave_a_working_connection(socket_nucleus: Any) -> None:
    """Calls fail with ``IpcError`` or succeed, subscriptions keep their order, and nobody waits out a deadline."""
    received: list[int] = []
    codes: set[str | None] = set()
    async with (
        asyncio.timeout(30),
        link_to(socket_nucleus, deadline_s=60) as link,
        subscription(link, "a", []) as messages,
    ):

        async def read() -> None:
            async for message in messages:
                received.append(message.json["n"])  # noqa: PERF401 - looked at while it grows

        async def publish(number: int) -> None:
            try:
                await link.publish("a", {"n": number})
            except IpcError as error:
                codes.add(error.code)

        async def publish_all(first: int) -> None:
            for number in range(first, first + 60):
                await publish(number)

        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(read())
            async with asyncio.TaskGroup() as publishers:
                for first in (0, 1000, 2000):
                    publishers.create_task(publish_all(first))
                for _ in range(15):
                    await asyncio.sleep(0.02)
                    await socket_nucleus.drop()
            number = 9000
            while not received or received[-1] < 9000:
                number += 1
                await publish(number)
                await asyncio.sleep(0.01)
            reader.cancel()
    assert codes <= {"ConnectionLost"}
    for first in (0, 1000, 2000):
        own = [number for number in received if first <= number < first + 60]
        assert own == sorted(set(own))

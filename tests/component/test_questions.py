"""Requests and their answers, the same in memory and over IPC."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from monodon.component.component import Component
from monodon.component.loopback import LoopbackNucleus
from monodon.component.requests import Request
from monodon.errors import FrameError, IpcError

ASKER, ANSWERER = "com.example.Asker", "com.example.Answerer"


@dataclass(frozen=True)
class Settings:
    pass


@dataclass(frozen=True)
class Sum:
    one: int
    other: int


@dataclass(frozen=True)
class Total:
    total: int


class World(Protocol):
    nucleus: LoopbackNucleus

    def open(self, settings: Settings, *, name: str) -> AbstractAsyncContextManager[Component[Settings]]: ...


@pytest.fixture(autouse=True)
async def _in_time() -> Any:
    async with asyncio.timeout(20):
        yield


async def add(request: Request) -> Total:
    asked = request.read(Sum)
    if asked.one < 0:
        raise FrameError("no negative numbers")
    return Total(asked.one + asked.other)


async def test_a_typed_question_gets_its_typed_answer(world: World) -> None:
    async with (
        world.open(Settings(), name=ASKER) as asker,
        world.open(Settings(), name=ANSWERER) as answerer,
        answerer.requests("sums") as requests,
        asyncio.TaskGroup() as tasks,
    ):
        answering = tasks.create_task(requests.answer(add))
        answer = await asker.request("sums", Sum(2, 3))
        assert answer.read(Total) == Total(5)
        several = await asyncio.gather(*(asker.request("sums", Sum(number, 1)) for number in range(20)))
        assert [one.read(Total).total for one in several] == list(range(1, 21))
        answering.cancel()


async def test_a_refusal_says_why_and_the_next_question_is_answered(world: World) -> None:
    async with (
        world.open(Settings(), name=ASKER) as asker,
        world.open(Settings(), name=ANSWERER) as answerer,
        answerer.requests("sums") as requests,
        asyncio.TaskGroup() as tasks,
    ):
        answering = tasks.create_task(requests.answer(add))
        with pytest.raises(IpcError, match="^no negative numbers$") as caught:
            await asker.request("sums", Sum(-1, 3))
        assert caught.value.code == "Refused"
        with pytest.raises(IpcError, match="other = 'x': expected a whole number"):
            await asker.request("sums", {"one": 1, "other": "x"})
        assert (await asker.request("sums", Sum(1, 1))).json == {"total": 2}
        answering.cancel()


async def test_bytes_are_answered_with_bytes(world: World) -> None:
    async with (
        world.open(Settings(), name=ASKER) as asker,
        world.open(Settings(), name=ANSWERER) as answerer,
        answerer.requests("raw") as requests,
        asyncio.TaskGroup() as tasks,
    ):
        asking = tasks.create_task(asker.request("raw", bytes(range(256))))
        request = await anext(requests)
        await request.reply(request.message.payload[::-1])
        assert (await asking).payload == bytes(range(256))[::-1]


async def test_without_an_answer_it_ends_in_time(world: World) -> None:
    async with world.open(Settings(), name=ASKER) as asker:
        with pytest.raises(IpcError, match=r"no answer within 0\.05 s") as caught:
            await asker.request("nobody", {}, timeout_s=0.05)
    assert caught.value.code == "Timeout"


async def test_a_late_answer_is_not_taken_for_another_s(world: World) -> None:
    async with (
        world.open(Settings(), name=ASKER) as asker,
        world.open(Settings(), name=ANSWERER) as answerer,
        answerer.requests("slow") as requests,
        asyncio.TaskGroup() as tasks,
    ):
        with pytest.raises(IpcError):
            await asker.request("slow", {"n": 1}, timeout_s=0.01)
        second = tasks.create_task(asker.request("slow", {"n": 2}))
        for _ in range(2):
            request = await anext(requests)
            await request.reply({"of": request.json["n"]})
        assert (await second).json == {"of": 2}


async def test_what_is_no_request_is_passed_over(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """An answer goes nowhere but to a topic of answers, whatever a request says."""
    async with (
        world.open(Settings(), name=ASKER) as asker,
        world.open(Settings(), name=ANSWERER) as answerer,
        answerer.requests("q") as requests,
        asyncio.TaskGroup() as tasks,
    ):
        for stray in (b"bytes", {"n": 1}, {"request_id": "1", "reply_to": "door/open", "message": {}}):
            await asker.publish("q", stray)
        asking = tasks.create_task(asker.request("q", {"n": 2}))
        request = await anext(requests)
        assert request.json == {"n": 2}
        await request.reply({})
        await asking
    assert caplog.messages.count("a message on q is no request and is passed over") == 3


async def test_a_nucleus_that_goes_away_fails_the_question_at_once(socket_nucleus: Any) -> None:
    async with (
        socket_nucleus.open(Settings(), name=ASKER) as asker,
        socket_nucleus.open(Settings(), name=ANSWERER) as answerer,
        asyncio.TaskGroup() as tasks,
    ):

        async def ask() -> str | None:
            with pytest.raises(IpcError) as caught:
                await asker.request("q", {})
            return caught.value.code

        asking = tasks.create_task(ask())
        await socket_nucleus.nucleus.wait_for("q")
        await socket_nucleus.drop()
        assert await asking == "ConnectionLost"
        async with answerer.requests("q") as requests:
            again = tasks.create_task(asker.request("q", {"again": True}))
            request = await anext(requests)
            await request.reply({"of": request.json})
            assert (await again).json == {"of": {"again": True}}

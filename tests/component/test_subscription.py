"""Mailboxes: order, bounds, gaps, ends."""

import asyncio

import pytest

from monodon.component.messages import Message
from monodon.component.subscription import Closing, Mailbox, Subscription
from monodon.errors import IpcError


def message(number: int) -> Message:
    return Message(topic="a", content={"n": number})


class Source:
    """Opens subscriptions and remembers the mailbox."""

    def __init__(self) -> None:
        self.mailbox: Mailbox | None = None
        self.closed = 0

    async def open(self, mailbox: Mailbox) -> Closing:
        self.mailbox = mailbox

        async def close() -> None:
            self.closed += 1

        return close

    @property
    def box(self) -> Mailbox:
        assert self.mailbox is not None
        return self.mailbox


async def test_messages_of_another_thread_come_in_order() -> None:
    source = Source()
    async with Subscription("a", source.open) as subscription:

        def put() -> None:
            for number in range(500):
                source.box.put(message(number))

        await asyncio.to_thread(put)
        assert [(await anext(subscription)).json["n"] for _ in range(500)] == list(range(500))
    assert source.closed == 1


async def test_a_full_mailbox_drops_the_oldest_and_says_so() -> None:
    source, gaps = Source(), []
    async with Subscription("a", source.open, limit=2, on_gap=lambda: gaps.append(1)) as subscription:
        for number in range(5):
            source.box.put(message(number))
        first, second = await anext(subscription), await anext(subscription)
    assert [first.json["n"], second.json["n"]] == [3, 4]
    assert first.after_gap
    assert not second.after_gap
    assert subscription.dropped == 3
    assert gaps == [1]


async def test_large_messages_are_dropped_by_their_bytes() -> None:
    """However few they are; the latest always stays, and what was read no longer counts."""
    mailbox = Mailbox(limit_bytes=10_000)
    for number in range(8):
        mailbox.put(Message(topic="a", content=bytes([number]) * 4_000))
    assert mailbox.dropped == 6
    assert [await mailbox.get(), await mailbox.get()] == [
        Message(topic="a", content=b"\6" * 4_000, after_gap=True),
        Message(topic="a", content=b"\7" * 4_000),
    ]
    for text in ("x" * 4_000, "y" * 4_000, "z" * 50_000):
        mailbox.put(Message(topic="a", content={"rows": [{"text": text}]}))
    assert mailbox.dropped == 8
    last = await mailbox.get()
    assert last is not None
    assert last.content == {"rows": [{"text": "z" * 50_000}]}
    for _ in range(2):
        mailbox.put(Message(topic="a", content=bytes(4_000)))
    assert mailbox.dropped == 8


async def test_a_gap_marks_the_next_message() -> None:
    source, gaps = Source(), []
    async with Subscription("a", source.open, on_gap=lambda: gaps.append(1)) as subscription:
        source.box.put(message(1))
        source.box.gap()
        source.box.gap()
        source.box.put(message(2))
        source.box.put(message(3))
        marks = [(await anext(subscription)).after_gap for _ in range(3)]
    assert marks == [False, True, False]
    assert gaps == [1]


async def test_an_error_comes_after_what_was_received() -> None:
    source = Source()
    async with Subscription("a", source.open) as subscription:
        source.box.put(message(1))
        source.box.fail(IpcError("no longer allowed", code="UnauthorizedError"))
        assert (await anext(subscription)).json == {"n": 1}
        with pytest.raises(IpcError, match="no longer allowed"):
            await anext(subscription)


async def test_closing_ends_the_loop_of_a_reader() -> None:
    source = Source()
    subscription = Subscription("a", source.open)

    async def read() -> list[Message]:
        return [item async for item in subscription]

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(read())
        while source.mailbox is None:
            await asyncio.sleep(0)
        await subscription.aclose()
    assert reader.result() == []
    assert source.closed == 1


async def test_a_refused_subscription_may_be_tried_again() -> None:
    attempts = []

    async def refuse(mailbox: Mailbox) -> Closing:
        attempts.append(mailbox)
        raise IpcError("refused", code="UnauthorizedError")

    subscription = Subscription("a", refuse)
    for _ in range(2):
        with pytest.raises(IpcError, match="refused"):
            await anext(subscription)
    assert len(attempts) == 2

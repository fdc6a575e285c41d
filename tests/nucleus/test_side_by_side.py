"""Coroutines side by side: one plain error, and no trace of it in the task that waited."""

import asyncio

import pytest

from monodon.nucleus.side_by_side import side_by_side


async def fail(word: str) -> None:
    await asyncio.sleep(0)
    raise ValueError(word)


async def value(number: int) -> int:
    return number


async def test_all_results_in_the_order_of_the_work() -> None:
    assert list((await side_by_side({"b": value(2), "a": value(1)})).items()) == [("b", 2), ("a", 1)]


async def test_the_first_that_fails_cancels_the_others_and_is_raised_plainly() -> None:
    waiting = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            waiting.set()

    with pytest.raises(ValueError, match="no"):
        await side_by_side({"waits": wait(), "fails": fail("no")})
    assert waiting.is_set()


async def test_a_failure_leaves_no_cancellation_behind_in_the_task_that_waited() -> None:
    """With Python up to 3.11.2 a pending one turns the next time-out into the end of the task."""
    with pytest.raises(ValueError, match="no"):
        await side_by_side({"fails": fail("no")})
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.Event().wait()


async def test_the_callers_cancellation_cancels_all() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(side_by_side({"waits": wait()}))
    async with asyncio.timeout(10):
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ended.is_set()

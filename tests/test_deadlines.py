"""Time-outs hold in a task that is being cancelled; with Python up to 3.11.2 asyncio's own do not."""

import asyncio
from typing import Any

import pytest

from monodon.deadlines import patient_timeout, timeout

BOTH = pytest.mark.parametrize("limit", [timeout, patient_timeout])


async def ends(task: "asyncio.Task[Any]") -> Any:
    async with asyncio.timeout(10):
        return await task


@BOTH
async def test_a_time_out_in_the_clean_up_of_a_cancelled_task_is_a_time_out(limit: Any) -> None:
    started, said = asyncio.Event(), []

    async def work() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            try:
                async with limit(0.01):
                    await asyncio.Event().wait()
            except TimeoutError:
                said.append("time out")

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ends(task)
    assert said == ["time out"]


@BOTH
async def test_a_cancellation_from_outside_stays_one(limit: Any) -> None:
    started = asyncio.Event()

    async def work() -> None:
        async with limit(60):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ends(task)


@BOTH
async def test_the_alarm_says_whether_it_went_off(limit: Any) -> None:
    async with limit(None) as quiet:
        pass
    with pytest.raises(TimeoutError):
        async with limit(0) as alarm:
            await asyncio.Event().wait()
    assert (quiet.expired(), alarm.expired()) == (False, True)

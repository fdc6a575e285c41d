"""Time-outs that hold in a task that is being cancelled: in clean-up above all.

In Python 3.11.0 to 3.11.2 (Debian 12 has the last) `asyncio.timeout` raises TimeoutError only in a task with no other
cancellation pending. What stops after SIGTERM has one, so its time-outs would end the clean-up instead of what hangs.

Source: CPython issue 102780, mended in 3.11.3.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager


@asynccontextmanager
async def patient_timeout(delay_s: float | None) -> AsyncIterator[asyncio.Timeout]:
    """`asyncio.timeout` as Python 3.11.3 mended it; without a limit for None."""
    task = asyncio.current_task()
    assert task is not None
    pending = task.cancelling()
    alarm = asyncio.timeout(delay_s)
    try:
        async with alarm:
            yield alarm
    except asyncio.CancelledError as error:
        if alarm.expired() and task.cancelling() <= pending:
            raise TimeoutError from error
        raise


#: Seconds (None: without a limit) → what raises TimeoutError after them, in a task being cancelled too.
timeout: Callable[[float | None], AbstractAsyncContextManager[asyncio.Timeout]] = (
    asyncio.timeout if sys.version_info >= (3, 11, 3) else patient_timeout
)

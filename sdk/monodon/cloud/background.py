"""A task with an owner: it lives as long as a block, and an error of the block comes out as it is.

``asyncio.TaskGroup`` would wrap the block's own error in a group, and a taken port is one clear line.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[asyncio.Task[None]]:
    """Run ``work`` beside the block; at its end it is cancelled, and what it raised before is raised here."""
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.result()

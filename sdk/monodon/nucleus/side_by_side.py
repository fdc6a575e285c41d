"""Several coroutines at once, with one plain error when one fails."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

Key = TypeVar("Key")
Result = TypeVar("Result")


async def side_by_side(work: Mapping[Key, Coroutine[Any, Any, Result]]) -> dict[Key, Result]:
    """Run all to their ends and return what each returned; the first that fails cancels the others.

    Raises:
        Exception: what the first one that failed raised, itself and not in a group.
    """
    failed: Exception | None = None
    tasks = {}
    try:
        async with asyncio.TaskGroup() as group:
            tasks = {key: group.create_task(coroutine, name=str(key)) for key, coroutine in work.items()}
    except ExceptionGroup as errors:
        failed = first(errors)
    if failed is not None:
        raise failed
    return {key: task.result() for key, task in tasks.items()}


def first(errors: ExceptionGroup[Exception]) -> Exception:
    """Return the first error inside a group, or group of groups."""
    error: Exception = errors
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error

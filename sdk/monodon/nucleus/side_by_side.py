"""Several coroutines at once, with one plain error when one fails.

A task group whose child fails cancels its own task, and Python up to 3.11.2 (Debian 12 has that one) does not take
it back: the next `asyncio.timeout` of that task then mistakes its own alarm for a cancellation from outside, and ends
the task. So no error of a child reaches the group here; it is kept, and raised when all have ended.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

Key = TypeVar("Key")
Result = TypeVar("Result")


async def side_by_side(work: Mapping[Key, Coroutine[Any, Any, Result]]) -> dict[Key, Result]:
    """Run all to their ends and return what each returned; the first that fails cancels the others.

    Raises:
        Exception: what the first one that failed raised, itself and not in a group.
        asyncio.CancelledError: the caller was cancelled, or one of the coroutines was, by somebody else.
    """
    failures: list[Exception] = []
    results: dict[Key, Result] = {}

    async def run(key: Key, coroutine: Coroutine[Any, Any, Result]) -> None:
        try:
            results[key] = await coroutine
        except Exception as error:
            failures.append(error)
            for task in tasks:
                task.cancel()

    tasks: list[asyncio.Task[None]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(run(key, coroutine), name=str(key)) for key, coroutine in work.items()]
    finally:
        for coroutine in work.values():
            coroutine.close()  # one that was cancelled before its first step has not been awaited
    if failures:
        raise failures[0]
    if len(results) < len(work):
        raise asyncio.CancelledError
    return {key: results[key] for key in work}


def first(errors: ExceptionGroup[Exception]) -> Exception:
    """Return the first error inside a group, or group of groups."""
    error: Exception = errors
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error

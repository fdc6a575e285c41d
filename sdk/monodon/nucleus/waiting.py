"""Waiting for the statuses of components to be as somebody wants them."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from monodon.core.names import ComponentName
from monodon.nucleus.changes import ComponentStatus

Statuses = Mapping[ComponentName, ComponentStatus]
Predicate = Callable[[Statuses], bool]


@dataclass(frozen=True, slots=True)
class _Waiter:
    predicate: Predicate
    future: asyncio.Future[None]


class Waiters:
    """Those who wait for something to hold of ``statuses``, which is a view that follows changes."""

    def __init__(self, statuses: Statuses) -> None:
        self._statuses = statuses
        self._waiters: list[_Waiter] = []

    async def until(self, predicate: Predicate) -> None:
        """Wait until ``predicate`` holds; it is asked at once, and at every `ask`. What it raises is raised here."""
        if predicate(self._statuses):
            return
        waiter = _Waiter(predicate, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.future
        finally:
            self._waiters.remove(waiter)

    def ask(self) -> None:
        """Ask every predicate whether it holds now."""
        for waiter in self._waiters:
            if waiter.future.done():
                continue
            try:
                if waiter.predicate(self._statuses):
                    waiter.future.set_result(None)
            except Exception as error:
                waiter.future.set_exception(error)

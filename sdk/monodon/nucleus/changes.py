"""Where components are, as others see it, and the stream of changes that tells them."""

import asyncio
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from monodon.core.lifecycle import State, Status
from monodon.core.names import ComponentName

#: A consumer that falls this far behind loses the oldest changes.
MAX_CHANGES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentStatus:
    """Where one component is. ``codes`` and ``reason`` are empty unless it is ERRORED or BROKEN.

    ``is_settled``: it reached what was asked of it, or is BROKEN and will not. ``attempts`` counts the errors that
    led here.
    """

    state: State
    codes: tuple[str, ...] = ()
    reason: str = ""
    is_settled: bool = True
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """A component went from one state to another; ``status`` is how it was right after."""

    name: ComponentName
    before: State
    after: State
    status: ComponentStatus


def component_status(status: Status) -> ComponentStatus:
    """Return what others see of a lifecycle status."""
    failure = status.failure
    reason = "" if failure is None else failure.reason
    if status.state is State.BROKEN:
        reason = f"broken after {status.attempts} attempts: {reason}"
    return ComponentStatus(
        state=status.state,
        codes=() if failure is None else (failure.code,),
        reason=reason,
        is_settled=status.is_settled,
        attempts=status.attempts,
    )


class Changes:
    """Changes of state, in order, from the moment this was made; ``async for`` ends when the supervisor does.

    ``missed`` counts those that were dropped, oldest first, because nobody took them in time.
    """

    def __init__(self, registry: "set[Changes]") -> None:
        self._registry = registry
        self._pending: deque[StatusChange] = deque(maxlen=MAX_CHANGES)
        self._news = asyncio.Event()
        self._is_over = False
        self.missed = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StatusChange:
        while not self._pending:
            if self._is_over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._pending.popleft()

    async def aclose(self) -> None:
        """Hear of no more changes."""
        self.end()

    def add(self, change: StatusChange) -> None:
        """Take a change; never waits."""
        self.missed += len(self._pending) == MAX_CHANGES
        self._pending.append(change)
        self._news.set()

    def end(self) -> None:
        """Let the consumer take what is pending, and then end."""
        self._is_over = True
        self._registry.discard(self)
        self._news.set()

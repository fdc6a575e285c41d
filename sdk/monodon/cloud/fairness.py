"""An event loop that looks at some ready sockets at a time, so that thousands of busy ones do not hold it up.

asyncio handles every ready socket before anything else gets its turn: four thousand devices that speak at once take
most of a second. The kernel hands the ready ones out in turn, so nobody waits for ever.
"""

import asyncio
import select
import selectors
from typing import Any

_READY_AT_ONCE = 200


class FairSelector(selectors.EpollSelector):
    """epoll that returns at most so many events at once."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready, as ``EpollSelector`` does (milliseconds are rounded up, as there)."""
        wait = -1.0 if timeout is None else max(0.0, -(-timeout * 1000 // 1) / 1000)
        inner: Any = self
        try:
            events = inner._selector.poll(wait, _READY_AT_ONCE)
        except InterruptedError:
            return []
        keys = inner._fd_to_key
        ready = []
        for descriptor, event in events:
            key = keys.get(descriptor)
            if key is not None:
                wanted = (event & ~select.EPOLLIN and selectors.EVENT_WRITE) | (
                    event & ~select.EPOLLOUT and selectors.EVENT_READ
                )
                ready.append((key, wanted & key.events))
        return ready


def fair_loop() -> asyncio.AbstractEventLoop:
    """A new event loop on a ``FairSelector`` (for ``asyncio.Runner(loop_factory=…)``)."""
    return asyncio.SelectorEventLoop(FairSelector())

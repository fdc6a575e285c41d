"""While a component is busy, deployments wait."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from monodon.component.link import Link

#: Seconds after which a deployment asks a busy component again.
RECHECK_S = 5.0


class Deferral:
    """What a component answers when a deployment asks whether it may go ahead."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._is_watching = False
        self._opening = asyncio.Lock()
        self._busy: Counter[float] = Counter()

    def recheck_s(self) -> float:
        """Return in how many seconds to ask again; 0: go ahead."""
        return max(self._busy.elements(), default=0.0)

    @asynccontextmanager
    async def busy(self, recheck_s: float) -> AsyncIterator[None]:
        """Be busy for the length of the block."""
        async with self._opening:
            if not self._is_watching:
                await self._link.watch_updates(self.recheck_s)
                self._is_watching = True
        self._busy[recheck_s] += 1
        try:
            yield
        finally:
            self._busy -= Counter({recheck_s: 1})  # drops what has come to nothing

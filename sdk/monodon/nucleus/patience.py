"""How long a deployment may take: as it says itself, else as the nucleus is told; else without end, as AWS's does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from monodon.core.deployment import Deployment
from monodon.deadlines import timeout
from monodon.errors import DeploymentError


@dataclass(slots=True, kw_only=True)
class Patience:
    """The time of one deployment after the other, from its beginning to its end; going back has as much again.

    Args:
        configured: asked for the seconds of those that say nothing themselves; None is without end.
    """

    configured: Callable[[], float | None] = lambda: None
    _limit_s: float | None = None
    _until_s: float = 0.0

    def begin(self, deployment: Deployment) -> None:
        """A deployment begins, or goes on after a restart of the nucleus."""
        self._limit_s = self.configured() if deployment.timeout_s is None else deployment.timeout_s
        self._until_s = asyncio.get_running_loop().time() + (self._limit_s or 0.0)

    @property
    def whole_s(self) -> float | None:
        """How long the deployment under way may take in all."""
        return self._limit_s

    @property
    def left_s(self) -> float | None:
        """How much of that is left."""
        return None if self._limit_s is None else max(0.0, self._until_s - asyncio.get_running_loop().time())

    @asynccontextmanager
    async def limiting(self, waits_for: Callable[[], str]) -> AsyncIterator[None]:
        """End the block when the time is up.

        Raises:
            DeploymentError: it was; the message has what the deployment waited for.
        """
        try:
            async with timeout(self.left_s) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            told = waits_for()
            raise DeploymentError(
                f"the deployment's {self._limit_s:g} s are over" + (f"; it still waits for {told}" if told else "")
            ) from None

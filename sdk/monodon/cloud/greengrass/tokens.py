"""Client tokens: the same token after a success gives the same answer again, for 8 hours."""

from collections.abc import Callable

from monodon.cloud.store import Store
from monodon.core.json import Json

#: Source: GreengrassV2 API reference, ``clientToken``.
KEPT_S = 8 * 3600
_SWEEP_EVERY = 256


class ClientTokens:
    """Answers of the last hours by operation and token."""

    def __init__(self, store: Store, *, now: Callable[[], float]) -> None:
        self._store = store
        self._table = store.table("greengrass.tokens")
        self._now = now
        self._until_sweep = 0

    def once(self, operation: str, token: str | None, act: Callable[[], dict[str, Json]]) -> dict[str, Json]:
        """Return what ``act`` answers, or what it answered when the token was used before; errors are not kept."""
        if token is None:
            return act()
        key = f"{operation}/{token}"
        known = self._table.get(key)
        if known is not None and known["at"] > self._now() - KEPT_S:
            answer: dict[str, Json] = known["answer"]
            return answer
        with self._store.transaction():
            answer = act()
            self._table.put(key, {"at": self._now(), "answer": answer})
            self._sweep()
        return answer

    def _sweep(self) -> None:
        """Now and then, forget what is too old."""
        self._until_sweep -= 1
        if self._until_sweep > 0:
            return
        self._until_sweep = _SWEEP_EVERY
        for key, record in self._table.items():
            if record["at"] <= self._now() - KEPT_S:
                self._table.delete(key)

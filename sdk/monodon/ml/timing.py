"""Latency percentiles of a stream, in bounded memory."""

from collections import deque

#: The percentiles are those of the latest so many measurements.
WINDOW = 10_000


class Latencies:
    """The latest measurements, in milliseconds."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=WINDOW)

    def add(self, latency_ms: float) -> None:
        """Take one more measurement."""
        self._latest.append(latency_ms)

    def __len__(self) -> int:
        return len(self._latest)

    def percentile(self, share: float) -> float | None:
        """Return the smallest measurement that at least ``share`` (0 to 1) of them do not exceed; None without any."""
        if not self._latest:
            return None
        ordered = sorted(self._latest)
        rank = max(1, -(-len(ordered) * share // 1))
        return ordered[int(rank) - 1]

    def summary(self) -> dict[str, float | None]:
        """Return ``p50`` and ``p95`` in milliseconds, to a hundredth."""
        values = {"p50": self.percentile(0.50), "p95": self.percentile(0.95)}
        return {name: None if value is None else round(value, 2) for name, value in values.items()}

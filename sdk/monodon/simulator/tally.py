"""Where a simulated fleet stands: how far devices are with their latest deployment, and why some failed. Pure."""

from collections import Counter
from collections.abc import Mapping

from monodon.core.json import Json
from monodon.simulator.settings import Change


class Tally:
    """Counts changes as they come; of a device its latest deployment counts."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self._latest: dict[str, Change] = {}

    def add(self, change: Change) -> None:
        """A deployment stands differently on a device."""
        before = self._latest.get(change.thing)
        if before is not None:
            self.statuses[before.status] -= 1
        self._latest[change.thing] = change
        self.statuses[change.status] += 1

    @property
    def ended(self) -> int:
        """Devices whose latest deployment has ended."""
        return sum(count for status, count in self.statuses.items() if status != "IN_PROGRESS")

    def causes(self) -> list[tuple[str, int]]:
        """Why devices failed, by the last code of their error stacks: most frequent first."""
        found: Counter[str] = Counter()
        for change in self._latest.values():
            if change.outcome is not None and change.outcome.error_stack:
                found[change.outcome.error_stack[-1]] += 1
        return found.most_common()

    def counts(self) -> Mapping[str, int]:
        """Devices by status, without the statuses that none has."""
        return {status: count for status, count in sorted(self.statuses.items()) if count}

    def to_json(self) -> dict[str, Json]:
        """The same for machines."""
        return {"statuses": dict(self.counts()), "causes": dict(self.causes())}

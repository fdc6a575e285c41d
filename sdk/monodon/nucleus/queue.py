"""Which deployment is next: one at a time, in the order of arrival, by AWS's rules for doubles.

Source: Greengrass nucleus, ``deployment/DeploymentQueue.java``; rules Q2 to Q4 of the device notes.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from monodon.core.deployment import Deployment
from monodon.nucleus.uplink.protocol import Channel, DeploymentArrived


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """A deployment that waits or runs, and the way its results go back (None for a local one)."""

    deployment: Deployment
    arrival: DeploymentArrived | None
    created_ms: int

    @property
    def deployment_id(self) -> str:
        """The deployment's id."""
        return self.deployment.deployment_id

    @property
    def is_shadow(self) -> bool:
        """Whether it came by the deployment shadow."""
        return self.arrival is not None and self.arrival.channel is Channel.SHADOW


class DeploymentQueue:
    """Deployments that wait. All of the shadow's share one place; the same id waits once."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries))

    def add(self, entry: Entry) -> bool:
        """Let an entry wait, in the place of one that it replaces; return False if it is a double and dropped."""
        for index, waiting in enumerate(self._entries):
            if entry.is_shadow and (waiting.is_shadow or waiting.deployment_id == entry.deployment_id):
                self._entries[index] = entry
                return True
            if waiting.deployment_id == entry.deployment_id:
                waiting.arrival = entry.arrival or waiting.arrival
                return False
        self._entries.append(entry)
        return True

    def take(self) -> Entry:
        """Return the next entry and forget it."""
        return self._entries.popleft()

    def find(self, deployment_id: str) -> Entry | None:
        """Return the waiting entry of that id."""
        return next((entry for entry in self._entries if entry.deployment_id == deployment_id), None)

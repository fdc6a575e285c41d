"""Telling how deployments fare: the cloud that sent them, those on the device who want to know, and who asks later."""

import logging
from collections.abc import Awaitable, Callable

from monodon.core.deployment import Outcome, Status
from monodon.errors import MonodonError
from monodon.nucleus.hooks import Progress
from monodon.nucleus.queue import Entry
from monodon.nucleus.uplink.protocol import Channel, Uplink

_log = logging.getLogger(__name__)

#: How many deployments are remembered.
REMEMBERED = 100


class Reporting:
    """Where each deployment is; ``report`` is told of every change of status, the last time when all is committed."""

    def __init__(self, uplink: Uplink, report: Callable[[Progress], Awaitable[None]] | None) -> None:
        self._uplink, self._report = uplink, report
        self._progress: dict[str, Progress] = {}

    def all(self) -> tuple[Progress, ...]:
        """Those that are remembered, oldest first."""
        return tuple(self._progress.values())

    def of(self, deployment_id: str) -> Progress | None:
        """How one of them fares."""
        return self._progress.get(deployment_id)

    async def tell(self, entry: Entry, status: Status) -> None:
        """Tell everybody of a status that is not the end."""
        await self.tell_uplink(entry, status, None)
        await self.tell_listeners(entry, status, None)

    async def tell_uplink(self, entry: Entry, status: Status, outcome: Outcome | None) -> None:
        """Report to where the deployment came from; a cancelled job gets no answer (Q5)."""
        arrival = entry.arrival
        if arrival is None or (status is Status.CANCELED and arrival.channel is Channel.JOB):
            return
        try:
            await self._uplink.report(arrival, str(status), outcome)
        except MonodonError as error:
            _log.error("the status %s of deployment %s could not be reported: %s", status, entry.deployment_id, error)

    async def tell_listeners(
        self, entry: Entry, status: Status, outcome: Outcome | None, unchanged_roots: tuple[str, ...] = ()
    ) -> None:
        """Tell those on the device."""
        progress = self.note(entry, status, outcome, unchanged_roots)
        if self._report is not None:
            await self._report(progress)

    def note(
        self, entry: Entry, status: Status, outcome: Outcome | None = None, unchanged_roots: tuple[str, ...] = ()
    ) -> Progress:
        """Remember how a deployment fares, and forget the oldest."""
        progress = Progress(
            deployment=entry.deployment,
            status=status,
            created_ms=entry.created_ms,
            outcome=outcome,
            unchanged_roots=unchanged_roots,
        )
        self._progress[entry.deployment_id] = progress
        while len(self._progress) > REMEMBERED:
            del self._progress[next(iter(self._progress))]
        return progress

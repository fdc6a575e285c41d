"""How a deployment ends: the end is noted, reported, written, told; then what nobody needs any more is cleaned up.

Source: section 5.8 of the device notes.
"""

import logging
from collections.abc import Callable

from monodon.core.deployment import Status
from monodon.errors import StateError
from monodon.nucleus.consent import Consent
from monodon.nucleus.notes import Ending, Note, Phase, Versions, local_record
from monodon.nucleus.queue import Entry
from monodon.nucleus.reporting import Reporting
from monodon.nucleus.state import DeviceState
from monodon.nucleus.store import Store

_log = logging.getLogger(__name__)


class Conclusion:
    """Ends deployments, on a disk that may refuse it for a while."""

    def __init__(
        self,
        *,
        state: DeviceState,
        store: Store,
        reporting: Reporting,
        consent: Consent,
        at: Callable[[str], None],
    ) -> None:
        self._state, self._store, self._at = state, store, at
        self._reporting, self._consent = reporting, consent
        #: Ends that were reported and that the disk refused to take; they come before anything else is written.
        self._unwritten: list[tuple[Entry, Ending]] = []

    async def end(self, entry: Entry, ending: Ending) -> None:
        """Report the end, then write what it leaves; a kill between the two reports it again."""
        outcome = ending.outcome
        self._note(entry, ending)
        self._at("end noted")
        await self._reporting.tell_uplink(entry, outcome.status, outcome)
        self._at("end reported")
        self._write(entry, ending)
        self._at("committed")
        _log.info("deployment %s: %s %s", entry.deployment_id, outcome.status, outcome.detailed or "")
        await self._reporting.tell_listeners(entry, outcome.status, outcome, ending.unchanged_roots)
        await self._consent.ended(entry.deployment_id)
        if outcome.status in (Status.SUCCEEDED, Status.FAILED):
            await self._clean(() if outcome.has_succeeded else ending.tried)

    def write_former(self) -> None:
        """Write what earlier deployments left, where the disk refused it; else the next one would forget their roots.

        Raises:
            StateError: it still does. A nucleus that starts anew finds them open in the journal and ends them again.
        """
        while self._unwritten:
            self._commit(*self._unwritten[0])
            del self._unwritten[0]

    def _note(self, entry: Entry, ending: Ending) -> None:
        try:
            self.write_former()
            self._state.begin(Note(phase=Phase.REPORTING, entry=entry, ending=ending).to_record())
        except StateError as error:
            _log.error("the end of deployment %s could not be noted: %s", entry.deployment_id, error)

    def _write(self, entry: Entry, ending: Ending) -> None:
        try:
            self.write_former()
            self._commit(entry, ending)
        except StateError as error:
            self._unwritten.append((entry, ending))
            _log.error("the end of deployment %s could not be written yet: %s", entry.deployment_id, error)

    def _commit(self, entry: Entry, ending: Ending) -> None:
        local = {entry.deployment_id: local_record(entry, ending.outcome)} if entry.deployment.is_local else {}
        self._state.commit(roots=ending.roots, last=ending.last, local=local)

    async def _clean(self, tried: Versions) -> None:
        installed = self._state.installed.values()
        running = [(one.name, one.version) for one in installed]
        former = [(one.name, one.previous_version) for one in installed if one.previous_version is not None]
        try:
            await self._store.clean({*running, *former, *tried})
        except OSError as error:
            _log.warning("the component store could not be cleaned: %s", error)

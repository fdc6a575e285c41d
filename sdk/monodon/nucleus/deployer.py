"""Deployments, one at a time: prepare, apply, settle or roll back, report.

What is under way is noted in the journal before it is done, so that a nucleus that was killed goes on where the
device is and ends wholly at the old or wholly at the new set:

=============  =====================================================================================
phase          what a restart does
=============  =====================================================================================
preparing      the device is untouched: a cloud deployment runs again, a local one has FAILED
bootstrapping  run the Bootstrap steps that are left, restart, go on with applying (`restarting`)
applying       plan from the installed set towards the new one, wait, commit or roll back
rolling_back   the same towards the former set
reporting      the end is known: report it, again if need be, and commit
=============  =====================================================================================

Source: Greengrass nucleus, ``deployment/DeploymentService.java``, ``deployment/DefaultDeploymentTask.java``; device
notes 5.3 and 5.6 to 5.9.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

from monodon.core.deployment import (
    CANCELED,
    SUCCEEDED,
    Deployment,
    DetailedStatus,
    Status,
    failure,
    rejection,
)
from monodon.core.plan import Change, compare, dependency_order
from monodon.core.pointers import NoPointer
from monodon.core.target import new_bootstraps, restarting_settings
from monodon.errors import DeploymentError, MonodonError, StateError
from monodon.nucleus.application import Application, Move, complain
from monodon.nucleus.conclusion import Conclusion
from monodon.nucleus.consent import Consent
from monodon.nucleus.hooks import Progress
from monodon.nucleus.notes import Ending, Note, Phase, interrupted, local_record, read_local_record
from monodon.nucleus.patience import Patience
from monodon.nucleus.preparation import Preparation, Prepared
from monodon.nucleus.queue import DeploymentQueue, Entry
from monodon.nucleus.reporting import Reporting
from monodon.nucleus.restarting import RestartPath
from monodon.nucleus.state import DeviceState
from monodon.nucleus.transition import Supervisor
from monodon.nucleus.uplink.protocol import Arrival, DeploymentArrived

_log = logging.getLogger(__name__)


class Deployer:
    """Carries out deployments one after another until `run` is cancelled."""

    def __init__(
        self,
        *,
        state: DeviceState,
        supervisor: Supervisor,
        patience: Patience,
        reporting: Reporting,
        preparation: Preparation,
        consent: Consent,
        application: Application,
        restarts: RestartPath,
        conclusion: Conclusion,
        now_ms: Callable[[], int],
        at: Callable[[str], None],
    ) -> None:
        self._state, self._supervisor, self._now_ms, self._at = state, supervisor, now_ms, at
        self._patience, self._reporting = patience, reporting
        self._preparation, self._consent = preparation, consent
        self._application, self._restarts, self._conclusion = application, restarts, conclusion
        self._queue = DeploymentQueue()
        self._arrived = asyncio.Event()
        record = state.open_deployment
        #: What a nucleus that was killed left open: from the start the one under way, so that no double is queued.
        self._open = None if record is None else Note.from_record(record)
        self._current = None if self._open is None else self._open.entry
        self._preparing: asyncio.Task[Prepared | Exception] | None = None
        self._canceled: set[str] = set()
        self._remember_local()

    def _remember_local(self) -> None:
        """Know the local deployments of before the start; those that were still to begin have failed (5.9)."""
        for deployment_id, record in self._state.local_deployments().items():
            if self._open is None or deployment_id != self._open.entry.deployment_id:
                entry, outcome = read_local_record(deployment_id, record)
                self._reporting.note(entry, outcome.status, outcome)

    # What others ask

    def submit(self, deployment: Deployment, arrival: DeploymentArrived | None = None) -> bool:
        """Queue a deployment; return False if it is dropped as one that waits or runs already (Q2 to Q4)."""
        entry = Entry(deployment=deployment, arrival=arrival, created_ms=self._now_ms())
        current = self._current
        if current is not None and current.deployment_id == entry.deployment_id:
            current.arrival = arrival or current.arrival
            return False
        if current is not None and current.is_shadow and entry.is_shadow:
            self.cancel(current.deployment_id)
        if not self._queue.add(entry):
            return False
        if deployment.is_local:
            self._keep(entry)
        self._reporting.note(entry, Status.QUEUED)
        self._arrived.set()
        return True

    def _keep(self, entry: Entry) -> None:
        """Have it on disk that a local deployment was accepted: who got its id can ask for it after a kill too."""
        try:
            self._state.put_local(entry.deployment_id, local_record(entry, None))
        except StateError as error:
            _log.error("deployment %s would not be known after a restart: %s", entry.deployment_id, error)

    def cancel(self, deployment_id: str) -> bool:
        """Cancel a deployment that has not been applied yet; return False when it is too late for that (Q5)."""
        current = self._current
        if self._queue.find(deployment_id) is None:
            if current is None or current.deployment_id != deployment_id or self._preparing is None:
                return False
            self._preparing.cancel()
        self._canceled.add(deployment_id)
        return True

    def deployments(self) -> tuple[Progress, ...]:
        """The deployments that wait, run, or have ended since the nucleus started, oldest first."""
        return self._reporting.all()

    def progress(self, deployment_id: str) -> Progress | None:
        """How one of them fares."""
        progress, current = self._reporting.of(deployment_id), self._current
        if progress is None or current is None or current.deployment_id != deployment_id:
            return progress
        return replace(progress, awaited=self._application.awaited() or self._agreement())

    def _agreement(self) -> str:
        return self._consent.awaited() if self._preparing is not None else ""

    @property
    def is_deploying(self) -> bool:
        """Whether a deployment is under way."""
        return self._current is not None

    async def follow(self, arrivals: AsyncIterator[Arrival]) -> None:
        """Submit and cancel what an uplink hands out, until it ends."""
        async for arrival in arrivals:
            if isinstance(arrival, DeploymentArrived):
                self.submit(arrival.deployment, arrival)
            else:
                for deployment_id in arrival.deployment_ids:
                    self.cancel(deployment_id)

    async def run(self) -> None:
        """Start what is installed, finish what a killed nucleus left open, then take deployments as they come."""
        if self._open is None or not self._open.is_standstill:
            self._start_all()
        if self._open is not None:
            self._reporting.note(self._open.entry, Status.IN_PROGRESS)
            await self._process(self._recover(self._open))
            self._open = None
        while True:
            while not len(self._queue):
                self._arrived.clear()
                await self._arrived.wait()
            self._current = self._queue.take()
            await self._process(self._deploy(self._current))

    def _start_all(self) -> None:
        for name in dependency_order(self._state.installed):
            if name not in self._supervisor.statuses():
                self._supervisor.put(self._state.installed[name])
                self._supervisor.start(name)

    async def _process(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            if self._current is not None:
                self._canceled.discard(self._current.deployment_id)
            self._current = None

    # Preparing

    async def _deploy(self, entry: Entry) -> None:
        deployment = entry.deployment
        if deployment.deployment_id in self._canceled:
            await self._conclusion.end(entry, Ending(outcome=CANCELED))
            return
        last = self._state.last_deployment(deployment.target)
        if deployment.is_stale(None if last is None else int(last["timestamp_ms"])):
            cause = f"a deployment of {deployment.target} that was made later has been applied already"
            await self._conclusion.end(entry, Ending(outcome=rejection(cause, "REJECTED_STALE_DEPLOYMENT")))
            return
        _log.info("deployment %s of %s begins", deployment.deployment_id, deployment.target)
        self._patience.begin(deployment)
        try:
            self._conclusion.write_former()
            self._state.begin(Note(phase=Phase.PREPARING, entry=entry).to_record())
            self._at("deployment begun")
            await self._reporting.tell(entry, Status.IN_PROGRESS)
            prepared = await self._prepare_cancellably(entry)
            if prepared is None:
                await self._conclusion.end(entry, Ending(outcome=CANCELED))
                return
            note, move = self._switch_to_new(entry, prepared)
        except Exception as error:
            complain(error, deployment, "it changed nothing")
            outcome = failure(error, _no_change(error), is_local=deployment.is_local)
            await self._conclusion.end(entry, Ending(outcome=outcome, tried=self._preparation.tried))
            return
        ending = await (self._restarts.go_on(note) if note.restarts else self._application.apply(note, move))
        await self._conclusion.end(entry, ending)

    async def _prepare_cancellably(self, entry: Entry) -> Prepared | None:
        """Do all that leaves the components alone; None if the deployment was cancelled meanwhile."""

        async def prepare() -> Prepared | Exception:
            try:
                async with self._patience.limiting(self._consent.awaited):
                    return await self._prepare(entry.deployment)
            except Exception as error:
                return error  # raised, it would cancel this task by way of the group: see side_by_side

        try:
            async with asyncio.TaskGroup() as tasks:
                preparing = self._preparing = tasks.create_task(prepare(), name="prepare")
        finally:
            self._preparing = None
        prepared = None if preparing.cancelled() else preparing.result()
        if isinstance(prepared, Exception):
            raise prepared
        # A cancellation that came as the last step ended counts too: it was promised.
        return None if entry.deployment_id in self._canceled else prepared

    async def _prepare(self, deployment: Deployment) -> Prepared:
        if deployment.unknown_capabilities:
            raise DeploymentError(
                f"the deployment needs what this nucleus lacks: {', '.join(deployment.unknown_capabilities)}",
                codes=("NUCLEUS_MISSING_REQUIRED_CAPABILITIES",),
            )
        prepared = await self._preparation.prepare(deployment)
        built = self._preparation.build(prepared)
        for warning in built.warnings:
            _log.warning("%s", warning)
        await self._consent.to_update(deployment)
        await self._consent.to_configure(deployment, self._state.installed, built.target)
        return prepared

    # Applying

    def _switch_to_new(self, entry: Entry, prepared: Prepared) -> tuple[Note, Move]:
        """Make the new set the installed one, on disk, built on the configuration of this very moment."""
        goal = self._preparation.build(prepared).target
        deployment, before = prepared.deployment, dict(self._state.installed)
        last = {
            "arn": deployment.configuration_arn,
            "timestamp_ms": deployment.timestamp_ms,
            "deployment_id": deployment.deployment_id,
        }
        unchanged = [
            name
            for name in deployment.components
            if name in before and compare(before[name], goal[name], known=before) in (Change.NOTHING, Change.CONFIGURE)
        ]
        bootstraps = new_bootstraps(before, goal)
        restarts = bool(bootstraps or restarting_settings(before, goal))
        note = Note(
            phase=Phase.BOOTSTRAPPING if restarts else Phase.APPLYING,
            pending=tuple(name for name in dependency_order(goal) if name in bootstraps),
            restarts=restarts,
            entry=entry,
            goal=goal,
            before=before,
            broken=self._application.broken(),
            ending=Ending(
                outcome=SUCCEEDED,
                roots={deployment.target: prepared.roots[deployment.target], **dict.fromkeys(prepared.left)},
                last={deployment.target: last},
                tried=self._preparation.tried,
                unchanged_roots=tuple(unchanged),
            ),
        )
        return note, self._application.switch(note, reinstall=note.broken | prepared.changed)

    async def _recover(self, note: Note) -> None:
        """Finish what a nucleus that was killed, or stopped, had begun."""
        entry, deployment = note.entry, note.entry.deployment
        _log.info("deployment %s was cut short while %s", deployment.deployment_id, note.phase)
        self._patience.begin(deployment)
        if note.phase is Phase.PREPARING and not deployment.is_local:
            await self._deploy(entry)
        elif note.phase is Phase.PREPARING:
            await self._conclusion.end(entry, Ending(outcome=interrupted()))
        elif note.phase is Phase.REPORTING:
            assert note.ending is not None
            await self._conclusion.end(entry, note.ending)
        elif note.restarts:
            await self._conclusion.end(entry, await self._restarts.go_on(note))
        else:
            await self._conclusion.end(entry, await self._application.resume(note))


def _no_change(error: Exception) -> DetailedStatus | None:
    """What AWS's device did not foresee (rule I4 among it) has no detailed status."""
    is_foreseen = isinstance(error, MonodonError) and not isinstance(error, NoPointer)
    return DetailedStatus.FAILED_NO_STATE_CHANGE if is_foreseen else None

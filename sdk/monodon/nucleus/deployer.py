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
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from monodon.core.deployment import (
    CANCELED,
    SUCCEEDED,
    Deployment,
    DetailedStatus,
    Status,
    UpdateAction,
    failure,
    rejection,
)
from monodon.core.plan import Change, Target, compare, dependency_order
from monodon.core.pointers import NoPointer
from monodon.core.target import Device, new_bootstraps, restarting_settings, validated_changes
from monodon.errors import DeploymentError, MonodonError, StateError
from monodon.nucleus.application import DISK_PAUSE_S, Application, Move, complain
from monodon.nucleus.hooks import NO_HOOKS
from monodon.nucleus.hooks import Hooks as Hooks
from monodon.nucleus.hooks import Progress as Progress
from monodon.nucleus.notes import Ending, Note, Phase, Versions
from monodon.nucleus.patience import Patience
from monodon.nucleus.preparation import Preparation, Prepared
from monodon.nucleus.queue import DeploymentQueue, Entry
from monodon.nucleus.reporting import Reporting
from monodon.nucleus.restarting import RestartPath
from monodon.nucleus.state import DeviceState
from monodon.nucleus.store import Store
from monodon.nucleus.transition import STEADY_S, Supervisor
from monodon.nucleus.uplink.protocol import Arrival, DeploymentArrived, Uplink

_log = logging.getLogger(__name__)


class Deployer:
    """Carries out deployments one after another until `run` is cancelled."""

    def __init__(
        self,
        *,
        state: DeviceState,
        store: Store,
        supervisor: Supervisor,
        uplink: Uplink,
        platform: Mapping[str, str],
        thing: str,
        root: Path,
        report: Callable[[Progress], Awaitable[None]] | None = None,
        hooks: Hooks = NO_HOOKS,
        restart: Callable[[int], None] | None = None,
        region: str | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        timeout_s: Callable[[], float | None] = lambda: None,
        steady_s: float = STEADY_S,
        disk_pause_s: float = DISK_PAUSE_S,
        at: Callable[[str], None] = lambda point: None,
    ) -> None:
        """Compose a deployer; `run` does the work.

        Args:
            platform: the device's attributes (``platform_of``, with platformOverride).
            report: told of every change of status, the last time when all is committed; for status messages.
            restart: asks for a restart of the nucleus (100) or the device (101); None where there can be none.
            timeout_s: asked how long a deployment may take that says nothing itself; None is without end, as AWS's.
            steady_s: how long what has a Run must go on running to count as settled.
            disk_pause_s: how long to wait before a disk is asked again to take what a rollback has to write.
            at: called with a name at each point where being killed must do no harm (crash tests).
        """
        self._state, self._store, self._supervisor = state, store, supervisor
        self._hooks, self._now_ms, self._at = hooks, now_ms, at
        self._reporting = Reporting(uplink, report)
        self._patience = Patience(configured=timeout_s)
        self._application = Application(
            state=state,
            supervisor=supervisor,
            patience=self._patience,
            steady_s=steady_s,
            disk_pause_s=disk_pause_s,
            at=at,
        )
        self._restarts = RestartPath(application=self._application, supervisor=supervisor, restart=restart)
        self._preparation = Preparation(
            state=state,
            store=store,
            uplink=uplink,
            device=Device(
                platform=platform,
                thing=thing,
                root=str(root),
                artifacts=lambda name, version: str(store.artifacts_path(name, version)),
                unarchived=lambda name, version: str(store.unarchived_path(name, version)),
                work=lambda name: str(store.work_path(name)),
            ),
            region=region,
            now_ms=now_ms,
            at=at,
        )
        self._queue = DeploymentQueue()
        self._arrived = asyncio.Event()
        record = state.open_deployment
        #: What a nucleus that was killed left open: from the start the one under way, so that no double is queued.
        self._open = None if record is None else Note.from_record(record)
        self._current = None if self._open is None else self._open.entry
        self._preparing: asyncio.Task[Prepared | Exception] | None = None
        self._canceled: set[str] = set()
        #: Deployments that components were asked about, and are told the end of.
        self._notified: set[str] = set()
        #: Ends that were reported and that the disk refused to take; they come before anything else is written.
        self._unwritten: list[Ending] = []

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
        self._reporting.note(entry, Status.QUEUED)
        self._arrived.set()
        return True

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
        return self._hooks.awaited() if self._preparing is not None else ""

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
            await self._end(entry, Ending(outcome=CANCELED))
            return
        last = self._state.last_deployment(deployment.target)
        if deployment.is_stale(None if last is None else int(last["timestamp_ms"])):
            cause = f"a deployment of {deployment.target} that was made later has been applied already"
            await self._end(entry, Ending(outcome=rejection(cause, "REJECTED_STALE_DEPLOYMENT")))
            return
        _log.info("deployment %s of %s begins", deployment.deployment_id, deployment.target)
        self._patience.begin(deployment)
        try:
            self._write_former_ends()
            self._state.begin(Note(phase=Phase.PREPARING, entry=entry).to_record())
            self._at("deployment begun")
            await self._reporting.tell(entry, Status.IN_PROGRESS)
            prepared = await self._prepare_cancellably(entry)
            if prepared is None:
                await self._end(entry, Ending(outcome=CANCELED))
                return
            note, move = self._switch_to_new(entry, prepared)
        except Exception as error:
            complain(error, deployment, "it changed nothing")
            outcome = failure(error, _no_change(error), is_local=deployment.is_local)
            await self._end(entry, Ending(outcome=outcome, tried=self._preparation.tried))
            return
        ending = await (self._restarts.go_on(note) if note.restarts else self._application.apply(note, move))
        await self._end(entry, ending)

    async def _prepare_cancellably(self, entry: Entry) -> Prepared | None:
        """Do all that leaves the components alone; None if the deployment was cancelled meanwhile."""

        async def prepare() -> Prepared | Exception:
            try:
                async with self._patience.limiting(self._hooks.awaited):
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
        await self._ask_components(deployment)
        await self._validate(deployment, built.target)
        return prepared

    async def _ask_components(self, deployment: Deployment) -> None:
        """Wait for components that want the deployment deferred (case 54)."""
        policy = deployment.update_policy
        if policy.action is not UpdateAction.NOTIFY_COMPONENTS:
            return
        self._notified.add(deployment.deployment_id)
        while (recheck_s := await self._hooks.ask_update(deployment.deployment_id, policy.timeout_s)) > 0:
            who = self._hooks.awaited()
            _log.info("deployment %s is deferred by %.1f s: %s", deployment.deployment_id, recheck_s, who)
            await asyncio.sleep(recheck_s)

    async def _validate(self, deployment: Deployment, target: Target) -> None:
        for name, configuration in validated_changes(self._state.installed, target).items():
            refusal = await self._hooks.validate(
                name, configuration, deployment.deployment_id, deployment.validation_timeout_s
            )
            if refusal is not None:
                raise DeploymentError(
                    f"{name} does not accept its new configuration: {refusal}",
                    codes=("COMPONENT_CONFIGURATION_NOT_VALID",),
                )

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
            stopped = DeploymentError(
                "the nucleus stopped before the deployment was applied", codes=("DEPLOYMENT_INTERRUPTED",)
            )
            outcome = failure(stopped, DetailedStatus.FAILED_NO_STATE_CHANGE, is_local=True)
            await self._end(entry, Ending(outcome=outcome))
        elif note.phase is Phase.REPORTING:
            assert note.ending is not None
            await self._end(entry, note.ending)
        elif note.restarts:
            await self._end(entry, await self._restarts.go_on(note))
        else:
            await self._end(entry, await self._application.resume(note))

    # Ending

    async def _end(self, entry: Entry, ending: Ending) -> None:
        """Report the end, then write what it leaves; a kill between the two reports it again."""
        outcome = ending.outcome
        try:
            self._write_former_ends()
            self._state.begin(Note(phase=Phase.REPORTING, entry=entry, ending=ending).to_record())
        except StateError as error:
            _log.error("the end of deployment %s could not be noted: %s", entry.deployment_id, error)
        self._at("end noted")
        await self._reporting.tell_uplink(entry, outcome.status, outcome)
        self._at("end reported")
        try:
            self._write_former_ends()
            self._state.commit(roots=ending.roots, last=ending.last)
        except StateError as error:
            self._unwritten.append(ending)
            _log.error("the end of deployment %s could not be written yet: %s", entry.deployment_id, error)
        self._at("committed")
        _log.info("deployment %s: %s %s", entry.deployment_id, outcome.status, outcome.detailed or "")
        await self._reporting.tell_listeners(entry, outcome.status, outcome, ending.unchanged_roots)
        if entry.deployment_id in self._notified:
            self._notified.discard(entry.deployment_id)
            await self._hooks.updated(entry.deployment_id)
        if outcome.status in (Status.SUCCEEDED, Status.FAILED):
            await self._clean(() if outcome.has_succeeded else ending.tried)

    def _write_former_ends(self) -> None:
        """Write what earlier deployments left, where the disk refused it; else the next one would forget their roots.

        Raises:
            StateError: it still does. A nucleus that starts anew finds them open in the journal and ends them again.
        """
        while self._unwritten:
            self._state.commit(roots=self._unwritten[0].roots, last=self._unwritten[0].last)
            del self._unwritten[0]

    async def _clean(self, tried: Versions) -> None:
        installed = self._state.installed.values()
        running = [(one.name, one.version) for one in installed]
        former = [(one.name, one.previous_version) for one in installed if one.previous_version is not None]
        try:
            await self._store.clean({*running, *former, *tried})
        except OSError as error:
            _log.warning("the component store could not be cleaned: %s", error)


def _no_change(error: Exception) -> DetailedStatus | None:
    """What AWS's device did not foresee (rule I4 among it) has no detailed status."""
    is_foreseen = isinstance(error, MonodonError) and not isinstance(error, NoPointer)
    return DetailedStatus.FAILED_NO_STATE_CHANGE if is_foreseen else None

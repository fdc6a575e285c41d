"""Deployments that the nucleus restarts for: a Bootstrap step is due, or one of its own settings changes.

=============  =====================================================================================
stage          what happens; a nucleus that starts goes on with the stage that its journal names
=============  =====================================================================================
bootstrapping  the new set is on disk, everything is stopped; the Bootstrap steps run one by one
applying       restarted: everything starts from the new set; commit, or go back
rolling_back   the former set is on disk; what has BootstrapOnRollback runs again; restart; start
=============  =====================================================================================

A marker in the journal stands for AWS's launch folders below ``alts``. Such a deployment always rolls back, whatever
its policy for failures says, as AWS's does.

Source: Greengrass nucleus, ``deployment/activator/KernelUpdateActivator.java``,
``deployment/bootstrap/BootstrapManager.java``; device notes 3.9 and 5.9.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from monodon.core.deployment import DetailedStatus, failure
from monodon.core.plan import Installed, Target, dependency_order
from monodon.core.steps import read_step
from monodon.errors import ConfigurationError
from monodon.nucleus.application import Application, complain, restored, stuck
from monodon.nucleus.notes import Ending, Note, Phase, fingerprint
from monodon.nucleus.transition import Supervisor

_log = logging.getLogger(__name__)

#: What a Bootstrap script exits with to have the nucleus, or the whole device, restarted before the next one.
RESTART, REBOOT = 100, 101


@dataclass(slots=True, kw_only=True)
class RestartPath:
    """Carries deployments across restarts of the nucleus.

    Args:
        restart: asks for a restart (100) of the nucleus or of the device (101), which ends this process by and by;
            None where nobody can start it again: then everything is stopped and started in this process.
    """

    application: Application
    supervisor: Supervisor
    restart: Callable[[int], None] | None = None

    async def go_on(self, note: Note) -> Ending:
        """Begin the deployment that ``note`` tells of, or go on with it after a restart; return how it ends."""
        match note.phase:
            case Phase.BOOTSTRAPPING:
                return await self._bootstrap(note)
            case Phase.ROLLING_BACK:
                return await self._go_back(note)
            case _:
                return await self._activate(note)

    async def _bootstrap(self, note: Note) -> Ending:
        try:
            self._switch_if_due(note)
            await self._stop_all()
            while note.pending:
                note = await self._run_next(note)
            applying = replace(note, phase=Phase.APPLYING)
            self.application.state.begin(applying.to_record())
        except Exception as error:
            return await self._turn_back(replace(note, ran=(*note.ran, *note.pending[:1])), error)
        await self._ask_for(RESTART)
        self._start(applying.goal)
        return await self._activate(applying)

    def _switch_if_due(self, note: Note) -> None:
        """Put the set of ``note`` on disk where a kill came between the note and the set."""
        if fingerprint(self.application.state.installed) == note.origin:
            self.application.switch(note)

    async def _activate(self, note: Note) -> Ending:
        try:
            return await self.application.resume(note)
        except Exception as error:
            return await self._turn_back(note, error)

    async def _turn_back(self, note: Note, error: Exception) -> Ending:
        """Put the former set on disk, with the Bootstrap steps that shall run again (B4)."""
        assert note.ending is not None
        deployment = note.entry.deployment
        complain(error, deployment, "failed, going back")
        ending = Ending(
            outcome=failure(error, DetailedStatus.FAILED_ROLLBACK_COMPLETE, is_local=deployment.is_local),
            tried=note.ending.tried,
        )

        def go_back() -> Note:
            former = restored(note.before, note.goal, self.application.state.installed)
            back = Note(
                phase=Phase.ROLLING_BACK,
                entry=note.entry,
                goal=former,
                broken=note.broken,
                ending=ending,
                pending=tuple(name for name in note.ran if name in former and _runs_on_rollback(former[name])),
                restarts=True,
            )
            self.application.switch(back)
            return back

        try:
            back = await self.application.insist(go_back)
            await self._stop_all()
        except Exception as second:
            return stuck(replace(note, ending=ending), second)
        if not back.pending:
            await self._ask_for(RESTART)
        return await self._go_back(back)

    async def _go_back(self, note: Note) -> Ending:
        is_over = not note.pending
        try:
            await self.application.insist(lambda: self._switch_if_due(note))
            while note.pending:
                note = await self._run_next(note)
        except Exception as error:
            self._start(note.goal)
            return stuck(note, error)
        if not is_over:
            await self._ask_for(RESTART)
        self._start(note.goal)
        return await self.application.resume(note)

    async def _run_next(self, note: Note) -> Note:
        """Run the first pending Bootstrap step; note that it ran; restart where it asks for that.

        Raises:
            DeploymentError: it failed, or overran its time.
        """
        name = note.pending[0]
        installed = self.application.state.installed[name]
        self.supervisor.put(installed)
        _log.info("%s %s: Bootstrap runs", name, installed.version)
        self.application.at(f"bootstrap {name}")
        code = await self.supervisor.bootstrap(name)
        note = replace(note, pending=note.pending[1:], ran=(*note.ran, name))
        if note.phase is Phase.ROLLING_BACK:
            await self.application.insist(lambda: self.application.state.begin(note.to_record()))
        else:
            self.application.state.begin(note.to_record())
        self.application.at(f"bootstrapped {name}")
        if code != 0:
            await self._ask_for(code)
        return note

    async def _ask_for(self, code: int) -> None:
        """Ask for a restart and wait for the end that it brings; return at once where there can be none."""
        self.application.at("restart")
        if self.restart is None:
            _log.warning("the nucleus would restart (%d), but nobody would start it again: it goes on", code)
            return
        _log.info("the nucleus restarts (%d) for a deployment", code)
        self.restart(code)
        await asyncio.Event().wait()

    async def _stop_all(self) -> None:
        for name in self.supervisor.statuses():
            self.supervisor.stop(name)
        await self.supervisor.wait_until(lambda statuses: all(status.is_settled for status in statuses.values()))

    def _start(self, goal: Target) -> None:
        """Start ``goal`` as a nucleus that has just started does, Install first; what leaves is only known."""
        installed = self.application.state.installed
        for name in dependency_order(installed):
            is_known = name in self.supervisor.statuses()
            self.supervisor.put(installed[name])
            if name in goal:
                (self.supervisor.reinstall if is_known else self.supervisor.start)(name)


def _runs_on_rollback(installed: Installed) -> bool:
    try:
        step = read_step(installed.lifecycle, "bootstrap")
    except ConfigurationError:
        return False
    return step is not None and step.is_run_on_rollback

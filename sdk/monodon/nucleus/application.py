"""Applying a deployment: switch the installed set on disk, carry the move out, and go back if it fails.

Each part gives the `Ending` that is to be reported. Nothing here can be cancelled but by the nucleus's own end, after
which `Application.resume` goes on from the note in the journal.

Source: Greengrass nucleus, ``deployment/DeploymentConfigMerger.java``; device notes 5.6, 5.7 and 5.9.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import TypeVar

from monodon.core.configuration import changed_paths
from monodon.core.deployment import Deployment, DetailedStatus, FailureHandling, failure
from monodon.core.lifecycle import State
from monodon.core.names import ComponentName
from monodon.core.plan import Installed, Step, Target, plan
from monodon.errors import MonodonError, StateError
from monodon.nucleus.notes import Ending, Note, Phase, fingerprint
from monodon.nucleus.patience import Patience
from monodon.nucleus.state import DeviceState
from monodon.nucleus.transition import STEADY_S, Supervisor, Transition

_log = logging.getLogger(__name__)

#: How long to wait before the disk is asked again to take what has to be written.
DISK_PAUSE_S = 5.0

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A switch of the installed set that is on disk and has still to be carried out."""

    goal: Target
    leaving: Target
    steps: tuple[Step, ...]


@dataclass(slots=True, kw_only=True)
class Application:
    """The part of a deployment that touches running components.

    Args:
        patience: how long the deployment may still take.
        steady_s: how long what has a Run must go on running to count as settled.
        disk_pause_s: how long to wait for a disk that refuses what must be written before it is asked again.
    """

    state: DeviceState
    supervisor: Supervisor
    patience: Patience = field(default_factory=Patience)
    steady_s: float = STEADY_S
    disk_pause_s: float = DISK_PAUSE_S
    at: Callable[[str], None] = lambda point: None
    _transition: Transition | None = None

    def switch(self, note: Note, *, reinstall: Collection[ComponentName] = ()) -> Move:
        """Write the note and replace the installed set, without a pause between; nothing is carried out yet.

        Components that leave stay installed until the others have settled.

        Raises:
            StateError: the disk refuses it; the installed set is as it was.
        """
        live = dict(self.state.installed)
        leaving = {name: installed for name, installed in live.items() if name not in note.goal}
        self.state.begin(replace(note, origin=fingerprint(live)).to_record())
        self.at(f"{note.phase} noted")
        self.state.replace_installed({**note.goal, **leaving})
        self.at(f"{note.phase} switched")
        return Move(goal=note.goal, leaving=leaving, steps=plan(live, note.goal, reinstall))

    async def apply(self, note: Note, move: Move, *, everything: bool = False) -> Ending:
        """Carry out the move to the new set, or go back; return how the deployment ends.

        Args:
            everything: wait for all of the goal, not only for what the steps touch: after a restart all start anew.

        Raises:
            Exception: a deployment that the nucleus restarted for failed; it goes back by another restart.
        """
        assert note.ending is not None
        deployment = note.entry.deployment
        try:
            await self._carry_out(move, everything=everything)
        except Exception as error:
            if note.restarts:
                raise
            complain(error, deployment, f"failed, {deployment.on_failure}")
            if deployment.on_failure is FailureHandling.ROLLBACK:
                return await self._roll_back(note, error)
            outcome = failure(error, DetailedStatus.FAILED_ROLLBACK_NOT_REQUESTED, is_local=deployment.is_local)
            return replace(note.ending, outcome=outcome)
        return note.ending

    async def resume(self, note: Note) -> Ending:
        """Go on with a move that a nucleus that was killed, or stopped, had noted."""
        move = await self.insist(lambda: self._rest(note))
        if note.phase is Phase.APPLYING:
            return await self.apply(note, move, everything=True)
        return await self._settle_back(note, move, everything=True)

    async def insist(self, write: Callable[[], _Result]) -> _Result:
        """Return what ``write`` does, once the disk takes it: between two sets there is nothing else to do.

        A nucleus that ends meanwhile finds the deployment open in its journal, and goes on with it.
        """
        while True:
            try:
                return write()
            except StateError as error:
                _log.error("the deployment under way waits for the disk: %s", error)
                await asyncio.sleep(self.disk_pause_s)

    def awaited(self) -> str:
        """For whom a deployment waits that is being applied, with the state of each; empty for nobody."""
        transition = self._transition
        return "" if transition is None else transition.waits_for()

    def broken(self) -> frozenset[ComponentName]:
        """The components that are BROKEN now."""
        statuses = self.supervisor.statuses()
        return frozenset(name for name, status in statuses.items() if status.state is State.BROKEN)

    def _rest(self, note: Note) -> Move:
        """The rest of the way from where the device is; the switch itself is made if it was not yet on disk."""
        live = dict(self.state.installed)
        if fingerprint(live) == note.origin:
            return self.switch(note)
        # What components wrote into their configuration since then stays.
        goal = {name: live.get(name, installed) for name, installed in note.goal.items()}
        leaving = {name: installed for name, installed in live.items() if name not in goal}
        return Move(goal=goal, leaving=leaving, steps=plan(live, goal))

    async def _carry_out(
        self, move: Move, *, ignoring: Collection[ComponentName] = (), everything: bool, is_back: bool = False
    ) -> None:
        transition = self._transition = Transition(
            supervisor=self.supervisor,
            timeout_s=self.patience.whole_s if is_back else self.patience.left_s,
            steady_s=self.steady_s,
            at=self.at,
        )
        touched = transition.begin(move.steps)
        try:
            await transition.settle(move.goal, move.goal if everything else touched, ignoring=ignoring)
        finally:
            self._transition = None
        self.at("settled")
        await transition.finish()
        if is_back:
            await self.insist(lambda: self.state.remove_installed(*move.leaving))
        else:
            self.state.remove_installed(*move.leaving)

    async def _roll_back(self, note: Note, error: Exception) -> Ending:
        """Go back to the former set, its configuration included."""
        assert note.ending is not None
        outcome = failure(error, DetailedStatus.FAILED_ROLLBACK_COMPLETE, is_local=note.entry.deployment.is_local)
        ending = Ending(outcome=outcome, tried=note.ending.tried)

        def go_back() -> tuple[Note, Move]:
            back = Note(
                phase=Phase.ROLLING_BACK,
                entry=note.entry,
                goal=restored(note.before, note.goal, self.state.installed),
                broken=note.broken,
                ending=ending,
            )
            return back, self.switch(back, reinstall=self.broken())

        try:
            back, move = await self.insist(go_back)
        except Exception as second:
            return stuck(replace(note, ending=ending), second)
        return await self._settle_back(back, move)

    async def _settle_back(self, note: Note, move: Move, *, everything: bool = False) -> Ending:
        assert note.ending is not None
        try:
            await self._carry_out(move, ignoring=note.broken, everything=everything, is_back=True)
        except Exception as error:
            return stuck(note, error)
        return note.ending


def stuck(note: Note, error: Exception) -> Ending:
    """The end of a deployment that failed and could not be rolled back either."""
    assert note.ending is not None
    complain(error, note.entry.deployment, "rolling back failed too")
    first, second = note.ending.outcome, failure(error, DetailedStatus.FAILED_UNABLE_TO_ROLLBACK)
    outcome = replace(
        first,
        detailed=DetailedStatus.FAILED_UNABLE_TO_ROLLBACK,
        cause=f"{first.cause}. Rolling back failed too: {second.cause}",
        error_stack=tuple(dict.fromkeys((*first.error_stack, *second.error_stack))),
        error_types=tuple(dict.fromkeys((*first.error_types, *second.error_types))),
    )
    return replace(note.ending, outcome=outcome)


def restored(before: Target, goal: Target, live: Target) -> Target:
    """The former set; a component that the deployment did not configure keeps what was written to it since."""
    target: dict[ComponentName, Installed] = {}
    for name, former in before.items():
        tried, now = goal.get(name), live.get(name)
        is_untouched = tried is not None and not changed_paths(former.configuration, tried.configuration)
        if now and is_untouched:
            former = replace(former, configuration=now.configuration, origins=now.origins)
        target[name] = former
    return target


def complain(error: Exception, deployment: Deployment, what: str) -> None:
    """Log a failure once: an expected one in a line, anything else with its trace."""
    if isinstance(error, MonodonError):
        _log.error("deployment %s: %s: %s", deployment.deployment_id, what, error)
    else:
        _log.error("deployment %s: %s", deployment.deployment_id, what, exc_info=error)

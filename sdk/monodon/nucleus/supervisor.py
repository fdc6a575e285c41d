"""Runs the components of a device: lifecycle effects become processes, the ends of processes become events.

What happens next is decided by `monodon.core.lifecycle` alone. Everything here runs on one loop; a component has at
most one task, that of its latest effect, and a new effect ends the one before. So what comes of an earlier start can
never be mistaken for news of the present one.
"""

import asyncio
import hashlib
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from monodon.core.lifecycle import (
    REPORTABLE,
    Effect,
    Event,
    Failure,
    Request,
    State,
    Status,
    advance,
    due,
    is_ready,
    request,
)
from monodon.core.names import ComponentName
from monodon.core.plan import Installed, RunWith
from monodon.core.steps import read_error_reset_s
from monodon.errors import DeploymentError
from monodon.nucleus import orphans
from monodon.nucleus.changes import Changes as Changes
from monodon.nucleus.changes import ComponentStatus as ComponentStatus
from monodon.nucleus.changes import StatusChange as StatusChange
from monodon.nucleus.changes import component_status
from monodon.nucleus.closing import UP, close_all
from monodon.nucleus.limits import Limits
from monodon.nucleus.logs import Logs
from monodon.nucleus.member import Member
from monodon.nucleus.members import Members
from monodon.nucleus.process import is_running_child
from monodon.nucleus.ready_step import Device
from monodon.nucleus.waiting import Waiters

_LOG = logging.getLogger(__name__)

#: Seconds that all components together have to stop when the nucleus stops.
CLOSE_S = 30.0

_REPORT_CODES = {
    State.NEW: "INSTALL_ERROR",
    State.STARTING: "STARTUP_ERROR",
    State.RUNNING: "RUN_ERROR",
    State.STOPPING: "SHUTDOWN_ERROR",
}


class Supervisor:
    """Every component of one device. ``async with`` it; leaving stops them all, those that need others first.

    Args:
        root: the device's folder.
        environment: the variables that the nucleus has for a component, before its recipe's own.
        logs: where what components print goes.
        clock: seconds on a monotonic clock, for the hour after which errors are forgotten.
        default_user: ``user[:group]`` of components without their own, when the nucleus is root.
        shell: what scripts are given to.
        default_limits: asked for the limits of components without their own, at each start of a process.
        limits: what keeps ``systemResourceLimits``; by default what this machine offers.
        close_s: seconds that all components together have to stop when this is left.
    """

    def __init__(
        self,
        *,
        root: Path,
        environment: Callable[[Installed], Mapping[str, str]],
        logs: Logs,
        clock: Callable[[], float] = time.monotonic,
        default_user: str | None = None,
        shell: str = "sh",
        default_limits: Callable[[], RunWith] = RunWith,
        limits: Limits | None = None,
        close_s: float = CLOSE_S,
    ) -> None:
        tag = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:8]
        self._device = Device(
            root=root,
            environment=environment,
            logs=logs,
            limits=limits or Limits(tag),
            default_user=default_user,
            shell=shell,
            default_limits=default_limits,
        )
        self._clock = clock
        self._close_s = close_s
        self._members = Members()
        self._statuses: dict[ComponentName, ComponentStatus] = {}
        self._stirred: dict[ComponentName, Member] = {}
        self._feeds: deque[tuple[Member, Event, Failure | None]] = deque()
        self._is_pumping = False
        self._is_closing = False
        self._changes: set[Changes] = set()
        self._waiters = Waiters(self.statuses())
        self._tasks = asyncio.TaskGroup()
        self._reaper = orphans.Reaper(is_running_child)

    async def __aenter__(self) -> Self:
        await self._reaper.__aenter__()
        try:
            await self._end_strays()
            await self._tasks.__aenter__()
        except BaseException:
            await self._reaper.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._close()
        finally:
            try:
                await self._tasks.__aexit__(kind, error, trace)
            finally:
                await self._reaper.__aexit__(None, None, None)
                for changes in tuple(self._changes):
                    changes.end()

    def put(self, installed: Installed) -> None:
        """Learn a component, or a new definition of one; the process that runs goes on with the old one."""
        if installed.name in self._members:
            member = self._members[installed.name]
            self._redefine(member, installed)
        else:
            member = Member(installed, self._device, feed=self._feed, is_ready=self._members.is_ready)
            self._members.add(member)
        self._note(member)
        for affected in self._members.dependers(installed.name):
            if affected.status.state is State.INSTALLED:
                self._note(affected)
        self._pump()

    def _redefine(self, member: Member, installed: Installed) -> None:
        before = member.installed
        member.execution.installed = installed
        if installed.dependencies != before.dependencies:
            self._members.rewire()
        if installed.run_with.limits != before.run_with.limits:
            self._limit(member)

    def start(self, name: ComponentName) -> None:
        """Ask a component to run; Install comes first, its hard dependencies gate it."""
        self._ask(name, Request.START)

    def stop(self, name: ComponentName) -> None:
        """Ask a component to stop and stay so."""
        self._ask(name, Request.STOP)

    def restart(self, name: ComponentName) -> None:
        """Ask for Shutdown and a new start, without Install."""
        self._ask(name, Request.RESTART)

    def reinstall(self, name: ComponentName) -> None:
        """Ask for Shutdown, Install and a new start; the only way out of BROKEN."""
        self._ask(name, Request.REINSTALL)

    async def remove(self, name: ComponentName) -> None:
        """Stop a component, run its Uninstall, forget it; waits until those that need it have stopped.

        A component that is not there is removed already.
        """
        if name not in self._members:
            return
        await self.wait_until(lambda _: self._members.is_removable(name))
        if name in self._members:
            self._ask(name, Request.UNINSTALL)
        await self.wait_until(lambda statuses: name not in statuses)

    async def bootstrap(self, name: ComponentName) -> int:
        """Run the Bootstrap step of the definition last put; return its exit code, 0 where there is none.

        Raises:
            DeploymentError: it failed, could not be run, or overran its time (COMPONENT_BOOTSTRAP_TIMEOUT).
        """
        member = self._members[name]
        outcome = await member.execution.bootstrap()
        if isinstance(outcome, int):
            return outcome
        code = "COMPONENT_BOOTSTRAP_TIMEOUT" if outcome.code.endswith("_TIMEOUT") else "COMPONENT_BOOTSTRAP_ERROR"
        which = f"{name} {member.installed.version}"
        raise DeploymentError(f"{which}: {outcome.reason}", codes=("COMPONENT_UPDATE_ERROR", code))

    def report(self, name: ComponentName, state: State) -> bool:
        """Take what a component's own code says of it; False when that cannot be said now, and is ignored."""
        member = self._members[name]
        event = REPORTABLE.get((member.status.state, state))
        if event is None:
            _LOG.debug("%s reports %s while %s: ignored", name, state, member.status.state)
            return False
        failure = None
        if event is Event.FAILED:
            code = _REPORT_CODES[member.status.state]
            failure = Failure(code=code, reason="the component reported ERRORED itself")
        self._feed(member, event, failure)
        return True

    def pause(self, name: ComponentName) -> bool:
        """Freeze the processes of a running component; False when it does not run, or is paused already."""
        member = self._members[name]
        if member.status.state is not State.RUNNING or member.is_paused:
            return False
        member.execution.signal(signal.SIGSTOP)
        member.is_paused = True
        return True

    def resume(self, name: ComponentName) -> bool:
        """Let a paused component go on; False when it is not paused."""
        member = self._members[name]
        if not member.is_paused:
            return False
        member.execution.signal(signal.SIGCONT)
        member.is_paused = False
        return True

    def status(self, name: ComponentName) -> ComponentStatus:
        """Return where a component is.

        Raises:
            StateError: there is no such component.
        """
        self._members[name]
        return self._statuses[name]

    def statuses(self) -> Mapping[ComponentName, ComponentStatus]:
        """Return where every component is, a view that follows changes."""
        return MappingProxyType(self._statuses)

    def pids(self, name: ComponentName) -> list[int]:
        """Return every process that runs for a component now."""
        return self._members[name].execution.pids()

    def changes(self) -> Changes:
        """Return what to iterate for every change of state from now on; close it, or use ``async with``."""
        changes = Changes(self._changes)
        self._changes.add(changes)
        return changes

    async def wait_until(self, predicate: Callable[[Mapping[ComponentName, ComponentStatus]], bool]) -> None:
        """Wait until ``predicate`` holds for the statuses of all components; asked after every change.

        A component may have gone on by the time the caller does; `changes` tells of every state it was in.
        """
        await self._waiters.until(predicate)

    def _ask(self, name: ComponentName, wanted: Request) -> None:
        member = self._members[name]
        if self._is_closing:
            return
        member.status = request(member.status, wanted)
        self._note(member)
        self._pump()

    def _feed(self, member: Member, event: Event, failure: Failure | None = None) -> None:
        self._feeds.append((member, event, failure))
        self._pump()

    def _pump(self) -> None:
        """Take what was fed, then what desired states call for, until nothing more follows."""
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while True:
                while self._feeds:
                    self._advance(*self._feeds.popleft())
                if not self._drive():
                    break
        finally:
            self._is_pumping = False
        self._waiters.ask()

    def _drive(self) -> bool:
        """Advance what can go on by itself, of those whose case may have changed; say whether any could."""
        moved = False
        while self._stirred:
            member = self._stirred.popitem()[1]
            ready = member.status.state is State.INSTALLED and self._members.is_ready(member)
            if (event := due(member.status, is_ready=ready)) is not None:
                self._advance(member, event, None)
                moved = True
        return moved

    def _advance(self, member: Member, event: Event, failure: Failure | None) -> None:
        before = member.status
        reset_s = read_error_reset_s(member.installed.lifecycle)
        member.status, effects = advance(before, event, self._clock(), failure, error_reset_s=reset_s)
        self._note(member)
        if member.status.state is not before.state:
            self._changed(member, before)
        if member.status.state is State.RUNNING and member.deadline is not None and not member.deadline.expired():
            member.deadline.reschedule(None)
        for effect in effects:
            self._perform(member, effect)

    def _changed(self, member: Member, before: Status) -> None:
        name, status = member.installed.name, member.status
        reason = f": {status.failure.reason}" if status.failure else ""
        level = logging.ERROR if status.state is State.BROKEN else logging.WARNING if reason else logging.INFO
        _LOG.log(level, "%s: %s -> %s%s", name, before.state, status.state, reason)
        change = StatusChange(
            name=name, before=before.state, after=status.state, status=component_status(status)
        )  # fmt: skip
        for changes in self._changes:
            changes.add(change)
        is_lost = not is_ready(status, is_hard=True) and not self._is_closing
        for depender in self._members.dependers(name):
            if is_lost and depender.status.state in UP:
                depender.status = request(depender.status, Request.RESTART)
            self._note(depender)
        if status.state is State.UNINSTALLED:
            self._members.remove(name)
            del self._statuses[name], self._stirred[name]

    def _note(self, member: Member) -> None:
        self._stirred[member.installed.name] = member
        if member.noted is not member.status:
            member.noted = member.status
            self._statuses[member.installed.name] = component_status(member.status)

    def _perform(self, member: Member, effect: Effect) -> None:
        previous, member.deadline = member.task, None
        if previous is not None:
            previous.cancel()
        name = f"{member.installed.name}: {effect.value}"
        member.task = self._tasks.create_task(member.carry_out(effect, previous), name=name)

    async def _end_strays(self) -> None:
        """End what a nucleus of this root left running when it was killed."""
        mark = self._device.mark("")
        if strays := orphans.marked(orphans.everyone(), mark):
            _LOG.warning("processes of an earlier life are ended: %s", strays)
            await orphans.end(lambda: orphans.alive(orphans.marked(orphans.everyone(), mark)))

    async def _close(self) -> None:
        """Stop everything, dependers first, within their time; then end what is left."""
        self._is_closing = True
        await close_all(
            self._members,
            finish=self._finish,
            wait_until=lambda holds: self.wait_until(lambda _: holds()),
            time_s=self._close_s,
        )
        await orphans.end(lambda: orphans.alive(orphans.marked(orphans.children(os.getpid()), self._device.mark(""))))
        for member in self._members:
            self._device.limits.forget(member.installed.name)

    def _finish(self, member: Member) -> None:
        member.status = replace(member.status, desired=(State.FINISHED,))
        self._note(member)
        self._pump()

    def _limit(self, member: Member) -> None:
        installed = member.installed
        try:
            self._device.limits.update(installed.name, installed.run_with, member.execution.pids())
        except OSError as error:
            _LOG.warning("%s: its limits could not be changed: %s", installed.name, error)

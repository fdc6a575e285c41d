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
from dataclasses import dataclass, replace
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
    is_out_of_the_way,
    is_ready,
    request,
)
from monodon.core.names import ComponentName
from monodon.core.plan import Installed, RunWith, dependency_order
from monodon.core.steps import read_error_reset_s
from monodon.deadlines import timeout
from monodon.errors import DeploymentError, StateError
from monodon.nucleus import orphans
from monodon.nucleus.changes import Changes as Changes
from monodon.nucleus.changes import ComponentStatus as ComponentStatus
from monodon.nucleus.changes import StatusChange as StatusChange
from monodon.nucleus.changes import component_status
from monodon.nucleus.execution import Device
from monodon.nucleus.limits import Limits
from monodon.nucleus.logs import Logs
from monodon.nucleus.member import Member
from monodon.nucleus.process import is_running_child

_LOG = logging.getLogger(__name__)

#: Seconds that all components together have to stop when the nucleus stops.
CLOSE_S = 30.0

_REPORT_CODES = {
    State.NEW: "INSTALL_ERROR",
    State.STARTING: "STARTUP_ERROR",
    State.RUNNING: "RUN_ERROR",
    State.STOPPING: "SHUTDOWN_ERROR",
}
_UP = (State.STARTING, State.RUNNING)


@dataclass(frozen=True, slots=True)
class _Waiter:
    predicate: Callable[[Mapping[ComponentName, ComponentStatus]], bool]
    future: asyncio.Future[None]


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
        self._members: dict[ComponentName, Member] = {}
        self._statuses: dict[ComponentName, ComponentStatus] = {}
        self._stirred: dict[ComponentName, Member] = {}
        #: Who needs a component to run; None until it is asked for again.
        self._needed_by: dict[ComponentName, list[Member]] | None = None
        self._feeds: deque[tuple[Member, Event, Failure | None]] = deque()
        self._is_pumping = False
        self._is_closing = False
        self._changes: set[Changes] = set()
        self._waiters: list[_Waiter] = []
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
        member = self._members.get(installed.name)
        if member is None or member.installed.dependencies != installed.dependencies:
            self._needed_by = None
        if member is None:
            member = self._members[installed.name] = Member(
                installed, self._device, feed=self._feed, is_ready=self._is_ready
            )
        else:
            before = member.installed.run_with
            member.execution.installed = installed
            if installed.run_with.limits != before.limits:
                self._limit(member)
        self._note(member)
        for affected in self._members.values() if self._needed_by is None else self._dependers(installed.name):
            if affected.status.state is State.INSTALLED:
                self._note(affected)
        self._pump()

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
        await self.wait_until(lambda _: self._is_removable(name))
        if name in self._members:
            self._ask(name, Request.UNINSTALL)
        await self.wait_until(lambda statuses: name not in statuses)

    async def bootstrap(self, name: ComponentName) -> int:
        """Run the Bootstrap step of the definition last put; return its exit code, 0 where there is none.

        Raises:
            DeploymentError: it failed, could not be run, or overran its time (COMPONENT_BOOTSTRAP_TIMEOUT).
        """
        member = self._member(name)
        outcome = await member.execution.bootstrap()
        if isinstance(outcome, int):
            return outcome
        code = "COMPONENT_BOOTSTRAP_TIMEOUT" if outcome.code.endswith("_TIMEOUT") else "COMPONENT_BOOTSTRAP_ERROR"
        which = f"{name} {member.installed.version}"
        raise DeploymentError(f"{which}: {outcome.reason}", codes=("COMPONENT_UPDATE_ERROR", code))

    def report(self, name: ComponentName, state: State) -> bool:
        """Take what a component's own code says of it; False when that cannot be said now, and is ignored."""
        member = self._member(name)
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
        member = self._member(name)
        if member.status.state is not State.RUNNING or member.is_paused:
            return False
        member.execution.signal(signal.SIGSTOP)
        member.is_paused = True
        return True

    def resume(self, name: ComponentName) -> bool:
        """Let a paused component go on; False when it is not paused."""
        member = self._member(name)
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
        self._member(name)
        return self._statuses[name]

    def statuses(self) -> Mapping[ComponentName, ComponentStatus]:
        """Return where every component is, a view that follows changes."""
        return MappingProxyType(self._statuses)

    def pids(self, name: ComponentName) -> list[int]:
        """Return every process that runs for a component now."""
        return self._member(name).execution.pids()

    def changes(self) -> Changes:
        """Return what to iterate for every change of state from now on; close it, or use ``async with``."""
        changes = Changes(self._changes)
        self._changes.add(changes)
        return changes

    async def wait_until(self, predicate: Callable[[Mapping[ComponentName, ComponentStatus]], bool]) -> None:
        """Wait until ``predicate`` holds for the statuses of all components; asked after every change.

        A component may have gone on by the time the caller does; `changes` tells of every state it was in.
        """
        if predicate(self.statuses()):
            return
        waiter = _Waiter(predicate, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.future
        finally:
            self._waiters.remove(waiter)

    def _member(self, name: ComponentName) -> Member:
        try:
            return self._members[name]
        except KeyError:
            raise StateError(f"the device has no component {name}") from None

    def _ask(self, name: ComponentName, wanted: Request) -> None:
        member = self._member(name)
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
        for waiter in self._waiters:
            if waiter.future.done():
                continue
            try:
                if waiter.predicate(self.statuses()):
                    waiter.future.set_result(None)
            except Exception as error:
                waiter.future.set_exception(error)

    def _drive(self) -> bool:
        """Advance what can go on by itself, of those whose case may have changed; say whether any could."""
        moved = False
        while self._stirred:
            member = self._stirred.popitem()[1]
            ready = member.status.state is State.INSTALLED and self._is_ready(member)
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
        for depender in self._dependers(name):
            if is_lost and depender.status.state in _UP:
                depender.status = request(depender.status, Request.RESTART)
            self._note(depender)
        if status.state is State.UNINSTALLED:
            del self._members[name], self._statuses[name], self._stirred[name]
            self._needed_by = None

    def _note(self, member: Member) -> None:
        self._stirred[member.installed.name] = member
        if member.noted is not member.status:
            member.noted = member.status
            self._statuses[member.installed.name] = component_status(member.status)

    def _dependers(self, name: ComponentName) -> list[Member]:
        if self._needed_by is None:
            self._needed_by = {}
            for member in self._members.values():
                for needed in member.hard_dependencies():
                    self._needed_by.setdefault(needed, []).append(member)
        return self._needed_by.get(name, [])

    def _is_ready(self, member: Member) -> bool:
        return all(
            name in self._members and is_ready(self._members[name].status, is_hard=True)
            for name in member.hard_dependencies()
        )

    def _is_removable(self, name: ComponentName) -> bool:
        return all(is_out_of_the_way(member.status) for member in self._dependers(name))

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
        for member in self._members.values():
            if member.status.state not in _UP:
                member.status = replace(member.status, desired=())
        try:
            async with timeout(self._close_s), asyncio.TaskGroup() as group:
                closing: dict[ComponentName, asyncio.Task[None]] = {}
                order = dependency_order({name: member.installed for name, member in self._members.items()})
                for name in reversed(order):
                    before = [closing[each.installed.name] for each in self._dependers(name)
                              if each.installed.name in closing]  # fmt: skip
                    closing[name] = group.create_task(self._close_member(self._members[name], before))
        except TimeoutError:
            _LOG.warning("components took longer than %g s to stop; they are ended at once", self._close_s)
        for member in tuple(self._members.values()):
            await self._drop(member, grace_s=0)
        await orphans.end(lambda: orphans.alive(orphans.marked(orphans.children(os.getpid()), self._device.mark(""))))
        for name in self._members:
            self._device.limits.forget(name)

    async def _close_member(self, member: Member, before: list[asyncio.Task[None]]) -> None:
        if before:
            await asyncio.wait(before)
        if member.status.state in (*_UP, State.STOPPING):
            member.status = replace(member.status, desired=(State.FINISHED,))
            self._note(member)
            self._pump()
            await self.wait_until(lambda _: member.status.state is not State.STOPPING)
        elif member.status.state is State.BROKEN:
            await self.wait_until(lambda _: not member.status.is_busy)
        await self._drop(member)

    async def _drop(self, member: Member, grace_s: float = orphans.GRACE_S) -> None:
        if member.task is not None and not member.task.done():
            member.task.cancel()
            await asyncio.wait([member.task])
        await member.execution.end_all(grace_s=grace_s)

    def _limit(self, member: Member) -> None:
        installed = member.installed
        try:
            self._device.limits.update(installed.name, installed.run_with, member.execution.pids())
        except OSError as error:
            _LOG.warning("%s: its limits could not be changed: %s", installed.name, error)

"""One component under supervision: its status, its processes, and how each effect of its lifecycle is carried out."""

import asyncio
import logging
import signal
from collections.abc import Callable

from monodon.core.lifecycle import TRANSITIONS, Effect, Event, Failure, State, Status
from monodon.core.names import ComponentName
from monodon.core.plan import Installed
from monodon.core.recipe.model import DependencyType
from monodon.deadlines import timeout
from monodon.nucleus.execution import Execution, Launched
from monodon.nucleus.ready_step import Device

_LOG = logging.getLogger(__name__)

_IO_ERRORS = {
    Effect.INSTALL: "INSTALL_IO_ERROR",
    Effect.START: "STARTUP_IO_ERROR",
    Effect.SHUT_DOWN: "SHUTDOWN_ERROR",
}
#: Effects that cannot fail go on like this when something unforeseen happens.
_WAYS_ON = {Effect.RECOVER: Event.RECOVERED, Effect.UNINSTALL: Event.UNINSTALLED}


class Member:
    """One component. ``status`` belongs to the supervisor; ``task`` carries out its latest effect.

    Args:
        feed: told what came of an effect.
        is_ready: whether all hard dependencies of a member are ready.
    """

    def __init__(
        self,
        installed: Installed,
        device: Device,
        *,
        feed: "Callable[[Member, Event, Failure | None], None]",
        is_ready: "Callable[[Member], bool]",
    ) -> None:
        self.status = Status()
        #: The status that others were told of last.
        self.noted: Status | None = None
        self.execution = Execution(installed, device, lambda: self.status.state)
        self.task: asyncio.Task[None] | None = None
        #: When a Startup has had its time; moved away once the component is RUNNING.
        self.deadline: asyncio.Timeout | None = None
        self.is_paused = False
        self._device = device
        self._feed = feed
        self._is_ready = is_ready

    @property
    def installed(self) -> Installed:
        """Its definition as last put."""
        return self.execution.installed

    def hard_dependencies(self) -> list[ComponentName]:
        """The components that it needs to run."""
        return [name for name, kind in self.installed.dependencies.items() if kind is DependencyType.HARD]

    async def carry_out(self, effect: Effect, previous: asyncio.Task[None] | None) -> None:
        """Carry out an effect, once the task of the one before has ended, and tell what came of it."""
        if previous is not None and not previous.done():
            await asyncio.wait([previous])
        try:
            match effect:
                case Effect.INSTALL:
                    await self._install()
                case Effect.START:
                    await self._start()
                case Effect.SHUT_DOWN:
                    await self._shut_down()
                case Effect.RECOVER:
                    await self._recover()
                case Effect.UNINSTALL:
                    await self._uninstall()
        except Exception as error:
            # One component must not take the others down with it.
            _LOG.exception("%s: could not %s", self.installed.name, effect.value)
            event = _WAYS_ON.get(effect, Event.FAILED)
            failure = Failure(code=_IO_ERRORS.get(effect, "NONE"), reason=f"could not {effect.value}: {error}")
            if (self.status.state, event) in TRANSITIONS:
                self._tell(event, failure)

    async def _install(self) -> None:
        await self.execution.end_all()
        failure = await self.execution.run("install")
        self._tell(Event.FAILED if failure else Event.INSTALLED, failure)

    async def _start(self) -> None:
        if self.execution.pids():
            await self.execution.end_all()
        if not self._is_ready(self):
            self._tell(Event.UNREADY)
            return
        launched = await self.execution.launch()
        if not isinstance(launched, Launched):
            self._tell(Event.FAILED if launched else Event.NOTHING_TO_RUN, launched)
            return
        if launched.is_run:
            self._tell(Event.STARTED)
        await self._watch(launched)

    async def _watch(self, launched: Launched) -> None:
        """Wait for the end of a Startup or Run. A Startup has its time only until the component is RUNNING."""
        step, process = launched.step, launched.process
        is_timed = launched.is_run or self.status.state is State.STARTING
        try:
            async with timeout(step.timeout_s if is_timed else None) as deadline:
                self.deadline = None if launched.is_run else deadline
                code = await process.wait()
        except TimeoutError:
            if launched.is_run:
                await self.execution.end(process)
            self._tell(Event.FAILED, self.execution.overdue(step, process))
            return
        finally:
            self.deadline = None
        if code != 0:
            self._tell(Event.FAILED, self.execution.ended(step, process))
        elif launched.is_run:
            self._tell(Event.DONE)
        elif self.status.state is State.STARTING:
            self._tell(Event.STARTED)

    async def _shut_down(self) -> None:
        self._wake()
        failure = await self.execution.shut_down()
        self._tell(Event.FAILED if failure else Event.STOPPED, failure)

    async def _recover(self) -> None:
        self._wake()
        if self.status.origin is State.STOPPING:
            await self.execution.end_all()
        failure = await self.execution.run("recover")
        if failure is not None:
            _LOG.warning("%s: %s", self.installed.name, failure.reason)
        self._tell(Event.RECOVERED)

    async def _uninstall(self) -> None:
        name, version = self.installed.name, str(self.installed.version)
        failure = await self.execution.run("uninstall", environment={"GREENGRASS_COMPONENT_VERSION": version})
        if failure is not None:
            _LOG.warning("%s is removed, though %s", name, failure.reason)
        await self.execution.end_all()
        self._device.limits.forget(name)
        self._device.logs.forget(name)
        self._tell(Event.UNINSTALLED)

    def _tell(self, event: Event, failure: Failure | None = None) -> None:
        self._feed(self, event, failure)

    def _wake(self) -> None:
        if self.is_paused:
            self.execution.signal(signal.SIGCONT)
            self.is_paused = False

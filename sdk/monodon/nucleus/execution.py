"""The steps of one component as processes: how each is run, with what, and how all of them are ended.

An `Execution` knows one component's definition and its processes. It knows no states: it is told which step to run
and answers how that ended.

Source: Greengrass nucleus, ``GenericExternalService.java``, ``ShellRunner.java``; sections 3.1 to 3.3 of our notes.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from monodon.core.lifecycle import Failure, State
from monodon.core.plan import Installed
from monodon.core.steps import DEFAULT_TIMEOUTS_S, Step
from monodon.deadlines import timeout
from monodon.errors import ConfigurationError
from monodon.nucleus import orphans
from monodon.nucleus.accounts import give
from monodon.nucleus.logs import Entry
from monodon.nucleus.process import Command, Process, is_running_child
from monodon.nucleus.ready_step import Device, ReadyStep, is_to_skip, ready_step

_LOG = logging.getLogger(__name__)

_DONE = frozenset({0})
#: Go on, restart the nucleus, reboot the device. Source: rule B3.
_BOOTSTRAPPED = frozenset({0, 100, 101})
_LIMITED = frozenset({"startup", "run"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A Startup or Run that has just begun."""

    step: Step
    process: Process

    @property
    def is_run(self) -> bool:
        """Whether it is a Run, which is up as soon as it exists."""
        return self.step.name == "run"


class Execution:
    """One component's steps and processes."""

    def __init__(self, installed: Installed, device: Device, state: Callable[[], State]) -> None:
        self.installed = installed
        self._device = device
        self._state = state
        self._processes: list[Process] = []
        self._shutdown: ReadyStep | None = None
        self._has_run = False

    def pids(self) -> list[int]:
        """Every process of this component that runs, children before their parents."""
        if not self._has_run:
            return []
        own = [process.pid for process in self._processes if process.returncode is None]
        strays = [pid for pid in orphans.children(os.getpid()) if not is_running_child(pid)]
        mark = self._device.mark(self.installed.name)
        return orphans.alive([*own, *orphans.marked(strays, mark)])

    async def run(self, name: str, *, environment: Mapping[str, str] | None = None) -> Failure | None:
        """Run a step to its end; None means that it ended with 0, or that there is nothing to run.

        Args:
            environment: variables beside the usual ones.
        """
        outcome = await self._to_end(name, environment, _DONE)
        return outcome if isinstance(outcome, Failure) else None

    async def bootstrap(self) -> int | Failure:
        """Run Bootstrap and return its exit code, 0 where there is none; or why that cannot be gone on with."""
        return await self._to_end("bootstrap", None, _BOOTSTRAPPED)

    async def _to_end(self, name: str, environment: Mapping[str, str] | None, good: frozenset[int]) -> int | Failure:
        """Run a step to its end; return its exit code if that is a good one, 0 where there is nothing to run."""
        try:
            ready = self._ready(name, environment)
            if ready is None or self._is_skipped(ready):
                return 0
            process = await self._launch(ready)
        except (ConfigurationError, OSError, ValueError) as error:
            return _refused(name, error)
        try:
            async with timeout(ready.step.timeout_s):
                code = await process.wait()
        except TimeoutError:
            await self.end(process)
            return self.overdue(ready.step, process)
        return code if code in good else self.ended(ready.step, process)

    async def launch(self) -> Launched | Failure | None:
        """Begin Startup, or Run where there is no Startup; None when there is neither.

        The Shutdown of this moment is kept for when this start is ended.
        """
        name = "startup"
        try:
            self._shutdown = self._ready_shutdown()
            ready = self._ready("startup")
            if ready is None or self._is_skipped(ready):
                name = "run"
                ready = self._ready("run")
            if ready is None or self._is_skipped(ready):
                return None
            return Launched(step=ready.step, process=await self._launch(ready))
        except (ConfigurationError, OSError, ValueError) as error:
            return _refused(name, error)

    async def shut_down(self) -> Failure | None:
        """Run the Shutdown kept at the last start, then end every process; both within Shutdown's time.

        Overrunning it ends the processes at once.
        """
        ready, self._shutdown = self._shutdown, None
        timeout_s = DEFAULT_TIMEOUTS_S["shutdown"] if ready is None else ready.step.timeout_s
        try:
            async with timeout(timeout_s):
                if ready is not None and not self._is_skipped(ready):
                    await self._run_shutdown(ready)
                survivors = await self.end_all()
        except TimeoutError:
            survivors = await self.end_all(grace_s=0)
            if not survivors:
                return Failure(code="SHUTDOWN_TIMEOUT", reason=f"Shutdown took longer than {timeout_s} s")
        if survivors:
            return Failure(code="SHUTDOWN_ERROR", reason=f"could not stop {_count(survivors)}")
        return None

    async def end(self, process: Process) -> None:
        """End one process and what it started, as far as it is still below it or in its session."""

        def find() -> list[int]:
            strays = orphans.of_session(orphans.children(os.getpid()), process.pid)
            return orphans.alive([process.pid, *strays] if process.returncode is None else strays)

        await orphans.end(find)
        self._forget_ended()

    async def end_all(self, *, grace_s: float = orphans.GRACE_S) -> list[int]:
        """End every process of this component; return those that survived SIGKILL."""
        survivors = await orphans.end(self.pids, grace_s=grace_s)
        if survivors:
            _LOG.error("%s: could not stop processes %s", self.installed.name, survivors)
        for process in self._processes:
            if process.pid not in survivors:
                await process.wait()
            process.close()
        self._processes.clear()
        return survivors

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of this component."""
        orphans.send(self.pids(), number)

    def ended(self, step: Step, process: Process) -> Failure:
        """Why a step failed whose process ended badly."""
        code = process.returncode or 0
        how = f"was ended by {_signal(-code)}" if code < 0 else f"exited with code {code}"
        return Failure(code=f"{step.name.upper()}_ERROR", reason=f"{step.key} {how}{_tail(process)}")

    def overdue(self, step: Step, process: Process) -> Failure:
        """Why a step failed that did not end in time."""
        reason = f"{step.key} took longer than {step.timeout_s} s{_tail(process)}"
        return Failure(code=f"{step.name.upper()}_TIMEOUT", reason=reason)

    def log(self, level: str, message: str, **contexts: str) -> None:
        """Write a line of the nucleus's into the component's log."""
        self._device.logs.component(self.installed.name).write(self._entry(level, "", message, "nucleus", **contexts))

    async def _run_shutdown(self, ready: ReadyStep) -> None:
        try:
            process = await self._launch(ready)
        except (OSError, ValueError) as error:
            self.log("WARN", f"Shutdown could not be run: {error}")
            return
        code = await process.wait()
        if code != 0:
            self.log("WARN", f"Shutdown ended with {code}, which is ignored")

    def _ready_shutdown(self) -> ReadyStep | None:
        try:
            return self._ready("shutdown")
        except (ConfigurationError, OSError) as error:
            self.log("WARN", f"Shutdown cannot be run: {error}")
            return None

    def _ready(self, name: str, environment: Mapping[str, str] | None = None) -> ReadyStep | None:
        return ready_step(self.installed, self._device, name, environment or {})

    def _is_skipped(self, ready: ReadyStep) -> bool:
        if not is_to_skip(ready, self.installed, self._device):
            return False
        self.log("INFO", f"{ready.step.key} is skipped")
        return True

    async def _launch(self, ready: ReadyStep) -> Process:
        folder = self._device.root / "work" / self.installed.name
        try:
            os.mkdir(folder, 0o700)  # noqa: PTH102 - half the time of Path.mkdir, at each start of each component
        except OSError:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if ready.account is not None:
            await asyncio.to_thread(give, ready.account, [folder, *self._artifact_folders()])
        command = Command(
            script=ready.step.script,
            environment=ready.environment,
            folder=folder,
            shell=self._device.shell,
            account=ready.account,
        )
        self._forget_ended()
        entry = self._entry("INFO", "shell-runner-start", "", "Copier", ready.step.key, command=ready.step.script)
        self._device.logs.component(self.installed.name).write(entry)
        process = Process(command, self._copier(ready.step), self._admission(ready.step))
        self._has_run = True
        self._processes.append(process)
        return process

    def _artifact_folders(self) -> list[Path]:
        place = Path(self.installed.name, str(self.installed.version))
        return [self._device.root / "packages" / kind / place for kind in ("artifacts", "artifacts-unarchived")]

    def _admission(self, step: Step) -> Callable[[int], None] | None:
        run_with = self.installed.run_with.or_limits(self._device.default_limits())
        if step.name not in _LIMITED or run_with.limits == (None, None, None):
            return None
        return lambda pid: self._device.limits.admit(self.installed.name, run_with, pid)

    def _copier(self, step: Step) -> Callable[[str, Sequence[str]], None]:
        file = self._device.logs.component(self.installed.name)

        def copy(stream: str, lines: Sequence[str]) -> None:
            level = "INFO" if stream == "stdout" else "WARN"
            file.write_lines(self._entry(level, stream, "", "Copier", step.key), lines)

        return copy

    def _entry(self, level: str, event: str, message: str, thread: str, key: str = "", **contexts: str) -> Entry:
        name = self.installed.name
        script = {"scriptName": f"services.{name}.lifecycle.{key}"} if key else {}
        shown = {**script, "serviceName": str(name), "currentState": str(self._state()), **contexts}
        return Entry(level=level, event=event, message=message, thread=thread, logger=name, contexts=shown)

    def _forget_ended(self) -> None:
        """Let go of processes that have ended and whose output nobody holds open any more."""
        for process in list(self._processes):
            if process.is_closed:
                process.close()
                self._processes.remove(process)


def _refused(name: str, error: Exception) -> Failure:
    kind = "CONFIG_NOT_VALID" if isinstance(error, ConfigurationError | ValueError) else "IO_ERROR"
    return Failure(code=f"{name.upper()}_{kind}", reason=f"{name.capitalize()} could not be run: {error}")


def _tail(process: Process) -> str:
    return "".join(["; last on stderr:", *(f"\n{line}" for line in process.tail)]) if process.tail else ""


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _count(pids: Sequence[int]) -> str:
    return f"process {pids[0]}" if len(pids) == 1 else f"{len(pids)} processes, {', '.join(map(str, pids))}"

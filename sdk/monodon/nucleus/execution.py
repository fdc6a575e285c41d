"""The steps of one component as processes: how each is run, with what, and how all of them are ended.

An `Execution` knows one component's definition and its processes. It knows no states: it is told which step to run
and answers how that ended.

Source: Greengrass nucleus, ``GenericExternalService.java``, ``ShellRunner.java``; sections 3.1 to 3.3 of our notes.
"""

import asyncio
import grp
import logging
import os
import pwd
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monodon.core.lifecycle import Failure, State
from monodon.core.plan import Installed, RunWith
from monodon.core.steps import DEFAULT_TIMEOUTS_S, Skipif, SkipifKind, Step, read_environment, read_step
from monodon.deadlines import timeout
from monodon.errors import ConfigurationError
from monodon.nucleus import orphans
from monodon.nucleus.limits import Limits
from monodon.nucleus.logs import Entry, Logs
from monodon.nucleus.process import Account, Command, Process, is_running_child

_LOG = logging.getLogger(__name__)

_SYSTEM_PATH = ("/bin", "/usr/bin", "/sbin", "/usr/sbin")
#: Go on, restart the nucleus, reboot the device. Source: rule B3.
_BOOTSTRAPPED = frozenset({0, 100, 101})
_LIMITED = frozenset({"startup", "run"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What all components of one nucleus share.

    ``environment`` gives the variables that the nucleus has for a component, before its recipe's own.
    """

    root: Path
    environment: Callable[[Installed], Mapping[str, str]]
    logs: Logs
    limits: Limits
    default_user: str | None = None
    shell: str = "sh"
    default_limits: Callable[[], RunWith] = RunWith
    told: set[str] = field(default_factory=set)
    #: The real path of the root, once it was asked for.
    place: list[str] = field(default_factory=list)

    def mark(self, name: str) -> str:
        """The value of `orphans.MARK` for a component; with an empty name, the beginning of all of this root's.

        Two slashes, so that the mark of a device whose root lies inside this one begins otherwise.
        """
        if not self.place:
            self.place.append(str(self.root.resolve()))
        return f"{self.place[0]}//{name}"

    def tell_once(self, key: str, message: str) -> None:
        """Warn of something about this device that does not change."""
        if key not in self.told:
            self.told.add(key)
            _LOG.warning("%s", message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A Startup or Run that has just begun."""

    step: Step
    process: Process

    @property
    def is_run(self) -> bool:
        """Whether it is a Run, which is up as soon as it exists."""
        return self.step.name == "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A step with everything it needs, whatever the definition becomes later."""

    step: Step
    environment: Mapping[str, str]
    account: Account | None


class Execution:
    """One component's steps and processes."""

    def __init__(self, installed: Installed, device: Device, state: Callable[[], State]) -> None:
        self.installed = installed
        self._device = device
        self._state = state
        self._processes: list[Process] = []
        self._shutdown: _Ready | None = None
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
        try:
            ready = self._ready(name, environment or {})
            if ready is None or self._is_skipped(ready):
                return None
            process = await self._launch(ready)
        except (ConfigurationError, OSError, ValueError) as error:
            return _refused(name, error)
        try:
            async with timeout(ready.step.timeout_s):
                code = await process.wait()
        except TimeoutError:
            await self.end(process)
            return self.overdue(ready.step, process)
        return None if code == 0 else self.ended(ready.step, process)

    async def bootstrap(self) -> int | Failure:
        """Run Bootstrap and return its exit code, 0 where there is none; or why that cannot be gone on with."""
        try:
            ready = self._ready("bootstrap", {})
            if ready is None or self._is_skipped(ready):
                return 0
            process = await self._launch(ready)
        except (ConfigurationError, OSError, ValueError) as error:
            return _refused("bootstrap", error)
        try:
            async with timeout(ready.step.timeout_s):
                code = await process.wait()
        except TimeoutError:
            await self.end(process)
            return self.overdue(ready.step, process)
        return code if code in _BOOTSTRAPPED else self.ended(ready.step, process)

    async def launch(self) -> Launched | Failure | None:
        """Begin Startup, or Run where there is no Startup; None when there is neither.

        The Shutdown of this moment is kept for when this start is ended.
        """
        name = "startup"
        try:
            self._shutdown = self._ready_shutdown()
            ready = self._ready("startup", {})
            if ready is None or self._is_skipped(ready):
                name = "run"
                ready = self._ready("run", {})
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

    async def _run_shutdown(self, ready: _Ready) -> None:
        try:
            process = await self._launch(ready)
        except (OSError, ValueError) as error:
            self.log("WARN", f"Shutdown could not be run: {error}")
            return
        code = await process.wait()
        if code != 0:
            self.log("WARN", f"Shutdown ended with {code}, which is ignored")

    def _ready_shutdown(self) -> _Ready | None:
        try:
            return self._ready("shutdown", {})
        except (ConfigurationError, OSError) as error:
            self.log("WARN", f"Shutdown cannot be run: {error}")
            return None

    def _ready(self, name: str, environment: Mapping[str, str]) -> _Ready | None:
        """Read a step, with what it runs with; None where it is absent.

        Raises:
            ConfigurationError: the step cannot be used, or its user does not exist.
        """
        step = read_step(self.installed.lifecycle, name)
        if step is None:
            return None
        account = self._account(step)
        variables = self._environment(step, account) | dict(environment)
        return _Ready(step=step, environment=variables, account=account)

    def _is_skipped(self, ready: _Ready) -> bool:
        skipif = ready.step.skipif
        if skipif is None or not self._is_true(skipif, ready.environment):
            return False
        self.log("INFO", f"{ready.step.key} is skipped")
        return True

    async def _launch(self, ready: _Ready) -> Process:
        folder = self._device.root / "work" / self.installed.name
        try:
            os.mkdir(folder, 0o700)  # noqa: PTH102 - half the time of Path.mkdir, at each start of each component
        except OSError:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if ready.account is not None:
            await asyncio.to_thread(self._give, ready.account, folder)
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

    def _environment(self, step: Step, account: Account | None) -> dict[str, str]:
        variables = dict(self._device.environment(self.installed))
        path = [folder for folder in variables.get("PATH", "").split(":") if folder]
        variables["PATH"] = ":".join([*path, *(folder for folder in _SYSTEM_PATH if folder not in path)])
        if account is not None:
            variables |= {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}
        variables |= read_environment(self.installed.lifecycle)
        return variables | dict(step.environment) | {orphans.MARK: self._device.mark(self.installed.name)}

    def _account(self, step: Step) -> Account | None:
        """As whom a step runs; None is the nucleus's own user."""
        name = self.installed.name
        wanted = self.installed.run_with.posix_user or self._device.default_user
        if os.geteuid() != 0:
            if wanted is not None and wanted.partition(":")[0] not in _own_names():
                self._device.tell_once(f"user {name}", f"{name} runs as the nucleus's own user, not as {wanted}")
            if step.requires_privilege:
                self._device.tell_once(f"root {name}", f"{name} asks for root, which this nucleus is not")
            return None
        if wanted is None:
            self._device.tell_once("root", "components without a posixUser run as root, as the nucleus does")
            return None
        return None if step.requires_privilege or _account(wanted).uid == 0 else _account(wanted)

    def _give(self, account: Account, work: Path) -> None:
        """Make the work folder and the artifacts belong to who runs them, file by file."""
        packages = self._device.root / "packages"
        place = Path(self.installed.name, str(self.installed.version))
        for folder in (work, packages / "artifacts" / place, packages / "artifacts-unarchived" / place):
            for path in (folder, *folder.rglob("*")):
                if path.is_symlink() or path.exists():
                    found = path.lstat()
                    if (found.st_uid, found.st_gid) != (account.uid, account.gid):
                        os.lchown(path, account.uid, account.gid)

    def _is_true(self, skipif: Skipif, environment: Mapping[str, str]) -> bool:
        if skipif.kind is SkipifKind.ONPATH:
            found = shutil.which(skipif.argument, path=environment["PATH"]) is not None
        else:
            found = self._path(skipif.argument).exists()
        return found is not skipif.is_negated

    def _path(self, text: str) -> Path:
        root = self._device.root
        for prefix, folder in (
            ("~root/", root),
            ("~config/", root / "config"),
            ("~packages/", root / "packages"),
            ("~/", Path.home()),
        ):
            if text.startswith(prefix):
                return folder / text.removeprefix(prefix)
        return root / "work" / self.installed.name / text

    def _forget_ended(self) -> None:
        """Let go of processes that have ended and whose output nobody holds open any more."""
        for process in list(self._processes):
            if process.is_closed:
                process.close()
                self._processes.remove(process)


def _account(wanted: str) -> Account:
    """The account behind ``user[:group]``, either by name or number.

    Raises:
        ConfigurationError: this machine does not know it.
    """
    user, _, group = wanted.partition(":")
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        gid = entry.pw_gid if not group else int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigurationError(f"this device has no user or group {wanted!r}", hint="change posixUser") from None
    groups = tuple(os.getgrouplist(entry.pw_name, gid))
    return Account(name=entry.pw_name, home=entry.pw_dir, uid=entry.pw_uid, gid=gid, groups=groups)


def _own_names() -> tuple[str, ...]:
    uid = os.geteuid()
    return (str(uid), *(entry.pw_name for entry in pwd.getpwall() if entry.pw_uid == uid))


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

"""``dev run``: the components of some folders on a nucleus of their own, in the foreground; saved files take effect.

Nothing is published and no cloud is needed: each change is a local deployment of what it touches, with recipes and
artifacts in folders of AWS's layout. The nucleus runs in this process; what it does and what the components print is
told as `News`.
"""

import asyncio
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monodon.core.deployment import Status, read_local
from monodon.core.json import Json
from monodon.core.lifecycle import State
from monodon.core.names import ComponentName, ThingName
from monodon.core.origins import Setter
from monodon.core.pointers import MISSING
from monodon.core.recipe.platform import platform_of
from monodon.dev.news import NUCLEUS, Kind, Logs, News
from monodon.dev.staging import Project, Staged, discover, stage
from monodon.dev.watching import Watch
from monodon.errors import ConfigurationError, DeploymentError, MonodonError, StateError
from monodon.nucleus.explanation import explained
from monodon.nucleus.hooks import Progress
from monodon.nucleus.nucleus import Nucleus, running
from monodon.nucleus.own_log import LOGS_FOLDER
from monodon.nucleus.restarting import REBOOT
from monodon.nucleus.root import claimed
from monodon.nucleus.side_by_side import first

#: Names a root folder that this module has made, and may remove: all others are somebody else's.
MARK = ".monodon-dev-run"
#: How often logs and folders are looked at, and a deployment's end is.
LOOK_S, WATCH_S, FOLLOW_S = 0.1, 0.3, 0.05
#: How long a deployment may be silent before it is said who is awaited.
REMIND_S = 10.0
_SHOWN = (State.RUNNING, State.FINISHED, State.ERRORED, State.BROKEN, State.UNINSTALLED)
#: What follows it has been shown as it was printed.
_PRINTED = "; last on stderr:"
_FINAL = (Status.SUCCEEDED, Status.FAILED, Status.REJECTED, Status.CANCELED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run, and where.

    Args:
        root: the device's folder; made anew unless ``keeps_root``, and then removed at the end.
        configuration: values merged into the configuration of components, by their names.
        watches: deploy what saved files touch.
        cache: where artifacts are built.
    """

    folders: tuple[Path, ...]
    root: Path
    cache: Path
    thing: str = "dev"
    configuration: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    watches: bool = False
    keeps_root: bool = False


def run(order: Order, tell: Callable[[News], None]) -> None:
    """Run until SIGINT, SIGTERM or SIGHUP; everything has been stopped when this returns.

    Raises:
        MonodonError: the nucleus cannot start, or (without ``watches``) the components cannot be deployed.
    """
    ThingName.parse(order.thing)
    sys.dont_write_bytecode = True  # a recipe.py saved twice in a second would be the same to Python
    try:
        asyncio.run(_run(order, tell))
    except ExceptionGroup as errors:
        raise first(errors) from errors


async def _run(order: Order, tell: Callable[[News], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with _root(order) as root, ExitStack() as stack:
        logs = Logs(root / LOGS_FOLDER, tell)
        stack.callback(logs.close)
        tell(News(who=NUCLEUS, kind=Kind.NOTE, text=f"starts in {root}"))
        session = _Session(order, logs, tell)
        await _first_of(_nuclei(order, root, session), session.work(), stop.wait())
        logs.show()


async def _nuclei(order: Order, root: Path, session: "_Session") -> None:
    """Run the nucleus, and again when a deployment wants it restarted; comes to no end by itself."""
    while True:
        restarts: asyncio.Queue[int] = asyncio.Queue()
        async with (
            running(root, thing=order.thing, environment=_environment(), restart=restarts.put_nowait) as nucleus,
            session.showing(nucleus),
        ):
            try:
                code = await restarts.get()
            except asyncio.CancelledError:
                session.note("stops the components")
                raise
            session.note(
                "a Bootstrap step asks for a reboot: the nucleus alone restarts"
                if code == REBOOT
                else "restarts for a Bootstrap step, or a setting"
            )


async def _first_of(*works: Coroutine[Any, Any, object]) -> None:
    """Wait for the end of one of them, cancel the others, and raise what one raised."""
    async with asyncio.TaskGroup() as tasks:
        running = {tasks.create_task(work) for work in works}
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()


@contextmanager
def _root(order: Order) -> Iterator[Path]:
    """The root folder, which only this module's own marked folders may be.

    Raises:
        StateError: the folder is somebody else's, or in use.
    """
    root = order.root.resolve()
    if root.exists() and any(root.iterdir()) and not (root / MARK).exists():
        raise StateError(
            f"{root} was not made by `dev run`, so it is not touched", hint="give another --root, or another --thing"
        )
    if root.exists():
        with claimed(root):
            if not order.keeps_root:
                shutil.rmtree(root)
    root.mkdir(parents=True, exist_ok=True)
    (root / MARK).touch()
    try:
        yield root
    finally:
        if not order.keeps_root:
            shutil.rmtree(root, ignore_errors=True)
            with suppress(OSError):  # another device lies beside it
                root.parent.rmdir()


def _environment() -> dict[str, str]:
    """What components inherit: all of ours, and as ``python3`` the interpreter that runs us."""
    interpreter = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{interpreter}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


class _Session:
    """Deploying to a running nucleus what stands in the folders, now and after every save."""

    def __init__(self, order: Order, logs: Logs, tell: Callable[[News], None]) -> None:
        self._order, self._logs, self._tell = order, logs, tell
        #: The one that runs, or that ran until its restart a moment ago.
        self._latest: Nucleus | None = None
        self._is_there = asyncio.Event()
        self._projects: dict[ComponentName, Project] = {}
        #: What was deployed last of each component, whether it then ran or broke.
        self._deployed: dict[ComponentName, Staged] = {}
        self._configured: set[ComponentName] = set()

    @property
    def _nucleus(self) -> Nucleus:
        assert self._latest is not None
        return self._latest

    @asynccontextmanager
    async def showing(self, nucleus: Nucleus) -> AsyncIterator[None]:
        """Work with this nucleus for as long as the block lasts; tell what its components print and come to."""
        self._latest = nucleus
        self._is_there.set()
        async with asyncio.TaskGroup() as tasks:
            both = [tasks.create_task(self._show_logs()), tasks.create_task(self._show_states())]
            try:
                yield
            finally:
                for task in both:
                    task.cancel()

    async def work(self) -> None:
        """Deploy everything, then what is saved; comes to no end by itself.

        Raises:
            MonodonError: the first deployment failed, and nobody watches for a better one.
        """
        await self._is_there.wait()
        watch = Watch(self._order.folders)
        try:
            self._projects = discover(self._order.folders)
            self._check_configuration()
            watch.add(self._watched())
            await self._deploy(tuple(self._projects), ())
        except MonodonError as error:
            if not self._order.watches:
                raise
            self._complain(error)
        if not self._order.watches:
            await asyncio.Event().wait()
        self.note("watches for saved files")
        pending: set[Path] = set()
        while True:
            pending |= await self._saved(watch)
            try:
                await self._take(pending, watch)
                pending.clear()
            except MonodonError as error:
                self._complain(error)

    def _check_configuration(self) -> None:
        unknown = sorted(set(self._order.configuration) - set(self._projects))
        if unknown:
            known = ", ".join(self._projects)
            raise ConfigurationError(f"--config: {unknown[0]} is not among the components", hint=f"there are {known}")

    # Watching

    def _watched(self) -> tuple[Path, ...]:
        inside = tuple(folder for project in self._projects.values() for folder in project.folders)
        return tuple(dict.fromkeys((*(folder.resolve() for folder in self._order.folders), *inside)))

    async def _saved(self, watch: Watch) -> set[Path]:
        """Wait until something was saved, and then until nothing more is."""
        saved: set[Path] = set()
        while True:
            await asyncio.sleep(WATCH_S)
            more = await asyncio.to_thread(watch.saved)
            if saved and not more:
                return saved
            saved.update(more)

    async def _take(self, saved: Collection[Path], watch: Watch) -> None:
        """Deploy what saved files touch."""
        names = ", ".join(sorted({path.name for path in saved}))
        before = self._projects
        self._projects = await asyncio.to_thread(discover, self._order.folders)
        watch.add(self._watched())
        gone = tuple(name for name in before if name not in self._projects)
        touched = tuple(name for name in self._projects if name not in self._deployed or self._touches(name, saved))
        self.note(f"{names} saved")
        await self._deploy(touched, gone)

    def _touches(self, name: ComponentName, saved: Collection[Path]) -> bool:
        """Whether a saved file is of this component; one that is of none may be of any."""
        own = self._projects[name].folders
        every = [folder for project in self._projects.values() for folder in project.folders]
        return any(
            any(path.is_relative_to(folder) for folder in own)
            or not any(path.is_relative_to(folder) for folder in every)
            for path in saved
        )

    # Deploying

    async def _deploy(self, names: Collection[ComponentName], gone: Collection[ComponentName]) -> None:
        """Build and deploy those of ``names`` that are not as they run, and remove those that are gone."""
        with tempfile.TemporaryDirectory(prefix="monodon-") as folder:
            staged = await asyncio.to_thread(self._stage, names, Path(folder))
            if not staged and not gone:
                self.note("nothing that runs has changed")
                return
            progress = await self._ended(self._submit(staged, gone, Path(folder)))
        outcome = progress.outcome
        if outcome is not None and (progress.status is Status.SUCCEEDED or "NO_STATE" not in str(outcome.detailed)):
            self._deployed |= staged
            self._configured |= staged.keys()
            self._deployed = {name: one for name, one in self._deployed.items() if name not in gone}
        if progress.status is not Status.SUCCEEDED:
            cause = "" if outcome is None or outcome.cause is None else f": {outcome.cause.partition(_PRINTED)[0]}"
            raise DeploymentError(f"the deployment is {progress.status}{cause}")
        self.note(f"deployed {', '.join([*staged, *(f'{name} (removed)' for name in gone)])}")

    def _stage(self, names: Collection[ComponentName], folder: Path) -> dict[ComponentName, Staged]:
        """Build into ``folder``; what is as it runs is taken out again."""
        changed = {}
        attributes = platform_of(platform.system(), platform.machine())
        for name in names:
            if name not in self._deployed:
                self.note("is built", who=name)
            part = folder / name
            staged = stage(self._projects[name], part, platform=attributes, cache=self._order.cache)
            before = self._deployed.get(name)
            if words := staged.differences(before):
                changed[name] = staged
                if before is not None:
                    self.note("; ".join(words), who=name)
                shutil.copytree(part, folder / "all", dirs_exist_ok=True, copy_function=os.link)
        return changed

    def _submit(self, staged: Mapping[ComponentName, Staged], gone: Collection[ComponentName], folder: Path) -> str:
        recipes, artifacts = folder / "all" / "recipes", folder / "all" / "artifacts"
        request: dict[str, Json] = {
            "rootComponentVersionsToAdd": {name: one.version for name, one in staged.items()},
            "rootComponentsToRemove": list(gone),
            "componentToConfiguration": {name: update for name in staged if (update := self._update(name))},
            "recipeDirectoryPath": str(recipes) if recipes.is_dir() else None,
            "artifactsDirectoryPath": str(artifacts) if artifacts.is_dir() else None,
        }
        key = str(uuid.uuid4())
        now_ms = time.time_ns() // 1_000_000
        self._nucleus.deployer.submit(read_local(request, deployment_id=key, timestamp_ms=now_ms))
        return key

    def _update(self, name: ComponentName) -> dict[str, Json]:
        """What is configured for a component at its first deployment; later, defaults that were edited are renewed.

        AWS keeps the former defaults (C1), which helps nobody who is just writing them.
        """
        update: dict[str, Json] = {}
        if name in self._order.configuration and name not in self._configured:
            update["MERGE"] = dict(self._order.configuration[name])
        installed = self._nucleus.state.installed.get(name)
        if installed is None:
            return update
        for key in explained(installed.configuration, installed.origins, self._projects[name].recipe.configuration):
            is_ours = key.origin is not None and key.origin.setter is Setter.DEFAULT
            if is_ours and not key.is_default and not any(part.isdecimal() for part in key.pointer.split("/")):
                update.setdefault("RESET", []).append(key.pointer)
                now = "is gone" if key.default is MISSING else f"is now {key.default!r}"
                self.note(f"the default of {key.pointer} {now}", who=name)
        return update

    async def _ended(self, key: str) -> Progress:
        """Wait for a deployment's end; say who is awaited, and give that up for what is saved meanwhile."""
        watch, hopeless = Watch(self._watched()), set[ComponentName]()
        told_s = looked_s = time.monotonic()
        while True:
            progress = self._nucleus.deployer.progress(key)
            if progress is not None and progress.status in _FINAL:
                return progress
            now_s = time.monotonic()
            if self._order.watches and now_s - looked_s > WATCH_S:
                looked_s = now_s
                saved = await asyncio.to_thread(watch.saved)
                self._give_up(hopeless, {name for name in self._awaited() if self._touches(name, saved)})
            if now_s - told_s > REMIND_S:
                told_s = now_s
                awaited = ", ".join(f"{name} ({state})" for name, state in self._awaited().items())
                self.note(f"waits for {awaited or 'the nucleus'}")
            await asyncio.sleep(FOLLOW_S)

    def _awaited(self) -> dict[ComponentName, State]:
        """The components that have not come to where they shall be."""
        statuses = self._nucleus.supervisor.statuses()
        return {name: one.state for name, one in statuses.items() if name in self._projects and not one.is_settled}

    def _give_up(self, hopeless: set[ComponentName], more: Collection[ComponentName]) -> None:
        """Stop components that a deployment waits for although something better was saved.

        An installation is not stopped by asking: its processes are ended, until the nucleus tries it no more.
        """
        supervisor = self._nucleus.supervisor
        for name in set(more) - hopeless:
            self.note("was saved while it was awaited: it is given up", who=name)
            supervisor.stop(name)
            hopeless.add(name)
        for name in hopeless & self._awaited().keys():
            if self._awaited()[name] is State.NEW:
                for pid in supervisor.pids(name):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    # Telling

    def note(self, text: str, *, who: str = NUCLEUS) -> None:
        """Tell something of the nucleus, or of a component."""
        self._tell(News(who=who, kind=Kind.NOTE, text=text))

    def _complain(self, error: MonodonError) -> None:
        self._tell(News(who=NUCLEUS, kind=Kind.PROBLEM, text=f"error: {error.message}"))
        if error.hint:
            self._tell(News(who=NUCLEUS, kind=Kind.PROBLEM, text=f"hint: {error.hint}"))

    async def _show_logs(self) -> None:
        while True:
            await asyncio.to_thread(self._logs.show, tuple(self._nucleus.state.installed))
            await asyncio.sleep(LOOK_S)

    async def _show_states(self) -> None:
        async with self._nucleus.supervisor.changes() as changes:
            async for change in changes:
                if change.after not in _SHOWN:
                    continue
                await asyncio.to_thread(self._logs.show, tuple(self._nucleus.state.installed))
                is_bad = change.after in (State.ERRORED, State.BROKEN)
                reason = change.status.reason.partition(_PRINTED)[0] if is_bad else ""
                text = f"{change.after}: {reason}" if reason else str(change.after)
                self._tell(News(who=change.name, kind=Kind.PROBLEM if is_bad else Kind.STATE, text=text))

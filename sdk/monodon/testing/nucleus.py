"""The real nucleus for a test: a process of its own, real sockets, real deployments, no cloud.

What a test asks of it goes over IPC, as a tool would ask, from a thread and event loop of its own: so it serves tests
of any kind, and never waits for theirs.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from monodon.component.component import Component
from monodon.component.loopback import DEFAULT_NAME
from monodon.component.messages import Message, Publishable
from monodon.component.runtime import under_nucleus
from monodon.component.settings import default_configuration, read_settings
from monodon.core.json import Json
from monodon.core.policy import SERVICES
from monodon.core.topics import iot_matches, local_matches
from monodon.deadlines import timeout
from monodon.device.device import Device, connected
from monodon.errors import ConfigurationError, DeploymentError, StateError

S = TypeVar("S")
T = TypeVar("T")

#: Seconds that the nucleus may take to start, and to stop; and that a test waits for what it expects.
START_S, STOP_S, PATIENCE_S = 30.0, 20.0, 10.0
_VERSION = "1.0.0"
_MARK = "monodon/testing/mark/"
#: Stands for the component, whose code runs in the test: notes its environment, and ends with the nucleus's own end.
_STAND_IN = "env -0 > environment.part && mv environment.part environment && exec cat > /dev/null"


class RealNucleus:
    """A running nucleus and what went over its topics; made by the fixture ``nucleus``."""

    def __init__(self, folder: Path, *, thing_name: str) -> None:
        self.root = folder / "root"
        self.thing_name = thing_name
        self._recipes = folder / "recipes"
        self._recipes.mkdir()
        self._log = folder / "nucleus.log"
        self._process: subprocess.Popen[str] | None = None
        self._observer: _Observer | None = None
        self._components: dict[str, Component[Any]] = {}
        self._published = _Log(local_matches)
        self._published_to_iot = _Log(iot_matches)

    # --- the process ---

    def _start(self) -> None:
        command = [sys.executable, "-m", "monodon", "nucleus", "run", "--quiet"]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*command, "--root", str(self.root), "--thing", self.thing_name],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise StateError(f"the nucleus did not start: {self._log.read_text()[-2000:]}")
        self._observer = _Observer(self.root, self._published.note, self._published_to_iot.note)

    def _end(self, *, kill: bool) -> None:
        observer, self._observer = self._observer, None
        process, self._process = self._process, None
        if process is None:
            return
        if observer is not None:
            observer.close()
        process.kill() if kill else process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
        for file in self.root.glob("work/*/environment"):
            file.unlink()

    async def kill(self) -> None:
        """Kill the nucleus as the power does; what it has kept on disk stays for :meth:`start`."""
        await asyncio.to_thread(self._end, kill=True)

    async def start(self) -> None:
        """Start the nucleus again after :meth:`kill`. Components that ran are no longer let in: run them again."""
        await asyncio.to_thread(self._start)

    # --- components ---

    @asynccontextmanager
    async def component(
        self,
        settings: S,
        *,
        name: str = DEFAULT_NAME,
        access_control: Mapping[str, Json] | None = None,
        main: Callable[..., Any] | None = None,
        work: Path | None = None,
    ) -> AsyncIterator[Component[S]]:
        """Deploy a component with ``settings`` as its default configuration, and be that component in the block.

        Args:
            access_control: what it may do over IPC; everything, unless given.
            main: whose file lies in its folder of artifacts.
            work: its own folder; the nucleus's for it, unless given.
        """
        everything = {service: {"all": {"operations": ["*"], "resources": ["*"]}} for service in SERVICES}
        granted = everything if access_control is None else access_control
        environment = self.root / "work" / name / "environment"
        await self._deploy(name, {**default_configuration(settings), "accessControl": granted})
        async with timeout(PATIENCE_S):
            while not environment.exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.01)
        lines = environment.read_bytes().decode(errors="surrogateescape").split("\0")
        variables = dict(line.split("=", 1) for line in lines if "=" in line)
        folder = work or environment.parent
        async with under_nucleus(main or self.component, type(settings), variables, work=folder) as component:
            self._components[name] = component
            try:
                yield component
            finally:
                del self._components[name]

    async def _deploy(self, name: str, configuration: Mapping[str, Json]) -> None:
        recipe = {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": name,
            "ComponentVersion": _VERSION,
            "ComponentConfiguration": {"DefaultConfiguration": configuration},
            "Manifests": [{"Lifecycle": {"Run": _STAND_IN}}],
        }
        (self._recipes / f"{name}-{_VERSION}.json").write_text(json.dumps(recipe))
        request = {"recipeDirectoryPath": str(self._recipes), "rootComponentVersionsToAdd": {name: _VERSION}}
        await self._ask(lambda device: device.deploy(request))

    @asynccontextmanager
    async def running(
        self,
        main: Callable[[Component[S]], Awaitable[None]],
        settings: S,
        *,
        name: str = DEFAULT_NAME,
        access_control: Mapping[str, Json] | None = None,
        work: Path | None = None,
    ) -> AsyncIterator[Component[S]]:
        """Run ``main`` as a component in the block, and cancel it at the end, as SIGTERM does.

        Raises:
            Whatever ``main`` raised.
        """
        opening = self.component(settings, name=name, access_control=access_control, main=main, work=work)
        async with opening as component:
            task = asyncio.ensure_future(main(component))
            try:
                yield component
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def set_configuration(self, changes: Mapping[str, Json], *, name: str = DEFAULT_NAME) -> None:
        """Deploy a changed configuration, which the component is asked about first, and wait until it has it.

        Raises:
            ConfigurationError: the deployment failed; the message has its cause, such as the component's refusal.
        """
        request = {
            "rootComponentVersionsToAdd": {name: _VERSION},
            "componentToConfiguration": {name: {"MERGE": dict(changes)}},
        }
        try:
            await self._ask(lambda device: device.deploy(request))
        except DeploymentError as error:
            raise ConfigurationError(error.message) from error
        component = self._components.get(name)
        if component is not None:
            expected = read_settings(type(component.settings), await self.configuration(name))
            async with timeout(PATIENCE_S), aclosing(component.changes()) as news:
                while component.settings != expected:
                    await anext(news)

    async def configuration(self, name: str = DEFAULT_NAME) -> Mapping[str, Json]:
        """Return a component's configuration as it is now."""
        answer = await self.call("GetConfiguration", {"componentName": name})
        value: Mapping[str, Json] = answer["value"]
        return value

    async def state(self, name: str = DEFAULT_NAME) -> str:
        """Return a component's state, such as RUNNING."""
        answer = await self.call("GetComponentDetails", {"componentName": name})
        return str(answer["componentDetails"]["state"])

    async def call(self, operation: str, request: Mapping[str, Json] | None = None) -> Json:
        """Perform any IPC operation as a tool."""
        return await self._ask(lambda device: device.call(operation, request))

    # --- messages ---

    async def publish(self, topic: str, message: Publishable) -> None:
        """Publish a local message as another component would."""
        await self._ask(lambda device: device.publish(topic, message))

    async def publish_to_iot(self, topic: str, payload: Publishable) -> None:
        """Publish to AWS IoT Core as the cloud would."""
        await self._ask(lambda device: device.publish_to_iot(topic, payload))

    def published(self, topic_filter: str = "#") -> list[Any]:
        """Return the content of every local message so far that the filter covers: dict or bytes, oldest first."""
        self._settle()
        return [message.content for message in self._published.find(topic_filter)]

    def published_to_iot(self, topic_filter: str = "#") -> list[Message]:
        """Return every message for AWS IoT Core so far that the filter covers, oldest first."""
        self._settle()
        return self._published_to_iot.find(topic_filter)

    def _settle(self) -> None:
        """Wait until all that was published by now has been seen."""
        if self._observer is not None:
            self._observer.settle()

    async def wait_for(self, topic_filter: str, count: int = 1, timeout_s: float = PATIENCE_S) -> list[Any]:
        """Wait until ``count`` local messages were published that the filter covers; return their contents.

        Raises:
            TimeoutError: fewer came in time; the message says how many and what else came.
        """
        found = await self._published.wait(topic_filter, count, timeout_s)
        return [message.content for message in found]

    async def wait_for_iot(self, topic_filter: str, count: int = 1, timeout_s: float = PATIENCE_S) -> list[Message]:
        """Wait until ``count`` messages for AWS IoT Core were published that the filter covers; return them.

        Raises:
            TimeoutError: fewer came in time; the message says how many and what else came.
        """
        return await self._published_to_iot.wait(topic_filter, count, timeout_s)

    async def _ask(self, work: "Callable[[Device], Coroutine[Any, Any, T]]") -> T:
        if self._observer is None:
            raise StateError("the nucleus does not run", hint="it was killed: await nucleus.start()")
        return await self._observer.ask(work)


class _Log:
    """Messages in the order in which they came, from another thread."""

    def __init__(self, matches: Callable[[str, str], bool]) -> None:
        self._matches = matches
        self._messages: list[Message] = []
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def note(self, message: Message) -> None:
        """Add a message and wake who waits (called from any thread)."""
        self._messages.append(message)
        for loop, news in list(self._waiting):
            with suppress(RuntimeError):  # that loop has ended
                loop.call_soon_threadsafe(news.set)

    def find(self, topic_filter: str) -> list[Message]:
        """Return what the filter covers."""
        return [message for message in list(self._messages) if self._matches(topic_filter, message.topic)]

    async def wait(self, topic_filter: str, count: int, timeout_s: float) -> list[Message]:
        """Return what the filter covers once that is ``count`` messages.

        Raises:
            TimeoutError: it is fewer.
        """
        waiting = (asyncio.get_running_loop(), asyncio.Event())
        self._waiting.append(waiting)
        try:
            async with timeout(timeout_s):
                while len(found := self.find(topic_filter)) < count:
                    await waiting[1].wait()
                    waiting[1].clear()
                return found
        except TimeoutError:
            others = sorted({message.topic for message in list(self._messages)}) or "nothing"
            seen = f"{len(self.find(topic_filter))} of {count} messages on {topic_filter}"
            raise TimeoutError(f"{seen} within {timeout_s:g} s; published on: {others}") from None
        finally:
            self._waiting.remove(waiting)


class _Observer:
    """A tool's connection to the nucleus, on a thread of its own, that notes every message."""

    def __init__(self, root: Path, local: Callable[[Message], None], iot: Callable[[Message], None]) -> None:
        self._root = root
        self._notes = (local, iot)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._device: Device | None = None
        self._failure: BaseException | None = None
        self._marks = {True: threading.Event(), False: threading.Event()}
        self._mark = ""
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="nucleus observer", daemon=True)
        self._thread.start()
        if not self._ready.wait(START_S) or self._device is None:
            raise StateError(f"the nucleus cannot be reached: {self._failure}") from self._failure

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._loop.close()
            self._ready.set()

    async def _serve(self) -> None:
        async with (
            connected(self._root) as device,
            device.subscribe("#") as local,
            device.subscribe("#", "$aws/#", iot=True) as iot,
            asyncio.TaskGroup() as tasks,
        ):
            readers = [
                tasks.create_task(self._note(local, self._notes[0], is_iot=False), name="local messages"),
                tasks.create_task(self._note(iot, self._notes[1], is_iot=True), name="IoT messages"),
            ]
            self._device = device
            self._ready.set()
            await self._over.wait()
            for reader in readers:
                reader.cancel()

    async def _note(self, messages: AsyncIterator[Message], note: Callable[[Message], None], *, is_iot: bool) -> None:
        async for message in messages:
            if not message.topic.startswith(_MARK):
                note(message)
            elif message.topic == self._mark:
                self._marks[is_iot].set()

    def settle(self) -> None:
        """Wait until what was published before this call has been noted: until a mark behind it comes round."""
        assert self._device is not None
        self._mark = _MARK + uuid.uuid4().hex
        for event in self._marks.values():
            event.clear()
        for sending in (self._device.publish(self._mark, b""), self._device.publish_to_iot(self._mark, b"")):
            asyncio.run_coroutine_threadsafe(sending, self._loop).result(PATIENCE_S)
        deadline_s = time.monotonic() + PATIENCE_S
        for event in self._marks.values():
            if not event.wait(max(deadline_s - time.monotonic(), 0)):
                raise TimeoutError(f"the nucleus did not deliver a message within {PATIENCE_S:g} s")

    async def ask(self, work: "Callable[[Device], Coroutine[Any, Any, T]]") -> T:
        """Do something on the connection, from any event loop."""
        assert self._device is not None
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(self._device), self._loop))

    def close(self) -> None:
        """Leave."""
        with suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(STOP_S)


@contextmanager
def real_nucleus(*, thing_name: str = "testing") -> Iterator[RealNucleus]:
    """Run a nucleus in a temporary root for the length of the block."""
    folder = Path(tempfile.mkdtemp(prefix="monodon-"))  # short: a socket's path has 107 bytes
    nucleus = RealNucleus(folder, thing_name=thing_name)
    try:
        nucleus._start()
        yield nucleus
    finally:
        nucleus._end(kill=False)
        shutil.rmtree(folder)

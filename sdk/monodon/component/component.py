"""``Component``: what a component's ``main`` is given, the same under a nucleus, in a test and on a terminal."""

import asyncio
import logging
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from monodon.component.deferral import RECHECK_S, Deferral
from monodon.component.link import IotPublish, Link, Secret, State
from monodon.component.messages import Message, Publishable, iot_payload, local_content
from monodon.component.metrics import Metrics, reporting
from monodon.component.requests import PATIENCE_S, Requester, Requests
from monodon.component.settings import read_settings
from monodon.component.shadows import Shadow
from monodon.component.sharing import Handle, Received, Sharer, receive
from monodon.component.subscription import MAILBOX_LIMIT, Subscription
from monodon.core.configuration import EMPTY
from monodon.core.json import Json
from monodon.errors import ConfigurationError, MonodonError

logger = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")


class Component(Generic[S]):
    """A component at work: its settings, its folders, and its nucleus.

    Attributes:
        name: the component's name, such as ``com.example.Camera``.
        thing_name: the core device's thing; "" where there is none.
        artifacts: the folder that main.py lies in; read only on a device.
        work: the component's own writable folder.
    """

    def __init__(
        self, link: Link, settings: S, *, name: str, thing_name: str = "", artifacts: Path, work: Path
    ) -> None:
        self._link = link
        self._settings = settings
        self._hooks: list[Callable[[S], None]] = []
        self._judges: list[Callable[[S], str | None]] = []
        self._news: weakref.WeakSet[asyncio.Event] = weakref.WeakSet()  # as long as someone iterates
        self._requester = Requester(link, name)
        self._deferral = Deferral(link)
        self._sharer = Sharer()
        self._sharing = asyncio.Lock()
        self.name = name
        self.thing_name = thing_name
        self.artifacts = artifacts
        self.work = work

    @staticmethod
    def run(main: "Callable[[Component[T]], Awaitable[None]]", settings: type[T]) -> NoReturn:
        """Run ``main`` as a component and exit: what the last line of a main.py calls.

        Under a nucleus the settings come from the component's configuration. On a plain terminal they are the
        defaults, changed by ``--config`` and ``--set``, and what is published is printed.

        Exits with 0 when ``main`` returned or was asked to stop (SIGTERM cancels it, clean-up still has its
        nucleus), with 1 after an error, which ends in one clear line on stderr, with 2 for a wrong option.
        """
        from monodon.component.runtime import run

        raise SystemExit(run(main, settings))

    # --- settings ---

    @property
    def settings(self) -> S:
        """The settings as they are now; a change of configuration replaces them."""
        return self._settings

    def changes(self) -> AsyncGenerator[S, None]:
        """Yield the settings after each change from this call on; of several between two steps only the last."""
        news = asyncio.Event()
        self._news.add(news)

        async def each() -> AsyncGenerator[S, None]:
            while True:
                await news.wait()
                news.clear()
                yield self._settings

        return each()

    def on_change(self, hook: Callable[[S], None]) -> None:
        """Call ``hook`` with the new settings after each change, on the event loop."""
        self._hooks.append(hook)

    def refuse_when(self, judge: Callable[[S], str | None]) -> None:
        """Have ``judge`` look at each new configuration that fits the settings, before it is applied.

        It returns why these settings cannot be used, or None; an error that it raises is a reason as well. A
        deployment with such a configuration fails, and nothing changes. It runs on the event loop: keep it short.
        """
        self._judges.append(judge)

    def _read(self, configuration: Mapping[str, Json]) -> S:
        """Return a configuration as settings that can be used.

        Raises:
            ConfigurationError: it does not fit, or the author's judge refuses it.
        """
        settings = read_settings(type(self._settings), configuration)
        for judge in self._judges:
            try:
                reason = judge(settings)
            except MonodonError as error:
                reason = f"{error.message} ({error.hint})" if error.hint else error.message
            except Exception as error:
                logger.exception("a judge failed on a configuration")
                reason = f"{type(error).__name__}: {error}"
            if reason is not None:
                raise ConfigurationError(reason)
        return settings

    def apply(self, configuration: Mapping[str, Json]) -> None:
        """Take over a changed configuration (called by the link); one that cannot be used is refused and logged."""
        try:
            settings = self._read(configuration)
        except ConfigurationError as error:
            logger.error("the new configuration is refused, the former stays: %s", error.message)
            return
        if settings == self._settings:
            return
        self._settings = settings
        logger.info("the configuration has changed")
        for news in self._news:
            news.set()
        for hook in self._hooks:
            try:
                hook(settings)
            except Exception:
                logger.exception("a hook failed on the changed configuration")

    def refusal(self, configuration: Mapping[str, Json]) -> str | None:
        """Return why a configuration cannot be used, or None if it can (asked by the link before it is applied)."""
        try:
            self._read(configuration)
        except ConfigurationError as error:
            return error.message
        return None

    async def update_configuration(self, changes: Mapping[str, Any]) -> None:
        """Merge ``changes`` into the component's own configuration, where they survive a restart.

        Raises:
            ConfigurationError: with them it would not fit the settings, so the component could not start again.
            IpcError: the nucleus refuses them.
        """
        content = local_content("its configuration", changes)
        assert isinstance(content, Mapping)
        _, present = await self._link.configuration()
        self._read(EMPTY.merge((), present, at_ms=0).merge((), content, at_ms=1).value())
        await self._link.update_configuration(content)

    # --- messages ---

    async def publish(self, topic: str, message: Publishable) -> None:
        """Publish on a topic of this device: a mapping or dataclass as a JSON object, text or bytes as they are.

        Raises:
            IpcError: refused, not answered in time, or not a message that can be sent (``code`` tells).
        """
        await self._link.publish(topic, local_content(topic, message))

    def subscribe(
        self,
        topic: str,
        *,
        own_messages: bool | None = None,
        on_gap: Callable[[], None] | None = None,
        limit: int = MAILBOX_LIMIT,
    ) -> Subscription:
        """Return the messages published on this device under a topic or filter, for ``async for``.

        Args:
            topic: ``+`` is one level, a last ``#`` one or more.
            own_messages: whether the component's own come too; by default only for a topic without wildcard.
            on_gap: called before a message that others may be missing before.
            limit: messages that wait before the oldest is dropped.
        """

        return Subscription(
            topic,
            lambda mailbox: self._link.subscribe(topic, mailbox, own_messages=own_messages),
            on_gap=on_gap,
            limit=limit,
        )

    async def publish_to_iot(self, topic: str, payload: Publishable, qos: int = 1, **properties: Any) -> None:
        """Publish to AWS IoT Core by way of the nucleus, which spools it while it is offline.

        Args:
            payload: bytes or text as they are, all else as JSON; at most 128 KiB.
            qos: 0 (at most once) or 1 (at least once).
            properties: other fields of :class:`~monodon.component.link.IotPublish`.

        Raises:
            IpcError: refused, not answered in time, or not a message that can be sent.
        """
        await self._link.publish_to_iot(
            IotPublish(topic=topic, payload=iot_payload(topic, payload), qos=qos, **properties)
        )

    def subscribe_to_iot(
        self, topic: str, *, qos: int = 1, on_gap: Callable[[], None] | None = None, limit: int = MAILBOX_LIMIT
    ) -> Subscription:
        """Return the messages of AWS IoT Core under a topic or filter, the component's own too, for ``async for``."""
        return Subscription(
            topic, lambda mailbox: self._link.subscribe_to_iot(topic, mailbox, qos=qos), on_gap=on_gap, limit=limit
        )

    # --- big values ---

    async def share(self, array: Any, *, group: str | int | None = None) -> Handle:
        """Put an array into shared memory and return its handle, which goes into a message: ``{"frame": handle}``.

        Its memory is kept for some seconds, within a budget of 32 MB for all; whoever has mapped it by then keeps it.

        Args:
            array: numpy's, of numbers; or anything with a contiguous buffer.
            group: whose members may read it, where components run as different users.

        Raises:
            IpcError: there is no room for it (``NoRoom``), or it is no such array (``InvalidMessage``).
        """
        async with self._sharing:
            return await asyncio.to_thread(self._sharer.share, array, group=group)

    def receive(self, handle: Json) -> Received:
        """Map the array of a handle, read only: ``with component.receive(message.json["frame"]) as shared:``.

        Raises:
            IpcError: no handle (``InvalidMessage``), not fetched in time (``Gone``), or not for this user.
        """
        self._sharer.sweep()
        return receive(handle)

    def close(self) -> None:
        """Let go of what is shared (called at the end; a component that is forgotten does so as well)."""
        self._sharer.close()

    # --- questions ---

    async def request(self, topic: str, message: Publishable, *, timeout_s: float = PATIENCE_S) -> Message:
        """Ask on a topic of this device, and return the answer of the component that answers there.

        Needs access to publish on the topic and to subscribe to ``<topic>/replies/<own name>``.

        Raises:
            IpcError: no answer in time (``Timeout``), one that says no (``Refused``), or the nucleus refuses.
        """
        return await self._requester.request(topic, message, timeout_s)

    def requests(self, topic: str) -> Requests:
        """Return what is asked on a topic, for ``async for``; or ``await requests.answer(handler)``.

        Needs access to subscribe to the topic and to publish on ``<topic>/replies/*``.
        """
        return Requests(self.subscribe(topic), self._link)

    # --- what the nucleus keeps ---

    async def secret(self, name: str, *, version_id: str | None = None, stage: str | None = None) -> Secret:
        """Return a secret by name or ARN: its version of a stage, ``AWSCURRENT`` if neither is given.

        Raises:
            IpcError: the device has none of that name (``ResourceNotFoundError``), or refuses.
        """
        return await self._link.secret(name, version_id=version_id, stage=stage)

    async def shadow(self, name: str = "", *, thing_name: str | None = None) -> Shadow:
        """Return a shadow as it is now, by default the device's own classic one; it need not be there yet.

        Raises:
            IpcError: refused, or not answered in time.
        """
        thing = self.thing_name if thing_name is None else thing_name
        shadow = Shadow(self._link, self.subscribe, thing_name=thing, name=name)
        await shadow.refresh()
        return shadow

    def metrics(self) -> AbstractAsyncContextManager[Metrics]:
        """Measure within ``async with component.metrics() as metrics``: ``metrics.add("latency_ms", 5.1)``.

        Once a minute a summary of the last five goes to the named shadow ``monodon-metrics`` of the thing. Needs
        access to publish to AWS IoT Core on ``$aws/things/<thing>/shadow/name/monodon-metrics/update``.
        """
        return reporting(self._link, component=self.name, thing_name=self.thing_name)

    # --- state ---

    def busy(self, *, recheck_s: float = RECHECK_S) -> AbstractAsyncContextManager[None]:
        """Let deployments wait for the length of ``async with component.busy()``.

        Args:
            recheck_s: seconds after which a deployment asks again, so it may begin this long after the block.

        Raises:
            IpcError: the nucleus does not let a component defer.
        """
        return self._deferral.busy(recheck_s)

    async def ready(self) -> None:
        """Report RUNNING: a component with a ``Startup`` step counts as deployed from here on."""
        await self._link.report(State.RUNNING)

    async def failed(self, reason: str) -> None:
        """Log ``reason`` and report ERRORED; the nucleus then restarts the component, or gives it up."""
        logger.error("%s", reason)
        await self._link.report(State.ERRORED)

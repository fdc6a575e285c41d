"""``Component``: what a component's ``main`` is given, the same under a nucleus, in a test and on a terminal."""

import asyncio
import logging
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from monodon.component.link import IotPublish, Link, State
from monodon.component.messages import Publishable, iot_payload, local_content
from monodon.component.settings import read_settings
from monodon.component.subscription import MAILBOX_LIMIT, Subscription
from monodon.core.json import Json
from monodon.errors import ConfigurationError

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
        self._news: weakref.WeakSet[asyncio.Event] = weakref.WeakSet()  # as long as someone iterates
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

    def apply(self, configuration: Mapping[str, Json]) -> None:
        """Take over a changed configuration (called by the link); one that does not fit is refused and logged."""
        try:
            settings = read_settings(type(self._settings), configuration)
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
            read_settings(type(self._settings), configuration)
        except ConfigurationError as error:
            return error.message
        return None

    async def update_configuration(self, changes: Mapping[str, Any]) -> None:
        """Merge ``changes`` into the component's own configuration, where they survive a restart.

        Raises:
            IpcError: the nucleus refuses them.
        """
        content = local_content("its configuration", changes)
        assert isinstance(content, Mapping)
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

    # --- state ---

    async def ready(self) -> None:
        """Report RUNNING: a component with a ``Startup`` step counts as deployed from here on."""
        await self._link.report(State.RUNNING)

    async def failed(self, reason: str) -> None:
        """Log ``reason`` and report ERRORED; the nucleus then restarts the component, or gives it up."""
        logger.error("%s", reason)
        await self._link.report(State.ERRORED)

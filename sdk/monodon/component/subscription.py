"""A subscription as its reader sees it: ``async for message in subscription``.

Messages come from another thread into a mailbox that is bounded in number and in bytes. A full one drops its oldest
messages, counts them, and the next message says so (``after_gap``): whoever publishes is never held up by a reader.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeAlias

from monodon.component.messages import Message
from monodon.core.json import Json
from monodon.errors import MonodonError

logger = logging.getLogger(__name__)

#: Messages that wait for a reader before the oldest are dropped.
MAILBOX_LIMIT = 1000
#: About how much memory they may hold before the oldest are dropped; one alone may be larger.
MAILBOX_BYTES = 16 * 1024 * 1024
#: What a value takes besides its text, on average.
_VALUE_BYTES = 64

#: Ends what was opened.
Closing: TypeAlias = Callable[[], Awaitable[None]]


class Mailbox:
    """Where messages of one subscription wait, in order. All but :meth:`get` may be called from any thread."""

    def __init__(self, limit: int = MAILBOX_LIMIT, limit_bytes: int = MAILBOX_BYTES) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[tuple[Message, int]] = deque()
        self._held_bytes = 0
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._arrived = asyncio.Event()
        self._is_woken = False
        self._gap = False
        self._error: MonodonError | None = None
        self._closed = False
        self.dropped = 0

    def put(self, message: Message) -> None:
        """Add a message; when the mailbox is full the oldest are dropped."""
        size = size_bytes(message.content)
        with self._lock:
            if self._closed:
                return
            if self._gap:
                message, self._gap = replace(message, after_gap=True), False
            self._items.append((message, size))
            self._held_bytes += size
            while len(self._items) > 1 and (len(self._items) > self._limit or self._held_bytes > self._limit_bytes):
                self._drop()
        self._wake()

    def _drop(self) -> None:
        self._held_bytes -= self._items.popleft()[1]
        following, size = self._items[0]
        self._items[0] = replace(following, after_gap=True), size
        self.dropped += 1

    def gap(self) -> None:
        """Note that messages may be missing before the next one."""
        with self._lock:
            self._gap = True

    def fail(self, error: MonodonError) -> None:
        """Let the reader see ``error`` once it has read what is there."""
        with self._lock:
            self._error = error
        self._wake()

    def close(self) -> None:
        """Let the reader come to an end at once."""
        with self._lock:
            self._closed = True
            self._items.clear()
            self._held_bytes = 0
        self._wake()

    def _wake(self) -> None:
        """Wake the reader, once however much comes before it looks: a loop that is busy for long piles up nothing."""
        with self._lock:
            if self._is_woken:
                return
            self._is_woken = True
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:
            logger.debug("a message came after the end of the event loop")

    async def get(self) -> Message | None:
        """Wait for the next message; None when closed."""
        while True:
            with self._lock:
                if self._items:
                    message, size = self._items.popleft()
                    self._held_bytes -= size
                    return message
                if self._closed:
                    return None
                if self._error is not None:
                    raise self._error
                self._arrived.clear()
                self._is_woken = False
            await self._arrived.wait()


def size_bytes(content: Json) -> int:
    """Return about how much memory JSON, or bytes, takes."""
    total, values = 0, [content]
    while values:
        value = values.pop()
        total += _VALUE_BYTES
        if isinstance(value, str | bytes):
            total += len(value)
        elif isinstance(value, Mapping):
            values.extend(value)
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
    return total


class Subscription(AsyncIterator[Message]):
    """Messages of one topic filter, in the order in which they came.

    ``async for`` subscribes at its first step. ``async with`` subscribes at once, so that nothing published after
    it is missed, and unsubscribes at its end; otherwise the subscription ends with the component.

    Raises (from either):
        IpcError: the nucleus refuses it, or (``async for``) stopped offering it.
    """

    def __init__(
        self,
        topic_filter: str,
        opening: Callable[[Mailbox], Awaitable[Closing]],
        *,
        on_gap: Callable[[], None] | None = None,
        limit: int = MAILBOX_LIMIT,
    ) -> None:
        self.topic_filter = topic_filter
        self._opening = opening
        self._on_gap = on_gap
        self._limit = limit
        self._mailbox: Mailbox | None = None
        self._closing: Closing | None = None
        self._told = 0

    @property
    def dropped(self) -> int:
        """How many messages were dropped since nobody read them."""
        return self._mailbox.dropped if self._mailbox else 0

    async def _open(self) -> Mailbox:
        if self._mailbox is None:
            mailbox = Mailbox(self._limit)
            self._closing = await self._opening(mailbox)
            self._mailbox = mailbox
        return self._mailbox

    async def __anext__(self) -> Message:
        mailbox = await self._open()
        message = await mailbox.get()
        if message is None:
            raise StopAsyncIteration
        if message.after_gap:
            self._tell(mailbox)
        return message

    def _tell(self, mailbox: Mailbox) -> None:
        lost = mailbox.dropped - self._told
        self._told = mailbox.dropped
        if lost:
            logger.warning("%d messages on %s were dropped: they were not read fast enough", lost, self.topic_filter)
        if self._on_gap is not None:
            self._on_gap()

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Unsubscribe; a reader comes to its end."""
        closing, self._closing = self._closing, None
        if self._mailbox is not None:
            self._mailbox.close()
        if closing is not None:
            await closing()

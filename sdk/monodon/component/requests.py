"""Questions and answers on local topics, which know neither: an envelope with an id, and a topic for the answers.

A request on ``camera/where`` is ``{"request_id", "reply_to", "message"}``; its answer, on
``camera/where/replies/<who asked>``, is ``{"request_id", "message"}`` or ``{"request_id", "error"}``. Bytes travel as
``binary``, in base64, in place of ``message``.
"""

import asyncio
import base64
import binascii
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from monodon.component.link import Link
from monodon.component.messages import (
    CONNECTION_LOST,
    INVALID_MESSAGE,
    TIMEOUT,
    Message,
    Publishable,
    local_content,
)
from monodon.component.subscription import Mailbox, Subscription
from monodon.core.json import Json
from monodon.deadlines import timeout
from monodon.errors import IpcError, MonodonError

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds that an answer may take.
PATIENCE_S = 10.0
#: The ``code`` of an answer that says no.
REFUSED = "Refused"


def reply_topic(topic: str, component: str) -> str:
    """Return the topic on which a component hears the answers to its requests."""
    return f"{topic}/replies/{component}"


def _wrapped(topic: str, message: Publishable) -> dict[str, Json]:
    content = local_content(topic, message)
    if isinstance(content, bytes):
        return {"binary": base64.b64encode(content).decode()}
    return {"message": content}


def _unwrapped(envelope: Mapping[str, Json]) -> Mapping[str, Json] | bytes | None:
    message, binary = envelope.get("message"), envelope.get("binary")
    if isinstance(message, Mapping):
        return message
    try:
        return base64.b64decode(binary, validate=True) if isinstance(binary, str) else None
    except binascii.Error:
        return None


# --- asking ---------------------------------------------------------------------------------------------------------


class _Replies(Mailbox):
    """Answers on one topic, each handed to the request that waits for it. A late or unknown one is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: dict[str, asyncio.Future[Message]] = {}
        self.is_over = False

    def put(self, message: Message) -> None:
        self._later(self._settle, message)

    def gap(self) -> None:
        self._later(self._fail, IpcError("the answer may be lost: the nucleus was away", code=CONNECTION_LOST))

    def fail(self, error: MonodonError) -> None:
        self.is_over = True
        self._later(self._fail, error)

    def _later(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            logger.debug("an answer came after the end of the event loop")

    def _settle(self, message: Message) -> None:
        envelope = message.content
        request_id = envelope.get("request_id") if isinstance(envelope, Mapping) else None
        waiting = self.pending.get(request_id) if isinstance(request_id, str) else None
        if waiting is None or waiting.done():
            logger.debug("nobody waits for the answer %s", request_id)
            return
        assert isinstance(envelope, Mapping)
        content = _unwrapped(envelope)
        if content is not None:
            waiting.set_result(Message(topic=message.topic, content=content))
        else:
            waiting.set_exception(IpcError(str(envelope.get("error", "an answer without content")), code=REFUSED))

    def _fail(self, error: MonodonError) -> None:
        for waiting in self.pending.values():
            if not waiting.done():
                waiting.set_exception(error)


class Requester:
    """Asks, and hears the answers: one subscription for each topic that was asked on, kept open."""

    def __init__(self, link: Link, component: str) -> None:
        self._link = link
        self._component = component
        self._heard: dict[str, _Replies] = {}
        self._opening = asyncio.Lock()

    async def _replies(self, topic: str) -> _Replies:
        async with self._opening:
            replies = self._heard.get(topic)
            if replies is None or replies.is_over:
                replies = _Replies()
                await self._link.subscribe(reply_topic(topic, self._component), replies, own_messages=True)
                self._heard[topic] = replies
            return replies

    async def request(self, topic: str, message: Publishable, timeout_s: float) -> Message:
        """Ask on a topic and return the answer.

        Raises:
            IpcError: no answer in time (``Timeout``), one that says no (``Refused``), or the nucleus refuses.
        """
        content = _wrapped(topic, message)
        replies = await self._replies(topic)
        request_id = uuid.uuid4().hex
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        replies.pending[request_id] = answer
        envelope = {"request_id": request_id, "reply_to": reply_topic(topic, self._component), **content}
        try:
            async with timeout(timeout_s):
                await self._link.publish(topic, envelope)
                return await answer
        except TimeoutError:
            raise IpcError(
                f"request on {topic}: no answer within {timeout_s:g} s",
                code=TIMEOUT,
                hint="does a component answer there, and may it publish on <topic>/replies/*?",
            ) from None
        finally:
            del replies.pending[request_id]


# --- answering ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A question that waits for its answer; the same things can be read from it as from a message."""

    message: Message
    request_id: str
    reply_to: str
    link: Link

    @property
    def json(self) -> Json:
        """What was asked, as JSON data."""
        return self.message.json

    def read(self, kind: type[T]) -> T:
        """Return what was asked as a dataclass.

        Raises:
            IpcError: it does not fit (``InvalidMessage``).
        """
        return self.message.read(kind)

    async def reply(self, message: Publishable) -> None:
        """Answer: a mapping or dataclass, text or bytes.

        Raises:
            IpcError: refused, not answered in time, or not a message that can be sent.
        """
        await self.link.publish(self.reply_to, {"request_id": self.request_id, **_wrapped(self.reply_to, message)})

    async def refuse(self, reason: str) -> None:
        """Answer with no: who asked gets an IpcError ``Refused`` that says why."""
        await self.link.publish(self.reply_to, {"request_id": self.request_id, "error": reason})


class Requests(AsyncIterator[Request]):
    """Questions on one topic, in the order in which they came; ``async with`` listens at once."""

    def __init__(self, subscription: Subscription, link: Link) -> None:
        self._subscription = subscription
        self._link = link

    async def __anext__(self) -> Request:
        async for message in self._subscription:
            request = self._read(message)
            if request is not None:
                return request
        raise StopAsyncIteration

    def _read(self, message: Message) -> Request | None:
        envelope = message.content
        if isinstance(envelope, Mapping):
            request_id, reply_to, content = envelope.get("request_id"), envelope.get("reply_to"), _unwrapped(envelope)
            is_ours = isinstance(reply_to, str) and reply_to.startswith(f"{message.topic}/replies/")
            if isinstance(request_id, str) and is_ours and content is not None:
                return Request(
                    message=Message(topic=message.topic, content=content, after_gap=message.after_gap),
                    request_id=request_id,
                    reply_to=str(reply_to),
                    link=self._link,
                )
        logger.warning("a message on %s is no request and is passed over", message.topic)
        return None

    async def answer(self, handler: Callable[[Request], Awaitable[Publishable]]) -> None:
        """Answer each request with what ``handler`` returns, one after the other, until cancelled.

        A request that does not fit, or that ``handler`` ends with a MonodonError, is refused with the error's words.
        """
        async for request in self:
            try:
                answer = await handler(request)
            except MonodonError as error:
                await self._send(request.refuse(error.message))
            else:
                await self._send(request.reply(answer))

    async def _send(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        except IpcError as error:
            if error.code == INVALID_MESSAGE:
                raise
            logger.warning("an answer was not sent: %s", error.message)

    async def __aenter__(self) -> Self:
        await self._subscription.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._subscription.aclose()

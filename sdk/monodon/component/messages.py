"""Messages: what a component sends and receives, and how they become JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

from monodon.component.values import decode, encode
from monodon.core.json import Json
from monodon.errors import IpcError

T = TypeVar("T")

#: What may be published: a mapping, a dataclass, text or bytes.
Publishable: TypeAlias = Any

#: The ``code`` of an error about a message that cannot be sent or understood.
INVALID_MESSAGE = "InvalidMessage"
#: The ``code`` of an error of what was not answered in time, or lost with its connection; it may have been done.
TIMEOUT = "Timeout"
CONNECTION_LOST = "ConnectionLost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message as it arrived.

    ``content`` is the JSON object of a local JSON message, else bytes. ``after_gap`` says that messages may be
    missing before this one: the connection to the nucleus was lost in between, or the reader was too slow.
    """

    topic: str
    content: Mapping[str, Json] | bytes
    after_gap: bool = False
    retain: bool = False
    user_properties: tuple[tuple[str, str], ...] = ()
    response_topic: str | None = None
    correlation_data: bytes | None = None
    content_type: str | None = None

    @property
    def payload(self) -> bytes:
        """The message as bytes; UTF-8 JSON if it came as an object."""
        return self.content if isinstance(self.content, bytes) else json.dumps(self.content).encode()

    @property
    def text(self) -> str:
        """The message as text.

        Raises:
            IpcError: it is not UTF-8 (``InvalidMessage``).
        """
        try:
            return self.payload.decode()
        except UnicodeDecodeError as error:
            raise IpcError(f"the message on {self.topic} is not text: {error}", code=INVALID_MESSAGE) from error

    @property
    def json(self) -> Json:
        """The message as JSON data.

        Raises:
            IpcError: it is not JSON (``InvalidMessage``).
        """
        if not isinstance(self.content, bytes):
            return self.content
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError) as error:
            raise IpcError(
                f"the message on {self.topic} is not JSON: {error}: {self.content[:80]!r}", code=INVALID_MESSAGE
            ) from error

    def read(self, kind: type[T]) -> T:
        """Return the message as a dataclass (or another type JSON can carry); unknown keys are passed over.

        Raises:
            IpcError: it does not fit; the message names each key, value and expected type (``InvalidMessage``).
        """
        value, misfits = decode(kind, self.json, strict=False)
        if misfits:
            found = "; ".join(str(misfit) for misfit in misfits)
            raise IpcError(f"the message on {self.topic} is no {kind.__name__}: {found}", code=INVALID_MESSAGE)
        return cast("T", value)


def local_content(topic: str, message: Publishable) -> Mapping[str, Json] | bytes:
    """Return what travels on a local topic: a JSON object, or bytes (text as UTF-8).

    Raises:
        IpcError: JSON cannot carry it, or it is JSON but no object (``InvalidMessage``).
    """
    content = _content(topic, message)
    if isinstance(content, bytes | Mapping):
        return content
    raise IpcError(
        f"the message for {topic} is a JSON {type(content).__name__}; local messages are objects or bytes",
        code=INVALID_MESSAGE,
        hint='put it under a key, such as {"value": …}',
    )


def iot_payload(topic: str, message: Publishable) -> bytes:
    """Return what travels on an AWS IoT Core topic: bytes as they are, text as UTF-8, all else as JSON.

    Raises:
        IpcError: JSON cannot carry it (``InvalidMessage``).
    """
    content = _content(topic, message)
    return content if isinstance(content, bytes) else _json(content)


def _json(content: Json) -> bytes:
    try:
        return json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can escape
        return json.dumps(content).encode()


def _content(topic: str, message: Publishable) -> Json:
    if isinstance(message, bytes | bytearray | memoryview):
        return bytes(message)
    try:
        return message.encode() if isinstance(message, str) else encode(message)
    except RecursionError as error:
        raise IpcError(f"the message for {topic} cannot be sent: nested too deeply", code=INVALID_MESSAGE) from error
    except (ValueError, TypeError) as error:
        raise IpcError(f"the message for {topic} cannot be sent: {error}", code=INVALID_MESSAGE) from error

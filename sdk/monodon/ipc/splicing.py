"""Publishes whose message is passed on as the bytes it came in, instead of being decoded and encoded again.

A publish of the form that clients write (topic, then one message without context) is taken apart by its brackets;
the message is checked, and what it is stays JSON text. Everything else is read the usual way, errors included. Of
100 kB in one string, checking costs 0.05 ms (every digit of base64; or UTF-8, and that JSON has no control character);
decoding and encoding it again 2.5 ms.
"""

import json
import re
from typing import Final, Literal

from monodon.ipc.errors import InvalidArgumentsError
from monodon.ipc.serialisation import Shape, read_json, read_shape
from monodon.ipc.shapes import PublishToTopicRequest, shape

_SPACE = rb"[ \t\n\r]*"
_SPACES: Final = b" \t\n\r"


def _spaced(*tokens: bytes) -> bytes:
    return _SPACE.join(tokens)


_HEAD: Final = re.compile(
    _spaced(b"", rb"\{", b'"topic"', b":", rb'("(?:[^"\\\x00-\x1f]|\\.)*")', b",", b'"publishMessage"', b":", rb"\{")
    + _spaced(b"", b'"(jsonMessage|binaryMessage)"', b":", rb"\{", b'"message"', b":", b"")
)
_SHORT_TAIL: Final = b"}}}"
_TAIL: Final = re.compile(_spaced(b"", rb"\}", rb"\}", rb"\}", rb"\Z"))
_TAIL_BYTES: Final = 64
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BASE64_END: Final = re.compile(rb"[A-Za-z0-9+/]{2}(?:[A-Za-z0-9+/][A-Za-z0-9+/=]|==)")
_CONTROL: Final = range(32)
_QUOTE: Final = ord('"')
_PIECE_BYTES: Final = 32 * 1024
#: Strings from this size on are checked where they are.
_LONG_BYTES: Final = 1024
_SHORT_BYTES: Final = 128


@shape
class SplicedPublish(Shape):
    """A publish whose message is still JSON text: an object, or a base64 string with its quotation marks."""

    topic: str
    topic_json: bytes
    member: Literal["jsonMessage", "binaryMessage"]
    message_json: memoryview

    def event(self) -> "SplicedEvent":
        """Return what subscribers get."""
        event = SplicedEvent()
        body = b'{"%b":{"message":%b,"context":{"topic":%b}}}'
        object.__setattr__(event, "_body", body % (self.member.encode(), self.message_json, self.topic_json))
        return event


class SplicedEvent(Shape):
    """A ``SubscriptionResponseMessage`` that exists as its body alone."""


def read_publish(body: bytes | memoryview) -> PublishToTopicRequest | SplicedPublish:
    """Return the request in a body, its message spliced where possible.

    Raises:
        InvalidArgumentsError: as :func:`monodon.ipc.serialisation.read_shape`.
    """
    return _splice(body) or read_shape(PublishToTopicRequest, body)


def _splice(body: bytes | memoryview) -> SplicedPublish | None:
    head = _HEAD.match(body)
    if not head:
        return None
    start, end = head.end(), _message_end(body, head.end())
    message = memoryview(body)[start:end]
    topic_json, member = head.groups()
    try:
        topic = json.loads(topic_json) if b"\\" in topic_json else topic_json[1:-1].decode()
        if member == b"binaryMessage":
            if _is_base64_text(message):
                return SplicedPublish(topic=topic, topic_json=topic_json, member="binaryMessage", message_json=message)
        elif _is_object_text(bytes(message)):
            return SplicedPublish(topic=topic, topic_json=topic_json, member="jsonMessage", message_json=message)
    except (ValueError, InvalidArgumentsError):
        pass  # read the usual way, which says what is wrong
    return None


def _message_end(body: bytes | memoryview, start: int) -> int:
    """Return where the message ends: before the three brackets that close the body; ``start`` if they don't."""
    if body[-3:] == _SHORT_TAIL and body[-4] not in _SPACES:
        return len(body) - len(_SHORT_TAIL)
    tail = _TAIL.search(body, max(start, len(body) - _TAIL_BYTES))
    return tail.start() if tail else start


def _is_base64_text(text: memoryview) -> bool:
    length = len(text)
    if length == 2:
        return bytes(text) == b'""'
    if length < 6 or (length - 2) % 4 or text[0] != _QUOTE or text[-1] != _QUOTE:
        return False
    if _BASE64_END.fullmatch(text, length - 5, length - 1) is None:
        return False
    # In pieces: a large one would take fresh memory each time, whose first touch costs more than the check.
    for start in range(1, length - 5, _PIECE_BYTES):
        if bytes(text[start : min(start + _PIECE_BYTES, length - 5)]).translate(None, _BASE64):
            return False
    return True


def _is_object_text(text: bytes) -> bool:
    if not text.startswith(b"{"):
        return False
    if len(text) > _LONG_BYTES and b"\\" not in text:
        text.decode()
        text = _without_long_strings(text)
    return isinstance(read_json(text), dict)


def _without_long_strings(text: bytes) -> bytes:
    """Empty the long strings of JSON that has no escapes; of one with control characters none, to judge their places.

    To look for a byte is so quick that 32 searches beat one pass that tells 32 bytes from the others.
    """
    kept = []
    cut = after = 0
    for _ in range(len(text) // _SHORT_BYTES):  # more strings than that are short ones
        start = text.find(b'"', after)
        end = text.find(b'"', start + 1)
        if start < 0 or end < 0:
            break
        after = end + 1
        if end - start >= _LONG_BYTES:
            kept.append(text[cut : start + 1])
            cut = end
    if not kept or any(control in text for control in _CONTROL):
        return text
    return b"".join((*kept, text[cut:]))

"""Topics and filters: local publish/subscribe and AWS IoT Core, which differ in small ways.

======================  ===============================  ==================================
rule                    local                            IoT Core (MQTT)
======================  ===============================  ==================================
``a/#`` covers ``a``    no, at least one level           yes
``a/b/``                the same topic as ``a/b``        a topic of three levels
``#`` in the middle     behaves like ``+``               not a filter
``+`` glued to text     literal                          not a filter
``$aws/x``              nothing special                  no leading wildcard covers it
======================  ===============================  ==================================

Source: Greengrass nucleus, ``SubscriptionTrie.java``; MQTT 5.0, section 4.7; AWS IoT Core limits.
"""

from collections.abc import Hashable
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

#: The most slashes and characters in a topic of AWS IoT Core, and bytes in a payload.
MAX_IOT_SLASHES = 7
MAX_IOT_CHARACTERS = 256
#: Topics whose subscribers are remembered between changes; components publish on a few, again and again.
_KNOWN_TOPICS = 1000
MAX_IOT_PAYLOAD_BYTES = 128 * 1024

_MAX_MQTT_TOPIC_BYTES = 65_535
_SHARED = "$share/"
_RULES = "$aws/rules/"


class Matching(Enum):
    """Whose rules decide if a filter covers a topic."""

    LOCAL = "local"
    IOT = "iot"


def _local_levels(text: str) -> list[str]:
    """Split as Java's ``String.split`` does: trailing empty levels are dropped."""
    levels = text.split("/")
    while len(levels) > 1 and not levels[-1]:
        levels.pop()
    return levels if levels[0] or len(levels) > 1 or not text else []


def _filter_levels(topic_filter: str, matching: Matching) -> list[str]:
    if matching is Matching.IOT:
        return topic_filter.split("/")
    levels = _local_levels(topic_filter)
    return ["+" if level == "#" and index < len(levels) - 1 else level for index, level in enumerate(levels)]


def _topic_levels(topic: str, matching: Matching) -> list[str]:
    return topic.split("/") if matching is Matching.IOT else _local_levels(topic)


def _covers(pattern: list[str], levels: list[str], matching: Matching) -> bool:
    if matching is Matching.IOT and levels[0].startswith("$") and pattern[0] in ("+", "#"):
        return False
    if pattern and pattern[-1] == "#":
        pattern = pattern[:-1]
        least = len(pattern) + (matching is Matching.LOCAL)
        if len(levels) < least:
            return False
        levels = levels[: len(pattern)]
    return len(pattern) == len(levels) and all(want in ("+", have) for want, have in zip(pattern, levels, strict=True))


def local_matches(topic_filter: str, topic: str) -> bool:
    """Return whether a local subscription to ``topic_filter`` receives what is published on ``topic``."""
    return _covers(_filter_levels(topic_filter, Matching.LOCAL), _local_levels(topic), Matching.LOCAL)


def iot_matches(topic_filter: str, topic: str) -> bool:
    """Return whether an MQTT subscription to ``topic_filter`` receives ``topic``; both must be valid.

    A ``$share/<group>/`` prefix is not looked through: see :func:`split_shared`.
    """
    return _covers(topic_filter.split("/"), topic.split("/"), Matching.IOT)


def has_wildcard(topic_filter: str) -> bool:
    """Return whether a whole level of the filter is ``+`` or ``#``."""
    return any(level in ("+", "#") for level in topic_filter.split("/"))


def valid_local_topic(topic: str) -> bool:
    """Return whether a component may publish on ``topic``: no ``+``, ``#`` or ``*`` anywhere."""
    return not any(character in topic for character in "+#*")


def _is_mqtt_text(text: str) -> bool:
    """MQTT 5.0, 1.5.4 and 4.7.3: one to 65,535 bytes of UTF-8, no NUL, no surrogate."""
    if not text or "\0" in text:
        return False
    try:
        return len(text.encode()) <= _MAX_MQTT_TOPIC_BYTES
    except UnicodeEncodeError:
        return False


def valid_iot_topic(topic: str) -> bool:
    """Return whether ``topic`` is a topic name by MQTT 5.0: not empty, no wildcard, no NUL."""
    return _is_mqtt_text(topic) and "+" not in topic and "#" not in topic


def valid_iot_filter(topic_filter: str) -> bool:
    """Return whether ``topic_filter`` is one by MQTT 5.0; ``$share/<group>/<filter>`` is checked as both."""
    if not _is_mqtt_text(topic_filter):
        return False
    if topic_filter.startswith(_SHARED):
        group, rest = split_shared(topic_filter)
        if not group or not rest or "+" in group or "#" in group:
            return False
        topic_filter = rest
    *inner, last = topic_filter.split("/")
    return all(_is_plain_or_plus(level) for level in inner) and (last == "#" or _is_plain_or_plus(last))


def _is_plain_or_plus(level: str) -> bool:
    return level == "+" or ("+" not in level and "#" not in level)


def split_shared(topic_filter: str) -> tuple[str | None, str]:
    """Return the share group (None: not a shared subscription) and the filter without it."""
    if not topic_filter.startswith(_SHARED):
        return None, topic_filter
    group, _, rest = topic_filter[len(_SHARED) :].partition("/")
    return group, rest


def iot_limit_problem(text: str) -> str | None:
    """Return what AWS IoT Core's limits say against a topic or filter, or None.

    ``$aws/rules/<rule>/`` and ``$share/<group>/`` are not counted.
    """
    _, text = split_shared(text)
    if text.startswith(_RULES):
        _, slash, rest = text[len(_RULES) :].partition("/")
        text = rest if slash else text
    if text.count("/") > MAX_IOT_SLASHES:
        return f"more than {MAX_IOT_SLASHES} forward slashes (/)"
    if len(text) > MAX_IOT_CHARACTERS:
        return f"more than {MAX_IOT_CHARACTERS} characters"
    return None


class _Node(Generic[T]):
    """One level of the index: who subscribed to exactly here, and the levels below."""

    __slots__ = ("below", "here")

    def __init__(self) -> None:
        self.below: dict[str, _Node[T]] = {}
        self.here: dict[T, None] = {}


class Subscriptions(Generic[T]):
    """Who receives what: filters to subscribers, found level by level.

    A subscriber is any hashable value. It is listed once for each of its filters that covers a topic, in no
    particular order; adding the same pair twice is adding it once. Branches without a subscriber are removed.
    """

    def __init__(self, matching: Matching) -> None:
        self._matching = matching
        self._root: _Node[T] = _Node()
        self._count = 0
        self._known: dict[str, tuple[T, ...]] = {}  # by topic, since the last change

    def __len__(self) -> int:
        """The number of (filter, subscriber) pairs."""
        return self._count

    @property
    def is_empty(self) -> bool:
        """Nothing is left behind, not even an empty branch."""
        return not self._root.below and not self._root.here

    def add(self, topic_filter: str, subscriber: T) -> None:
        """Let ``subscriber`` receive what ``topic_filter`` covers."""
        self._known.clear()
        node = self._root
        for level in _filter_levels(topic_filter, self._matching):
            child = node.below.get(level)
            if child is None:
                child = node.below[level] = _Node()
            node = child
        if subscriber not in node.here:
            node.here[subscriber] = None
            self._count += 1

    def remove(self, topic_filter: str, subscriber: T) -> bool:
        """Undo :meth:`add`; return whether there was something to undo."""
        self._known.clear()
        path: list[tuple[_Node[T], str]] = []
        node = self._root
        for level in _filter_levels(topic_filter, self._matching):
            child = node.below.get(level)
            if child is None:
                return False
            path.append((node, level))
            node = child
        if subscriber not in node.here:
            return False
        del node.here[subscriber]
        self._count -= 1
        for parent, level in reversed(path):
            child = parent.below[level]
            if child.here or child.below:
                break
            del parent.below[level]
        return True

    def matching(self, topic: str) -> tuple[T, ...]:
        """Return the subscribers of every filter that covers ``topic``."""
        known = self._known.get(topic)
        if known is None:
            known = tuple(self._find(topic))
            if len(self._known) >= _KNOWN_TOPICS:
                self._known.clear()
            if len(topic) <= MAX_IOT_CHARACTERS:
                self._known[topic] = known
        return known

    def _find(self, topic: str) -> list[T]:
        is_iot = self._matching is Matching.IOT
        levels = _topic_levels(topic, self._matching)
        found: list[T] = []
        nodes = [self._root]
        hidden = is_iot and topic.startswith("$")  # no leading wildcard covers a topic that starts with $
        for level in levels:
            following: list[_Node[T]] = []
            for node in nodes:
                below = node.below
                exact = below.get(level)
                if exact is not None:
                    following.append(exact)
                if hidden:
                    continue
                rest = below.get("#")
                if rest is not None and rest is not exact:
                    found.extend(rest.here)
                one = below.get("+")
                if one is not None and one is not exact:
                    following.append(one)
            hidden = False
            nodes = following
            if not nodes:
                return found
        for node in nodes:
            found.extend(node.here)
            rest = node.below.get("#") if is_iot else None
            if rest is not None:
                found.extend(rest.here)
        return found

"""The last retained message of each topic."""

from dataclasses import replace

from monodon.cloud.broker.memory import Memory
from monodon.core.topics import has_wildcard, iot_matches
from monodon.mqtt import Message


class Retained:
    """Retained messages in memory and on disk; the caller holds the transaction."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._messages = memory.retained()

    def put(self, message: Message, now: float) -> None:
        """Keep a message as its topic's last; an empty one clears it."""
        self._memory.retain(message, now)
        if message.payload:
            self._messages[message.topic] = (message, now)
        else:
            self._messages.pop(message.topic, None)

    def all(self, now: float) -> dict[str, tuple[Message, float]]:
        """By topic, and when each was published; without those that have expired."""
        return {topic: entry for topic, entry in self._messages.items() if not _is_over(*entry, now)}

    def matching(self, topic_filter: str, now: float) -> list[Message]:
        """What a new subscription gets, each with what is left of its expiry."""
        if has_wildcard(topic_filter):
            found = [entry for topic, entry in self._messages.items() if iot_matches(topic_filter, topic)]
        else:
            entry = self._messages.get(topic_filter)
            found = [] if entry is None else [entry]
        return [_aged(message, at, now) for message, at in found if not _is_over(message, at, now)]

    def expire(self, now: float) -> None:
        """Forget what has expired."""
        for topic in [topic for topic, entry in self._messages.items() if _is_over(*entry, now)]:
            self.put(Message(topic=topic), now)


def _is_over(message: Message, at: float, now: float) -> bool:
    return message.expiry_s is not None and at + message.expiry_s <= now


def _aged(message: Message, at: float, now: float) -> Message:
    if message.expiry_s is None:
        return message
    return replace(message, expiry_s=max(0, round(at + message.expiry_s - now)))

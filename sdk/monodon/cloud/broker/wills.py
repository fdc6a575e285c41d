"""Last wills: kept from CONNECT on, so that a killed broker still speaks for the clients that it took with it.

Source: MQTT 5.0, section 3.1.2.5 and 3.1.3.2.2 (will delay interval).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from monodon.cloud.broker.identity import Identity
from monodon.cloud.broker.memory import Memory, read_message, write_message
from monodon.core.json import Json
from monodon.mqtt import Will


@dataclass(frozen=True, slots=True)
class Testament:
    """A will, whose it is, and when it is due in seconds since the epoch (None: its client is connected)."""

    will: Will
    identity: Identity
    due: float | None = None

    def to_record(self) -> dict[str, Json]:
        """What is kept on disk; ``from_record`` reads it."""
        return {
            "message": write_message(self.will.message),
            "delay_s": self.will.delay_s,
            "certificate": self.identity.certificate_id,
            "things": list(self.identity.thing_names),
            "client": self.identity.client_id,
            "due": self.due,
        }

    @classmethod
    def from_record(cls, record: dict[str, Json]) -> "Testament":
        """The testament that ``to_record`` wrote."""
        identity = Identity(
            certificate_id=record["certificate"], thing_names=tuple(record["things"]), client_id=record["client"]
        )
        return cls(Will(message=read_message(record["message"]), delay_s=record["delay_s"]), identity, record["due"])


class Wills:
    """The wills of connected clients, and those that wait for their time; the caller holds the transaction.

    Args:
        now: the time at which the broker starts: who was connected when it was killed is gone since now.
    """

    def __init__(self, memory: Memory, now: float) -> None:
        self._memory = memory
        self._waiting: dict[str, Testament] = {}
        for client_id, record in memory.wills():
            testament = Testament.from_record(record)
            if testament.due is None:
                testament = replace(testament, due=now + testament.will.delay_s)
                memory.keep_will(client_id, testament.to_record())
            self._waiting[client_id] = testament

    def connected(self, client_id: str, will: Will | None, identity: Identity) -> None:
        """Keep the will of a connection; an older one of the client is over."""
        self._waiting.pop(client_id, None)
        self._memory.keep_will(client_id, None if will is None else Testament(will, identity).to_record())

    def take(self, client_id: str) -> Testament | None:
        """The will that waits for its time, which is not to wait any longer."""
        found = self._waiting.pop(client_id, None)
        if found is not None:
            self._memory.keep_will(client_id, None)
        return found

    def drop(self, client_id: str) -> None:
        """The client said good-bye, or its will is published now."""
        self._memory.keep_will(client_id, None)

    def delay(self, client_id: str, will: Will, identity: Identity, due: float) -> None:
        """Publish a will later, unless its client is back by then."""
        testament = self._waiting[client_id] = Testament(will, identity, due)
        self._memory.keep_will(client_id, testament.to_record())

    def due(self, now: float) -> Iterator[Testament]:
        """Take every will whose time has come."""
        for client_id, testament in list(self._waiting.items()):
            if testament.due is not None and testament.due <= now:
                self.drop(client_id)
                del self._waiting[client_id]
                yield testament

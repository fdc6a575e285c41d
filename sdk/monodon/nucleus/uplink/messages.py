"""Messages on IoT Core topics: a bounded spool on the way out, filters shared by subscribers on the way in.

A message to send waits in the spool until the cloud is there, and leaves it when the cloud has it. The spool is full at
``spool_bytes``: then the oldest messages of QoS 0 give way, and if that is not enough the new message is refused.

Source: Greengrass nucleus, ``mqttclient/spool/Spool.java``.
"""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field

from monodon.core.topics import iot_matches, split_shared
from monodon.errors import NetworkError, StateError
from monodon.nucleus.identity import MqttSettings
from monodon.nucleus.uplink.connection import Connection
from monodon.nucleus.uplink.protocol import Deliver, IotMessage, Records, Unsubscribe

log = logging.getLogger(__name__)

#: Which filters the session at the server holds for components, so that a restarted nucleus can end them.
FILTERS_KEY = "uplink/filters"


@dataclass(slots=True, eq=False)
class _Spooled:
    message: IotMessage
    qos: int
    attempts: int = 0

    @property
    def size_bytes(self) -> int:
        return len(self.message.payload) + len(self.message.topic)


@dataclass(slots=True, eq=False)
class _Filter:
    """One filter at the server; ``deliver`` holds those who want its messages, by a key of their own."""

    topic_filter: str
    identifier: int
    qos: int
    deliver: dict[object, Deliver] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def covers(self, topic: str) -> bool:
        return iot_matches(split_shared(self.topic_filter)[1], topic)


class Messages:
    """Sends and receives for everybody over one connection. `resume` is called after each connect, `run` throughout."""

    def __init__(self, connection: Connection, records: Records, settings: MqttSettings) -> None:
        self._connection = connection
        self._records = records
        self._settings = settings
        self._spool_bytes = settings.spool_bytes
        self._spool: deque[_Spooled] = deque()
        self._in_flight: set[_Spooled] = set()
        self._used_bytes = 0
        self._moved = asyncio.Event()
        self._sent_all = asyncio.Event()
        self._sent_all.set()
        self._filters: dict[str, _Filter] = {}
        self._identifiers = 0
        self._has_resumed = False
        self._is_ready = False
        self._is_decided = asyncio.Event()  # ready, or away: not in between
        self._is_decided.set()

    # --- out -------------------------------------------------------------------------------------------------------

    def put(self, message: IotMessage, qos: int) -> None:
        """Take a message to be sent.

        Raises:
            NetworkError: the spool is full.
        """
        if qos == 0 and not self._settings.keeps_qos0_when_offline and not self._connection.is_connected:
            log.debug("dropped a message of QoS 0 on %s: the cloud is away", message.topic)
            return
        spooled = _Spooled(message, qos)
        self._make_room(spooled.size_bytes, message.topic)
        self._use(spooled.size_bytes)
        self._spool.append(spooled)
        self._moved.set()

    def _make_room(self, size_bytes: int, topic: str) -> None:
        lesser = [spooled for spooled in self._spool if spooled.qos == 0]
        while self._used_bytes + size_bytes > self._spool_bytes and lesser:
            oldest = lesser.pop(0)
            self._spool.remove(oldest)
            self._use(-oldest.size_bytes)
            log.warning("dropped a message of QoS 0 on %s: the spool is full", oldest.message.topic)
        if self._used_bytes + size_bytes > self._spool_bytes:
            raise NetworkError(
                f"a message on {topic} was refused: the spool of {self._spool_bytes} bytes holds {self._used_bytes}",
                hint="raise mqtt.spooler.maxSizeInBytes in the nucleus's configuration, or publish less",
            )

    def _use(self, size_bytes: int) -> None:
        self._used_bytes += size_bytes
        if self._used_bytes:
            self._sent_all.clear()
        else:
            self._sent_all.set()

    async def run(self) -> None:
        """Send what is spooled, in order, for as long as the connection lasts."""
        while True:
            while self._spool and self._is_ready and len(self._in_flight) < self._settings.in_flight:
                self._send(self._spool.popleft())
            self._moved.clear()
            await self._moved.wait()

    async def drain(self) -> None:
        """Wait until everything spooled was sent."""
        await self._sent_all.wait()

    def _send(self, spooled: _Spooled) -> None:
        spooled.attempts += 1
        try:
            answer = self._connection.send(spooled.message, spooled.qos)
        except NetworkError as error:
            log.warning("%s", error)
            self._use(-spooled.size_bytes)
            return
        self._in_flight.add(spooled)
        answer.add_done_callback(lambda done: self._sent(spooled, done))

    def _sent(self, spooled: _Spooled, answer: "asyncio.Future[str | None]") -> None:
        self._in_flight.discard(spooled)
        self._moved.set()
        error = answer.exception()
        if error is not None and spooled.attempts < self._settings.attempts:
            self._spool.appendleft(spooled)
            return
        self._use(-spooled.size_bytes)
        problem = error or answer.result()
        if problem:
            log.warning("a message on %s is lost: %s", spooled.message.topic, problem)

    # --- in --------------------------------------------------------------------------------------------------------

    async def subscribe(self, topic_filter: str, qos: int, deliver: Deliver) -> Unsubscribe:
        """Deliver what matches until the result is called; now, or as soon as the cloud is there.

        Raises:
            NetworkError: the cloud refused the filter.
        """
        await self._is_decided.wait()
        key = object()
        shared = self._filters.get(topic_filter)
        if shared is None:
            self._identifiers += 1
            shared = self._filters[topic_filter] = _Filter(topic_filter, self._identifiers, qos)
            self._remember(topic_filter)
        is_stronger = qos > shared.qos
        shared.qos = max(qos, shared.qos)
        shared.deliver[key] = deliver

        async def unsubscribe() -> None:
            if shared.deliver.pop(key, None) is not None:
                await self._release(shared)

        if len(shared.deliver) == 1 or is_stronger:
            async with shared.lock:
                is_granted = not self._is_ready or await self._subscribe_now(shared)
            if not is_granted:
                await unsubscribe()
                raise NetworkError(
                    f"the cloud refused a subscription to {topic_filter}",
                    hint="the policy of the device's certificate must allow iot:Subscribe and iot:Receive",
                )
        return unsubscribe

    async def _subscribe_now(self, shared: _Filter) -> bool:
        try:
            return await self._connection.subscribe(shared.topic_filter, shared.qos, shared.identifier)
        except NetworkError as error:
            log.info("%s; it is done after the next connect", error)
            return True

    async def _release(self, shared: _Filter) -> None:
        async with shared.lock:
            if shared.deliver or self._filters.get(shared.topic_filter) is not shared:
                return
            del self._filters[shared.topic_filter]
            self._remember(None)
            if self._is_ready:
                try:
                    await self._connection.unsubscribe(shared.topic_filter)
                except NetworkError as error:
                    log.info("%s", error)

    def deliver(self, message: IotMessage, identifiers: tuple[int, ...]) -> None:
        """Hand a message to those whose filter it was sent for (by topic alone if the server has no identifiers)."""
        for shared in list(self._filters.values()):
            if (not identifiers or shared.identifier in identifiers) and shared.covers(message.topic):
                for deliver in list(shared.deliver.values()):
                    deliver(message)

    # --- the connection comes and goes -------------------------------------------------------------------------------

    def begin(self) -> None:
        """There is a connection: `resume` comes next."""
        self._is_decided.clear()

    async def resume(self) -> None:
        """Subscribe at the server to all that is wanted, and then start sending.

        Raises:
            NetworkError: the connection broke meanwhile.
        """
        if not self._has_resumed and self._connection.is_session_present:
            for topic_filter in self._records.get(FILTERS_KEY) or ():
                if topic_filter not in self._filters:
                    await self._connection.unsubscribe(topic_filter)
        self._has_resumed = True
        self._remember(None)
        filters = list(self._filters.values())
        answers = await asyncio.gather(
            *(self._connection.subscribe(f.topic_filter, f.qos, f.identifier) for f in filters), return_exceptions=True
        )
        for shared, answer in zip(filters, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            if not answer:
                log.warning("the cloud refused a subscription to %s", shared.topic_filter)
        self._is_ready = True
        self._is_decided.set()
        self._moved.set()

    def pause(self) -> None:
        """The connection is gone: spool until `resume`."""
        self._is_ready = False
        self._is_decided.set()

    def _remember(self, added: str | None) -> None:
        known = set(self._records.get(FILTERS_KEY) or ())
        wanted = set(self._filters)
        if not self._has_resumed:
            wanted |= known
        if wanted != known and (added is None or added not in known):
            try:
                self._records.write({FILTERS_KEY: sorted(wanted)})
            except StateError as error:
                log.warning("subscriptions at the cloud are not noted: %s", error)

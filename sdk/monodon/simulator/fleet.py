"""Simulated devices on sockets: each one its own MQTT 5 connection over TLS, all on one loop."""

import asyncio
import logging
import resource
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from monodon.deadlines import timeout
from monodon.errors import NetworkError
from monodon.mqtt import Connect
from monodon.simulator.connection import Connection, SmallTls
from monodon.simulator.device import Device
from monodon.simulator.faults import NEVER, unit
from monodon.simulator.talk import Outgoing, filters

log = logging.getLogger(__name__)

CONNECT_WITHIN_S: Final = 30.0
LEAVE_WITHIN_S: Final = 5.0
FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 30.0
#: What a process needs besides a socket for each device.
_OTHER_FILES: Final = 64
_LONG_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the cloud's MQTT is; ``host`` is what its certificate says."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How devices connect: so many at once, and what their CONNECT says."""

    at_once: int = 50
    keep_alive_s: int = 600
    session_expiry_s: int = 3600


@dataclass(slots=True, kw_only=True)
class Traffic:
    """What has happened on all connections together."""

    connects: int = 0
    losses: int = 0
    sent: int = 0
    received: int = 0
    last_problem: str = ""


def device_context(ca_file: str, certificate_file: str, key_file: str) -> ssl.SSLContext:
    """Return what devices connect with that share a certificate.

    Raises:
        NetworkError: a file cannot be read, or is none.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.load_cert_chain(certificate_file, key_file)
    except (OSError, ssl.SSLError) as error:
        raise NetworkError(f"{certificate_file}, {key_file} or {ca_file} cannot be used: {error}") from error
    return context


def allow_open_files(devices: int) -> None:
    """Let this process have a socket for each device.

    Raises:
        NetworkError: the system does not allow so many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = devices + _OTHER_FILES
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise NetworkError(
            f"{devices} devices need {needed} open files; this system allows {hard}",
            hint="raise the hard limit (ulimit -Hn), or simulate fewer devices in each process",
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed if hard == resource.RLIM_INFINITY else hard, hard))


class Member:
    """A device of the fleet, its connection and its alarm clock."""

    __slots__ = ("_alarm", "_alarm_at", "_attempts", "_fleet", "connection", "context", "device", "is_queued")

    def __init__(self, fleet: "Fleet", device: Device, context: ssl.SSLContext) -> None:
        self._fleet = fleet
        self.device = device
        self.context = context
        self.connection: Connection | None = None
        self.is_queued = False
        self._attempts = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = NEVER

    # What the connection calls

    def opened(self) -> None:
        self._attempts = 0
        self._fleet.traffic.connects += 1
        self._fleet.open_count += 1
        now = self._fleet.now()
        self._say(self.device.connected(now), now)

    def message(self, topic: str, payload: bytes) -> None:
        self._fleet.traffic.received += 1
        now = self._fleet.now()
        self._say(self.device.received(topic, payload, now), now)

    def taken(self, receipt: int) -> None:
        self.device.taken(receipt)

    def lost(self, why: str) -> None:
        was_open, self.connection = self.connection is not None, None
        if not was_open:
            return
        self._fleet.traffic.losses += not self._fleet.is_leaving
        self._fleet.open_count -= 1
        log.debug("%s: %s", self.device.thing, why)
        self.device.disconnected()
        if self._fleet.is_leaving:
            self._fleet.left()
        else:
            self.look(self._fleet.now())

    # What the fleet calls

    def look(self, now: float) -> None:
        """Connect, cut or set the alarm, as the device wants it now."""
        wanted = self.device.wants_connection(now)
        if not wanted and self.connection is not None:
            self.connection.cut()
            return
        if wanted and self.connection is None and not self.is_queued:
            self._fleet.enqueue(self)
        self._set_alarm(self.device.due_at(now), now)

    def failed(self) -> None:
        """Connecting did not work: try again, ever later."""
        chance = 0.5 + unit(0, self.device.thing, self._attempts)
        pause_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2**self._attempts) * chance
        self._attempts = min(self._attempts + 1, 10)
        self.is_queued = True
        self._fleet.loop.call_later(pause_s, self._fleet.enqueue, self)

    def stop(self) -> None:
        """Never wake again."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _say(self, said: list[Outgoing], now: float) -> None:
        if self.connection is not None and self.device.wants_connection(now):
            self._fleet.traffic.sent += self.connection.send(said)
        self.look(now)

    def _set_alarm(self, at: float, now: float) -> None:
        """Wake at a time or earlier; once awake, the alarm is set anew."""
        if at >= self._alarm_at or at == NEVER:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = self._fleet.loop.call_later(min(_LONG_S, max(0.0, at - now)), self._wake)

    def _wake(self) -> None:
        self._alarm, self._alarm_at = None, NEVER
        now = self._fleet.now()
        self._say(self.device.woken(now) if self.device.due_at(now) <= now else [], now)
        if self.connection is not None:
            self.connection.flush()


class Fleet:
    """Devices, connected as they want to be while ``running``.

    Args:
        contexts: what each device connects with, in turn; devices share certificates.
        now: seconds since 1970.
    """

    def __init__(
        self,
        devices: Iterable[Device],
        *,
        address: Address,
        contexts: Sequence[ssl.SSLContext],
        now: Callable[[], float] = time.time,
        options: Options | None = None,
    ) -> None:
        self.now = now
        self.traffic = Traffic()
        self.open_count = 0
        self.is_leaving = False
        self.loop: asyncio.AbstractEventLoop
        self._address = address
        self._hosts: deque[str] = deque()
        self._options = options or Options()
        self._members = tuple(Member(self, device, context) for device, context in zip(devices, contexts, strict=True))
        self._queue: asyncio.Queue[Member] = asyncio.Queue()
        self._all_gone = asyncio.Event()

    @property
    def devices(self) -> Iterator[Device]:
        """Every device."""
        return (member.device for member in self._members)

    @property
    def wanting(self) -> int:
        """How many devices want to be connected now, or are."""
        now = self.now()
        return sum(member.device.wants_connection(now) for member in self._members)

    def enqueue(self, member: Member) -> None:
        """Let a member connect when it is its turn."""
        member.is_queued = True
        self._queue.put_nowait(member)

    async def run(self) -> None:
        """Run until cancelled; then every device says good-bye.

        Raises:
            NetworkError: the cloud's host has no address.
        """
        self.loop = asyncio.get_running_loop()
        try:
            found = await self.loop.getaddrinfo(self._address.host, self._address.port, type=1)
        except OSError as error:
            raise NetworkError(f"{self._address.host} has no address: {error}") from error
        self._hosts.extend(dict.fromkeys(str(each[4][0]) for each in found))
        now = self.now()
        for member in self._members:
            member.look(now)
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._options.at_once):
                    tasks.create_task(self._connect_all(), name=f"connect-{number}")
                tasks.create_task(self._ping(), name="ping")
        finally:
            await self._leave()

    async def _connect_all(self) -> None:
        while True:
            member = await self._queue.get()
            if member.device.wants_connection(self.now()):
                try:
                    async with timeout(CONNECT_WITHIN_S):
                        await self._connect(member)
                except (OSError, NetworkError, TimeoutError) as error:
                    if isinstance(error, ConnectionRefusedError):
                        self._hosts.rotate()  # localhost may be ::1 as well
                    self._note(str(error) or f"no answer within {CONNECT_WITHIN_S:g} s")
                    member.failed()
                    continue
            member.is_queued = False
            member.look(self.now())

    async def _connect(self, member: Member) -> None:
        options = self._options
        hello = Connect(
            client_id=member.device.thing, keep_alive_s=options.keep_alive_s, session_expiry_s=options.session_expiry_s
        )
        shaken: asyncio.Future[None] = self.loop.create_future()
        door = _Door(member, self.loop.create_future())
        connection = Connection(door, hello, filters(member.device.thing))
        door.connection = connection
        transport, _ = await self.loop.create_connection(
            lambda: SmallTls(self.loop, connection, member.context, self._address.host, shaken),
            self._hosts[0],
            self._address.port,
        )
        try:
            await shaken
            await door.ready
        except BaseException:
            if not door.is_through:
                transport.abort()
                door.ready.cancel()
            raise

    def _note(self, problem: str) -> None:
        if problem != self.traffic.last_problem:
            log.warning("a device cannot connect: %s", problem)
        self.traffic.last_problem = problem

    async def _ping(self) -> None:
        """Keep connections that say nothing from being taken for dead."""
        pause_s = self._options.keep_alive_s / 2
        while True:
            await asyncio.sleep(pause_s)
            for number, member in enumerate(self._members):
                if member.connection is not None:
                    member.connection.ping()
                if number % 200 == 0:
                    await asyncio.sleep(0)

    def left(self) -> None:
        """A device has gone, as all shall."""
        if not self.open_count:
            self._all_gone.set()

    async def _leave(self) -> None:
        self.is_leaving = True
        for member in self._members:
            member.stop()
            if member.connection is not None:
                member.connection.leave()
        if self.open_count:
            with suppress(TimeoutError):
                async with timeout(LEAVE_WITHIN_S):
                    await self._all_gone.wait()
        for member in self._members:
            if member.connection is not None:
                member.connection.cut()
        await asyncio.sleep(0)


class _Door:
    """Between a connection that is being made and its member: until it is open, the one who connects hears of it."""

    __slots__ = ("_member", "connection", "is_through", "ready")

    def __init__(self, member: Member, ready: "asyncio.Future[None]") -> None:
        self._member = member
        self.ready = ready
        self.is_through = False
        self.connection: Connection | None = None

    def opened(self) -> None:
        if self.ready.done():  # whoever waited has given up
            return
        self.is_through = True
        self._member.connection = self.connection
        self.ready.set_result(None)
        self._member.opened()

    def message(self, topic: str, payload: bytes) -> None:
        if self.is_through:
            self._member.message(topic, payload)

    def taken(self, receipt: int) -> None:
        self._member.taken(receipt)

    def lost(self, why: str) -> None:
        if self.is_through:
            self._member.lost(why)
        elif not self.ready.done():
            self.ready.set_exception(NetworkError(why))

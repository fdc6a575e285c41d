"""Simulated devices without sockets, on a clock that jumps from one event to the next: ten days pass in a second.

The cloud is whatever answers what devices publish: ``rollout.MemoryJobs``, or the embedded cloud's own backends.
"""

import heapq
import logging
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from monodon.simulator.device import Device
from monodon.simulator.faults import NEVER
from monodon.simulator.talk import Outgoing

log = logging.getLogger(__name__)

#: More messages than this at one moment mean that devices and cloud answer each other for ever.
_MOST_AT_ONCE: Final = 10_000


class Clock:
    """Seconds since 1970, as far as the simulation has come."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """What time it is."""
        return self.now


class Cloud(Protocol):
    """The other end. What it says to devices it hands to ``VirtualFleet.deliver``."""

    def publish(self, thing: str, topic: str, payload: bytes) -> None:
        """A device has published a message."""

    def next_at(self) -> float:
        """When it wants to be woken (infinity: only by a message)."""

    def wake(self, now: float) -> None:
        """It is time."""


class VirtualFleet:
    """Devices and a cloud, event after event.

    As with a clean MQTT session, what is said to a device that is not connected is lost; it asks when it is back.
    """

    def __init__(self, devices: Iterable[Device], clock: Clock) -> None:
        self.clock = clock
        self.devices: Mapping[str, Device] = {device.thing: device for device in devices}
        #: Messages that have arrived at the devices, and those that were lost.
        self.delivered = self.lost = 0
        self._connected: set[str] = set()
        self._inbox: deque[tuple[str, str, bytes]] = deque()
        self._alarms: list[tuple[float, str]] = []
        self._alarm_of: dict[str, float] = {}

    def deliver(self, topic: str, payload: bytes) -> None:
        """The cloud says something; the device hears it before the clock moves on."""
        self._inbox.append((_thing_of(topic), topic, payload))

    @property
    def connected(self) -> int:
        """How many devices are connected."""
        return len(self._connected)

    def begin(self, cloud: Cloud) -> None:
        """Connect the devices that are there."""
        for device in self.devices.values():
            self._look(device, cloud)
        self._settle(cloud)

    def join(self, device: Device, cloud: Cloud) -> None:
        """One more device."""
        self.devices = {**self.devices, device.thing: device}
        self._look(device, cloud)
        self._settle(cloud)

    def run(self, cloud: Cloud, until: float) -> None:
        """Let time pass, until a time or until nothing more will happen."""
        self._settle(cloud)
        while (at := self._next_at(cloud)) <= until:
            self.clock.now = max(self.clock.now, at)
            if cloud.next_at() <= self.clock.now:
                cloud.wake(self.clock.now)
            while self._alarms and self._alarms[0][0] <= self.clock.now:
                self._ring(*heapq.heappop(self._alarms), cloud)
            self._settle(cloud)
        if until < NEVER:
            self.clock.now = max(self.clock.now, until)

    def _next_at(self, cloud: Cloud) -> float:
        while self._alarms and self._alarm_of.get(self._alarms[0][1]) != self._alarms[0][0]:
            heapq.heappop(self._alarms)
        return min(cloud.next_at(), self._alarms[0][0] if self._alarms else NEVER)

    def _ring(self, at: float, thing: str, cloud: Cloud) -> None:
        if self._alarm_of.get(thing) != at:  # set anew since
            return
        del self._alarm_of[thing]
        device = self.devices[thing]
        self._say(device, device.woken(self.clock.now), cloud)

    def _settle(self, cloud: Cloud) -> None:
        """Hand over messages until nobody says anything more."""
        for _ in range(_MOST_AT_ONCE * max(1, len(self.devices))):
            if not self._inbox:
                return
            thing, topic, payload = self._inbox.popleft()
            device = self.devices.get(thing)
            if device is None or thing not in self._connected:
                self.lost += 1
                continue
            self.delivered += 1
            self._say(device, device.received(topic, payload, self.clock.now), cloud)
        raise RuntimeError("devices and cloud do not come to rest")

    def _say(self, device: Device, said: list[Outgoing], cloud: Cloud) -> None:
        now = self.clock.now
        if device.thing in self._connected and device.wants_connection(now):
            for topic, payload, receipt in said:
                cloud.publish(device.thing, topic, payload)
                if receipt:
                    device.taken(receipt)
        self._look(device, cloud)

    def _look(self, device: Device, cloud: Cloud) -> None:
        """Connect, cut or set the alarm, as the device wants it now."""
        now, thing = self.clock.now, device.thing
        wanted = device.wants_connection(now)
        if wanted and thing not in self._connected:
            self._connected.add(thing)
            self._say(device, device.connected(now), cloud)
            return
        if not wanted and thing in self._connected:
            self._connected.discard(thing)
            device.disconnected()
        at = device.due_at(now)
        if at < NEVER and self._alarm_of.get(thing) != at:
            self._alarm_of[thing] = at
            heapq.heappush(self._alarms, (at, thing))


def _thing_of(topic: str) -> str:
    """The thing of a reserved topic; "" for another one."""
    levels = topic.split("/", 3)
    return levels[2] if levels[:2] == ["$aws", "things"] and len(levels) > 3 else ""

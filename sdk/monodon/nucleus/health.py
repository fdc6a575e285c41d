"""When the nucleus tells the cloud how its components are: fleet status messages.

========================  ========  =======================================================================
trigger                   type      when
========================  ========  =======================================================================
NUCLEUS_LAUNCH            COMPLETE  the first connect of this run
…_DEPLOYMENT              PARTIAL   a deployment has ended
COMPONENT_STATUS_CHANGE   PARTIAL   a component is ERRORED; outside deployments also BROKEN, and all settled;
                                    at least 3 s apart
RECONNECT                 PARTIAL   MQTT is back; without news at most every 60 s
CADENCE                   COMPLETE  every 24 hours, or less often where that is set, with jitter
========================  ========  =======================================================================

A partial message holds what differs from what the cloud was last told; a message that did not arrive is sent again
with what is true then.

Source: Greengrass nucleus, ``status/FleetStatusService.java``.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from monodon.core.deployment import Deployment, Outcome
from monodon.core.names import ComponentName
from monodon.core.plan import Target
from monodon.core.status import (
    BROKEN,
    UNINSTALLED,
    ComponentHealth,
    DeploymentInformation,
    HealthReport,
    MessageType,
    Trigger,
    chunks,
    encode,
    overall_health,
)
from monodon.deadlines import timeout
from monodon.errors import NetworkError, StateError
from monodon.nucleus.identity import NUCLEUS, Identity
from monodon.nucleus.uplink.protocol import Uplink

log = logging.getLogger(__name__)

CHANGE_INTERVAL_S = 3.0
RECONNECT_INTERVAL_S = 60.0
CADENCE_S = 86_400.0
RETRY_S = 5.0
MAX_UNSENT_DEPLOYMENTS = 32

ERRORED = "ERRORED"
FINISHED = "FINISHED"


class ComponentState(Protocol):
    """What the supervisor knows of one component, in AWS's words."""

    @property
    def state(self) -> str: ...
    @property
    def codes(self) -> tuple[str, ...]: ...
    @property
    def reason(self) -> str: ...
    @property
    def is_settled(self) -> bool: ...


class Device(Protocol):
    """What health needs to know of the device, asked at the moment a message is made."""

    @property
    def installed(self) -> Target:
        """All components of the device."""

    def statuses(self) -> Mapping[ComponentName, ComponentState]:
        """How each component is."""

    def configuration_arns(self) -> Mapping[str, Sequence[ComponentName]]:
        """The configuration ARN of each target that was deployed, with the target's root components."""

    def next_sequence(self) -> int:
        """A number higher than any before, also after restarts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    trigger: Trigger
    information: DeploymentInformation
    unchanged_roots: tuple[str, ...]


class Health:
    """Sends status messages while `run` runs. Methods are called on the loop; none waits."""

    def __init__(
        self,
        *,
        identity: Identity,
        device: Device,
        uplink: Uplink,
        platform: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        jitter: Callable[[], float] = random.random,
        cadence_s: float = CADENCE_S,
    ) -> None:
        self._identity = identity
        self._device = device
        self._uplink = uplink
        self._platform = platform
        self._clock = clock
        self._now_ms = now_ms
        self._wake = asyncio.Event()
        self._told: dict[str, ComponentHealth] = {}
        self._ended: deque[_Ended] = deque(maxlen=MAX_UNSENT_DEPLOYMENTS)
        self._is_launch_told = False
        self._has_news = False
        self._has_reconnected = False
        self._under_way = 0
        self._last_change_s = -CHANGE_INTERVAL_S
        self._last_reconnect_s = -RECONNECT_INTERVAL_S
        self._interval_s = max(CADENCE_S, cadence_s)
        self._cadence_s = clock() + self._interval_s * (1 + jitter() / 10)

    # --- what happens ------------------------------------------------------------------------------------------------

    def component_changed(self, name: ComponentName) -> None:
        """A component has another state, for better or worse."""
        statuses = self._device.statuses()
        state = statuses[name].state if name in statuses else UNINSTALLED
        is_settled = all(status.is_settled for status in statuses.values())
        if state == ERRORED or (not self._under_way and (state == BROKEN or is_settled)):
            self._has_news = True
            self._wake.set()

    def deployment_started(self) -> None:
        """From now on until `deployment_ended`, states come and go without being news."""
        self._under_way += 1

    def deployment_ended(self, deployment: Deployment, outcome: Outcome, unchanged_roots: tuple[str, ...] = ()) -> None:
        """A deployment that was started has ended; it found ``unchanged_roots`` as it wanted them."""
        self._under_way = max(0, self._under_way - 1)
        self._ended.append(
            _Ended(
                trigger=_trigger(deployment),
                unchanged_roots=unchanged_roots,
                information=DeploymentInformation(
                    deployment_id=deployment.deployment_id,
                    status=str(outcome.status),
                    detailed_status=None if outcome.detailed is None else str(outcome.detailed),
                    failure_cause=outcome.cause,
                    error_stack=outcome.error_stack,
                    error_types=outcome.error_types,
                    fleet_configuration_arn=deployment.configuration_arn,
                ),
            )
        )
        self._wake.set()

    def _connection_changed(self, is_connected: bool) -> None:
        if is_connected:
            self._has_reconnected = self._is_launch_told
            self._wake.set()

    # --- what is sent ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send what there is to tell, until cancelled; without a cloud there is nobody to tell."""
        if not self._uplink.is_configured:
            return
        unwatch = self._uplink.watch_connection(self._connection_changed)
        try:
            while True:
                pause_s = await self._tell() if self._uplink.is_connected else None
                await self._sleep(pause_s)
        finally:
            unwatch()

    async def _sleep(self, pause_s: float | None) -> None:
        """Until something happens, or the time is up."""
        try:
            async with timeout(pause_s):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    async def _tell(self) -> float | None:
        """Send all that is due; return the seconds until something else is."""
        try:
            while (trigger := self._due()) is not None:
                await self._send(trigger)
        except (NetworkError, StateError) as error:
            log.info("a status message was not sent: %s", error)
            return RETRY_S
        now = self._clock()
        waits = [self._cadence_s - now]
        if self._has_news:
            waits.append(self._last_change_s + CHANGE_INTERVAL_S - now)
        return max(0.0, min(waits))

    def _due(self) -> Trigger | None:
        now = self._clock()
        if not self._is_launch_told:
            return Trigger.NUCLEUS_LAUNCH
        if now >= self._cadence_s:
            return Trigger.CADENCE
        if self._ended:
            return self._ended[0].trigger
        if self._has_reconnected:
            is_early = now - self._last_reconnect_s < RECONNECT_INTERVAL_S
            if is_early and not self._differences():
                self._has_reconnected = False
            else:
                return Trigger.RECONNECT
        if self._has_news and now - self._last_change_s >= CHANGE_INTERVAL_S:
            return Trigger.COMPONENT_STATUS_CHANGE
        return None

    async def _send(self, trigger: Trigger) -> None:
        ended = self._ended[0] if self._ended and self._ended[0].trigger is trigger else None
        everything = self._components()
        is_complete = trigger.message_type is MessageType.COMPLETE
        components = tuple(everything.values()) if is_complete else self._differences()
        report = self._report(trigger, components, everything)
        if ended is not None:
            information = replace(ended.information, unchanged_root_components=ended.unchanged_roots)
            report = replace(report, deployment=information)
        told = self._has_news, self._has_reconnected
        self._has_news = self._has_reconnected = False
        try:
            if components or trigger is not Trigger.COMPONENT_STATUS_CHANGE:
                for part in chunks(report):
                    await self._uplink.send_health(encode(part))
        except (NetworkError, StateError):
            self._has_news |= told[0]
            self._has_reconnected |= told[1]
            raise
        self._was_sent(trigger, everything, ended)

    def _was_sent(self, trigger: Trigger, everything: Mapping[str, ComponentHealth], ended: _Ended | None) -> None:
        now = self._clock()
        self._told = dict(everything)
        if ended is not None:
            self._ended.remove(ended)
        match trigger:
            case Trigger.NUCLEUS_LAUNCH:
                self._is_launch_told = True
            case Trigger.CADENCE:
                self._cadence_s = now + self._interval_s
            case Trigger.COMPONENT_STATUS_CHANGE:
                self._last_change_s = now
            case Trigger.RECONNECT:
                self._last_reconnect_s = now
            case _:
                log.debug("the cloud was told of a deployment")

    def _report(
        self, trigger: Trigger, components: tuple[ComponentHealth, ...], everything: Mapping[str, ComponentHealth]
    ) -> HealthReport:
        return HealthReport(
            thing=self._identity.thing,
            ggc_version=self._identity.version,
            platform=self._platform.get("os", "unknown"),
            architecture=self._platform.get("architecture", "unknown"),
            sequence_number=self._device.next_sequence(),
            timestamp_ms=self._now_ms(),
            trigger=trigger,
            message_type=trigger.message_type,
            overall=overall_health(tuple(everything.values())),
            components=components,
        )

    def _differences(self) -> tuple[ComponentHealth, ...]:
        """What the cloud does not know yet, removed components as UNINSTALLED."""
        everything = self._components()
        changed = [each for name, each in everything.items() if self._told.get(name) != each]
        gone = [
            replace(each, status=UNINSTALLED, status_codes=(), status_reason="")
            for name, each in self._told.items()
            if name not in everything
        ]
        return (*changed, *gone)

    def _components(self) -> dict[str, ComponentHealth]:
        installed = self._device.installed
        statuses = self._device.statuses()
        arns = _arns(installed, self._device.configuration_arns())
        found = {
            NUCLEUS: ComponentHealth(name=NUCLEUS, version=self._identity.version, status=FINISHED),
        }
        for name, each in installed.items():
            status = statuses.get(name)
            is_bad = status is not None and status.state in (ERRORED, BROKEN)
            found[str(name)] = ComponentHealth(
                name=str(name),
                version=str(each.version),
                status=FINISHED if status is None else str(status.state),
                is_root=each.is_root,
                fleet_config_arns=arns.get(name, ()),
                status_codes=status.codes if status is not None and is_bad else (),
                status_reason=status.reason if status is not None and is_bad else "",
            )
        return found


def _arns(installed: Target, roots: Mapping[str, Sequence[ComponentName]]) -> Mapping[ComponentName, tuple[str, ...]]:
    """For each component, the configuration ARNs of the targets that need it, as roots or as their dependencies."""
    found: dict[ComponentName, dict[str, None]] = {}
    for arn, names in roots.items():
        waiting = [name for name in names if name in installed]
        while waiting:
            name = waiting.pop()
            arns = found.setdefault(name, {})
            if arn not in arns:
                arns[arn] = None
                waiting.extend(needed for needed in installed[name].dependencies if needed in installed)
    return {name: tuple(arns) for name, arns in found.items()}


def _trigger(deployment: Deployment) -> Trigger:
    if deployment.is_local:
        return Trigger.LOCAL_DEPLOYMENT
    return Trigger.THING_DEPLOYMENT if deployment.target.startswith("thing/") else Trigger.THING_GROUP_DEPLOYMENT

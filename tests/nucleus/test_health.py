"""Which status message is sent when (nucleus.md section 6, cloud.md section 6)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from monodon.core.configuration import EMPTY
from monodon.core.deployment import SUCCEEDED, Deployment, DetailedStatus, RootComponent, failure
from monodon.core.lifecycle import State
from monodon.core.names import ComponentName
from monodon.core.plan import Installed, RunWith, Target
from monodon.core.recipe.model import DependencyType
from monodon.core.semver import Version
from monodon.core.status import HealthReport, MessageType, Trigger, read
from monodon.errors import DeploymentError, NetworkError
from monodon.nucleus.changes import ComponentStatus
from monodon.nucleus.health import Health
from monodon.nucleus.identity import NUCLEUS, Identity
from monodon.nucleus.uplink.offline import OfflineUplink

A, B, C = (ComponentName.parse(name) for name in "abc")
ARN = "arn:aws:greengrass:eu-west-1:1:configuration:thinggroup/g:1"


class Cloud(OfflineUplink):
    """An uplink that keeps the status messages, and comes and goes as told."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: list[HealthReport] = []
        self.arrived = asyncio.Condition()
        self.connected = False
        self.refuses = False
        self.notify: Callable[[bool], None] = lambda _: None

    @property
    def is_configured(self) -> bool:
        return True

    @property
    def is_connected(self) -> bool:
        return self.connected

    def watch_connection(self, notify: Callable[[bool], None]) -> Callable[[], None]:
        self.notify = notify
        return lambda: None

    def connect(self, connected: bool = True) -> None:
        self.connected = connected
        self.notify(connected)

    async def send_health(self, payload: bytes) -> None:
        if self.refuses:
            raise NetworkError("no")
        async with self.arrived:
            self.reports.append(read(payload))
            self.arrived.notify_all()

    async def report(self, number: int) -> HealthReport:  # type: ignore[override]
        async with asyncio.timeout(5), self.arrived:
            await self.arrived.wait_for(lambda: len(self.reports) > number)
        return self.reports[number]


class Drone:
    """A device: two components, one a dependency of the other."""

    def __init__(self) -> None:
        self.target: dict[ComponentName, Installed] = {A: installed(A, needs=(B,), is_root=True), B: installed(B)}
        self.states = {A: ComponentStatus(state=State.RUNNING), B: ComponentStatus(state=State.RUNNING)}
        self.roots: dict[str, Sequence[ComponentName]] = {ARN: (A,)}
        self.sequence = 0

    @property
    def installed(self) -> Target:
        return self.target

    def statuses(self) -> Mapping[ComponentName, ComponentStatus]:
        return self.states

    def configuration_arns(self) -> Mapping[str, Sequence[ComponentName]]:
        return self.roots

    def next_sequence(self) -> int:
        self.sequence += 1
        return self.sequence


def installed(name: ComponentName, *, needs: Sequence[ComponentName] = (), is_root: bool = False) -> Installed:
    return Installed(
        name=name,
        version=Version.parse("1.0.0"),
        previous_version=None,
        dependencies=dict.fromkeys(needs, DependencyType.HARD),
        lifecycle={},
        run_with=RunWith(),
        configuration=EMPTY,
        is_root=is_root,
        arn=None,
    )


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def running(cloud: Cloud, drone: Drone, clock: Clock) -> AsyncIterator[Health]:
    health = Health(
        identity=Identity(thing="drone-1", version="2.18.0"),
        device=drone,
        uplink=cloud,
        platform={"os": "linux", "architecture": "amd64"},
        clock=clock,
        now_ms=lambda: 5,
        jitter=lambda: 0.0,
    )
    task = asyncio.create_task(health.run())
    try:
        yield health
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def deployment(*names: ComponentName, target: str = "thinggroup/g") -> Deployment:
    return Deployment(
        deployment_id="d-1",
        target=target,
        timestamp_ms=1,
        configuration_arn=ARN,
        components={name: RootComponent(requirement="1.0.0") for name in names},
    )


async def test_the_first_connect_brings_a_complete_message() -> None:
    cloud, drone = Cloud(), Drone()
    async with running(cloud, drone, Clock()):
        await asyncio.sleep(0)
        cloud.connect()
        report = await cloud.report(0)
    assert (report.trigger, report.message_type) == (Trigger.NUCLEUS_LAUNCH, MessageType.COMPLETE)
    assert (report.thing, report.ggc_version, report.platform, report.architecture) == (
        "drone-1",
        "2.18.0",
        "linux",
        "amd64",
    )
    assert [c.name for c in report.components] == [NUCLEUS, "a", "b"]
    assert [c.is_root for c in report.components] == [False, True, False]
    assert [c.fleet_config_arns for c in report.components] == [(), (ARN,), (ARN,)]


async def test_a_deployment_that_ended_tells_what_changed_and_which_roots_did_not() -> None:
    cloud, drone = Cloud(), Drone()
    cloud.connected = True
    async with running(cloud, drone, Clock()) as health:
        await cloud.report(0)
        health.deployment_started()
        del drone.target[B], drone.states[B]
        drone.target[C], drone.states[C] = installed(C, is_root=True), ComponentStatus(state=State.RUNNING)
        drone.roots = {ARN: (A, C)}
        health.deployment_ended(deployment(A, C), SUCCEEDED, ("a",))
        report = await cloud.report(1)
    assert (report.trigger, report.message_type) == (Trigger.THING_GROUP_DEPLOYMENT, MessageType.PARTIAL)
    assert {c.name: c.status for c in report.components} == {"b": "UNINSTALLED", "c": "RUNNING"}
    assert report.deployment is not None
    assert report.deployment.unchanged_root_components == ("a",)
    assert (report.deployment.deployment_id, report.deployment.status) == ("d-1", "SUCCEEDED")
    assert report.deployment.fleet_configuration_arn == ARN
    assert report.sequence_number == 2


async def test_a_failed_thing_deployment_says_why() -> None:
    cloud, drone = Cloud(), Drone()
    cloud.connected = True
    outcome = failure(DeploymentError("broke", codes=("COMPONENT_BROKEN",)), DetailedStatus.FAILED_ROLLBACK_COMPLETE)
    async with running(cloud, drone, Clock()) as health:
        health.deployment_ended(deployment(A, target="thing/drone-1"), outcome)
        report = await cloud.report(1)
    assert report.trigger is Trigger.THING_DEPLOYMENT
    assert report.deployment is not None
    assert report.deployment.detailed_status == "FAILED_ROLLBACK_COMPLETE"
    assert report.deployment.failure_cause == "broke"
    assert "COMPONENT_BROKEN" in report.deployment.error_stack


async def test_changes_are_told_at_least_three_seconds_apart() -> None:
    cloud, drone, clock = Cloud(), Drone(), Clock()
    cloud.connected = True
    async with running(cloud, drone, clock) as health:
        await cloud.report(0)
        drone.states[A] = ComponentStatus(
            state=State.ERRORED, codes=("RUN_ERROR",), reason="exit code 1", is_settled=False
        )
        health.component_changed(A)
        report = await cloud.report(1)
        assert report.trigger is Trigger.COMPONENT_STATUS_CHANGE
        (a,) = report.components
        assert (a.status, a.status_codes, a.status_reason) == ("ERRORED", ("RUN_ERROR",), "exit code 1")
        drone.states[A] = ComponentStatus(state=State.BROKEN, codes=("RUN_ERROR",), reason="exit code 1")
        health.component_changed(A)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(cloud.reports) == 2
        clock.now += 3
        health.component_changed(A)
        report = await cloud.report(2)
        assert report.overall == "UNHEALTHY"


async def test_states_on_the_way_are_no_news_and_codes_go_with_bad_states_alone() -> None:
    cloud, drone = Cloud(), Drone()
    cloud.connected = True
    async with running(cloud, drone, Clock()) as health:
        await cloud.report(0)
        drone.states[A] = ComponentStatus(state=State.STARTING, is_settled=False)
        health.component_changed(A)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(cloud.reports) == 1
        drone.states[A] = ComponentStatus(state=State.FINISHED, codes=("RUN_ERROR",), reason="old")
        health.component_changed(A)
        (a,) = (await cloud.report(1)).components
        assert (a.status, a.status_codes, a.status_reason) == ("FINISHED", (), "")


async def test_a_message_that_was_not_taken_is_sent_after_the_reconnect() -> None:
    cloud, drone, clock = Cloud(), Drone(), Clock()
    cloud.connected = True
    async with running(cloud, drone, clock) as health:
        await cloud.report(0)
        cloud.refuses = True
        health.deployment_ended(deployment(A), SUCCEEDED)
        for _ in range(10):
            await asyncio.sleep(0)
        cloud.connect(False)
        cloud.refuses = False
        cloud.connect()
        report = await cloud.report(1)
        assert report.trigger is Trigger.THING_GROUP_DEPLOYMENT
        # The message of the deployment told all; a RECONNECT without news comes at most every 60 s.
        cloud.connect(False)
        cloud.connect()
        assert (await cloud.report(2)).trigger is Trigger.RECONNECT
        cloud.connect(False)
        cloud.connect()
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(cloud.reports) == 3
        drone.states[A] = ComponentStatus(state=State.BROKEN)
        cloud.connect(False)
        cloud.connect()
        assert [c.status for c in (await cloud.report(3)).components] == ["BROKEN"]


async def test_once_a_day_everything_is_told_again() -> None:
    cloud, drone, clock = Cloud(), Drone(), Clock()
    cloud.connected = True
    async with running(cloud, drone, clock) as health:
        await cloud.report(0)
        clock.now += 86_400
        health.component_changed(A)
        report = await cloud.report(1)
    assert (report.trigger, report.message_type) == (Trigger.CADENCE, MessageType.COMPLETE)
    assert len(report.components) == 3


async def test_without_a_cloud_nobody_is_told() -> None:
    health = Health(identity=Identity(thing="x"), device=Drone(), uplink=OfflineUplink(), platform={})
    async with asyncio.timeout(1):
        await health.run()

"""Fleet status, section 6 of the device notes: a test for each row of its table, and for each limit beside it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from tests.nucleus.test_health import A, B, Clock, Cloud, Drone, deployment, installed, running

from monodon.core.deployment import LOCAL_TARGET, SUCCEEDED, LocalRequest
from monodon.core.lifecycle import State
from monodon.core.names import ComponentName
from monodon.core.status import MAX_MESSAGE_BYTES, HealthReport, MessageType, Trigger, encode
from monodon.nucleus.changes import ComponentStatus
from monodon.nucleus.health import CADENCE_S, Health
from monodon.nucleus.identity import Identity
from monodon.nucleus.journal import Journal
from monodon.nucleus.state import DeviceState
from monodon.nucleus.uplink.protocol import Channel
from monodon.nucleus.uplink.reports import Report, Reports

RUNNING, ERRORED, BROKEN = (
    ComponentStatus(state=State.RUNNING),
    ComponentStatus(state=State.ERRORED, codes=("RUN_ERROR",), reason="exit code 1", is_settled=False),
    ComponentStatus(state=State.BROKEN, codes=("RUN_ERROR",), reason="exit code 1"),
)


async def quiet(cloud: Cloud, messages: int) -> None:
    """Let everything that is due go out; no more than ``messages`` have been sent in all."""
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(cloud.reports) == messages


def seen(report: HealthReport) -> dict[str, str]:
    return {component.name: component.status for component in report.components}


async def test_row_nucleus_launch_is_complete_and_comes_once() -> None:
    cloud, drone = Cloud(), Drone()
    cloud.connected = True
    async with running(cloud, drone, Clock()):
        report = await cloud.report(0)
        assert (report.trigger, report.message_type) == (Trigger.NUCLEUS_LAUNCH, MessageType.COMPLETE)
        assert set(seen(report)) == {"aws.greengrass.Nucleus", "a", "b"}
        cloud.connect(False)
        cloud.connect()
        assert (await cloud.report(1)).trigger is Trigger.RECONNECT


@pytest.mark.parametrize(
    ("is_bad", "overall"), [(False, "HEALTHY"), (True, "UNHEALTHY")], ids=["healthy", "one is BROKEN"]
)
async def test_row_cadence_is_complete_after_a_day_and_not_before(is_bad: bool, overall: str) -> None:
    cloud, drone, clock = Cloud(), Drone(), Clock()
    cloud.connected = True
    async with running(cloud, drone, clock) as health:
        await cloud.report(0)
        if is_bad:
            drone.states[A] = BROKEN
        clock.now += CADENCE_S - 1
        health._wake.set()
        await quiet(cloud, 1)
        clock.now += 1
        health._wake.set()
        report = await cloud.report(1)
        assert (report.trigger, report.message_type) == (Trigger.CADENCE, MessageType.COMPLETE)
        assert report.overall == overall
        assert len(report.components) == 3


@pytest.mark.parametrize(("asked_s", "jitter", "due_s"), [(0, 0, 86_400), (100, 1, 95_040), (200_000, 0.5, 210_000)])
def test_row_cadence_is_never_shorter_than_a_day_and_jitter_makes_it_longer(
    asked_s: float, jitter: float, due_s: float
) -> None:
    clock = Clock()
    health = Health(
        identity=Identity(thing="x"),
        device=Drone(),
        uplink=Cloud(),
        platform={},
        clock=clock,
        jitter=lambda: jitter,
        cadence_s=asked_s,
    )
    health._is_launch_told = True
    clock.now += due_s - 1
    assert health._due() is None
    clock.now += 1.001
    assert health._due() is Trigger.CADENCE


@pytest.mark.parametrize(
    ("target", "trigger"),
    [
        (LOCAL_TARGET, Trigger.LOCAL_DEPLOYMENT),
        ("thing/drone-1", Trigger.THING_DEPLOYMENT),
        ("thinggroup/g", Trigger.THING_GROUP_DEPLOYMENT),
    ],
)
async def test_row_deployment_is_partial_and_not_sent_while_it_is_in_progress(target: str, trigger: Trigger) -> None:
    cloud, drone = Cloud(), Drone()
    cloud.connected = True
    async with running(cloud, drone, Clock()) as health:
        await cloud.report(0)
        health.deployment_started()
        drone.target[A] = replace(drone.target[A], is_root=False)
        await quiet(cloud, 1)
        local = LocalRequest() if target == LOCAL_TARGET else None
        health.deployment_ended(replace(deployment(A, target=target), local=local), SUCCEEDED, ("b",))
        report = await cloud.report(1)
        assert (report.trigger, report.message_type) == (trigger, MessageType.PARTIAL)
        assert seen(report) == {"a": "RUNNING"}
        assert report.deployment is not None
        assert (report.deployment.status, report.deployment.unchanged_root_components) == ("SUCCEEDED", ("b",))


@pytest.mark.parametrize(
    ("status", "during", "is_news"),
    [(ERRORED, True, True), (ERRORED, False, True), (BROKEN, True, False), (BROKEN, False, True),
     (RUNNING, True, False)],
)  # fmt: skip
async def test_row_component_status_change(status: ComponentStatus, during: bool, is_news: bool) -> None:
    """``a component ERRORED; outside deployments also BROKEN and all settled``."""
    cloud, drone = Cloud(), Drone()
    drone.states[A] = ComponentStatus(state=State.FINISHED)
    cloud.connected = True
    async with running(cloud, drone, Clock()) as health:
        await cloud.report(0)
        if during:
            health.deployment_started()
        drone.states[A] = status
        health.component_changed(A)
        if not is_news:
            await quiet(cloud, 1)
            return
        report = await cloud.report(1)
        assert (report.trigger, report.message_type) == (Trigger.COMPONENT_STATUS_CHANGE, MessageType.PARTIAL)
        (component,) = report.components
        assert (component.name, component.status, component.status_codes) == ("a", status.state, status.codes)


async def test_row_component_status_change_waits_until_all_are_settled() -> None:
    cloud, drone = Cloud(), Drone()
    cloud.connected = True
    async with running(cloud, drone, Clock()) as health:
        await cloud.report(0)
        drone.states[A] = ComponentStatus(state=State.FINISHED)
        drone.states[B] = ComponentStatus(state=State.STARTING, is_settled=False)
        health.component_changed(A)
        await quiet(cloud, 1)
        drone.states[B] = ComponentStatus(state=State.FINISHED)
        health.component_changed(B)
        assert seen(await cloud.report(1)) == {"a": "FINISHED", "b": "FINISHED"}


async def test_limit_changes_are_told_at_least_three_seconds_apart_and_together() -> None:
    cloud, drone, clock = Cloud(), Drone(), Clock()
    cloud.connected = True
    async with running(cloud, drone, clock) as health:
        await cloud.report(0)
        drone.states[A] = ERRORED
        health.component_changed(A)
        await cloud.report(1)
        clock.now += 2.9
        drone.states[A], drone.states[B] = BROKEN, ERRORED
        health.component_changed(A)
        health.component_changed(B)
        await quiet(cloud, 2)
        clock.now += 0.1
        health._wake.set()
        assert seen(await cloud.report(2)) == {"a": "BROKEN", "b": "ERRORED"}


async def test_limit_a_reconnect_without_news_is_told_at_most_once_a_minute() -> None:
    cloud, drone, clock = Cloud(), Drone(), Clock()
    cloud.connected = True

    def reconnect() -> None:
        cloud.connect(False)
        cloud.connect()

    async with running(cloud, drone, clock):
        await cloud.report(0)
        reconnect()
        report = await cloud.report(1)
        assert (report.trigger, report.message_type) == (Trigger.RECONNECT, MessageType.PARTIAL)
        assert report.components == ()
        clock.now += 59
        reconnect()
        await quiet(cloud, 2)
        drone.states[A] = BROKEN
        reconnect()
        assert seen(await cloud.report(2)) == {"a": "BROKEN"}
        clock.now += 60
        reconnect()
        assert (await cloud.report(3)).components == ()


async def test_limit_a_large_message_comes_in_chunks_by_component() -> None:
    cloud, drone = Cloud(), Drone()
    cloud.connected = True
    names = [ComponentName(f"c{number:03}") for number in range(400)]
    for name in names:
        drone.target[name] = installed(name)
        drone.states[name] = ComponentStatus(state=State.BROKEN, codes=("RUN_ERROR",), reason="x" * 500)
    async with running(cloud, drone, Clock()):
        first = await cloud.report(0)
        assert first.total_chunks is not None
        parts = [await cloud.report(number) for number in range(first.total_chunks)]
        await quiet(cloud, len(parts))
    assert len(parts) > 1
    assert [part.chunk_id for part in parts] == list(range(1, len(parts) + 1))
    assert {(part.sequence_number, part.total_chunks, part.trigger) for part in parts} == {
        (1, len(parts), Trigger.NUCLEUS_LAUNCH)
    }
    assert all(len(encode(part)) <= MAX_MESSAGE_BYTES for part in parts)
    told = [component.name for part in parts for component in part.components]
    assert told == ["aws.greengrass.Nucleus", "a", "b", *names]


async def test_sequence_numbers_rise_by_one_and_go_on_after_a_restart(tmp_path: Path) -> None:
    """Each message has the next one, also those of another process on the same root."""
    numbers: list[int] = []
    for _ in range(2):
        with Journal.open(tmp_path) as journal:
            cloud, drone = Cloud(), Drone()
            drone.next_sequence = DeviceState(journal).next_sequence  # type: ignore[method-assign]
            cloud.connected = True
            async with running(cloud, drone, Clock()) as health:
                await cloud.report(0)
                health.deployment_ended(deployment(A), SUCCEEDED)
                await cloud.report(1)
            numbers += [report.sequence_number for report in cloud.reports]
    assert numbers == [1, 2, 3, 4]


async def test_ends_of_deployments_while_offline_are_told_in_their_order() -> None:
    cloud, drone = Cloud(), Drone()
    cloud.connected = True
    async with running(cloud, drone, Clock()) as health:
        await cloud.report(0)
        cloud.connect(False)
        for key in ("d-1", "d-2", "d-3"):
            health.deployment_started()
            health.deployment_ended(replace(deployment(A), deployment_id=key), SUCCEEDED)
        await quiet(cloud, 1)
        cloud.connect()
        told = [(await cloud.report(number)).deployment for number in (1, 2, 3)]
    assert [one.deployment_id for one in told if one is not None] == ["d-1", "d-2", "d-3"]


async def test_final_statuses_are_kept_over_a_restart_and_sent_in_order(tmp_path: Path) -> None:
    """``Final statuses are persisted … and sent in order after reconnecting``: for jobs and the shadow alike."""
    ends = [
        Report(
            channel=Channel.JOB if number % 2 else Channel.SHADOW,
            deployment_id=f"d-{number}",
            status=status,
            details={"detailed-deployment-status": status},
            job_id=f"j-{number}" if number % 2 else None,
            configuration_arn=f"arn-{number}",
        )
        for number, status in enumerate(("SUCCEEDED", "FAILED", "REJECTED") * 4)
    ]
    with Journal.open(tmp_path) as journal:
        reports = Reports(journal)
        for end in ends:
            reports.add(replace(end, status="IN_PROGRESS"))
            reports.add(end)
    sent = []
    with Journal.open(tmp_path) as journal:
        reports = Reports(journal)
        while not reports.is_empty:
            key, report = await reports.next()
            sent.append(report)
            reports.done(key)
    assert sent == ends
    with Journal.open(tmp_path) as journal:
        assert Reports(journal).is_empty

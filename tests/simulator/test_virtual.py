"""Rollouts on a clock that jumps: against the rules in memory, and against the embedded cloud's own jobs."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from monodon.cloud.broker.identity import Identity
from monodon.cloud.jobs import Jobs
from monodon.cloud.store import Store
from monodon.core.rollout import ExecutionStatus, read_rules
from monodon.core.status import HealthReport, Trigger, read
from monodon.errors import NetworkError
from monodon.simulator.device import Device
from monodon.simulator.faults import NEVER, Fault, Profile, draw, read_fault
from monodon.simulator.rollout import MemoryJobs
from monodon.simulator.settings import Change, Settings
from monodon.simulator.virtual import Clock, VirtualFleet

START = 1_800_000_000.0
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
S = ExecutionStatus
JOB = "11111111-2222-3333-4444-555555555555"
NAMESPACE = "aws-gg-deployment"
GROUP = "arn:aws:iot:us-east-1:123456789012:thinggroup/sims"


def document(version: str = "1.0.0", revision: int = 1, **members: Any) -> dict[str, Any]:
    return {
        "deploymentId": f"deployment-{revision}",
        "configurationArn": f"arn:aws:greengrass:us-east-1:123456789012:configuration:thinggroup/sims:{revision}",
        "creationTimestamp": int(START * 1000) + revision,
        "components": {"com.example.Camera": {"version": version}},
        "failureHandlingPolicy": "ROLLBACK",
        **members,
    }


class CloudJobs:
    """The embedded cloud's jobs as the other end of a virtual fleet; what else devices publish is kept as it is."""

    def __init__(self, folder: Path, clock: Clock, things: Sequence[str]) -> None:
        self.store = Store.open(folder)
        self.things = set(things)
        self.said: list[tuple[str, bytes]] = []
        self.health: list[HealthReport] = []
        self._woken_at = clock() - 1
        self.jobs = Jobs(
            store=self.store,
            broker_publish=self._heard,
            group_members=lambda arn: self.things,
            now=clock,
            region="us-east-1",
            account="123456789012",
        )
        self.fleet: VirtualFleet

    def create(self, job_id: str, doc: Mapping[str, Any], configuration: Mapping[str, Any]) -> None:
        self.jobs.create(
            job_id,
            [GROUP],
            doc,
            namespace=NAMESPACE,
            continuous=True,
            rollout=configuration.get("jobExecutionsRolloutConfig"),
            abort=configuration.get("abortConfig"),
            timeout=configuration.get("timeoutConfig"),
        )
        self._pass_on()

    def _heard(self, topic: str, payload: bytes | Callable[[], bytes]) -> None:
        self.said.append((topic, payload if isinstance(payload, bytes) else payload()))

    def _pass_on(self) -> None:
        said, self.said = self.said, []
        for topic, payload in said:
            self.fleet.deliver(topic, payload)

    def publish(self, thing: str, topic: str, payload: bytes) -> None:
        if "/jobs/" in topic:
            self.jobs.handle(Identity(certificate_id="0", thing_names=(thing,), client_id=thing), topic, payload)
        elif topic.endswith("/health/json"):
            with suppress(NetworkError):  # garbage
                self.health.append(read(payload))
        self._pass_on()

    def next_at(self) -> float:
        times = [job.again_at for job in self.jobs.jobs() if job.again_at is not None]
        for job in self.jobs.jobs():
            if job.timeout:
                deadlines = (each.deadline for each in self.jobs.executions(job.job_id))
                times += [at for at in deadlines if at is not None]
        return min((at for at in times if at > self._woken_at), default=NEVER)

    def wake(self, now: float) -> None:
        self._woken_at = now
        self.jobs.tick(now)
        self._pass_on()


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
def changes() -> list[Change]:
    return []


def names(count: int) -> list[str]:
    return [f"sim-{number:04d}" for number in range(count)]


def fleet_of(profiles: Sequence[Profile], clock: Clock, changes: list[Change], **settings: Any) -> VirtualFleet:
    shared = Settings(seed=7, on_change=changes.append, **settings)
    devices = [
        Device(thing, each, shared, now=clock()) for thing, each in zip(names(len(profiles)), profiles, strict=True)
    ]
    return VirtualFleet(devices, clock)


def memory(fleet: VirtualFleet, configuration: Mapping[str, Any], doc: Mapping[str, Any] | None = None) -> MemoryJobs:
    rules = read_rules(
        configuration.get("jobExecutionsRolloutConfig"),
        configuration.get("abortConfig"),
        configuration.get("timeoutConfig"),
    )
    return MemoryJobs(
        job_id=JOB,
        document=doc or document(),
        things=list(fleet.devices),
        rules=rules,
        deliver=fleet.deliver,
        now=fleet.clock,
    )


@pytest.fixture
def cloud(tmp_path: Path, clock: Clock) -> Iterator[CloudJobs]:
    cloud = CloudJobs(tmp_path / "state", clock, [])
    yield cloud
    cloud.store.close()


def test_everyone_succeeds_at_once_without_a_rule(clock: Clock, changes: list[Change]) -> None:
    fleet = fleet_of([Profile()] * 1000, clock, changes)
    jobs = memory(fleet, {})
    fleet.begin(jobs)
    jobs.begin()
    fleet.run(jobs, START + 1)
    assert jobs.counts == {S.SUCCEEDED: 1000}
    assert Counter(each.status for each in changes) == {"IN_PROGRESS": 1000, "SUCCEEDED": 1000}
    assert all(device.installed.roots() == {"com.example.Camera": "1.0.0"} for device in fleet.devices.values())


def test_a_rollout_of_ten_hours_takes_a_second(clock: Clock, changes: list[Change]) -> None:
    fleet = fleet_of([Profile(takes=(5.0, 90.0))] * 600, clock, changes)
    jobs = memory(fleet, {"jobExecutionsRolloutConfig": {"maximumPerMinute": 1}})
    fleet.begin(jobs)
    started = time.monotonic()
    jobs.begin()
    fleet.run(jobs, START + 11 * HOUR)
    assert jobs.counts == {S.SUCCEEDED: 600}
    assert [at - START for at, _ in jobs.released] == [minute * MINUTE for minute in range(600)]
    assert 599 * MINUTE < max(change.at_s for change in changes) - START < 600 * MINUTE + 90
    assert time.monotonic() - started < 5


EXPONENTIAL = {
    "jobExecutionsRolloutConfig": {
        "maximumPerMinute": 50,
        "exponentialRate": {
            "baseRatePerMinute": 5,
            "incrementFactor": 2,
            "rateIncreaseCriteria": {"numberOfSucceededThings": 10},
        },
    }
}


def test_an_exponential_rollout_waits_for_successes(clock: Clock, changes: list[Change]) -> None:
    """Slow devices hold it back; a rate never exceeds its limit."""
    quick = fleet_of([Profile()] * 200, clock, changes)
    jobs = memory(quick, EXPONENTIAL)
    quick.begin(jobs)
    jobs.begin()
    quick.run(jobs, START + DAY)
    slow_clock = Clock(START)
    slow = fleet_of([Profile(takes=(5 * MINUTE, 5 * MINUTE))] * 200, slow_clock, changes)
    slow_jobs = memory(slow, EXPONENTIAL)
    slow.begin(slow_jobs)
    slow_jobs.begin()
    slow.run(slow_jobs, START + DAY)
    assert jobs.counts == slow_jobs.counts == {S.SUCCEEDED: 200}
    assert slow_jobs.released[-1][0] > jobs.released[-1][0] + 5 * MINUTE
    for found in (jobs, slow_jobs):
        for at, _ in found.released:
            assert sum(count for then, count in found.released if at - MINUTE < then <= at) <= 50


def test_an_abort_ends_a_rollout_before_most_devices_hear_of_it(clock: Clock, changes: list[Change]) -> None:
    configuration = {
        "jobExecutionsRolloutConfig": {"maximumPerMinute": 10},
        "abortConfig": {
            "criteriaList": [
                {
                    "failureType": "FAILED",
                    "action": "CANCEL",
                    "thresholdPercentage": 20,
                    "minNumberOfExecutedThings": 10,
                }
            ]
        },
    }
    fleet = fleet_of(draw([read_fault("fail", "50%")], 100, seed=3), clock, changes)
    jobs = memory(fleet, configuration)
    fleet.begin(jobs)
    jobs.begin()
    fleet.run(jobs, START + HOUR)
    assert jobs.status == "CANCELED"
    assert sum(jobs.counts.values()) == 10
    assert jobs.counts[S.FAILED] >= 2
    fine = fleet_of(draw([read_fault("fail", "5%")], 100, seed=3), Clock(START), changes)
    jobs = memory(fine, configuration)
    fine.begin(jobs)
    jobs.begin()
    fine.run(jobs, START + HOUR)
    assert (jobs.status, jobs.counts) == ("IN_PROGRESS", {S.SUCCEEDED: 95, S.FAILED: 5})


def test_a_device_that_hangs_is_timed_out_and_goes_on_with_the_next(clock: Clock, changes: list[Change]) -> None:
    fleet = fleet_of([Profile(), Profile(hangs=True), Profile(takes=(20 * MINUTE, 20 * MINUTE))], clock, changes)
    jobs = memory(fleet, {"timeoutConfig": {"inProgressTimeoutInMinutes": 10}})
    fleet.begin(jobs)
    jobs.begin()
    fleet.run(jobs, START + HOUR)
    assert jobs.counts == {S.SUCCEEDED: 1, S.TIMED_OUT: 2}
    assert jobs.executions["sim-0001"].ended_at == START + 10 * MINUTE
    assert [each.status for each in changes if each.thing == "sim-0001"] == ["IN_PROGRESS", "CANCELED"]
    assert not any(device.is_working for device in fleet.devices.values())


def test_a_late_status_after_the_time_out_changes_nothing(clock: Clock, changes: list[Change]) -> None:
    fleet = fleet_of([Profile(takes=(20 * MINUTE, 20 * MINUTE), disorders=True)], clock, changes)
    jobs = memory(fleet, {})
    fleet.begin(jobs)
    jobs.begin()
    fleet.run(jobs, START + HOUR)
    assert jobs.counts == {S.SUCCEEDED: 1}  # the end first, the beginning after it: it was refused
    assert fleet.devices["sim-0000"].is_settled


def test_ten_days_offline_pass_and_the_device_catches_up(clock: Clock, changes: list[Change], cloud: CloudJobs) -> None:
    """Against the cloud's own jobs: it misses three revisions and runs the last one."""
    profiles = [Profile(), Profile(away=(HOUR, 10 * DAY))]
    fleet = fleet_of(profiles, clock, changes)
    cloud.fleet, cloud.things = fleet, set(fleet.devices)
    fleet.begin(cloud)
    for revision in range(1, 5):
        fleet.run(cloud, START + (revision - 1) * 2 * DAY)
        if revision > 1:
            cloud.jobs.cancel(f"job-{revision - 1}")
        cloud.create(f"job-{revision}", document(f"{revision}.0.0", revision), {})
    fleet.run(cloud, START + 9 * DAY)
    assert fleet.devices["sim-0000"].installed.roots() == {"com.example.Camera": "4.0.0"}
    assert fleet.devices["sim-0001"].installed.roots() == {"com.example.Camera": "1.0.0"}
    assert cloud.jobs.counts("job-4") == {S.SUCCEEDED: 1, S.QUEUED: 1}
    fleet.run(cloud, START + 11 * DAY)
    assert fleet.devices["sim-0001"].installed.roots() == {"com.example.Camera": "4.0.0"}
    assert cloud.jobs.counts("job-4") == {S.SUCCEEDED: 2}
    assert cloud.jobs.counts("job-3") == {S.SUCCEEDED: 1, S.CANCELED: 1}
    back = [each for each in cloud.health if each.thing == "sim-0001"]
    assert [each.trigger for each in back] == [
        Trigger.NUCLEUS_LAUNCH,
        Trigger.THING_GROUP_DEPLOYMENT,
        Trigger.RECONNECT,
        Trigger.THING_GROUP_DEPLOYMENT,
    ]
    assert [each.sequence_number for each in back] == [1, 2, 3, 4]


MIXED: list[Fault] = [
    read_fault("fail", "10%:DISK_SPACE_CRITICAL"),
    read_fault("reject", "5%"),
    read_fault("hang", "5%"),
    read_fault("offline", "10%:30m"),
    read_fault("flap", "20%:2m"),
    read_fault("slow", "30%:10s..5m"),
    read_fault("duplicate", "20%"),
    read_fault("disorder", "20%"),
    read_fault("garbage", "20%"),
]


@pytest.mark.parametrize("configuration", [{}, EXPONENTIAL | {"timeoutConfig": {"inProgressTimeoutInMinutes": 7}}])
def test_the_cloud_and_the_rules_in_memory_come_to_the_same_end(
    clock: Clock, changes: list[Change], cloud: CloudJobs, configuration: dict[str, Any]
) -> None:
    """Every fault at once: both clouds see the same executions."""
    profiles = draw(MIXED, 40, seed=11)
    fleet = fleet_of(profiles, clock, changes)
    jobs = memory(fleet, configuration)
    fleet.begin(jobs)
    jobs.begin()
    fleet.run(jobs, START + HOUR)
    in_memory = {thing: each.status for thing, each in jobs.executions.items()}

    clock.now = START
    again = fleet_of(profiles, clock, [])
    cloud.fleet, cloud.things = again, set(again.devices)
    again.begin(cloud)
    cloud.create(JOB, document(), configuration)
    again.run(cloud, START + HOUR)
    assert {each.thing: each.status for each in cloud.jobs.executions(JOB)} == in_memory
    counts = cloud.jobs.counts(JOB)
    assert (counts[S.FAILED], counts[S.REJECTED], counts[S.QUEUED]) == (4, 2, 0)
    ends = (counts[S.TIMED_OUT], counts[S.IN_PROGRESS])
    assert ends == ((2, 0) if configuration else (0, 2))  # those that hang


def test_the_same_seed_gives_the_same_story(clock: Clock) -> None:
    stories: list[list[tuple[str, str, float]]] = []
    for _ in range(2):
        clock.now, changes = START, []
        fleet = fleet_of(draw(MIXED, 40, seed=5), clock, changes)
        jobs = memory(fleet, EXPONENTIAL)
        fleet.begin(jobs)
        jobs.begin()
        fleet.run(jobs, START + 20 * MINUTE)
        stories.append([(each.thing, each.status, each.at_s) for each in changes])
    assert stories[0] == stories[1]


def test_a_late_joiner_gets_the_job(clock: Clock, changes: list[Change], cloud: CloudJobs) -> None:
    fleet = fleet_of([Profile()] * 3, clock, changes)
    cloud.fleet, cloud.things = fleet, set(fleet.devices)
    fleet.begin(cloud)
    cloud.create(JOB, document(), {})
    fleet.run(cloud, START + HOUR)
    late = Device("sim-late", Profile(), Settings(), now=clock())
    fleet.join(late, cloud)
    cloud.things.add("sim-late")
    cloud.jobs.membership_changed("sim-late")
    cloud._pass_on()
    fleet.run(cloud, START + 2 * HOUR)
    assert late.installed.roots() == {"com.example.Camera": "1.0.0"}
    assert cloud.jobs.counts(JOB) == {S.SUCCEEDED: 4}

"""Jobs as things see them: the conversation of topics, notifications, rollout, abort, time-out, groups."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from monodon.cloud.broker.identity import Identity
from monodon.cloud.context import RequestContext
from monodon.cloud.jobs import JobExecution, Jobs
from monodon.cloud.protocol.errors import ServiceError
from monodon.cloud.store import Store
from monodon.core.json import Json
from monodon.core.rollout import ExecutionStatus

NAMESPACE = "aws-gg-deployment"
GROUP = "arn:aws:iot:eu-west-1:123456789012:thinggroup/drones"
THING = "arn:aws:iot:eu-west-1:123456789012:thing/"
CONTEXT = RequestContext(region="eu-west-1", account="123456789012")


@dataclass
class World:
    """Jobs on a store in a temporary folder; what it publishes is a list, time is a number."""

    store: Store
    now: float = 1_000.0
    members: set[str] = field(default_factory=lambda: {"one", "two"})
    published: list[tuple[str, Json]] = field(default_factory=list)
    seen: list[JobExecution] = field(default_factory=list)
    ended: list[tuple[str, str]] = field(default_factory=list)

    soon: Callable[[Callable[[], None]], None] = lambda work: work()

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """Begin, or begin again as after a kill."""
        self.jobs = Jobs(
            store=self.store,
            broker_publish=self.publish,
            group_members=lambda arn: self.members,
            on_execution=self.seen.append,
            on_job=lambda job, status: self.ended.append((job, status)),
            now=lambda: self.now,
            region="eu-west-1",
            account="123456789012",
            soon=self.soon,
        )

    def publish(self, topic: str, payload: bytes | Callable[[], bytes]) -> None:
        self.published.append((topic, json.loads(payload() if callable(payload) else payload)))

    def create(self, job_id: str = "job-1", **options: Json) -> str:
        options.setdefault("namespace", NAMESPACE)
        return self.jobs.create(job_id, options.pop("targets", [GROUP]), {"do": job_id}, **options)

    def ask(self, topic: str, thing: str = "one", **body: Json) -> tuple[str, Json]:
        """Publish a request; return how it was answered (the last level of the topic) and with what."""
        self.published.clear()
        asked = f"$aws/things/{thing}/jobs/{topic}"
        identity = Identity(certificate_id="c", thing_names=(thing,), client_id=thing)
        self.jobs.handle(identity, asked, json.dumps(body).encode() if body else b"")
        topic, payload = self.published[0]
        assert topic.startswith(f"{asked}/")
        return topic.rsplit("/", 1)[1], payload

    def update(self, status: str, thing: str = "one", job_id: str = "job-1", **body: Json) -> tuple[str, Json]:
        return self.ask(f"{job_id}/namespace-{NAMESPACE}/update", thing, status=status, **body)

    def notified(self, thing: str = "one") -> list[tuple[str, Json]]:
        start = f"$aws/things/{thing}/jobs/"
        return [
            (topic.removeprefix(start), body) for topic, body in self.published if topic.startswith(start + "notify")
        ]

    def statuses(self, job_id: str = "job-1") -> dict[str, str]:
        return {each.thing: each.status.value for each in self.jobs.executions(job_id)}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Store.open(tmp_path / "state") as store:
        yield World(store)


def test_a_new_job_notifies_in_both_ways(world: World) -> None:
    assert world.create() == "arn:aws:iot:eu-west-1:123456789012:job/job-1"
    times = {"queuedAt": 1000, "lastUpdatedAt": 1000, "versionNumber": 1, "executionNumber": 1}
    execution = {
        "jobId": "job-1", "thingName": "one", "status": "QUEUED", "statusDetails": {}, **times,
        "jobDocument": {"do": "job-1"},
    }  # fmt: skip
    assert world.notified() == [
        (f"notify-namespace-{NAMESPACE}", {"timestamp": 1000, "jobs": {"QUEUED": [{"jobId": "job-1", **times}]}}),
        (f"notify-next-namespace-{NAMESPACE}", {"timestamp": 1000, "execution": execution}),
    ]
    assert len(world.published) == 4


def test_the_queue_is_on_disk_before_anyone_is_notified(world: World) -> None:
    with world.store.transaction():
        world.create()
        assert world.published == []
    assert len(world.published) == 4


def test_an_undone_transaction_notifies_nobody_and_leaves_nothing(world: World) -> None:
    with pytest.raises(RuntimeError), world.store.transaction():
        world.create()
        raise RuntimeError
    assert world.published == []
    assert world.ask(f"$next/namespace-{NAMESPACE}/get") == ("accepted", {"timestamp": 1000})
    world.published.clear()
    world.create()
    assert len(world.notified()) == 2


def test_a_thing_asks_works_and_reports(world: World) -> None:
    world.create()
    world.now += 5
    body = {"jobId": "$next", "thingName": "one", "includeJobDocument": True, "clientToken": "t"}
    verdict, answer = world.ask(f"$next/namespace-{NAMESPACE}/get", **body)
    assert verdict == "accepted"
    assert answer["clientToken"] == "t"
    assert answer["execution"]["jobDocument"] == {"do": "job-1"}
    assert world.update("IN_PROGRESS", clientToken="u") == ("accepted", {"timestamp": 1005, "clientToken": "u"})
    assert world.notified() == []  # its list of pending jobs is the same
    started = world.ask(f"$next/namespace-{NAMESPACE}/get", includeJobDocument=False)[1]["execution"]
    assert (started["status"], started["startedAt"], started["versionNumber"]) == ("IN_PROGRESS", 1005, 2)
    assert "jobDocument" not in started
    details = {"detailed-deployment-status": "SUCCESSFUL"}
    verdict, answer = world.update(
        "SUCCEEDED", statusDetails=details, includeJobExecutionState=True, includeJobDocument=True
    )
    assert answer["executionState"] == {"status": "SUCCEEDED", "statusDetails": details, "versionNumber": 3}
    assert answer["jobDocument"] == {"do": "job-1"}
    assert world.notified() == [
        (f"notify-namespace-{NAMESPACE}", {"timestamp": 1005, "jobs": {}}),
        (f"notify-next-namespace-{NAMESPACE}", {"timestamp": 1005}),
    ]
    assert [(each.thing, each.status.value) for each in world.seen] == [
        ("one", "QUEUED"), ("two", "QUEUED"), ("one", "IN_PROGRESS"), ("one", "SUCCEEDED"),
    ]  # fmt: skip


def test_the_next_job_is_the_running_one_else_the_oldest(world: World) -> None:
    world.create("b-first")
    world.now += 1
    world.create("a-second")
    assert [topic for topic, _ in world.notified()][2:] == [f"notify-namespace-{NAMESPACE}"]  # the next is the same
    next_job = f"$next/namespace-{NAMESPACE}/get"
    assert world.ask(next_job)[1]["execution"]["jobId"] == "b-first"
    world.update("IN_PROGRESS", job_id="a-second")
    assert world.ask(next_job)[1]["execution"]["jobId"] == "a-second"
    world.update("SUCCEEDED", job_id="a-second")
    assert world.notified()[-1][1]["execution"]["jobId"] == "b-first"


REFUSALS: list[tuple[str, dict[str, Json], str]] = [
    (f"job-1/namespace-{NAMESPACE}/update", {"status": "DONE"}, "InvalidRequest"),
    (f"job-1/namespace-{NAMESPACE}/update", {}, "InvalidRequest"),
    (f"job-1/namespace-{NAMESPACE}/update", {"status": ["FAILED"]}, "InvalidRequest"),
    (f"job-1/namespace-{NAMESPACE}/update", {"status": "QUEUED"}, "InvalidStateTransition"),
    (f"job-1/namespace-{NAMESPACE}/update", {"status": "CANCELED"}, "InvalidStateTransition"),
    (f"job-1/namespace-{NAMESPACE}/update", {"status": "FAILED", "statusDetails": {"a": 1}}, "InvalidRequest"),
    (f"job-1/namespace-{NAMESPACE}/update", {"status": "FAILED", "statusDetails": {"a": "x" * 1025}}, "InvalidRequest"),
    (f"job-1/namespace-{NAMESPACE}/update", {"status": "IN_PROGRESS", "stepTimeoutInMinutes": 0}, "InvalidRequest"),
    (f"job-1/namespace-{NAMESPACE}/update", {"status": "IN_PROGRESS", "stepTimeoutInMinutes": 10081}, "InvalidRequest"),
    (f"job-1/namespace-{NAMESPACE}/update", {"status": "IN_PROGRESS", "stepTimeoutInMinutes": True}, "InvalidRequest"),
    (f"job-1/namespace-{NAMESPACE}/update", {"status": "FAILED", "expectedVersion": 7}, "VersionMismatch"),
    (f"job-1/namespace-{NAMESPACE}/update", {"status": "FAILED", "executionNumber": 7}, "ResourceNotFound"),
    (f"job-1/namespace-{NAMESPACE}/update", {"status": "FAILED", "clientToken": 7}, "InvalidRequest"),
    (f"job-2/namespace-{NAMESPACE}/update", {"status": "FAILED"}, "ResourceNotFound"),
    (f"job-2/namespace-{NAMESPACE}/get", {}, "ResourceNotFound"),
    ("job-1/namespace-other/get", {}, "ResourceNotFound"),
    ("job-1/get", {}, "ResourceNotFound"),
    ("job-1/update", {"status": "SUCCEEDED"}, "ResourceNotFound"),
]


@pytest.mark.parametrize(("topic", "body", "code"), REFUSALS)
def test_a_wrong_request_is_rejected_with_its_code(world: World, topic: str, body: dict[str, Json], code: str) -> None:
    world.create()
    verdict, answer = world.ask(topic, **body)
    assert (verdict, answer["code"]) == ("rejected", code)
    assert ("executionState" in answer) == (code in {"VersionMismatch", "InvalidStateTransition"})
    assert world.statuses()["one"] == "QUEUED"


def test_what_is_not_json_is_rejected(world: World) -> None:
    for payload in (b"{", b"[]", b"\xff", b"[" * 100_000):
        world.published.clear()
        world.jobs.handle(Identity(certificate_id="c"), "$aws/things/one/jobs/job-1/get", payload)
        assert world.published[0][1]["code"] == "InvalidJson"


@pytest.mark.parametrize(
    "topic", ["$aws/things/one/jobs/notify", "$aws/things/one/jobs/j/get/accepted", "$aws/things/one/jobs", "$aws/x"]
)
def test_what_is_no_request_is_ignored(world: World, topic: str) -> None:
    world.jobs.handle(Identity(certificate_id="c"), topic, b"{}")
    assert world.published == []


def test_an_ended_execution_cannot_be_updated(world: World) -> None:
    world.create()
    world.update("FAILED")
    assert world.update("IN_PROGRESS")[1]["code"] == "InvalidStateTransition"
    assert world.update("FAILED")[1]["code"] == "InvalidStateTransition"
    assert world.ask(f"job-1/namespace-{NAMESPACE}/get")[1]["code"] == "TerminalStateReached"


def test_a_job_without_a_namespace_uses_the_plain_topics_alone(world: World) -> None:
    world.create("plain", namespace=None)
    world.create("spaced")
    assert [topic for topic, _ in world.notified()][:2] == ["notify", "notify-next"]
    verdict, answer = world.ask("get")
    assert verdict == "accepted"
    assert [each["jobId"] for each in answer["queuedJobs"]] == ["plain"]
    assert answer["inProgressJobs"] == []
    answer = world.ask("start-next", statusDetails={"step": "1"})[1]
    assert (answer["execution"]["jobId"], answer["execution"]["status"]) == ("plain", "IN_PROGRESS")
    assert world.ask("start-next")[1]["execution"]["statusDetails"] == {"step": "1"}
    assert world.ask("$next/get")[1]["execution"]["jobId"] == "plain"
    assert world.ask("plain/update", status="SUCCEEDED")[0] == "accepted"
    assert world.ask("$next/get")[1] == {"timestamp": 1000}


def test_cancelling_takes_it_from_those_who_have_not_started(world: World) -> None:
    world.create()
    world.update("IN_PROGRESS")
    world.published.clear()
    world.jobs.cancel("job-1")
    assert world.statuses() == {"one": "IN_PROGRESS", "two": "CANCELED"}
    assert world.notified("one") == []
    assert world.notified("two")[0][1]["jobs"] == {}
    assert world.update("SUCCEEDED")[0] == "accepted"
    assert world.ended == [("job-1", "CANCELED")]
    with pytest.raises(ServiceError):
        world.jobs.cancel("job-1")


def test_a_forced_cancel_takes_it_from_everyone(world: World) -> None:
    world.create()
    world.update("IN_PROGRESS")
    world.jobs.cancel("job-1", force=True)
    assert set(world.statuses().values()) == {"CANCELED"}


def test_a_job_is_taken_from_one_thing(world: World) -> None:
    world.create()
    world.update("IN_PROGRESS")
    with pytest.raises(ServiceError) as caught:
        world.jobs.cancel_execution("job-1", "one")
    assert caught.value.code == "InvalidStateTransitionException"
    world.jobs.cancel_execution("job-1", "one", force=True)
    world.jobs.cancel_execution("job-1", "two")
    assert world.statuses() == {"one": "CANCELED", "two": "CANCELED"}
    with pytest.raises(ServiceError):
        world.jobs.cancel_execution("job-1", "nobody")


def test_a_deleted_thing_holds_up_no_job(world: World) -> None:
    world.create("slow", rollout={"maximumPerMinute": 1})
    world.create("plain")
    for thing in ("one", "two"):
        world.jobs.forget_thing(thing)
    assert world.statuses("plain") == {"one": "REMOVED", "two": "REMOVED"}
    assert world.statuses("slow") == {"one": "REMOVED"}
    assert sorted(world.ended) == [("plain", "COMPLETED"), ("slow", "COMPLETED")]


def test_a_snapshot_job_is_completed_when_all_have_ended(world: World) -> None:
    world.create()
    world.update("SUCCEEDED")
    world.update("REJECTED", "two")
    assert world.ended == [("job-1", "COMPLETED")]
    assert world.jobs.job("job-1").completed_at == 1000.0


def test_a_continuous_job_reaches_who_joins_late_and_leaves_who_left(world: World) -> None:
    world.create(continuous=True)
    world.update("SUCCEEDED")
    world.members.add("late")
    world.published.clear()
    world.jobs.membership_changed("late")
    assert len(world.notified("late")) == 2
    world.members -= {"two", "one"}
    for thing in ("one", "two"):
        world.jobs.membership_changed(thing)
    assert world.statuses() == {"one": "SUCCEEDED", "two": "REMOVED", "late": "QUEUED"}
    world.members.add("two")
    world.now += 60
    world.jobs.membership_changed("two")
    again = world.jobs.executions_of("two")[0]
    assert (again.status, again.number, again.queued_at) == ("QUEUED", 2, 1060.0)
    assert world.ended == []


def test_a_snapshot_job_does_not_follow_its_group(world: World) -> None:
    world.create()
    world.members.add("late")
    world.jobs.membership_changed("late")
    assert "late" not in world.statuses()


def test_a_rollout_hands_out_so_many_in_a_minute(world: World) -> None:
    world.members = {f"thing-{number}" for number in range(10)}
    world.create(rollout={"maximumPerMinute": 4})
    assert len(world.statuses()) == 4
    world.jobs.tick(1_059.0)
    assert len(world.statuses()) == 4
    for minute in (1_060.0, 1_120.0):
        world.now = minute
        world.jobs.tick(minute)
    assert len(world.statuses()) == 10
    assert world.ended == []


def test_enough_failures_abort_a_job(world: World) -> None:
    world.members = {f"thing-{number}" for number in range(10)}
    criterion = {
        "failureType": "FAILED", "action": "CANCEL", "thresholdPercentage": 50.0, "minNumberOfExecutedThings": 2,
    }  # fmt: skip
    world.create(rollout={"maximumPerMinute": 4}, abort={"criteriaList": [criterion]})
    things = sorted(world.statuses())
    world.update("IN_PROGRESS", things[3])
    world.update("FAILED", things[0])
    assert world.ended == []
    world.update("FAILED", things[1])
    assert world.ended == [("job-1", "CANCELED")]
    assert sorted(world.statuses().values()) == ["CANCELED", "FAILED", "FAILED", "IN_PROGRESS"]
    world.jobs.tick(9_999.0)
    assert len(world.statuses()) == 4


def test_an_execution_that_takes_too_long_times_out(world: World) -> None:
    world.create(timeout={"inProgressTimeoutInMinutes": 5})
    world.jobs.tick(9_000.0)
    assert world.statuses()["one"] == "QUEUED"  # the clock starts when it does
    world.update("IN_PROGRESS")
    world.now += 60
    world.update("IN_PROGRESS")
    answer = world.ask(f"job-1/namespace-{NAMESPACE}/get")[1]
    assert answer["execution"]["approximateSecondsBeforeTimedOut"] == 240
    world.jobs.tick(1_299.0)
    assert world.statuses()["one"] == "IN_PROGRESS"
    world.published.clear()
    world.jobs.tick(1_300.0)
    assert world.statuses()["one"] == "TIMED_OUT"
    assert world.notified()[0][1]["jobs"] == {}
    assert world.update("SUCCEEDED")[1]["code"] == "InvalidStateTransition"


def test_jobs_survive_a_restart(world: World) -> None:
    world.members = {f"thing-{number}" for number in range(6)}
    world.create(rollout={"maximumPerMinute": 4}, continuous=True)
    again = World(world.store, now=1_060.0, members=world.members)
    again.jobs.tick(1_060.0)
    assert len(again.statuses()) == 6
    assert again.ask(f"$next/namespace-{NAMESPACE}/get", "thing-0")[1]["execution"]["jobDocument"] == {"do": "job-1"}


def test_a_job_id_is_taken_once_and_free_after_a_delete(world: World) -> None:
    world.create()
    with pytest.raises(ServiceError) as caught:
        world.create()
    assert caught.value.code == "ResourceAlreadyExistsException"
    world.published.clear()
    world.jobs.delete("job-1")
    assert world.notified()[0][1]["jobs"] == {}
    world.create()
    assert world.statuses() == {"one": "QUEUED", "two": "QUEUED"}


def test_the_http_api_of_a_thing_says_the_same(world: World) -> None:
    world.create("plain", namespace=None, targets=[THING + "one"])
    jobs = world.jobs
    pending = jobs.get_pending_job_executions({"thingName": "one"}, CONTEXT)
    assert [each["jobId"] for each in pending["queuedJobs"]] == ["plain"]
    started = jobs.start_next_pending_job_execution({"thingName": "one"}, CONTEXT)["execution"]
    assert (started["status"], started["jobDocument"]) == ("IN_PROGRESS", '{"do":"plain"}')
    assert jobs.describe_job_execution({"thingName": "one", "jobId": "$next"}, CONTEXT)["execution"] == started
    request = {"thingName": "one", "jobId": "plain", "status": "SUCCEEDED", "includeJobExecutionState": True}
    assert jobs.update_job_execution(request, CONTEXT)["executionState"]["versionNumber"] == 3
    for call, code in (
        (lambda: jobs.update_job_execution(request, CONTEXT), "InvalidStateTransitionException"),
        (lambda: jobs.describe_job_execution(request, CONTEXT), "TerminalStateException"),
        (lambda: jobs.describe_job_execution({**request, "jobId": "no"}, CONTEXT), "ResourceNotFoundException"),
    ):
        with pytest.raises(ServiceError) as caught:
            call()
        assert caught.value.code == code
    assert jobs.start_next_pending_job_execution({"thingName": "one"}, CONTEXT) == {}


def test_a_rollout_of_ten_hours_takes_no_time(world: World) -> None:
    """Time is a number: 600 things at one a minute are reached in ten hours, and never two in the same minute."""
    world.members = {f"thing-{number:04}" for number in range(601)}
    with world.store.transaction():
        world.create(rollout={"maximumPerMinute": 1})
        for minute in range(600):
            assert sum(world.jobs.counts("job-1").values()) == minute + 1
            world.now += 59
            world.jobs.tick(world.now)
            assert sum(world.jobs.counts("job-1").values()) == minute + 1
            world.now += 1
            world.jobs.tick(world.now)
    assert world.now - 1000 == 10 * 3600
    assert world.jobs.counts("job-1") == {ExecutionStatus.QUEUED: 601}


class Slices:
    """Work that is to be done soon, for a test to do it, or not."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, work: Callable[[], None]) -> None:
        self.waiting.append(work)

    def all(self) -> int:
        count = 0
        while self.waiting:
            self.waiting.pop(0)()
            count += 1
        return count


def test_a_job_for_thousands_is_handed_out_in_slices_and_survives_a_kill(world: World) -> None:
    world.members = {f"thing-{number:04}" for number in range(1000)}
    world.soon = slices = Slices()
    world.open()
    world.create()
    assert sum(world.jobs.counts("job-1").values()) == 200
    slices.waiting.pop(0)()
    assert sum(world.jobs.counts("job-1").values()) == 400
    slices.waiting.clear()  # killed: what was answered is not forgotten
    world.open()
    world.jobs.tick(world.now)
    slices.all()
    assert world.jobs.counts("job-1") == {ExecutionStatus.QUEUED: 1000}
    assert {execution.thing for execution in world.jobs.executions("job-1")} == world.members


def test_a_cancelled_job_of_thousands_hands_nothing_out_any_more(world: World) -> None:
    """Its executions end in slices; those whose turn has not come are not shown to their things."""
    world.members = {f"thing-{number:04}" for number in range(1000)}
    world.soon = slices = Slices()
    world.open()
    world.create()
    slices.all()
    assert world.update("IN_PROGRESS", "thing-0998")[0] == "accepted"
    world.jobs.cancel("job-1")
    assert world.jobs.counts("job-1")[ExecutionStatus.CANCELED] == 200
    assert world.ask(f"$next/namespace-{NAMESPACE}/get", "thing-0999")[1] == {"timestamp": 1000}
    assert world.update("IN_PROGRESS", "thing-0999")[1]["code"] == "InvalidStateTransition"
    slices.waiting.clear()
    world.open()
    assert world.ask(f"$next/namespace-{NAMESPACE}/get", "thing-0997")[1] == {"timestamp": 1000}
    world.jobs.tick(world.now)
    slices.all()
    assert world.jobs.counts("job-1") == {ExecutionStatus.CANCELED: 999, ExecutionStatus.IN_PROGRESS: 1}
    assert world.update("SUCCEEDED", "thing-0998")[0] == "accepted"

"""One simulated device: what it is told, and what it says, message by message."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from monodon.simulator.device import REPLY_S, Device
from monodon.simulator.faults import NEVER, Profile, read_fault
from monodon.simulator.settings import Change, Settings
from monodon.simulator.talk import NAMESPACE, SHADOW, Outgoing

GROUP = "arn:aws:greengrass:us-east-1:123456789012:configuration:thinggroup"
JOBS = "$aws/things/sim-1/jobs"
SHADOWS = f"$aws/things/sim-1/shadow/name/{SHADOW}"


def document(group: str = "sims", revision: int = 1, **components: str) -> dict[str, Any]:
    return {
        "deploymentId": f"{group}-{revision}",
        "configurationArn": f"{GROUP}/{group}:{revision}",
        "creationTimestamp": revision,
        "components": {name: {"version": version} for name, version in components.items()},
    }


class Talk:
    """The cloud's end of a conversation."""

    def __init__(self, profile: Profile | None = None, **settings: Any) -> None:
        self.changes: list[Change] = []
        shared = Settings(on_change=self.changes.append, **settings)
        self.device = Device("sim-1", profile or Profile(), shared, now=0.0)
        self.now = 0.0

    def connect(self) -> list[str]:
        return self.shown(self.device.connected(self.now))

    def hear(self, topic: str, body: Any) -> list[str]:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.shown(self.device.received(topic, payload, self.now))

    def wake(self, now: float) -> list[str]:
        self.now = now
        return self.shown(self.device.woken(now))

    def offer(self, doc: Any, job_id: str = "j1", queued_at: float = 1) -> list[str]:
        execution = {"jobId": job_id, "queuedAt": queued_at, "jobDocument": doc}
        return self.hear(f"{JOBS}/$next/{NAMESPACE}/get/accepted", {"execution": execution})

    def answer(self, job_id: str = "j1", verdict: str = "accepted", **members: Any) -> list[str]:
        """Answer the last update of a job."""
        body = {"clientToken": self.token, **members}
        return self.hear(f"{JOBS}/{job_id}/{NAMESPACE}/update/{verdict}", body)

    def shown(self, said: list[Outgoing]) -> list[str]:
        """Topics in short, with the status or the trigger."""
        words = []
        for topic, payload, receipt in said:
            body = json.loads(payload)
            if "status" in body:
                self.token = body["clientToken"]
                words.append(f"{topic.split('/')[4]} {body['status']}")
            elif "trigger" in body:
                self.device.taken(receipt)
                self.health = body
                words.append(body["trigger"])
            elif topic == f"{SHADOWS}/update":
                self.token, self.reported = body["clientToken"], body
                words.append(f"shadow {body['state']['reported']['status']}")
            else:
                words.append(topic.removeprefix("$aws/things/sim-1/"))
        return words


ASKING = [f"jobs/$next/{NAMESPACE}/get", f"shadow/name/{SHADOW}/get"]


def test_a_deployment_from_the_first_connect_to_its_end() -> None:
    talk = Talk(Profile(takes=(5.0, 5.0)))
    assert talk.connect() == ["NUCLEUS_LAUNCH", *ASKING]
    assert [each["componentName"] for each in talk.health["components"]] == ["aws.greengrass.Nucleus"]
    assert talk.hear(f"{JOBS}/notify-{NAMESPACE}", {"jobs": {"QUEUED": [{}]}}) == ASKING[:1]
    assert talk.offer(document(a="1.0.0")) == ["j1 IN_PROGRESS"]
    assert talk.device.is_working
    assert talk.answer() == []
    assert talk.device.due_at(0.0) == 5.0
    assert talk.wake(5.0) == ["j1 SUCCEEDED", "THING_GROUP_DEPLOYMENT"]
    assert talk.health["components"] == [
        {
            "componentName": "a",
            "version": "1.0.0",
            "fleetConfigArns": [f"{GROUP}/sims:1"],
            "isRoot": True,
            "status": "RUNNING",
            "componentStatusDetails": None,
        }
    ]
    assert talk.answer() == []
    assert talk.device.is_settled
    assert [each.status for each in talk.changes] == ["IN_PROGRESS", "SUCCEEDED"]


def test_a_job_that_is_known_or_older_is_no_news() -> None:
    talk = Talk()
    talk.connect()
    assert talk.offer(document(a="1.0.0"), "j1", 5) == ["j1 IN_PROGRESS"]
    for job_id, queued_at in (("j1", 5), ("j0", 4)):
        assert talk.offer(document(a="2.0.0"), job_id, queued_at) == []
    assert talk.answer() == ["j1 SUCCEEDED", "THING_GROUP_DEPLOYMENT"]
    talk.answer()
    assert talk.offer(document(revision=2, a="2.0.0"), "j2", 5) == ["j2 IN_PROGRESS"]


def test_what_was_not_answered_is_said_again() -> None:
    """After a while, and first thing after the next connect; only then the device asks for more."""
    talk = Talk()
    talk.connect()
    talk.offer(document(a="1.0.0"))
    assert talk.wake(REPLY_S) == ["j1 IN_PROGRESS", *ASKING][:1]
    talk.device.disconnected()
    assert talk.wake(REPLY_S + 1) == []
    assert talk.connect() == ["THING_GROUP_DEPLOYMENT", "j1 SUCCEEDED"]
    assert talk.answer() == ASKING


def test_a_message_that_did_not_arrive_is_sent_again_with_a_higher_number() -> None:
    device = Device("sim-1", Profile(), Settings(), now=0.0)
    (launch, *_) = device.connected(0.0)
    assert launch.receipt == 1
    device.disconnected()
    (again, *_) = device.connected(1.0)
    assert json.loads(again.payload)["trigger"] == "NUCLEUS_LAUNCH"
    assert again.receipt == 2
    device.taken(2)
    device.disconnected()
    (back, *_) = device.connected(2.0)
    assert json.loads(back.payload)["trigger"] == "RECONNECT"


def test_an_empty_notification_stops_the_work() -> None:
    talk = Talk(Profile(hangs=True))
    talk.connect()
    talk.offer(document(a="1.0.0"))
    talk.answer()
    assert talk.device.due_at(0.0) == NEVER
    assert talk.hear(f"{JOBS}/notify-{NAMESPACE}", {"jobs": {}}) == []
    assert not talk.device.is_working
    assert talk.changes[-1].status == "CANCELED"


def test_groups_stack_and_their_conflicts_fail() -> None:
    talk = Talk()
    talk.connect()
    talk.offer(document("one", a="1.0.0", shared="1.0.0"), "j1", 1)
    talk.answer()
    talk.answer()
    talk.offer(document("two", b="1.0.0", shared="1.0.0"), "j2", 2)
    talk.answer("j2")
    assert talk.device.installed.roots() == {"a": "1.0.0", "shared": "1.0.0", "b": "1.0.0"}
    (shared,) = [each for each in talk.health["components"] if each["componentName"] == "shared"]
    assert shared["fleetConfigArns"] == [f"{GROUP}/one:1", f"{GROUP}/two:1"]
    talk.answer("j2")
    talk.offer(document("two", 2, shared="2.0.0"), "j3", 3)
    talk.answer("j3")
    outcome = talk.changes[-1].outcome
    assert outcome is not None
    assert outcome.error_stack[-1] == "COMPONENT_VERSION_REQUIREMENTS_NOT_MET"
    assert "thinggroup/two needs 2.0.0" in str(outcome.cause)
    assert talk.device.installed.roots()["shared"] == "1.0.0"


def test_what_a_new_revision_does_not_name_is_gone() -> None:
    talk = Talk()
    talk.connect()
    talk.offer(document(a="1.0.0", b="1.0.0"))
    talk.answer()
    talk.answer()
    talk.offer(document(revision=2, a="1.0.0"), "j2", 2)
    talk.answer("j2")
    assert {each["componentName"]: each["status"] for each in talk.health["components"]} == {
        "a": "RUNNING",
        "b": "UNINSTALLED",
    }
    assert talk.health["deploymentInformation"]["unchangedRootComponents"] == ["a"]


def test_a_deployment_by_the_shadow_is_reported_there_against_its_version() -> None:
    talk = Talk()
    talk.connect()
    arn = f"{GROUP.replace('thinggroup', 'thing')}/sim-1:1"
    doc = {**document(a="1.0.0"), "configurationArn": arn}
    desired = {"fleetConfig": json.dumps(doc), "desiredStatus": "SUCCEEDED"}
    body = {"version": 3, "state": {"desired": desired}}
    assert talk.hear(f"{SHADOWS}/get/accepted", body) == ["shadow IN_PROGRESS"]
    assert talk.reported["version"] == 3
    conflict = {"code": 409, "message": "Version conflict", "clientToken": talk.token}
    assert talk.hear(f"{SHADOWS}/update/rejected", conflict) == ["shadow IN_PROGRESS"]
    accepted = {"clientToken": talk.token, "version": 4, "state": {"reported": {}}}
    assert talk.hear(f"{SHADOWS}/update/accepted", accepted) == ["shadow SUCCEEDED", "THING_DEPLOYMENT"]
    assert talk.reported["version"] == 4
    assert talk.hear(f"{SHADOWS}/update/accepted", body | {"version": 5}) == []  # known
    canceled = Talk()
    canceled.connect()
    state = {"desired": desired | {"desiredStatus": "CANCELED"}}
    assert canceled.hear(f"{SHADOWS}/get/accepted", {"version": 1, "state": state}) == []


@pytest.mark.parametrize(
    ("doc", "status", "code"),
    [
        ({"deploymentId": "d"}, "FAILED", "DEPLOYMENT_DOCUMENT_NOT_VALID"),
        ("nothing", "FAILED", "DEPLOYMENT_DOCUMENT_NOT_VALID"),
        (
            {**document(a="1.0.0"), "requiredCapabilities": ["FLYING"]},
            "REJECTED",
            "NUCLEUS_MISSING_REQUIRED_CAPABILITIES",
        ),
    ],
)
def test_what_no_device_could_do_is_refused(doc: Any, status: str, code: str) -> None:
    talk = Talk()
    talk.connect()
    assert talk.offer(doc)[0] == f"j1 {status}"
    assert talk.changes[-1].outcome is not None
    assert code in talk.changes[-1].outcome.error_stack


@pytest.mark.parametrize(
    ("code", "policy", "detailed", "stays"),
    [
        ("COMPONENT_BROKEN", "ROLLBACK", "FAILED_ROLLBACK_COMPLETE", {"a": "1.0.0"}),
        ("COMPONENT_BROKEN", "DO_NOTHING", "FAILED_ROLLBACK_NOT_REQUESTED", {"a": "2.0.0"}),
        ("DISK_SPACE_CRITICAL", "DO_NOTHING", "FAILED_NO_STATE_CHANGE", {"a": "1.0.0"}),
    ],
)
def test_a_failure_leaves_the_device_as_the_deployment_says(
    code: str, policy: str, detailed: str, stays: dict[str, str]
) -> None:
    talk = Talk(read_fault("fail", f"100%:{code}:a@2.0.0").apply(Profile()))
    talk.connect()
    talk.offer(document(a="1.0.0"))
    talk.answer()
    talk.answer()
    talk.offer({**document(revision=2, a="2.0.0"), "failureHandlingPolicy": policy}, "j2", 2)
    assert talk.answer("j2") == ["j2 FAILED", "THING_GROUP_DEPLOYMENT"]
    assert talk.health["deploymentInformation"]["statusDetails"]["detailedStatus"] == detailed
    assert talk.device.installed.roots() == stays
    is_broken = policy == "DO_NOTHING" and code == "COMPONENT_BROKEN"
    assert talk.health["overallDeviceStatus"] == ("UNHEALTHY" if is_broken else "HEALTHY")


def test_one_in_disorder_says_the_end_first_and_a_stale_status_after_it() -> None:
    talk = Talk(Profile(disorders=True))
    talk.connect()
    number = talk.health["sequenceNumber"]
    said = talk.offer(document(a="1.0.0"))
    assert said == ["j1 SUCCEEDED", "THING_GROUP_DEPLOYMENT", "COMPONENT_STATUS_CHANGE", "j1 IN_PROGRESS"]
    assert talk.health["sequenceNumber"] == number
    assert talk.health["components"][0]["status"] == "STARTING"


@pytest.mark.parametrize("spoil", [lambda talk: b"\xff", lambda talk: b"[]", lambda talk: b'{"jobs":3}'])
@pytest.mark.parametrize(
    "topic",
    [
        f"{JOBS}/notify-{NAMESPACE}",
        f"{JOBS}/$next/{NAMESPACE}/get/accepted",
        f"{JOBS}/$next/{NAMESPACE}/get/rejected",
        f"{JOBS}/j1/{NAMESPACE}/update/accepted",
        f"{SHADOWS}/get/accepted",
        f"{SHADOWS}/update/rejected",
        "somewhere/else",
    ],
)
def test_garbage_from_the_cloud_moves_nothing(topic: str, spoil: Callable[[Talk], bytes]) -> None:
    talk = Talk()
    talk.connect()
    assert talk.hear(topic, spoil(talk)) == []
    assert not talk.changes

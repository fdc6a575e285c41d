"""Plans are applied once, deployments followed to their end; with real boto3 against the embedded cloud."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from tests.fleet.embedded import WRITES, Fleet, embedded_fleet

from monodon.errors import FleetError
from monodon.fleet import export, follow
from monodon.fleet.aws import Aws
from monodon.fleet.deploying import Applied, apply, deploy, make_plan
from monodon.fleet.desired import Desired
from monodon.fleet.following import Ending, Progress, Result, watch
from monodon.fleet.live import target_arn
from monodon.fleet.patience import Patience
from monodon.fleet.reading import parse_desired

CAMERA = "com.example.Camera"
MODEL = "com.example.Model"
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with embedded_fleet(tmp_path_factory.mktemp("cloud")) as fleet:
        fleet.publish(CAMERA, "1.0.0", {"threshold": 0.4, "topic": "seen"})
        fleet.publish(CAMERA, "1.1.0", {"threshold": 0.5, "topic": "seen"})
        fleet.publish(CAMERA, "2.0.0-rc.1", {"threshold": 0.9})
        fleet.publish(MODEL, "1.0.0")
        yield fleet


@pytest.fixture
def group(fleet: Fleet) -> str:
    """A group of two devices of its own."""
    number = next(NUMBERS)
    fleet.add(f"group-{number}", f"drone-{number}-a", f"drone-{number}-b")
    return f"group-{number}"


def wanted(group: str, version: str = "1.0.0", rest: str = "", merge: str = "{labels: [narwhal]}") -> Desired:
    text = f"target: thinggroup/{group}\ncomponents:\n  {CAMERA}: {{version: {version!r}, merge: {merge}}}\n{rest}"
    return parse_desired(text, file="fleet.yaml")


def devices(group: str) -> tuple[str, str]:
    return group.replace("group", "drone") + "-a", group.replace("group", "drone") + "-b"


class Clock:
    """Time that passes while somebody sleeps; ``then`` happens at the n-th sleep."""

    def __init__(self, *then: Callable[[], Any]) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._then = list(then)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        if self._then:
            self._then.pop(0)()


def followed(
    aws: Aws, applied: Applied, clock: Clock, timeout_s: float = 60.0, **options: Any
) -> tuple[list[Progress], Result]:
    watching = watch(aws, applied.created, timeout_s=timeout_s, clock=clock, sleep=clock.sleep, **options)
    seen: list[Progress] = []
    while True:
        try:
            seen.append(next(watching))
        except StopIteration as end:
            return seen, end.value


# Planning with what AWS has


def test_a_plan_only_reads_and_a_deployment_leaves_nothing_to_do(fleet: Fleet, group: str) -> None:
    with fleet.calls() as sent:
        made = make_plan(fleet.aws, wanted(group))
    assert not [operation for operation in sent if operation.startswith(WRITES)]
    assert len(made.devices.recent) == 2
    assert made.findings == ()
    applied = apply(fleet.aws, made)
    assert (applied.is_new, applied.created.revision) == (True, "1")
    again = make_plan(fleet.aws, wanted(group))
    assert (again.is_empty, again.replaces) == (True, applied.created.deployment_id)


@pytest.mark.parametrize("style", ["yaml", "json"])
def test_what_is_exported_plans_to_nothing(fleet: Fleet, group: str, style: str) -> None:
    rest = "rollout: {maximumPerMinute: 50}\ntags: {owner: narwhals}\nonFailure: DO_NOTHING\nname: 'on'"
    deploy(fleet.aws, wanted(group, rest=rest))
    text = export(fleet.aws, f"thinggroup/{group}", style=style)
    assert make_plan(fleet.aws, parse_desired(text, file=f"fleet.{style}")).is_empty
    if style == "json":
        assert json.loads(text)["targetArn"] == fleet.aws.group_arn(group)


def test_there_is_nothing_to_export_where_nothing_was_deployed(fleet: Fleet, group: str) -> None:
    with pytest.raises(FleetError, match="has no deployment"):
        export(fleet.aws, f"thinggroup/{group}")


@pytest.mark.parametrize(
    ("requirement", "version"),
    [
        ("^1.0.0", "1.1.0"),
        ("1.0.0", "1.0.0"),
        (">=1.0.0", "2.0.0-rc.1"),
        (">=1.0.0 <3.0.0", "1.1.0"),
        ("*", "2.0.0-rc.1"),
    ],
)
def test_a_range_is_the_newest_deployable_version(fleet: Fleet, group: str, requirement: str, version: str) -> None:
    """Pre-releases count only where a device would take them."""
    assert make_plan(fleet.aws, wanted(group, requirement)).versions == {CAMERA: version}


def test_a_version_that_failed_is_passed_over(fleet: Fleet, group: str) -> None:
    name = f"com.example.Broken{next(NUMBERS)}"
    fleet.publish(name, "1.0.0")
    fleet.publish(name, "1.1.0", uri="s3://no-such-bucket/broken.zip")
    desired = parse_desired(f"target: thinggroup/{group}\ncomponents: {{{name}: {{version: ^1.0.0}}}}", file="f")
    made = make_plan(fleet.aws, desired)
    assert made.versions == {name: "1.0.0"}
    assert [one.code for one in made.findings] == ["PASSED_OVER"]
    exact = parse_desired(f"target: thinggroup/{group}\ncomponents: {{{name}: {{version: 1.1.0}}}}", file="f")
    assert {one.code for one in make_plan(fleet.aws, exact).errors} == {"NOT_DEPLOYABLE", "NO_ARTIFACT"}


def test_a_component_of_aws_is_found(fleet: Fleet, group: str) -> None:
    name = "aws.greengrass.Cli"
    desired = parse_desired(f"target: thinggroup/{group}\ncomponents: {{{name}: {{version: ^2.0.0}}}}", file="f")
    made = make_plan(fleet.aws, desired)
    assert made.errors == ()
    assert made.versions[name].startswith("2.")


def test_a_missing_artifact_is_found_before_a_device_finds_it(fleet: Fleet, group: str) -> None:
    name, bucket = f"com.example.Zip{next(NUMBERS)}", f"bucket-{next(NUMBERS)}"
    fleet.aws.s3.create_bucket(Bucket=bucket)
    fleet.aws.s3.put_object(Bucket=bucket, Key="a.zip", Body=b"a")
    fleet.publish(name, "1.0.0", uri=f"s3://{bucket}/a.zip")
    desired = parse_desired(f"target: thinggroup/{group}\ncomponents: {{{name}: {{version: 1.0.0}}}}", file="f")
    assert make_plan(fleet.aws, desired).errors == ()
    fleet.aws.s3.delete_object(Bucket=bucket, Key="a.zip")
    (finding,) = make_plan(fleet.aws, desired).errors
    assert (finding.code, finding.message) == (
        "NO_ARTIFACT",
        f"s3://{bucket}/a.zip, an artifact of {name} 1.0.0, is not there",
    )


def test_defaults_that_will_not_arrive_are_named(fleet: Fleet, group: str) -> None:
    deploy(fleet.aws, wanted(group))
    made = make_plan(fleet.aws, wanted(group, "1.1.0"))
    (finding,) = made.findings
    assert finding.code == "DEFAULTS_KEPT"
    assert finding.hint == f'to bring them, write components.{CAMERA}.reset: ["/threshold"]'


def test_another_groups_deployment_on_the_same_devices_is_a_conflict(fleet: Fleet, group: str) -> None:
    other = f"other-{group}"
    fleet.aws.iot.create_thing_group(thingGroupName=other)
    fleet.aws.iot.add_thing_to_thing_group(thingGroupName=other, thingName=devices(group)[0])
    deploy(fleet.aws, wanted(other, "1.1.0"))
    (finding,) = make_plan(fleet.aws, wanted(group)).errors
    assert finding.code == "CONFLICT"
    assert f"1 device of this target ({devices(group)[0]})" in finding.message
    thing = replace(wanted(group), target=f"thing/{devices(group)[0]}")
    assert [one.code for one in make_plan(fleet.aws, thing).errors] == ["CONFLICT"]
    elsewhere = replace(thing, target=f"thing/{devices(group)[1]}")
    assert make_plan(fleet.aws, elsewhere).errors == ()


def test_devices_of_another_platform_are_named(fleet: Fleet) -> None:
    fleet.add("gates", "window", platform="windows")
    (finding,) = make_plan(fleet.aws, wanted("gates")).errors
    assert finding.code == "PLATFORM"
    assert "windows/amd64" in finding.message


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("thinggroup/nobody", "there is no thing group nobody"),
        ("thing/nobody", "there is no thing nobody"),
        ("drones", "'drones' is no target"),
        ("thinggroup/a b", "'a b' is not a thing name"),
        ("arn:aws:iot:us-east-1:999999999999:thinggroup/drones", "belongs to account 999999999999"),
        ("arn:aws:iot:eu-west-1:123456789012:thinggroup/drones", "is in eu-west-1, and the region here is us-east-1"),
        ("arn:aws:s3:us-east-1:123456789012:bucket/drones", "is neither a thing nor a thing group"),
        ("arn:nonsense", "is not an ARN"),
    ],
)
def test_a_target_that_cannot_be_is_one_clear_line_before_any_change(fleet: Fleet, target: str, message: str) -> None:
    with fleet.calls() as sent, pytest.raises(FleetError, match=message.replace("(", r"\(")):
        make_plan(fleet.aws, replace(wanted("drones"), target=target))
    assert not [operation for operation in sent if operation.startswith(WRITES)]


def test_a_target_of_this_account_may_be_an_arn(fleet: Fleet, group: str) -> None:
    arn = fleet.aws.group_arn(group)
    assert target_arn(fleet.aws, arn) == arn


def test_a_fleets_devices_are_read_by_pages(fleet: Fleet) -> None:
    things = [f"many-{number}" for number in range(110)]
    fleet.add("many", *things)
    with fleet.calls() as sent:
        made = make_plan(fleet.aws, wanted("many"))
    assert len(made.devices.recent) == 110
    assert len(sent) < 40
    assert "GetCoreDevice" not in sent


# Applying


def test_a_plan_that_was_applied_is_not_applied_again(fleet: Fleet, group: str) -> None:
    made = make_plan(fleet.aws, wanted(group))
    first = apply(fleet.aws, made)
    with fleet.calls() as sent:
        second = apply(fleet.aws, made)
    assert second.created == first.created
    assert (first.is_new, second.is_new) == (True, False)
    assert "CreateDeployment" not in sent


def test_an_interrupted_run_finds_its_deployment_again(fleet: Fleet, group: str) -> None:
    """The call went out and its answer never came: the token finds the same deployment."""
    made = make_plan(fleet.aws, wanted(group))
    lost = fleet.aws.greengrass.create_deployment(**made.request, clientToken=made.token)
    assert apply(fleet.aws, made).created.deployment_id == lost["deploymentId"]
    assert (
        fleet.aws.greengrass.create_deployment(**made.request, clientToken=made.token)["deploymentId"]
        == lost["deploymentId"]
    )


def test_there_and_back_again_are_three_deployments(fleet: Fleet, group: str) -> None:
    ids = [deploy(fleet.aws, wanted(group, version)).deployment_id for version in ("1.0.0", "1.1.0", "1.0.0")]
    assert len(set(ids)) == 3


def test_what_moved_since_the_plan_is_not_overwritten(fleet: Fleet, group: str) -> None:
    """Two operators at once."""
    mine = make_plan(fleet.aws, wanted(group))
    theirs = deploy(fleet.aws, wanted(group, "1.1.0"))
    with pytest.raises(FleetError, match="changed since the plan: it was nothing, and now is") as caught:
        apply(fleet.aws, mine)
    assert theirs.deployment_id in caught.value.message
    mine = make_plan(fleet.aws, wanted(group))
    later = deploy(fleet.aws, wanted(group, "1.1.0", "name: later"))
    with pytest.raises(
        FleetError, match=f"it was {theirs.deployment_id} .revision 1., and now is {later.deployment_id}"
    ):
        apply(fleet.aws, mine)


def test_who_slips_in_between_look_and_call_is_named(fleet: Fleet, group: str) -> None:
    """AWS has no compare-and-set: the window is one call long, and what happened in it is told."""
    deploy(fleet.aws, wanted(group))
    mine = make_plan(fleet.aws, wanted(group, "1.1.0"))
    theirs: list[str] = []
    greengrass = fleet.aws.greengrass

    def slip_in(model: Any, **_: Any) -> None:
        if not theirs:
            theirs.append("")
            theirs[0] = deploy(other, wanted(group, rest="name: theirs")).deployment_id

    other = Aws(endpoint_url=fleet.ready.endpoint, region=fleet.ready.region)
    greengrass.meta.events.register("before-call.greengrassv2.CreateDeployment", slip_in)
    try:
        applied = apply(fleet.aws, mine)
    finally:
        greengrass.meta.events.unregister("before-call.greengrassv2.CreateDeployment", slip_in)
    assert applied.overtook == tuple(theirs)
    assert applied.created.revision == "3"


def test_a_version_that_was_deleted_since_the_plan_is_told_by_the_next_plan(fleet: Fleet, group: str) -> None:
    name = f"com.example.Brief{next(NUMBERS)}"
    fleet.publish(name, "1.0.0")
    text = f"target: thinggroup/{group}\ncomponents: {{{name}: {{version: 1.0.0}}}}"
    made = make_plan(fleet.aws, parse_desired(text, file="f"))
    arn = f"arn:aws:greengrass:us-east-1:123456789012:components:{name}:versions:1.0.0"
    fleet.aws.greengrass.delete_component(arn=arn)
    applied = apply(fleet.aws, made)
    thing = devices(group)[0]
    fleet.report_job(
        thing, applied.created.job_id, "FAILED", cause="none", codes=["COMPONENT_VERSION_REQUIREMENTS_NOT_MET"]
    )
    _, result = followed(fleet.aws, applied, Clock(), timeout_s=1)
    assert result.clusters[0].cause == "no version of a component meets all that is required of it"
    (finding,) = make_plan(fleet.aws, parse_desired(text, file="f")).errors
    assert finding.code == "NO_SUCH_VERSION"


def test_a_plan_with_errors_is_not_applied(fleet: Fleet, group: str) -> None:
    made = make_plan(fleet.aws, wanted(group, "7.0.0"))
    with fleet.calls() as sent, pytest.raises(FleetError, match="cannot be applied: there is no version 7.0.0"):
        apply(fleet.aws, made)
    assert sent == []


def test_the_same_again_is_another_deployment_if_it_is_meant(fleet: Fleet, group: str) -> None:
    first = deploy(fleet.aws, wanted(group))
    assert deploy(fleet.aws, wanted(group)) == first
    again = apply(fleet.aws, make_plan(fleet.aws, wanted(group), again=True))
    assert again.created.deployment_id != first.deployment_id


# A cloud that is busy


class Busy:
    """Answers in place of AWS, some times; a real client, its own parser."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        self._answers = list(answers)

    def __call__(self, request: Any, **_: Any) -> AWSResponse | None:
        if not self._answers:
            return None
        status, code = self._answers.pop(0)
        body = json.dumps({"message": "later", "retryAfterSeconds": 2}).encode()
        headers = {"x-amzn-ErrorType": code, "Content-Type": "application/json"}
        return AWSResponse(request.url, status, headers, Raw(body))


class Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._body


@pytest.fixture
def busy(fleet: Fleet) -> Callable[..., Aws]:
    """A client whose CreateDeployment is answered so first; botocore's own retries are off, to be quick."""

    def client(*answers: tuple[int, str]) -> Aws:
        aws = Aws(endpoint_url=fleet.ready.endpoint, region=fleet.ready.region)
        aws.greengrass.meta.config.retries.update(max_attempts=0, total_max_attempts=1)
        aws.greengrass.meta.events.register("before-send.greengrassv2.CreateDeployment", Busy(*answers))
        aws.greengrass.meta.events.register_first("needs-retry.greengrassv2", lambda **_: None)
        return aws

    return client


def test_a_busy_cloud_is_asked_again_and_that_is_told(fleet: Fleet, group: str, busy: Callable[..., Aws]) -> None:
    aws = busy(
        (429, "ThrottlingException"), (500, "InternalServerException"), (400, "RequestAlreadyInProgressException")
    )
    notices: list[str] = []
    clock = Clock()
    patience = Patience(say=notices.append, clock=clock, sleep=clock.sleep)
    applied = apply(aws, make_plan(aws, wanted(group)), patience=patience)
    assert applied.is_new
    assert notices
    assert all(notice.endswith("s") and "trying again in" in notice for notice in notices)
    assert make_plan(fleet.aws, wanted(group)).is_empty


def test_a_wrong_endpoint_is_told_at_once() -> None:
    clock = Clock()
    nowhere = Aws(endpoint_url="http://127.0.0.1:9", region="us-east-1")
    with pytest.raises(FleetError, match="AWS cannot be reached"):
        make_plan(nowhere, wanted("drones"), patience=Patience(network=False, clock=clock, sleep=clock.sleep))
    assert clock.slept == []


def test_a_page_of_a_proxy_instead_of_xml_is_one_line_and_passes() -> None:
    aws = Aws(endpoint_url="http://127.0.0.1:9", region="us-east-1")
    page, clock, notices = b"{\n}" * 50, Clock(), list[str]()

    def ask() -> str:
        client = aws._client("sts")
        client.meta.events.register_first("needs-retry.sts", lambda **_: None)
        client.meta.events.register(
            "before-send.sts",
            lambda request, **_: AWSResponse(request.url, 502, {}, Raw(page)),
        )
        account: str = client.get_caller_identity()["Account"]
        return account

    with pytest.raises(FleetError) as caught:
        Patience(say=notices.append, clock=clock, sleep=clock.sleep, limit_s=5).call(ask)
    assert notices
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith("AWS cannot be reached: Unable to parse response")


def test_a_refusal_is_not_tried_again(fleet: Fleet, group: str, busy: Callable[..., Aws]) -> None:
    aws = busy((403, "ExpiredTokenException"))
    clock = Clock()
    with pytest.raises(FleetError, match="ExpiredTokenException: later") as caught:
        apply(aws, make_plan(aws, wanted(group)), patience=Patience(clock=clock, sleep=clock.sleep))
    assert "the credentials are old" in (caught.value.hint or "")
    assert clock.slept == []
    assert make_plan(fleet.aws, wanted(group)).replaces is None


# Following


def test_devices_are_followed_to_their_end(fleet: Fleet, group: str) -> None:
    applied = apply(fleet.aws, make_plan(fleet.aws, wanted(group)))
    a, b = devices(group)
    job = applied.created.job_id
    clock = Clock(
        lambda: fleet.report_job(a, job, "IN_PROGRESS"),
        lambda: fleet.report_job(a, job, "SUCCEEDED"),
        lambda: fleet.report_job(b, job, "SUCCEEDED"),
    )
    seen, result = followed(fleet.aws, applied, clock)
    assert [(one.thing, one.status) for progress in seen for one in progress.changes] == [
        (a, "QUEUED"),
        (b, "QUEUED"),
        (a, "IN_PROGRESS"),
        (a, "SUCCEEDED"),
        (b, "SUCCEEDED"),
    ]
    assert (seen[-1].counts, seen[-1].total) == ({"SUCCEEDED": 2}, 2)
    assert (result.ending, result.succeeded, result.failed, result.waiting) == (Ending.DONE, (a, b), (), ())


def test_failures_are_put_together_by_cause_with_the_fix(fleet: Fleet) -> None:
    things = [f"fail-{number}" for number in range(4)]
    fleet.add("failing", *things)
    applied = apply(fleet.aws, make_plan(fleet.aws, wanted("failing")))
    job = applied.created.job_id
    stack = ["DEPLOYMENT_FAILURE", "ARTIFACT_DOWNLOAD_ERROR", "DISK_SPACE_CRITICAL"]
    fleet.report_job(things[0], job, "FAILED", cause="disk full", codes=stack)
    fleet.report_job(things[1], job, "FAILED", cause="disk \x1b[31mfull", codes=stack)
    fleet.report_job(things[2], job, "FAILED", cause="what", codes="{not json")
    fleet.report_job(things[3], job, "SUCCEEDED")
    _, result = followed(fleet.aws, applied, Clock())
    first, second = result.clusters
    assert (first.code, first.things) == ("DISK_SPACE_CRITICAL", ("fail-0", "fail-1"))
    assert first.fix == "free disk space on the device, then deploy again"
    assert second.things == ("fail-2",)
    assert all(one.reason.isprintable() for one in result.failed)
    assert (result.ending, result.succeeded) == (Ending.DONE, ("fail-3",))


def test_reasons_are_asked_of_so_many_devices_only(fleet: Fleet) -> None:
    things = [f"mass-{number}" for number in range(8)]
    fleet.add("mass", *things)
    applied = apply(fleet.aws, make_plan(fleet.aws, wanted("mass")))
    for thing in things:
        fleet.report_job(thing, applied.created.job_id, "FAILED", cause="x", codes=["COMPONENT_BROKEN"])
    with fleet.calls() as sent:
        _, result = followed(fleet.aws, applied, Clock(), max_reasons=3)
    assert len(result.failed) == 8
    assert sent.count("DescribeJobExecution") == 3


def test_offline_devices_are_waiting_and_have_not_failed(fleet: Fleet, group: str) -> None:
    a, b = devices(group)
    fleet.aws.iot.create_thing(thingName=f"new-{group}")
    fleet.aws.iot.add_thing_to_thing_group(thingGroupName=group, thingName=f"new-{group}")
    applied = apply(fleet.aws, make_plan(fleet.aws, wanted(group)))
    fleet.report_job(a, applied.created.job_id, "SUCCEEDED")
    with fleet.calls() as sent:
        _, result = followed(fleet.aws, applied, Clock(), timeout_s=30)
    assert (result.ending, result.failed) == (Ending.EXPIRED, ())
    assert sent.count("DescribeJob") > 5
    assert sent.count("ListJobExecutionsForJob") == 1  # executions are listed only when their counts changed
    waiting = {one.thing: (one.status, one.reported_s is not None) for one in result.waiting}
    assert waiting == {b: ("QUEUED", True), f"new-{group}": ("QUEUED", False)}
    clock = Clock()
    with pytest.raises(FleetError, match=f"has not ended within 1 s: {b} .QUEUED."):
        list(follow(fleet.aws, applied.created, timeout_s=1, clock=clock, sleep=clock.sleep))


def test_a_slow_rollout_is_not_over_before_it_reached_everyone(fleet: Fleet, group: str) -> None:
    """One a minute: the other has no execution yet, and is waited for."""
    applied = apply(fleet.aws, make_plan(fleet.aws, wanted(group, rest="rollout: {maximumPerMinute: 1}")))
    first = fleet.aws.iot.list_job_executions_for_job(jobId=applied.created.job_id)["executionSummaries"]
    for one in first:
        if one["jobExecutionSummary"]["status"] == "QUEUED":
            fleet.report_job(one["thingArn"].rpartition("/")[2], applied.created.job_id, "SUCCEEDED")
            break
    _, result = followed(fleet.aws, applied, Clock(), timeout_s=20)
    assert result.ending is Ending.EXPIRED
    assert (len(result.succeeded), len(result.waiting)) == (1, 1)


def test_a_group_that_empties_ends(fleet: Fleet, group: str) -> None:
    applied = apply(fleet.aws, make_plan(fleet.aws, wanted(group)))

    def leave() -> None:
        for thing in devices(group):
            fleet.aws.iot.remove_thing_from_thing_group(thingGroupName=group, thingName=thing)

    _, result = followed(fleet.aws, applied, Clock(leave), timeout_s=1000)
    assert (result.ending, result.failed, result.waiting) == (Ending.DONE, (), ())


def test_an_empty_group_has_nobody_to_wait_for(fleet: Fleet) -> None:
    fleet.add("empty")
    made = make_plan(fleet.aws, wanted("empty"))
    assert [one.code for one in made.findings] == ["NO_DEVICES"]
    seen, result = followed(fleet.aws, apply(fleet.aws, made), Clock())
    assert (result.ending, [one.total for one in seen]) == (Ending.DONE, [0])


def test_a_deployment_that_is_replaced_meanwhile_says_by_which(fleet: Fleet, group: str) -> None:
    applied = apply(fleet.aws, make_plan(fleet.aws, wanted(group)))
    later: list[str] = []
    clock = Clock(lambda: later.append(deploy(fleet.aws, wanted(group, "1.1.0")).deployment_id))
    _, result = followed(fleet.aws, applied, clock)
    assert (result.ending, result.superseded_by) == (Ending.SUPERSEDED, later[0])
    assert {one.status for one in result.failed} == {"CANCELED"}  # neither had begun


def test_a_deployment_that_is_canceled_ends(fleet: Fleet, group: str) -> None:
    applied = apply(fleet.aws, make_plan(fleet.aws, wanted(group)))
    fleet.report_job(devices(group)[0], applied.created.job_id, "IN_PROGRESS")
    clock = Clock(lambda: fleet.aws.greengrass.cancel_deployment(deploymentId=applied.created.deployment_id))
    _, result = followed(fleet.aws, applied, clock)
    assert result.ending is Ending.STOPPED
    assert not make_plan(fleet.aws, wanted(group)).is_empty  # devices that had not begun never got it


def test_a_single_thing_is_followed_by_its_shadow(fleet: Fleet, group: str) -> None:
    thing = devices(group)[0]
    applied = apply(fleet.aws, make_plan(fleet.aws, replace(wanted(group), target=f"thing/{thing}")))
    assert applied.created.job_id is None
    _, result = followed(fleet.aws, applied, Clock(), timeout_s=3)
    assert (result.ending, [one.status for one in result.waiting]) == (Ending.EXPIRED, ["QUEUED"])


def test_a_fleet_file_on_disk_is_deployed(fleet: Fleet, group: str, tmp_path: Path) -> None:
    from monodon.fleet import read_desired

    path = tmp_path / "fleet.json"
    request = {"targetArn": fleet.aws.group_arn(group), "components": {CAMERA: {"componentVersion": "1.0.0"}}}
    path.write_text(json.dumps(request))
    created = deploy(fleet.aws, read_desired(path))
    answer = fleet.aws.greengrass.get_deployment(deploymentId=created.deployment_id)
    assert answer["components"][CAMERA]["componentVersion"] == "1.0.0"

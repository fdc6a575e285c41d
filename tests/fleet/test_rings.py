"""Rollouts ring by ring on a real control plane, with devices that this test plays, and time that it owns."""

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.fleet.embedded import Fleet, embedded_fleet

from monodon.core.metrics import SHADOW, Report, shadow_update, summarize
from monodon.errors import FleetError
from monodon.fleet.deploying import apply, make_plan
from monodon.fleet.entries import Outcome
from monodon.fleet.following import Created
from monodon.fleet.happening import Event, Rolled
from monodon.fleet.ledger import Ledger
from monodon.fleet.live import live_deployment, members_of
from monodon.fleet.observing import MAX_ASKED, MAX_MEASURED, Observer, sample, stamped_reports
from monodon.fleet.patience import Patience
from monodon.fleet.reading import parse_desired
from monodon.fleet.rings import Rollout
from monodon.fleet.rollback import Way
from monodon.fleet.staging import deployed_targets

NAME = "com.example.Camera"
NUMBERS = itertools.count(1)
LATENCY = f"metrics: [{{component: {NAME}, metric: latency_ms, maxRatio: 1.2, minCount: 20}}]"


class Killed(BaseException):
    """What kill -9 is to a process: nothing of ours runs after it."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with embedded_fleet(tmp_path_factory.mktemp("cloud")) as fleet:
        fleet.publish(NAME, "1.0.0", {"threshold": 0.4})
        fleet.publish(NAME, "2.0.0", {"threshold": 0.5})
        yield fleet


class Scene:
    """Two groups of two devices; while anybody sleeps, devices answer and measure."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        number = next(NUMBERS)
        self.fleet, self.folder = fleet, folder
        self.groups = (f"canary-{number}", f"rest-{number}")
        for group in self.groups:
            fleet.add(group, f"{group}-a", f"{group}-b")
        self.arns = tuple(fleet.aws.group_arn(group) for group in self.groups)
        self.ledger = Ledger(fleet.aws, folder=folder / "ledger")
        self.now = 1000.0
        self.answered: dict[str, str] = {}
        self.silent: set[str] = set()
        self.failing: dict[str, str] = {}
        self.latency: Mapping[str, float] = {"1.0.0": 5.0, "2.0.0": 5.5}
        self.states: dict[str, str] = {}
        self.at_sleep: Callable[[], None] = lambda: None
        self.measured = itertools.count(1_700_000_000)
        self.lives: dict[str, Mapping[str, Any] | None] = {}
        events = fleet.aws.greengrass.meta.events
        events.register("after-call.greengrassv2.CreateDeployment", self._forget, unique_id="lives")
        self.members: dict[str, tuple[str, ...]] = {}
        self.told: dict[str, object] = {}

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.at_sleep()
        self.play()

    def play(self) -> None:
        for arn in self.arns:
            live = self.live(arn)
            if arn not in self.members:
                self.members[arn] = members_of(self.fleet.aws, arn)
            for thing in self.members[arn] if live is not None else ():
                if live is not None and thing not in self.silent:
                    self._answer(thing, live)

    def live(self, arn: str) -> Mapping[str, Any] | None:
        """What is live; asked for again only after somebody deployed."""
        if arn not in self.lives:
            self.lives[arn] = live_deployment(self.fleet.aws, arn)
        return self.lives[arn]

    def _forget(self, **_: Any) -> None:
        self.lives.clear()

    def close(self) -> None:
        """Cancel what is live: what later tests plan is not compared with it."""
        self.fleet.aws.greengrass.meta.events.unregister("after-call.greengrassv2.CreateDeployment", unique_id="lives")
        for arn in self.arns:
            for one in self.fleet.aws.greengrass.list_deployments(targetArn=arn)["deployments"]:
                if one["deploymentStatus"] == "ACTIVE":  # that of a single thing is over when the thing has it
                    self.fleet.aws.greengrass.cancel_deployment(deploymentId=one["deploymentId"])

    def _answer(self, thing: str, live: Mapping[str, Any]) -> None:
        part = live.get("components", {}).get(NAME)
        version = part["componentVersion"] if part else ""
        fails = self.failing.get(thing) == version
        if self.answered.get(thing) != live["deploymentId"]:
            status = "FAILED" if fails else "SUCCEEDED"
            if ":thing/" in live["targetArn"]:
                self._report_shadow(thing, status)
            else:
                self.fleet.report_job(thing, live["iotJobId"], status, cause="x" * fails)
            self.answered[thing] = live["deploymentId"]
        state = self.states.get(version, "RUNNING")
        news = (live["deploymentId"], state, fails, self.latency.get(version))
        if self.told.get(thing) == news:
            return
        self.told[thing] = news
        component = {"componentName": NAME, "version": version or "1.0.0", "fleetConfigArns": [], "isRoot": True}
        sequence = next(self.measured)
        self.fleet.report_health(
            thing,
            sequenceNumber=sequence,
            timestamp=sequence,
            components=[{**component, "status": state, "componentStatusDetails": None}],
        )
        if not fails and version in self.latency:
            summary = summarize("latency_ms", [self.latency[version]] * 50)
            report = Report(at_s=next(self.measured), since_s=1.0, metrics=(summary,))
            self.fleet.aws.data.update_thing_shadow(
                thingName=thing, shadowName=SHADOW, payload=shadow_update(NAME, report)
            )

    def _report_shadow(self, thing: str, status: str) -> None:
        """Say how the deployment of a single thing stands: there is no job."""
        place = {"thingName": thing, "shadowName": "AWSManagedGreengrassV2Deployment"}
        shadow = json.loads(self.fleet.aws.data.get_thing_shadow(**place)["payload"].read())
        arn = json.loads(shadow["state"]["desired"]["fleetConfig"])["configurationArn"]
        reported = {"fleetConfigurationArnForStatus": arn, "status": status, "statusDetails": {}}
        self.fleet.aws.data.update_thing_shadow(**place, payload=json.dumps({"state": {"reported": reported}}).encode())

    def desired(self, version: str = "2.0.0", gates: str = "", bake: float = 2, rest: str = "") -> Any:
        canary, others = self.groups
        return parse_desired(
            f"target: thinggroup/{others}\ncomponents: {{{NAME}: {{version: {version!r}}}}}\nrings:\n"
            f"- {{name: canary, target: thinggroup/{canary}, bakeSeconds: {bake}, gates: {{{gates}}}}}\n"
            f"- {{name: rest, target: thinggroup/{others}, bakeSeconds: {bake}, gates: {{{gates}}}}}\n{rest}",
            file="fleet.yaml",
        )

    def rollout(self, desired: Any, **options: Any) -> Rollout:
        return Rollout(
            self.fleet.aws,
            desired,
            self.ledger,
            **{"timeout_s": 60.0, **options},
            evidence=self.folder / "evidence",
            state=self.folder / "rings",
            clock=self.clock,
            sleep=self.sleep,
        )

    def roll(self, desired: Any, **options: Any) -> tuple[list[Event], Rolled]:
        running = self.rollout(desired, **options).run()
        events: list[Event] = []
        while True:
            try:
                events.append(next(running))
            except StopIteration as end:
                return events, end.value

    def kill_at(self, desired: Any, kind: str, count: int = 1) -> None:
        """Run, and stop for good after an event of a kind."""
        for event in self.rollout(desired).run():
            count -= event.kind == kind
            if not count:
                return
        raise AssertionError(f"no {kind}")

    def before(self) -> None:
        """Version 1.0.0 everywhere, good, with figures."""
        for arn in self.arns:
            part = {"componentVersion": "1.0.0", "configurationUpdate": {"merge": '{"fps":5}'}}
            request = {"targetArn": arn, "components": {NAME: part}}
            made = self.fleet.aws.greengrass.create_deployment(**request)
            created = Created(
                deployment_id=made["deploymentId"], target_arn=arn, job_id=made.get("iotJobId"), revision="1"
            )
            self.ledger.record(created, request, replaces=None)
            self.ledger.judge(arn, created.deployment_id, Outcome.GOOD)
        self.play()

    def versions(self) -> list[str]:
        lives = [self.live(arn) for arn in self.arns]
        return [live["components"][NAME]["componentVersion"] if live else "" for live in lives]

    def outcomes(self) -> list[list[str]]:
        return [[str(one.outcome) for one in self.ledger.read(arn)] for arn in self.arns]

    def evidence(self) -> dict[str, Any]:
        (path,) = (self.folder / "evidence").rglob("*.json")
        document: dict[str, Any] = json.loads(path.read_text())
        return document


@pytest.fixture
def scene(fleet: Fleet, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(fleet, tmp_path)
    yield scene
    scene.close()


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events if event.kind not in ("progress", "verdict")]


def test_ring_after_ring_each_after_its_bake(scene: Scene) -> None:
    scene.before()
    events, rolled = scene.roll(scene.desired(gates=LATENCY))
    assert rolled == Rolled()
    assert kinds(events) == ["plan", "plan", *["ring", "created", "baking", "promoted"] * 2]
    assert scene.versions() == ["2.0.0", "2.0.0"]
    assert scene.outcomes() == [["good", "good"]] * 2
    assert scene.now >= 1000 + 2 * 2
    again, rolled = scene.roll(scene.desired(gates=LATENCY))
    assert (rolled, kinds(again)) == (Rolled(), ["plan", "plan", "promoted", "promoted"])
    assert scene.outcomes() == [["good", "good"]] * 2


def test_a_canary_that_is_slower_goes_back_and_leaves_evidence(scene: Scene) -> None:
    scene.before()
    scene.latency = {"1.0.0": 5.0, "2.0.0": 50.0}
    events, rolled = scene.roll(scene.desired(gates=LATENCY))
    assert "latency_ms p95: 50 (100 measurements of 2 of 2 devices), baseline 5 (100 measurements)" in rolled.reason
    assert rolled.is_back
    assert scene.versions() == ["1.0.0", "1.0.0"]
    assert scene.outcomes() == [["good", "bad", "good"], ["good"]]
    assert kinds(events)[-3:] == ["plan", "rollback", "evidence"]
    readable, document = rolled.evidence
    text = readable.read_text()
    assert f"| {scene.groups[0]}-a | SUCCEEDED | {NAME} 2.0.0 RUNNING | 50 (of 50), 5 (of 50) |" in text
    assert "back to revision 1 by deployment" in text
    found = json.loads(document.read_text())
    assert found["rings"][0]["looks"][-1]["verdicts"][-1]["standing"] == "failed"
    assert found["rollbacks"][0]["succeeded"] == [f"{scene.groups[0]}-a", f"{scene.groups[0]}-b"]
    with pytest.raises(FleetError, match="had just this before, and it was rolled back"):
        scene.roll(scene.desired(gates=LATENCY))
    _, rolled = scene.roll(scene.desired(gates=LATENCY), again=True)
    assert rolled.is_back
    assert scene.outcomes() == [["good", "bad", "good", "bad", "good"], ["good"]]


def test_a_later_ring_that_fails_takes_all_rings_back_the_last_first(scene: Scene) -> None:
    scene.before()
    scene.failing = {f"{scene.groups[1]}-b": "2.0.0"}
    events, rolled = scene.roll(scene.desired())
    assert "ring rest is not healthy: 1 of 2 devices failed" in rolled.reason
    assert scene.versions() == ["1.0.0", "1.0.0"]
    assert scene.outcomes() == [["good", "bad", "good"]] * 2
    back = [event.details["target"] for event in events if event.kind == "rollback"]
    assert back == [f"thinggroup/{group}" for group in reversed(scene.groups)]
    part = live_deployment(scene.fleet.aws, scene.arns[0])
    assert part is not None
    assert part["components"][NAME]["configurationUpdate"]["merge"] == '{"fps":5}'


@pytest.mark.parametrize("where", ["canary", "rest"])
def test_figures_that_nobody_has_do_not_promote(scene: Scene, where: str) -> None:
    """Without a figure after the bake and its deadline, the ring has failed."""
    scene.before()
    scene.latency = {"1.0.0": 5.0} if where == "canary" else {"1.0.0": 5.0, "2.0.0": 5.0}
    if where == "rest":

        def vanish() -> None:
            if any(one.outcome is Outcome.GOOD for one in scene.ledger.read(scene.arns[0])[1:]):
                scene.latency = {}

        scene.at_sleep = vanish
    _, rolled = scene.roll(scene.desired(gates=f"{LATENCY}, deadlineSeconds: 6"))
    assert f"ring {where} is not healthy: not known after" in rolled.reason
    assert scene.versions() == ["1.0.0", "1.0.0"]
    assert scene.now >= 1006


def test_broken_components_fail_a_ring_though_deployments_succeeded(scene: Scene) -> None:
    scene.before()
    scene.states = {"2.0.0": "BROKEN"}
    _, rolled = scene.roll(scene.desired())
    assert f"maxBroken: BROKEN: {NAME} on" in rolled.reason
    assert scene.versions()[0] == "1.0.0"


def test_restarts_are_changes_of_state_that_aws_tells_of(scene: Scene) -> None:
    scene.before()
    states = itertools.cycle(["RUNNING", "ERRORED"])

    def flap() -> None:
        scene.states = {"2.0.0": next(states)}

    scene.at_sleep = flap
    _, rolled = scene.roll(scene.desired(gates="maxStateChanges: 2", bake=6))
    assert "changed its state 3 times; at most 2" in rolled.reason


def test_offline_devices_are_counted_apart(scene: Scene) -> None:
    """Queued is not failed; a device that was heard of lately is waited for, to the end of the time."""
    scene.before()
    away = f"{scene.groups[0]}-b"
    scene.silent = {away}
    _, rolled = scene.roll(scene.desired(), timeout_s=8.0)
    assert (rolled.reason, rolled.waiting) == ("", (away,))
    assert scene.now >= 1008
    assert scene.versions() == ["2.0.0", "2.0.0"]


def test_a_ring_of_which_nobody_answers_is_not_known(scene: Scene) -> None:
    scene.before()
    scene.silent = {f"{scene.groups[0]}-a", f"{scene.groups[0]}-b"}
    _, rolled = scene.roll(scene.desired(), timeout_s=8.0)
    assert "minDevices" in rolled.reason
    assert scene.versions() == ["1.0.0", "1.0.0"]
    assert set(rolled.waiting) == scene.silent


@pytest.mark.parametrize(
    ("kind", "count"),
    [("ring", 1), ("created", 1), ("baking", 1), ("promoted", 1), ("created", 2)],
)
def test_killed_anywhere_the_next_run_goes_on(scene: Scene, kind: str, count: int) -> None:
    scene.before()
    scene.kill_at(scene.desired(gates=LATENCY), kind, count)
    _, rolled = scene.roll(scene.desired(gates=LATENCY))
    assert rolled == Rolled()
    assert scene.versions() == ["2.0.0", "2.0.0"]
    assert scene.outcomes() == [["good", "good"]] * 2  # nothing was deployed twice


@pytest.mark.parametrize("kind", ["failed", "rollback"])
def test_killed_while_it_goes_back_the_next_run_goes_on_going_back(scene: Scene, kind: str) -> None:
    scene.before()
    scene.failing = {f"{scene.groups[1]}-b": "2.0.0"}
    rollout = scene.rollout(scene.desired()).run()
    for event in rollout:
        if event.kind == kind:
            if kind == "failed":  # once more: the rings are condemned, and nothing went back yet
                next(rollout)
            break
    events, rolled = scene.roll(scene.desired())
    assert "an earlier run was stopped" in rolled.reason
    assert "ring" not in kinds(events)
    assert scene.versions() == ["1.0.0", "1.0.0"]
    assert [len(one) for one in scene.outcomes()] == [3, 3]


def test_killed_between_the_call_and_the_ledger_nothing_is_deployed_twice(scene: Scene) -> None:
    scene.before()
    record = scene.ledger.record

    def killed(*arguments: Any, **members: Any) -> None:
        raise Killed

    scene.ledger.record = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        scene.roll(scene.desired())
    scene.ledger.record = record  # type: ignore[method-assign]
    scene.latency = {}
    scene.failing = {f"{scene.groups[0]}-a": "2.0.0"}
    _, rolled = scene.roll(scene.desired())
    assert rolled.is_back
    assert scene.outcomes()[0] == ["good", "bad", "good"]


def test_ctrl_c_while_a_ring_bakes_keeps_what_it_knows(scene: Scene) -> None:
    scene.before()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        for event in scene.rollout(scene.desired(gates=LATENCY)).run():
            if event.kind == "baking":
                scene.at_sleep = interrupt
    assert scene.versions() == ["2.0.0", "1.0.0"]
    assert scene.outcomes() == [["good", "unknown"], ["good"]]
    scene.at_sleep = lambda: None
    events, rolled = scene.roll(scene.desired(gates=LATENCY))
    assert rolled == Rolled()
    assert [event.details["is_new"] for event in events if event.kind == "created"] == [False, True]
    assert scene.outcomes() == [["good", "good"]] * 2


@pytest.mark.parametrize("fails", [False, True], ids=["good", "bad"])
def test_rings_of_things(scene: Scene, fails: bool) -> None:
    things = [f"{group}-a" for group in scene.groups]
    scene.arns = tuple(scene.fleet.aws.thing_arn(thing) for thing in things)
    scene.before()
    if fails:
        scene.failing = {things[1]: "2.0.0"}
    rings = "".join(f"- {{name: {thing}, target: thing/{thing}, bakeSeconds: 2}}\n" for thing in things)
    text = f"target: thing/{things[1]}\ncomponents: {{{NAME}: {{version: 2.0.0}}}}\nrings:\n{rings}"
    _, rolled = scene.roll(parse_desired(text, file="f"))
    assert (bool(rolled.reason), rolled.is_back) == (fails, fails)
    assert scene.versions() == ["1.0.0" if fails else "2.0.0"] * 2
    assert scene.outcomes() == [["good", "bad", "good"] if fails else ["good", "good"]] * 2


def test_a_range_means_the_same_in_every_ring(scene: Scene, fleet: Fleet) -> None:
    scene.before()
    name = f"com.example.Ranged{next(NUMBERS)}"
    fleet.publish(name, "1.0.0")
    text = f"components: {{{NAME}: {{version: 2.0.0}}, {name}: {{version: ^1.0.0}}}}"
    desired = parse_desired(
        f"target: thinggroup/x\n{text}\nrings:\n"
        + "".join(f"- {{name: {group}, target: thinggroup/{group}}}\n" for group in scene.groups),
        file="f",
    )
    scene.kill_at(desired, "promoted")
    fleet.publish(name, "1.1.0")
    scene.roll(desired)
    lives = [live_deployment(fleet.aws, arn) for arn in scene.arns]
    assert [live["components"][name]["componentVersion"] for live in lives if live] == ["1.0.0", "1.0.0"]
    scene.roll(desired)  # the rollout was over: now the range is read anew
    lives = [live_deployment(fleet.aws, arn) for arn in scene.arns]
    assert [live["components"][name]["componentVersion"] for live in lives if live] == ["1.1.0", "1.1.0"]


def test_somebody_elses_deployment_is_left_alone(scene: Scene) -> None:
    scene.before()
    theirs: list[str] = []

    def meddle() -> None:
        if not theirs and scene.versions()[0] == "2.0.0" and scene.answered.get(f"{scene.groups[0]}-b"):
            made = scene.fleet.aws.greengrass.create_deployment(targetArn=scene.arns[0], components={})
            theirs.append(made["deploymentId"])

    scene.at_sleep = meddle
    with pytest.raises(FleetError, match="somebody else deployed|was replaced meanwhile"):
        scene.roll(scene.desired(bake=4))
    live = live_deployment(scene.fleet.aws, scene.arns[0])
    assert live is not None
    assert live["deploymentId"] == theirs[0]


def test_nothing_is_deployed_if_a_later_rings_plan_has_errors(scene: Scene) -> None:
    scene.before()
    text = f"target: thinggroup/{scene.groups[1]}\ncomponents: {{{NAME}: {{}}, {NAME}2: {{version: 1.0.0}}}}"
    with pytest.raises(FleetError, match="nothing was deployed: ring canary"):
        scene.roll(parse_desired(f"{text}\nrings: [{{name: canary, target: thinggroup/{scene.groups[0]}}}]", file="f"))
    assert scene.outcomes() == [["good"], ["good"]]


def test_a_target_is_in_one_ring(scene: Scene) -> None:
    canary = scene.groups[0]
    text = f"target: thinggroup/{canary}\ncomponents: {{}}\nrings: [{{name: a, target: thinggroup/{canary}}}, "
    with pytest.raises(FleetError, match="is in two rings"):
        scene.roll(parse_desired(f"{text}{{name: b, targets: [thinggroup/{canary}]}}]", file="f"))


def test_a_partial_rollout_is_rolled_back_by_its_file(scene: Scene) -> None:
    scene.before()
    desired = scene.desired()
    scene.kill_at(desired, "promoted")
    assert scene.versions() == ["2.0.0", "1.0.0"]
    assert deployed_targets(scene.fleet.aws, desired, scene.ledger) == scene.arns[:1]
    way = Way(scene.fleet.aws, scene.ledger)
    way.apply(way.plan(scene.arns[0]))
    assert scene.versions() == ["1.0.0", "1.0.0"]
    with pytest.raises(FleetError, match="no target of the file's rings has what it says"):
        deployed_targets(scene.fleet.aws, desired, scene.ledger)


def test_a_canary_as_a_subdeployment_of_the_fleet(scene: Scene) -> None:
    """The canary's devices are the fleet's, too: both deployments are one to them, so they are no conflict."""
    scene.before()
    for thing in members_of(scene.fleet.aws, scene.arns[0]):
        scene.fleet.aws.iot.add_thing_to_thing_group(thingGroupName=scene.groups[1], thingName=thing)
    group = f"sub-{next(NUMBERS)}"
    scene.fleet.aws.iot.create_thing_group(thingGroupName=group)
    for thing in members_of(scene.fleet.aws, scene.arns[0]):
        scene.fleet.aws.iot.add_thing_to_thing_group(thingGroupName=group, thingName=thing)
    scene.fleet.aws.greengrass.create_deployment(targetArn=scene.arns[0], components={})
    scene.arns = (scene.fleet.aws.group_arn(group), scene.arns[1])
    scene.failing = {f"{scene.groups[0]}-a": "2.0.0"}
    desired = parse_desired(
        f"target: thinggroup/{scene.groups[1]}\ncomponents: {{{NAME}: {{version: 2.0.0}}}}\n"
        f"parentTarget: thinggroup/{scene.groups[1]}\nrings:\n- {{name: canary, target: thinggroup/{group}}}\n"
        f"- {{name: rest, target: thinggroup/{scene.groups[1]}}}\n",
        file="f",
    )
    _, rolled = scene.roll(desired)
    assert rolled.is_back
    live = live_deployment(scene.fleet.aws, scene.arns[0])
    assert live is not None
    assert live["parentTargetArn"] == scene.arns[1]
    assert scene.versions() == ["1.0.0", "1.0.0"]


# Looking


@pytest.mark.parametrize(
    "reported",
    [
        {NAME: {"at": 1e999, "since": 1, "metrics": []}},
        {NAME: {"at": 1, "since": 1, "metrics": [{"name": "latency_ms", "count": 1e300, "mean": "nan"}]}},
        {NAME: "garbage"},
        {"x" * 300: {"at": True, "since": [], "metrics": {}}},
    ],
)
def test_garbage_in_the_shadow_was_not_measured(scene: Scene, reported: Any) -> None:
    thing = f"{scene.groups[0]}-a"
    payload = json.dumps({"state": {"reported": reported}}).replace("Infinity", "1e999")
    with contextlib.suppress(ClientError):  # the cloud does not take all of it
        scene.fleet.aws.data.update_thing_shadow(thingName=thing, shadowName=SHADOW, payload=payload.encode())
    seen = stamped_reports(scene.fleet.aws, thing)
    assert all(report.metric("latency_ms") is None for report, _ in seen.values())


def test_of_many_devices_the_same_few_are_measured() -> None:
    things = [f"thing-{number:05d}" for number in range(10_001)]
    chosen = sample(things)
    assert (len(chosen), len(set(chosen)), chosen[0]) == (MAX_MEASURED, MAX_MEASURED, things[0])
    assert sample(things) == chosen
    assert sample(things[:3]) == tuple(things[:3])


def test_a_look_costs_no_call_for_each_device(scene: Scene) -> None:
    group, count = f"crowd-{next(NUMBERS)}", MAX_ASKED + 3
    things = [f"{group}-{number:02d}" for number in range(count)]
    scene.fleet.add(group, *things)
    scene.arns = (scene.fleet.aws.group_arn(group),)
    text = f"target: thinggroup/{group}\ncomponents: {{{NAME}: {{version: 1.0.0}}}}"
    created = apply(scene.fleet.aws, make_plan(scene.fleet.aws, parse_desired(text, file="f"))).created
    scene.play()
    observer = Observer(scene.fleet.aws, [created], [NAME], patience=Patience())
    assert [one.components[NAME].state for one in observer.look()] == ["RUNNING"] * count
    broken = {"componentName": NAME, "version": "1.0.0", "status": "BROKEN", "fleetConfigArns": [], "isRoot": True}
    moment = next(scene.measured)
    scene.fleet.report_health(things[3], sequenceNumber=moment, timestamp=moment, components=[broken])
    with scene.fleet.calls() as sent:
        seen = observer.look(whole=False)
    assert [one.thing for one in seen if one.components[NAME].state == "BROKEN"] == [things[3]]
    assert [one.reports[NAME].metric("latency_ms") is not None for one in seen] == [True] * count
    assert Counter(sent) == {
        "ListJobExecutionsForJob": 1,
        "ListCoreDevices": 1,
        "ListInstalledComponents": 1,
        "GetThingShadow": MAX_ASKED,
    }

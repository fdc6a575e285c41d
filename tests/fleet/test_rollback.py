"""Going back: what devices have is what they had, whatever came in between; by the ledger, on a real control plane."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.embedded import Fleet, embedded_fleet
from tests.fleet.worlds import GROUP, recipe

from monodon.core.configuration import EMPTY
from monodon.core.json import Json
from monodon.core.recipe.model import Recipe
from monodon.errors import FleetError
from monodon.fleet.configuring import defaults_of, on_device
from monodon.fleet.content import Content, Part
from monodon.fleet.deploying import apply, make_plan
from monodon.fleet.entries import Outcome
from monodon.fleet.ledger import Ledger
from monodon.fleet.reading import parse_desired
from monodon.fleet.returning import Return, returned, states
from monodon.fleet.rollback import Way

NAME = "com.example.Camera"
DEFAULTS: Mapping[str, Mapping[str, Json]] = {
    "1.0.0": {"threshold": 0.4, "topic": "seen", "lens": {"zoom": 1}},
    "1.1.0": {"threshold": 0.5, "topic": "seen", "fps": 5},
}


def recipes(name: str, version: str) -> Recipe | None:
    return recipe(name, version, DEFAULTS[version])


def revision(version: str = "1.0.0", reset: Sequence[str] = (), **merge: Json) -> Content:
    return Content(target_arn=GROUP, components={NAME: Part(version=version, merge=merge, reset=tuple(reset))})


def back(*revisions: Content, to: int = 0) -> tuple[Part, Return]:
    """Go back, and see that devices that have any of the revisions since come out alike."""
    followed = states(revisions, recipes)
    found = returned(followed, to, recipes)
    part = found.content.components[NAME]
    if not found.stays:
        for start in followed[to:]:
            running = start.configurations.get(NAME, EMPTY)
            after = on_device(running, defaults_of(recipes(NAME, part.version)), part, 1_000_000)
            assert after.value() == followed[to].configurations[NAME].value()
    return part, found


def test_a_key_that_was_merged_later_is_reset() -> None:
    part, found = back(revision(labels=["narwhal"]), revision(labels=["narwhal"], night=True))
    assert (part.merge, part.reset) == ({"labels": ["narwhal"]}, ("/night",))
    assert found.stays == ()


def test_a_default_that_was_merged_over_comes_back_by_a_reset() -> None:
    part, _ = back(revision(), revision(threshold=0.9, lens={"zoom": 4, "hood": True}))
    assert (part.merge, part.reset) == ({}, ("/lens/hood", "/lens/zoom", "/threshold"))


def test_what_an_earlier_revision_merged_and_this_one_did_not_is_merged_again() -> None:
    """The value 0.7 was on devices by a revision before the good one: neither its merge nor a default has it."""
    part, _ = back(revision(threshold=0.7), revision(labels=["a"]), revision(threshold=0.9), to=1)
    assert part.merge == {"labels": ["a"], "threshold": 0.7}


def test_an_old_versions_default_that_stayed_is_merged_again() -> None:
    part, _ = back(revision("1.0.0"), revision("1.1.0"), revision("1.1.0", threshold=0.9), to=1)
    assert part.merge == {"threshold": 0.4}


def test_a_new_versions_default_leaves_with_it() -> None:
    part, _ = back(revision("1.0.0"), revision("1.1.0"))
    assert (part.version, part.merge, part.reset) == ("1.0.0", {}, ("/fps",))


def test_a_branch_in_place_of_a_leaf_and_the_other_way_round() -> None:
    part, _ = back(revision(a={"b": 1}, c=2), revision(a=5, c={"d": 3}))
    assert part.merge == {"a": {"b": 1}, "c": 2}
    back(revision(), revision(lens=3))
    back(revision(a={}), revision(a={"x": 1}))


def test_keys_of_digits_go_with_the_branch_above_and_the_rest_of_it_is_merged_again() -> None:
    part, found = back(revision(pins={"x": 1}), revision(pins={"x": 1, "7": "high"}))
    assert (part.merge, part.reset) == ({"pins": {"x": 1}}, ("/pins",))
    assert found.stays == ()
    _, found = back(revision(), revision(**{"7": "high"}))
    assert found.stays == ((NAME, "/7"),)


def test_keys_are_known_without_regard_to_case() -> None:
    part, _ = back(revision(Threshold=0.6), revision(THRESHOLD=0.9, Night=1))
    assert part.reset == ("/Night",)


def test_devices_that_missed_a_revision_come_out_alike() -> None:
    """One went straight from the first to the third, one went back from the third by itself."""
    back(revision(a=1), revision(a=2, b=1), revision(a=3, c=1))


def test_a_component_that_had_left_comes_back_as_it_was() -> None:
    part, _ = back(revision(threshold=0.7), revision(labels=["a"]), Content(target_arn=GROUP), to=1)
    assert part.merge == {"labels": ["a"], "threshold": 0.7}


KEYS = st.sampled_from(["a", "b", "threshold", "lens", "zoom", "Topic", "fps"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.just([1]),
    lambda inner: st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)
REVISIONS = st.builds(
    lambda version, merge, reset: revision(version, reset, **merge),
    st.sampled_from(["1.0.0", "1.1.0"]),
    st.dictionaries(KEYS, VALUES, max_size=3),
    st.lists(st.sampled_from(["/a", "/lens", "/lens/zoom", "/threshold", "/b/a"]), max_size=2, unique=True),
)


@given(st.lists(REVISIONS, min_size=2, max_size=4), st.data())
def test_any_history_is_gone_back_in(revisions: list[Content], data: st.DataObject) -> None:
    to = data.draw(st.integers(0, len(revisions) - 2))
    _, found = back(*revisions, to=to)
    assert found.stays == ()


# On a control plane


NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with embedded_fleet(tmp_path_factory.mktemp("cloud")) as fleet:
        for version, defaults in DEFAULTS.items():
            fleet.publish(NAME, version, defaults)
        yield fleet


Deploy = Callable[..., str]


class Scene:
    """A group with a ledger."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        number = next(NUMBERS)
        self.fleet = fleet
        self.group = f"back-{number}"
        fleet.add(self.group, f"returning-{number}")
        self.arn = fleet.aws.group_arn(self.group)
        self.ledger = Ledger(fleet.aws, folder=folder)

    def deploy(self, text: str, outcome: Outcome = Outcome.GOOD) -> str:
        plan = make_plan(self.fleet.aws, parse_desired(f"target: thinggroup/{self.group}\n{text}", file="f"))
        assert plan.errors == ()
        created = apply(self.fleet.aws, plan).created
        self.ledger.record(created, plan.request, replaces=plan.replaces)
        if outcome is not Outcome.UNKNOWN:
            self.ledger.judge(created.target_arn, created.deployment_id, outcome)
        return created.deployment_id

    def way(self) -> Way:
        return Way(self.fleet.aws, self.ledger)

    def live(self) -> str:
        listed = self.fleet.aws.greengrass.list_deployments(targetArn=self.arn)["deployments"]
        return str(listed[0]["deploymentId"])


@pytest.fixture
def scene(fleet: Fleet, tmp_path: Path) -> Scene:
    return Scene(fleet, tmp_path)


FIRST = f"""\
name: first
components: {{{NAME}: {{version: 1.0.0, merge: {{labels: [a]}}, runWith: {{posixUser: ggc_user}}}}}}
onFailure: DO_NOTHING
updatePolicy: {{action: SKIP_NOTIFY_COMPONENTS, timeoutInSeconds: 10}}
validationTimeoutInSeconds: 7
rollout: {{maximumPerMinute: 50}}
abort: {{criteriaList: [{{failureType: ALL, action: CANCEL, thresholdPercentage: 10, minNumberOfExecutedThings: 5}}]}}
timeout: {{inProgressTimeoutInMinutes: 30}}
tags: {{owner: narwhals}}
"""
SECOND = f"""\
name: second
components: {{{NAME}: {{version: 1.1.0, merge: {{labels: [b], night: true}}, runWith: {{posixUser: root}}}}}}
onFailure: ROLLBACK
updatePolicy: {{action: NOTIFY_COMPONENTS, timeoutInSeconds: 20}}
validationTimeoutInSeconds: 9
rollout: {{maximumPerMinute: 60}}
abort: {{}}
timeout: {{inProgressTimeoutInMinutes: 40}}
tags: {{owner: belugas, more: yes-please}}
"""


@pytest.mark.parametrize("lost", ["nothing", "file", "tags"])
def test_every_field_comes_back_in_one_step(scene: Scene, lost: str) -> None:
    first = scene.deploy(FIRST)
    second = scene.deploy(SECOND, Outcome.UNKNOWN)
    wanted = scene.fleet.aws.greengrass.get_deployment(deploymentId=first)
    if lost == "file":
        scene.ledger.file(scene.arn).unlink()
    if lost == "tags":
        scene.fleet.aws.iot.untag_resource(resourceArn=scene.arn, tagKeys=["monodon:revision-1", "monodon:revision-2"])
    found = scene.way().plan(f"thinggroup/{scene.group}")
    assert (found.plan.replaces, found.plan.errors, found.to and found.to.deployment_id) == (second, (), first)
    applied = scene.way().apply(found)
    made = scene.fleet.aws.greengrass.get_deployment(deploymentId=applied.created.deployment_id)
    update = made["components"][NAME].pop("configurationUpdate")
    before = wanted["components"][NAME].pop("configurationUpdate")
    assert update == {**before, "reset": ["/fps", "/night"]}
    for key in ("deploymentName", "components", "deploymentPolicies", "iotJobConfiguration", "tags"):
        assert made[key] == wanted[key], key
    entries = scene.ledger.read(scene.arn)
    assert [str(one.outcome) for one in entries] == ["good", "bad", "unknown"]
    assert entries[-1].note == f"back to revision 1 ({first})"


def test_an_interrupted_rollback_is_found_again_and_goes_no_further(scene: Scene) -> None:
    scene.deploy(f"components: {{{NAME}: {{version: 1.0.0, merge: {{zero: 0}}}}}}")
    scene.deploy(f"components: {{{NAME}: {{version: 1.0.0, merge: {{a: 1}}, reset: [/zero]}}}}")
    scene.deploy(f"components: {{{NAME}: {{version: 1.1.0, merge: {{a: 2}}}}}}", Outcome.UNKNOWN)
    made = scene.way().apply(scene.way().plan(f"thinggroup/{scene.group}"))
    again = scene.way().plan(f"thinggroup/{scene.group}")
    assert again.plan.is_empty
    assert again.to is not None
    assert again.to.revision == "2"
    applied = scene.way().apply(again)
    assert (applied.is_new, applied.created.deployment_id) == (False, made.created.deployment_id)
    scene.ledger.judge(scene.arn, made.created.deployment_id, Outcome.GOOD)
    further = scene.way().plan(f"thinggroup/{scene.group}")  # seen to its end, it is a revision like any
    assert further.to is not None
    assert further.to.revision == "1"


def test_a_rollback_that_was_cut_off_before_the_call_goes_on(scene: Scene) -> None:
    first = scene.deploy(FIRST)
    bad = scene.deploy(SECOND)
    scene.ledger.judge(scene.arn, bad, Outcome.BAD)
    found = scene.way().plan(f"thinggroup/{scene.group}")
    assert found.to is not None
    assert found.to.deployment_id == first


def test_one_may_choose_where_to_go(scene: Scene) -> None:
    first = scene.deploy(FIRST, Outcome.BAD)
    scene.deploy(SECOND)
    scene.deploy(f"components: {{{NAME}: {{merge: {{c: 1}}}}}}")
    for to in ("1", first):
        found = scene.way().plan(f"thinggroup/{scene.group}", to=to)
        assert found.to is not None
        assert found.to.deployment_id == first
    with pytest.raises(FleetError, match="has no revision or deployment '17'"):
        scene.way().plan(f"thinggroup/{scene.group}", to="17")
    assert scene.way().plan(f"thinggroup/{scene.group}", to="3").plan.is_empty


def test_without_a_good_revision_nothing_is_guessed(scene: Scene) -> None:
    with pytest.raises(FleetError, match="has no deployment"):
        scene.way().plan(f"thinggroup/{scene.group}")
    scene.deploy(FIRST, Outcome.UNKNOWN)
    scene.deploy(SECOND, Outcome.UNKNOWN)
    with pytest.raises(FleetError, match="knows no good revision") as refused:
        scene.way().plan(f"thinggroup/{scene.group}")
    assert "--to REVISION" in str(refused.value.hint)


def test_planning_to_go_back_only_reads(scene: Scene) -> None:
    from tests.fleet.embedded import WRITES

    scene.deploy(FIRST)
    scene.deploy(SECOND)
    with scene.fleet.calls() as sent:
        scene.way().plan(f"thinggroup/{scene.group}")
    assert not [operation for operation in sent if operation.startswith(WRITES)]


def test_before_the_first_deployment_there_was_nothing(scene: Scene) -> None:
    scene.deploy(FIRST)
    found = scene.way().plan_before(scene.arn, None)
    assert found.plan.request["components"] == {}
    applied = scene.way().apply(found)
    made = scene.fleet.aws.greengrass.get_deployment(deploymentId=applied.created.deployment_id)
    assert not made.get("components")


def test_a_first_subdeployment_goes_back_to_what_its_parent_has(scene: Scene, tmp_path: Path) -> None:
    scene.deploy(f"components: {{{NAME}: {{version: 1.0.0, merge: {{a: 1}}}}}}")
    child = Scene(scene.fleet, tmp_path)
    child.deploy(f"components: {{{NAME}: {{version: 1.1.0, merge: {{a: 2}}}}}}\nparentTarget: {scene.arn}")
    found = child.way().plan_before(child.arn, None)
    part = found.plan.request["components"][NAME]
    assert part["componentVersion"] == "1.0.0"
    assert part["configurationUpdate"] == {"merge": '{"a":1}', "reset": ["/fps", "/threshold"]}
    assert found.plan.request["parentTargetArn"] == scene.arn
    assert child.way().apply(found).is_new

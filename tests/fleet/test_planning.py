"""A plan says what would change, carries over what is not named, and names what speaks against it."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fleet.worlds import (
    GROUP,
    NOW_S,
    codes,
    deployment,
    device,
    live,
    live_of,
    planned,
    published,
    recipe,
    told,
    version,
)

from monodon.core.json import Json
from monodon.core.semver import Version
from monodon.errors import FleetError
from monodon.fleet.configuring import foretell, kept_defaults, resets_for
from monodon.fleet.content import Content, Part, content_of, is_same
from monodon.fleet.exporting import written
from monodon.fleet.known import Live, Other, Published
from monodon.fleet.planned import Difference, Kind, Plan, Severity, read_plan
from monodon.fleet.reading import parse_desired

CAMERA = "com.example.Camera"
MODEL = "com.example.Model"
OLD = recipe(CAMERA, "1.0.0", {"threshold": 0.4, "topic": "seen", "gone": 1})
NEW = recipe(CAMERA, "2.0.0", {"threshold": 0.5, "topic": "seen", "fps": 10})
CONTENT = Content(
    target_arn=GROUP,
    name="drones",
    components={
        CAMERA: Part(
            version="1.0.0",
            merge={"labels": ["narwhal"], "limits": {"cpu": 1, "memory": 2}},
            run_with={"posixUser": "ggc_user", "systemResourceLimits": {"cpus": 0.5}},
        ),
        MODEL: Part(version="1.0.0"),
    },
    policies={"failureHandlingPolicy": "DO_NOTHING", "componentUpdatePolicy": {"timeoutInSeconds": 9}},
    job={"jobExecutionsRolloutConfig": {"maximumPerMinute": 5}, "timeoutConfig": {"inProgressTimeoutInMinutes": 7}},
    tags={"owner": "narwhals"},
    parent_arn="arn:aws:iot:eu-west-1:123456789012:thinggroup/fleet",
)
COMPONENTS = {CAMERA: published(OLD, OLD), MODEL: published(recipe(MODEL, "1.0.0"), recipe(MODEL, "1.0.0"))}
BOTH = f"components: {{{CAMERA}: {{}}, {MODEL}: {{}}}}"


def world(**members: Any) -> Live:
    return live_of(CONTENT, COMPONENTS, **members)


def upgrade(**members: Any) -> Live:
    return live_of(CONTENT, {**COMPONENTS, CAMERA: published(NEW, OLD)}, **members)


# What changes


def test_what_is_not_named_stays_as_it_is_live() -> None:
    made = planned(BOTH, world())
    assert made.is_empty
    assert is_same(content_of(made.request), content_of(deployment(CONTENT.request())))
    assert (made.replaces, made.revision) == ("11111111-1111-1111-1111-111111111111", "3")


def test_a_key_of_the_configuration_changes_alone() -> None:
    made = planned(f"components: {{{CAMERA}: {{merge: {{limits: {{cpu: 3}}}}}}, {MODEL}: {{}}}}", world())
    assert told(made) == [("changed", CAMERA, "configuration", "/limits/cpu", 1, 3)]
    merge = json.loads(made.request["components"][CAMERA]["configurationUpdate"]["merge"])
    assert merge == {"labels": ["narwhal"], "limits": {"cpu": 3, "memory": 2}}
    assert made.request["components"][CAMERA]["runWith"] == dict(CONTENT.components[CAMERA].run_with)


def test_keys_match_as_a_device_matches_them() -> None:
    made = planned(f"components: {{{CAMERA}: {{merge: {{Labels: [orca]}}}}, {MODEL}: {{}}}}", world())
    assert told(made) == [("changed", CAMERA, "configuration", "/labels", ["narwhal"], ["orca"])]
    merge = made.request["components"][CAMERA]["configurationUpdate"]["merge"]
    assert json.loads(merge)["labels"] == ["orca"]


def test_a_reset_takes_its_key_out_of_the_merge_and_off_the_devices() -> None:
    made = planned(f"components: {{{CAMERA}: {{reset: [/limits/cpu, /threshold]}}, {MODEL}: {{}}}}", world())
    assert told(made) == [
        ("removed", CAMERA, "configuration", "/limits/cpu", 1, None),
        ("added", CAMERA, "reset", "", [], ["/limits/cpu", "/threshold"]),
    ]
    update = made.request["components"][CAMERA]["configurationUpdate"]
    assert json.loads(update["merge"]) == {"labels": ["narwhal"], "limits": {"memory": 2}}
    assert update["reset"] == ["/limits/cpu", "/threshold"]


def test_a_live_reset_is_carried_over_until_it_is_dropped() -> None:
    part = Part(version="1.0.0", reset=("/gone",))
    before = live_of(Content(target_arn=GROUP, components={CAMERA: part}), {CAMERA: published(OLD, OLD)})
    assert planned(f"components: {{{CAMERA}: {{}}}}", before).is_empty
    made = planned(f"components: {{{CAMERA}: {{reset: []}}}}", before)
    assert ("removed", CAMERA, "reset", "", ["/gone"], []) in told(made)


def test_a_merge_that_changes_nothing_on_devices_is_still_a_change() -> None:
    """Who joins later gets it, whatever the defaults then are."""
    made = planned(f"components: {{{CAMERA}: {{merge: {{threshold: 0.4}}}}, {MODEL}: {{}}}}", world())
    assert told(made) == [("added", CAMERA, "merge", "/threshold", None, 0.4)]


@pytest.mark.parametrize(
    ("text", "difference"),
    [
        ("name: whales", ("changed", None, "name", "", "drones", "whales")),
        ("onFailure: ROLLBACK", ("changed", None, "onFailure", "", "DO_NOTHING", "ROLLBACK")),
        (
            "updatePolicy: {timeoutInSeconds: 10}",
            (
                *("changed", None, "updatePolicy", ""),
                {"timeoutInSeconds": 9, "action": "NOTIFY_COMPONENTS"},
                {"timeoutInSeconds": 10, "action": "NOTIFY_COMPONENTS"},
            ),
        ),
        (
            "validationTimeoutInSeconds: 5",
            (
                *("changed", None, "validationTimeoutInSeconds", ""),
                {"timeoutInSeconds": 30},
                {"timeoutInSeconds": 5},
            ),
        ),
        (
            "rollout: {maximumPerMinute: 6}",
            ("changed", None, "rollout", "", {"maximumPerMinute": 5}, {"maximumPerMinute": 6}),
        ),
        ("rollout: {}", ("removed", None, "rollout", "", {"maximumPerMinute": 5}, None)),
        (
            "abort: {criteriaList: []}",
            ("added", None, "abort", "", None, {"criteriaList": []}),
        ),
        ("tags: {owner: orcas}", ("changed", None, "tags.owner", "", "narwhals", "orcas")),
        ("tags: {}", ("removed", None, "tags.owner", "", "narwhals", None)),
        (
            'parentTarget: ""',
            ("removed", None, "parentTarget", "", "arn:aws:iot:eu-west-1:123456789012:thinggroup/fleet", None),
        ),
    ],
)
def test_a_setting_changes_alone(text: str, difference: tuple[Any, ...]) -> None:
    made = planned(f"{BOTH}\n{text}", world())
    assert told(made) == [difference]
    assert content_of(made.request).components == CONTENT.components


def test_run_with_changes_key_by_key() -> None:
    made = planned(f"components: {{{CAMERA}: {{runWith: {{posixUser: root}}}}, {MODEL}: {{}}}}", world())
    assert told(made) == [("changed", CAMERA, "runWith.posixUser", "", "ggc_user", "root")]
    assert made.request["components"][CAMERA]["runWith"]["systemResourceLimits"] == {"cpus": 0.5}
    dropped = planned(f"components: {{{CAMERA}: {{runWith: {{}}}}, {MODEL}: {{}}}}", world())
    assert "runWith" not in dropped.request["components"][CAMERA]


def test_a_new_component_is_told_with_its_configuration() -> None:
    made = planned(
        f"components: {{{CAMERA}: {{version: 2.0.0, merge: {{fps: 5}}}}}}", live(None, {CAMERA: published(NEW)})
    )
    assert told(made) == [
        ("added", CAMERA, "component", "", None, "2.0.0"),
        ("added", CAMERA, "configuration", "/fps", None, 5),
    ]
    assert made.replaces is None
    assert made.request == {
        "targetArn": GROUP,
        "components": {CAMERA: {"componentVersion": "2.0.0", "configurationUpdate": {"merge": '{"fps":5}'}}},
    }


def test_a_component_that_is_not_named_is_not_removed_by_accident() -> None:
    made = planned(f"components: {{{CAMERA}: {{}}}}", world())
    assert told(made) == [("removed", MODEL, "component", "", "1.0.0", None)]
    (finding,) = made.errors
    assert (finding.code, finding.message) == ("REMOVES", f"1 component would be removed: {MODEL} 1.0.0")
    assert planned(f"components: {{{CAMERA}: {{}}}}", world(), allow=["REMOVES"]).errors == ()


@pytest.mark.parametrize("status", ["CANCELED", "FAILED"])
def test_a_deployment_that_ended_early_is_worth_another(status: str) -> None:
    made = planned(BOTH, live(deployment(CONTENT.request(), deploymentStatus=status), COMPONENTS))
    assert told(made) == [("changed", None, "deployment", "", status, "ACTIVE")]


def test_the_same_again_only_if_it_is_asked_for() -> None:
    assert not planned(BOTH, world(), again=True).is_empty


# What speaks against it


def test_defaults_that_will_not_arrive_are_named_with_the_reset_that_brings_them() -> None:
    made = planned(f"components: {{{CAMERA}: {{version: 2.0.0}}, {MODEL}: {{}}}}", upgrade())
    assert told(made) == [
        ("changed", CAMERA, "version", "", "1.0.0", "2.0.0"),
        ("added", CAMERA, "configuration", "/fps", None, 10),
    ]
    kept, stays = (finding for finding in made.findings if finding.code in ("DEFAULTS_KEPT", "KEYS_KEPT"))
    assert kept.severity is Severity.WARNING
    assert kept.hint == f'to bring them, write components.{CAMERA}.reset: ["/threshold"]'
    assert [(one.pointer, one.old, one.new) for one in kept.details] == [("/threshold", 0.4, 0.5)]
    assert [(one.pointer, one.old) for one in stays.details] == [("/gone", 1)]
    mended = planned(f"components: {{{CAMERA}: {{version: 2.0.0, reset: [/threshold]}}, {MODEL}: {{}}}}", upgrade())
    assert "DEFAULTS_KEPT" not in codes(mended)
    assert ("changed", CAMERA, "configuration", "/threshold", 0.4, 0.5) in told(mended)


def test_a_default_that_is_merged_anyway_is_not_missed() -> None:
    text = f"components: {{{CAMERA}: {{version: 2.0.0, merge: {{threshold: 0.7}}}}, {MODEL}: {{}}}}"
    assert "DEFAULTS_KEPT" not in codes(planned(text, upgrade()))


def test_access_control_is_a_default_like_any_other() -> None:
    def granting(number: str, topics: list[str]) -> Published:
        policy = {"com.example:1": {"operations": ["aws.greengrass#PublishToTopic"], "resources": topics}}
        return published(recipe(CAMERA, number, {"accessControl": {"aws.greengrass.ipc.pubsub": policy}}))

    before, after = granting("1.0.0", ["a"]), granting("1.1.0", ["a", "b"])
    content = Content(target_arn=GROUP, components={CAMERA: Part(version="1.0.0")})
    made = planned(
        f"components: {{{CAMERA}: {{version: 1.1.0}}}}",
        live_of(content, {CAMERA: Published(chosen=after.chosen, live=before.chosen)}),
    )
    (kept,) = (finding for finding in made.findings if finding.code == "DEFAULTS_KEPT")
    pointer = "/accessControl/aws.greengrass.ipc.pubsub/com.example:1/resources"
    assert kept.hint == f'to bring them, write components.{CAMERA}.reset: ["{pointer}"]'


def test_the_reset_of_a_key_of_digits_names_the_key_above_it() -> None:
    """A device refuses a pointer with a segment that could be an index."""
    details = [
        Difference(kind=Kind.CHANGED, what="default", pointer="/labels/0/name", old=1, new=2),
        Difference(kind=Kind.CHANGED, what="default", pointer="/labels/x", old=1, new=2),
        Difference(kind=Kind.CHANGED, what="default", pointer="/7", old=1, new=2),
    ]
    assert resets_for(details) == (("/labels",), ("/7",))


VERSIONS = [
    ({"state": "FAILED", "errors": {"s3://b/k": "no such key"}}, "NOT_DEPLOYABLE", Severity.ERROR),
    ({"state": "REQUESTED"}, "NOT_DEPLOYABLE", Severity.ERROR),
    ({"state": "DEPRECATED"}, "NOT_DEPLOYABLE", Severity.ERROR),
    ({"guidance": "DISCONTINUED", "guidance_message": "use 3"}, "DISCONTINUED", Severity.WARNING),
    ({"guidance": "DELETED"}, "DELETED", Severity.ERROR),
]


@pytest.mark.parametrize(
    ("members", "code", "severity"), VERSIONS, ids=[one[1] + str(i) for i, one in enumerate(VERSIONS)]
)
def test_a_version_that_cannot_be_deployed_is_named(members: dict[str, Any], code: str, severity: Severity) -> None:
    made = planned(f"components: {{{CAMERA}: {{version: 2.0.0}}}}", live(None, {CAMERA: published(NEW, **members)}))
    (finding,) = (one for one in made.findings if one.code == code)
    assert finding.severity is severity
    assert f"{CAMERA} 2.0.0" in finding.message


def test_a_version_that_is_not_there_is_named_with_those_that_are() -> None:
    there = Published(versions=(OLD.version,))
    made = planned(
        f"components: {{{CAMERA}: {{version: 9.0.0}}, {MODEL}: {{}}}}", live_of(CONTENT, {**COMPONENTS, CAMERA: there})
    )
    (finding,) = made.errors
    assert (finding.code, finding.message) == ("NO_SUCH_VERSION", f"there is no version 9.0.0 of {CAMERA}")
    assert finding.hint == "published are 1.0.0"
    assert made.request["components"][CAMERA]["componentVersion"] == "1.0.0"  # and nothing looks removed


def test_a_range_without_a_deployable_version_says_what_was_tried() -> None:
    there = Published(tried=(version(NEW, state="FAILED"),), versions=(NEW.version,))
    made = planned(f"components: {{{CAMERA}: {{version: ^2.0.0}}}}", live(None, {CAMERA: there}))
    assert made.errors[0].message == f"no deployable version of {CAMERA} fits ^2.0.0: 2.0.0 is FAILED"


def test_a_component_without_version_must_be_live() -> None:
    made = planned(f"components: {{{CAMERA}: {{}}}}", live(None, {CAMERA: Published()}))
    assert codes(made)[0] == "NO_VERSION"


def test_going_back_is_told() -> None:
    content = Content(target_arn=GROUP, components={CAMERA: Part(version="2.0.0")})
    made = planned(f"components: {{{CAMERA}: {{version: 1.0.0}}}}", live_of(content, {CAMERA: published(OLD, NEW)}))
    assert "DOWNGRADE" in codes(made)


@pytest.mark.parametrize(
    ("platform", "reported", "is_found"),
    [
        ({"os": "linux", "architecture": "aarch64"}, {}, True),
        ({"os": "linux"}, {}, False),
        ({"os": "/linux|darwin/"}, {}, False),
        ({"os": "linux", "architecture.detail": "armv7l"}, {}, False),  # devices do not report it
        ({"os": "windows"}, {"platform": "", "architecture": ""}, False),  # nor this one anything
        ({"os": "linux", "runtime": "aws_nucleus_lite"}, {"runtime": "aws_nucleus_classic"}, True),
        ({"os": "linux", "runtime": "aws_nucleus_lite"}, {"runtime": "aws_nucleus_lite"}, False),
        ({"os": "linux"}, {"platform": "\x1b[31m", "architecture": "\x00"}, True),  # garbage is no platform
    ],
)
def test_devices_without_a_manifest_are_named(
    platform: dict[str, str], reported: dict[str, str], is_found: bool
) -> None:
    of = recipe(CAMERA, "1.0.0", platform=platform)
    things = {"drone-1": device("drone-1", **reported)}
    made = planned(f"components: {{{CAMERA}: {{version: 1.0.0}}}}", live(None, {CAMERA: published(of)}, devices=things))
    assert ("PLATFORM" in codes(made)) is is_found
    if is_found:
        assert "1 device" in made.errors[0].message
        assert "drone-1" in made.errors[0].message


def test_another_groups_version_on_the_same_device_is_a_conflict() -> None:
    theirs = deployment({"targetArn": GROUP + "-2", "components": {CAMERA: {"componentVersion": "1.0.0"}}})
    others = (Other(target_arn=GROUP + "-2", deployment=theirs, shared=("drone-1",)),)
    text = f"components: {{{CAMERA}: {{version: 2.0.0}}}}"
    made = planned(text, live(None, {CAMERA: published(NEW)}, others=others))
    assert made.errors[0].message == (
        f"thinggroup/drones-2 has {CAMERA} 1.0.0, this would have 2.0.0: it fails on 1 device of this target (drone-1)"
    )
    assert planned(text, live(None, {CAMERA: published(NEW)}, others=others), allow=["CONFLICT"]).errors == ()
    same = planned(
        f"components: {{{CAMERA}: {{version: 1.0.0, merge: {{a: 1}}}}}}",
        live(None, {CAMERA: published(OLD)}, others=others),
    )
    assert codes(same) == ["INTERLEAVES"]


@pytest.mark.parametrize(("status", "code"), [(404, "NO_ARTIFACT"), (403, "ARTIFACT_UNREADABLE"), (200, None)])
def test_artifacts_are_looked_at(status: int, code: str | None) -> None:
    of = recipe(CAMERA, "1.0.0", artifacts=("s3://bucket/camera.zip", "greengrass:other"))
    statuses = {"s3://bucket/camera.zip": status}
    made = planned(
        f"components: {{{CAMERA}: {{version: 1.0.0}}}}", live(None, {CAMERA: published(of)}, artifacts=statuses)
    )
    assert codes(made) == ([code] if code else [])


def test_roots_that_cannot_go_together_are_named() -> None:
    camera = recipe(CAMERA, "1.0.0", needs={MODEL: ">=2.0.0"})
    text = f"components: {{{CAMERA}: {{version: 1.0.0}}, {MODEL}: {{version: 1.0.0}}}}"
    made = planned(text, live(None, {CAMERA: published(camera), MODEL: published(recipe(MODEL, "1.0.0"))}))
    assert made.errors[0].message == f"{CAMERA} 1.0.0 needs {MODEL} >=2.0.0, and 1.0.0 is to be deployed"


@pytest.mark.parametrize(
    ("requirements", "there", "message"),
    [
        ((">=2.0.0", "^2.0.0"), ["2.1.0", "1.0.0"], None),
        ((">=2.0.0", "^1.0.0"), ["2.1.0", "1.0.0"], "needs ^1.0.0; published are 2.1.0, 1.0.0"),
        ((">=2.0.0", "*"), [], "needs *; none is published"),
    ],
)
def test_what_recipes_need_together_must_be_published(
    requirements: tuple[str, str], there: list[str], message: str | None
) -> None:
    library = "com.example.Library"
    roots = {
        name: published(recipe(name, "1.0.0", needs={library: text}))
        for name, text in zip((CAMERA, MODEL), requirements, strict=True)
    }
    text = f"components: {{{CAMERA}: {{version: 1.0.0}}, {MODEL}: {{version: 1.0.0}}}}"
    made = planned(text, live(None, roots, dependencies={library: tuple(map(Version.parse, there))}))
    assert codes(made) == ([] if message is None else ["NO_DEPENDENCY"])
    if message is not None:
        assert made.findings[0].message.endswith(message)


def test_a_merge_of_ten_megabytes_is_too_long() -> None:
    desired = parse_desired(f"target: thinggroup/drones\ncomponents: {{{CAMERA}: {{version: 1.0.0}}}}", file="f")
    (name,) = desired.components
    large = replace(desired.components[name], merge={"data": "x" * 10_485_760})
    made = planned(replace(desired, components={name: large}), live(None, {CAMERA: published(OLD)}))
    assert [one.code for one in made.errors] == ["MERGE_TOO_LONG", "DOCUMENT_TOO_LONG"]
    middling = replace(desired.components[name], merge={"data": "x" * 40_000})
    assert codes(planned(replace(desired, components={name: middling}), live(None, {CAMERA: published(OLD)}))) == [
        "LARGE"
    ]


def test_a_reset_that_devices_refuse_is_told() -> None:
    made = planned(
        f"components: {{{CAMERA}: {{version: 1.0.0, reset: [/labels/0]}}}}", live(None, {CAMERA: published(OLD)})
    )
    assert codes(made) == ["RESET_REFUSED"]


def test_devices_are_counted_by_their_last_report() -> None:
    devices = {
        "a": device("a"),
        "b": device("b", reported_s=NOW_S - 10 * 86_400),
        "c": device("c", status="UNHEALTHY"),
        "d": device("d", status="HEALTHY"),
    }
    made = planned(BOTH, world(members=("a", "b", "c", "e"), devices=devices))
    assert made.devices.total == 4
    assert (made.devices.recent, made.devices.silent) == (("a", "c"), ("b",))
    assert (made.devices.unknown, made.devices.unhealthy) == (("e",), ("c",))


def test_a_file_with_rings_is_not_deployed_at_once_unawares() -> None:
    made = planned(f"{BOTH}\nrings: [{{name: canary, target: thinggroup/canary}}]", world())
    assert codes(made) == ["RINGS"]


def test_an_empty_group_is_told() -> None:
    assert codes(planned(BOTH, world(members=(), devices={}))) == ["NO_DEVICES"]


def test_five_hundred_components_are_a_plan() -> None:
    components = {f"com.example.C{n}": published(recipe(f"com.example.C{n}", "1.0.0", {"n": n})) for n in range(500)}
    text = "components:\n" + "".join(f"  {name}: {{version: 1.0.0}}\n" for name in components)
    made = planned(text, live(None, components))
    assert len(made.request["components"]) == 500
    assert made.errors == ()


def test_what_is_live_and_cannot_be_read_is_an_error() -> None:
    broken = {
        "targetArn": GROUP,
        "components": {CAMERA: {"componentVersion": "1.0.0", "configurationUpdate": {"merge": "{"}}},
    }
    with pytest.raises(FleetError, match=f"the merge of {CAMERA} is not JSON"):
        planned(f"components: {{{CAMERA}: {{}}}}", live(deployment(broken), COMPONENTS))


# Tokens and kept plans


def test_a_token_is_the_contents_and_what_it_replaces() -> None:
    """A → B → A is another deployment; the same once more is not."""
    text = f"components: {{{CAMERA}: {{version: 2.0.0}}}}"
    first = planned(text, live(None, {CAMERA: published(NEW)}))
    assert first.token == planned(text, live(None, {CAMERA: published(NEW)})).token
    content = Content(target_arn=GROUP, components={CAMERA: Part(version="1.0.0")})
    later = planned(text, live_of(content, {CAMERA: published(NEW, OLD)}))
    assert later.token != first.token
    assert len(first.token) == 64
    assert first.token.isalnum()


def test_a_plan_can_be_kept() -> None:
    made = planned(f"components: {{{CAMERA}: {{version: 2.0.0}}, {MODEL}: {{}}}}", upgrade())
    kept = json.loads(json.dumps(made.to_json()))
    assert read_plan(kept, file="plan.json") == made
    kept["request"]["deploymentName"] = "mine"
    with pytest.raises(FleetError, match="plan.json was changed since it was planned"):
        read_plan(kept, file="plan.json")
    with pytest.raises(FleetError, match="not a plan of this version"):
        read_plan({"token": "", "request": {}}, file="plan.json")


# Laws

laws = settings(max_examples=40, deadline=None)

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
keys = st.sampled_from(["a", "b", "A", "threshold", "topic", "0", "x/y", "~", "_p", "ö"]) | texts
scalars = (
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
values: st.SearchStrategy[Json] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
)
merges = st.dictionaries(keys, values, max_size=4)
pointers = st.sampled_from(["", "/a", "/threshold", "/a/b", "/0", "/x~1y", "nonsense"])
parts = st.builds(
    Part,
    version=st.sampled_from(["1.0.0", "2.0.0"]),
    merge=merges,
    reset=st.lists(pointers, max_size=2).map(tuple),
    run_with=st.sampled_from([{}, {"posixUser": "root"}, {"systemResourceLimits": {"memory": 1024, "cpus": 0.5}}]),
)
contents = st.builds(
    Content,
    target_arn=st.just(GROUP),
    name=texts,
    components=st.dictionaries(st.sampled_from([CAMERA, MODEL]), parts),
    policies=st.fixed_dictionaries(
        {},
        optional={
            "failureHandlingPolicy": st.sampled_from(["ROLLBACK", "DO_NOTHING"]),
            "componentUpdatePolicy": st.fixed_dictionaries({"timeoutInSeconds": st.integers(1, 99)}),
            "configurationValidationPolicy": st.fixed_dictionaries({"timeoutInSeconds": st.integers(1, 99)}),
        },
    ),
    job=st.fixed_dictionaries(
        {}, optional={"jobExecutionsRolloutConfig": st.fixed_dictionaries({"maximumPerMinute": st.integers(1, 9)})}
    ),
    tags=st.dictionaries(st.sampled_from(["owner", "site"]), texts, max_size=2),
    parent_arn=st.sampled_from(["", GROUP + "-parent"]),
)


def everything(content: Content) -> dict[str, Published]:
    return {
        name: published(recipe(name, part.version, {"threshold": 1, "a": {"b": 2}}), recipe(name, part.version))
        for name, part in content.components.items()
    }


@pytest.mark.parametrize("style", ["yaml", "json"])
@laws
@given(content=contents)
def test_law_what_is_exported_plans_to_nothing(style: str, content: Content) -> None:
    answer = deployment(content.request())
    desired = parse_desired(written(answer, style=style), file="fleet.yaml")
    made = planned(desired, live(answer, everything(content)), parent_arn=content.parent_arn)
    assert made.is_empty, told(made)


@laws
@given(before=contents, wanted=contents)
def test_law_a_plan_that_was_applied_leaves_nothing_to_do(before: Content, wanted: Content) -> None:
    desired = parse_desired(written(deployment(wanted.request())), file="fleet.yaml")
    made = planned(desired, live(deployment(before.request()), everything(wanted)), parent_arn=wanted.parent_arn)
    answer = deployment(made.request)
    after = planned(desired, live(answer, everything(wanted)), parent_arn=wanted.parent_arn)
    assert after.is_empty, told(after)


@laws
@given(before=contents, wanted=contents)
def test_law_there_are_differences_exactly_if_the_request_says_something_new(before: Content, wanted: Content) -> None:
    desired = parse_desired(written(deployment(wanted.request())), file="fleet.yaml")
    answer = deployment(before.request())
    made = planned(desired, live(answer, everything(wanted)), parent_arn=wanted.parent_arn)
    assert made.is_empty == is_same(content_of(answer), content_of(made.request))


@laws
@given(old=merges, new=merges, live_merge=merges, merge=merges)
def test_law_the_named_resets_bring_every_default_that_any_reset_can(
    old: dict[str, Json], new: dict[str, Json], live_merge: dict[str, Json], merge: dict[str, Json]
) -> None:
    """Spec C1; a device refuses pointers with keys of digits, and what is under one at the top cannot be reset."""
    before, after = recipe(CAMERA, "1.0.0", old), recipe(CAMERA, "2.0.0", new)
    part = Part(version="2.0.0", merge=merge)
    kept = kept_defaults(CAMERA, foretell(Part(version="1.0.0", merge=live_merge), before, part, after))
    resets, out_of_reach = resets_for(kept)
    mended = Part(version="2.0.0", merge=merge, reset=resets)
    still = kept_defaults(CAMERA, foretell(Part(version="1.0.0", merge=live_merge), before, mended, after))
    assert {one.pointer for one in still} == set(out_of_reach)


@laws
@given(content=contents)
def test_law_a_token_is_one_that_aws_takes(content: Content) -> None:
    made = Plan(target_arn=GROUP, replaces=None, request=content.request())
    assert 1 <= len(made.token) <= 64
    assert all(character in "0123456789abcdef" for character in made.token)

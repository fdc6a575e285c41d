"""Fleet files: what they say is what is desired; what is wrong is named with its line."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.core.names import ComponentName
from monodon.core.semver import Requirement, Version
from monodon.errors import FleetError
from monodon.fleet.desired import Desired, DesiredComponent, Ring
from monodon.fleet.reading import parse_desired, read_desired

CHECKOUT = Path(__file__).parents[2]
GROUP_ARN = "arn:aws:iot:eu-west-1:123456789012:thinggroup/drones"
CAMERA = ComponentName("monodon.CameraClassifier")

WHOLE = """
target: thinggroup/drones
name: whales
components:
  monodon.CameraClassifier:
    version: 1.10.0
    merge: {labels: [narwhal], threshold: 0.5}
    reset: [/topic]
    runWith: {posixUser: ggc_user, systemResourceLimits: {memory: 1024, cpus: 0.5}}
  monodon.Model.EfficientNetLite0: {version: ^2.0.0}
  monodon.PythonRuntime:
onFailure: DO_NOTHING
updatePolicy: {action: SKIP_NOTIFY_COMPONENTS, timeoutInSeconds: 9}
validationTimeoutInSeconds: 7
rollout: {maximumPerMinute: 50}
abort: {criteriaList: [{failureType: FAILED, action: CANCEL, thresholdPercentage: 10, minNumberOfExecutedThings: 5}]}
timeout: {inProgressTimeoutInMinutes: 30}
tags: {owner: narwhals}
parentTarget: thinggroup/fleet
rings:
  - {name: canary, target: thinggroup/canary, bakeSeconds: 600, gates: {successShare: 1.0}}
  - {name: all, targets: [thinggroup/north, thinggroup/south]}
"""
DESIRED = Desired(
    target="thinggroup/drones",
    name="whales",
    components={
        CAMERA: DesiredComponent(
            version=Version(1, 10, 0),
            merge={"labels": ["narwhal"], "threshold": 0.5},
            reset=("/topic",),
            run_with={"posixUser": "ggc_user", "systemResourceLimits": {"memory": 1024, "cpus": 0.5}},
        ),
        ComponentName("monodon.Model.EfficientNetLite0"): DesiredComponent(version=Requirement.parse("^2.0.0")),
        ComponentName("monodon.PythonRuntime"): DesiredComponent(),
    },
    on_failure="DO_NOTHING",
    update_policy={"action": "SKIP_NOTIFY_COMPONENTS", "timeoutInSeconds": 9},
    validation_timeout_s=7,
    job={
        "jobExecutionsRolloutConfig": {"maximumPerMinute": 50},
        "abortConfig": {
            "criteriaList": [
                {
                    "failureType": "FAILED",
                    "action": "CANCEL",
                    "thresholdPercentage": 10,
                    "minNumberOfExecutedThings": 5,
                }
            ]
        },
        "timeoutConfig": {"inProgressTimeoutInMinutes": 30},
    },
    tags={"owner": "narwhals"},
    parent_target="thinggroup/fleet",
    rings=(
        Ring(name="canary", targets=("thinggroup/canary",), bake_s=600.0, gates={"successShare": 1.0}),
        Ring(name="all", targets=("thinggroup/north", "thinggroup/south")),
    ),
)
#: What AWS's own `create-deployment --cli-input-json` takes, and what `get-deployment` answers.
AWS: dict[str, Any] = {
    "targetArn": GROUP_ARN,
    "deploymentName": "whales",
    "components": {
        str(CAMERA): {
            "componentVersion": "1.10.0",
            "configurationUpdate": {"merge": '{"labels": ["narwhal"]}', "reset": ["/topic"]},
            "runWith": {"posixUser": "ggc_user"},
        }
    },
    "iotJobConfiguration": {"timeoutConfig": {"inProgressTimeoutInMinutes": 30}},
    "deploymentPolicies": {
        "failureHandlingPolicy": "ROLLBACK",
        "componentUpdatePolicy": {"timeoutInSeconds": 60, "action": "NOTIFY_COMPONENTS"},
        "configurationValidationPolicy": {"timeoutInSeconds": 30},
    },
    "tags": {"owner": "narwhals"},
    "parentTargetArn": GROUP_ARN + "-parent",
}
ANSWERED = {"deploymentId": "d", "revisionId": "3", "isLatestForTarget": True, "iotJobId": "j", "clientToken": "t"}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    return path


def test_a_fleet_file_says_all_that_can_be_desired(tmp_path: Path) -> None:
    assert read_desired(write(tmp_path, WHOLE)) == DESIRED


def test_what_is_left_out_is_none(tmp_path: Path) -> None:
    assert read_desired(write(tmp_path, "target: thing/a\ncomponents: {}")) == Desired(target="thing/a", components={})


@pytest.mark.parametrize("extra", [{}, ANSWERED], ids=["create-deployment", "get-deployment"])
@pytest.mark.parametrize("name", ["fleet.json", "fleet.yaml", "fleet"])
def test_awss_own_json_is_accepted_as_it_is(extra: dict[str, Any], name: str) -> None:
    assert parse_desired(json.dumps({**AWS, **extra}, indent=2), file=name) == Desired(
        target=GROUP_ARN,
        name="whales",
        components={
            CAMERA: DesiredComponent(
                version=Version(1, 10, 0),
                merge={"labels": ["narwhal"]},
                reset=("/topic",),
                run_with={"posixUser": "ggc_user"},
            )
        },
        on_failure="ROLLBACK",
        update_policy={"timeoutInSeconds": 60, "action": "NOTIFY_COMPONENTS"},
        validation_timeout_s=30,
        job={"timeoutConfig": {"inProgressTimeoutInMinutes": 30}},
        tags={"owner": "narwhals"},
        parent_target=GROUP_ARN + "-parent",
    )


@pytest.mark.parametrize("path", sorted((CHECKOUT / "scripts/fleets").glob("*.yaml")), ids=lambda path: path.name)
def test_the_fleet_files_of_this_checkout_can_be_read(path: Path) -> None:
    assert read_desired(path).components


COMPONENT = "target: thing/a\ncomponents:\n  a.B:\n    "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "fleet.yaml: while parsing.*line"),
        ("- 1", "a fleet file is a mapping"),
        ("target: thing/a", "target .* and components .* are needed"),
        ("components: {}", "target .* and components .* are needed"),
        ("target: thing/a\ncomponents: {}\ntargets: 1", r"unknown key targets \(line 3\)"),
        ("target: thing/a\ncomponents: {a.B: 1.0.0}", r"components.a.B is not a mapping \(line 2\)"),
        (COMPONENT + "version: 1.0", r"components.a.B.version is not text such as 1.0.0 or \^1.0.0 \(line 4\)"),
        (COMPONENT + "version: one", "components.a.B.version: "),
        (COMPONENT + "version: 1.0.0-1", "pre-release that begins with a digit"),
        (COMPONENT + "version: '>=1.0.0,<2.0.0'", "components.a.B.version: "),
        ("target: thing/a\ncomponents: {a B: {version: 1.0.0}}", "fleet.yaml: .*a B"),
        (COMPONENT + "config: {}", r"unknown key components.a.B.config \(line 4\)"),
        (COMPONENT + "merge: [1]", "merge is not a mapping"),
        (COMPONENT + "reset: /a", "reset is not a list"),
        (COMPONENT + "runWith: {user: root}", "unknown key components.a.B.runWith.user"),
        (COMPONENT + "merge:\n      deep:\n        x: 2026-11-21", r"a.B.merge is not JSON: .*date \(line 6\)"),
        (COMPONENT + "merge: {x: .nan}", "a.B.merge is not JSON: .*x is nan"),
        (COMPONENT + "merge: {1: 2}", "the key 1 is not text"),
        (COMPONENT + "merge: {on: 2}", "the key True is not text"),
        (COMPONENT + "merge: {x: 1, x: 2}", r"the key 'x' is there already, in line 4"),
        (COMPONENT + "merge: " + "{a: " * 101 + "1" + "}" * 101, "nested in more than 100 levels"),
        ("target: thing/a\ncomponents: {}\nname: 2026", r"name is not text \(line 3\)"),
        ("target: thing/a\ncomponents: {}\nonFailure: RETRY", "onFailure is RETRY"),
        ("target: thing/a\ncomponents: {}\nupdatePolicy: {timeout: 1}", "unknown key updatePolicy.timeout"),
        ("target: thing/a\ncomponents: {}\nvalidationTimeoutInSeconds: soon", "is not a whole number"),
        ("target: thing/a\ncomponents: {}\ntags: {a: 1}", "tags.a is not text"),
        ("target: thing/a\ncomponents: {}\nrings: {}", "rings is not a list"),
        ("target: thing/a\ncomponents: {}\nrings: [{target: thing/a}]", "rings.0.name is missing"),
        ("target: thing/a\ncomponents: {}\nrings: [{name: a}]", "rings.0 needs target"),
        ("target: thing/a\ncomponents: {}\nrings: [{name: a, target: b, bakeSeconds: -1}]", "bakeSeconds is not"),
        ("target: thing/a\ncomponents: {}\nrings: [{name: a, target: b}, {name: a, target: c}]", "two rings named a"),
        ('{"targetArn": "a", "components": {"a.B": {"configurationUpdate": {"merge": "{"}}}}', "merge is not JSON"),
        ('{"targetArn": "a", "components": {"a.B": {"configurationUpdate": {"merge": "[1]"}}}}', "merge is not a map"),
        ('{"targetArn": "a", "component": {}}', "unknown key component"),
        ("target: &a [*a]\ncomponents: {}", "aliases multiply|needed"),
        ("\x00", "fleet.yaml: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FleetError, match=message):
        read_desired(write(tmp_path, text))


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    """A few hundred bytes that would be gigabytes when they are written as JSON."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for name, below in zip("bcdefghi", "abcdefgh", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]")
    with pytest.raises(FleetError, match="aliases multiply"):
        read_desired(write(tmp_path, "\n".join(lines)))


def test_a_json_that_is_cut_off_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    path.write_text('{\n"targetArn": ')
    with pytest.raises(FleetError, match=r"not JSON: Expecting value \(line 2\)"):
        read_desired(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="cannot read .*missing.yaml: No such file"):
        read_desired(tmp_path / "missing.yaml")


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FleetError, match="not UTF-8"):
        read_desired(tmp_path / "fleet.yaml")


lines = st.sampled_from(WHOLE.splitlines()) | st.text(max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(lines, max_size=12).map("\n".join))
def test_law_any_text_is_read_or_refused(text: str) -> None:
    with suppress(FleetError):
        assert isinstance(parse_desired(text, file="fleet.yaml"), Desired)

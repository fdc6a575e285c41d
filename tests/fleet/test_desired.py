"""Fleet files: what they say is what CreateDeployment gets; what is wrong is named."""

import json
from pathlib import Path

import pytest

from monodon.errors import FleetError
from monodon.fleet.reading import read_desired

CHECKOUT = Path(__file__).parents[2]
GROUP_ARN = "arn:aws:iot:eu-west-1:123456789012:thinggroup/drones"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    return path


def test_a_fleet_file_becomes_a_request(tmp_path: Path) -> None:
    desired = read_desired(
        write(
            tmp_path,
            """
target: thinggroup/drones
name: whales
components:
  monodon.CameraClassifier:
    version: 1.10.0
    merge: {labels: [narwhal], threshold: 0.5}
    reset: [/topic]
  monodon.Model.EfficientNetLite0: {version: 2.0.0}
onFailure: DO_NOTHING
""",
        )
    )
    request = desired.request(GROUP_ARN)
    update = request["components"]["monodon.CameraClassifier"].pop("configurationUpdate")
    assert json.loads(update["merge"]) == {"labels": ["narwhal"], "threshold": 0.5}
    assert update["reset"] == ["/topic"]
    assert request == {
        "targetArn": GROUP_ARN,
        "deploymentName": "whales",
        "components": {
            "monodon.CameraClassifier": {"componentVersion": "1.10.0"},
            "monodon.Model.EfficientNetLite0": {"componentVersion": "2.0.0"},
        },
        "deploymentPolicies": {"failureHandlingPolicy": "DO_NOTHING"},
    }


@pytest.mark.parametrize("path", sorted((CHECKOUT / "scripts/fleets").glob("*.yaml")), ids=lambda path: path.name)
def test_the_fleet_files_of_this_checkout_can_be_read(path: Path) -> None:
    assert read_desired(path).components


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "fleet.yaml: while parsing"),
        ("- 1", "a fleet file is a mapping"),
        ("target: thing/a", "target .* and components .* are needed"),
        ("components: {}", "target .* and components .* are needed"),
        ("target: thing/a\ncomponents: {}\ntargets: 1", "unknown key targets"),
        ("target: thing/a\ncomponents: {a.B: 1.0.0}", r"components.a.B.version is missing"),
        ("target: thing/a\ncomponents: {a.B: {version: 1.0}}", r"components.a.B.version is missing, or not text"),
        ("target: thing/a\ncomponents: {a.B: {version: one}}", "components.a.B.version: "),
        ("target: thing/a\ncomponents: {a B: {version: 1.0.0}}", "fleet.yaml: .*a B"),
        ("target: thing/a\ncomponents: {a.B: {version: 1.0.0, config: {}}}", "unknown key components.a.B.config"),
        ("target: thing/a\ncomponents: {a.B: {version: 1.0.0, merge: [1]}}", "merge is not a mapping"),
        ("target: thing/a\ncomponents: {a.B: {version: 1.0.0, reset: /a}}", "reset is not a list"),
        (
            "target: thing/a\ncomponents: {a.B: {version: 1.0.0, merge: {x: 2026-11-21}}}",
            "a.B.merge is not JSON: .*date",
        ),
        ("target: thing/a\ncomponents: {a.B: {version: 1.0.0, merge: {x: .nan}}}", "a.B.merge is not JSON"),
        ("target: thing/a\ncomponents: {}\nname: 2026", "name is not text"),
        ("target: thing/a\ncomponents: {}\nonFailure: RETRY", "onFailure is RETRY"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FleetError, match=message):
        read_desired(write(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="cannot read .*missing.yaml: No such file"):
        read_desired(tmp_path / "missing.yaml")

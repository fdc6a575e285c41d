"""Configuration → settings, and back."""

import json
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.component.settings import default_configuration, merge, override, read_settings, table
from monodon.errors import ConfigurationError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True)
class Box:
    x: int
    y: int = 0


@dataclass(frozen=True)
class Settings:
    source: str = "/dev/video0"
    interval_s: float = 1.0
    count: int = 3
    keep: bool = True
    labels: tuple[str, ...] = ("narwhal",)
    size: tuple[int, int] = (224, 224)
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    mode: Literal["fast", "exact"] = "fast"
    box: Box | None = None
    boxes: tuple[Box, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    folder: Path = Path("kept")
    anything: Any = None


@dataclass(frozen=True)
class Checked:
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError("threshold lies between 0 and 1")


@dataclass(frozen=True)
class Required:
    topic: str
    depth: int = 2


def test_an_empty_configuration_gives_the_defaults() -> None:
    assert read_settings(Settings, {}) == Settings()


def test_access_control_is_the_nucleuss_and_passed_over() -> None:
    assert read_settings(Settings, {"accessControl": {"aws.greengrass.ipc.pubsub": {}}}) == Settings()


def test_every_kind_of_field_is_read() -> None:
    read = read_settings(
        Settings,
        {
            "source": "rtsp://camera",
            "interval_s": 2,
            "count": 5.0,
            "keep": False,
            "labels": ["grey whale", "narwhal"],
            "size": [640.0, 480],
            "colour": "blue",
            "level": 2.0,
            "mode": "exact",
            "box": {"x": 1.0},
            "boxes": [{"x": 1, "y": 2}],
            "weights": {"a": 1},
            "folder": "elsewhere",
            "anything": [1, {"x": None}],
        },
    )
    assert read == Settings(
        source="rtsp://camera",
        interval_s=2.0,
        count=5,
        keep=False,
        labels=("grey whale", "narwhal"),
        size=(640, 480),
        colour=Colour.BLUE,
        level=Level.HIGH,
        mode="exact",
        box=Box(1),
        boxes=(Box(1, 2),),
        weights={"a": 1.0},
        folder=Path("elsewhere"),
        anything=[1, {"x": None}],
    )
    assert isinstance(read.count, int)
    assert isinstance(read.interval_s, float)


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"interval": 1}, "interval = 1: unknown; known are source, interval_s"),
        ({"count": 5.5}, "count = 5.5: expected a whole number"),
        ({"count": True}, "count = True: expected a whole number"),
        ({"count": "5"}, "count = '5': expected a whole number"),
        ({"keep": "false"}, "keep = 'false': expected true or false"),
        ({"interval_s": None}, "interval_s = None: expected a number"),
        ({"labels": "narwhal"}, "labels = 'narwhal': expected a list, each text"),
        ({"labels": ["a", 2]}, "labels[1] = 2: expected text"),
        ({"size": [1]}, "size = [1]: expected a list of 2: a whole number, a whole number"),
        ({"colour": "green"}, "colour = 'green': expected one of 'red', 'blue'"),
        ({"mode": "slow"}, "mode = 'slow': expected one of 'fast', 'exact'"),
        ({"box": {"x": 1, "z": 1}}, "box.z = 1: unknown; known are x, y"),
        ({"box": {}}, "box.x = (nothing): expected a whole number"),
        ({"box": 4}, "box = 4: expected an object with x, y or null"),
        ({"boxes": [{"x": "a"}]}, "boxes[0].x = 'a': expected a whole number"),
        ({"weights": {"a": "b"}}, "weights.a = 'b': expected a number"),
    ],
)
def test_a_misfit_is_named_by_key_value_and_expected_type(configuration: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_settings(Settings, configuration)
    assert message in caught.value.message


def test_all_misfits_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_settings(Settings, {"count": "x", "nested": {}, "keep": 1})
    assert all(name in caught.value.message for name in ("count", "nested", "keep"))
    assert caught.value.hint is not None
    assert '"/nested"' in caught.value.hint


def test_keys_match_without_regard_to_case_as_in_a_nucleus() -> None:
    assert read_settings(Settings, {"Interval_S": 4}).interval_s == 4


def test_a_setting_without_default_has_to_be_given() -> None:
    assert read_settings(Required, {"topic": "a"}) == Required("a")
    with pytest.raises(ConfigurationError, match=r"topic = \(nothing\): expected text"):
        read_settings(Required, {})


def test_the_settings_own_check_is_a_configuration_error_too() -> None:
    with pytest.raises(ConfigurationError, match="threshold lies between 0 and 1"):
        read_settings(Checked, {"threshold": 2})


def test_a_type_that_json_cannot_carry_is_the_programs_mistake() -> None:
    @dataclass
    class Odd:
        raw: bytes = b""

    with pytest.raises(TypeError, match="JSON cannot carry bytes"):
        read_settings(Odd, {"raw": "x"})


def test_defaults_become_a_recipes_default_configuration() -> None:
    defaults = default_configuration(Settings)
    assert json.loads(json.dumps(defaults)) == defaults
    assert defaults["labels"] == ["narwhal"]
    assert defaults["colour"] == "red"
    assert defaults["folder"] == "kept"
    assert default_configuration(Required) == {"depth": 2}


@given(
    st.builds(
        Settings,
        interval_s=st.floats(allow_nan=False, allow_infinity=False),
        boxes=st.lists(st.builds(Box)).map(tuple),
        colour=st.sampled_from(Colour),
        box=st.none() | st.builds(Box),
        anything=st.just([1, "a", None]),
    )
)
def test_what_was_written_is_read_again(settings: Settings) -> None:
    """read(write(s)) == s."""
    assert read_settings(Settings, json.loads(json.dumps(default_configuration(settings)))) == settings


def test_merge_goes_into_objects_and_replaces_all_else() -> None:
    assert merge({"a": {"b": 1, "c": 2}, "l": [1]}, {"a": {"b": 3}, "l": [2]}) == {"a": {"b": 3, "c": 2}, "l": [2]}


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("source=0", {"source": "0"}),
        ("source=clip.mp4", {"source": "clip.mp4"}),
        ("count=7", {"count": 7}),
        ("keep=false", {"keep": False}),
        ('labels=["a"]', {"labels": ["a"]}),
        ("colour=blue", {"colour": "blue"}),
        ("box.x=3", {"box": {"x": 3}}),
        ("source=a=b", {"source": "a=b"}),
    ],
)
def test_an_assignment_of_a_command_line_takes_the_settings_type(assignment: str, expected: dict[str, Any]) -> None:
    assert override(Settings, assignment) == expected


def test_an_assignment_needs_an_equals_sign() -> None:
    with pytest.raises(ConfigurationError, match="is not key=value"):
        override(Settings, "count")


def test_the_table_of_settings_names_types_and_defaults() -> None:
    assert table(Required) == [("topic", "text", ""), ("depth", "a whole number", "2")]

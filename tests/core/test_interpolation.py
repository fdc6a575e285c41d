"""Recipe variables: rules I1 to I13, cases 33 to 37."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.core.interpolation import (
    Interpolated,
    Scope,
    Variables,
    interpolate,
    interpolate_configuration,
    render,
)
from monodon.core.pointers import look_up_pointer
from monodon.errors import DeploymentError


def scope(name: str, configuration: Mapping[str, Any]) -> Scope:
    return Scope(
        name=name,
        version="1.0.0",
        configuration=configuration,
        artifacts=f"/gg/artifacts/{name}",
        unarchived=f"/gg/unarchived/{name}",
        work=f"/gg/work/{name}",
    )


def resolve(
    value: Any, configuration: Mapping[str, Any] | None = None, **dependencies: Mapping[str, Any]
) -> Interpolated:
    variables = Variables(
        own=scope("A", configuration or {}),
        dependencies={name: scope(name, entry) for name, entry in dependencies.items()},
        root="/gg",
        thing="drone-1",
    )
    return interpolate(value, variables)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{artifacts:path}", "/gg/artifacts/A"),
        ("{artifacts:decompressedPath}/x", "/gg/unarchived/A/x"),
        ("{work:path}", "/gg/work/A"),
        ("{kernel:rootPath}", "/gg"),
        ("{iot:thingName}", "drone-1"),
        ("{B:artifacts:path}", "/gg/artifacts/B"),
        ("{B:artifacts:decompressedPath}", "/gg/unarchived/B"),
        ("{B:work:path}", "/gg/work/B"),
        ("{B:configuration:/p}", "new"),  # case 35
        ("{configuration:}", '{"startup":{"paramA":"valueA"}}'),  # case 33, I5
        ("{configuration:/startup/paramA}", "valueA"),
        ("a {work:path} b {work:path}", "a /gg/work/A b /gg/work/A"),
        ("{artifacts:{rnd:{artifacts:path}}}", "{artifacts:{rnd:/gg/artifacts/A}}"),  # I13
    ],
)
def test_forms(text: str, expected: str) -> None:
    found = resolve(text, {"startup": {"paramA": "valueA"}}, B={"p": "new"})
    assert (found.value, found.unresolved) == (expected, ())


@pytest.mark.parametrize(
    "text",
    ["{configuration:/missing}", "{Other:configuration:/x}", "{unknown:key}", "{artifacts:nothing}", "{B:unknown:key}",
     "{configuration:/list/-}", "{configuration:/list/01}", "{configuration:/LIST}", "{A:artifacts:path}"],
)  # fmt: skip
def test_what_cannot_be_resolved_stays_and_is_told(text: str) -> None:
    """Case 34, I3, I6."""
    found = resolve(f"x {text} y", {"list": [1]}, B={})
    assert found == Interpolated(value=f"x {text} y", unresolved=(text,))


@pytest.mark.parametrize(
    "text", ["{COMPONENT_NAME}", "${HOME}", "${X:-y}", "{a,b}", "{ configuration:/x}", '{"a":1}', "{}"]
)
def test_what_is_no_variable_is_left_alone(text: str) -> None:
    """I10, and the shell's own braces."""
    assert resolve(text) == Interpolated(value=text, unresolved=())


def test_every_text_is_resolved_and_no_key() -> None:
    """I1."""
    lifecycle = {"{work:path}": ["{work:path}", 1, None, True, {"Setenv": {"W": "{work:path}"}}]}
    expected = {"{work:path}": ["/gg/work/A", 1, None, True, {"Setenv": {"W": "/gg/work/A"}}]}
    assert resolve(lifecycle).value == expected


def test_text_from_the_first_pass_is_searched_by_the_second_alone() -> None:
    """I2."""
    configuration = {"foreign": "{B:work:path}", "own": "{artifacts:path}"}
    assert resolve("{configuration:/foreign} {configuration:/own}", configuration, B={}).value == (
        "/gg/work/B {artifacts:path}"
    )
    assert resolve("{configuration:/own} {artifacts:path}", configuration).value == "/gg/artifacts/A /gg/artifacts/A"


def test_a_pointer_without_a_slash_fails_the_deployment() -> None:
    """I4."""
    with pytest.raises(DeploymentError) as error:
        resolve("{configuration:rate}", {"rate": 1})
    assert error.value.codes == ("DEPLOYMENT_FAILURE",)
    assert error.value.hint == "write {configuration:/rate}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"), (True, "true"), (False, "false"), (None, "null"), (1, "1"), (-7, "-7"),
        (1.0, "1.0"), (1e10, "1.0E10"), (100000000.0, "1.0E8"), (1e-5, "1.0E-5"), (0.1, "0.1"), (123.456, "123.456"),
        (9999999.0, "9999999.0"), (1e7, "1.0E7"), (12345678.9, "1.23456789E7"), (0.001, "0.001"), (0.0, "0.0"),
        (0.00099, "9.9E-4"), (-0.0, "-0.0"), (-2.5, "-2.5"), (1e22, "1.0E22"),
        ({"b": [1, 2.0, None], "a": {"ü": "ö"}}, '{"a":{"ü":"ö"},"b":[1,2.0,null]}'),
        ({"a": 1, "B": 2}, '{"B":2,"a":1}'), ([], "[]"), ({}, "{}"), (["x"], '["x"]'),
    ],
)  # fmt: skip
def test_values_are_rendered_as_java_renders_them(value: Any, text: str) -> None:
    """I7; the doubles were checked against Double.toString."""
    assert render(value) == text
    assert resolve("{configuration:/key}", {"key": value}).value == text


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [("/a~1b", 1), ("/m~0n", 2), ("/", 3), ("/list/1/x", 4), ("/a~01", 5)],
)
def test_pointers_follow_rfc_6901(pointer: str, expected: int) -> None:
    document = {"a/b": 1, "m~n": 2, "": 3, "list": [0, {"x": 4}], "a~1": 5}
    assert look_up_pointer(document, pointer) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{artifacts:path}", "/gg/artifacts/A"),
        ("{B:work:path}", "/gg/work/B"),
        ("{configuration:/b}", "{configuration:/b}"),
    ],
)
def test_configurations_get_system_variables_alone(text: str, expected: str) -> None:
    """Cases 36 and 37, I9."""
    variables = Variables(own=scope("A", {"b": 1}), dependencies={"B": scope("B", {})}, root="/gg", thing="t")
    assert interpolate_configuration({"key": text}, variables).value == {"key": expected}


@given(st.text(st.characters(blacklist_characters="{")))
@settings(deadline=None)
def test_text_without_braces_is_never_touched(text: str) -> None:
    assert resolve(text) == Interpolated(value=text, unresolved=())


@given(st.text(alphabet="{}:/.aB-configuration"))
@settings(deadline=None)
def test_any_text_is_resolved_or_fails_as_a_deployment(text: str) -> None:
    try:
        resolve(text, {"a": 1}, B={})
    except DeploymentError:
        return


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(deadline=None)
def test_rendered_doubles_read_back(value: float) -> None:
    assert float(render(value)) == value

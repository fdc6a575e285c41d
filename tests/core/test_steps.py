"""Steps of a lifecycle and their coercions: nucleus.md 3.1, rules L1-L5."""

from typing import Any

import pytest

from monodon.core.steps import (
    Skipif,
    SkipifKind,
    coerce_boolean,
    coerce_integer,
    read_environment,
    read_error_reset_s,
    read_step,
)
from monodon.errors import ConfigurationError


def test_a_step_is_a_script_or_a_map_and_its_keys_match_in_any_case() -> None:
    lifecycle = {"INSTALL": "echo one", "run": {"SCRIPT": "echo two", "TimeOut": "7", "setEnv": {"A": 1, "b": True}}}
    install, run = read_step(lifecycle, "install"), read_step(lifecycle, "run")
    assert install is not None
    assert run is not None
    assert (install.script, install.key, install.timeout_s) == ("echo one", "INSTALL", 120)
    assert (run.script, run.key, run.timeout_s, run.environment) == (
        "echo two", "run.SCRIPT", 7, {"A": "1", "b": "true"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "timeout_s"),
    [("bootstrap", 120), ("install", 120), ("startup", 120), ("run", None), ("shutdown", 15), ("recover", 60),
     ("uninstall", 120)],
)  # fmt: skip
def test_default_timeouts(name: str, timeout_s: int | None) -> None:
    step = read_step({name: {"Script": "x"}}, name)
    assert step is not None
    assert step.timeout_s == timeout_s


@pytest.mark.parametrize("lifecycle", [{}, {"Run": None}, {"Run": ""}, {"Run": {"Script": ""}}])
def test_an_absent_or_empty_script_is_no_step(lifecycle: dict[str, Any]) -> None:
    """L5."""
    assert read_step(lifecycle, "run") is None


@pytest.mark.parametrize("value", [{"Timeout": 5}, {}, ["a"], {"Script": ["a"]}, {"Script": "a", "Setenv": "b"}])
def test_a_map_without_script_and_other_shapes_are_refused(value: Any) -> None:
    """L1."""
    with pytest.raises(ConfigurationError):
        read_step({"Run": value}, "run")


@pytest.mark.parametrize(
    ("value", "number"),
    [("010", 8), ("0x1F", 31), ("15", 15), ("15.9", 15), (15.9, 15), ("abc", 0), ("", 0), ("08", 0), ("12abc", 0),
     (True, 1), (" 7 ", 7), ("-5", -5), ("0", 0), (None, 0), ([1], 0)],
)  # fmt: skip
def test_timeouts_are_coerced(value: Any, number: int) -> None:
    """L2: a leading 0 means octal, fractions are cut, text that is no number is 0."""
    assert coerce_integer(value) == number


@pytest.mark.parametrize("value", [True, 1, 0.5, -1, "true", "yes", "on", "t", "y", "Y"])
def test_privilege_is_asked_for(value: Any) -> None:
    """L3."""
    assert coerce_boolean(value)


@pytest.mark.parametrize("value", [False, 0, 0.0, "false", "no", "TRUE", "1", "", None, [True]])
def test_privilege_is_not_asked_for(value: Any) -> None:
    assert not coerce_boolean(value)


@pytest.mark.parametrize(
    ("text", "skipif"),
    [
        ("exists /a b", Skipif(kind=SkipifKind.EXISTS, argument="/a b")),
        ("!exists ~root/x", Skipif(kind=SkipifKind.EXISTS, argument="~root/x", is_negated=True)),
        ("  onpath \t git ", Skipif(kind=SkipifKind.ONPATH, argument="git")),
    ],
)
def test_skipif(text: str, skipif: Skipif) -> None:
    """L4."""
    step = read_step({"Run": {"Script": "x", "Skipif": text}}, "run")
    assert step is not None
    assert step.skipif == skipif


@pytest.mark.parametrize("text", ["foo bar", "exists", "Exists /a", "exists/a", "!! exists a", True, ""])
def test_other_conditions_are_refused(text: Any) -> None:
    """L4, case 46."""
    with pytest.raises(ConfigurationError, match="Skipif of step Run"):
        read_step({"Run": {"Script": "x", "Skipif": text}}, "run")


def test_what_the_whole_lifecycle_says() -> None:
    assert read_environment({"SETENV": {"Path": "x", "N": None}}) == {"Path": "x", "N": ""}
    assert read_environment({}) == {}
    assert read_error_reset_s({"ErrorResetTime": "60"}) == 60
    assert read_error_reset_s({}) == 3600

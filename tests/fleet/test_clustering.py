"""Failures of many devices are put together by cause, each with a fix."""

import pytest

from monodon.core.outcome import ERROR_TYPES
from monodon.fleet.clustering import ADVICE, Failure, clusters, printable


@pytest.mark.parametrize("code", sorted(ERROR_TYPES))
def test_every_code_of_the_nucleus_has_a_cause_and_a_fix(code: str) -> None:
    assert ADVICE[code].cause
    assert ADVICE[code].fix


def test_the_most_particular_code_that_is_known_counts() -> None:
    stack = ("DEPLOYMENT_FAILURE", "COMPONENT_UPDATE_ERROR", "COMPONENT_BROKEN", "OF_TOMORROW")
    (cluster,) = clusters([Failure(thing="a", status="FAILED", codes=stack)])
    assert cluster.code == "COMPONENT_BROKEN"


def test_the_most_frequent_cause_comes_first() -> None:
    failures = [
        Failure(thing="c", status="FAILED", codes=("DISK_SPACE_CRITICAL",)),
        Failure(thing="b", status="TIMED_OUT"),
        Failure(thing="a", status="TIMED_OUT", reason="late"),
    ]
    first, second = clusters(failures)
    assert (first.code, first.things, first.example) == ("TIMED_OUT", ("a", "b"), "late")
    assert second.things == ("c",)


def test_without_codes_what_devices_say_alike_is_one_cause() -> None:
    """Numbers and the device's own name make no difference."""
    failures = [
        Failure(thing=f"drone-{n}", status="FAILED", reason=f"drone-{n}: process {n * 7} died") for n in range(3)
    ]
    (cluster,) = clusters(failures)
    assert cluster.cause == "DEVICE: process N died"
    assert cluster.fix == ""


def test_a_device_that_says_nothing_is_a_cause_of_its_own() -> None:
    assert clusters([Failure(thing="a", status="FAILED")])[0].cause == "FAILED"
    assert clusters([]) == ()


@pytest.mark.parametrize(
    ("said", "shown"),
    [("a\x1b[31mb\n", "a [31mb"), ("x" * 2000, "x" * 1000 + "…"), ("\u202eevil", "evil"), ("", ""), (None, "None")],
)
def test_what_devices_say_is_made_fit_to_print(said: object, shown: str) -> None:
    assert printable(said) == shown

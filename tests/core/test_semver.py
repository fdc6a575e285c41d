"""Versions and requirements, row by row as the device reads them."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.core.semver import Requirement, Version, best, conjunction
from monodon.errors import InvalidRequirement, InvalidVersion

RECORDED = (Path(__file__).parent / "data" / "requirements.tsv").read_text(encoding="utf-8").splitlines()[1:]
RECORDED_VERSIONS = RECORDED[0].split("\t")[2:]


def matches(requirement: str, version: str) -> bool:
    return Requirement.parse(requirement).matches(Version.parse(version))


@pytest.mark.parametrize("line", RECORDED[1:], ids=lambda line: repr(line.split("\t")[0]))
def test_agrees_with_the_library_of_the_device(line: str) -> None:
    """The lines were recorded by running semver4j 3.1.0."""
    text, rendered, *expected = line.split("\t")
    if rendered == "error":
        with pytest.raises(InvalidRequirement):
            Requirement.parse(text)
        return
    requirement = Requirement.parse(text)
    found = ["1" if requirement.matches(Version.parse(version)) else "0" for version in RECORDED_VERSIONS]
    assert (requirement.rendered, found) == (rendered, expected)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("", ">=0.0.0"),
        ("*", ">=0.0.0"),
        ("latest", ">=0.0.0"),
        ("1.2.3", "=1.2.3"),
        *[(text, ">=1.0.0 <2.0.0") for text in ("1", "1.x", "1.*", "1.x.x", "~1", "~1.x", "^1")],
        *[(text, ">=1.2.0 <1.3.0") for text in ("1.2", "1.2.x", "~1.2")],
        ("~1.2.3", ">=1.2.3 <1.3.0"),
        ("^1.2.3", ">=1.2.3 <2.0.0"),
        ("^0.2.3", ">=0.2.3 <0.3.0"),
        ("^0.0.3", ">=0.0.3 <0.0.4"),
        ("^0", ">=0.0.0 <1.0.0"),
        ("^0.0", ">=0.0.0 <0.1.0"),
        ("^0.1", ">=0.1.0 <0.2.0"),
        ("1.2.3 - 2.3.4", ">=1.2.3 <=2.3.4"),
        ("1.2.3 - 2.3", ">=1.2.3 <2.4.0"),
        ("1.2.3 - 2", ">=1.2.3 <3.0.0"),
        (">=1.0.0 <2.0.0", ">=1.0.0 <2.0.0"),
        ("> 1.0.0 < 2.0.0", ">1.0.0 <2.0.0"),
        ("1.0.0 || 2.0.0", "=1.0.0 || =2.0.0"),
        ("^1.2.3 ^1.3.0", ">=1.2.3 <2.0.0 >=1.3.0 <2.0.0"),
        ("==1.0.0", "=1.0.0"),
        ("v1.0.0", "=1.0.0"),
        ("~>1.2.3", "=1.2.3"),
        ("1.0.0 2.0.0", "=1.0.02.0.0"),
    ],
)
def test_meaning_of_every_form(text: str, rendered: str) -> None:
    assert Requirement.parse(text).rendered == rendered


@pytest.mark.parametrize(
    "text",
    [
        ">=1.0.0,<2.0.0",  # case 16
        "!=1.0.0",
        "x",
        "X",
        "=*",
        ">=*",
        "^*",
        ">1.x",
        ">=1.*",
        "<=1.x",
        ">=1.0.0-0",
        "[1.0,2.0)",
        " ",
        "   ",
        "=v1.0.0",
        ">=v1.0",
        ">=",
        "^",
        "1.0.0 -",
        "abc",
        "99999999999.0.0",
        "1.0.0 <2.0.0 (3.0.0 || 4.0.0)",
    ],
)
def test_refuses_what_the_device_refuses(text: str) -> None:
    with pytest.raises(InvalidRequirement) as error:
        Requirement.parse(text)
    assert repr(text) in error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    ("case", "requirement", "expected"),
    [
        ("11, V1", ">=2.0", {"2.0.0": False, "2.0.1": True}),
        ("V1", ">=2", {"2.0.0": False, "2.0.1": True}),
        ("V1", "=2", {"2.0.0": False, "2.0.1": False}),
        ("V1", "=2.0", {"2.0.0": False, "2.0.1": False}),
        ("V1", ">2", {"2.0.0": False, "2.0.1": True}),
        ("12", "^1.2.3", {"1.2.4-beta": False, "1.9.0": True, "2.0.0": False}),
        ("13, V2", ">=1.0.0", {"2.0.0-rc.1": True, "2.0.0-rc1": True}),
        ("V2", "*", {"0.1.0-alpha": True}),
        ("14", ">=1.0.0-rc.1 <2.0.0", {"1.0.0-rc.2": True, "1.1.0-rc.1": False}),
        ("15", "1.2 <1.2.8 || >2.0.0", {"1.2.7": True, "1.2.9": False, "2.0.1": True}),
        ("V3", "=1.2.3", {"1.2.3": True, "1.2.3+b": False}),
        ("V3", "=1.2.3+b", {"1.2.3+b": True, "1.2.3": False}),
        ("V3", ">=1.2.3 <2.0.0", {"1.2.3+b": True}),
        ("V3", "^1.2.3", {"1.2.3+b": True}),
    ],
)
def test_conformance_cases(case: str, requirement: str, expected: dict[str, bool]) -> None:
    assert {version: matches(requirement, version) for version in expected} == expected, case


def test_joining_alternatives_changes_their_meaning() -> None:
    """V4: ``a || b`` with ``>=c`` becomes ``a or (b and >=c)``."""
    joined = conjunction([Requirement.parse("1.0.0 || ^2.0.0"), Requirement.parse(">=2.5.0")])
    assert joined.text == "=1.0.0 || >=2.0.0 <3.0.0 >=2.5.0"
    assert [v for v in ("1.0.0", "2.0.0", "2.5.0") if joined.matches(Version.parse(v))] == ["1.0.0", "2.5.0"]


def test_joining_plain_ranges_keeps_both() -> None:
    joined = conjunction([Requirement.parse("^1.2.0"), Requirement.parse(">=1.3.0"), Requirement.parse("1.x")])
    assert [v for v in ("1.2.0", "1.3.0", "2.0.0") if joined.matches(Version.parse(v))] == ["1.3.0"]


def test_nothing_to_join_admits_everything() -> None:
    assert conjunction([]).matches(Version.parse("0.0.1"))


@pytest.mark.parametrize(
    "text", ["1.0.0", "0.0.0", "1.0.0-rc.1", "1.0.0-0a.b-c", "1.0.0+b.01", "1.0.0--+-", "999999.0.1"]
)
def test_strict_versions_are_read_and_written(text: str) -> None:
    assert str(Version.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.0", "v1.0.0", "1.0.x", "01.0.0", "1.0.0.0", "1.0.0-", "1.0.0-01", "1.0.0+", "1000000.0.0", " 1.0.0",
     "1.0.0\n", "\u0661.0.0", "1.0.0-" + "a" * 64, "latest", "1.0.0-a..b"],
)  # fmt: skip
def test_refuses_what_is_no_version(text: str) -> None:
    with pytest.raises(InvalidVersion):
        Version.parse(text)


@pytest.mark.parametrize("text", ["01.0.0", "1.0.0.0", "1.0.0-", "1.0.0-01"])
def test_the_lax_set_of_the_device_is_behind_a_flag(text: str) -> None:
    assert Version.parse(text, lax=True).major == 1


def test_precedence_is_that_of_semver_org() -> None:
    """Section 11: numbers before words, fewer identifiers before more, pre-releases before the release."""
    ordered = ["1.0.0-1", "1.0.0-2", "1.0.0-11", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta",
               "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.10.0", "2.0.0"]  # fmt: skip
    versions = [Version.parse(text) for text in ordered]
    assert all(low < high for low, high in pairwise(versions))


def test_builds_differ_without_an_order() -> None:
    one, two = Version.parse("1.0.0+a"), Version.parse("1.0.0+b")
    assert one != two
    assert not one < two
    assert one <= two <= one


def test_best_is_the_highest_that_fits() -> None:
    versions = [Version.parse(text) for text in ("1.0.0", "1.5.0", "1.6.0-rc.1", "2.0.0")]
    assert best(versions, Requirement.parse("^1.0.0")) == Version.parse("1.5.0")
    assert best(versions, Requirement.parse("^3.0.0")) is None


numbers = st.integers(0, 12)
identifiers = st.sampled_from(["0", "1", "10", "alpha", "beta", "rc", "RC", "a-b"])
versions = st.builds(
    Version, numbers, numbers, numbers, st.lists(identifiers, max_size=3).map(tuple), st.sampled_from([(), ("b",)])
)
plain = st.builds(Version, numbers, numbers, numbers)


@given(versions)
@settings(deadline=None)
def test_a_version_reads_back(version: Version) -> None:
    assert Version.parse(str(version)) == version


@given(versions, versions, versions)
@settings(deadline=None)
def test_order_is_total_and_transitive(a: Version, b: Version, c: Version) -> None:
    assert (a < b) + (b < a) + (a.precedence == b.precedence) == 1
    if a <= b <= c:
        assert a <= c


@given(plain, plain)
@settings(deadline=None)
def test_comparators_follow_the_order(bound: Version, version: Version) -> None:
    assert matches(f">={bound}", str(version)) == (version >= bound)
    assert matches(f"<{bound}", str(version)) == (version < bound)
    assert matches(f"={bound}", str(version)) == (version == bound)
    assert matches(f">{bound} || <={bound}", str(version))


@given(plain, plain)
@settings(deadline=None)
def test_a_caret_keeps_the_first_number_that_is_not_zero(bound: Version, version: Version) -> None:
    if matches(f"^{bound}", str(version)):
        assert version >= bound
        assert version.major == bound.major


@given(st.text(alphabet="0123456789.*xX ^~<>=|-+v()rc,", max_size=40))
@settings(deadline=None)
def test_any_text_is_a_requirement_or_refused_and_rendering_keeps_its_meaning(text: str) -> None:
    try:
        requirement = Requirement.parse(text)
    except InvalidRequirement:
        return
    requirement.matches(Version(1, 2, 3))
    assert requirement.rendered


@given(st.text(alphabet="019.-+abv", max_size=20))
@settings(deadline=None)
def test_any_text_is_a_version_or_refused(text: str) -> None:
    try:
        assert str(Version.parse(text)) == text
    except InvalidVersion:
        return


def test_a_very_long_requirement_is_read_without_recursion() -> None:
    assert Requirement.parse(" ".join([">1"] * 1300)).matches(Version(1, 0, 1))
    assert Requirement.parse("||".join(["1"] * 1300)).matches(Version(1, 0, 0))


def test_a_requirement_beyond_all_measure_is_refused_at_once() -> None:
    """100,000 alternatives would take minutes to simplify."""
    with pytest.raises(InvalidRequirement, match="characters"):
        Requirement.parse("^1.0.0 || " * 100_000 + "1.0.0")
    assert Requirement.parse("^1.0.0 || " * 300 + "1.0.0").matches(Version(1, 2, 0))

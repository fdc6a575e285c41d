"""What a device takes of a recipe: cases 1 to 8."""

from collections.abc import Mapping
from typing import Any

import pytest

from monodon.core.names import ComponentName
from monodon.core.recipe.model import Manifest, Recipe
from monodon.core.recipe.platform import matches, platform_of, select_lifecycle, select_manifest
from monodon.core.semver import Version


def recipe(*manifests: Manifest, lifecycle: Mapping[str, Any] | None = None) -> Recipe:
    return Recipe(name=ComponentName("A"), version=Version(1, 0, 0), manifests=manifests, lifecycle=lifecycle or {})


def test_the_first_manifest_that_matches_wins() -> None:
    """Case 1."""
    manifests = [
        Manifest(platform={"os": "other", "architecture": "x"}),
        Manifest(platform={"os": "*"}),
        Manifest(platform={"architecture": "x"}),
        Manifest(),
    ]
    for first in range(4):
        remaining = manifests[first:]
        assert select_manifest(recipe(*remaining), {"os": "other", "architecture": "x"}) is remaining[0]


def test_no_manifest_matches() -> None:
    """Case 2, P5."""
    chosen = recipe(Manifest(platform={"os": "unknown"}), Manifest(platform={"architecture": "y"}))
    assert select_manifest(chosen, {"os": "other", "architecture": "x"}) is None


@pytest.mark.parametrize(
    ("case", "wanted", "platform", "expected"),
    [
        ("3", {"os": "/^one|two|other|three$/"}, {"os": "other"}, True),
        ("3", {"os": "/^one|two|three$/"}, {"os": "other"}, False),
        ("3", {"os": "/linux/"}, {"os": "linux2"}, False),
        ("4", {"another": "foo"}, {"os": "linux"}, False),
        ("4", {"another": "*"}, {"os": "linux"}, True),
        (
            "5",
            {"architecture": "fooArch", "key1": "val1"},
            {"os": "l", "architecture": "fooArch", "key1": "val1"},
            True,
        ),
        ("P4", {"os": "all", "architecture": "any"}, {"os": "linux", "architecture": "arm"}, True),
        ("P4", {"os": "any"}, {}, False),
        ("P4", {"os": "linux"}, {"os": ""}, False),
        ("P4", {"key": "any"}, {"key": "x"}, False),
        ("P4", {"key": "any"}, {"key": "any"}, True),
        ("P4", {"key": "_x"}, {"key": "_x"}, False),
        ("P4", {"key": ""}, {"key": "x"}, False),
        ("P4", {"key": "/[/"}, {"key": "["}, False),
        ("1.3", {"OS": "linux"}, {"os": "linux"}, False),
        ("1.3", {"os": "Linux"}, {"os": "linux"}, False),
        ("P6", {"architecture": "arm64"}, {"architecture": "aarch64"}, False),
    ],
)
def test_one_pair_after_the_other(case: str, wanted: dict[str, str], platform: dict[str, str], expected: bool) -> None:
    assert matches(wanted, platform) is expected, case


@pytest.mark.parametrize(
    ("system", "machine", "attributes"),
    [
        ("Linux", "x86_64", {"os": "linux", "architecture": "amd64"}),
        ("Linux", "aarch64", {"os": "linux", "architecture": "aarch64"}),
        ("Linux", "i686", {"os": "linux", "architecture": "x86"}),
        ("Linux", "armv7l", {"os": "linux", "architecture": "arm", "architecture.detail": "armv7l"}),
        ("Darwin", "arm64", {"os": "darwin", "architecture": "aarch64"}),
        ("Windows", "AMD64", {"os": "windows", "architecture": "amd64"}),
        ("Plan9", "mips", {"os": "unknown", "architecture": "unknown"}),
    ],
)
def test_the_attributes_of_a_device(system: str, machine: str, attributes: dict[str, str]) -> None:
    """P1."""
    assert platform_of(system, machine) == attributes


def test_selections_take_the_lifecycle_apart() -> None:
    """Case 6."""
    lifecycle = {
        "key1": {"darwin": "d", "linux": "l"},
        "key2": {"linux": "l", "unix": "u"},
        "key3": {"windows": "w", "all": "a"},
        "key4": {"windows": "w"},
    }
    chosen = Manifest(selections=("darwin", "unix", "all"))
    others = Manifest(selections=("linux", "windows"))
    assert select_lifecycle(recipe(chosen, others, lifecycle=lifecycle), chosen) == {
        "key1": "d",
        "key2": "u",
        "key3": "a",
    }


def test_a_level_without_a_chosen_selector_is_gone() -> None:
    """Case 7."""
    chosen, other = Manifest(selections=("linux",)), Manifest(selections=("windows",))
    lifecycle = {"Run": {"windows": {"Script": "w"}, "Script": "x"}, "Install": "i"}
    assert select_lifecycle(recipe(chosen, other, lifecycle=lifecycle), chosen) == {"Install": "i"}


def test_all_needs_no_selections() -> None:
    """Case 8."""
    chosen = Manifest()
    assert select_lifecycle(recipe(chosen, lifecycle={"all": {"Run": "x"}}), chosen) == {"Run": "x"}


def test_a_lifecycle_of_its_own_wins() -> None:
    chosen = Manifest(lifecycle={"Run": "own"}, selections=("linux",))
    assert select_lifecycle(recipe(chosen, lifecycle={"linux": {"Run": "global"}}), chosen) == {"Run": "own"}


def test_nulls_count_as_absent_and_keys_beside_a_selector_are_dropped() -> None:
    chosen = Manifest(selections=("linux", "all"))
    lifecycle = {"linux": None, "all": {"Run": None, "Install": "i"}, "Script": "dropped"}
    assert select_lifecycle(recipe(chosen, lifecycle=lifecycle), chosen) == {"Install": "i"}


def test_no_map_is_no_lifecycle() -> None:
    chosen = Manifest(selections=("linux",))
    assert select_lifecycle(recipe(chosen, lifecycle={"linux": "text"}), chosen) == {}

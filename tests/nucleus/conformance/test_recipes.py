"""Cases 1 to 16: what a device takes of a recipe, and which versions fit a requirement."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from monodon.core.recipe.model import Manifest, Permission, Recipe, Unarchive
from monodon.core.recipe.platform import matches, select_lifecycle, select_manifest
from monodon.core.recipe.reading import parse_recipe
from monodon.core.semver import Requirement, Version
from monodon.errors import InvalidRequirement, RecipeError

HEAD: Mapping[str, Any] = {
    "RecipeFormatVersion": "2020-01-25",
    "ComponentName": "com.example.A",
    "ComponentVersion": "1.0.0",
}
OTHER_X = {"os": "other", "architecture": "x"}


def recipe(*manifests: Mapping[str, Any] | None, **members: Any) -> Recipe:
    text = json.dumps({**HEAD, "Manifests": list(manifests), **members})
    return parse_recipe(text, file="recipe.json")


def chosen(one: Recipe, platform: Mapping[str, str]) -> Manifest:
    manifest = select_manifest(one, platform)
    assert manifest is not None
    return manifest


def fits(requirement: str, *versions: str) -> list[bool]:
    parsed = Requirement.parse(requirement)
    return [parsed.matches(Version.parse(version)) for version in versions]


def test_case_01_the_first_manifest_that_matches_wins() -> None:
    """Given: manifests [os other+arch x], [os `*`], [arch x], [none] on other/x

    Expect: first; removing it, the next one, and so on
    """
    platforms: list[dict[str, str]] = [OTHER_X, {"os": "*"}, {"architecture": "x"}, {}]
    for first in range(4):
        one = recipe(*({"Platform": platform} for platform in platforms[first:]))
        assert chosen(one, OTHER_X).platform == platforms[first]


def test_case_02_no_manifest_matches() -> None:
    """Given: only [os unknown], [arch y]

    Expect: no manifest
    """
    one = recipe({"Platform": {"os": "unknown"}}, {"Platform": {"architecture": "y"}})
    assert select_manifest(one, OTHER_X) is None


def test_case_03_a_regular_expression_matches_the_whole_value() -> None:
    """Given: os `/^one|two|other|three$/` on `other`

    Expect: match; without `other` no match
    """
    assert matches({"os": "/^one|two|other|three$/"}, {"os": "other"})
    assert not matches({"os": "/^one|two|three$/"}, {"os": "other"})


def test_case_04_a_star_matches_what_the_device_lacks() -> None:
    """Given: Platform another=foo, device lacks it

    Expect: no match; another=`*` matches
    """
    assert not matches({"another": "foo"}, {"os": "linux"})
    assert matches({"another": "*"}, {"os": "linux"})


async def test_case_05_platform_override_adds_and_replaces(device: Any, cloud: Any) -> None:
    """Given: platformOverride architecture=fooArch, key1=val1

    Expect: both seen, os kept
    """
    override = {"platformOverride": {"architecture": "fooArch", "key1": "val1", "number": 7}}
    nucleus = {"version": "2.18.0", "configurationUpdate": {"merge": override}}
    assert (await device.deploy({"aws.greengrass.Nucleus": nucleus})).has_succeeded
    assert dict(device.platform) == {"os": "linux", "architecture": "fooArch", "key1": "val1"}
    platform = {"os": "linux", "architecture": "fooArch", "key1": "val1"}
    cloud.publish("A", "1.0.0", {"Startup": "true"}, platform=platform)
    assert (await device.deploy({"aws.greengrass.Nucleus": nucleus, "A": "1.0.0"})).has_succeeded


def test_case_06_selections_take_the_global_lifecycle_apart() -> None:
    """Given: selections [darwin, unix, all] over key1{darwin,linux}, key2{linux,unix}, key3{windows,all}, key4{windows}

    Expect: darwin value, unix value, all value, key4 gone
    """
    lifecycle = {
        "key1": {"darwin": "d", "linux": "l"},
        "key2": {"linux": "l", "unix": "u"},
        "key3": {"windows": "w", "all": "a"},
        "key4": {"windows": "w"},
    }
    one = recipe(
        {"Platform": {"os": "other"}, "Selections": ["darwin", "unix", "all"]},
        {"Selections": ["linux", "windows"]},
        Lifecycle=lifecycle,
    )
    assert select_lifecycle(one, chosen(one, OTHER_X)) == {"key1": "d", "key2": "u", "key3": "a"}


def test_case_07_a_level_whose_selector_is_not_chosen_is_gone() -> None:
    """Given: level with selector and other keys, selector not chosen

    Expect: whole level gone
    """
    lifecycle = {"Run": {"windows": {"Script": "w"}, "Script": "x"}, "Install": "i"}
    one = recipe({"Selections": ["linux"]}, {"Selections": ["windows"]}, Lifecycle=lifecycle)
    assert select_lifecycle(one, chosen(one, OTHER_X)) == {"Install": "i"}


def test_case_08_all_needs_no_selections() -> None:
    """Given: no Selections, global {all:{…}} on any platform

    Expect: `all` part
    """
    one = recipe({}, Lifecycle={"all": {"Run": "x"}})
    for platform in (OTHER_X, {"os": "linux", "architecture": "aarch64"}, {"os": "windows"}, {}):
        assert select_lifecycle(one, chosen(one, platform)) == {"Run": "x"}


def test_case_09_null_elements_are_refused() -> None:
    """Given: null element in Manifests / Artifacts

    Expect: refused
    """
    for manifests in ([None], [{"Artifacts": [None]}]):
        with pytest.raises(RecipeError, match=r"recipe\.json:1"):
            recipe(*manifests)


def test_case_10_words_are_read_in_any_case() -> None:
    """Given: `read: all` `unarchive: zip` in odd case

    Expect: accepted
    """
    one = recipe({"artifacts": [{"uRI": "s3://b/k.zip", "unArchive": "zIp", "permission": {"READ": "aLL"}}]})
    (artifact,) = one.manifests[0].artifacts
    assert (artifact.unarchive, artifact.read) == (Unarchive.ZIP, Permission.ALL)


def test_case_11_a_partial_version_after_a_comparator() -> None:
    """Given: `>=2.0` against 2.0.0 / 2.0.1

    Expect: no / yes
    """
    assert fits(">=2.0", "2.0.0", "2.0.1") == [False, True]


def test_case_12_a_caret_admits_no_pre_release() -> None:
    """Given: `^1.2.3` against 1.2.4-beta, 1.9.0, 2.0.0

    Expect: no, yes, no
    """
    assert fits("^1.2.3", "1.2.4-beta", "1.9.0", "2.0.0") == [False, True, False]


def test_case_13_a_lone_comparator_admits_pre_releases() -> None:
    """Given: `>=1.0.0` against 2.0.0-rc.1

    Expect: yes
    """
    assert fits(">=1.0.0", "2.0.0-rc.1") == [True]


def test_case_14_a_conjunction_admits_pre_releases_of_its_own_version_alone() -> None:
    """Given: `>=1.0.0-rc.1 <2.0.0` against 1.0.0-rc.2, 1.1.0-rc.1

    Expect: yes, no
    """
    assert fits(">=1.0.0-rc.1 <2.0.0", "1.0.0-rc.2", "1.1.0-rc.1") == [True, False]


def test_case_15_or_binds_weakest() -> None:
    """Given: `1.2 <1.2.8 || >2.0.0` against 1.2.7, 1.2.9, 2.0.1

    Expect: yes, no, yes
    """
    assert fits("1.2 <1.2.8 || >2.0.0", "1.2.7", "1.2.9", "2.0.1") == [True, False, True]


def test_case_16_commas_are_invalid() -> None:
    """Given: `>=1.0.0,<2.0.0`

    Expect: invalid
    """
    with pytest.raises(InvalidRequirement):
        Requirement.parse(">=1.0.0,<2.0.0")

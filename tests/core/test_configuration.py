"""Configuration of a component: nucleus.md 5.5, cases 25-32, consequences C1-C5; the tree of ipc.md 4.3."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.core.configuration import EMPTY, Configuration, ConfigurationUpdate, changed_paths, resolve
from monodon.errors import ConfigurationError

T = 10_000


def tree(*merges: tuple[Mapping[str, Any], int]) -> Configuration:
    configuration = EMPTY
    for value, at_ms in merges:
        configuration = configuration.merge((), value, at_ms=at_ms)
    return configuration


def deploy(
    running: Configuration, defaults: Mapping[str, Any], *, at_ms: int = T, reset: tuple[str, ...] = (), **merge: Any
) -> tuple[dict[str, Any], Configuration]:
    """What variables see, and the live tree afterwards."""
    resolved = resolve(running, defaults, ConfigurationUpdate(merge=merge or None, reset=reset), at_ms=at_ms)
    return resolved.value(), running.replace(resolved.value(), at_ms=at_ms)


@pytest.mark.parametrize(
    ("running", "defaults", "reset", "merge", "live"),
    [
        pytest.param(EMPTY, {"a": 1}, (), {}, {"a": 1}, id="25"),
        pytest.param(
            tree(({"a": "valueB"}, 9000)), {"a": "valueA"}, (), {"a": "valueC"}, {"a": "valueC"}, id="26 newer"
        ),
        pytest.param(
            tree(({"a": "valueB"}, 11000)), {"a": "valueA"}, (), {"a": "valueC"}, {"a": "valueB"}, id="26 older"
        ),
        pytest.param(tree(({"a": "B", "b": "D"}, 9000)), {"a": "A"}, ("/a", "/b"), {}, {"a": "A"}, id="27"),
        pytest.param(tree(({"a": 5, "b": 6}, 9000)), {"a": 1}, ("", "/a"), {}, {"a": 1}, id="28"),
        pytest.param(tree(({"list": [1, 2]}, 9000)), {}, ("/list/0",), {}, {"list": [1, 2]}, id="29"),
        pytest.param(tree(({"a": {"b": 1}}, 11000)), {}, (), {"a": 7}, {"a": 7}, id="30 leaf over map"),
        pytest.param(tree(({"a": 7}, 9000)), {}, (), {"a": {"b": 1}}, {"a": {"b": 1}}, id="30 map over leaf"),
        pytest.param(tree(({"a": 7}, 9000)), {"a": 1}, (), {"a": None}, {"a": None}, id="31"),
        pytest.param(tree(({"list": [1, 2]}, 9000)), {}, (), {"list": [3]}, {"list": [3]}, id="32, C5"),
    ],
)
def test_cases_25_to_32(
    running: Configuration, defaults: dict[str, Any], reset: tuple[str, ...], merge: dict[str, Any], live: Any
) -> None:
    assert deploy(running, defaults, reset=reset, **merge)[1].value() == live


def test_case_28a_a_changed_default_does_not_arrive_but_a_new_one_does() -> None:
    _, first = deploy(EMPTY, {"a": 1})
    assert first.modified_ms(("a",)) == T
    assert deploy(first, {"a": 2, "b": 3}, at_ms=T + 1)[1].value() == {"a": 1, "b": 3}


def test_case_28b_a_reset_shows_variables_the_default_while_the_newer_live_value_stays() -> None:
    seen, live = deploy(tree(({"a": 9}, 11_000)), {"a": 1}, reset=("/a",))
    assert (seen, live.value()) == ({"a": 1}, {"a": 9})


def test_case_28c_a_reset_without_default_removes_whatever_its_time() -> None:
    seen, live = deploy(tree(({"x": 9}, 11_000)), {}, reset=("/x",))
    assert (seen, live.value()) == ({}, {})


def test_case_28d_a_key_in_another_case_is_the_same_key_in_its_first_spelling() -> None:
    assert deploy(EMPTY, {"message": "a"}, Message="z")[1].value() == {"message": "z"}


def test_keys_that_a_new_version_dropped_stay() -> None:
    """C2."""
    _, first = deploy(EMPTY, {"a": 1, "old": 2})
    assert deploy(first, {"a": 1}, at_ms=T + 1)[1].value() == {"a": 1, "old": 2}


def test_a_value_written_by_the_component_later_wins_over_an_older_deployment() -> None:
    """C3."""
    live = deploy(EMPTY, {"a": 1})[1].merge((), {"a": 2}, at_ms=T + 500)
    assert deploy(live, {"a": 1}, at_ms=T + 400, a=3)[1].value() == {"a": 2}
    assert live.losing_paths({"a": 3, "b": 1}, at_ms=T + 400) == (("a",),)


def test_resets_are_refused_when_a_segment_could_be_an_index_or_the_pointer_is_none() -> None:
    tree_, refused = tree(({"a": {"1": 2}, "b": 1}, 1)).reset(("/a/1", "b", "/missing", "/B"))
    assert refused == ("/a/1", "b")
    assert tree_.value() == {"a": {"1": 2}}
    assert ConfigurationUpdate(reset=("", "/list/0")).refused == ("/list/0",)


def test_pointers_escape_slash_and_tilde() -> None:
    assert tree(({"a/b": {"c~d": 1}}, 1)).reset(("/a~1b/c~0d",))[0].value() == {"a/b": {}}


def test_a_map_is_as_new_as_its_newest_child() -> None:
    """ipc.md 4.3: a new key with an old time beside a newer one is written, and the map stays newer."""
    configuration = tree(({"m": {"new": 1}}, 500), ({"m": {"old": 2}}, 100))
    assert configuration.value() == {"m": {"new": 1, "old": 2}}
    assert configuration.modified_ms(("m",)) == 500
    assert configuration.modified_ms(("M", "OLD")) == 100


def test_an_equal_value_with_a_newer_time_moves_only_the_time() -> None:
    before = tree(({"a": 1}, 100))
    after = before.merge((), {"a": 1}, at_ms=200)
    assert after.modified_ms(("a",)) == 200
    assert changed_paths(before, after) == ()


def test_an_update_makes_missing_levels_and_replaces_a_leaf_by_the_map() -> None:
    configuration = EMPTY.merge(("a", "b"), {"c": 1}, at_ms=5)
    assert configuration.value() == {"a": {"b": {"c": 1}}}
    assert configuration.merge(("A", "B", "c"), {"d": 2}, at_ms=1).value() == {"a": {"b": {"c": {"d": 2}}}}
    with pytest.raises(ConfigurationError, match="/a/b/c is a value"):
        configuration.merge(("a", "b", "c", "d"), {"e": 1}, at_ms=9)


def test_private_keys_are_found_but_neither_read_with_their_map_nor_kept() -> None:
    configuration = tree(({"_x": 1, "m": {"_y": 2, "z": 3}}, 1))
    assert configuration.value() == {"m": {"z": 3}}
    assert configuration.get(("_x",)) == 1
    assert Configuration.from_record(configuration.to_record()).value() == {"m": {"z": 3}}
    assert not Configuration.from_record(configuration.to_record()).contains(("m", "_y"))


def test_changed_paths_name_changed_and_new_leaves_and_removed_nodes() -> None:
    before = tree(({"a": 1, "b": {"c": 1, "d": 2}, "leaf": 1, "map": {"x": 1}, "t": 1}, 1))
    value = {"a": 1.0, "b": {"c": 1}, "leaf": {"y": 1}, "map": 2, "new": {"deep": {"leaf": None}, "empty": {}}, "t": 1}
    after = before.replace(value, at_ms=2)
    assert set(changed_paths(before, after)) == {
        ("a",), ("b", "d"), ("leaf",), ("leaf", "y"), ("map",), ("new", "deep", "leaf"),
    }  # fmt: skip
    assert changed_paths(before, EMPTY) == (("a",), ("b",), ("leaf",), ("map",), ("t",))


def test_what_is_read_is_a_copy_and_what_is_given_is_copied() -> None:
    given = {"list": [{"a": 1}]}
    configuration = tree((given, 1))
    given["list"].append({})
    configuration.get(("list",))[0]["a"] = 2
    assert configuration.value() == {"list": [{"a": 1}]}


def test_errors_name_the_place() -> None:
    with pytest.raises(ConfigurationError, match="no configuration at /a/b"):
        EMPTY.get(("a", "b"))
    with pytest.raises(ConfigurationError, match="/a/b: a value must be JSON, not set"):
        EMPTY.merge((), {"a": {"b": {1}}}, at_ms=1)
    with pytest.raises(ConfigurationError, match="/a: a key must be text"):
        EMPTY.merge((), {"a": {1: 2}}, at_ms=1)  # type: ignore[dict-item]
    with pytest.raises(ConfigurationError, match="not a configuration record"):
        Configuration.from_record({"c": {"a": {"v": 1}}, "t": 0})


def test_spelling_is_that_of_creation() -> None:
    configuration = tree(({"Outer": {"innerKey": 1}}, 1))
    assert configuration.spelling(("OUTER", "INNERKEY")) == ("Outer", "innerKey")
    assert configuration.is_leaf(("outer", "innerkey"))
    assert not configuration.is_leaf(("outer",))
    assert configuration != tree(({"outer": {"innerKey": 1}}, 1))


# Laws. Keys are drawn in one case, so that a map never names one key twice.
keys = st.sampled_from(["a", "b", "c", "d/e", "1"])
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False).map(lambda x: x + 0.0) | st.text(max_size=3)
)
leaves = scalars | st.lists(scalars, max_size=2)
maps = st.dictionaries(keys, st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, max_size=3)), max_size=4)
times = st.integers(min_value=1, max_value=6)
trees = st.lists(st.tuples(maps, times), max_size=3).map(lambda merges: tree(*merges))


@settings(deadline=None)
@given(trees, maps)
def test_law_a_merge_newer_than_everything_is_seen_whole(configuration: Configuration, value: dict[str, Any]) -> None:
    after = configuration.merge((), value, at_ms=9)
    wanted = EMPTY.merge((), value, at_ms=9)
    assert all(after.get(path) == leaf and after.modified_ms(path) == 9 for path, leaf, _ in wanted.leaves())


@settings(deadline=None)
@given(trees, maps, times)
def test_law_merging_twice_is_merging_once(configuration: Configuration, value: dict[str, Any], at_ms: int) -> None:
    once = configuration.merge((), value, at_ms=at_ms)
    assert once.merge((), value, at_ms=at_ms) == once


@settings(deadline=None)
@given(trees, maps)
def test_law_replace_newer_than_everything_gives_the_value(configuration: Configuration, value: dict[str, Any]) -> None:
    assert configuration.replace(value, at_ms=9).value() == value


@settings(deadline=None)
@given(trees, maps, times)
def test_law_replace_keeps_no_key_that_the_value_lacks(
    configuration: Configuration, value: dict[str, Any], at_ms: int
) -> None:
    after = configuration.replace(value, at_ms=at_ms)
    wanted = EMPTY.replace(value, at_ms=at_ms)
    assert {path for path, _, _ in after.leaves()} == {path for path, _, _ in wanted.leaves()}
    assert all(time_ms >= at_ms for _, _, time_ms in after.leaves())


@settings(deadline=None)
@given(trees, maps, times)
def test_law_no_leaf_grows_older_by_a_merge(configuration: Configuration, value: dict[str, Any], at_ms: int) -> None:
    after = configuration.merge((), value, at_ms=at_ms)
    assert all(
        after.modified_ms(path) >= time_ms for path, _, time_ms in configuration.leaves() if after.is_leaf(path)
        and not any(EMPTY.merge((), value, at_ms=1).is_leaf(path[:n]) for n in range(1, len(path)))
    )  # fmt: skip


@settings(deadline=None)
@given(trees)
def test_law_a_record_gives_the_tree_back_and_nothing_changed(configuration: Configuration) -> None:
    again = Configuration.from_record(configuration.to_record())
    assert again == configuration
    assert changed_paths(configuration, again) == ()


@settings(deadline=None)
@given(trees, trees)
def test_law_changed_paths_are_of_the_leaves_that_differ(one: Configuration, other: Configuration) -> None:
    changed = set(changed_paths(one, other))
    for path, value, _ in other.leaves():
        same = one.is_leaf(path) and repr(one.get(path)) == repr(value)
        assert (path not in changed) or not same
        assert same or path in changed or any(path[:n] in changed for n in range(1, len(path)))


@settings(deadline=None)
@given(trees, maps, times)
def test_law_deploying_the_same_again_changes_nothing(
    running: Configuration, defaults: dict[str, Any], at_ms: int
) -> None:
    _, live = deploy(running, defaults, at_ms=at_ms)
    _, again = deploy(live, defaults, at_ms=at_ms)
    assert again == live

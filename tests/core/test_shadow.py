"""Shadow documents: merge, delta, metadata and version rules."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.core.json import Json
from monodon.core.shadow import Request, Shadow, ShadowError, delta, document, read_request, update


def ask(state: Json, **others: Json) -> Request:
    return read_request(json.dumps({"state": state, **others}))


def after(*states: Json) -> Shadow:
    shadow: Shadow | None = None
    for now, state in enumerate(states, start=100):
        shadow = update(shadow, ask(state), now).shadow
    assert shadow is not None
    return shadow


MERGES: list[tuple[list[Json], Json]] = [
    ([{"desired": {"a": 1}}], {"desired": {"a": 1}, "delta": {"a": 1}}),
    ([{"desired": {"a": 1}}, {"desired": {"b": 2}}], {"desired": {"a": 1, "b": 2}, "delta": {"a": 1, "b": 2}}),
    ([{"desired": {"a": 1, "b": 2}}, {"desired": {"a": None}}], {"desired": {"b": 2}, "delta": {"b": 2}}),
    ([{"desired": {"a": [1, 2]}}, {"desired": {"a": [3]}}], {"desired": {"a": [3]}, "delta": {"a": [3]}}),
    ([{"desired": {"a": {"x": 1}}}, {"desired": {"a": {"y": 2}}, "reported": {"a": {"x": 1}}}],
     {"desired": {"a": {"x": 1, "y": 2}}, "reported": {"a": {"x": 1}}, "delta": {"a": {"y": 2}}}),
    ([{"desired": {"a": 1}}, {"desired": None, "reported": {"b": 1}}], {"reported": {"b": 1}}),
    ([{"desired": {"a": 1}, "reported": {"a": 1, "c": 9}}], {"desired": {"a": 1}, "reported": {"a": 1, "c": 9}}),
    ([{"desired": {"a": True}, "reported": {"a": 1}}],
     {"desired": {"a": True}, "reported": {"a": 1}, "delta": {"a": True}}),
    ([{"desired": {"a": 1}, "delta": {"z": 1}}], {"desired": {"a": 1}, "delta": {"a": 1}}),
    ([{"desired": {"a": 1}}, {"desired": {"a": {"b": 1}}}], {"desired": {"a": {"b": 1}}, "delta": {"a": {"b": 1}}}),
]  # fmt: skip


@pytest.mark.parametrize(("states", "expected"), MERGES)
def test_states_merge_as_aws_merges_them(states: list[Json], expected: Json) -> None:
    """Null removes a key, arrays replace, ``desired: null`` clears the section, ``state.delta`` is dropped."""
    assert document(after(*states), 200)["state"] == expected


def test_each_leaf_keeps_the_time_of_its_own_change() -> None:
    shadow = after({"desired": {"a": 1, "list": [1, 2]}}, {"desired": {"b": 2}})
    assert shadow.desired.metadata == {
        "a": {"timestamp": 100},
        "list": [{"timestamp": 100}, {"timestamp": 100}],
        "b": {"timestamp": 101},
    }


def test_an_update_is_answered_with_what_it_gave_and_tells_of_delta_and_documents() -> None:
    first = update(None, ask({"reported": {"on": False}}), 100)
    assert first.delta is None
    assert first.documents["previous"] is None
    second = update(first.shadow, ask({"desired": {"on": True}}, clientToken="t", version=1), 105)
    stamped = {"on": {"timestamp": 105}}
    assert second.accepted == {
        "state": {"desired": {"on": True}},
        "metadata": {"desired": stamped},
        "version": 2,
        "timestamp": 105,
        "clientToken": "t",
    }
    assert second.delta == {
        "state": {"on": True},
        "metadata": stamped,
        "version": 2,
        "timestamp": 105,
        "clientToken": "t",
    }
    assert second.documents["previous"]["version"] == 1
    assert second.documents["current"]["state"] == {"desired": {"on": True}, "reported": {"on": False}}


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"state": 1}', 400),
        (b'{"state": {"other": {}}}', 400),
        (b'{"state": {"desired": []}}', 400),
        (b'{"state": {}, "version": "1"}', 400),
        (b'{"state": {}, "clientToken": 7}', 400),
        (b'{"state": {"desired": {"a":{"b":{"c":{"d":{"e":{"f":1}}}}}}}}', 200),
        (b'{"state": {"desired": {"a":{"b":{"c":{"d":{"e":{"f":{"g":1}}}}}}}}}', 400),
        (b"[" * 100_000, 400),
        (b"\xff", 400),
    ],
)
def test_a_request_that_is_no_update_is_refused(payload: bytes, code: int) -> None:
    if code == 200:
        read_request(payload)
        return
    with pytest.raises(ShadowError) as caught:
        read_request(payload)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("exists", "version", "code"), [(True, 1, None), (True, 2, 409), (False, 1, None), (False, 7, 400)]
)
def test_an_update_may_insist_on_a_version(exists: bool, version: int, code: int | None) -> None:
    shadow = after({"desired": {"a": 1}}) if exists else None
    request = ask({"desired": {"a": 2}}, version=version)
    if code is None:
        update(shadow, request, 1)
        return
    with pytest.raises(ShadowError) as caught:
        update(shadow, request, 1)
    assert caught.value.code == code


def test_a_shadow_made_again_goes_on_counting_in_the_cloud() -> None:
    assert update(None, ask({}), 1, first_version=8).shadow.version == 8


def test_a_shadow_has_a_size_limit() -> None:
    with pytest.raises(ShadowError) as caught:
        update(None, ask({"desired": {"a": "x" * 9000}}), 1)
    assert caught.value.code == 413
    update(None, ask({"desired": {"a": "x" * 9000}}), 1, limit_bytes=None)


LEAVES = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2) | st.lists(st.integers(0, 2), max_size=2)
)
TREES = st.recursive(
    st.dictionaries(st.sampled_from("abc"), LEAVES, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), LEAVES | inner, max_size=3),
    max_leaves=6,
)


def shape(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return [shape(each) for each in value] if isinstance(value, list) else None


def stamps(value: Json) -> Json:
    if isinstance(value, dict):
        return None if set(value) == {"timestamp"} else {key: stamps(each) for key, each in value.items()}
    return [stamps(each) for each in value]


@given(st.lists(TREES, min_size=1, max_size=4))
def test_metadata_has_the_shape_of_the_state_and_no_null_is_kept(trees: list[Json]) -> None:
    shadow = after(*({"desired": tree} for tree in trees))
    assert stamps(shadow.desired.metadata) == shape(shadow.desired.state)
    assert "null" not in json.dumps({key: each for key, each in shadow.desired.state.items() if each != []})
    assert Shadow.from_record(json.loads(json.dumps(shadow.to_record()))) == shadow


@given(TREES, TREES)
def test_reporting_the_delta_leaves_none(desired: Json, reported: Json) -> None:
    shadow = after({"desired": desired, "reported": reported})
    settled = update(shadow, ask({"reported": delta(shadow)}), 200).shadow
    #: a leaf that was reported where an object is desired is replaced by it, and the other way round
    assert delta(settled) == {}


@given(TREES)
def test_the_same_update_twice_changes_nothing_but_version_and_times(tree: Json) -> None:
    once, twice = after({"desired": tree}), after({"desired": tree}, {"desired": tree})
    assert once.desired.state == twice.desired.state
    assert twice.version == once.version + 1

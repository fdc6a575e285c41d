"""Topics: the tables of ipc.md 4.1 and 4.2, and MQTT 5.0's own examples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.core.topics import (
    Matching,
    Subscriptions,
    has_wildcard,
    iot_limit_problem,
    iot_matches,
    local_matches,
    split_shared,
    valid_iot_filter,
    valid_iot_topic,
    valid_local_topic,
)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a", "a", True),
        ("a", "A", False),
        ("a/b", "a/b", True),
        ("a/b/", "a/b", True),
        ("a/b", "a/b//", True),
        ("a//b", "a/b", False),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/b/c", False),
        ("+/b", "/b", True),
        ("+", "a", True),
        ("#", "a", True),
        ("#", "a/b/c", True),
        ("#", "$aws/x", True),
        ("+/x", "$aws/x", True),
        ("a/#", "a", False),
        ("a/#", "a/b", True),
        ("a/#", "a/b/c", True),
        ("a/#/c", "a/b/c", True),
        ("a/#/c", "a/b/b/c", False),
        ("a/#/", "a/b/c", True),
        ("a/b+", "a/b+", True),
        ("a/b+", "a/bx", False),
        ("a/b#", "a/bx", False),
        ("/", "#", False),
    ],
)
def test_local_matching(topic_filter: str, topic: str, expected: bool) -> None:
    assert local_matches(topic_filter, topic) is expected


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("#", "a/b", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("a/b/", "a/b", False),
        ("#", "$SYS/x", False),
        ("+/x", "$aws/x", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/monitor", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
        ("a/#", "a/$b", True),
        ("a/+", "a/$b", True),
    ],
)
def test_iot_matching(topic_filter: str, topic: str, expected: bool) -> None:
    """MQTT 5.0, 4.7.1 and 4.7.2."""
    assert iot_matches(topic_filter, topic) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#", True),
        ("sport/tennis/#", True),
        ("sport/tennis#", False),
        ("sport/tennis/#/ranking", False),
        ("+", True),
        ("+/tennis/#", True),
        ("sport+", False),
        ("sport/+/player1", True),
        ("", False),
        ("a\0b", False),
        ("/", True),
        ("$share/group/a/#", True),
        ("$share/group", False),
        ("$share//a", False),
        ("$share/gr+oup/a", False),
        ("$share/group/a#", False),
        ("a\ud800", False),
        ("x" * 65_536, False),
    ],
)
def test_valid_filters_of_mqtt(text: str, expected: bool) -> None:
    assert valid_iot_filter(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"), [("a/b", True), ("a/+", False), ("#", False), ("", False), ("a\0", False)]
)
def test_valid_topics_of_mqtt(text: str, expected: bool) -> None:
    assert valid_iot_topic(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"), [("a/b", True), ("a*", False), ("a/+b", False), ("#", False), ("$x", True)]
)
def test_local_topics_hold_no_wildcard_character(text: str, expected: bool) -> None:
    assert valid_local_topic(text) is expected


@pytest.mark.parametrize(
    ("text", "is_fine"),
    [
        ("/".join("abcdefgh"), True),
        ("/".join("abcdefghi"), False),
        ("x" * 256, True),
        ("x" * 257, False),
        ("$aws/rules/my_rule/" + "/".join("abcdefgh"), True),
        ("$aws/rules/my_rule/" + "/".join("abcdefghi"), False),
        ("$share/group/" + "/".join("abcdefgh"), True),
        ("$share/group/" + "x" * 257, False),
    ],
)
def test_limits_of_iot_core(text: str, is_fine: bool) -> None:
    """At most 7 slashes and 256 characters, not counting $aws/rules/<rule>/ and $share/<group>/."""
    assert (iot_limit_problem(text) is None) is is_fine


def test_a_shared_subscription_names_its_group() -> None:
    assert split_shared("$share/g/a/#") == ("g", "a/#")
    assert split_shared("a/#") == (None, "a/#")


def test_only_whole_levels_are_wildcards() -> None:
    assert has_wildcard("a/+/b")
    assert has_wildcard("#")
    assert not has_wildcard("a/b+")


def test_equal_filters_of_two_subscribers_each_count() -> None:
    index: Subscriptions[str] = Subscriptions(Matching.LOCAL)
    index.add("a/+", "one")
    index.add("a/+", "two")
    index.add("a/b", "one")
    index.add("a/b", "one")
    assert sorted(index.matching("a/b")) == ["one", "one", "two"]
    assert len(index) == 3


def test_empty_branches_are_removed() -> None:
    index: Subscriptions[str] = Subscriptions(Matching.IOT)
    index.add("a/b/c", "one")
    index.add("a/#", "one")
    assert index.remove("a/b/c", "one")
    assert not index.remove("a/b/c", "one")
    assert not index.remove("a/b", "one")
    assert index.remove("a/#", "one")
    assert index.is_empty
    assert len(index) == 0


LEVEL = st.sampled_from(["", "a", "b", "$aws", "$x"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=5).map("/".join).filter(bool)
LOCAL_FILTER = st.lists(LEVEL | st.sampled_from(["+", "#", "a+"]), min_size=1, max_size=5).map("/".join).filter(bool)


@given(filters=st.lists(LOCAL_FILTER, max_size=12), topic=TOPIC)
def test_the_local_index_agrees_with_the_definition(filters: list[str], topic: str) -> None:
    index: Subscriptions[int] = Subscriptions(Matching.LOCAL)
    for number, topic_filter in enumerate(filters):
        index.add(topic_filter, number)
    expected = [number for number, topic_filter in enumerate(filters) if local_matches(topic_filter, topic)]
    assert sorted(index.matching(topic)) == expected
    for number, topic_filter in enumerate(filters):
        assert index.remove(topic_filter, number)
    assert index.is_empty


@given(filters=st.lists(LOCAL_FILTER.filter(valid_iot_filter), max_size=12), topic=TOPIC)
def test_the_iot_index_agrees_with_the_definition(filters: list[str], topic: str) -> None:
    index: Subscriptions[int] = Subscriptions(Matching.IOT)
    for number, topic_filter in enumerate(filters):
        index.add(topic_filter, number)
    expected = [number for number, topic_filter in enumerate(filters) if iot_matches(topic_filter, topic)]
    assert sorted(index.matching(topic)) == expected
    for number, topic_filter in enumerate(filters):
        assert index.remove(topic_filter, number)
    assert index.is_empty


def test_what_is_remembered_of_a_topic_ends_with_the_next_change() -> None:
    index: Subscriptions[str] = Subscriptions(Matching.LOCAL)
    index.add("a/b", "one")
    assert index.matching("a/b") == index.matching("a/b") == ("one",)
    index.add("a/+", "two")
    assert set(index.matching("a/b")) == {"one", "two"}
    index.remove("a/b", "one")
    assert index.matching("a/b") == ("two",)
    for number in range(3000):
        assert index.matching(f"c/{number}") == ()
    assert index.matching("a/" + "x" * 10_000) == ("two",)

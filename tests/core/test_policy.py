"""Access control: the tables and rules of ipc.md section 5."""

import json
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from monodon.core.json import Json
from monodon.core.policy import (
    MQTT_PROXY,
    PUBSUB,
    SERVICE_OF,
    SERVICES,
    AccessControl,
    grant,
    grant_text,
    resource_text,
)

PUBLISH = "aws.greengrass#PublishToTopic"
SUBSCRIBE = "aws.greengrass#SubscribeToTopic"
IOT = "aws.greengrass#PublishToIoTCore"


def policies(*resources: str, service: str = PUBSUB, operations: Json = ("*",)) -> Json:
    return {service: {"p": {"operations": list(operations), "resources": list(resources)}}}


def allowed(service: str, policy: str, resource: str) -> bool:
    operation = SERVICES[service][0]
    return AccessControl.read(policies(policy, service=service)).allows(service, operation, resource)


TABLE = [
    (PUBSUB, "a/*", ["a/b", "a/b/c", "a/", "a/#", "a/+"], ["a", "b/a/"]),
    (PUBSUB, "a/#", ["a/#"], ["a/b"]),
    (PUBSUB, "*/x/*", ["/x/", "1/2/x/3"], ["x/3"]),
    (PUBSUB, "a/${*}", ["a/*"], ["a/b"]),
    (MQTT_PROXY, "a/#", ["a", "a/b", "a/b/c", "a/+/c"], ["ab", "b"]),
    (MQTT_PROXY, "a/+/c", ["a/b/c", "a//c", "a/+/c"], ["a/c", "a/b/b/c"]),
    (MQTT_PROXY, "a/+", ["a/b", "a/", "a/#"], ["a", "a/b/c"]),
    (MQTT_PROXY, "a/b+/c", ["a/b+/c"], ["a/bx/c"]),
    (MQTT_PROXY, "a/*/+/#", ["a/x/y/z", "a/x/y"], ["b/x/y"]),
    (PUBSUB, "a?b", [], ["a?b", "axb"]),
    (PUBSUB, "${c}", [], ["${c}", "c"]),
    # rules 1 to 5
    (PUBSUB, "${$}{x}/${?}", ["${x}/?"], ["x/?"]),
    (PUBSUB, "*", ["", "a", "a/b\nc"], []),
    (PUBSUB, "**", ["", "a/b"], []),
    (PUBSUB, "a*b*c", ["abc", "a/b/c", "aXbYbc"], ["ac", "abcd"]),
    (PUBSUB, "A", ["A"], ["a", "AA"]),
    (PUBSUB, "$aws/x.", ["$aws/x."], ["$aws/xy"]),
    (MQTT_PROXY, "#", ["", "a", "a/b"], []),
    (MQTT_PROXY, "+", ["", "a"], ["a/b"]),
    (MQTT_PROXY, "+/a", ["/a", "b/a"], ["a"]),
    (MQTT_PROXY, "a/#/b", ["a/#/b"], ["a/x/b"]),
    (MQTT_PROXY, "a#", ["a#"], ["a", "ab"]),
    (MQTT_PROXY, "*/+/c", ["x/y/c", "/y/c", "a/b//c"], ["c", "/c"]),
    (MQTT_PROXY, "*/+/c/*", ["x/y/c/d", "a/c/b/c/", "//c/"], ["x/c/d"]),
    (MQTT_PROXY, "a/*#", ["a/#", "a/x#"], ["a/x"]),
]


@pytest.mark.parametrize(
    ("service", "policy", "resource", "expected"),
    [
        (service, policy, resource, expected)
        for service, policy, yes, no in TABLE
        for expected, resources in ((True, yes), (False, no))
        for resource in resources
    ],
)
def test_resources(service: str, policy: str, resource: str, expected: bool) -> None:
    assert allowed(service, policy, resource) is expected


def reference(pattern: str, text: str, *, mqtt: bool) -> bool:
    """The equivalent regular expressions of section 5, walked naively over patterns without escapes."""
    if mqtt and pattern in ("#", "/#"):
        return pattern == "#" or text == "" or text.startswith("/")
    if mqtt and pattern.endswith("/#"):
        stem = pattern[:-2]
        return any(
            reference_stars(stem, text[:end]) for end in range(len(text) + 1) if end == len(text) or text[end] == "/"
        )
    return reference_stars(pattern, text, mqtt=mqtt)


def reference_stars(pattern: str, text: str, *, mqtt: bool = True, at_start: bool = True) -> bool:
    if not pattern:
        return not text
    head, tail = pattern[0], pattern[1:]
    if head == "*":
        return any(reference_stars(tail, text[i:], mqtt=mqtt, at_start=False) for i in range(len(text) + 1))
    if mqtt and head == "+" and at_start and (not tail or tail[0] == "/"):
        end = text.find("/")
        end = len(text) if end < 0 else end
        return reference_stars(tail, text[end:], mqtt=mqtt, at_start=False)
    return text[:1] == head and reference_stars(tail, text[1:], mqtt=mqtt, at_start=head == "/")


@given(pattern=st.text("ab/*+", max_size=9), suffix=st.sampled_from(["", "/#"]), text=st.text("ab/+", max_size=9))
def test_mqtt_resources_agree_with_the_definition(pattern: str, suffix: str, text: str) -> None:
    expected = reference(pattern + suffix, text, mqtt=True) or pattern + suffix == "*"
    assert allowed(MQTT_PROXY, pattern + suffix, text) is expected


@given(pattern=st.text("ab/*+#", max_size=9), text=st.text("ab/+#", max_size=9))
def test_literal_resources_agree_with_the_definition(pattern: str, text: str) -> None:
    assert allowed(PUBSUB, pattern, text) is reference_stars(pattern, text, mqtt=False)


@given(st.text("a*?${}/+#", max_size=12))
def test_a_granted_resource_covers_exactly_itself(resource: str) -> None:
    control = AccessControl.read(grant("com.example.A", PUBSUB, PUBLISH, resource)["accessControl"])
    assert control.problems == ()
    assert control.allows(PUBSUB, PUBLISH, resource)
    assert not control.allows(PUBSUB, SUBSCRIBE, resource)
    assert not control.allows(PUBSUB, PUBLISH, resource + "x")


def test_many_stars_take_no_exponential_time() -> None:
    control = AccessControl.read(policies("*a" * 40 + "b"))
    start = time.perf_counter()
    assert not control.allows(PUBSUB, PUBLISH, "a" * 20_000)
    assert time.perf_counter() - start < 1


def test_operations_compare_exactly() -> None:
    """Prefix included and with case: PublishToTopic alone never matches."""
    for operations in (["PublishToTopic"], ["aws.greengrass#publishtotopic"], ["aws.greengrass#Publish*"], []):
        assert not AccessControl.read(policies("*", operations=operations)).allows(PUBSUB, PUBLISH, "t")
    control = AccessControl.read(policies("*", operations=[PUBLISH]))
    assert control.allows(PUBSUB, PUBLISH, "t")
    assert not control.allows(PUBSUB, SUBSCRIBE, "t")


def test_policies_of_a_service_unite_and_serve_no_other_service() -> None:
    control = AccessControl.read(
        {PUBSUB: {"1": {"operations": [PUBLISH], "resources": ["a"]}, "2": {"operations": ["*"], "resources": ["b"]}}}
    )
    assert control.allows(PUBSUB, PUBLISH, "a")
    assert control.allows(PUBSUB, SUBSCRIBE, "b")
    assert not control.allows(PUBSUB, SUBSCRIBE, "a")
    assert not control.allows(MQTT_PROXY, IOT, "b")


def test_field_names_are_read_without_regard_to_case() -> None:
    control = AccessControl.read({PUBSUB: {"p": {"OPERATIONS": ["*"], "Resources": ["a"], "policydescription": "x"}}})
    assert control.allows(PUBSUB, PUBLISH, "a")


def test_a_json_text_is_parsed() -> None:
    assert AccessControl.read(json.dumps(policies("a"))).allows(PUBSUB, PUBLISH, "a")


@pytest.mark.parametrize("value", [None, {}, "", {PUBSUB: {}}])
def test_nothing_allows_nothing(value: Json) -> None:
    control = AccessControl.read(value)
    assert not control.allows(PUBSUB, PUBLISH, "a")
    assert control.problems == ()


@pytest.mark.parametrize(
    "broken",
    [
        "[",
        5,
        [1],
        {"x": 1} | policies("a") | {MQTT_PROXY: []},
        policies("a") | {MQTT_PROXY: {"p": []}},
        policies("a") | {MQTT_PROXY: {"p": {"operations": "*", "resources": ["b"]}}},
        policies("a") | {MQTT_PROXY: {"p": {"operations": ["*"], "resources": "b"}}},
        policies("a") | {MQTT_PROXY: {"p": {"operations": ["*"], "resources": [["b"]]}}},
        policies("a") | {MQTT_PROXY: {"p": {"operations": ["*"], "resources": ["b"], "principals": ["c"]}}},
    ],
)
def test_an_unparsable_access_control_drops_all_policies(broken: Json) -> None:
    """Also a text where a list belongs, and a field that a policy has not: so does AuthorizationPolicyParser.java."""
    control = AccessControl.read(broken)
    assert not control.allows(PUBSUB, PUBLISH, "a")
    assert "all policies are ignored" in control.problems[0]


def test_what_is_wrong_drops_only_itself() -> None:
    """A policy without operations is skipped, without resources allows nothing, a bad resource drops only itself."""
    control = AccessControl.read(
        {
            "com.example.None": {"p": {"operations": ["*"], "resources": ["*"]}},
            PUBSUB: {
                "1": {"resources": ["x"]},
                "2": {"operations": ["*"]},
                "3": {"operations": ["*"], "resources": ["a?", "${z}", "fine", "{iot:thingName}/x"]},
            },
        }
    )
    assert control.allows(PUBSUB, PUBLISH, "fine")
    assert not control.allows(PUBSUB, PUBLISH, "x")
    assert [text for text in control.problems if "no service" in text]
    assert [text for text in control.problems if "no operations" in text]
    assert [text for text in control.problems if "no resources" in text]
    assert len([text for text in control.problems if "is dropped" in text]) == 2
    assert [text for text in control.problems if "interpolateComponentConfiguration" in text]


def test_the_block_to_paste_is_yaml_that_allows() -> None:
    text = grant_text("com.example.A", MQTT_PROXY, IOT, 'a/"ü"/*')
    block = yaml.safe_load(text)
    assert block == grant("com.example.A", MQTT_PROXY, IOT, 'a/"ü"/*')
    assert AccessControl.read(block["accessControl"]).allows(MQTT_PROXY, IOT, 'a/"ü"/*')


def test_resource_text_leaves_reserved_topics_readable() -> None:
    assert resource_text("$aws/things/x/+") == "$aws/things/x/+"


def test_every_operation_has_one_service() -> None:
    assert SERVICE_OF[PUBLISH] == PUBSUB
    assert len(SERVICE_OF) == sum(len(operations) for operations in SERVICES.values()) == 25

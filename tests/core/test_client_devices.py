"""Which client devices a group selects, what its policy allows them, and how the settings are read."""

import fnmatch
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.core.client_devices import (
    DEFAULT_VALIDITY_S,
    Authority,
    AuthSettings,
    DeviceGroups,
    KeyType,
    Permission,
    RuleError,
    SelectionRule,
    ServiceMismatchError,
)

THING = "${iot:Connection.Thing.ThingName}"


def groups(*definitions: tuple[str, dict[str, Any]]) -> DeviceGroups:
    """A group for each rule and statements of its policy."""
    return DeviceGroups.read(
        {
            "formatVersion": "2021-03-05",
            "definitions": {
                f"g{n}": {"selectionRule": rule, "policyName": f"p{n}"} for n, (rule, _) in enumerate(definitions)
            },
            "policies": {f"p{n}": policy for n, (_, policy) in enumerate(definitions)},
        }
    )


def statement(operation: str, *resources: str) -> dict[str, Any]:
    return {"s": {"statementDescription": "d", "operations": [operation], "resources": list(resources)}}


@pytest.mark.parametrize(
    ("rule", "selects", "leaves"),
    [
        ("thingName: lamp", ["lamp"], ["lamp1", "Lamp", ""]),
        ("thingName:lamp", ["lamp"], []),
        ("thingName: *", ["lamp", "x"], []),
        ("thingName: lamp*", ["lamp", "lamp-1"], ["a-lamp"]),
        ("thingName: *lamp", ["lamp", "a-lamp"], ["lamp-1"]),
        ("thingName: *am*", ["lamp", "am", "ham"], ["lump"]),
        ("thingName: a OR thingName: b", ["a", "b"], ["c"]),
        ("thingName: a* AND thingName: *z", ["az", "abz"], ["a", "z"]),
        ("thingName: a* AND thingName: *z OR thingName: b", ["az", "b"], ["ab", "bz"]),
        ("thingName: b OR thingName: a* AND thingName: *z", ["az", "b"], ["ab", "z"]),
        ("\tthingName: team\\:lamp\r\n", ["team:lamp"], ["team\\:lamp", "lamp"]),
    ],
)
def test_rules_select_things(rule: str, selects: list[str], leaves: list[str]) -> None:
    read = SelectionRule.parse(rule)
    assert [thing for thing in selects + leaves if read.matches(thing)] == selects


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "lamp",
        "thingName:",
        "thingName: a b",
        "thingName: a OR",
        "thingName: a OR b",
        "thingName: a or thingName: b",
        "(thingName: a)",
        "thingName: a AND (thingName: b OR thingName: c)",
        "thingName: a:b",
        "thingName: a*b",
        "thingName: **",
        "thingName: a?",
        "thingName: OR",
        "thingGroup: a",
        "thingName: " + "a" * 20_000,
    ],
)
def test_what_awss_component_does_not_read_is_refused(rule: str) -> None:
    with pytest.raises(RuleError):
        SelectionRule.parse(rule)


@given(
    st.text(max_size=60) | st.lists(st.sampled_from(["thingName:", " ", "a", "*", "OR", "AND", "(", ")"])).map("".join)
)
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    try:
        rule = SelectionRule.parse(text)
    except RuleError:
        return
    assert rule.alternatives
    assert rule.matches("a") in (True, False)


def test_a_device_has_the_permissions_of_all_its_groups() -> None:
    read = groups(
        ("thingName: lamp*", statement("mqtt:connect", "mqtt:clientId:*")),
        ("thingName: lamp-1", statement("mqtt:publish", f"mqtt:topic:lamps/{THING}/state")),
        ("thingName: door", statement("*", "*")),
    )
    assert read.problems == ()
    assert read.allow("lamp-1", "mqtt:connect", "mqtt:clientId:lamp-1")
    assert read.allow("lamp-1", "mqtt:publish", "mqtt:topic:lamps/lamp-1/state")
    assert not read.allow("lamp-1", "mqtt:publish", "mqtt:topic:lamps/lamp-2/state")
    assert not read.allow("lamp-2", "mqtt:publish", "mqtt:topic:lamps/lamp-2/state")
    assert not read.allow("lamp-1", "mqtt:subscribe", "mqtt:topicfilter:lamps/#")
    assert read.allow("door", "mqtt:subscribe", "mqtt:topicfilter:lamps/#")
    assert not read.allow("stranger", "mqtt:connect", "mqtt:clientId:stranger")


@pytest.mark.parametrize(
    ("operation", "resource", "asked", "on", "is_allowed"),
    [
        ("mqtt:publish", "mqtt:topic:a", "mqtt:publish", "mqtt:topic:a", True),
        ("mqtt:*", "mqtt:topic:a", "mqtt:publish", "mqtt:topic:a", True),
        ("*", "*", "mqtt:publish", "mqtt:topic:a", True),
        ("mqtt:pub*", "*", "mqtt:publish", "mqtt:topic:a", False),
        ("mqtt:subscribe", "mqtt:topicfilter:a/+/b", "mqtt:subscribe", "mqtt:topicfilter:a/+/b", True),
        ("mqtt:subscribe", "mqtt:topicfilter:a/+/b", "mqtt:subscribe", "mqtt:topicfilter:a/x/b", False),
        ("mqtt:subscribe", "mqtt:topicfilter:a/#", "mqtt:subscribe", "mqtt:topicfilter:a/b", False),
        ("mqtt:publish", "mqtt:topic:*/state", "mqtt:publish", "mqtt:topic:a/b/state", True),
        ("mqtt:publish", "mqtt:topic:a", "mqtt:publish", "mqtt:topic:A", False),
        ("*", "*", "publish", "mqtt:topic:a", False),
        ("*", "*", "mqtt:publish", "mqtt:topic", False),
        ("*", "*", "mqtt:publish", "mqtt:topic:", False),
        ("*", "*", "mqtt:", "mqtt:topic:a", False),
        ("*", "*", "mqtt:publish", "mqtt:topic:a\n", False),
        ("*", "*", "mqtt:publish", "mqtt:topic:\u00e4/b c", True),
    ],
)
def test_operations_and_resources_are_compared_as_aws_does(
    operation: str, resource: str, asked: str, on: str, is_allowed: bool
) -> None:
    assert groups(("thingName: t", statement(operation, resource))).allow("t", asked, on) is is_allowed


def test_an_operation_on_another_services_resource_is_an_error() -> None:
    with pytest.raises(ServiceMismatchError):
        groups().allow("t", "mqtt:publish", "http:topic:a")


@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_a_star_stands_for_any_text(pattern: str, resource: str) -> None:
    permission = Permission(operations=frozenset(["*"]), resources=(pattern,))
    expected = re.fullmatch(fnmatch.translate(pattern), resource) is not None
    assert permission.allows("t", "mqtt", "mqtt:publish", resource) is expected


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "deviceGroups must be a map"),
        ({"formatVersion": "2030-01-01"}, "formatVersion '2030-01-01'"),
        ({"definitions": {"g": {"selectionRule": "thingName: a", "policyName": "p"}}}, "policyName 'p' is none"),
        ({"definitions": {"g": {"policyName": "p"}}, "policies": {"p": {}}}, "selectionRule None"),
        ({"definitions": {"g": 5}}, "definitions/g must be a map"),
        ({"policies": {"p": {"s": {"operations": 5, "resources": ["*"]}}}}, "operations must be a list of texts"),
        ({"policies": {"p": {"s": {"operations": ["*"], "resources": ["${x}"]}}}}, "${x} is not"),
    ],
)
def test_one_mistake_leaves_no_group_at_all(value: Any, problem: str) -> None:
    good = groups(("thingName: t", statement("*", "*")))
    assert good.allow("t", "mqtt:connect", "mqtt:clientId:t")
    base = {
        "definitions": {"ok": {"selectionRule": "thingName: t", "policyName": "ok"}},
        "policies": {"ok": statement("*", "*")},
    }
    if isinstance(value, dict):
        value = {
            **value,
            "definitions": {**base["definitions"], **value.get("definitions", {})},
            "policies": {**base["policies"], **value.get("policies", {})},
        }
    read = DeviceGroups.read(value)
    assert any(problem in each for each in read.problems)
    assert not read.allow("t", "mqtt:connect", "mqtt:clientId:t")


def test_settings_are_read_as_aws_writes_them() -> None:
    read = AuthSettings.read(
        {
            "performance": {"maxActiveAuthTokens": 3, "cloudRequestQueueSize": "4", "maxConcurrentCloudRequests": 2},
            "certificates": {"serverCertificateValiditySeconds": 172_800, "disableCertificateRotation": True},
            "security": {"clientDeviceTrustDurationMinutes": 60},
            "certificateAuthority": {"caType": ["ECDSA_P256"]},
            "metrics": {"disableMetrics": True},
        }
    )
    assert (read.max_tokens, read.queue_size, read.concurrent, read.trust_s) == (3, 4, 2, 3600)
    assert (read.validity_s, read.is_rotated, read.authority.key_type) == (172_800, False, KeyType.EC)
    assert read.problems == ()
    assert AuthSettings.read(None) == AuthSettings.read({}) == AuthSettings()
    assert AuthSettings.read({"ca_type": "ECDSA_P256"}).authority == Authority(key_type=KeyType.EC)


def test_numbers_are_moved_into_their_range_and_nonsense_is_named() -> None:
    read = AuthSettings.read(
        {
            "performance": {"maxActiveAuthTokens": 0, "cloudRequestQueueSize": "x"},
            "certificates": {"serverCertificateValiditySeconds": 10**9},
            "security": {"clientDeviceTrustDurationMinutes": -1},
            "certificateAuthority": {"caType": "DSA", "certificateUri": "pkcs11:object=ca", "privateKeyUri": ""},
        }
    )
    assert (read.max_tokens, read.queue_size, read.trust_s, read.validity_s) == (1, 100, 60, 864_000)
    assert len(read.problems) == 6
    assert read.authority.is_own
    assert AuthSettings.read({"certificates": {}}).validity_s == DEFAULT_VALIDITY_S

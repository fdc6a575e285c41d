"""IoT policies: Allow and Deny, wildcards, thing variables."""

import json
from typing import Any

import pytest

from monodon.core.iot_policy import PolicyError, allowed, read_policy

PREFIX = "arn:aws:iot:us-east-1:1:"
THING = "${iot:Connection.Thing.ThingName}"
DRONE = {
    "iot:ClientId": "drone-1",
    "iot:Connection.Thing.ThingName": "drone-1",
    "iot:Connection.Thing.IsAttached": "true",
}


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: Any, resource: Any, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


@pytest.mark.parametrize(
    ("statements", "action", "resource", "is_allowed"),
    [
        ([allow("iot:Publish", "*")], "iot:Publish", "topic/a", True),
        ([allow("iot:*", "*")], "iot:Subscribe", "topicfilter/a/#", True),
        ([allow("*", "*")], "iot:Connect", "client/x", True),
        ([allow("iot:Publish", "*")], "iot:Subscribe", "topicfilter/a", False),
        ([], "iot:Publish", "topic/a", False),
        ([allow(["iot:Publish"], [f"{PREFIX}topic/a", f"{PREFIX}topic/b/*"])], "iot:Publish", "topic/b/c/d", True),
        ([allow("iot:Publish", f"{PREFIX}topic/b/*")], "iot:Publish", "topic/b", False),
        ([allow("iot:Publish", f"{PREFIX}topic/a?c")], "iot:Publish", "topic/abc", True),
        ([allow("iot:Publish", f"{PREFIX}topic/+")], "iot:Publish", "topic/a", False),
        ([allow("iot:Subscribe", f"{PREFIX}topicfilter/a/+")], "iot:Subscribe", "topicfilter/a/+", True),
        ([allow("iot:Publish", "*"), {"Effect": "Deny", "Action": "iot:Publish", "Resource": f"{PREFIX}topic/secret*"}],
         "iot:Publish", "topic/secret/1", False),
        ([allow("iot:Connect", f"{PREFIX}client/{THING}*")], "iot:Connect", "client/drone-1#2", True),
        ([allow("iot:Connect", f"{PREFIX}client/{THING}")], "iot:Connect", "client/drone-2", False),
        ([allow("iot:Publish", PREFIX + "topic/${iot:Unknown}/*")], "iot:Publish", "topic//x", False),
        ([allow("iot:Publish", PREFIX + "topic/${*}")], "iot:Publish", "topic/*", True),
        ([allow("iot:Publish", PREFIX + "topic/${*}")], "iot:Publish", "topic/a", False),
        ([{"Effect": "Allow", "NotAction": "iot:Connect", "Resource": "*"}], "iot:Publish", "topic/a", True),
        ([{"Effect": "Allow", "NotAction": "iot:Connect", "Resource": "*"}], "iot:Connect", "client/a", False),
        ([{"Effect": "Allow", "Action": "iot:Publish", "NotResource": f"{PREFIX}topic/x"}],
         "iot:Publish", "topic/y", True),
        ([allow("iot:Connect", "*", Condition={"Bool": {"iot:Connection.Thing.IsAttached": ["true"]}})],
         "iot:Connect", "client/drone-1", True),
        ([allow("iot:Connect", "*", Condition={"StringLike": {"iot:ClientId": "plane-*"}})],
         "iot:Connect", "client/drone-1", False),
        ([allow("iot:Connect", "*", Condition={"DateLessThan": {"aws:CurrentTime": "2000"}})],
         "iot:Connect", "client/drone-1", False),
        ([allow("iot:Connect", "*"), {"Effect": "Deny", "Action": "*", "Resource": "*",
                                      "Condition": {"DateLessThan": {"aws:CurrentTime": "2000"}}}],
         "iot:Connect", "client/drone-1", False),
    ],
)  # fmt: skip
def test_statements(statements: list[dict[str, Any]], action: str, resource: str, is_allowed: bool) -> None:
    policies = [read_policy(policy(*statements))] if statements else []
    assert allowed(policies, action, PREFIX + resource, DRONE) is is_allowed


def test_the_value_of_a_variable_has_no_wildcards() -> None:
    policies = [read_policy(policy(allow("iot:Publish", PREFIX + "topic/${iot:ClientId}")))]
    assert not allowed(policies, "iot:Publish", PREFIX + "topic/anything", {"iot:ClientId": "*"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"Statement": []}',
        '{"Version": "1999", "Statement": [{}]}',
        '{"Version": ["2012-10-17"], "Statement": [{}]}',
        '{"Statement": [{"Effect": "Allow"}]}',
        '{"Statement": [{"Effect": ["Allow"], "Action": "*", "Resource": "*"}]}',
        '{"Statement": [{"Effect": "Maybe", "Action": "*", "Resource": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Action": 5, "Resource": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": []}]}',
        '{"Statement": [5]}',
    ],
)
def test_what_is_no_policy_says_why(text: str) -> None:
    with pytest.raises(PolicyError):
        read_policy(text)


@pytest.mark.parametrize(
    ("pattern", "resource", "covers"),
    [
        ("a/*/b/*/c", "a/1/b/2/c", True),
        ("a/*/b/*/c", "a/b/c", False),
        ("a*b*a", "aba", True),
        ("a*a", "a", False),
        ("*", "", True),
        ("${t}/*", "one/x", True),
        ("${t}/*", "two/x", False),
        ("${t}?", "one*", True),
        ("${t}", "o*e", False),
        ("${*}${t}", "*one", True),
        ("${open", "${open", True),
        ("${unknown}*", "x", False),
    ],
)
def test_patterns_cover_piece_by_piece(pattern: str, resource: str, covers: bool) -> None:
    text = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": pattern}]})
    assert allowed([read_policy(text)], "iot:Publish", resource, {"t": "one"}) is covers

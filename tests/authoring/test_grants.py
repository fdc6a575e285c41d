"""What a component's code needs of IPC is read from its source."""

from pathlib import Path

import pytest

from monodon.authoring.comparing import compare
from monodon.authoring.grants import grants_for, needs_of, read_needs
from monodon.authoring.project import find_components
from monodon.authoring.recipes import access_control
from monodon.errors import RecipeError

CHECKOUT = Path(__file__).parents[2]


def needs(code: str) -> dict[str, tuple[str, ...]]:
    found = needs_of({"main.py": code}, component="com.example.A")
    assert found.doubts == ()
    return dict(found.resources)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("await component.publish('a/b', {})", {"PublishToTopic": ("a/b",)}),
        ("TOPIC = 'a'\nself._component.publish(TOPIC, {})", {"PublishToTopic": ("a",)}),
        ("component.subscribe(topic='a/#')", {"SubscribeToTopic": ("a/#",)}),
        ("component.publish_to_iot(f'a/{thing}/b', {})", {"PublishToIoTCore": ("a/+/b",)}),
        ("component.publish(f'a/{thing}/b', {})", {"PublishToTopic": ("a/*/b",)}),
        ("component.publish('a' if x else 'b', {})", {"PublishToTopic": ("a", "b")}),
        ("component.publish('a/' + name, {})", {"PublishToTopic": ("a/*",)}),
        ("component.publish_to_iot('a/+/b'.replace('+', thing), {})", {"PublishToIoTCore": ("a/+/b",)}),
        ("class Settings:\n  topic: str = 'a'\nasync def f(c):\n  s = c.settings\n  component.publish(s.topic, 1)",
         {"PublishToTopic": ("a",)}),
        ("def say(topic):\n  component.publish(topic, 1)\nsay('a')\nsay(topic='b')", {"PublishToTopic": ("a", "b")}),
        ("class A:\n  def say(self, x, topic):\n    component.publish(topic, 1)\nA().say(1, 'a')",
         {"PublishToTopic": ("a",)}),
        ("client.publish_to_topic(topic='a', publish_message=m)", {"PublishToTopic": ("a",)}),
        ("client.subscribe_to_iot_core(topic_name='a/+', qos=1)", {"SubscribeToIoTCore": ("a/+",)}),
        ("op.activate(model.PublishToTopicRequest(topic='a'))", {"PublishToTopic": ("a",)}),
        ("client.get_secret_value(secret_id='arn:x')", {"GetSecretValue": ("arn:x",)}),
        ("client.pause_component(component_name='B')", {"PauseComponent": ("B",)}),
        ("client.get_thing_shadow(thing_name='t', shadow_name='s')",
         {"GetThingShadow": ("$aws/things/t/shadow/name/s",)}),
        ("client.update_thing_shadow(thing_name=t, payload=b'')", {"UpdateThingShadow": ("$aws/things/*/shadow",)}),
        ("component.request('a/where', {})",
         {"PublishToTopic": ("a/where",), "SubscribeToTopic": ("a/where/replies/com.example.A",)}),
        ("component.requests('a/where')", {"SubscribeToTopic": ("a/where",), "PublishToTopic": ("a/where/replies/*",)}),
        ("component.secret('arn:x')", {"GetSecretValue": ("arn:x",)}),
        ("async with component.metrics() as metrics: ...",
         {"PublishToIoTCore": ("$aws/things/+/shadow/name/monodon-metrics/update",)}),
        ("shadow = await component.shadow('s')\nawait shadow.report({})\nasync for s in shadow.changes(): ...",
         {"GetThingShadow": ("$aws/things/*/shadow/name/s",), "UpdateThingShadow": ("$aws/things/*/shadow/name/s",),
          "SubscribeToTopic": ("$aws/things/*/shadow/name/s/update/documents",)}),
        ("component.shadow(thing_name='t')", {"GetThingShadow": ("$aws/things/t/shadow",)}),
        ("book.publish('novel')\nqueue.subscribe(1)", {}),
    ],
)  # fmt: skip
def test_uses_are_followed(code: str, expected: dict[str, tuple[str, ...]]) -> None:
    assert needs(code) == expected


@pytest.mark.parametrize(
    "code",
    ["component.publish(sys.argv[1], 1)", "component.publish(f'{a}/{b}', 1)",
     "def f(topic):\n  component.publish(topic, 1)",
     "component.publish(json.loads(x)['topic'], 1)", "t = t\ncomponent.publish(t, 1)"],
)  # fmt: skip
def test_what_cannot_be_told_is_said(code: str) -> None:
    found = needs_of({"main.py": code})
    assert found.resources == {"PublishToTopic": ()}
    (doubt,) = found.doubts
    assert doubt.startswith("main.py:")
    assert grants_for(found) == ()


@pytest.mark.parametrize("code", ["client.get_secret_value(secret_id='wifi')", "component.secret('wifi')"])
def test_a_grant_needs_the_arn_of_a_secret(code: str) -> None:
    found = needs_of({"main.py": code})
    assert found.resources == {"GetSecretValue": ()}
    assert found.doubts == ("main.py:1: GetSecretValue on wifi: a grant needs the secret's ARN",)


def test_code_that_is_no_python_is_one_clear_error() -> None:
    with pytest.raises(RecipeError) as error:
        needs_of({"main.py": "def ("})
    assert error.value.message.startswith("main.py is no Python")


def test_a_recipe_and_its_code_are_compared() -> None:
    found = needs_of({"main.py": "component.publish('a/b', 1)\ncomponent.publish_to_iot(f'c/{t}/d', 1)"})
    exact = access_control("A", grants_for(found))
    assert list(compare(exact, found)) == []
    assert [problem.code for problem in compare({}, found)] == ["R820", "R820"]
    everything = {"aws.greengrass.ipc.pubsub": {"p": {"operations": ["*"], "resources": ["*"]}}}
    assert [problem.message for problem in compare(everything, found) if problem.code == "R821"] == [
        "p allows '*', and the code uses PublishToTopic",
        "p allows '*', and the code uses a/b",
    ]
    every_level = {"aws.greengrass.ipc.mqttproxy": {"p": {"operations": ["aws.greengrass#PublishToIoTCore"],
                   "resources": ["#"]}}}  # fmt: skip
    assert "p allows '#', and the code uses c/+/d" in [problem.message for problem in compare(every_level, found)]
    unused = {**exact, "aws.greengrass.ipc.pubsub": {**exact["aws.greengrass.ipc.pubsub"],
              "p": {"operations": ["aws.greengrass#SubscribeToTopic"], "resources": ["a/b"]}}}  # fmt: skip
    (problem,) = compare(unused, found)
    assert "SubscribeToTopic" in problem.message


def test_the_classifier_is_granted_what_its_code_uses() -> None:
    folder = CHECKOUT / "components" / "monodon.CameraClassifier"
    found = read_needs(folder)
    assert found.doubts == ()
    (source,) = find_components(folder)
    for recipe in source.recipes():
        assert list(compare(recipe.configuration.get("accessControl"), found)) == []

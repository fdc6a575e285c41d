"""Recipes in a few lines of typed Python."""

from monodon.authoring.recipes import (
    access_control,
    artifact,
    may_publish,
    may_publish_to_iot,
    may_subscribe,
    recipe,
    step,
)
from monodon.core.policy import AccessControl
from monodon.core.recipe.model import Permission, Unarchive
from monodon.core.recipe.reading import parse_recipe
from monodon.core.recipe.writing import write_yaml


def test_a_recipe_reads_back_from_what_it_writes() -> None:
    made = recipe(
        name="com.example.Hello",
        version="1.0.0",
        configuration={"rate": 1.0},
        grants=(may_publish("hello/world"), may_subscribe("hello/#")),
        dependencies={"monodon.PythonRuntime": "^1.0.0"},
        lifecycle={"Startup": step("exec x", timeout_s=60, environment={"A": "b"}), "Shutdown": step("true")},
        artifacts=(artifact("hello.zip", read=Permission.ALL), artifact("data.bin", folder="linux")),
    )
    assert parse_recipe(write_yaml(made), file="recipe.yaml") == made
    (manifest,) = made.manifests
    assert manifest.platform == {"os": "linux"}
    assert manifest.lifecycle == {
        "Startup": {"Script": "exec x", "Timeout": 60, "Setenv": {"A": "b"}}, "Shutdown": "true",
    }  # fmt: skip
    assert [one.unarchive for one in manifest.artifacts] == [Unarchive.ZIP, Unarchive.NONE]
    assert manifest.artifacts[1].uri == "s3://BUCKET_NAME/COMPONENT_NAME/COMPONENT_VERSION/linux/data.bin"


def test_grants_are_what_the_device_understands() -> None:
    granted = AccessControl.read(access_control("A", (may_publish("a/b"), may_publish_to_iot("c/+/d"))))
    assert granted.allows("aws.greengrass.ipc.pubsub", "aws.greengrass#PublishToTopic", "a/b")
    assert granted.allows("aws.greengrass.ipc.mqttproxy", "aws.greengrass#PublishToIoTCore", "c/x/d")
    assert not granted.allows("aws.greengrass.ipc.pubsub", "aws.greengrass#SubscribeToTopic", "a/b")


def test_a_changed_grant_has_another_id_and_so_arrives() -> None:
    """A device keeps the merged value of a key that it knows."""
    ids = [
        set(access_control("A", (grant,))["aws.greengrass.ipc.pubsub"])
        for grant in (may_publish("a"), may_publish("b"))
    ]
    assert ids[0].isdisjoint(ids[1])
    assert access_control("A", (may_publish("a"),)) == access_control("A", (may_publish("a"),))

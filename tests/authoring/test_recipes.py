"""Recipes in a few lines of typed Python."""

import pytest

from monodon.authoring.recipes import (
    Grant,
    access_control,
    artifact,
    may_answer,
    may_delete_shadow,
    may_list_shadows,
    may_publish,
    may_publish_to_iot,
    may_read_secret,
    may_read_shadow,
    may_request,
    may_subscribe,
    may_update_shadow,
    may_watch_shadow,
    recipe,
    step,
)
from monodon.core.policy import PUBSUB, SECRET_MANAGER, SHADOW_MANAGER, AccessControl
from monodon.core.recipe.model import Permission, Unarchive
from monodon.core.recipe.reading import parse_recipe
from monodon.core.recipe.writing import write_yaml
from monodon.errors import RecipeError


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


def allows(grants: tuple[Grant, ...], service: str, operation: str, resource: str) -> bool:
    read = AccessControl.read(access_control("com.example.A", grants))
    assert read.problems == ()
    return read.allows(service, f"aws.greengrass#{operation}", resource)


def test_requests_need_two_grants_on_each_side() -> None:
    asking, answering = may_request("gps/where"), may_answer("gps/where")
    own = "gps/where/replies/com.example.A"
    assert allows(asking, PUBSUB, "PublishToTopic", "gps/where")
    assert allows(asking, PUBSUB, "SubscribeToTopic", own)
    assert not allows(asking, PUBSUB, "SubscribeToTopic", "gps/where/replies/com.example.B")
    assert allows(answering, PUBSUB, "SubscribeToTopic", "gps/where")
    assert allows(answering, PUBSUB, "PublishToTopic", own)
    assert not allows(answering, PUBSUB, "PublishToTopic", "gps/where")


def test_secrets_are_granted_by_arn_alone() -> None:
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:camera-AbCdEf"
    assert allows((may_read_secret(arn),), SECRET_MANAGER, "GetSecretValue", arn)
    assert allows((may_read_secret(arn[:-6] + "*"),), SECRET_MANAGER, "GetSecretValue", arn)
    with pytest.raises(RecipeError, match="camera is not a secret's ARN"):
        may_read_secret(arn, "camera")


@pytest.mark.parametrize(("name", "shadow"), [("lamp", "shadow/name/lamp"), ("", "shadow")])
def test_shadows_are_granted_one_operation_at_a_time(name: str, shadow: str) -> None:
    resource = f"$aws/things/t/{shadow}"
    updating, watching = may_update_shadow(name), (may_watch_shadow(name, thing="t"),)
    assert allows((may_read_shadow(name),), SHADOW_MANAGER, "GetThingShadow", resource)
    assert not allows((may_read_shadow(name),), SHADOW_MANAGER, "UpdateThingShadow", resource)
    assert not allows((may_read_shadow(name, thing="u"),), SHADOW_MANAGER, "GetThingShadow", resource)
    assert not allows((may_read_shadow(name),), SHADOW_MANAGER, "GetThingShadow", f"{resource}s")
    assert allows(updating, SHADOW_MANAGER, "GetThingShadow", resource)
    assert allows(updating, SHADOW_MANAGER, "UpdateThingShadow", resource)
    assert not allows(updating, SHADOW_MANAGER, "DeleteThingShadow", resource)
    assert allows((may_delete_shadow(name),), SHADOW_MANAGER, "DeleteThingShadow", resource)
    assert allows((may_list_shadows("t"),), SHADOW_MANAGER, "ListNamedShadowsForThing", "t")
    assert allows(watching, PUBSUB, "SubscribeToTopic", f"{resource}/update/documents")

"""IoT Core topics through awsiotsdk: ipc.md 4.2."""

from typing import Any

import pytest
from awsiot.greengrasscoreipc import model

A, B, C = "com.example.A", "com.example.B", "com.example.C"


async def test_messages_go_round_with_every_property(device: Any) -> None:
    """A component gets its own publishes back, and each of its overlapping filters delivers."""
    a = await device.client(A)
    one = await a.stream("subscribe_to_iot_core", topic_name="t/#", qos="1")
    two = await a.stream("subscribe_to_iot_core", topic_name="t/+", qos="0")
    await a.call(
        "publish_to_iot_core",
        topic_name="t/x",
        qos="1",
        payload=b"\0\xff",
        user_properties=[model.UserProperty(key="k", value="v"), model.UserProperty(key="k", value="w")],
        message_expiry_interval_seconds=5,
        correlation_data=b"c",
        response_topic="r",
        payload_format="1",
        content_type="text/plain",
    )
    for events in (one, two):
        message = (await events.next()).message
        assert (message.topic_name, message.payload, message.retain) == ("t/x", b"\0\xff", False)
        assert [(item.key, item.value) for item in message.user_properties] == [("k", "v"), ("k", "w")]
        assert (message.message_expiry_interval_seconds, message.correlation_data) == (5, b"c")
        assert (message.response_topic, message.payload_format, message.content_type) == ("r", "1", "text/plain")


async def test_an_empty_payload_is_an_empty_blob(device: Any) -> None:
    a = await device.client(A)
    events = await a.stream("subscribe_to_iot_core", topic_name="t", qos="1")
    await a.call("publish_to_iot_core", topic_name="t", qos="0", payload=b"")
    message = (await events.next()).message
    assert message.payload == b""
    assert message.user_properties is None


async def test_local_and_iot_topics_never_mix(device: Any) -> None:
    a = await device.client(A)
    local = await a.stream("subscribe_to_topic", topic="t")
    cloud = await a.stream("subscribe_to_iot_core", topic_name="t", qos="1")
    await a.call("publish_to_iot_core", topic_name="t", qos="1", payload=b"cloud")
    assert (await cloud.next()).message.payload == b"cloud"
    device.bus.publish("t", b"local", sender=B)
    assert (await local.next()).binary_message.message == b"local"
    assert cloud.waiting == local.waiting == 0


@pytest.mark.parametrize(
    ("who", "fields", "error", "message"),
    [
        (C, {"topic_name": None, "qos": "9"}, model.InvalidArgumentsError, "Topic is required"),
        (C, {"topic_name": "t", "qos": "9"}, model.UnauthorizedError, "Not Authorized"),
        (A, {"topic_name": "t", "qos": "1"}, model.InvalidArgumentsError, "Payload is required"),
        (A, {"topic_name": "t", "payload": b""}, model.InvalidArgumentsError, "QoS is required"),
        (A, {"topic_name": "t", "payload": b"", "qos": "2"}, model.InvalidArgumentsError, "QoS '2'"),
        (A, {"topic_name": "", "payload": b"", "qos": "1"}, model.UnauthorizedError, "Not Authorized"),
        (A, {"topic_name": "t/+", "payload": b"", "qos": "1"}, model.ServiceError, "Publish to topic t/+ failed: "),
        (A, {"topic_name": "a/b/c/d/e/f/g/h/i", "payload": b"", "qos": "1"}, model.ServiceError, "more than 7"),
        (A, {"topic_name": "x" * 257, "payload": b"", "qos": "1"}, model.ServiceError, "more than 256"),
        (A, {"topic_name": "t", "payload": bytes(131_073), "qos": "1"}, model.ServiceError, "more than 131072"),
        (
            A,
            {"topic_name": "t", "payload": b"", "qos": "1", "payload_format": "5"},
            model.InvalidArgumentsError,
            "payloadFormat",
        ),
    ],
)
async def test_publishes_are_checked_in_order(
    device: Any, who: str, fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    client = await device.client(who)
    with pytest.raises(error) as caught:
        await client.call("publish_to_iot_core", **fields)
    assert message in caught.value.message  # type: ignore[attr-defined]


async def test_the_largest_payload_is_fine(device: Any) -> None:
    a = await device.client(A)
    events = await a.stream("subscribe_to_iot_core", topic_name="t", qos="1")
    await a.call("publish_to_iot_core", topic_name="t", qos="1", payload=bytes(131_072))
    assert len((await events.next()).message.payload) == 131_072


@pytest.mark.parametrize(
    ("who", "fields", "error", "message"),
    [
        (C, {"topic_name": None, "qos": "1"}, model.InvalidArgumentsError, "Topic is required"),
        (C, {"topic_name": "t", "qos": "1"}, model.UnauthorizedError, "Not Authorized"),
        (A, {"topic_name": "t"}, model.InvalidArgumentsError, "QoS is required"),
        (A, {"topic_name": "t#", "qos": "1"}, model.ServiceError, "Subscribe to topic t# failed"),
        (A, {"topic_name": "a/b/c/d/e/f/g/h/#", "qos": "1"}, model.ServiceError, "more than 7"),
    ],
)
async def test_subscriptions_are_checked_in_order(
    device: Any, who: str, fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    client = await device.client(who)
    with pytest.raises(error) as caught:
        await client.stream("subscribe_to_iot_core", **fields)
    assert message in caught.value.message  # type: ignore[attr-defined]


async def test_mqtt_wildcards_count_in_policies(device: Any) -> None:
    policy = {"aws.greengrass.ipc.mqttproxy": {"p": {"operations": ["*"], "resources": ["a/+/c", "b/#"]}}}
    device.install(C, {"accessControl": policy})
    client = await device.client(C)
    await client.call("publish_to_iot_core", topic_name="a/b/c", qos="1", payload=b"")
    await client.stream("subscribe_to_iot_core", topic_name="b/#", qos="1")
    with pytest.raises(model.UnauthorizedError):
        await client.call("publish_to_iot_core", topic_name="a/b/b/c", qos="1", payload=b"")


async def test_the_connection_status_is_told_at_once(device: Any) -> None:
    client = await device.client(C)
    events = await client.stream("subscribe_to_iot_core_connection_status")
    assert (await events.next()).connection_status_event.status == "DISCONNECTED"


async def test_a_closed_subscription_is_ended_at_the_uplink(device: Any, until: Any) -> None:
    a = await device.client(A)
    events = await a.stream("subscribe_to_iot_core", topic_name="t", qos="1")
    await events.close()
    await until(lambda: device.uplink._subscriptions.is_empty)

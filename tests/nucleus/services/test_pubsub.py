"""Local publish/subscribe through awsiotsdk: ipc.md 4.1 and 6."""

import asyncio
from typing import Any

import pytest
from awsiot.greengrasscoreipc import model

A, B, C = "com.example.A", "com.example.B", "com.example.C"


def json_message(value: Any) -> model.PublishMessage:
    return model.PublishMessage(json_message=model.JsonMessage(message=value))


def binary_message(value: bytes) -> model.PublishMessage:
    return model.PublishMessage(binary_message=model.BinaryMessage(message=value))


async def test_messages_arrive_with_their_topic(device: Any) -> None:
    """The context holds the published topic, not the filter; the context of a publish is ignored."""
    a, b = await device.client(A), await device.client(B)
    events = await b.stream("subscribe_to_topic", topic="sensors/+")
    assert events.response.topic_name is None
    sent = {"n": 5, "f": 5.0, "null": None, "list": [1, {"é": "ü"}]}
    await a.call("publish_to_topic", topic="sensors/a", publish_message=json_message(sent))
    await a.call(
        "publish_to_topic",
        topic="sensors/b",
        publish_message=model.PublishMessage(
            binary_message=model.BinaryMessage(message=b"\0\xff", context=model.MessageContext(topic="lie"))
        ),
    )
    first, second = await events.next(), await events.next()
    assert first.json_message.message == sent
    assert type(first.json_message.message["n"]) is int
    assert first.json_message.context.topic == "sensors/a"
    assert first.binary_message is None
    assert second.binary_message.message == b"\0\xff"
    assert second.binary_message.context.topic == "sensors/b"


@pytest.mark.parametrize(
    ("topic_filter", "mode", "gets_own"),
    [
        ("t/x", None, True),
        ("t/+", None, False),
        ("#", None, False),
        ("t/x", "RECEIVE_MESSAGES_FROM_OTHERS", False),
        ("t/+", "RECEIVE_ALL_MESSAGES", True),
        ("t/#", "RECEIVE_MESSAGES_FROM_OTHERS", False),
    ],
)
async def test_own_messages_depend_on_the_mode(
    device: Any, topic_filter: str, mode: str | None, gets_own: bool
) -> None:
    """A second connection of the same component is still itself."""
    one, two, other = await device.client(A), await device.client(A), await device.client(B)
    events = await one.stream("subscribe_to_topic", topic=topic_filter, receive_mode=mode)
    await two.call("publish_to_topic", topic="t/x", publish_message=json_message({"from": "self"}))
    await other.call("publish_to_topic", topic="t/x", publish_message=json_message({"from": "other"}))
    first = await events.next()
    assert first.json_message.message == {"from": "self" if gets_own else "other"}


async def test_equal_subscriptions_each_get_a_copy(device: Any) -> None:
    a = await device.client(A)
    events = [await a.stream("subscribe_to_topic", topic="t") for _ in range(2)]
    await a.call("publish_to_topic", topic="t", publish_message=json_message({}))
    assert [(await each.next()).json_message.message for each in events] == [{}, {}]


async def test_a_publish_without_subscriber_is_fine(device: Any) -> None:
    await (await device.client(A)).call("publish_to_topic", topic="t", publish_message=binary_message(b""))


@pytest.mark.parametrize("topic", ["a/+", "a+", "#", "a*", None])
async def test_topics_to_publish_on_hold_no_wildcard(device: Any, topic: str | None) -> None:
    client = await device.client(A)
    with pytest.raises(model.InvalidArgumentsError):
        await client.call("publish_to_topic", topic=topic, publish_message=binary_message(b"x"))


@pytest.mark.parametrize(
    "message",
    [None, json_message(None), binary_message(None), json_message([1])],  # type: ignore[arg-type]
)
async def test_a_message_must_be_there_and_json_an_object(device: Any, message: Any) -> None:
    client = await device.client(A)
    with pytest.raises(model.InvalidArgumentsError):
        await client.call("publish_to_topic", topic="t", publish_message=message)


async def test_an_unknown_receive_mode_is_refused(device: Any) -> None:
    client = await device.client(A)
    with pytest.raises(model.InvalidArgumentsError):
        await client.stream("subscribe_to_topic", topic="t", receive_mode="RECEIVE_NONE")


async def test_policies_decide_before_arguments(device: Any) -> None:
    client = await device.client(C)
    with pytest.raises(model.UnauthorizedError) as refused:
        await client.call("publish_to_topic", topic="a/+", publish_message=None)
    assert refused.value.message == (
        f"Principal {C} is not authorized to perform "
        "aws.greengrass.ipc.pubsub:aws.greengrass#PublishToTopic on resource a/+"
    )
    with pytest.raises(model.UnauthorizedError):
        await client.stream("subscribe_to_topic", topic="t")
    with pytest.raises(model.UnauthorizedError):
        await (await device.client(A)).stream("subscribe_to_topic", topic="")
    assert len(device.bus) == 0


async def test_a_policy_covers_the_text_of_a_filter(device: Any) -> None:
    """Policies are read again when configuration changes; open subscriptions are not checked again."""
    policy = {"aws.greengrass.ipc.pubsub": {"p": {"operations": ["*"], "resources": ["a/b"]}}}
    device.install(C, {"accessControl": policy})
    client = await device.client(C)
    events = await client.stream("subscribe_to_topic", topic="a/b")
    with pytest.raises(model.UnauthorizedError):
        await client.stream("subscribe_to_topic", topic="a/#")
    device.install(C, {})
    with pytest.raises(model.UnauthorizedError):
        await client.stream("subscribe_to_topic", topic="a/b")
    device.bus.publish("a/b", b"x", sender=A)
    assert (await events.next()).binary_message.message == b"x"


async def test_events_keep_the_order_of_one_publisher(device: Any) -> None:
    a, b = await device.client(A), await device.client(B)
    events = await b.stream("subscribe_to_topic", topic="t")
    calls = [a.call("publish_to_topic", topic="t", publish_message=json_message({"n": n})) for n in range(200)]
    await asyncio.gather(*calls)
    assert [(await events.next()).json_message.message["n"] for _ in range(200)] == list(range(200))


async def test_a_closed_subscription_leaves_nothing(device: Any, until: Any) -> None:
    a = await device.client(A)
    one, two = [await a.stream("subscribe_to_topic", topic="t") for _ in range(2)]
    await one.close()
    await until(lambda: len(device.bus) == 1)
    await a.call("publish_to_topic", topic="t", publish_message=json_message({}))
    await two.next()
    assert one.waiting == 0
    await asyncio.to_thread(a.sdk.close)
    await until(lambda: len(device.bus) == 0)


async def test_twenty_connections_at_once(device: Any) -> None:
    clients = await asyncio.gather(*(device.client(A if number % 2 else B) for number in range(20)))
    events = await asyncio.gather(*(client.stream("subscribe_to_topic", topic="t/all") for client in clients))
    await asyncio.gather(
        *(
            client.call("publish_to_topic", topic="t/all", publish_message=json_message({"n": number}))
            for number, client in enumerate(clients)
        )
    )
    for each in events:
        got = {(await each.next()).json_message.message["n"] for _ in range(20)}
        assert got == set(range(20))


async def test_large_messages_pass(device: Any) -> None:
    a, b = await device.client(A), await device.client(B)
    events = await b.stream("subscribe_to_topic", topic="t")
    payload = bytes(range(256)) * 4096 * 4
    await a.call("publish_to_topic", topic="t", publish_message=binary_message(payload))
    assert (await events.next()).binary_message.message == payload

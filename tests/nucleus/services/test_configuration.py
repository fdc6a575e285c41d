"""Configuration through awsiotsdk: ipc.md 4.3."""

import asyncio
import datetime
from typing import Any

import pytest
from awsiot.greengrasscoreipc import model

from monodon.core.configuration import ConfigurationUpdate, resolve
from monodon.core.names import ComponentName

A, B, C = "com.example.A", "com.example.B", "com.example.C"
TREE = {"a": {"x": 1, "y": None, "List": [1, {"k": 2}]}, "text": "t", "_private": 1}


def at(milliseconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)


@pytest.mark.parametrize(
    ("key_path", "expected"),
    [
        (None, {"a": TREE["a"], "text": "t"}),
        ([], {"a": TREE["a"], "text": "t"}),
        (["a"], TREE["a"]),
        (["A", "X"], {"x": 1}),
        (["a", "y"], {"y": None}),
        (["a", "list"], {"List": [1, {"k": 2}]}),
        (["text"], {"text": "t"}),
    ],
)
async def test_get(device: Any, key_path: list[str] | None, expected: Any) -> None:
    """A map is its content, a leaf {key: value}; keys match without regard to case; others may be read."""
    device.install(B, TREE)
    client = await device.client(C)
    answer = await client.call("get_configuration", component_name=B, key_path=key_path)
    assert (answer.component_name, answer.value) == (B, expected)


async def test_get_own(device: Any) -> None:
    device.install(C, {"n": 5})
    answer = await (await device.client(C)).call("get_configuration")
    assert (answer.component_name, answer.value) == (C, {"n": 5})
    assert type(answer.value["n"]) is int


@pytest.mark.parametrize(("name", "key_path"), [("com.example.X", []), (C, ["no"]), (B, ["text", "below"])])
async def test_get_of_what_is_not_there(device: Any, name: str, key_path: list[str]) -> None:
    device.install(B, TREE)
    with pytest.raises(model.ResourceNotFoundError) as missing:
        await (await device.client(A)).call("get_configuration", component_name=name, key_path=key_path)
    assert missing.value.message == "Key not found"


@pytest.mark.parametrize(
    ("key_path", "value", "at_ms", "after"),
    [
        # 2. a map is merged into
        ([], {"n": 2}, 2000, {"a": {"x": 1}, "n": 2}),
        (["a"], {"y": 2}, 2000, {"a": {"x": 1, "y": 2}}),
        (["A"], {"X": 2}, 2000, {"a": {"x": 2}}),
        # equal times succeed
        (["a"], {"x": 2}, 1000, {"a": {"x": 2}}),
        # levels that are missing are made, at the server's time: an old timestamp does no harm
        (["b", "c"], {"d": 1}, 5, {"a": {"x": 1}, "b": {"c": {"d": 1}}}),
        # a leaf is replaced by the map, whatever its time
        (["a", "x"], {"z": 1}, 5, {"a": {"x": {"z": 1}}}),
        # 3. an object meets a leaf, a leaf meets a map; null is a value; a list is replaced whole
        ([], {"a": {"x": {"deep": True}}}, 2000, {"a": {"x": {"deep": True}}}),
        ([], {"a": 5}, 2000, {"a": 5}),
        (["a"], {"x": None}, 2000, {"a": {"x": None}}),
        (["a"], {"x": [1, {"k": 2}]}, 2000, {"a": {"x": [1, {"k": 2}]}}),
    ],
)
async def test_update(device: Any, key_path: list[str], value: Any, at_ms: int, after: Any) -> None:
    """No answer until the change is visible to the next Get."""
    device.install(C, {"a": {"x": 1}})
    client = await device.client(C)
    await client.call("update_configuration", key_path=key_path, timestamp=at(at_ms), value_to_merge=value)
    assert (await client.call("get_configuration")).value == after
    assert device.value(C) == after


@pytest.mark.parametrize(
    ("key_path", "value", "after"),
    [
        (["a"], {"x": 2}, {"a": {"x": 1}}),
        # a new key beside a newer one is written and still reported as failed
        (["a"], {"new": 2}, {"a": {"x": 1, "new": 2}}),
        ([], {"new": 2}, {"a": {"x": 1}, "new": 2}),
    ],
)
async def test_an_old_timestamp_fails_though_keys_may_be_written(
    device: Any, key_path: list[str], value: Any, after: Any
) -> None:
    device.install(C, {"a": {"x": 1}})
    client = await device.client(C)
    with pytest.raises(model.FailedUpdateConditionCheckError):
        await client.call("update_configuration", key_path=key_path, timestamp=at(999), value_to_merge=value)
    assert device.value(C) == after


class Far(datetime.datetime):
    """A time that no calendar has."""

    def timestamp(self) -> float:
        return 1e16 if self.year > 5000 else -1e16


async def test_an_absurd_timestamp_is_taken_as_it_is(device: Any) -> None:
    """As AWS's device does: what is dated far ahead stays until something later; before 1970 is a time too."""
    device.install(C, {"a": {"x": 1}})
    client = await device.client(C)

    async def update(year: int, **value: Any) -> None:
        await client.call(
            "update_configuration", timestamp=datetime.datetime(year, 1, 1, tzinfo=datetime.UTC), value_to_merge=value
        )

    await update(9999, a={"x": 2})
    with pytest.raises(model.FailedUpdateConditionCheckError):
        await update(2026, a={"x": 3})
    with pytest.raises(model.FailedUpdateConditionCheckError):
        await update(1, new=1)
    assert device.value(C) == {"a": {"x": 2}, "new": 1}
    for year in (9999, 1):
        with pytest.raises(model.InvalidArgumentsError):
            await client.call("update_configuration", timestamp=Far(year, 1, 1), value_to_merge={"a": 4})
    assert device.value(C) == {"a": {"x": 2}, "new": 1}


@pytest.mark.parametrize(
    ("who", "fields"),
    [
        (C, {"value_to_merge": {"a": 1}}),
        (C, {"timestamp": at(5)}),
        (C, {"timestamp": at(5), "value_to_merge": {"accessControl": {}}}),
        (C, {"timestamp": at(5), "value_to_merge": {"ACCESSCONTROL": {}}}),
        (C, {"timestamp": at(5), "value_to_merge": {"x": 1}, "key_path": ["accessControl"]}),
        (C, {"timestamp": at(5), "value_to_merge": {"x": 1}, "key_path": ["AccessControl", "b"]}),
        ("com.example.Unknown", {"timestamp": at(5), "value_to_merge": {"a": 1}}),
    ],
)
async def test_updates_that_are_refused(device: Any, who: str, fields: dict[str, Any]) -> None:
    client = await device.client(who)
    with pytest.raises(model.InvalidArgumentsError):
        await client.call("update_configuration", **fields)
    assert device.value(C) == {}


async def test_a_path_through_a_value_is_refused(device: Any) -> None:
    device.install(C, {"a": 1})
    client = await device.client(C)
    with pytest.raises(model.InvalidArgumentsError):
        await client.call("update_configuration", key_path=["a", "b"], timestamp=at(9999), value_to_merge={"c": 1})


async def test_a_subscriber_of_a_map_hears_of_every_leaf_below(device: Any) -> None:
    device.install(B, {"a": {"x": 1, "y": 2}, "other": 1})
    client = await device.client(C)
    events = await client.stream("subscribe_to_configuration_update", component_name=B, key_path=["A"])
    owner = await device.client(B)
    await owner.call(
        "update_configuration", timestamp=at(5000), value_to_merge={"a": {"x": 1, "y": 3, "z": {"w": 1}}, "other": 2}
    )
    got = [(await events.next()).configuration_update_event for _ in range(2)]
    assert sorted((event.component_name, tuple(event.key_path)) for event in got) == [
        (B, ("a", "y")),
        (B, ("a", "z", "w")),
    ]
    assert events.waiting == 0


async def test_a_subscriber_of_a_leaf_hears_of_its_end(device: Any) -> None:
    device.install(C, {"a": {"x": 1}})
    client = await device.client(C)
    events = await client.stream("subscribe_to_configuration_update", key_path=["a", "x"])
    await client.call("update_configuration", key_path=["a", "x"], timestamp=at(5000), value_to_merge={"deep": 1})
    paths = {tuple((await events.next()).configuration_update_event.key_path) for _ in range(2)}
    assert paths == {("a", "x"), ("a", "x", "deep")}
    running = device.state.configuration(ComponentName(C))
    without = resolve(running, {}, ConfigurationUpdate(reset=("/a",)), at_ms=9000)
    device.state.put_configuration(ComponentName(C), running.replace(without.value(), at_ms=9000))
    assert (await events.next()).configuration_update_event.key_path == ["a"]


async def test_a_change_of_time_alone_is_no_event(device: Any) -> None:
    device.install(C, {"a": 1})
    client = await device.client(C)
    events = await client.stream("subscribe_to_configuration_update")
    await client.call("update_configuration", timestamp=at(5000), value_to_merge={"a": 1})
    await client.call("update_configuration", timestamp=at(6000), value_to_merge={"a": 2})
    assert (await events.next()).configuration_update_event.key_path == ["a"]
    assert events.waiting == 0


async def test_subscribing_to_what_is_missing(device: Any) -> None:
    client = await device.client(C)
    with pytest.raises(model.ResourceNotFoundError):
        await client.stream("subscribe_to_configuration_update", key_path=["missing"])
    with pytest.raises(model.ResourceNotFoundError):
        await client.stream("subscribe_to_configuration_update", component_name="com.example.X")
    await client.stream("subscribe_to_configuration_update")


def report(
    status: str | None, deployment_id: str | None, message: str | None = None
) -> model.ConfigurationValidityReport:
    return model.ConfigurationValidityReport(status=status, deployment_id=deployment_id, message=message)


@pytest.mark.parametrize(
    ("status", "message", "refusal"),
    [("ACCEPTED", None, None), ("REJECTED", "too big", "too big"), ("REJECTED", None, "the component gave no reason")],
)
async def test_validation(device: Any, status: str, message: str | None, refusal: str | None) -> None:
    client = await device.client(C)
    events = await client.stream("subscribe_to_validate_configuration_updates")
    asked = asyncio.ensure_future(device.validation.ask(ComponentName(C), {"n": 1}, "d1", 5))
    event = (await events.next()).validate_configuration_update_event
    assert (event.configuration, event.deployment_id) == ({"n": 1}, "d1")
    for wrong in (None, report(status, None), report(status, "d2"), report("PERHAPS", "d1")):
        with pytest.raises(model.InvalidArgumentsError):
            await client.call("send_configuration_validity_report", configuration_validity_report=wrong)
    await client.call("send_configuration_validity_report", configuration_validity_report=report(status, "d1", message))
    assert await asked == refusal
    with pytest.raises(model.InvalidArgumentsError):
        await client.call("send_configuration_validity_report", configuration_validity_report=report(status, "d1"))


async def test_validation_of_who_does_not_listen_or_answer(device: Any) -> None:
    """Not listening is accepting; not answering in time is refusing. The first listener is asked."""
    assert await device.validation.ask(ComponentName(C), {}, "d1", 5) is None
    one, two = await device.client(C), await device.client(C)
    first = await one.stream("subscribe_to_validate_configuration_updates")
    second = await two.stream("subscribe_to_validate_configuration_updates")
    assert "did not answer" in await device.validation.ask(ComponentName(C), {}, "d1", 0.05)
    assert (first.waiting, second.waiting) == (1, 0)

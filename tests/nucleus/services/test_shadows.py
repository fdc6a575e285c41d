"""Shadows through awsiotsdk: ipc.md 4.6."""

import json
from typing import Any

import pytest
from awsiot.greengrasscoreipc import model

from monodon.core.shadow_sync import RateLimits

A, C = "com.example.A", "com.example.C"


def payload(**document: Any) -> bytes:
    return json.dumps(document).encode()


async def update(client: Any, name: str | None = None, **document: Any) -> Any:
    answer = await client.call("update_thing_shadow", thing_name="t", shadow_name=name, payload=payload(**document))
    return json.loads(answer.payload)


async def test_a_shadow_from_start_to_end(device: Any) -> None:
    client = await device.client(A)
    first = await update(client, "s", state={"desired": {"a": 1, "b": [1]}, "delta": {"x": 1}}, clientToken="tok")
    assert first == {
        "state": {"desired": {"a": 1, "b": [1]}},
        "metadata": {"desired": {"a": {"timestamp": 1000}, "b": [{"timestamp": 1000}]}},
        "version": 1,
        "timestamp": 1000,
        "clientToken": "tok",
    }
    second = await update(client, "s", state={"reported": {"a": 1}, "desired": {"b": None}}, version=1)
    assert second["version"] == 2
    got = json.loads((await client.call("get_thing_shadow", thing_name="t", shadow_name="s")).payload)
    assert got["state"] == {"desired": {"a": 1}, "reported": {"a": 1}}
    assert (got["version"], got["timestamp"]) == (2, 1000)
    await update(client, "s", state={"desired": {"a": 2}})
    got = json.loads((await client.call("get_thing_shadow", thing_name="t", shadow_name="s")).payload)
    assert got["state"]["delta"] == {"a": 2}
    deleted = await client.call("delete_thing_shadow", thing_name="t", shadow_name="s")
    assert deleted.payload == b""
    with pytest.raises(model.ResourceNotFoundError):
        await client.call("get_thing_shadow", thing_name="t", shadow_name="s")
    with pytest.raises(model.ResourceNotFoundError):
        await client.call("delete_thing_shadow", thing_name="t", shadow_name="s")
    assert (await update(client, "s", state={"desired": {}}))["version"] == 1


async def test_absent_and_empty_names_are_the_classic_shadow(device: Any) -> None:
    client = await device.client(A)
    await update(client, None, state={"reported": {"a": 1}})
    got = await client.call("get_thing_shadow", thing_name="t", shadow_name="")
    assert json.loads(got.payload)["state"] == {"reported": {"a": 1}}
    assert (await client.call("list_named_shadows_for_thing", thing_name="t")).results == []


@pytest.mark.parametrize(
    ("body", "error", "code"),
    [
        (None, model.InvalidArgumentsError, 400),
        (b"", model.InvalidArgumentsError, 400),
        (b"{", model.ServiceError, 400),
        (b'{"state": {"desired": {"a": NaN}}}', model.ServiceError, 400),
        (b"[]", model.InvalidArgumentsError, 400),
        (payload(state={"other": {}}), model.InvalidArgumentsError, 400),
        (payload(state={"desired": {"1": {"2": {"3": {"4": {"5": {"6": {}}}}}}}}), model.InvalidArgumentsError, 400),
        (payload(state={"desired": {"x": "y" * 8192}}), model.InvalidArgumentsError, 413),
        (payload(state={"desired": {}}, version=7), model.ConflictError, 409),
    ],
)
async def test_updates_that_are_refused(device: Any, body: bytes | None, error: type[Exception], code: int) -> None:
    client = await device.client(A)
    await update(client, "s", state={"desired": {"a": 1}})
    events = await client.stream("subscribe_to_topic", topic="$aws/things/t/shadow/name/s/update/rejected")
    with pytest.raises(error):
        await client.call("update_thing_shadow", thing_name="t", shadow_name="s", payload=body)
    rejection = json.loads((await events.next()).binary_message.message)
    assert (rejection["code"], rejection["timestamp"]) == (code, 1000)
    got = json.loads((await client.call("get_thing_shadow", thing_name="t", shadow_name="s")).payload)
    assert got["version"] == 1


async def test_a_new_shadow_has_version_one_only(device: Any) -> None:
    client = await device.client(A)
    with pytest.raises(model.InvalidArgumentsError):
        await update(client, "s", state={"desired": {}}, version=2)
    assert (await update(client, "s", state={"desired": {}}, version=1))["version"] == 1


async def test_operations_are_told_on_local_topics(device: Any) -> None:
    client = await device.client(A)
    events = await client.stream("subscribe_to_topic", topic="$aws/things/t/shadow/#")

    async def heard() -> tuple[str, Any]:
        message = (await events.next()).binary_message
        return message.context.topic.removeprefix("$aws/things/t/shadow/name/s/"), json.loads(message.message)

    await update(client, "s", state={"desired": {"a": 1}}, clientToken="tok")
    told = [await heard() for _ in range(3)]
    assert [what for what, _ in told] == ["update/accepted", "update/delta", "update/documents"]
    assert told[1][1]["state"] == {"a": 1}
    assert told[2][1]["previous"] is None
    assert told[2][1]["current"]["version"] == 1
    await update(client, "s", state={"reported": {"a": 1}})
    assert [(await heard())[0] for _ in range(2)] == ["update/accepted", "update/documents"]
    await client.call("get_thing_shadow", thing_name="t", shadow_name="s")
    assert (await heard())[0] == "get/accepted"
    await client.call("delete_thing_shadow", thing_name="t", shadow_name="s")
    assert await heard() == ("delete/accepted", {"version": 2, "timestamp": 1000})
    with pytest.raises(model.ResourceNotFoundError):
        await client.call("get_thing_shadow", thing_name="t", shadow_name="s")
    what, rejection = await heard()
    assert (what, rejection["code"]) == ("get/rejected", 404)


@pytest.mark.parametrize(
    ("thing", "name"), [(None, "s"), ("", "s"), ("x" * 129, "s"), ("a b", "s"), ("t", "x" * 65), ("t", "$x")]
)
async def test_names_are_checked_before_policies(device: Any, thing: str | None, name: str) -> None:
    client = await device.client(C)
    for operation in ("get_thing_shadow", "update_thing_shadow", "delete_thing_shadow"):
        with pytest.raises(model.InvalidArgumentsError):
            await client.call(operation, thing_name=thing, shadow_name=name)


async def test_policies_name_the_start_of_the_topics(device: Any) -> None:
    policy = {"p": {"operations": ["*"], "resources": ["$aws/things/t/shadow/name/s", "t"]}}
    device.install(C, {"accessControl": {"aws.greengrass.ShadowManager": policy}})
    client = await device.client(C)
    await update(client, "s", state={"desired": {}})
    assert (await client.call("list_named_shadows_for_thing", thing_name="t")).results == ["s"]
    for thing, name in (("t", None), ("t", "z"), ("u", "s")):
        with pytest.raises(model.UnauthorizedError):
            await client.call("get_thing_shadow", thing_name=thing, shadow_name=name)


async def test_lists_come_in_pages(device: Any) -> None:
    client = await device.client(A)
    for number in range(5):
        device.clock_s += 1
        await update(client, f"s{number}", state={"desired": {}})
    found, token = [], None
    for _ in range(3):
        page = await client.call("list_named_shadows_for_thing", thing_name="t", page_size=2, next_token=token)
        found.append(page.results)
        token = page.next_token
    assert (found, token) == ([["s0", "s1"], ["s2", "s3"], ["s4"]], None)
    token = (await client.call("list_named_shadows_for_thing", thing_name="t", page_size=2)).next_token
    for wrong in ({"thing_name": "u", "next_token": token}, {"thing_name": "t", "next_token": "junk"}):
        with pytest.raises(model.InvalidArgumentsError):
            await client.call("list_named_shadows_for_thing", **wrong)
    for size in (0, 101):
        with pytest.raises(model.InvalidArgumentsError):
            await client.call("list_named_shadows_for_thing", thing_name="t", page_size=size)


async def test_too_many_requests_are_refused(device: Any) -> None:
    """20 a second for each thing."""
    client = await device.client(A)
    for _ in range(20):
        await client.call("list_named_shadows_for_thing", thing_name="t")
    with pytest.raises(model.ServiceError) as refused:
        await client.call("list_named_shadows_for_thing", thing_name="t")
    assert refused.value.message == "Too Many Requests"
    await client.call("list_named_shadows_for_thing", thing_name="u")
    device.clock_s = 0.05
    await client.call("list_named_shadows_for_thing", thing_name="t")


async def test_rates_are_those_that_are_configured_now(device: Any) -> None:
    client = await device.client(A)
    device.rate_limits = RateLimits(in_all=3, of_a_thing=2)
    for thing in ("t", "t", "u"):
        await client.call("list_named_shadows_for_thing", thing_name=thing)
    with pytest.raises(model.ServiceError) as refused:
        await client.call("list_named_shadows_for_thing", thing_name="v")
    assert refused.value.message == "Too Many Requests"
    device.clock_s = 1.0
    for thing in ("t", "t"):
        await client.call("list_named_shadows_for_thing", thing_name=thing)
    with pytest.raises(model.ServiceError):
        await client.call("list_named_shadows_for_thing", thing_name="t")

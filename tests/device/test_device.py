"""A tool beside a real nucleus."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest
from tests.device.conftest import nucleus

from monodon.device.device import connected, read_credentials
from monodon.device.operations import operation
from monodon.errors import DeploymentError, IpcError, StateError
from monodon.ipc.operations import OPERATIONS


@pytest.fixture(autouse=True)
async def _in_time() -> Any:
    async with asyncio.timeout(60):
        yield


RECIPE = {
    "RecipeFormatVersion": "2020-01-25",
    "ComponentName": "com.example.Idle",
    "ComponentVersion": "1.0.0",
    "ComponentConfiguration": {"DefaultConfiguration": {"depth": 3}},
    "Manifests": [{"Lifecycle": {"Run": "sleep 1000"}}],
}


async def test_operations_are_called_with_json(root: Path, tmp_path: Path) -> None:
    (tmp_path / "com.example.Idle-1.0.0.json").write_text(json.dumps(RECIPE))
    async with connected(root) as device:
        assert await device.call("ListComponents") == {"components": []}
        status = await device.deploy(
            {"recipeDirectoryPath": str(tmp_path), "rootComponentVersionsToAdd": {"com.example.Idle": "1.0.0"}}
        )
        assert status["status"] == "SUCCEEDED"
        (one,) = (await device.call("list_components"))["components"]
        assert (one["componentName"], one["state"]) == ("com.example.Idle", "RUNNING")
        answer = await device.call("aws.greengrass#GetConfiguration", {"componentName": "com.example.Idle"})
        assert answer == {"componentName": "com.example.Idle", "value": {"depth": 3}}


async def test_a_deployment_that_fails_says_why(root: Path) -> None:
    async with connected(root) as device:
        with pytest.raises(DeploymentError, match=r"FAILED: .*com\.example\.Nobody"):
            await device.deploy({"rootComponentVersionsToAdd": {"com.example.Nobody": "1.0.0"}})


async def test_events_are_streamed_as_json(root: Path) -> None:
    request = {"topic": "a/+", "receiveMode": "RECEIVE_ALL_MESSAGES"}
    async with connected(root) as device, aclosing(device.stream("SubscribeToTopic", request)) as events:
        first = asyncio.ensure_future(anext(events))
        while not first.done():
            await device.publish("a/b", {"n": 1})
            await asyncio.sleep(0.01)
        assert first.result() == {"jsonMessage": {"message": {"n": 1}, "context": {"topic": "a/b"}}}


async def test_several_filters_make_one_stream_in_order(root: Path) -> None:
    async with connected(root) as device, device.subscribe("a/#", "b") as messages:
        for topic in ("b", "a/1", "b", "a/2"):
            await device.publish(topic, b"")
        assert [(await anext(messages)).topic for _ in range(4)] == ["b", "a/1", "b", "a/2"]


async def test_iot_topics_go_round_without_a_cloud(root: Path) -> None:
    async with connected(root) as device, device.subscribe("fleet/#", iot=True) as messages:
        await device.publish("fleet/a", b"local")
        await device.publish_to_iot("fleet/a", {"n": 1})
        assert (await anext(messages)).json == {"n": 1}


@pytest.mark.parametrize(
    ("name", "request_", "message"),
    [
        ("GetConfigurations", {}, "no operation GetConfigurations"),
        ("GetConfiguration", {"component": "x"}, "GetConfiguration has no field component"),
        ("PublishToTopic", {"publishMessage": {"json": {}}}, r"no field publishMessage\.json"),
        (
            "PublishToTopic",
            {"topic": "a", "publishMessage": {"binaryMessage": {"message": "!!"}}},
            r"publishMessage\.binaryMessage\.message of PublishToTopic is not base64",
        ),
        ("PublishToTopic", {"publishMessage": 7}, "does not fit"),
        ("UpdateConfiguration", {"timestamp": "now"}, "does not fit"),
        ("GetConfiguration", {"componentName": "no.Such"}, "ResourceNotFoundError"),
        ("SubscribeToTopic", {"topic": "a"}, "use stream"),
    ],
)
async def test_what_cannot_be_called_says_why(root: Path, name: str, request_: Any, message: str) -> None:
    async with connected(root) as device:
        with pytest.raises(IpcError, match=message):
            await device.call(name, request_)
        await device.call("ListComponents")


async def test_a_refused_filter_leaves_no_subscription(root: Path) -> None:
    async with connected(root) as device:
        with pytest.raises(IpcError):
            async with device.subscribe("a", "a/#/b", iot=True):
                pass


def test_without_a_nucleus_it_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no nucleus runs in") as caught:
        read_credentials(tmp_path)
    assert f"monodon nucleus run --root {tmp_path}" in str(caught.value.hint)
    (tmp_path / "cli_ipc_info").mkdir()
    (tmp_path / "cli_ipc_info/user-0").write_text("{")
    with pytest.raises(StateError, match="no credentials for this user"):
        read_credentials(tmp_path)


@pytest.mark.parametrize("name", [name.removeprefix("aws.greengrass#") for name in OPERATIONS])
def test_every_operation_can_be_named_either_way(name: str) -> None:
    found = operation(name)
    assert found.name == name
    assert operation(found.client_name) is found
    assert found.is_streaming == (OPERATIONS[f"aws.greengrass#{name}"].event is not None)


def test_a_slip_is_named() -> None:
    with pytest.raises(IpcError) as caught:
        operation("GetConfigration")
    assert caught.value.hint == "did you mean GetConfiguration?"


async def until(stream: AsyncIterator[Any], message: Any) -> None:
    async for event in stream:
        if event["jsonMessage"]["message"] == message:
            return


async def test_it_goes_on_with_a_nucleus_that_was_restarted(root: Path) -> None:
    """Which knows no token of before: calls, subscriptions and streams; those that were open tell of the gap."""
    other = root.parent / "again"
    gaps: list[str] = []
    with ExitStack() as first:
        process = await asyncio.to_thread(first.enter_context, nucleus(other))
        async with connected(other) as device:
            stream = device.stream("SubscribeToTopic", {"topic": "a"}, on_gap=lambda: gaps.append("stream"))
            messages = device.subscribe("b", on_gap=lambda: gaps.append("topic"))
            async with aclosing(stream), messages:
                waiting = asyncio.ensure_future(anext(stream))
                while not waiting.done():
                    await device.publish("a", {"n": 0})
                process.kill()
                await asyncio.to_thread(process.wait)
                before = read_credentials(other)
                with ExitStack() as second:
                    await asyncio.to_thread(second.enter_context, nucleus(other))
                    assert read_credentials(other).token != before.token
                    waiting = asyncio.ensure_future(until(stream, {"n": 1}))
                    reading = asyncio.ensure_future(anext(messages))
                    while not (waiting.done() and reading.done()):
                        await device.publish("a", {"n": 1})
                        await device.publish("b", {"n": 2})
                    await waiting
                    assert (await reading).content == {"n": 2}
    assert sorted(gaps) == ["stream", "topic"]

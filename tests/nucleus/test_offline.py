"""Without a cloud, IoT Core topics go round in memory (ipc.md 4.2)."""

import asyncio
from pathlib import Path

import pytest

from monodon.errors import DeploymentError
from monodon.nucleus.uplink.offline import MAX_RETAINED, OfflineUplink
from monodon.nucleus.uplink.protocol import CandidateRequest, IotMessage, Uplink


@pytest.fixture
def uplink() -> OfflineUplink:
    return OfflineUplink()


async def test_it_is_an_uplink(uplink: OfflineUplink) -> None:
    whole: Uplink = uplink
    assert not whole.is_configured
    assert not whole.is_connected
    assert await whole.credentials() is None
    assert await whole.thing_groups() is None
    whole.watch_connection(lambda _: None)()


async def test_every_overlapping_subscription_gets_its_copy_and_its_own_publishes(uplink: OfflineUplink) -> None:
    got: list[tuple[str, bytes]] = []
    await uplink.subscribe("a/#", 1, lambda m: got.append(("a/#", m.payload)))
    unsubscribe = await uplink.subscribe("a/+", 1, lambda m: got.append(("a/+", m.payload)))
    await uplink.subscribe("b", 0, lambda m: got.append(("b", m.payload)))
    await uplink.publish(IotMessage(topic="a/b", payload=b"1"), 1)
    assert sorted(got) == [("a/#", b"1"), ("a/+", b"1")]
    await unsubscribe()
    await unsubscribe()
    await uplink.publish(IotMessage(topic="a/b", payload=b"2"), 0)
    assert got[2:] == [("a/#", b"2")]


async def test_properties_travel_and_a_leading_wildcard_covers_no_dollar_topic(uplink: OfflineUplink) -> None:
    got: list[IotMessage] = []
    await uplink.subscribe("#", 1, got.append)
    message = IotMessage(topic="t", payload=b"x", user_properties=(("k", "v"),), content_type="text/plain")
    await uplink.publish(message, 1)
    await uplink.publish(IotMessage(topic="$aws/things/x"), 1)
    assert got == [message]


async def test_a_retained_message_waits_for_later_subscribers(uplink: OfflineUplink) -> None:
    got: list[IotMessage] = []
    await uplink.publish(IotMessage(topic="a/1", payload=b"1", retain=True), 1)
    await uplink.publish(IotMessage(topic="a/2", payload=b"2", retain=True), 1)
    await uplink.publish(IotMessage(topic="a/2", retain=True), 1)
    await uplink.subscribe("a/+", 1, got.append)
    assert [(m.topic, m.retain) for m in got] == [("a/1", True)]
    for number in range(MAX_RETAINED):
        await uplink.publish(IotMessage(topic=f"b/{number}", payload=b"x", retain=True), 1)
    got.clear()
    await uplink.subscribe("a/+", 1, got.append)
    assert got == []


async def test_a_shared_filter_is_a_filter_of_its_own(uplink: OfflineUplink) -> None:
    got: list[str] = []
    await uplink.subscribe("$share/group/a/+", 1, lambda m: got.append(m.topic))
    await uplink.publish(IotMessage(topic="a/b"), 1)
    assert got == ["a/b"]


async def test_what_only_a_cloud_has_is_refused_with_what_to_do(uplink: OfflineUplink, tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="no cloud to ask") as missing:
        await uplink.candidate(CandidateRequest(name="a", requirements={"thinggroup/g": "=1.0.0"}))
    assert missing.value.codes[-1] == "COMPONENT_VERSION_REQUIREMENTS_NOT_MET"
    with pytest.raises(DeploymentError, match="not on this device") as absent:
        await uplink.download("s3://b/k.zip", None, tmp_path / ".k.zip.1a2b.part", 0)
    assert str(absent.value.hint).endswith(" as k.zip")


async def test_no_deployment_ever_comes(uplink: OfflineUplink) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            async for _ in uplink.deployments():
                pytest.fail("where from?")

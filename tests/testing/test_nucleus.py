"""The fixture ``nucleus``: the real one, under a component of a test."""

import asyncio
from dataclasses import dataclass

import pytest

from monodon.component import Component
from monodon.errors import ConfigurationError, FrameError, IpcError, StateError
from monodon.testing.nucleus import RealNucleus

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Settings:
    heard: str = "in"
    times: int = 1


async def echo(component: Component[Settings]) -> None:
    component.refuse_when(lambda settings: "that is too often" if settings.times > 9 else None)
    async with component.subscribe(component.settings.heard) as messages:
        await component.ready()
        await component.publish("hello", {"of": component.name, "thing": component.thing_name})
        try:
            async for message in messages:
                for _ in range(component.settings.times):
                    await component.publish("out", {"echo": message.json})
                    await component.publish_to_iot("fleet/out", message.payload)
        finally:
            await component.publish("bye", {})


async def test_a_component_runs_on_the_real_one(nucleus: RealNucleus) -> None:
    async with nucleus.running(echo, Settings(), name="com.example.Echo") as component:
        assert await nucleus.wait_for("hello") == [{"of": "com.example.Echo", "thing": "testing"}]
        assert await nucleus.state("com.example.Echo") == "RUNNING"
        await nucleus.publish("in", {"n": 1})
        assert await nucleus.wait_for("out") == [{"echo": {"n": 1}}]
        (sent,) = await nucleus.wait_for_iot("fleet/+")
        assert sent.json == {"n": 1}
        await nucleus.set_configuration({"times": 2}, name="com.example.Echo")
        assert component.settings.times == 2
        await nucleus.publish("in", {"n": 2})
        assert len(await nucleus.wait_for("out", 3)) == 3
        with pytest.raises(ConfigurationError, match="that is too often"):
            await nucleus.set_configuration({"times": 10}, name="com.example.Echo")
        assert (await nucleus.configuration("com.example.Echo"))["times"] == 2
    assert nucleus.published("bye") == [{}]
    with pytest.raises(TimeoutError, match=r"1 of 2 messages on hello within 0\.1 s; published on: .*'out'"):
        await nucleus.wait_for("hello", 2, timeout_s=0.1)


async def test_a_local_deployment_asks_no_busy_component(nucleus: RealNucleus) -> None:
    """Its componentUpdatePolicy is always SKIP_NOTIFY_COMPONENTS."""
    async with nucleus.component(Settings()) as component, component.busy():
        await nucleus.set_configuration({"times": 5})
        assert component.settings.times == 5


async def test_what_was_published_is_there_at_once(nucleus: RealNucleus) -> None:
    async with nucleus.component(Settings()) as component:
        for number in range(50):
            await component.publish("n", {"n": number})
            await component.publish_to_iot("n", {"n": number})
        assert [message["n"] for message in nucleus.published("n")] == list(range(50))
        assert len(nucleus.published_to_iot("n")) == 50


async def test_access_is_what_the_test_grants(nucleus: RealNucleus) -> None:
    policy = {"p": {"operations": ["aws.greengrass#PublishToTopic"], "resources": ["out"]}}
    granted = {"aws.greengrass.ipc.pubsub": policy}
    async with nucleus.component(Settings(), access_control=granted) as component:
        await component.publish("out", {})
        with pytest.raises(IpcError) as caught:
            await component.publish("elsewhere", {})
    assert caught.value.code == "UnauthorizedError"


async def test_an_error_of_main_comes_out(nucleus: RealNucleus) -> None:
    published = asyncio.Event()

    async def broken(component: Component[Settings]) -> None:
        await component.publish("before", {})
        published.set()
        raise FrameError("no camera")

    with pytest.raises(FrameError, match="no camera"):
        async with nucleus.running(broken, Settings()):
            await published.wait()
    assert len(nucleus.published("before")) == 1


async def test_it_is_killed_and_comes_back_with_what_it_kept(nucleus: RealNucleus) -> None:
    async with nucleus.component(Settings()) as component:
        await component.update_configuration({"times": 7})
        await nucleus.kill()
        with pytest.raises(StateError, match="does not run"):
            await nucleus.publish("a", {})
    await nucleus.start()
    assert (await nucleus.configuration())["times"] == 7
    async with nucleus.component(Settings(times=3)) as component:
        assert component.settings.times == 7
        await component.publish("again", {})
        assert nucleus.published("again") == [{}]

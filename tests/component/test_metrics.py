"""Metrics on their way to AWS IoT, the same in memory and over IPC."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from monodon.component import LoopbackNucleus
from monodon.component.component import Component
from monodon.component.link import IotPublish
from monodon.component.metrics import reporting
from monodon.core.metrics import read_reports
from monodon.errors import IpcError

ONE = "com.example.One"
TOPIC = "$aws/things/loopback/shadow/name/monodon-metrics/update"


@dataclass(frozen=True)
class Settings:
    pass


class World(Protocol):
    nucleus: LoopbackNucleus

    def open(self, settings: Settings, *, name: str) -> AbstractAsyncContextManager[Component[Settings]]: ...


@pytest.fixture(autouse=True)
async def _in_time() -> Any:
    async with asyncio.timeout(20):
        yield


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(0.005)


async def test_a_summary_goes_to_the_thing_s_shadow(world: World) -> None:
    """What ``component.metrics()`` does, with less patience."""
    async with (
        world.open(Settings(), name=ONE) as one,
        one.subscribe_to_iot(TOPIC) as updates,
        reporting(one._link, component=ONE, thing_name=one.thing_name, every_s=0.02, clock=lambda: 1000.0) as metrics,
    ):
        metrics.add("latency_ms", 5)
        metrics.add("latency_ms", 7)
        metrics.add("kept")
        update = await anext(updates)
    report = read_reports(update.json)[ONE]
    assert report.at_s == 1000
    assert [(metric.name, metric.count, metric.mean) for metric in report.metrics] == [
        ("latency_ms", 2, 6.0),
        ("kept", 1, 1.0),
    ]


async def test_nothing_is_told_within_the_first_minute(loopback: LoopbackNucleus) -> None:
    async with loopback.component(Settings()).metrics() as metrics:
        metrics.add("a")
        await asyncio.sleep(0.05)
    assert loopback.published_to_iot("#") == []


async def test_without_a_thing_there_is_nobody_to_tell() -> None:
    nucleus = LoopbackNucleus(thing_name="")
    async with nucleus.component(Settings()).metrics() as metrics:
        metrics.add("a")


async def test_an_error_of_the_component_stays_what_it_is(loopback: LoopbackNucleus) -> None:
    with pytest.raises(ZeroDivisionError):
        async with loopback.component(Settings()).metrics():
            _ = 1 / 0


class Refusing:
    """A link that takes no metrics the first times."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.sent: list[IotPublish] = []

    async def publish_to_iot(self, message: IotPublish) -> None:
        if self.refusals:
            self.refusals -= 1
            raise IpcError("Not Authorized", code="UnauthorizedError", hint="grant it")
        self.sent.append(message)


async def test_a_refusal_is_said_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    link: Any = Refusing(3)
    async with reporting(link, component=ONE, thing_name="t", every_s=0.001) as metrics:
        metrics.add("a")
        await until(lambda: len(link.sent) >= 2)
    assert caplog.messages == ["metrics are not told: Not Authorized (grant it)"]
    assert json.loads(link.sent[0].payload)["state"]["reported"][ONE]["metrics"][0]["name"] == "a"

"""MQTT 5 with the real awscrt client: the same cases against this broker and, where it is installed, against mosquitto.

A case states what MQTT 5.0 says and both must do. Where this broker keeps to AWS IoT Core instead, the case says how
the two differ, and each is held to its own. ``docs/mqtt-conformance.md`` is made of them (``MONODON_WRITE_DOCS=1``).
"""

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from awscrt import mqtt5

DOCS = Path(__file__).parents[3] / "docs" / "mqtt-conformance.md"
HERE, THERE = "Monodon", "mosquitto"


@dataclass(frozen=True)
class Case:
    """One behaviour; ``rule`` is where MQTT 5.0 says it, ``expected`` what each broker must show."""

    name: str
    rule: str
    run: Callable[[Any], Awaitable[Any]]
    expected: Any
    there: Any = ...

    def of(self, broker: str) -> Any:
        """What a broker is held to."""
        return self.there if broker == THERE and self.there is not ... else self.expected


async def echo(world: Any) -> Any:
    async with world.connected("one") as one:
        granted = await one.subscribe("a/b")
        reason = await one.publish("a/b", b"x")
        return granted, reason, (await one.receive()).payload


async def properties(world: Any) -> Any:
    async with world.connected("one") as one:
        await one.subscribe("p")
        await one.publish(
            "p",
            b"x",
            content_type="text/plain",
            response_topic="answer",
            correlation_data=b"7",
            user_properties=[mqtt5.UserProperty("k", "1"), mqtt5.UserProperty("k", "2")],
            payload_format_indicator=mqtt5.PayloadFormatIndicator.AWS_MQTT5_PFI_UTF8,
        )
        got = await one.receive()
        pairs = [(each.name, each.value) for each in got.user_properties]
        correlation = bytes(got.correlation_data_bytes)
        return got.content_type, got.response_topic, correlation, pairs, int(got.payload_format_indicator)


async def wildcards(world: Any) -> Any:
    async with world.connected("one") as one:
        await one.subscribe("w/+/c", "w/#", subscription_identifier=5)
        await one.publish("w/b/c", b"both")
        await one.publish("w", b"parent")
        await one.publish("v/b/c", b"neither")
        await one.publish("w/end", b"end")
        found = set()
        while b"end" not in found:
            found.add((await one.receive()).payload)
        return sorted(found)


async def retained(world: Any) -> Any:
    async with world.connected("one") as one:
        await one.publish("r/1", b"old", retain=True)
        await one.publish("r/1", b"new", retain=True)
        await one.publish("r/2", b"gone", retain=True)
        await one.publish("r/2", b"", retain=True)
        await one.subscribe("r/+")
        first = await one.receive()
        await one.publish("r/1", b"live")
        second = await one.receive()
        await one.publish("r/1", b"", retain=True)
        return first.payload, first.retain, second.payload, second.retain


async def no_local(world: Any) -> Any:
    async with world.connected("one") as one, world.connected("two") as two:
        await one.subscribe("n", no_local=True)
        await one.publish("n", b"mine")
        await two.publish("n", b"yours")
        return (await one.receive()).payload


async def unsubscribing(world: Any) -> Any:
    async with world.connected("one") as one:
        await one.subscribe("u")
        return await one.unsubscribe("u"), await one.unsubscribe("u")


async def nobody_listens(world: Any) -> Any:
    async with world.connected("one") as one:
        return await one.publish("nobody/listens", b"x")


async def persistent_session(world: Any) -> Any:
    async with world.connected("two", session_expiry_s=60) as two:
        await two.subscribe("s")
    async with world.connected("one") as one:
        for number in range(3):
            await one.publish("s", b"%d" % number)
    two = world.client("two", session_expiry_s=60)
    present = (await two.start()).session_present
    payloads = [(await two.receive()).payload for _ in range(3)]
    await two.stop()
    return present, payloads


async def clean_session(world: Any) -> Any:
    async with world.connected("two") as two:
        await two.subscribe("s")
    two = world.client("two")
    present = (await two.start()).session_present
    await two.stop()
    return present


async def message_expiry(world: Any) -> Any:
    async with world.connected("two", session_expiry_s=60) as two:
        await two.subscribe("e")
    async with world.connected("one") as one:
        await one.publish("e", b"long", message_expiry_interval_sec=1000)
    async with world.connected("two", session_expiry_s=60) as two:
        got = await two.receive()
        return got.payload, 900 < got.message_expiry_interval_sec <= 1000


async def will(world: Any) -> Any:
    async with world.connected("watcher") as watcher:
        await watcher.subscribe("gone")
        packet = mqtt5.PublishPacket(topic="gone", payload=b"one", qos=mqtt5.QoS.AT_LEAST_ONCE)
        one = world.client("one", will=packet)
        await one.start()
        await one.stop(mqtt5.DisconnectPacket(mqtt5.DisconnectReasonCode.DISCONNECT_WITH_WILL_MESSAGE))
        return (await watcher.receive()).payload


async def takeover(world: Any) -> Any:
    one = world.client("one", "same", min_reconnect_delay_ms=60_000, max_reconnect_delay_ms=60_000)
    await one.start()
    async with world.connected("one", "same"):
        packet = await one.until("disconnected")
        await one.stop()
        return None if packet is None else int(packet.reason_code)


async def qos_0(world: Any) -> Any:
    async with world.connected("one") as one:
        granted = await one.subscribe("q", qos=0)
        await one.publish("q", b"x", qos=1)
        return granted, int((await one.receive()).qos)


async def order(world: Any) -> Any:
    async with world.connected("one") as one:
        await one.subscribe("o")
        await asyncio.gather(*(one.publish("o", b"%d" % number) for number in range(50)))
        return [int((await one.receive()).payload) for _ in range(50)] == list(range(50))


async def subscription_identifiers(world: Any) -> Any:
    async with world.connected("one") as one:
        await one.subscribe("i", subscription_identifier=7)
        await one.publish("i", b"x")
        return list((await one.receive()).subscription_identifiers)


async def dollar_topics(world: Any) -> Any:
    async with world.connected("one") as one:
        await one.subscribe("#")
        await one.publish("$aws/things/one/x", b"hidden")
        await one.publish("seen", b"seen")
        return (await one.receive()).payload


async def retain_as_published(world: Any) -> Any:
    async with world.connected("one") as one:
        await one.subscribe("rap", retain_as_published=True)
        await one.publish("rap", b"x", retain=True)
        got = await one.receive()
        await one.publish("rap", b"", retain=True)
        return got.retain


async def retain_handling(world: Any) -> Any:
    async with world.connected("one") as one:
        await one.publish("rh", b"kept", retain=True)
        await one.subscribe("rh", retain_handling_type=mqtt5.RetainHandlingType.DONT_SEND)
        await one.publish("rh", b"live")
        got = (await one.receive()).payload
        await one.publish("rh", b"", retain=True)
        return got


async def maximum_qos(world: Any) -> Any:
    one = world.client("one")
    connack = await one.start()
    await one.stop()
    return None if connack.maximum_qos is None else int(connack.maximum_qos)


async def shared(world: Any) -> Any:
    async with world.connected("one") as one:
        return await one.subscribe("$share/g/t")


async def too_large(world: Any) -> Any:
    """A payload over AWS's 128 KiB, within the packet size: refused once, not sent again for ever."""
    async with world.connected("one") as one:
        reason = await one.publish("large", b"x" * (128 * 1024 + 1))
        return reason, one.events.empty()


CASES = (
    Case("a subscriber gets what is published, QoS 1", "4.3.2", echo, ([1], 0, b"x")),
    Case(
        "properties are passed on unchanged, user properties in order",
        "3.3.2.3",
        properties,
        ("text/plain", "answer", b"7", [("k", "1"), ("k", "2")], 1),
    ),
    Case("+ and # match as written; # the level above, too", "4.7.1", wildcards, [b"both", b"end", b"parent"]),
    Case(
        "the last retained message comes first; an empty one clears it",
        "3.3.1.3",
        retained,
        (b"new", True, b"live", False),
    ),
    Case("No Local keeps one's own messages away", "3.8.3.1", no_local, b"yours"),
    Case("UNSUBACK says whether there was a subscription", "3.11.3", unsubscribing, ([0], [17])),
    Case("PUBACK says that nobody has subscribed", "3.4.2.1", nobody_listens, 16),
    Case("a session keeps what comes while its client is away", "4.1", persistent_session, (True, [b"0", b"1", b"2"])),
    Case("a session without expiry ends with its connection", "3.1.2.11.2", clean_session, False),
    Case("the message expiry that is left is passed on", "3.3.2.3.3", message_expiry, (b"long", True)),
    Case("the will is published when a client asks for it in its farewell", "3.14.2.1", will, b"one"),
    Case("a client id that connects again ends the connection before it, and says so", "3.1.4", takeover, 142, None),
    Case("QoS is the lower one of publish and subscription", "3.8.4", qos_0, ([0], 0)),
    Case("messages of one client arrive in order", "4.6", order, True),
    Case("the subscription identifier comes with the message", "3.8.2.1.2", subscription_identifiers, [7]),
    Case("a filter that starts with a wildcard does not match $ topics", "4.7.2", dollar_topics, b"seen"),
    Case("Retain As Published keeps the flag", "3.8.3.1", retain_as_published, True),
    Case("Retain Handling 2 sends nothing that is retained", "3.8.3.1", retain_handling, b"live"),
    Case("the maximum QoS (AWS: 1; None is 2)", "3.2.2.3.4", maximum_qos, 1, None),
    Case("shared subscriptions ($share; not offered here)", "4.8.2", shared, [158], [1]),
    Case("a payload over 128 KiB (AWS refuses it)", "3.4.2.1", too_large, (151, True), (16, True)),
)


def mosquitto() -> str | None:
    """Debian's mosquitto; MONODON_MOSQUITTO names another."""
    return os.environ.get("MONODON_MOSQUITTO") or shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")


@asynccontextmanager
async def running_mosquitto(world: Any, folder: Path) -> AsyncIterator[None]:
    """mosquitto with the world's certificates, on a port of its own."""
    program = mosquitto()
    assert program is not None
    world.device("one")
    certificates = world.authority.ca_file.parent
    with socket.create_server(("127.0.0.1", 0)) as free:
        world.port = free.getsockname()[1]
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"""\
user {"root" if os.geteuid() == 0 else ""}
set_tcp_nodelay true
listener {world.port} 127.0.0.1
cafile {world.authority.ca_file}
certfile {certificates / "server.pem"}
keyfile {certificates / "server.key"}
require_certificate true
use_identity_as_username true
allow_anonymous true
""".replace("user \n", "")
    )
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([program, "-c", str(configuration)], **quiet)  # noqa: ASYNC220
    try:
        await listening(world.port)
        yield
    finally:
        process.terminate()
        process.wait(10)


async def listening(port: int) -> None:
    """Until somebody takes connections there."""
    ends = time.monotonic() + 10
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            assert time.monotonic() < ends, "mosquitto does not listen"
            await asyncio.sleep(0.02)
            continue
        writer.close()
        await writer.wait_closed()
        return


async def test_each_case_holds_here(world: Any) -> None:
    async with world.broker():
        found = {case.name: await case.run(world) for case in CASES}
    assert found == {case.name: case.of(HERE) for case in CASES}


@pytest.mark.skipif(mosquitto() is None, reason="mosquitto is not installed")
async def test_each_case_holds_with_mosquitto(world: Any, tmp_path: Path) -> None:
    async with running_mosquitto(world, tmp_path):
        found = {case.name: await case.run(world) for case in CASES}
    assert found == {case.name: case.of(THERE) for case in CASES}


def table() -> str:
    """The page that tells of the cases."""
    lines = [
        "# MQTT 5 conformance",
        "",
        "What the embedded cloud's broker and Debian's mosquitto 2.0.11 do in the same cases, with the unmodified",
        "awscrt client (`tests/cloud/broker/test_conformance.py`; the second column is tried where mosquitto is",
        "installed, with `set_tcp_nodelay true`). Where the two differ, this broker keeps to AWS IoT Core.",
        "",
        f"| case | MQTT 5.0 | {HERE} | {THERE} |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {case.name} | {case.rule} | {shown(case, HERE)} | {shown(case, THERE)} |" for case in CASES]
    return "\n".join(lines) + "\n"


def shown(case: Case, broker: str) -> str:
    """How a cell says it."""
    return "as specified" if case.there is ... else f"`{case.of(broker)}`"


def test_the_page_tells_of_every_case() -> None:
    if os.environ.get("MONODON_WRITE_DOCS"):
        DOCS.write_text(table())
    assert DOCS.read_text() == table()

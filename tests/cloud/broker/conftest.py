"""A broker with certificates in a temporary folder, and real awscrt clients for it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from awscrt import mqtt5
from awsiot import mqtt5_client_builder

from monodon.cloud.broker.identity import Identity
from monodon.cloud.broker.server import Broker
from monodon.cloud.broker.session import Limits
from monodon.cloud.certificates import MQTT_PROTOCOLS, CertificateAuthority, identify
from monodon.cloud.store import Store

WAIT_S = 10.0


def allow_all(identity: Identity, action: str, resource: str) -> bool:
    return True


@dataclass
class World:
    """A state folder and the broker that runs on it; ``things`` are the devices that have a certificate."""

    folder: Path
    authorise: Callable[[Identity, str, str], bool] = allow_all
    limits: Limits | None = None
    port: int = 0
    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    things: dict[str, str] = field(default_factory=dict)
    devices: list["Device"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = self.folder / "state"
        with Store.open(self.state):
            self.authority = CertificateAuthority.open(self.state)

    def device(self, thing: str) -> tuple[str, str]:
        if thing not in self.files:
            issued = self.authority.issue(thing)
            certificate, key = self.folder / f"{thing}.pem", self.folder / f"{thing}.key"
            certificate.write_text(issued.certificate_pem)
            key.write_text(issued.private_key_pem)
            self.files[thing] = (str(certificate), str(key))
            self.things[issued.certificate_id] = thing
        return self.files[thing]

    def authenticate(self, der: bytes) -> Identity | None:
        certificate_id = identify(der)
        thing = self.things.get(certificate_id)
        return None if thing is None else Identity(certificate_id=certificate_id, thing_names=(thing,))

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[Broker]:
        """The broker on this world's folder; the second time on the same port."""
        context = self.authority.server_context(client_certificate=ssl.CERT_REQUIRED, protocols=MQTT_PROTOCOLS)
        with Store.open(self.state) as store:
            broker = Broker(store=store, authenticate=self.authenticate, authorise=self.authorise, limits=self.limits)
            async with broker.listen("127.0.0.1", self.port, context) as self.port:
                yield broker

    def client(self, thing: str, client_id: str | None = None, **options: Any) -> "Device":
        """A client that is not started yet; whoever forgets to stop it has it stopped at the end of the test."""
        return Device(self, thing, client_id, **options)

    @asynccontextmanager
    async def connected(self, thing: str, client_id: str | None = None, **options: Any) -> AsyncIterator["Device"]:
        """A connected client; stopped at the end."""
        device = self.client(thing, client_id, **options)
        await device.start()
        try:
            yield device
        finally:
            await device.stop()

    def client_context(self, thing: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.ca_file))
        context.load_cert_chain(*self.device(thing))
        return context


class Device:
    """The unmodified awscrt MQTT 5 client, bridged to asyncio."""

    def __init__(self, world: World, thing: str, client_id: str | None = None, **options: Any) -> None:
        certificate, key = world.device(thing)
        self._loop = asyncio.get_running_loop()
        world.devices.append(self)
        self.is_started = False
        self.messages: asyncio.Queue[mqtt5.PublishPacket] = asyncio.Queue()
        self.events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.stopped = asyncio.Event()
        connect = mqtt5.ConnectPacket(
            client_id=client_id or thing,
            keep_alive_interval_sec=options.pop("keep_alive_s", 30),
            session_expiry_interval_sec=options.pop("session_expiry_s", None),
            will=options.pop("will", None),
        )
        options.setdefault("session_behavior", mqtt5.ClientSessionBehaviorType.REJOIN_ALWAYS)
        options.setdefault("min_reconnect_delay_ms", 50)
        options.setdefault("max_reconnect_delay_ms", 200)
        options.setdefault(
            "extended_validation_and_flow_control_options", mqtt5.ExtendedValidationAndFlowControlOptions.NONE
        )
        self.client = mqtt5_client_builder.mtls_from_path(
            certificate,
            key,
            endpoint="localhost",
            port=world.port,
            ca_filepath=str(world.authority.ca_file),
            connect_options=connect,
            on_publish_received=lambda data: self._call(self.messages.put_nowait, data.publish_packet),
            on_lifecycle_connection_success=lambda data: self._event("connected", data.connack_packet),
            on_lifecycle_connection_failure=lambda data: self._event("failed", data),
            on_lifecycle_disconnection=lambda data: self._event("disconnected", data.disconnect_packet),
            on_lifecycle_stopped=lambda data: self._call(self.stopped.set),
            **options,
        )

    def _event(self, kind: str, data: Any) -> None:
        self._call(self.events.put_nowait, (kind, data))

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(function, *arguments)

    async def until(self, kind: str) -> Any:
        """Wait for a life cycle event; return what came with it."""
        async with asyncio.timeout(WAIT_S):
            while True:
                found, data = await self.events.get()
                if found == kind:
                    return data

    async def start(self) -> mqtt5.ConnackPacket:
        self.begin()
        return await self.until("connected")

    def begin(self) -> None:
        self.is_started = True
        self.client.start()

    async def stop(self, packet: mqtt5.DisconnectPacket | None = None) -> None:
        if not self.is_started:
            return
        self.is_started = False
        self.client.stop(packet or mqtt5.DisconnectPacket())  # without one it just hangs up, and its will speaks
        async with asyncio.timeout(WAIT_S):
            await self.stopped.wait()
        self.stopped.clear()

    async def subscribe(self, *filters: str, qos: int = 1, **options: Any) -> list[int]:
        identifier = options.pop("subscription_identifier", None)
        subscriptions = [mqtt5.Subscription(each, mqtt5.QoS(qos), **options) for each in filters]
        packet = mqtt5.SubscribePacket(subscriptions, subscription_identifier=identifier)
        return [int(code) for code in (await self._wait(self.client.subscribe(packet))).reason_codes]

    async def unsubscribe(self, *filters: str) -> list[int]:
        answer = await self._wait(self.client.unsubscribe(mqtt5.UnsubscribePacket(list(filters))))
        return [int(code) for code in answer.reason_codes]

    async def publish(self, topic: str, payload: bytes = b"", qos: int = 1, **options: Any) -> int | None:
        packet = mqtt5.PublishPacket(topic=topic, payload=payload, qos=mqtt5.QoS(qos), **options)
        answer = await self._wait(self.client.publish(packet))
        return None if answer.puback is None else int(answer.puback.reason_code)

    async def receive(self) -> mqtt5.PublishPacket:
        return await asyncio.wait_for(self.messages.get(), WAIT_S)

    async def _wait(self, future: Any) -> Any:
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), WAIT_S)


@pytest.fixture
async def make_world(tmp_path: Path) -> AsyncIterator[Callable[..., World]]:
    worlds: list[World] = []

    def make(**options: Any) -> World:
        folder = tmp_path / str(len(worlds))
        folder.mkdir()
        worlds.append(World(folder, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        for device in world.devices:
            await device.stop()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture
async def broker(world: World) -> AsyncIterator[Broker]:
    async with world.broker() as broker:
        yield broker

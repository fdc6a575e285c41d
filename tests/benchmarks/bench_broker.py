"""The broker's rate of acknowledged QoS 1 publishes, and how long one acknowledgement takes.

Broker and client are two processes over mutual TLS on loopback. ``raw`` is a socket that writes ready-made packets, a
window of 100 ahead; ``awscrt`` the unmodified client with its extended validation set to NONE (its default keeps to
AWS's 100 a second). ``delivered`` means that each message also comes back to a subscriber; ``kept`` that it is written
to disk for one who is away, before it is acknowledged.
"""

import asyncio
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from monodon.cloud.broker.identity import Identity
from monodon.cloud.broker.server import Broker
from monodon.cloud.certificates import MQTT_PROTOCOLS, CertificateAuthority, identify
from monodon.cloud.store import Store
from monodon.mqtt import Connect, Disconnect, Message, PubAck, Publish, Reader, Subscribe, Subscription, write

WINDOW = 100
PAYLOAD = b"x" * 256
RAW_COUNT = 20_000
AWSCRT_COUNT = 5_000
SINGLES = 500


async def serve(folder: Path) -> None:
    """The broker's process: prints its port, runs until it is terminated."""
    authority = CertificateAuthority.open(folder)
    context = authority.server_context(client_certificate=ssl.CERT_REQUIRED, protocols=MQTT_PROTOCOLS)
    with Store.open(folder) as store:
        broker = Broker(
            store=store,
            authenticate=lambda der: Identity(certificate_id=identify(der)),
            authorise=lambda identity, action, resource: True,
        )
        async with broker.listen("127.0.0.1", 0, context) as port:
            print(port, flush=True)
            await asyncio.Event().wait()


class Socket:
    """The raw client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._packets = reader, writer, Reader()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> list[Any]:
        while not (packets := list(self._packets.packets())):
            self._packets.feed(await self._reader.read(65536))
        return packets

    async def close(self) -> None:
        await self.send(write(Disconnect()))
        self._writer.close()
        await self._writer.wait_closed()


@asynccontextmanager
async def dial(world: dict[str, Any], client_id: str, **options: Any) -> AsyncIterator[Socket]:
    context = ssl.create_default_context(cafile=str(world["ca"]))
    context.load_cert_chain(world["certificate"], world["key"])
    socket = Socket(*await asyncio.open_connection("localhost", world["port"], ssl=context))
    await socket.send(write(Connect(client_id=client_id, **options)))
    await socket.receive()
    try:
        yield socket
    finally:
        await socket.close()


async def subscribe(socket: Socket, topic: str) -> None:
    await socket.send(write(Subscribe(packet_id=1, subscriptions=(Subscription(topic_filter=topic, qos=1),))))
    await socket.receive()


async def pour(socket: Socket, topic: str, count: int) -> float:
    """Return the rate of ``count`` publishes, a window ahead of their acknowledgements; what comes back is taken."""
    message = Message(topic=topic, payload=PAYLOAD, qos=1)
    packets = [write(Publish(message=message, packet_id=number + 1)) for number in range(WINDOW)]
    free, sent, acknowledged = list(range(WINDOW)), 0, 0
    started = time.perf_counter()
    while acknowledged < count:
        batch, free = free[: count - sent], free[count - sent :]
        sent += len(batch)
        out = [packets[number] for number in batch]
        if out:
            await socket.send(b"".join(out))
        answers = []
        for packet in await socket.receive():
            if isinstance(packet, PubAck):
                acknowledged += 1
                free.append(packet.packet_id - 1)
            elif isinstance(packet, Publish) and packet.packet_id is not None:
                answers.append(write(PubAck(packet_id=packet.packet_id)))
        if answers:
            await socket.send(b"".join(answers))
    return count / (time.perf_counter() - started)


async def raw(world: dict[str, Any]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    async with dial(world, "nobody-listens") as socket:
        await pour(socket, "warm", 2000)
        figures["raw_per_s"] = round(await pour(socket, "none", RAW_COUNT))
        packet = write(Publish(message=Message(topic="one", payload=PAYLOAD, qos=1), packet_id=1))
        singles = []
        for _ in range(SINGLES):
            started = time.perf_counter()
            await socket.send(packet)
            await socket.receive()
            singles.append((time.perf_counter() - started) * 1000)
        figures["ack_ms"] = _percentiles(singles)
    async with dial(world, "listens") as socket:
        await subscribe(socket, "echo")
        figures["raw_delivered_per_s"] = round(await pour(socket, "echo", RAW_COUNT // 2))
    async with dial(world, "away", session_expiry_s=60) as socket:
        await subscribe(socket, "away")
    async with dial(world, "writes") as socket:
        figures["raw_kept_per_s"] = round(await pour(socket, "away", 5000))
    return figures


async def awscrt(world: dict[str, Any]) -> dict[str, Any]:
    from awscrt import mqtt5
    from awsiot import mqtt5_client_builder

    loop = asyncio.get_running_loop()
    connected, stopped, received = asyncio.Event(), asyncio.Event(), 0

    def count(_: Any) -> None:
        nonlocal received
        received += 1

    client = mqtt5_client_builder.mtls_from_path(
        world["certificate"],
        world["key"],
        endpoint="localhost",
        port=world["port"],
        ca_filepath=str(world["ca"]),
        client_id="awscrt",
        extended_validation_and_flow_control_options=mqtt5.ExtendedValidationAndFlowControlOptions.NONE,
        on_publish_received=count,
        on_lifecycle_connection_success=lambda _: loop.call_soon_threadsafe(connected.set),
        on_lifecycle_stopped=lambda _: loop.call_soon_threadsafe(stopped.set),
    )
    client.start()
    await asyncio.wait_for(connected.wait(), 10)

    async def publish(topic: str) -> None:
        packet = mqtt5.PublishPacket(topic=topic, payload=PAYLOAD, qos=mqtt5.QoS.AT_LEAST_ONCE)
        await asyncio.wrap_future(client.publish(packet))

    async def rate(topic: str) -> int:
        started = time.perf_counter()
        for _ in range(AWSCRT_COUNT // WINDOW):
            await asyncio.gather(*(publish(topic) for _ in range(WINDOW)))
        return round(AWSCRT_COUNT / (time.perf_counter() - started))

    singles = []
    for _ in range(SINGLES):
        started = time.perf_counter()
        await publish("one")
        singles.append((time.perf_counter() - started) * 1000)
    figures: dict[str, Any] = {"awscrt_ack_ms": _percentiles(singles), "awscrt_per_s": await rate("none")}
    subscription = mqtt5.SubscribePacket([mqtt5.Subscription("echo", mqtt5.QoS.AT_LEAST_ONCE)])
    await asyncio.wrap_future(client.subscribe(subscription))
    figures["awscrt_delivered_per_s"] = await rate("echo")
    client.stop(mqtt5.DisconnectPacket())
    await asyncio.wait_for(stopped.wait(), 10)
    return figures


def _percentiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {"p50": round(cuts[49], 3), "p95": round(cuts[94], 3)}


def main() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mn") as name:
        folder = Path(name)
        state = folder / "state"
        with Store.open(state):
            authority = CertificateAuthority.open(state)
        issued = authority.issue("bench")
        certificate, key = folder / "bench.pem", folder / "bench.key"
        certificate.write_text(issued.certificate_pem)
        key.write_text(issued.private_key_pem)
        server = subprocess.Popen([sys.executable, __file__, str(state)], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            world = {"port": port, "ca": authority.ca_file, "certificate": str(certificate), "key": str(key)}
            return {**asyncio.run(raw(world)), **asyncio.run(awscrt(world))}
        finally:
            server.terminate()
            server.communicate()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(serve(Path(sys.argv[1])))
    else:
        print(main())

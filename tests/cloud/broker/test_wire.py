"""The broker against clients that are old, broken, slow, silent or hostile: each ends its own connection alone."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from monodon.cloud.broker.server import Broker
from monodon.cloud.broker.session import Limits
from monodon.cloud.certificates import MQTT_PROTOCOLS
from monodon.cloud.store import Store
from monodon.errors import NetworkError
from monodon.mqtt import (
    ConnAck,
    Connect,
    Disconnect,
    Message,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    Reader,
    Reason,
    SubAck,
    Subscribe,
    Subscription,
    Will,
    write,
)

pytestmark = pytest.mark.slow  # real sockets, real clients

WAIT_S = 5.0


class Raw:
    """A TLS socket that speaks whatever the test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._packets = Reader()

    async def send(self, *packets: Packet | bytes) -> None:
        self.writer.write(b"".join(each if isinstance(each, bytes) else write(each) for each in packets))
        await self.writer.drain()

    async def receive(self) -> Packet | None:
        """The next packet; None: the broker closed the connection."""
        async with asyncio.timeout(WAIT_S):
            while (packet := self._packets.next_packet()) is None:
                data = await self.reader.read(65536)
                if not data:
                    return None
                self._packets.feed(data)
            return packet

    async def ends(self) -> list[Packet]:
        """Everything until the broker closes the connection."""
        packets = []
        while (packet := await self.receive()) is not None:
            packets.append(packet)
        return packets

    def hang_up(self) -> None:
        self.writer.transport.abort()


@pytest.fixture
async def dial(world: Any) -> AsyncIterator[Callable[..., Any]]:
    """Open TLS connections to the world's broker; all are closed at the end."""
    opened: list[Raw] = []

    async def dial(thing: str = "raw", *, connect: Connect | None = None) -> Raw:
        context = world.client_context(thing)
        raw = Raw(*await asyncio.open_connection("localhost", world.port, ssl=context))
        opened.append(raw)
        if connect is not None:
            await raw.send(connect)
            answer = await raw.receive()
            assert isinstance(answer, ConnAck)
            assert answer.reason is Reason.SUCCESS
        return raw

    yield dial
    for raw in opened:
        raw.hang_up()
        with suppress(OSError):
            await raw.writer.wait_closed()


def publish(
    topic: str = "t", payload: bytes = b"", qos: int = 0, packet_id: int | None = None, **options: Any
) -> Publish:
    return Publish(message=Message(topic=topic, payload=payload, qos=qos), packet_id=packet_id, **options)


def subscribe(*filters: str, qos: int = 1, packet_id: int = 1, **options: Any) -> Subscribe:
    return Subscribe(
        packet_id=packet_id, subscriptions=tuple(Subscription(topic_filter=f, qos=qos, **options) for f in filters)
    )


def text(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


@pytest.mark.usefixtures("broker")
class TestBrokenClients:
    async def test_mqtt_3_is_refused_in_its_own_words(self, dial: Any, caplog: pytest.LogCaptureFixture) -> None:
        raw = await dial()
        body = text(b"MQTT") + b"\x04\x02\x00\x3c" + text(b"old")
        await raw.send(bytes([0x10, len(body)]) + body)
        assert await asyncio.wait_for(raw.reader.read(), WAIT_S) == b"\x20\x02\x00\x01"
        assert "speaks an older MQTT" in caplog.text

    async def test_a_first_packet_other_than_connect_is_refused(self, dial: Any) -> None:
        raw = await dial()
        await raw.send(PingReq())
        assert [each.reason for each in await raw.ends()] == [Reason.PROTOCOL_ERROR]

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"\x00\x00", Reason.MALFORMED_PACKET),
            (b"\x30\x03\x00\x01\xff", Reason.MALFORMED_PACKET),
            (b"\x30\xff\xff\xff\x7f", Reason.PACKET_TOO_LARGE),
            (write(publish("t", b"x" * (128 * 1024 + 1))), Reason.PACKET_TOO_LARGE),
            (write(publish(qos=2, packet_id=1)), Reason.QOS_NOT_SUPPORTED),
            (write(publish(topic_alias=9)), Reason.TOPIC_ALIAS_INVALID),
            (write(publish("", topic_alias=1)), Reason.TOPIC_ALIAS_INVALID),
            (write(publish(subscription_ids=(1,))), Reason.PROTOCOL_ERROR),
            (write(Connect(client_id="again")), Reason.PROTOCOL_ERROR),
            (write(ConnAck()), Reason.PROTOCOL_ERROR),
            (b"\x82\x06\x00\x01\x00\x00\x00\x01", Reason.TOPIC_FILTER_INVALID),
            (b"".join(write(publish(qos=1, packet_id=n)) for n in range(1, 102)), Reason.RECEIVE_MAXIMUM_EXCEEDED),
        ],
    )
    async def test_what_is_wrong_is_said_and_ends_that_connection_alone(
        self, dial: Any, data: bytes, reason: Reason
    ) -> None:
        other = await dial("other", connect=Connect(client_id="other"))
        raw = await dial(connect=Connect(client_id="raw"))
        await raw.send(data)
        answers = await raw.ends()
        assert isinstance(answers[-1], Disconnect)
        assert answers[-1].reason is reason
        await other.send(PingReq())
        assert await other.receive() == PingResp()

    async def test_cut_off_clients_leave_the_rest_alone(self, dial: Any) -> None:
        for data in (b"", b"\x10", b"\x10\x20abc"):
            raw = await dial()
            await raw.send(data)
            raw.hang_up()
        other = await dial("other", connect=Connect(client_id="other"))
        await other.send(PingReq())
        assert await other.receive() == PingResp()

    async def test_without_a_client_certificate_there_is_no_connection(
        self, world: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        context = ssl.create_default_context(cafile=str(world.authority.ca_file))
        with pytest.raises((ssl.SSLError, OSError)):
            reader, writer = await asyncio.open_connection("localhost", world.port, ssl=context)
            try:
                if await asyncio.wait_for(reader.read(1), WAIT_S) == b"":
                    raise ConnectionResetError
            finally:
                writer.transport.abort()
        assert "refused an MQTT client in its TLS handshake" in caplog.text

    async def test_aws_port_443_clients_agree_on_their_protocol(self, world: Any) -> None:
        context = world.client_context("raw")
        context.set_alpn_protocols(["x-amzn-mqtt-ca"])
        _, writer = await asyncio.open_connection("localhost", world.port, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "x-amzn-mqtt-ca"
        writer.transport.abort()

    async def test_tls_1_2_is_enough(self, world: Any) -> None:
        context = world.client_context("raw")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        _, writer = await asyncio.open_connection("localhost", world.port, ssl=context)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
        writer.transport.abort()


@pytest.mark.usefixtures("broker")
class TestRules:
    async def test_topic_aliases_stand_for_topics(self, dial: Any) -> None:
        raw = await dial(connect=Connect(client_id="raw"))
        await raw.send(subscribe("long/topic"))
        assert isinstance(await raw.receive(), SubAck)
        await raw.send(publish("long/topic", b"1", topic_alias=1), publish("", b"2", topic_alias=1))
        for expected in (b"1", b"2"):
            packet = await raw.receive()
            assert (packet.message.topic, packet.message.payload) == ("long/topic", expected)

    async def test_a_window_of_two_gets_two_until_it_acknowledges(self, dial: Any) -> None:
        raw = await dial(connect=Connect(client_id="raw", receive_maximum=2))
        other = await dial("other", connect=Connect(client_id="other"))
        await raw.send(subscribe("t"))
        await raw.receive()
        await other.send(*(publish("t", b"%d" % n, qos=1, packet_id=n) for n in range(1, 6)))
        for _ in range(5):
            await other.receive()
        first, second = await raw.receive(), await raw.receive()
        await raw.send(PingReq())
        assert await raw.receive() == PingResp()
        await raw.send(PubAck(packet_id=second.packet_id), PubAck(packet_id=first.packet_id))
        assert [(await raw.receive()).message.payload for _ in range(2)] == [b"3", b"4"]

    async def test_what_was_not_acknowledged_comes_again_marked_as_such(self, dial: Any) -> None:
        connect = Connect(client_id="raw", session_expiry_s=60)
        raw = await dial(connect=connect)
        await raw.send(subscribe("t"), publish("t", b"x", qos=1, packet_id=7))
        packets = [await raw.receive() for _ in range(3)]
        sent = next(each for each in packets if isinstance(each, Publish))
        raw.hang_up()
        again = await dial()
        await again.send(connect)
        assert (await again.receive()).session_present is True
        repeated = await again.receive()
        assert (repeated.packet_id, repeated.duplicate, sent.duplicate) == (sent.packet_id, True, False)

    async def test_a_message_over_a_clients_own_limit_is_not_sent(self, dial: Any) -> None:
        raw = await dial(connect=Connect(client_id="raw", maximum_packet_size=100))
        await raw.send(
            subscribe("t"), publish("t", b"x" * 200, qos=1, packet_id=1), publish("t", b"y", qos=1, packet_id=2)
        )
        packets = [await raw.receive() for _ in range(4)]
        assert [each.message.payload for each in packets if isinstance(each, Publish)] == [b"y"]

    async def test_options_of_a_subscription_hold(self, dial: Any) -> None:
        raw = await dial(connect=Connect(client_id="raw"))
        other = await dial("other", connect=Connect(client_id="other"))
        kept = Publish(message=Message(topic="t", payload=b"kept", retain=True))
        await other.send(kept, PingReq())
        assert await other.receive() == PingResp()
        await raw.send(subscribe("t", no_local=True, retain_handling=2, retain_as_published=True))
        assert (await raw.receive()).reasons == (Reason.GRANTED_QOS_1,)
        await raw.send(publish("t", b"own"))
        await other.send(kept)
        packet = await raw.receive()
        assert (packet.message.payload, packet.message.retain) == (b"kept", True)

    async def test_overlapping_filters_give_one_copy_with_both_ids(self, dial: Any) -> None:
        raw = await dial(connect=Connect(client_id="raw"))
        for packet_id, topic_filter in ((1, "a/#"), (2, "a/+")):
            packet = subscribe(topic_filter, packet_id=packet_id, qos=packet_id - 1)
            await raw.send(
                Subscribe(packet_id=packet_id, subscriptions=packet.subscriptions, subscription_id=packet_id)
            )
            await raw.receive()
        await raw.send(publish("a/b", b"x", qos=1, packet_id=9), PingReq())
        packets = [await raw.receive() for _ in range(3)]
        published = [each for each in packets if isinstance(each, Publish)]
        assert [(set(each.subscription_ids), each.message.qos) for each in published] == [({1, 2}, 1)]

    async def test_more_filters_than_allowed_are_refused_one_by_one(self, dial: Any) -> None:
        raw = await dial(connect=Connect(client_id="raw"))
        await raw.send(subscribe(*(f"t/{number}" for number in range(9))))
        assert (await raw.receive()).reasons == (*[Reason.GRANTED_QOS_1] * 8, Reason.QUOTA_EXCEEDED)

    async def test_an_empty_client_id_gets_one(self, dial: Any) -> None:
        raw = await dial()
        await raw.send(Connect(client_id=""))
        assert (await raw.receive()).assigned_client_id.startswith("auto-")

    async def test_a_killed_clients_will_is_published(self, dial: Any) -> None:
        watcher = await dial("watcher", connect=Connect(client_id="watcher"))
        await watcher.send(subscribe("gone"))
        await watcher.receive()
        will = Will(message=Message(topic="gone", payload=b"raw", qos=1))
        raw = await dial(connect=Connect(client_id="raw", will=will))
        raw.hang_up()
        assert (await watcher.receive()).message.payload == b"raw"

    async def test_a_silent_client_is_disconnected(self, dial: Any) -> None:
        raw = await dial(connect=Connect(client_id="raw", keep_alive_s=1))
        assert [each.reason for each in await raw.ends()] == [Reason.KEEP_ALIVE_TIMEOUT]

    async def test_a_client_that_does_not_read_is_bounded_and_costs_the_others_nothing(
        self, dial: Any, broker: Any
    ) -> None:
        slow = await dial("slow", connect=Connect(client_id="slow"))
        await slow.send(subscribe("flood", qos=0))
        await slow.receive()
        slow.writer.transport.pause_reading()
        other = await dial("other", connect=Connect(client_id="other"))
        payload = b"x" * 100_000
        for _ in range(20):
            await other.send(*(publish("flood", payload) for _ in range(10)), PingReq())
            assert await other.receive() == PingResp()
        connection = next(each for each in broker._connections if each.name == "slow")
        assert connection.is_congested
        assert connection._transport.get_write_buffer_size() < 4_000_000


async def test_the_number_of_queued_messages_is_bounded(make_world: Any) -> None:
    world = make_world(limits=Limits(queued_messages=3))
    async with world.broker(), world.connected("one") as one:
        async with world.connected("two", session_expiry_s=60) as two:
            await two.subscribe("t")
        for number in range(5):
            await one.publish("t", b"%d" % number)
        async with world.connected("two", session_expiry_s=60) as two:
            assert [(await two.receive()).payload for _ in range(3)] == [b"0", b"1", b"2"]


async def test_a_taken_port_is_said_in_one_line(world: Any, make_world: Any) -> None:
    async with world.broker():
        other = make_world(port=world.port)
        with pytest.raises(NetworkError, match=r"Address already in use"):
            async with other.broker():
                pass


class FailingStore:
    """A store on a disk that can be full: then no transaction is written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.table = store.table
        self.log = store.log
        self.is_full = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._store.transaction():
            yield
            if self.is_full:
                raise OSError(28, "No space left on device")


async def test_nothing_is_acknowledged_that_could_not_be_written(
    world: Any, dial: Any, caplog: pytest.LogCaptureFixture
) -> None:
    context = world.authority.server_context(client_certificate=ssl.CERT_REQUIRED, protocols=MQTT_PROTOCOLS)
    with Store.open(world.state) as store:
        failing = FailingStore(store)
        broker = Broker(store=failing, authenticate=world.authenticate, authorise=world.authorise)
        async with broker.listen("127.0.0.1", 0, context) as world.port:
            raw = await dial(connect=Connect(client_id="raw", session_expiry_s=60))
            await raw.send(subscribe("t"))
            assert isinstance(await raw.receive(), SubAck)
            failing.is_full = True
            await raw.send(publish("t", b"1", qos=1, packet_id=1))
            with suppress(OSError):
                assert await raw.ends() == []
            assert "could not write its state" in caplog.text
            failing.is_full = False
            again = await dial(connect=Connect(client_id="raw", session_expiry_s=60))
            await again.send(publish("t", b"1", qos=1, packet_id=1))
            packets = [await again.receive() for _ in range(3)]  # twice delivered, once acknowledged
            assert PubAck(packet_id=1) in packets
            assert [each.message.payload for each in packets if isinstance(each, Publish)] == [b"1", b"1"]
        assert len(list(store.log().items())) == 2

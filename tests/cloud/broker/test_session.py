"""Session rules without sockets: delivery at least once and in order, windows, expiry, wills, what is kept on disk."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monodon.cloud.broker.exchange import Client, Exchange
from monodon.cloud.broker.identity import Identity
from monodon.cloud.broker.memory import Memory
from monodon.cloud.broker.session import Limits, Outgoing, Session
from monodon.cloud.store import Store
from monodon.mqtt import (
    ConnAck,
    Connect,
    Disconnect,
    Message,
    Packet,
    ProtocolError,
    PubAck,
    Publish,
    Reason,
    Subscribe,
    Subscription,
    Will,
)

IDENTITY = Identity(certificate_id="c", thing_names=("one",))


@dataclass(eq=False)
class Line:
    """A link that only remembers; ``is_congested`` is the test's."""

    sent: list[Packet] = field(default_factory=list)
    is_congested: bool = False
    is_closed: bool = False

    def send(self, packet: Packet) -> bool:
        self.sent.append(packet)
        return True

    def close(self) -> None:
        self.is_closed = True

    @property
    def payloads(self) -> list[bytes]:
        return [each.message.payload for each in self.sent if isinstance(each, Publish)]

    @property
    def packet_ids(self) -> list[int | None]:
        return [each.packet_id for each in self.sent if isinstance(each, Publish)]


@dataclass
class World:
    """An exchange on a store; ``reopen`` is what a killed broker does when it is started again."""

    store: Store
    now: float = 1_000.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.reopen()

    def reopen(self) -> None:
        self.exchange = Exchange(Memory(self.store), lambda *_: True, limits=self.limits, now=self.now)

    def connect(self, client_id: str, **options: object) -> tuple[Line, Client]:
        line = Line()
        options.setdefault("session_expiry_s", 60)
        client = self.exchange.connect(line, Connect(client_id=client_id, **options), IDENTITY, self.now)
        assert client is not None
        return line, client

    def subscribe(self, client: Client, topic_filter: str, qos: int = 1) -> None:
        subscription = Subscription(topic_filter=topic_filter, qos=qos)
        self.exchange.receive(client, Subscribe(packet_id=1, subscriptions=(subscription,)), self.now)

    def publish(self, payload: bytes, **options: object) -> None:
        options.setdefault("topic", "t")
        self.exchange.delivery.publish(Message(payload=payload, **{"qos": 1, **options}), self.now)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Store.open(tmp_path / "state") as store:
        yield World(store)


def test_what_a_client_that_is_away_must_get_is_on_disk_at_once(world: World) -> None:
    _, client = world.connect("one")
    world.subscribe(client, "t")
    world.exchange.detach(client, world.now)
    world.publish(b"kept")
    world.reopen()
    line, _ = world.connect("one")
    assert line.sent[0].session_present is True
    assert line.payloads == [b"kept"]


def test_what_somebody_was_acknowledged_for_is_on_disk_at_once(world: World) -> None:
    line, client = world.connect("one")
    world.subscribe(client, "t")
    message = Message(topic="t", payload=b"mine", qos=1)
    world.exchange.receive(client, Publish(message=message, packet_id=9), world.now)
    assert PubAck(packet_id=9) in line.sent
    world.reopen()
    assert world.connect("one")[0].payloads == [b"mine"]


def test_what_a_connected_client_is_slow_to_acknowledge_is_on_disk_at_once(world: World) -> None:
    _, client = world.connect("one")
    world.subscribe(client, "t")
    world.publish(b"slow")
    world.reopen()
    assert world.connect("one")[0].payloads == [b"slow"]


def test_an_acknowledged_message_is_gone_from_the_disk(world: World) -> None:
    line, client = world.connect("one")
    world.subscribe(client, "t")
    world.publish(b"1")
    world.exchange.receive(client, PubAck(packet_id=line.packet_ids[0]), world.now)
    world.reopen()
    assert world.connect("one")[0].payloads == []


def test_a_session_ends_with_its_time_across_a_restart(world: World) -> None:
    _, client = world.connect("one", session_expiry_s=60)
    world.subscribe(client, "t")
    world.reopen()  # killed while the client was connected: its time begins now
    world.now += 59
    world.exchange.tick(world.now)
    world.publish(b"1")
    world.now += 2
    world.exchange.tick(world.now)
    line, _ = world.connect("one")
    assert line.sent == [replace(line.sent[0], session_present=False)]
    assert isinstance(line.sent[0], ConnAck)


def test_a_message_expires_while_it_waits(world: World) -> None:
    _, client = world.connect("one")
    world.subscribe(client, "t")
    world.exchange.detach(client, world.now)
    world.publish(b"short", expiry_s=5)
    world.publish(b"long", expiry_s=50)
    world.now += 10
    line, _ = world.connect("one")
    assert line.payloads == [b"long"]
    assert line.sent[-1].message.expiry_s == 40


def test_a_retained_message_expires_and_is_replaced(world: World) -> None:
    world.publish(b"old", retain=True)
    world.publish(b"new", retain=True, expiry_s=5)
    world.reopen()
    line, client = world.connect("one")
    world.subscribe(client, "t")
    assert line.payloads == [b"new"]
    world.now += 6
    world.subscribe(client, "#")
    assert line.payloads == [b"new"]


def test_a_will_waits_for_its_delay_and_not_if_the_client_is_back(world: World) -> None:
    watcher, client = world.connect("watcher")
    world.subscribe(client, "gone")
    will = Will(message=Message(topic="gone", payload=b"gone", qos=1), delay_s=10)
    for returns, expected in ((True, []), (False, [b"gone"])):
        _, one = world.connect("one", will=will)
        world.exchange.detach(one, world.now)
        world.now += 5
        world.exchange.tick(world.now)
        if returns:
            world.exchange.detach(world.connect("one")[1], world.now)
        world.now += 5
        world.exchange.tick(world.now)
        assert watcher.payloads == expected


def test_a_will_survives_the_death_of_the_broker(world: World) -> None:
    """The delayed one keeps its time; that of a client that was connected counts from the restart."""
    watcher, client = world.connect("watcher", session_expiry_s=1000)
    world.subscribe(client, "gone")
    for client_id in ("delayed", "connected", "polite"):
        will = Will(message=Message(topic="gone", payload=client_id.encode(), qos=1), delay_s=10)
        _, one = world.connect(client_id, will=will)
        if client_id == "delayed":
            world.exchange.detach(one, world.now)
        elif client_id == "polite":
            world.exchange.receive(one, Disconnect(), world.now)
    world.now += 5
    world.reopen()
    world.reopen()
    watcher, _ = world.connect("watcher", session_expiry_s=1000)
    world.now += 5
    world.exchange.tick(world.now)
    assert watcher.payloads == [b"delayed"]
    world.now += 5
    world.exchange.tick(world.now)
    assert watcher.payloads == [b"delayed", b"connected"]
    world.reopen()
    world.now += 100
    world.exchange.tick(world.now)
    assert world.connect("watcher", session_expiry_s=1000)[0].payloads == [b"delayed", b"connected"]  # unacknowledged


def test_too_large_a_message_is_refused_by_its_acknowledgement(world: World) -> None:
    """A DISCONNECT would have the client connect again and send it again, for ever."""
    line, client = world.connect("one")
    message = Message(topic="t", payload=b"x" * (world.limits.payload_bytes + 1), qos=1)
    world.exchange.receive(client, Publish(message=message, packet_id=5), world.now)
    assert line.sent[-1].reason is Reason.QUOTA_EXCEEDED
    assert not line.is_closed
    with pytest.raises(ProtocolError) as caught:
        world.exchange.receive(client, Publish(message=replace(message, qos=0)), world.now)
    assert caught.value.reason is Reason.PACKET_TOO_LARGE


def test_a_farewell_drops_the_will_unless_it_asks_for_it(world: World) -> None:
    watcher, client = world.connect("watcher")
    world.subscribe(client, "gone")
    will = Will(message=Message(topic="gone", payload=b"gone", qos=1))
    for reason, expected in ((Reason.SUCCESS, []), (Reason.DISCONNECT_WITH_WILL, [b"gone"])):
        line, one = world.connect("one", will=will)
        world.exchange.receive(one, Disconnect(reason=reason), world.now)
        assert line.is_closed
        assert watcher.payloads == expected


def test_a_farewell_may_end_the_session(world: World) -> None:
    _, client = world.connect("one")
    world.exchange.receive(client, Disconnect(session_expiry_s=0), world.now)
    assert world.connect("one")[0].sent[0].session_present is False


def test_a_congested_client_gets_no_more_until_it_is_relieved(world: World) -> None:
    line, client = world.connect("one")
    world.subscribe(client, "t")
    line.is_congested = True
    world.publish(b"qos 1")
    world.publish(b"qos 0", qos=0)
    assert line.payloads == []
    line.is_congested = False
    world.exchange.delivery.pump(client, world.now)
    assert line.payloads == [b"qos 1"]


def test_a_handler_that_fails_leaves_nothing_and_is_said(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def fail(identity: Identity, topic: str, payload: bytes) -> None:
        world.store.table("x").put("key", {})
        raise RuntimeError("broken")

    world.exchange.reserve("$aws/things/+/x", fail)
    line, client = world.connect("one")
    message = Message(topic="$aws/things/one/x", qos=1)
    world.exchange.receive(client, Publish(message=message, packet_id=5), world.now)
    assert line.sent[-1].reason is Reason.UNSPECIFIED_ERROR
    assert world.store.table("x").get("key") is None
    assert "failed to answer" in caplog.text


def test_a_policy_may_forbid_to_receive(tmp_path: Path) -> None:
    with Store.open(tmp_path / "other") as store:
        exchange = Exchange(
            Memory(store), lambda identity, action, topic: action != "iot:Receive", limits=Limits(), now=0.0
        )
        line = Line()
        client = exchange.connect(line, Connect(client_id="one"), IDENTITY, 0.0)
        exchange.receive(client, Subscribe(packet_id=1, subscriptions=(Subscription(topic_filter="t", qos=1),)), 0.0)
        exchange.delivery.publish(Message(topic="t", qos=1), 0.0)
        assert line.payloads == []


ACTS = st.lists(
    st.sampled_from(["publish", "acknowledge", "acknowledge", "lose", "kill", "tick"]), min_size=1, max_size=40
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(acts=ACTS, window=st.integers(1, 4))
def test_every_message_arrives_at_least_once_and_first_arrivals_are_in_order(
    world: World, acts: list[str], window: int
) -> None:
    """MQTT 5.0, 4.6: whatever connections are lost and brokers killed."""
    world.reopen()
    world.exchange.receive(world.connect("one", clean_start=True)[1], Disconnect(session_expiry_s=0), world.now)
    arrived: list[bytes] = []
    published: list[bytes] = []
    line, client = world.connect("one", receive_maximum=window, session_expiry_s=10_000)
    world.subscribe(client, "t")
    taken = 0

    def acknowledge() -> bool:
        nonlocal taken
        packets = [each for each in line.sent if isinstance(each, Publish)][taken:]
        assert len(packets) <= window
        if not packets:
            return False
        arrived.append(packets[0].message.payload)
        taken += 1
        world.exchange.receive(client, PubAck(packet_id=packets[0].packet_id), world.now)
        return True

    for act in [*acts, "lose"]:
        if act == "publish":
            published.append(b"%d" % len(published))
            world.publish(published[-1])
        elif act == "acknowledge":
            acknowledge()
        elif act == "tick":
            world.now += 2
            world.exchange.tick(world.now)
        else:
            if act == "kill":
                world.reopen()
            else:
                world.exchange.detach(client, world.now)
            line, client = world.connect("one", receive_maximum=window, session_expiry_s=10_000)
            taken = 0
    while acknowledge():
        pass
    assert list(dict.fromkeys(arrived)) == published


@given(st.integers(0, 70_000))
def test_packet_ids_go_round_and_never_collide(count: int) -> None:
    session = Session("one", IDENTITY, limit=10)
    session.resume(3)
    session._last_packet_id = count % 0xFFFF
    ids = set()
    for _ in range(3):
        session.offer(Outgoing(Message(topic="t")))
        item = session.next(0.0)
        assert item is not None
        ids.add(item[0])
    assert len(ids) == 3
    assert all(each is not None and 1 <= each <= 0xFFFF for each in ids)

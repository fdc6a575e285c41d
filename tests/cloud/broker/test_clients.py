"""The broker and the unmodified awscrt MQTT 5 client, over mutual TLS."""

import asyncio
from typing import Any

import pytest
from awscrt import mqtt5

from monodon.cloud.broker.identity import Identity
from monodon.cloud.broker.server import Broker

pytestmark = pytest.mark.slow  # real sockets, real clients


@pytest.mark.usefixtures("broker")
class TestMessages:
    async def test_qos_1_goes_both_ways_with_all_its_properties(self, world: Any) -> None:
        async with world.connected("one") as one, world.connected("two") as two:
            assert await two.subscribe("fleet/+/seen", subscription_identifier=7) == [1]
            answer = await one.publish(
                "fleet/one/seen",
                b"whale",
                user_properties=[mqtt5.UserProperty("k", "v")],
                response_topic="answers",
                correlation_data_bytes=b"\x01",
                content_type="text/plain",
                message_expiry_interval_sec=60,
                payload_format_indicator=mqtt5.PayloadFormatIndicator.AWS_MQTT5_PFI_UTF8,
            )
            assert answer == 0
            message = await two.receive()
        assert (message.topic, message.payload, int(message.qos)) == ("fleet/one/seen", b"whale", 1)
        assert [(each.name, each.value) for each in message.user_properties] == [("k", "v")]
        assert (message.response_topic, message.correlation_data_bytes) == ("answers", b"\x01")
        assert (message.content_type, message.message_expiry_interval_sec) == ("text/plain", 60)
        assert message.payload_format_indicator == 1
        assert message.subscription_identifiers == [7]

    async def test_the_connack_says_what_is_offered(self, world: Any) -> None:
        device = world.client("one", session_expiry_s=0xFFFF_FFFF, keep_alive_s=0)
        connack = await device.start()
        await device.stop()
        assert connack.maximum_qos == 1
        assert connack.receive_maximum == 100
        assert connack.session_expiry_interval_sec == 7 * 24 * 3600
        assert connack.server_keep_alive_sec == 1200
        assert connack.shared_subscription_available is False

    async def test_a_retained_message_waits_for_its_subscriber(self, world: Any) -> None:
        async with world.connected("one") as one:
            assert await one.publish("state/one", b"on", retain=True) == 16
            assert await one.publish("state/two", b"off", retain=True) == 16
            assert await one.publish("state/two", b"", retain=True) == 16
            async with world.connected("two") as two:
                await two.subscribe("state/#")
                message = await two.receive()
                assert (message.topic, message.payload, message.retain) == ("state/one", b"on", True)
                await one.publish("state/two", b"last")
                assert (await two.receive()).payload == b"last"

    async def test_a_leading_wildcard_does_not_see_dollar_topics(self, world: Any) -> None:
        async with world.connected("one") as one:
            await one.subscribe("#")
            await one.publish("$aws/private", b"1")
            await one.publish("public", b"2")
            assert (await one.receive()).payload == b"2"
            await one.subscribe("$aws/#")
            await one.publish("$aws/private", b"3")
            assert (await one.receive()).payload == b"3"

    async def test_messages_keep_their_order_and_none_is_lost(self, world: Any) -> None:
        async with world.connected("one") as one, world.connected("two") as two:
            await two.subscribe("counted")
            await asyncio.gather(*(one.publish("counted", b"%d" % number) for number in range(500)))
            assert [int((await two.receive()).payload) for _ in range(500)] == list(range(500))

    async def test_unsubscribing_ends_it(self, world: Any) -> None:
        async with world.connected("one") as one:
            await one.subscribe("a", "b")
            assert await one.unsubscribe("a", "never") == [0, 17]
            await one.publish("a", b"no")
            await one.publish("b", b"yes")
            assert (await one.receive()).payload == b"yes"

    async def test_the_cloud_publishes_too(self, world: Any, broker: Broker) -> None:
        async with world.connected("one") as one:
            await one.subscribe("news")
            broker.publish("news", b"hello", content_type="text/plain")
            message = await one.receive()
        assert (message.payload, message.content_type) == (b"hello", "text/plain")

    async def test_reserved_topics_are_answered_in_order_and_not_passed_on(self, world: Any, broker: Broker) -> None:
        seen: list[bytes] = []

        def answer(identity: Identity, topic: str, payload: bytes) -> None:
            seen.append(payload)
            broker.publish(f"{topic}/accepted", payload)

        broker.reserve("$aws/things/+/ask", answer)
        async with world.connected("one") as one:
            await one.subscribe("$aws/things/one/ask", "$aws/things/one/ask/accepted", "after")
            await asyncio.gather(
                *(one.publish("$aws/things/one/ask", b"%d" % number) for number in range(5)),
                one.publish("after", b"end"),
            )
            received = [await one.receive() for _ in range(6)]
            assert seen == [b"0", b"1", b"2", b"3", b"4"]
            answers = [each.payload for each in received if each.topic.endswith("accepted")]
            assert answers == seen
            assert {each.topic for each in received} == {"$aws/things/one/ask/accepted", "after"}


@pytest.mark.usefixtures("broker")
class TestSessions:
    async def test_messages_are_kept_while_a_client_is_away(self, world: Any) -> None:
        async with world.connected("one") as one:
            away = world.client("two", session_expiry_s=300)
            assert (await away.start()).session_present is False
            await away.subscribe("mail/+")
            await away.stop()
            for number in range(150):  # more than its window
                await one.publish("mail/two", b"%d" % number)
            back = world.client("two", session_expiry_s=300)
            assert (await back.start()).session_present is True
            assert [int((await back.receive()).payload) for _ in range(150)] == list(range(150))
            await back.stop()

    async def test_a_clean_start_forgets_the_session(self, world: Any) -> None:
        async with world.connected("two", session_expiry_s=300) as two:
            await two.subscribe("mail")
        fresh = world.client("two", session_expiry_s=300, session_behavior=mqtt5.ClientSessionBehaviorType.CLEAN)
        assert (await fresh.start()).session_present is False
        await fresh.publish("mail", b"nobody")
        assert fresh.messages.empty()
        await fresh.stop()

    async def test_a_second_client_with_the_same_id_takes_over(self, world: Any) -> None:
        patient = {"min_reconnect_delay_ms": 60_000, "max_reconnect_delay_ms": 60_000}
        async with world.connected("one", "same", **patient) as old, world.connected("one", "same") as new:
            packet = await old.until("disconnected")
            assert packet.reason_code == mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER
            await new.subscribe("a")
            await new.publish("a", b"1")
            assert (await new.receive()).payload == b"1"

    async def test_a_will_speaks_for_a_client_that_does_not_say_good_bye(self, world: Any) -> None:
        async with world.connected("watcher") as watcher:
            await watcher.subscribe("gone/+")
            will = mqtt5.PublishPacket(topic="gone/one", payload=b"politely", qos=mqtt5.QoS.AT_LEAST_ONCE)
            async with world.connected("one", will=will):
                pass
            will = mqtt5.PublishPacket(topic="gone/two", payload=b"suddenly", qos=mqtt5.QoS.AT_LEAST_ONCE)
            two = world.client("two", will=will)
            await two.start()
            with_will = mqtt5.DisconnectReasonCode.DISCONNECT_WITH_WILL_MESSAGE
            await two.stop(mqtt5.DisconnectPacket(reason_code=with_will))
            assert (await watcher.receive()).payload == b"suddenly"


async def test_a_restart_of_the_broker_loses_nothing(world: Any) -> None:
    async with world.broker(), world.connected("one") as one:
        away = world.client("two", session_expiry_s=300)
        await away.start()
        await away.subscribe("mail")
        await away.stop()
        await one.publish("mail", b"kept")
        await one.publish("state", b"on", retain=True)
    stays = world.client("three", session_expiry_s=300)
    async with world.broker():
        await stays.start()
        await stays.subscribe("for/three")
    await stays.until("disconnected")
    async with world.broker():
        connack = await stays.until("connected")
        assert connack.session_present is True
        back = world.client("two", session_expiry_s=300)
        assert (await back.start()).session_present is True
        assert (await back.receive()).payload == b"kept"
        await back.publish("for/three", b"found")
        assert (await stays.receive()).payload == b"found"
        await back.subscribe("state")
        assert (await back.receive()).payload == b"on"
        await back.stop()
        await stays.stop()


class TestPolicies:
    async def test_what_no_policy_allows_is_refused_one_by_one(self, make_world: Any) -> None:
        def authorise(identity: Identity, action: str, resource: str) -> bool:
            return "secret" not in resource and not (action == "iot:Receive" and resource == "deaf")

        world = make_world(authorise=authorise)
        async with world.broker(), world.connected("one") as one:
            assert await one.subscribe("open", "secret/#", "deaf") == [1, 0x87, 1]
            assert await one.publish("secret/1") == 0x87
            await one.publish("deaf", b"1")
            await one.publish("open", b"2")
            assert (await one.receive()).payload == b"2"
            assert await one.publish("a/b/c/d/e/f/g/h/i") == 0x90
            assert await one.subscribe("$share/g/open") == [0x9E]
            assert await one.subscribe("a/b/c/d/e/f/g/h/i") == [0x8F]

    async def test_a_client_that_may_not_connect_is_told(self, make_world: Any) -> None:
        world = make_world(authorise=lambda identity, action, resource: action != "iot:Connect")
        async with world.broker():
            device = world.client("one")
            device.begin()
            failure = await device.until("failed")
            assert failure.connack_packet.reason_code == mqtt5.ConnectReasonCode.NOT_AUTHORIZED
            await device.stop()

    async def test_a_certificate_that_was_revoked_loses_its_connections(self, world: Any) -> None:
        async with world.broker() as broker, world.connected("one") as one, world.connected("two") as two:
            certificate_id = next(key for key, thing in world.things.items() if thing == "one")
            del world.things[certificate_id]
            broker.disconnect_certificate(certificate_id)
            assert (await one.until("disconnected")).reason_code == mqtt5.DisconnectReasonCode.NOT_AUTHORIZED
            assert await two.publish("still/there") == 16

    async def test_a_certificate_that_is_not_active_may_not_connect(self, world: Any) -> None:
        async with world.broker():
            device = world.client("one")
            world.things.clear()
            device.begin()
            failure = await device.until("failed")
            assert failure.connack_packet.reason_code == mqtt5.ConnectReasonCode.NOT_AUTHORIZED
            await device.stop()

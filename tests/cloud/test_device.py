"""A device as AWS's SDK makes one: MQTT 5 with its certificate, jobs, health; boto3 looks on."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from awscrt import mqtt5
from awsiot import mqtt5_client_builder

ACCOUNT = "123456789012"
NAMESPACE = "namespace-aws-gg-deployment"
#: What provisioning writes for a core device, as narrow as AWS documents it.
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "iot:Connect",
                "Resource": f"arn:aws:iot:us-east-1:{ACCOUNT}:client/${{iot:Connection.Thing.ThingName}}*",
            },
            {
                "Effect": "Allow",
                "Action": ["iot:Publish", "iot:Receive"],
                "Resource": f"arn:aws:iot:us-east-1:{ACCOUNT}:topic/$aws/things/${{iot:Connection.Thing.ThingName}}/*",
            },
            {
                "Effect": "Allow",
                "Action": "iot:Subscribe",
                "Resource": f"arn:aws:iot:us-east-1:{ACCOUNT}:topicfilter/$aws/things/"
                "${iot:Connection.Thing.ThingName}/*",
            },
        ],
    }
)


class Device:
    """awscrt's client on asyncio, just enough."""

    def __init__(
        self, client: mqtt5.Client, messages: "asyncio.Queue[tuple[str, Any]]", endings: "asyncio.Queue[int]"
    ) -> None:
        self.client = client
        self._messages = messages
        self._endings = endings

    async def subscribe(self, topic_filter: str) -> int:
        packet = mqtt5.SubscribePacket([mqtt5.Subscription(topic_filter, mqtt5.QoS.AT_LEAST_ONCE)])
        acknowledged = await asyncio.wait_for(asyncio.wrap_future(self.client.subscribe(packet)), 10)
        return int(acknowledged.reason_codes[0])

    async def publish(self, topic: str, body: Any) -> int:
        packet = mqtt5.PublishPacket(topic=topic, payload=json.dumps(body), qos=mqtt5.QoS.AT_LEAST_ONCE)
        done = await asyncio.wait_for(asyncio.wrap_future(self.client.publish(packet)), 10)
        return int(done.puback.reason_code)

    async def next(self) -> tuple[str, Any]:
        return await asyncio.wait_for(self._messages.get(), 10)

    async def disconnected(self) -> int:
        """The reason that the cloud gave."""
        return await asyncio.wait_for(self._endings.get(), 10)


@asynccontextmanager
async def connected(cloud: Any, thing: str, certificate: Path, key: Path) -> AsyncIterator[Device]:
    loop = asyncio.get_running_loop()
    messages: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    endings: asyncio.Queue[int] = asyncio.Queue()
    up, stopped = asyncio.Event(), asyncio.Event()

    def received(data: Any) -> None:
        packet = data.publish_packet
        loop.call_soon_threadsafe(messages.put_nowait, (packet.topic, json.loads(packet.payload)))

    def ended(data: Any) -> None:
        packet = data.disconnect_packet
        loop.call_soon_threadsafe(endings.put_nowait, -1 if packet is None else int(packet.reason_code))

    client = mqtt5_client_builder.mtls_from_path(
        str(certificate),
        str(key),
        endpoint="localhost",
        port=cloud.ready.mqtt_port,
        ca_filepath=cloud.ready.ca_file,
        client_id=thing,
        on_publish_received=received,
        on_lifecycle_connection_success=lambda data: loop.call_soon_threadsafe(up.set),
        on_lifecycle_disconnection=ended,
        on_lifecycle_stopped=lambda data: loop.call_soon_threadsafe(stopped.set),
    )
    client.start()
    try:
        await asyncio.wait_for(up.wait(), 10)
        yield Device(client, messages, endings)
    finally:
        client.stop()
        await asyncio.wait_for(stopped.wait(), 10)


def provision(cloud: Any, certificate: Path, key: Path) -> str:
    """Add drone-1 to the group drones; return the id of its certificate."""
    cloud.add_drone("drone-1", "drones")
    made = cloud.iot.create_keys_and_certificate(setAsActive=True)
    cloud.iot.attach_thing_principal(thingName="drone-1", principal=made["certificateArn"])
    cloud.iot.create_policy(policyName="p", policyDocument=POLICY)
    cloud.iot.attach_policy(policyName="p", target=made["certificateArn"])
    certificate.write_text(made["certificatePem"])
    key.write_text(made["keyPair"]["PrivateKey"])
    return str(made["certificateId"])


async def test_a_certificate_that_is_deactivated_loses_its_connection(tmp_path: Path, run_cloud: Any) -> None:
    certificate, key = tmp_path / "device.pem", tmp_path / "device.key"
    async with run_cloud(tmp_path / "state") as cloud:
        certificate_id = await cloud.off_loop(lambda: provision(cloud, certificate, key))
        async with connected(cloud, "drone-1", certificate, key) as device:
            await cloud.off_loop(
                lambda: cloud.iot.update_certificate(certificateId=certificate_id, newStatus="INACTIVE")
            )
            assert await device.disconnected() == mqtt5.DisconnectReasonCode.NOT_AUTHORIZED


@pytest.mark.slow
async def test_a_deployment_reaches_a_real_client_and_its_end_is_seen(tmp_path: Path, run_cloud: Any) -> None:
    certificate, key = tmp_path / "device.pem", tmp_path / "device.key"
    group = f"arn:aws:iot:us-east-1:{ACCOUNT}:thinggroup/drones"

    async with run_cloud(tmp_path / "state") as cloud:
        await cloud.off_loop(lambda: provision(cloud, certificate, key))
        async with connected(cloud, "drone-1", certificate, key) as device:
            jobs = "$aws/things/drone-1/jobs"
            assert await device.subscribe(f"{jobs}/#") == 1
            assert await device.subscribe("$aws/things/drone-2/jobs/#") == 0x87
            assert await device.publish("elsewhere", {}) == 0x87
            created = await cloud.off_loop(lambda: cloud.greengrassv2.create_deployment(targetArn=group))
            topics = {(await device.next())[0] for _ in range(2)}
            assert topics == {f"{jobs}/notify-{NAMESPACE}", f"{jobs}/notify-next-{NAMESPACE}"}
            await device.publish(f"{jobs}/$next/{NAMESPACE}/get", {"jobId": "$next", "includeJobDocument": True})
            topic, answer = await device.next()
            assert topic == f"{jobs}/$next/{NAMESPACE}/get/accepted"
            assert answer["execution"]["jobDocument"]["deploymentId"] == created["deploymentId"]
            update = f"{jobs}/{created['iotJobId']}/{NAMESPACE}/update"
            for status in ("IN_PROGRESS", "SUCCEEDED"):
                await device.publish(update, {"status": status, "statusDetails": {}})
                topic, answer = await device.next()
                assert topic == f"{update}/accepted"
            health = {
                "ggcVersion": "2.18.0",
                "platform": "linux",
                "architecture": "amd64",
                "thing": "drone-1",
                "overallDeviceStatus": "HEALTHY",
                "sequenceNumber": 1,
                "timestamp": 1,
                "messageType": "COMPLETE",
                "trigger": "NUCLEUS_LAUNCH",
                "components": [],
            }
            assert await device.publish("$aws/things/drone-1/greengrassv2/health/json", health) in {0, 0x10}

        def look() -> None:
            devices = cloud.greengrassv2.list_core_devices(thingGroupArn=group)["coreDevices"]
            assert [each["coreDeviceThingName"] for each in devices] == ["drone-1"]
            found = cloud.greengrassv2.list_effective_deployments(coreDeviceThingName="drone-1")["effectiveDeployments"]
            assert [each["coreDeviceExecutionStatus"] for each in found] == ["SUCCEEDED"]

        await cloud.off_loop(look)

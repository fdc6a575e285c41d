"""Jobs and shadows with the unmodified awscrt client, over the broker, as a nucleus uses them."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from monodon.cloud.broker.server import Broker
from monodon.cloud.iot_data import SHADOW_TOPICS, IotData
from monodon.cloud.jobs import Jobs

pytestmark = pytest.mark.slow  # real sockets, real clients

GROUP = "arn:aws:iot:eu-west-1:123456789012:thinggroup/drones"
JOBS = "$aws/things/drone-1/jobs"
NAMESPACE = "namespace-aws-gg-deployment"


@pytest.fixture
def jobs(broker: Broker) -> Jobs:
    jobs = Jobs(
        store=broker._store,
        broker_publish=broker.publish,
        group_members=lambda arn: {"drone-1"},
        now=lambda: 1_000.0,
        region="eu-west-1",
        account="123456789012",
    )
    broker.reserve("$aws/things/+/jobs/#", jobs.handle)
    return jobs


@pytest.fixture
def data(broker: Broker) -> IotData:
    data = IotData(store=broker._store, broker=broker, now=lambda: 1_000.0)
    broker.reserve(SHADOW_TOPICS, data.handle)
    return data


@pytest.fixture
async def device(world: Any, broker: Broker) -> AsyncIterator[Any]:
    async with world.connected("drone-1", session_expiry_s=300) as device:
        yield device


async def receive(device: Any) -> tuple[str, Any]:
    message = await device.receive()
    return message.topic, json.loads(message.payload)


async def test_a_job_goes_to_a_device_and_its_end_comes_back(device: Any, jobs: Jobs) -> None:
    answers = f"{JOBS}/+/{NAMESPACE}"
    await device.subscribe(
        f"{JOBS}/notify-{NAMESPACE}",
        f"{answers}/get/accepted",
        f"{answers}/update/accepted",
        f"{answers}/update/rejected",
    )
    jobs.create("job-1", [GROUP], {"deploymentId": "d"}, namespace="aws-gg-deployment", continuous=True)
    topic, body = await receive(device)
    assert (topic, [each["jobId"] for each in body["jobs"]["QUEUED"]]) == (f"{JOBS}/notify-{NAMESPACE}", ["job-1"])
    await device.publish(f"{JOBS}/$next/{NAMESPACE}/get", json.dumps({"jobId": "$next"}).encode())
    topic, body = await receive(device)
    assert topic == f"{JOBS}/$next/{NAMESPACE}/get/accepted"
    assert body["execution"]["jobDocument"] == {"deploymentId": "d"}
    for status in ("IN_PROGRESS", "SUCCEEDED"):
        await device.publish(f"{JOBS}/job-1/{NAMESPACE}/update", json.dumps({"status": status}).encode())
        assert (await receive(device))[0] == f"{JOBS}/job-1/{NAMESPACE}/update/accepted"
    assert await receive(device) == (f"{JOBS}/notify-{NAMESPACE}", {"timestamp": 1000, "jobs": {}})
    assert [each.status.value for each in jobs.executions("job-1")] == ["SUCCEEDED"]
    await device.publish(f"{JOBS}/job-1/{NAMESPACE}/update", json.dumps({"status": "FAILED"}).encode())
    topic, body = await receive(device)
    assert (topic.rsplit("/", 1)[1], body["code"]) == ("rejected", "InvalidStateTransition")


async def test_a_job_waits_for_a_device_that_is_away(world: Any, device: Any, jobs: Jobs) -> None:
    await device.subscribe(f"{JOBS}/notify-{NAMESPACE}")
    await device.stop()
    jobs.create("job-1", [GROUP], {}, namespace="aws-gg-deployment")
    back = world.client("drone-1", session_expiry_s=300)
    assert (await back.start()).session_present is True
    assert "QUEUED" in (await receive(back))[1]["jobs"]
    await back.stop()


async def test_the_deployment_shadow_goes_both_ways(device: Any, data: IotData) -> None:
    shadow = "$aws/things/drone-1/shadow/name/AWSManagedGreengrassV2Deployment"
    await device.subscribe(f"{shadow}/update/accepted", f"{shadow}/update/rejected", f"{shadow}/get/accepted")
    data.update_shadow(
        "drone-1", "AWSManagedGreengrassV2Deployment", desired={"fleetConfig": "{}", "desiredStatus": "X"}
    )
    topic, body = await receive(device)
    assert (topic, body["state"]["desired"]["fleetConfig"], body["version"]) == (f"{shadow}/update/accepted", "{}", 1)
    await device.publish(f"{shadow}/get")
    topic, body = await receive(device)
    assert (topic, body["state"]["delta"]["desiredStatus"]) == (f"{shadow}/get/accepted", "X")
    for version, answer in ((1, "accepted"), (1, "rejected")):
        report = {"state": {"reported": {"status": "SUCCEEDED"}}, "version": version}
        await device.publish(f"{shadow}/update", json.dumps(report).encode())
        topic, body = await receive(device)
        assert topic == f"{shadow}/update/{answer}"
    assert body["code"] == 409


async def test_a_hundred_requests_at_once_are_each_answered(device: Any, data: IotData) -> None:
    shadow = "$aws/things/drone-1/shadow"
    await device.subscribe(f"{shadow}/update/accepted")
    payloads = (json.dumps({"state": {"reported": {"n": number}}}).encode() for number in range(100))
    await asyncio.gather(*(device.publish(f"{shadow}/update", payload) for payload in payloads))
    versions = [(await receive(device))[1]["version"] for _ in range(100)]
    assert versions == list(range(1, 101))

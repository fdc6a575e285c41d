"""The uplink against the embedded cloud's broker: jobs, the deployment shadow, messages, and lost connections."""

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.nucleus.connect_proxy import proxying

from monodon.cloud.broker.identity import SUBSCRIBE
from monodon.cloud.broker.identity import Identity as Client
from monodon.cloud.broker.server import Broker
from monodon.cloud.certificates import MQTT_PROTOCOLS, CertificateAuthority
from monodon.cloud.iot_data import SHADOW_TOPICS, IotData
from monodon.cloud.jobs import Jobs
from monodon.cloud.store import Store
from monodon.core.deployment import SUCCEEDED, DetailedStatus, failure
from monodon.core.json import Json
from monodon.core.status import Trigger
from monodon.errors import ConfigurationError, DeploymentError, NetworkError
from monodon.nucleus.identity import CloudIdentity, Identity, MqttSettings
from monodon.nucleus.proxy import Proxy
from monodon.nucleus.uplink.deployment_shadow import ShadowChannel
from monodon.nucleus.uplink.mqtt import MqttUplink
from monodon.nucleus.uplink.protocol import (
    Arrival,
    Channel,
    DeploymentArrived,
    DeploymentCanceled,
    IotMessage,
    Uplink,
)

THING = "drone-1"
JOBS = f"$aws/things/{THING}/jobs/"
NAMESPACE = "namespace-aws-gg-deployment"
SHADOW = f"$aws/things/{THING}/shadow/name/AWSManagedGreengrassV2Deployment/"
DEADLINE_S = 15.0

pytestmark = pytest.mark.slow


class MemoryRecords:
    """A journal in memory, which the tests carry over a restart of the uplink."""

    def __init__(self) -> None:
        self.records: dict[str, Json] = {}

    def get(self, key: str) -> Json | None:
        return self.records.get(key)

    def items(self, prefix: str) -> Mapping[str, Json]:
        return {key: value for key, value in self.records.items() if key.startswith(prefix)}

    def write(self, changes: Mapping[str, Json | None]) -> None:
        for key, value in changes.items():
            if value is None:
                self.records.pop(key, None)
            else:
                self.records[key] = json.loads(json.dumps(value))


class Cloud:
    """A broker, and the answers of a cloud's jobs and deployment shadow, scripted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "pki"
        self.state = folder / "state"
        folder = self.folder
        folder.mkdir()
        self.authority = CertificateAuthority.open(folder)
        device = self.authority.issue(THING)
        (folder / "device.crt").write_text(device.certificate_pem)
        (folder / "device.key").write_text(device.private_key_pem)
        self.port = 0
        self.heard: list[tuple[str, Json]] = []
        self.hearing = asyncio.Condition()
        self.execution: Json = None
        self.refusals: list[dict[str, Json]] = []
        self.is_mute = False
        self.shadow: dict[str, Json] | None = None
        self.version = 0
        self.denied: set[str] = set()

    @asynccontextmanager
    async def running(self, *, scripted: bool = True) -> AsyncIterator[Broker]:
        context = self.authority.server_context(client_certificate=ssl.CERT_REQUIRED, protocols=MQTT_PROTOCOLS)
        store = Store.open(self.state)
        try:
            self.broker = broker = Broker(
                store=store,
                authenticate=lambda der: Client(certificate_id="c", thing_names=(THING,)),
                authorise=lambda client, action, resource: not (action == SUBSCRIBE and resource in self.denied),
            )
            if scripted:
                broker.reserve(f"{JOBS}#", self._job)
                broker.reserve(f"{SHADOW}#", self._shadow)
            broker.reserve(f"$aws/things/{THING}/greengrassv2/health/json", self._note)
            async with broker.listen("127.0.0.1", self.port, context) as port:
                self.port = port
                yield broker
        finally:
            store.close()

    def identity(self) -> Identity:
        return Identity(
            thing=THING,
            version="2.18.0",
            cloud=CloudIdentity(
                region="eu-west-1",
                certificate=self.folder / "device.crt",
                private_key=self.folder / "device.key",
                root_ca=self.authority.ca_file,
                data_endpoint="localhost",
                data_plane_host="localhost",
                data_plane_port=1,
                mqtt=MqttSettings(port=self.port),
            ),
        )

    def say(self, topic: str, body: Json) -> None:
        self.broker.publish(topic, json.dumps(body).encode())

    def notify(self, **jobs: Json) -> None:
        self.say(f"{JOBS}notify-{NAMESPACE}", {"timestamp": 1, "jobs": jobs})

    def _note(self, client: Client, topic: str, payload: bytes) -> Json:
        body = json.loads(payload)
        self.heard.append((topic, body))
        self.news = asyncio.get_running_loop().create_task(self._announce())
        return body

    async def _announce(self) -> None:
        async with self.hearing:
            self.hearing.notify_all()

    def _job(self, client: Client, topic: str, payload: bytes) -> None:
        body = self._note(client, topic, payload)
        token = {"clientToken": body["clientToken"]}
        if self.is_mute:
            return
        if topic == f"{JOBS}$next/{NAMESPACE}/get":
            execution = {} if self.execution is None else {"execution": self.execution}
            self.say(f"{topic}/accepted", {"timestamp": 1, **token, **execution})
        elif self.refusals:
            self.say(f"{topic}/rejected", {**self.refusals.pop(0), **token})
        else:
            self.execution = self.execution if body["status"] == "IN_PROGRESS" else None
            self.say(f"{topic}/accepted", {"timestamp": 1, **token})

    def _shadow(self, client: Client, topic: str, payload: bytes) -> None:
        body = self._note(client, topic, payload)
        token = {"clientToken": body["clientToken"]}
        if topic == f"{SHADOW}get":
            if self.shadow is None:
                self.say(f"{topic}/rejected", {"code": 404, "message": "no shadow", **token})
            else:
                self.say(f"{topic}/accepted", {"state": self.shadow, "version": self.version, **token})
        elif self.refusals:
            self.say(f"{topic}/rejected", {**self.refusals.pop(0), **token})
        elif body.get("version", self.version) != self.version:
            self.say(f"{topic}/rejected", {"code": 409, "message": "Version conflict", **token})
        else:
            self.version += 1
            self.shadow = {**(self.shadow or {}), **body["state"]}
            self.say(f"{topic}/accepted", {"state": body["state"], "version": self.version, **token})

    async def until(self, condition: Callable[[], Any]) -> Any:
        async with asyncio.timeout(DEADLINE_S), self.hearing:
            return await self.hearing.wait_for(condition)

    def updates(self, suffix: str) -> list[Json]:
        return [body for topic, body in self.heard if topic.endswith(suffix)]


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path)


@pytest.fixture
def records() -> MemoryRecords:
    return MemoryRecords()


@asynccontextmanager
async def connected(cloud: Cloud, records: MemoryRecords) -> AsyncIterator[MqttUplink]:
    identity = cloud.identity()
    assert identity.cloud is not None
    async with MqttUplink(identity=identity, cloud=identity.cloud, records=records, environment={}) as uplink:
        uplink.connect()
        await until_connected(uplink)
        yield uplink


async def until_connected(uplink: MqttUplink, expected: bool = True) -> None:
    changed = asyncio.Event()
    unwatch = uplink.watch_connection(lambda is_connected: changed.set() if is_connected is expected else None)
    if uplink.is_connected is not expected:
        async with asyncio.timeout(DEADLINE_S):
            await changed.wait()
    unwatch()


async def arrival(uplink: MqttUplink) -> Arrival:
    async with asyncio.timeout(DEADLINE_S):
        return await anext(aiter(uplink.deployments()))


async def asked_for_jobs(cloud: Cloud, times: int = 1) -> None:
    await cloud.until(lambda: len(cloud.updates(f"$next/{NAMESPACE}/get")) >= times)


def document(number: int = 1, kind: str = "thinggroup/g") -> dict[str, Json]:
    return {
        "deploymentId": f"d-{number}",
        "configurationArn": f"arn:aws:greengrass:eu-west-1:1:configuration:{kind}:{number}",
        "creationTimestamp": 1.6e12 + number,
        "components": {"a": {"version": f"{number}.0.0"}},
    }


def execution(number: int = 1, **changes: Json) -> dict[str, Json]:
    return {
        "jobId": f"job-{number}",
        "thingName": THING,
        "status": "QUEUED",
        "queuedAt": 100 + number,
        "jobDocument": document(number),
        **changes,
    }


class Got:
    """Messages as they are delivered, and waiting for them."""

    def __init__(self) -> None:
        self.messages: list[IotMessage] = []
        self.changed = asyncio.Event()

    def __call__(self, message: IotMessage) -> None:
        self.messages.append(message)
        self.changed.set()

    async def until(self, count: int) -> list[IotMessage]:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.messages) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.messages


# --- jobs ------------------------------------------------------------------------------------------------------------


async def test_a_job_that_waits_comes_at_the_connect_and_its_end_is_told(cloud: Cloud, records: MemoryRecords) -> None:
    cloud.execution = execution()
    async with cloud.running(), connected(cloud, records) as uplink:
        whole: Uplink = uplink
        arrived = await arrival(uplink)
        assert isinstance(arrived, DeploymentArrived)
        assert (arrived.job_id, arrived.channel) == ("job-1", Channel.JOB)
        assert (arrived.deployment.deployment_id, arrived.deployment.target) == ("d-1", "thinggroup/g")
        assert whole.is_configured
        await uplink.report(arrived, "IN_PROGRESS", None)
        await cloud.until(lambda: cloud.updates(f"job-1/{NAMESPACE}/update"))
        await uplink.report(arrived, "SUCCEEDED", SUCCEEDED)
        await cloud.until(lambda: len(cloud.updates(f"job-1/{NAMESPACE}/update")) == 2)
        first, last = cloud.updates(f"job-1/{NAMESPACE}/update")
        assert (first["status"], last["status"]) == ("IN_PROGRESS", "SUCCEEDED")
        assert last["statusDetails"] == {"detailed-deployment-status": "SUCCESSFUL"}
    assert records.items("uplink/pending/") == {}


async def test_a_notification_with_queued_jobs_makes_the_device_ask(cloud: Cloud, records: MemoryRecords) -> None:
    async with cloud.running(), connected(cloud, records) as uplink:
        await asked_for_jobs(cloud)
        cloud.execution = execution()
        cloud.notify(IN_PROGRESS=[{"jobId": "job-0"}])
        cloud.notify(QUEUED=[{"jobId": "job-1"}])
        arrived = await arrival(uplink)
        assert isinstance(arrived, DeploymentArrived)
        assert len(cloud.updates("get")) == 3  # one at the connect, one now, and the shadow's


async def test_what_is_known_already_does_not_come_twice(cloud: Cloud, records: MemoryRecords) -> None:
    """``Dropped: an execution whose queuedAt is older than the last, or the same queuedAt and known job id.``"""
    async with cloud.running(), connected(cloud, records) as uplink:
        await asked_for_jobs(cloud)
        for wanted in (execution(2), execution(2), execution(1), execution(1, queuedAt=102), execution(3)):
            times = len(cloud.updates(f"$next/{NAMESPACE}/get"))
            cloud.execution = wanted
            cloud.notify(QUEUED=[{"jobId": "x"}])
            await asked_for_jobs(cloud, times + 1)
        jobs = [await arrival(uplink) for _ in range(3)]
        assert [job.job_id for job in jobs if isinstance(job, DeploymentArrived)] == ["job-2", "job-1", "job-3"]


async def test_an_empty_notification_while_it_works_cancels(cloud: Cloud, records: MemoryRecords) -> None:
    cloud.execution = execution()
    async with cloud.running(), connected(cloud, records) as uplink:
        arrived = await arrival(uplink)
        assert isinstance(arrived, DeploymentArrived)
        cloud.notify()
        assert await arrival(uplink) == DeploymentCanceled(channel=Channel.JOB, deployment_ids=("d-1",))
        await uplink.report(arrived, "SUCCEEDED", SUCCEEDED)
        await cloud.until(lambda: cloud.updates(f"job-1/{NAMESPACE}/update"))
        cloud.notify()  # nothing is under way any more
        cloud.execution = execution(2)
        cloud.notify(QUEUED=[{"jobId": "job-2"}])
        assert isinstance(await arrival(uplink), DeploymentArrived)


async def test_a_document_that_cannot_be_read_fails_its_job(cloud: Cloud, records: MemoryRecords) -> None:
    cloud.execution = execution(jobDocument={**document(), "components": {"a": {"version": "one"}}})
    async with cloud.running(), connected(cloud, records):
        await cloud.until(lambda: cloud.updates(f"job-1/{NAMESPACE}/update"))
        (update,) = cloud.updates(f"job-1/{NAMESPACE}/update")
    assert update["status"] == "FAILED"
    assert "COMPONENT_VERSION_NOT_VALID" in update["statusDetails"]["deployment-error-stack"]


async def test_a_report_is_tried_until_it_is_taken_or_finally_refused(cloud: Cloud, records: MemoryRecords) -> None:
    cloud.execution = execution()
    async with cloud.running(), connected(cloud, records) as uplink:
        arrived = await arrival(uplink)
        assert isinstance(arrived, DeploymentArrived)
        cloud.refusals = [{"code": "InternalError", "message": "later"}]
        await uplink.report(arrived, "SUCCEEDED", SUCCEEDED)
        await cloud.until(lambda: len(cloud.updates("update")) == 2)
        cloud.refusals = [{"code": "TerminalStateReached", "message": "too late"}]
        await uplink.report(arrived, "FAILED", failure(DeploymentError("x"), DetailedStatus.FAILED_NO_STATE_CHANGE))
        await cloud.until(lambda: len(cloud.updates("update")) == 3)
    assert [update["status"] for update in cloud.updates("update")] == ["SUCCEEDED", "SUCCEEDED", "FAILED"]
    assert records.items("uplink/pending/") == {}


async def test_a_report_outlives_a_restart_and_goes_before_the_next_job(cloud: Cloud, records: MemoryRecords) -> None:
    cloud.execution = execution()
    async with cloud.running():
        async with connected(cloud, records) as uplink:
            arrived = await arrival(uplink)
            assert isinstance(arrived, DeploymentArrived)
        # A new process that only finds the journal, and reports while the cloud is away.
        identity = cloud.identity()
        assert identity.cloud is not None
        away = replace(identity.cloud, mqtt=MqttSettings(port=1))
        async with MqttUplink(identity=identity, cloud=away, records=records, environment={}) as uplink:
            uplink.connect()
            await uplink.report(arrived, "IN_PROGRESS", None)
            await uplink.report(arrived, "SUCCEEDED", SUCCEEDED)
        assert len(records.items("uplink/pending/")) == 1
        cloud.heard.clear()
        async with connected(cloud, records) as uplink:
            await asked_for_jobs(cloud)
            topics = [topic for topic, _ in cloud.heard if topic.startswith(JOBS)]
            assert [topic.removeprefix(JOBS) for topic in topics] == [
                f"job-1/{NAMESPACE}/update",
                f"$next/{NAMESPACE}/get",
            ]
    assert records.items("uplink/") == {"uplink/filters": records.get("uplink/filters")}


# --- the deployment shadow -------------------------------------------------------------------------------------------


def desired(number: int = 1, status: str = "SUCCEEDED") -> dict[str, Json]:
    return {"desired": {"fleetConfig": json.dumps(document(number, f"thing/{THING}")), "desiredStatus": status}}


def write_shadow(cloud: Cloud, state: dict[str, Json]) -> None:
    cloud.version += 1
    cloud.shadow = {**(cloud.shadow or {}), **state}
    cloud.say(f"{SHADOW}update/accepted", {"state": state, "version": cloud.version})


async def test_a_thing_deployment_comes_by_the_shadow_and_is_reported_there(
    cloud: Cloud, records: MemoryRecords
) -> None:
    async with cloud.running(), connected(cloud, records) as uplink:
        await cloud.until(lambda: cloud.updates(f"{SHADOW}get"))
        write_shadow(cloud, desired())
        arrived = await arrival(uplink)
        assert isinstance(arrived, DeploymentArrived)
        assert (arrived.job_id, arrived.deployment.target) == (None, f"thing/{THING}")
        outcome = failure(DeploymentError("no", codes=("COMPONENT_BROKEN",)), DetailedStatus.FAILED_ROLLBACK_COMPLETE)
        await uplink.report(arrived, "FAILED", outcome)
        await cloud.until(lambda: cloud.updates(f"{SHADOW}update"))
        (update,) = cloud.updates(f"{SHADOW}update")
    assert update["version"] == 1
    assert update["state"]["reported"] == {
        "ggcVersion": "2.18.0",
        "fleetConfigurationArnForStatus": arrived.deployment.configuration_arn,
        "status": "FAILED",
        "statusDetails": {
            "detailedStatus": "FAILED_ROLLBACK_COMPLETE",
            "failureCause": "no",
            "errorStack": ["DEPLOYMENT_FAILURE", "COMPONENT_BROKEN"],
            "errorTypes": ["COMPONENT_ERROR"],
        },
    }


@pytest.mark.parametrize(
    "state",
    [
        {"desired": {"desiredStatus": "CANCELED"}},
        {"reported": {"status": "FAILED"}},
        {"desired": {"fleetConfig": "{}"}},
        {"desired": {"fleetConfig": "nonsense"}},
    ],
)
async def test_the_shadow_as_it_stands_is_left_alone_if_done_canceled_or_no_document(
    cloud: Cloud, records: MemoryRecords, state: dict[str, dict[str, Json]]
) -> None:
    """``At start: skipped if CANCELED, or if reported ARN equals the desired one and its status is terminal.``"""
    arn = document(1, f"thing/{THING}")["configurationArn"]
    cloud.shadow = {
        "desired": {**desired()["desired"], **state.get("desired", {})},
        "reported": {"fleetConfigurationArnForStatus": arn, **state.get("reported", {})},
    }
    cloud.version = 7
    async with cloud.running(), connected(cloud, records) as uplink:
        await cloud.until(lambda: cloud.updates(f"{SHADOW}get"))
        write_shadow(cloud, desired(2))
        arrived = await arrival(uplink)
        assert isinstance(arrived, DeploymentArrived)
        assert arrived.deployment.deployment_id == "d-2"


async def test_the_shadow_as_it_stands_counts_where_another_configuration_was_reported(
    cloud: Cloud, records: MemoryRecords
) -> None:
    cloud.shadow = {**desired(), "reported": {"fleetConfigurationArnForStatus": "other", "status": "FAILED"}}
    async with cloud.running(), connected(cloud, records) as uplink:
        arrived = await arrival(uplink)
        assert isinstance(arrived, DeploymentArrived)
        assert arrived.deployment.deployment_id == "d-1"
        write_shadow(cloud, desired())  # the same configuration again is nothing new
        write_shadow(cloud, desired(status="CANCELED"))
        canceled = await arrival(uplink)
        assert canceled == DeploymentCanceled(channel=Channel.SHADOW, deployment_ids=("d-1",))


def test_what_was_reported_as_done_is_not_offered_after_an_older_message_came_again() -> None:
    """A session that goes on after a restart brings what was not acknowledged, before the shadow is read."""
    offered: list[Json] = []
    channel = ShadowChannel(THING, version="2.18.0", publish=_never, offer=offered.append, cancel=lambda: None)

    def hear(topic: str, state: Json, version: int) -> None:
        payload = json.dumps({"state": state, "version": version}).encode()
        channel.receive(IotMessage(topic=f"{SHADOW}{topic}", payload=payload))

    arn = document(1, f"thing/{THING}")["configurationArn"]
    hear("update/accepted", desired(2), 6)
    done = {"reported": {"fleetConfigurationArnForStatus": arn, "status": "SUCCEEDED"}}
    hear("get/accepted", {**desired(), **done}, 8)
    assert [each["deploymentId"] for each in offered] == ["d-2"]


async def _never(topic: str, body: Mapping[str, Json]) -> None:
    raise AssertionError(topic)


async def test_a_version_conflict_is_read_again_and_retried(cloud: Cloud, records: MemoryRecords) -> None:
    async with cloud.running(), connected(cloud, records) as uplink:
        await cloud.until(lambda: cloud.updates(f"{SHADOW}get"))
        write_shadow(cloud, desired())
        arrived = await arrival(uplink)
        assert isinstance(arrived, DeploymentArrived)
        cloud.version = 9
        await uplink.report(arrived, "SUCCEEDED", SUCCEEDED)
        await cloud.until(lambda: len(cloud.updates(f"{SHADOW}update")) == 2)
    assert [update["version"] for update in cloud.updates(f"{SHADOW}update")] == [1, 9]
    assert records.items("uplink/pending/") == {}


# --- the cloud's own jobs and shadows, not scripted -------------------------------------------------------------------


async def test_the_embedded_clouds_jobs_and_shadow_are_understood(cloud: Cloud, records: MemoryRecords) -> None:
    async with cloud.running(scripted=False) as broker:
        jobs = Jobs(
            store=broker._store,
            broker_publish=broker.publish,
            group_members=lambda arn: {THING},
            now=time.time,
            region="eu-west-1",
            account="123456789012",
        )
        ended = asyncio.Event()
        shadows = IotData(store=broker._store, broker=broker, now=time.time)
        shadows.watch(lambda thing, name, shadow: ended.set() if "SUCCEEDED" in str(shadow.reported) else None)
        broker.reserve("$aws/things/+/jobs/#", jobs.handle)
        broker.reserve(SHADOW_TOPICS, shadows.handle)
        async with connected(cloud, records) as uplink:
            for number in (1, 2):
                jobs.create(
                    f"job-{number}",
                    ["arn:aws:iot:eu-west-1:123456789012:thinggroup/g"],
                    document(number),
                    namespace="aws-gg-deployment",
                    continuous=True,
                )
            for number in (1, 2):
                arrived = await arrival(uplink)
                assert isinstance(arrived, DeploymentArrived)
                assert arrived.job_id == f"job-{number}"
                await uplink.report(arrived, "IN_PROGRESS", None)
                await uplink.report(arrived, "SUCCEEDED", SUCCEEDED)
            await asyncio.wait_for(uplink._reports.drain(), DEADLINE_S)
            assert [e.status.value for n in (1, 2) for e in jobs.executions(f"job-{n}")] == ["SUCCEEDED"] * 2
            shadows.update_shadow(THING, "AWSManagedGreengrassV2Deployment", desired=desired(3)["desired"])
            arrived = await arrival(uplink)
            assert isinstance(arrived, DeploymentArrived)
            assert arrived.deployment.deployment_id == "d-3"
            await uplink.report(arrived, "IN_PROGRESS", None)
            await uplink.report(arrived, "SUCCEEDED", SUCCEEDED)
            await asyncio.wait_for(ended.wait(), DEADLINE_S)
            await asyncio.wait_for(uplink._reports.drain(), DEADLINE_S)


# --- messages --------------------------------------------------------------------------------------------------------


async def test_overlapping_and_equal_filters_get_one_copy_each(cloud: Cloud, records: MemoryRecords) -> None:
    wide, narrow, same = Got(), Got(), Got()
    async with cloud.running(), connected(cloud, records) as uplink:
        await uplink.subscribe("a/#", 1, wide)
        ends = await uplink.subscribe("a/b", 1, narrow)
        await uplink.subscribe("a/b", 0, same)
        message = IotMessage(
            topic="a/b",
            payload=b"text",
            user_properties=(("k", "v"),),
            message_expiry_s=60,
            correlation_data=b"\x01\x02",
            response_topic="r",
            payload_format=1,
            content_type="text/plain",
        )
        await uplink.publish(message, 1)
        for got in (wide, narrow, same):
            (received,) = await got.until(1)
            assert replace(received, message_expiry_s=60) == message
        await ends()
        await uplink.publish(IotMessage(topic="a/b", payload=b"2"), 1)
        await asyncio.gather(wide.until(2), same.until(2))
    assert [len(got.messages) for got in (wide, narrow, same)] == [2, 1, 2]


async def test_retained_messages_come_to_a_new_subscriber(cloud: Cloud, records: MemoryRecords) -> None:
    got = Got()
    async with cloud.running(), connected(cloud, records) as uplink:
        await uplink.publish(IotMessage(topic="r/1", payload=b"x", retain=True), 1)
        await uplink.publish(IotMessage(topic="r/2", payload=b"y", retain=True), 1)
        await asyncio.wait_for(uplink._messages.drain(), DEADLINE_S)
        await uplink.subscribe("r/+", 1, got)
        assert sorted((m.payload, m.retain) for m in await got.until(2)) == [(b"x", True), (b"y", True)]


async def test_a_refused_filter_is_an_error_and_leaves_nothing(cloud: Cloud, records: MemoryRecords) -> None:
    cloud.denied.add("secret/#")
    async with cloud.running(), connected(cloud, records) as uplink:
        with pytest.raises(NetworkError, match="refused a subscription to secret/#"):
            await uplink.subscribe("secret/#", 1, Got())
        cloud.denied.clear()
        await uplink.subscribe("secret/#", 1, Got())


async def test_what_is_published_while_the_cloud_is_away_arrives_in_order(cloud: Cloud, records: MemoryRecords) -> None:
    got = Got()
    async with AsyncExitStack() as first:
        await first.enter_async_context(cloud.running())
        async with connected(cloud, records) as uplink:
            await uplink.subscribe("t", 1, got)
            await first.aclose()
            await until_connected(uplink, False)
            for number in range(50):
                await uplink.publish(IotMessage(topic="t", payload=str(number).encode()), 1)
            async with cloud.running():
                messages = await got.until(50)
                assert [int(m.payload) for m in messages] == list(range(50))


async def test_a_full_spool_drops_qos_0_first_and_then_refuses(cloud: Cloud, records: MemoryRecords) -> None:
    identity = cloud.identity()
    assert identity.cloud is not None
    away = replace(identity.cloud, mqtt=MqttSettings(port=1, spool_bytes=1_000))
    async with MqttUplink(identity=identity, cloud=away, records=records, environment={}) as uplink:
        await uplink.publish(IotMessage(topic="t", payload=b"x" * 499), 0)
        await uplink.publish(IotMessage(topic="t", payload=b"x" * 499), 1)
        await uplink.publish(IotMessage(topic="t", payload=b"y" * 499), 1)
        with pytest.raises(NetworkError, match="the spool of 1000 bytes holds 1000"):
            await uplink.publish(IotMessage(topic="t", payload=b"z"), 1)


async def test_a_subscription_of_an_earlier_run_ends_at_the_next_connect(cloud: Cloud, records: MemoryRecords) -> None:
    async with cloud.running():
        async with connected(cloud, records) as uplink:
            await uplink.subscribe("old/#", 1, Got())
            await asked_for_jobs(cloud)
        assert "old/#" in records.records["uplink/filters"]
        async with connected(cloud, records) as uplink:
            await asked_for_jobs(cloud, 2)
            assert "old/#" not in records.records["uplink/filters"]


async def test_status_messages_are_acknowledged_or_refused(cloud: Cloud, records: MemoryRecords) -> None:
    async with cloud.running(), connected(cloud, records) as uplink:
        await uplink.send_health(json.dumps({"trigger": Trigger.CADENCE}).encode())
        assert cloud.updates("greengrassv2/health/json") == [{"trigger": "CADENCE"}]
    with pytest.raises(NetworkError, match="away"):
        await uplink.send_health(b"{}")


async def test_a_certificate_that_is_none_is_named(cloud: Cloud, records: MemoryRecords) -> None:
    (cloud.folder / "device.crt").write_text("nonsense")
    identity = cloud.identity()
    assert identity.cloud is not None
    uplink = MqttUplink(identity=identity, cloud=identity.cloud, records=records, environment={})
    with pytest.raises(ConfigurationError, match=r"device\.crt"):
        await uplink.__aenter__()


async def test_leaving_while_the_connection_is_just_lost_ends(cloud: Cloud, records: MemoryRecords) -> None:
    async with asyncio.timeout(DEADLINE_S), cloud.running(), connected(cloud, records) as uplink:
        await asked_for_jobs(cloud)
        uplink._connection_changed(False)


async def test_a_proxy_is_used_for_mqtt(cloud: Cloud, records: MemoryRecords) -> None:
    async with cloud.running(), proxying() as proxy:
        identity = cloud.identity()
        assert identity.cloud is not None
        way = Proxy.read(f"http://127.0.0.1:{proxy.port}", username="me", password="secret")
        settings = replace(identity.cloud, proxy=way)
        async with MqttUplink(identity=identity, cloud=settings, records=records, environment={}) as uplink:
            uplink.connect()
            await until_connected(uplink)
            await asked_for_jobs(cloud)
    token = "Basic " + base64.b64encode(b"me:secret").decode()
    assert {(first.rpartition(" HTTP/")[0], user) for first, user in proxy.asked} == {
        (f"CONNECT localhost:{cloud.port}", token)
    }

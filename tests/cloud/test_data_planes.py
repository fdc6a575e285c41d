"""``iot-data`` and ``iot-jobs-data`` of a whole cloud, by unmodified boto3."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.sessions import session

from monodon.cloud.cloud import Cloud

pytestmark = pytest.mark.slow  # real sockets, real clients

THING = "arn:aws:iot:us-east-1:123456789012:thing/one"


@pytest.fixture
async def call(tmp_path: Path) -> Any:
    """Run a function with boto3 clients, by service, in a thread."""

    def run(endpoint: str, work: Callable[..., None], services: tuple[str, ...]) -> None:
        clients = [session().client(service, endpoint_url=endpoint) for service in ("iot", *services)]
        try:
            clients[0].create_thing(thingName="one")
            work(*clients)
        finally:
            for client in clients:
                client.close()

    async with Cloud(tmp_path / "state").running() as ready:

        async def call(work: Callable[..., None], *services: str) -> None:
            await asyncio.to_thread(run, ready.endpoint, work, services)

        yield call


def refused(act: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as caught:
        act()
    return str(caught.value.response["Error"]["Code"])


async def test_shadows(call: Any) -> None:
    def work(iot: Any, data: Any) -> None:
        one = {"thingName": "one", "shadowName": "config"}
        desired = json.dumps({"state": {"desired": {"a": 1}}})
        assert json.loads(data.update_thing_shadow(**one, payload=desired)["payload"].read())["version"] == 1
        document = json.loads(data.get_thing_shadow(**one)["payload"].read())
        assert document["state"] == {"desired": {"a": 1}, "delta": {"a": 1}}
        assert data.list_named_shadows_for_thing(thingName="one")["results"] == ["config"]
        conflict = json.dumps({"state": {}, "version": 7})
        large = json.dumps({"state": {"desired": {"a": "x" * 9000}}})
        assert refused(lambda: data.update_thing_shadow(**one, payload=conflict)) == "ConflictException"
        assert refused(lambda: data.update_thing_shadow(**one, payload=large)) == "RequestEntityTooLargeException"
        assert refused(lambda: data.update_thing_shadow(**one, payload="{")) == "InvalidRequestException"
        assert json.loads(data.delete_thing_shadow(**one)["payload"].read())["version"] == 1
        assert refused(lambda: data.get_thing_shadow(**one)) == "ResourceNotFoundException"
        assert refused(lambda: data.get_thing_shadow(thingName="nobody")) == "ResourceNotFoundException"

    await call(work, "iot-data")


async def test_messages(call: Any) -> None:
    def work(iot: Any, data: Any) -> None:
        properties = json.dumps([{"k": "v"}])
        options = {"contentType": "text/plain", "messageExpiry": 100, "payloadFormatIndicator": "UTF8_DATA"}
        data.publish(
            topic="a/b",
            qos=1,
            retain=True,
            payload=b"hello",
            userProperties=properties,
            correlationData="AQI=",
            **options,
        )
        kept = data.get_retained_message(topic="a/b")
        assert (kept["payload"], kept["qos"], json.loads(kept["userProperties"])) == (b"hello", 1, [{"k": "v"}])
        assert [each["topic"] for each in data.list_retained_messages()["retainedTopics"]] == ["a/b"]
        data.publish(topic="a/b", retain=True, payload=b"")
        assert refused(lambda: data.get_retained_message(topic="a/b")) == "ResourceNotFoundException"
        assert refused(lambda: data.publish(topic="a/#", payload=b"x")) == "InvalidRequestException"
        assert refused(lambda: data.delete_connection(clientId="nobody")) == "ResourceNotFoundException"

    await call(work, "iot-data")


async def test_jobs(call: Any) -> None:
    def work(iot: Any, jobs: Any) -> None:
        iot.create_job(jobId="job", targets=[THING], document='{"x": 1}')
        assert [each["jobId"] for each in jobs.get_pending_job_executions(thingName="one")["queuedJobs"]] == ["job"]
        started = jobs.start_next_pending_job_execution(thingName="one")["execution"]
        assert (started["status"], json.loads(started["jobDocument"])) == ("IN_PROGRESS", {"x": 1})
        assert jobs.describe_job_execution(thingName="one", jobId="$next")["execution"]["jobId"] == "job"
        job = {"thingName": "one", "jobId": "job"}
        done = jobs.update_job_execution(
            **job, status="SUCCEEDED", statusDetails={"a": "b"}, includeJobExecutionState=True
        )
        assert done["executionState"] == {"status": "SUCCEEDED", "statusDetails": {"a": "b"}, "versionNumber": 3}
        assert refused(lambda: jobs.update_job_execution(**job, status="FAILED")) == "InvalidStateTransitionException"
        assert refused(lambda: jobs.describe_job_execution(**job)) == "TerminalStateException"
        assert iot.describe_job(jobId="job")["job"]["status"] == "COMPLETED"

    await call(work, "iot-jobs-data")

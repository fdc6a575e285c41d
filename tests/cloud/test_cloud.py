"""The cloud as a process: started by its command, killed, started again; one line for what goes wrong."""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from tests.sessions import session

from monodon.cloud.cloud import Cloud
from monodon.cloud.context import RequestContext

COMMAND = [sys.executable, "-m", "monodon", "cloud", "run", "--port", "0", "--mqtt-port", "0"]


@contextmanager
def running(state: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run the command until its line on stdout says that it is ready."""
    log = state.with_name(f"{state.name}.log")
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*COMMAND, "--state", str(state), *options], stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("monodon cloud ready: http://127.0.0.1:"), log.read_text()
        yield process, json.loads((state / "ready.json").read_text())
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def client(stack: ExitStack, service: str, endpoint: str) -> Any:
    config = Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=10)
    return stack.enter_context(closing(session().client(service, endpoint_url=endpoint, config=config)))


@pytest.mark.slow
def test_an_answered_call_is_never_forgotten(tmp_path: Path) -> None:
    """SIGKILL right after each answer: the next start knows all that was answered."""
    state = tmp_path / "state"
    with ExitStack() as stack, running(state) as (process, ready):
        s3 = client(stack, "s3", ready["endpoint"])
        s3.create_bucket(Bucket="whales")
        for number in range(20):
            s3.put_object(Bucket="whales", Key=f"k{number}", Body=b"x" * number * 1000)
        iot = client(stack, "iot", ready["endpoint"])
        iot.create_thing(thingName="drone-1")
        certificate = iot.create_keys_and_certificate(setAsActive=True)
        process.kill()
    (state / "blobs" / "s3" / "half-written").write_bytes(b"x")
    with ExitStack() as stack, running(state) as (process, again):
        s3 = client(stack, "s3", again["endpoint"])
        listed = s3.list_objects_v2(Bucket="whales")["Contents"]
        assert {entry["Key"]: entry["Size"] for entry in listed} == {f"k{n}": n * 1000 for n in range(20)}
        assert s3.get_object(Bucket="whales", Key="k7")["Body"].read() == b"x" * 7000
        iot = client(stack, "iot", again["endpoint"])
        assert iot.describe_thing(thingName="drone-1")["thingName"] == "drone-1"
        described = iot.describe_certificate(certificateId=certificate["certificateId"])["certificateDescription"]
        assert described["status"] == "ACTIVE"
        assert not (state / "blobs" / "s3" / "half-written").exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert not (state / "ready.json").exists()
    assert ready["ca_file"] == again["ca_file"]
    assert "Traceback" not in (tmp_path / "state.log").read_text()


async def enlist(state: Path, count: int) -> str:
    """Make things in a group, at once: that many API calls would take a while; return the group's ARN."""
    cloud = Cloud(state)
    async with cloud.running() as ready:
        context = RequestContext(region=ready.region, account=ready.account)
        assert cloud.parts is not None
        backends = cloud.parts.backends["iot"]

        def call(operation: str, **request: str) -> dict[str, Any]:
            backend = next(each for each in backends if hasattr(each, operation))
            return getattr(backend, operation)(request, context) or {}

        with cloud.parts._store.transaction():
            arn = str(call("create_thing_group", thingGroupName="drones")["thingGroupArn"])
            for number in range(count):
                call("create_thing", thingName=f"drone-{number:04}")
                call("add_thing_to_thing_group", thingName=f"drone-{number:04}", thingGroupName="drones")
    return arn


@pytest.mark.slow
def test_a_cloud_killed_while_it_hands_out_a_job_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL between two slices: after the restart each thing has its execution, and has it once."""
    state, count = tmp_path / "state", 3000
    group_arn = asyncio.run(enlist(state, count))
    with ExitStack() as stack, running(state) as (process, ready):
        greengrass = client(stack, "greengrassv2", ready["endpoint"])
        job_id = greengrass.create_deployment(targetArn=group_arn)["iotJobId"]
        process.kill()
    with closing(sqlite3.connect(state / "cloud.sqlite")) as database:
        [(waiting,)] = database.execute("SELECT count(*) FROM records WHERE kind = 'jobs.waiting'")
    assert 0 < waiting < count, "it was not killed in the middle"
    with ExitStack() as stack, running(state) as (_, ready):
        iot = client(stack, "iot", ready["endpoint"])
        deadline = time.monotonic() + 20
        while (queued := iot.describe_job(jobId=job_id)["job"]["jobProcessDetails"]["numberOfQueuedThings"]) < count:
            assert time.monotonic() < deadline, f"{queued} of {count} are queued"
        pages = iot.get_paginator("list_job_executions_for_job").paginate(jobId=job_id)
        found = [each for page in pages for each in page["executionSummaries"]]
    assert {each["jobExecutionSummary"]["executionNumber"] for each in found} == {1}
    assert {each["jobExecutionSummary"]["status"] for each in found} == {"QUEUED"}
    things = sorted(each["thingArn"].rpartition("/")[2] for each in found)
    assert things == [f"drone-{number:04}" for number in range(count)]


@pytest.mark.slow
def test_a_version_registered_before_the_kill_is_processed_after_it(tmp_path: Path) -> None:
    state = tmp_path / "state"
    recipe = (
        '{"RecipeFormatVersion": "2020-01-25", "ComponentName": "a.b", "ComponentVersion": "1.0.0", "Manifests": [{}]}'
    )
    with ExitStack() as stack, running(state) as (process, ready):
        created = client(stack, "greengrassv2", ready["endpoint"]).create_component_version(inlineRecipe=recipe)
        process.kill()
    with ExitStack() as stack, running(state) as (_, ready):
        greengrass = client(stack, "greengrassv2", ready["endpoint"])
        deadline = time.monotonic() + 5
        while (
            state_now := greengrass.describe_component(arn=created["arn"])["status"]["componentState"]
        ) != "DEPLOYABLE":
            assert time.monotonic() < deadline, state_now


def failure(*arguments: str) -> tuple[int, list[str]]:
    done = subprocess.run([*COMMAND[:5], *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == ""
    return done.returncode, [line for line in done.stderr.splitlines() if line.startswith(("error:", "hint:"))]


@pytest.mark.slow
def test_what_goes_wrong_is_one_clear_line(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        state = str(tmp_path / "a")
        code, lines = failure("--state", state, "--port", port, "--mqtt-port", "0")
        assert (code, lines[0]) == (1, f"error: port {port} on 127.0.0.1 is taken")
        code, lines = failure("--state", state, "--port", "0", "--mqtt-port", port)
        assert code == 1
        assert port in lines[0]
    code, lines = failure("--state", state, "--host", "0.0.0.0", "--port", "0")
    assert code == 1
    assert "does not listen on 0.0.0.0" in lines[0]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "monodon-cloud.json").write_text('{"kind": "monodon-cloud", "format": 2}')
    code, lines = failure("--state", str(tmp_path / "b"), "--port", "0", "--mqtt-port", "0")
    assert code == 1
    assert "format 2" in lines[0]
    with running(tmp_path / "c"):
        code, lines = failure("--state", str(tmp_path / "c"), "--port", "0", "--mqtt-port", "0")
        assert code == 1
        assert "in use by another cloud" in lines[0]
    code, lines = failure("--state", state, "--port", "0", "--mqtt-port", "0", "--region", "eu-west-1")
    assert code == 1
    assert "of region us-east-1" in lines[0]


@pytest.mark.slow
def test_memory_stays_bounded_while_a_large_object_passes(tmp_path: Path) -> None:
    """findings 4: a server that keeps no body in memory stays far below the object's size."""
    size = 120 * 1024 * 1024
    source = tmp_path / "large"
    with source.open("wb") as file:
        os.truncate(file.fileno(), size)
    with ExitStack() as stack, running(tmp_path / "state") as (process, ready):
        s3 = client(stack, "s3", ready["endpoint"])
        s3.create_bucket(Bucket="whales")
        with source.open("rb") as file:
            s3.put_object(Bucket="whales", Key="large", Body=file)
        s3.upload_file(str(source), "whales", "parts")
        read = sum(len(piece) for piece in s3.get_object(Bucket="whales", Key="parts")["Body"].iter_chunks(1 << 20))
        assert read == size
        peak = Path(f"/proc/{process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
        assert int(peak) < 130 * 1024, f"{peak} kB"

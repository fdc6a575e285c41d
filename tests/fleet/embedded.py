"""An embedded cloud in a thread of this process, with things that answer deployments as devices do."""

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.health import health_message

from monodon.cloud.broker.identity import Identity
from monodon.cloud.cloud import Cloud, Ready
from monodon.fleet.aws import Aws

#: Operations that change something: a plan sends none of them.
WRITES = ("Create", "Update", "Delete", "Put", "Add", "Attach", "Cancel", "Tag", "Untag", "Remove", "Associate")
RECIPE = {
    "RecipeFormatVersion": "2020-01-25",
    "Manifests": [{"Platform": {"os": "linux"}, "Lifecycle": {"Run": "sleep 1"}}],
}


class Fleet:
    """A cloud to ask with boto3, and doors to play its devices."""

    def __init__(self, ready: Ready, cloud: Cloud, loop: asyncio.AbstractEventLoop) -> None:
        self.ready = ready
        self.aws = Aws(endpoint_url=ready.endpoint, region=ready.region)
        self._parts: Any = cloud.parts
        self._loop = loop

    def add(self, group: str, *things: str, platform: str = "linux", status: str = "HEALTHY") -> None:
        """Things that are core devices, in a group."""
        self.aws.iot.create_thing_group(thingGroupName=group)
        for thing in things:
            self.aws.iot.create_thing(thingName=thing)
            self.aws.iot.add_thing_to_thing_group(thingGroupName=group, thingName=thing)
            self.report_health(thing, platform=platform, overallDeviceStatus=status)

    def publish(
        self, name: str, version: str, defaults: Mapping[str, Any] | None = None, uri: str | None = None
    ) -> None:
        """A component version, deployable; with an artifact that must be in S3 only while it is published."""
        manifest = dict(RECIPE["Manifests"][0])  # type: ignore[call-overload]
        if uri is not None:
            manifest["Artifacts"] = [{"Uri": uri}]
        configuration = {"ComponentConfiguration": {"DefaultConfiguration": dict(defaults)}} if defaults else {}
        recipe = {
            **RECIPE,
            "ComponentName": name,
            "ComponentVersion": version,
            "Manifests": [manifest],
            **configuration,
        }
        made = self.aws.greengrass.create_component_version(inlineRecipe=json.dumps(recipe).encode())
        for _ in range(200):
            if self.aws.greengrass.describe_component(arn=made["arn"])["status"]["componentState"] != "REQUESTED":
                return
        raise AssertionError(f"{name} {version} is still being checked")

    def report_job(self, thing: str, job_id: str | None, status: str, *, cause: str = "", codes: object = None) -> None:
        """Say how a deployment stands on a device; ``codes`` may be any garbage."""
        details = {"detailed-deployment-status": "FAILED_ROLLBACK_COMPLETE", "deployment-failure-cause": cause}
        if codes is not None:
            details["deployment-error-stack"] = codes if isinstance(codes, str) else json.dumps(codes)
        body = {"status": status, "statusDetails": {key: value for key, value in details.items() if value and cause}}
        self._say(thing, f"$aws/things/{thing}/jobs/{job_id}/namespace-aws-gg-deployment/update", json.dumps(body))

    def report_health(self, thing: str, **members: Any) -> None:
        self._say(thing, f"$aws/things/{thing}/greengrassv2/health/json", json.dumps(health_message(thing, **members)))

    def _say(self, thing: str, topic: str, payload: str) -> None:
        identity = Identity(certificate_id="0" * 64, thing_names=(thing,), client_id=thing)

        async def say() -> None:
            handler = self._parts.health if topic.endswith("/health/json") else self._parts.jobs.handle
            handler(identity, topic, payload.encode())

        asyncio.run_coroutine_threadsafe(say(), self._loop).result(10)

    @contextmanager
    def calls(self) -> Iterator[list[str]]:
        """The operations that are sent meanwhile."""
        sent: list[str] = []
        clients = (self.aws.greengrass, self.aws.iot, self.aws.s3, self.aws.data)

        def note(model: Any, **_: Any) -> None:
            sent.append(model.name)

        for client in clients:
            client.meta.events.register("before-call.*", note, unique_id="calls")
        try:
            yield sent
        finally:
            for client in clients:
                client.meta.events.unregister("before-call.*", unique_id="calls")


@contextmanager
def embedded_fleet(folder: Path) -> Iterator[Fleet]:
    """Run a cloud until left."""
    started: Future[tuple[Ready, Cloud, asyncio.Event, asyncio.AbstractEventLoop]] = Future()

    async def serve() -> None:
        stop, cloud = asyncio.Event(), Cloud(folder)
        async with cloud.running() as ready:
            started.set_result((ready, cloud, stop, asyncio.get_running_loop()))
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="cloud")
    thread.start()
    try:
        ready, cloud, stop, loop = started.result(60)
        try:
            yield Fleet(ready, cloud, loop)
        finally:
            loop.call_soon_threadsafe(stop.set)
    finally:
        thread.join(60)

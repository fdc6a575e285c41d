"""Simulated devices on real sockets, against the real cloud; boto3 says what has become of them."""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from tests.sessions import session
from tests.simulator.world import World, enlist

from monodon.cloud.cloud import Cloud, Parts, Ready
from monodon.errors import NetworkError
from monodon.simulator.device import Device
from monodon.simulator.faults import Profile, draw, read_fault
from monodon.simulator.figures import read_metric
from monodon.simulator.fleet import Address, Fleet, Options, allow_open_files, device_context
from monodon.simulator.settings import Settings
from monodon.simulator.tally import Tally

COMPONENT = "com.example.Camera"
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("simulator")]


@dataclass
class Aws:
    """boto3 in a thread, for a cloud on this loop."""

    clients: dict[str, Any]

    async def __call__(self, service: str, operation: str, **request: Any) -> Any:
        async with asyncio.timeout(20):
            return await asyncio.to_thread(getattr(self.clients[service], operation), **request)


@dataclass
class Scene:
    """A cloud, its things, and a way to them as an operator has it."""

    ready: Ready
    parts: Parts
    world: World
    aws: Aws
    folder: Path

    async def deploy(self, version: str, **members: Any) -> tuple[str, str]:
        """Ids of a deployment to the group, and of its job."""
        answer = await self.aws(
            "greengrassv2",
            "create_deployment",
            targetArn=self.world.group_arn,
            components={COMPONENT: {"componentVersion": version}},
            **members,
        )
        return answer["deploymentId"], answer["iotJobId"]

    async def counts(self, job_id: str) -> dict[str, int]:
        details = (await self.aws("iot", "describe_job", jobId=job_id))["job"]["jobProcessDetails"]
        found = {name.removeprefix("numberOf").removesuffix("Things"): value for name, value in details.items()}
        return {name: value for name, value in found.items() if value and name != "processingTargets"}


def _clients(ready: Ready) -> Iterator[tuple[str, Any]]:
    for service in ("greengrassv2", "iot", "iot-data"):
        config = Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=10)
        yield service, session().client(service, endpoint_url=ready.endpoint, region_name=ready.region, config=config)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Callable[[int], Scene]]:
    cloud = Cloud(tmp_path / "cloud")
    async with cloud.running() as ready:
        assert cloud.parts is not None
        clients = dict(_clients(ready))
        parts = cloud.parts
        yield lambda count: Scene(
            ready, parts, enlist(parts, ready, tmp_path / "certificates", count), Aws(clients), tmp_path
        )
        for client in clients.values():
            client.close()


@asynccontextmanager
async def running(
    scene: Scene, profiles: Sequence[Profile], *, settings: Settings | None = None, world: World | None = None
) -> AsyncIterator[Fleet]:
    """A fleet that runs until the block is left."""
    world = world or scene.world
    shared = settings or Settings(seed=1)
    contexts = [device_context(scene.ready.ca_file, *files) for files in world.certificates]
    devices = [Device(t, p, shared, now=0.0) for t, p in zip(world.things, profiles, strict=True)]
    fleet = Fleet(
        devices,
        address=Address(host=scene.ready.mqtt_host, port=scene.ready.mqtt_port),
        contexts=[contexts[index // 50] for index in range(len(devices))],
        now=asyncio.get_running_loop().time,
        options=Options(at_once=8),
    )
    task = asyncio.create_task(fleet.run())
    try:
        yield fleet
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


async def until(is_so: Callable[[], Any], *, within_s: float = 40.0) -> None:
    """Wait for something that the loop brings about."""
    async with asyncio.timeout(within_s):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_fifty_devices_run_what_was_deployed(scene: Callable[[int], Scene]) -> None:
    """All SUCCEEDED; what devices report is what every API shows, and the next version replaces it."""
    stage, tally = scene(50), Tally()
    settings = Settings(
        seed=1,
        on_change=tally.add,
        metrics=[read_metric("latency_ms=5..6"), read_metric("latency_ms=50", f"{COMPONENT}@2.0.0")],
    )
    async with running(stage, [Profile()] * 50, settings=settings) as fleet:
        await until(lambda: fleet.open_count == 50)
        cores = (await stage.aws("greengrassv2", "list_core_devices", maxResults=100))["coreDevices"]
        assert Counter(each["status"] for each in cores) == {"HEALTHY": 50}
        for version in ("1.0.0", "2.0.0"):
            deployment_id, job_id = await stage.deploy(version)
            await until(lambda: tally.counts() == {"SUCCEEDED": 50} and all(d.is_settled for d in fleet.devices))
            assert await stage.counts(job_id) == {"Succeeded": 50}
            thing = stage.world.things[49]
            (one,) = (await stage.aws("greengrassv2", "list_installed_components", coreDeviceThingName=thing))[
                "installedComponents"
            ]
            assert (one["componentName"], one["componentVersion"], one["lifecycleState"]) == (
                COMPONENT,
                version,
                "RUNNING",
            )
            assert one["lastInstallationSource"] == deployment_id
            effective = await stage.aws("greengrassv2", "list_effective_deployments", coreDeviceThingName=thing)
            assert {
                each["deploymentId"]: each["coreDeviceExecutionStatus"] for each in effective["effectiveDeployments"]
            }[deployment_id] == "SUCCEEDED"
            shadow = await stage.aws("iot-data", "get_thing_shadow", thingName=thing, shadowName="monodon-metrics")
            (metric,) = json.load(shadow["payload"])["state"]["reported"][COMPONENT]["metrics"]
            assert metric["name"] == "latency_ms"
            assert metric["mean"] == 50 if version == "2.0.0" else 5 <= metric["mean"] <= 6
            tally.statuses.clear()
            tally._latest.clear()
    await until(lambda: not any(stage.parts.broker.is_connected(thing) for thing in stage.world.things))


async def test_failures_have_reasons_that_can_be_counted(scene: Callable[[int], Scene]) -> None:
    stage, tally = scene(40), Tally()
    faults = [
        read_fault("fail", "10%:DISK_SPACE_CRITICAL"),
        read_fault("fail", f"5%:COMPONENT_BROKEN:{COMPONENT}@1.0.0"),
        read_fault("fail", f"20%:COMPONENT_BROKEN:{COMPONENT}@9.9.9"),
        read_fault("reject", "1"),
    ]
    async with running(stage, draw(faults, 40, 4), settings=Settings(seed=4, on_change=tally.add)) as fleet:
        await until(lambda: fleet.open_count == 40)
        policies = {"failureHandlingPolicy": "DO_NOTHING"}
        deployment_id, job_id = await stage.deploy("1.0.0", deploymentPolicies=policies)
        await until(lambda: tally.ended == 40 and all(d.is_settled for d in fleet.devices))
        assert await stage.counts(job_id) == {"Succeeded": 33, "Failed": 6, "Rejected": 1}
        assert tally.causes() == [("DISK_SPACE_CRITICAL", 4), ("COMPONENT_BROKEN", 2), ("DEPLOYMENT_REJECTED", 1)]
        broken = await stage.aws("greengrassv2", "list_core_devices", status="UNHEALTHY")
        assert len(broken["coreDevices"]) == 2
        thing = broken["coreDevices"][0]["coreDeviceThingName"]
        (one,) = (await stage.aws("greengrassv2", "list_installed_components", coreDeviceThingName=thing))[
            "installedComponents"
        ]
        assert (one["lifecycleState"], one["lifecycleStateDetails"]) == (
            "BROKEN",
            f"{COMPONENT} 1.0.0 is BROKEN: its run script exited with code 1",
        )
        (told,) = (await stage.aws("greengrassv2", "list_effective_deployments", coreDeviceThingName=thing))[
            "effectiveDeployments"
        ]
        assert told["deploymentId"] == deployment_id
        assert told["statusDetails"]["errorStack"][-1] == "COMPONENT_BROKEN"
        assert told["reason"].startswith("FAILED_ROLLBACK_NOT_REQUESTED")


async def test_an_abort_criterion_ends_the_job(scene: Callable[[int], Scene]) -> None:
    """Devices that are away when it ends never hear of it."""
    stage, tally = scene(30), Tally()
    profiles = draw([read_fault("fail", "8"), read_fault("offline", "15")], 30, 2)
    here = sum(profile.away is None for profile in profiles)
    criteria = {"failureType": "FAILED", "action": "CANCEL", "thresholdPercentage": 10, "minNumberOfExecutedThings": 5}
    async with running(stage, profiles, settings=Settings(seed=2, on_change=tally.add)) as fleet:
        await until(lambda: fleet.open_count == here)
        deployment_id, job_id = await stage.deploy(
            "1.0.0", iotJobConfiguration={"abortConfig": {"criteriaList": [criteria]}}
        )
        await until(lambda: tally.counts().get("FAILED", 0) >= 1 and all(d.is_settled for d in fleet.devices))
        counts = await stage.counts(job_id)
        assert counts["Canceled"] >= 15
        assert counts.get("Queued", 0) == 0
        found = await stage.aws("greengrassv2", "get_deployment", deploymentId=deployment_id)
        assert found["deploymentStatus"] == "CANCELED"


async def test_flapping_and_babbling_devices_come_to_the_same_end(scene: Callable[[int], Scene]) -> None:
    """Connections lost after a few answers, everything said twice, late or garbled: still each succeeds once."""
    stage, tally = scene(24), Tally()
    kinds = [("flap", "50%:300ms"), ("duplicate", "30%"), ("disorder", "30%"), ("garbage", "30%")]
    profiles = draw([read_fault(kind, text) for kind, text in kinds], 24, 9)
    settings = Settings(seed=9, on_change=tally.add)
    async with running(stage, profiles, settings=settings) as fleet:
        await until(lambda: fleet.open_count >= 12)
        for version in ("1.0.0", "1.1.0"):
            _, job_id = await stage.deploy(version)
            async with asyncio.timeout(40):
                while await stage.counts(job_id) != {"Succeeded": 24}:
                    await asyncio.sleep(0.1)
        assert fleet.traffic.losses >= 12
        await until(lambda: all(device.is_settled for device in fleet.devices))
        assert {each.installed.roots()[COMPONENT] for each in fleet.devices} == {"1.1.0"}
        for thing in stage.world.things:
            (one,) = stage.parts._core_devices.list_installed_components({"coreDeviceThingName": thing}, None)[  # type: ignore[arg-type]
                "installedComponents"
            ]
            assert (one["componentVersion"], one["lifecycleState"]) == ("1.1.0", "RUNNING")


async def test_late_joiners_and_single_things(scene: Callable[[int], Scene]) -> None:
    """Who joins the group later gets its deployment; a deployment of one thing comes by its shadow."""
    stage, tally = scene(2), Tally()
    _, job_id = await stage.deploy("1.0.0")
    settings = Settings(on_change=tally.add)
    async with running(stage, [Profile()] * 2, settings=settings) as fleet:
        await until(lambda: tally.counts() == {"SUCCEEDED": 2})
        late = enlist(stage.parts, stage.ready, stage.folder / "late", 1, group="others", first=2)
        async with running(stage, [Profile()], settings=settings, world=late) as joined:
            await until(lambda: joined.open_count == 1)
            await stage.aws("iot", "add_thing_to_thing_group", thingGroupName="sims", thingName=late.things[0])
            await until(lambda: tally.counts() == {"SUCCEEDED": 3} and all(d.is_settled for d in joined.devices))
            assert await stage.counts(job_id) == {"Succeeded": 3}
            target = f"arn:aws:iot:{stage.ready.region}:{stage.ready.account}:thing/{late.things[0]}"
            made = await stage.aws(
                "greengrassv2",
                "create_deployment",
                targetArn=target,
                components={"com.example.Other": {"componentVersion": "3.0.0"}},
            )
            (device,) = joined.devices
            await until(lambda: len(device.installed.roots()) == 2 and device.is_settled)
            found = await stage.aws("greengrassv2", "get_deployment", deploymentId=made["deploymentId"])
            assert found["deploymentStatus"] == "COMPLETED"
        assert all(len(device.installed.roots()) == 1 for device in fleet.devices)


async def test_a_device_that_policy_forbids_says_why(scene: Callable[[int], Scene]) -> None:
    stage = scene(1)
    files = stage.world.certificates[0]
    device = Device("somebody-else", Profile(), Settings(), now=0.0)
    context = device_context(stage.ready.ca_file, *files)
    fleet = Fleet([device], address=Address(host="localhost", port=stage.ready.mqtt_port), contexts=[context])
    task = asyncio.create_task(fleet.run())
    await until(lambda: fleet.traffic.last_problem)
    task.cancel()
    await asyncio.wait([task])
    assert fleet.traffic.last_problem == "the cloud refused the connection: NOT_AUTHORIZED"
    with pytest.raises(NetworkError, match="cannot be used"):
        device_context(stage.ready.ca_file, files[0], str(stage.folder / "none.key"))
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_more_devices_than_open_files_are_refused() -> None:
    with pytest.raises(NetworkError, match="open files") as caught:
        allow_open_files(10**9)
    assert caught.value.hint is not None

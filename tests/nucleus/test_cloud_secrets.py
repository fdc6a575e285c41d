"""Secrets of a whole nucleus from the embedded cloud's Secrets Manager, which boto3 fills."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import boto3
import pytest
from awsiot.greengrasscoreipc import connect, model
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

from monodon.cloud.cloud import Cloud, Ready
from monodon.core.configuration import EMPTY
from monodon.core.names import ComponentName
from monodon.core.plan import Installed
from monodon.core.semver import Version
from monodon.fleet.aws import Aws
from monodon.fleet.provisioning import cloud_endpoints, provision
from monodon.nucleus.nucleus import TOOL, Nucleus, running
from monodon.nucleus.uplink.client_devices import CloudRegistry
from monodon.nucleus.uplink.mqtt import MqttUplink

MANAGER = "aws.greengrass.SecretManager"
A = "com.example.A"
DEADLINE_S = 20.0

pytestmark = pytest.mark.slow


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mn"))
    yield folder
    shutil.rmtree(folder)


def provision_root(ready: Ready, root: Path) -> None:
    aws = Aws(endpoint_url=ready.endpoint, region=ready.region)
    endpoints = cloud_endpoints({name: getattr(ready, name) for name in ("https_endpoint", "mqtt_host", "mqtt_port")})
    list(provision(aws, thing="core-1", group="cores", root=root, root_ca=Path(ready.ca_file), endpoints=endpoints))


def secrets_manager(ready: Ready) -> Any:
    return boto3.client(
        "secretsmanager",
        endpoint_url=ready.endpoint,
        region_name=ready.region,
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )


def associate(ready: Ready, *things: str) -> None:
    """Make things, and client devices of the core device of them."""
    aws = Aws(endpoint_url=ready.endpoint, region=ready.region)
    for thing in things:
        aws.iot.create_thing(thingName=thing)
    aws.greengrass.batch_associate_client_device_with_core_device(
        coreDeviceThingName="core-1", entries=[{"thingName": thing} for thing in things]
    )


@asynccontextmanager
async def client(nucleus: Nucleus, name: str) -> AsyncIterator[Callable[..., Any]]:
    made = await asyncio.to_thread(connect, ipc_socket=str(nucleus.socket), authtoken=nucleus.tokens.of(name))
    sdk = GreengrassCoreIPCClientV2(client=made)

    async def call(operation: str, **fields: Any) -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.wrap_future(getattr(sdk, f"{operation}_async")(**fields))

    try:
        yield call
    finally:
        await asyncio.to_thread(sdk.close)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


def install(nucleus: Nucleus, arn: str) -> None:
    policy = {"p": {"operations": ["*"], "resources": [arn]}}
    configuration = EMPTY.merge((), {"accessControl": {MANAGER: policy}}, at_ms=1)
    nucleus.state.put_installed(
        Installed(name=ComponentName(A), version=Version.parse("1.0.0"), configuration=configuration)
    )


async def test_a_deployment_says_which_secrets_come_to_the_device(folder: Path) -> None:
    async with AsyncExitStack() as stack:
        async with AsyncExitStack() as online:
            ready = await online.enter_async_context(Cloud(folder / "cloud").running())
            await asyncio.to_thread(provision_root, ready, folder / "root")
            aws = online.enter_context(closing(secrets_manager(ready)))
            arn = (await asyncio.to_thread(aws.create_secret, Name="camera", SecretString="hunter2-one"))["ARN"]
            environment = {"AWS_ENDPOINT_URL": ready.endpoint}
            nucleus = await online.enter_async_context(running(folder / "root", environment=environment))
            tool = await online.enter_async_context(client(nucleus, TOOL))
            await until(lambda: nucleus.uplink.is_connected)
            await tool(
                "create_local_deployment",
                root_component_versions_to_add={MANAGER: "2.2.4"},
                component_to_configuration={MANAGER: {"MERGE": {"cloudSecrets": [{"arn": arn}]}}},
            )
            await until(lambda: any((folder / "root/secrets").glob("*.secret")))
            install(nucleus, arn)
            call = await online.enter_async_context(client(nucleus, A))
            assert (await call("get_secret_value", secret_id="camera")).secret_value.secret_string == "hunter2-one"
            await asyncio.to_thread(aws.put_secret_value, SecretId="camera", SecretString="hunter2-two")
            assert (await call("get_secret_value", secret_id="camera")).secret_value.secret_string == "hunter2-one"
            fresh = await call("get_secret_value", secret_id=arn, refresh=True)
            assert fresh.secret_value.secret_string == "hunter2-two"
            await asyncio.to_thread(aws.delete_secret, SecretId="camera", ForceDeleteWithoutRecovery=True)
            kept = await call("get_secret_value", secret_id=arn, refresh=True)
            assert kept.secret_value.secret_string == "hunter2-two"
        nucleus = await stack.enter_async_context(running(folder / "root", environment={}))
        call = await stack.enter_async_context(client(nucleus, A))
        assert (await call("get_secret_value", secret_id="camera")).secret_value.secret_string == "hunter2-two"
        with pytest.raises(model.ResourceNotFoundError):
            await call("get_secret_value", secret_id="camera", version_stage="AWSPREVIOUS")
    for path in (folder / "root").rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes(), path


async def test_requests_are_signed_with_the_devices_role(folder: Path) -> None:
    """A cloud that checks signatures gives secrets, and lists client devices."""
    async with AsyncExitStack() as stack:
        async with AsyncExitStack() as lenient:
            ready = await lenient.enter_async_context(Cloud(folder / "cloud").running())
            await asyncio.to_thread(provision_root, ready, folder / "root")
            aws = lenient.enter_context(closing(secrets_manager(ready)))
            arn = (await asyncio.to_thread(aws.create_secret, Name="a/b+c", SecretString="one"))["ARN"]
            await asyncio.to_thread(associate, ready, "lamp-1", "lamp-2", "lamp-3")
        port = int(ready.endpoint.rpartition(":")[2])
        cloud = Cloud(folder / "cloud", port=port, mqtt_port=ready.mqtt_port, strict=True)
        await stack.enter_async_context(cloud.running())
        environment = {"AWS_ENDPOINT_URL": ready.endpoint}
        nucleus = await stack.enter_async_context(running(folder / "root", environment=environment))
        await until(lambda: nucleus.uplink.is_connected)
        manager = Installed(
            name=ComponentName(MANAGER),
            version=Version.parse("2.2.4"),
            configuration=EMPTY.merge((), {"cloudSecrets": [{"arn": arn}]}, at_ms=1),
        )
        nucleus.state.put_installed(manager)
        assert await nucleus.cloud_secrets.refresh(arn, "AWSCURRENT")
        assert isinstance(nucleus.uplink, MqttUplink)
        registry = CloudRegistry(nucleus.uplink.data_plane, "core-1", page=1)
        assert await registry.associated() == {"lamp-1", "lamp-2", "lamp-3"}

"""Client devices of a whole nucleus, against the embedded cloud's registry, which boto3 fills."""

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
from cryptography import x509

from monodon.cloud.cloud import Cloud, Ready
from monodon.core.configuration import EMPTY
from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.plan import Installed
from monodon.core.semver import Version
from monodon.fleet.aws import Aws
from monodon.fleet.provisioning import cloud_endpoints, provision
from monodon.nucleus.nucleus import TOOL, Nucleus, running

AUTH = "aws.greengrass.clientdevices.Auth"
BROKER = "com.example.Broker"
CORE, LAMP = "core-1", "lamp-1"
DEADLINE_S = 20.0
CONFIGURATION: Json = {
    "deviceGroups": {
        "definitions": {"all": {"selectionRule": "thingName: *", "policyName": "connect"}},
        "policies": {"connect": {"s": {"operations": ["mqtt:connect"], "resources": ["*"]}}},
    },
    "certificateAuthority": {"caType": ["ECDSA_P256"]},
    "security": {"clientDeviceTrustDurationMinutes": 60},
}

pytestmark = pytest.mark.slow


class Account:
    """What boto3 does in the embedded cloud; its methods block."""

    def __init__(self, ready: Ready) -> None:
        options: dict[str, Any] = {
            "endpoint_url": ready.endpoint,
            "region_name": ready.region,
            "aws_access_key_id": "a",
            "aws_secret_access_key": "b",
        }
        self.ready = ready
        self.iot = boto3.client("iot", **options)
        self.greengrass = boto3.client("greengrassv2", **options)

    def close(self) -> None:
        self.iot.close()
        self.greengrass.close()

    def provision(self, root: Path) -> None:
        aws = Aws(endpoint_url=self.ready.endpoint, region=self.ready.region)
        ready = {name: getattr(self.ready, name) for name in ("https_endpoint", "mqtt_host", "mqtt_port")}
        list(
            provision(
                aws,
                thing=CORE,
                group="cores",
                root=root,
                root_ca=Path(self.ready.ca_file),
                endpoints=cloud_endpoints(ready),
            )
        )

    def add_client(self, thing: str) -> dict[str, Any]:
        """A thing with an active certificate."""
        self.iot.create_thing(thingName=thing)
        made: dict[str, Any] = self.iot.create_keys_and_certificate(setAsActive=True)
        self.iot.attach_thing_principal(thingName=thing, principal=made["certificateArn"])
        return made

    def associate(self, thing: str) -> None:
        self.greengrass.batch_associate_client_device_with_core_device(
            coreDeviceThingName=CORE, entries=[{"thingName": thing}]
        )

    def dissociate(self, thing: str) -> None:
        self.greengrass.batch_disassociate_client_device_from_core_device(
            coreDeviceThingName=CORE, entries=[{"thingName": thing}]
        )

    def deactivate(self, certificate: dict[str, Any]) -> None:
        self.iot.update_certificate(certificateId=certificate["certificateId"], newStatus="INACTIVE")

    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": self.ready.endpoint}


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mn"))
    yield folder
    shutil.rmtree(folder)


def install(nucleus: Nucleus, name: str, configuration: Json) -> None:
    nucleus.state.put_installed(
        Installed(
            name=ComponentName(name),
            version=Version.parse("2.5.4"),
            configuration=EMPTY.merge((), configuration, at_ms=1),
        )
    )


class Sdk:
    """A broker's client of awsiotsdk."""

    def __init__(self, client: GreengrassCoreIPCClientV2) -> None:
        self.client = client

    async def call(self, operation: str, /, **fields: Any) -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.wrap_future(getattr(self.client, f"{operation}_async")(**fields))

    async def verify(self, certificate: dict[str, Any]) -> bool:
        credential = model.ClientDeviceCredential(client_device_certificate=certificate["certificatePem"])
        answer = await self.call("verify_client_device_identity", credential=credential)
        return bool(answer.is_valid_client_device)

    async def token(self, client_id: str, certificate: dict[str, Any]) -> str:
        mqtt = model.MQTTCredential(client_id=client_id, certificate_pem=certificate["certificatePem"])
        credential = model.CredentialDocument(mqtt_credential=mqtt)
        return str((await self.call("get_client_device_auth_token", credential=credential)).client_device_auth_token)


@asynccontextmanager
async def client(nucleus: Nucleus, name: str) -> AsyncIterator[Sdk]:
    made = await asyncio.to_thread(connect, ipc_socket=str(nucleus.socket), authtoken=nucleus.tokens.of(name))
    sdk = GreengrassCoreIPCClientV2(client=made)
    try:
        yield Sdk(sdk)
    finally:
        await asyncio.to_thread(sdk.close)


@asynccontextmanager
async def driven(nucleus: Nucleus) -> AsyncIterator[Sdk]:
    """The client of a broker that may ask everything, where the component is deployed."""
    install(nucleus, AUTH, CONFIGURATION)
    install(nucleus, BROKER, {"accessControl": {AUTH: {"p": {"operations": ["*"], "resources": ["*"]}}}})
    async with client(nucleus, BROKER) as sdk:
        yield sdk


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_the_clouds_registry_says_who_is_a_client_device(folder: Path) -> None:
    async with AsyncExitStack() as stack:
        ready = await stack.enter_async_context(Cloud(folder / "cloud").running())
        account = stack.enter_context(closing(Account(ready)))
        await asyncio.to_thread(account.provision, folder / "root")
        lamp, door, unknown = [await asyncio.to_thread(account.add_client, name) for name in (LAMP, "door", "x")]
        await asyncio.to_thread(account.associate, LAMP)
        await asyncio.to_thread(account.associate, "x")
        await asyncio.to_thread(account.deactivate, unknown)
        nucleus = await stack.enter_async_context(running(folder / "root", environment=account.environment()))
        sdk = await stack.enter_async_context(driven(nucleus))
        await until(lambda: nucleus.uplink.is_connected)

        assert await sdk.verify(lamp)
        assert await sdk.verify(door)
        assert not await sdk.verify(unknown)
        token = await sdk.token(LAMP, lamp)
        for operation, is_allowed in (("mqtt:connect", True), ("mqtt:publish", False)):
            answer = await sdk.call(
                "authorize_client_device_action",
                client_device_auth_token=token,
                operation=operation,
                resource=f"mqtt:clientId:{LAMP}",
            )
            assert answer.is_authorized is is_allowed
        for client_id, certificate in (("door", door), ("door", lamp), (LAMP, door), ("x", unknown)):
            with pytest.raises(model.InvalidCredentialError):
                await sdk.token(client_id, certificate)

        await asyncio.to_thread(account.dissociate, LAMP)
        with pytest.raises(model.InvalidCredentialError):
            await sdk.token(LAMP, lamp)
        await asyncio.to_thread(account.deactivate, lamp)
        assert not await sdk.verify(lamp)


async def test_the_registry_is_listed_with_the_devices_role(folder: Path) -> None:
    """And known devices outlive a restart without the cloud."""
    async with AsyncExitStack() as stack:
        async with AsyncExitStack() as online:
            ready = await online.enter_async_context(Cloud(folder / "cloud").running())
            account = online.enter_context(closing(Account(ready)))
            await asyncio.to_thread(account.provision, folder / "root")
            lamp = await asyncio.to_thread(account.add_client, LAMP)
            gone = await asyncio.to_thread(account.add_client, "door")
            for thing in (LAMP, "door"):
                await asyncio.to_thread(account.associate, thing)
            nucleus = await online.enter_async_context(running(folder / "root", environment=account.environment()))
            sdk = await online.enter_async_context(driven(nucleus))
            await until(lambda: nucleus.uplink.is_connected)
            for thing, each in ((LAMP, lamp), ("door", gone)):
                assert await sdk.verify(each)
                assert await sdk.token(thing, each)
            await asyncio.to_thread(account.dissociate, "door")
            assert await nucleus.client_devices.refresh()
        nucleus = await stack.enter_async_context(running(folder / "root", environment={}))
        sdk = await stack.enter_async_context(driven(nucleus))
        assert await sdk.verify(lamp)
        assert await sdk.token(LAMP, lamp)
        assert not await sdk.verify(gone)


async def test_the_addresses_of_the_core_device_are_in_server_certificates(folder: Path) -> None:
    async with AsyncExitStack() as stack:
        ready = await stack.enter_async_context(Cloud(folder / "cloud").running())
        account = stack.enter_context(closing(Account(ready)))
        await asyncio.to_thread(account.provision, folder / "root")
        info = [{"id": "lan", "hostAddress": "192.0.2.9", "portNumber": 8883, "metadata": ""}]
        await asyncio.to_thread(account.greengrass.update_connectivity_info, thingName=CORE, connectivityInfo=info)
        nucleus = await stack.enter_async_context(running(folder / "root", environment=account.environment()))
        sdk = await stack.enter_async_context(driven(nucleus))
        received: asyncio.Queue[Any] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        _, stream = await asyncio.to_thread(
            sdk.client.subscribe_to_certificate_updates,
            certificate_options=model.CertificateOptions(certificate_type="SERVER"),
            on_stream_event=lambda event: loop.call_soon_threadsafe(received.put_nowait, event),
        )
        async with asyncio.timeout(DEADLINE_S):
            names: list[str] = []
            while names != ["192.0.2.9"]:
                nucleus.client_devices.wake()
                update = (await received.get()).certificate_update
                certificate = x509.load_pem_x509_certificate(update.certificate.encode())
                san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
                names = [str(address) for address in san.get_values_for_type(x509.IPAddress)]
        await asyncio.wrap_future(stream.close())


async def test_the_operations_are_offered_while_the_component_is_deployed(folder: Path) -> None:
    async with running(folder / "root") as nucleus, client(nucleus, TOOL) as tool:
        with pytest.raises(model.ServiceError):
            await tool.call("authorize_client_device_action")
        await tool.call(
            "create_local_deployment",
            root_component_versions_to_add={AUTH: "2.5.4"},
            component_to_configuration={AUTH: {"MERGE": CONFIGURATION}},
        )
        await until(lambda: ComponentName(AUTH) in nucleus.state.installed)
        with pytest.raises(model.InvalidArgumentsError):
            await tool.call("authorize_client_device_action")
        await tool.call("create_local_deployment", root_components_to_remove=[AUTH])
        await until(lambda: ComponentName(AUTH) not in nucleus.state.installed)
        with pytest.raises(model.ServiceError):
            await tool.call("authorize_client_device_action")


async def test_without_a_cloud_there_is_an_error_and_a_certificate(folder: Path) -> None:
    """Brokers of a device without a cloud serve its own components: those alone can be verified."""
    async with running(folder / "root") as nucleus, driven(nucleus) as sdk:
        nobody = {"certificatePem": self_signed()}
        with pytest.raises(model.ServiceError) as refused:
            await sdk.verify(nobody)
        assert "has no cloud" in refused.value.message
        with pytest.raises(model.InvalidCredentialError):
            await sdk.token(LAMP, nobody)
        received: asyncio.Queue[Any] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        _, stream = await asyncio.to_thread(
            sdk.client.subscribe_to_certificate_updates,
            certificate_options=model.CertificateOptions(certificate_type="SERVER"),
            on_stream_event=lambda event: loop.call_soon_threadsafe(received.put_nowait, event),
        )
        async with asyncio.timeout(DEADLINE_S):
            update = (await received.get()).certificate_update
        assert await sdk.verify({"certificatePem": update.certificate})
        await asyncio.wrap_future(stream.close())


def self_signed() -> str:
    from monodon.cloud.certificates import CertificateAuthority

    with tempfile.TemporaryDirectory() as place:
        return CertificateAuthority.open(Path(place)).issue("x").certificate_pem

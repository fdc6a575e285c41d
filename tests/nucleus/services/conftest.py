"""A server with the nucleus's services over real state, and awsiotsdk's own client to drive it."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from awsiot import greengrasscoreipc
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

from monodon.core.configuration import EMPTY
from monodon.core.deployment import Deployment, Status
from monodon.core.json import Json
from monodon.core.lifecycle import State
from monodon.core.names import ComponentName
from monodon.core.plan import Installed
from monodon.core.semver import Version
from monodon.core.shadow_sync import RateLimits
from monodon.errors import NetworkError
from monodon.ipc.server import IpcServer
from monodon.nucleus.changes import ComponentStatus
from monodon.nucleus.client_device_settings import AuthConfiguration
from monodon.nucleus.client_devices import ClientDevices
from monodon.nucleus.cloud_secrets import CloudSecrets, FetchedSecret, SecretConfiguration
from monodon.nucleus.hooks import Progress
from monodon.nucleus.journal import Journal
from monodon.nucleus.policies import Policies
from monodon.nucleus.secrets import Secrets
from monodon.nucleus.server_certificates import ServerCertificates
from monodon.nucleus.services.authorization import authorization_service
from monodon.nucleus.services.client_devices import client_device_service
from monodon.nucleus.services.components import components_service
from monodon.nucleus.services.configuration import Validation, configuration_service
from monodon.nucleus.services.debug_password import DebugPasswords, debug_password_service
from monodon.nucleus.services.deployments import deployments_service
from monodon.nucleus.services.lifecycle import ComponentUpdates, lifecycle_service
from monodon.nucleus.services.metrics import ComponentMetrics, metric_service
from monodon.nucleus.services.mqtt import mqtt_service
from monodon.nucleus.services.pubsub import Bus, pubsub_service
from monodon.nucleus.services.secrets import secret_service
from monodon.nucleus.services.shadows import Rates, shadow_service
from monodon.nucleus.shadows import Records, Shadows
from monodon.nucleus.state import DeviceState
from monodon.nucleus.told_shadows import ToldShadows
from monodon.nucleus.uplink.offline import OfflineUplink

A = "com.example.A"
EVERYTHING = {
    service: {"all": {"operations": ["*"], "resources": ["*"]}}
    for service in (
        "aws.greengrass.ipc.pubsub",
        "aws.greengrass.ipc.mqttproxy",
        "aws.greengrass.ipc.lifecycle",
        "aws.greengrass.ShadowManager",
    )
}


class Supervision:
    """Components that only write down what is asked of them."""

    def __init__(self) -> None:
        self.states: dict[ComponentName, ComponentStatus] = {}
        self.asked: list[tuple[str, ...]] = []
        self.paused: set[str] = set()

    def statuses(self) -> Mapping[ComponentName, ComponentStatus]:
        return self.states

    def report(self, name: ComponentName, state: State) -> bool:
        self.asked.append(("report", name, state))
        return True

    def pause(self, name: ComponentName) -> bool:
        self.asked.append(("pause", name))
        return name not in self.paused and not self.paused.add(name)  # type: ignore[func-returns-value]

    def resume(self, name: ComponentName) -> bool:
        self.asked.append(("resume", name))
        return name in self.paused and not self.paused.remove(name)  # type: ignore[func-returns-value]

    def restart(self, name: ComponentName) -> None:
        self.asked.append(("restart", name))

    def reinstall(self, name: ComponentName) -> None:
        self.asked.append(("reinstall", name))

    def stop(self, name: ComponentName) -> None:
        self.asked.append(("stop", name))


class Registry:
    """A cloud's registry of client devices, that can go away; and the network to it."""

    def __init__(self) -> None:
        self.active: set[str] = set()
        self.attached: set[tuple[str, str]] = set()
        self.clients: set[str] = set()
        self.addresses: tuple[str, ...] = ()
        self.is_connected = True
        self.is_answering = True
        self.asked: list[str] = []
        self._watchers: list[Callable[[bool], None]] = []

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if not self.is_answering:
            raise NetworkError("the cloud is away")

    async def is_active(self, certificate_pem: str) -> bool:
        self._ask("active")
        return certificate_pem in self.active

    async def is_attached(self, thing: str, certificate_id: str) -> bool:
        self._ask("attached")
        return (thing, certificate_id) in self.attached

    async def hosts(self) -> tuple[str, ...]:
        self._ask("hosts")
        return self.addresses

    async def associated(self) -> frozenset[str]:
        self._ask("associated")
        return frozenset(self.clients)

    def watch_connection(self, notify: Callable[[bool], None]) -> Callable[[], None]:
        self._watchers.append(notify)
        return lambda: self._watchers.remove(notify)


class SecretSource:
    """A cloud's secrets by ARN and label."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], FetchedSecret] = {}
        self.is_connected = True
        self.asked: list[tuple[str, str]] = []

    def put(self, arn: str, label: str, version_id: str, value: str | bytes, *others: str) -> None:
        name = arn.partition(":secret:")[2][:-7]
        self.secrets[arn, label] = FetchedSecret(
            name=name, arn=arn, version_id=version_id, labels=(label, *others), value=value
        )

    async def fetch(self, arn: str, label: str) -> FetchedSecret:
        self.asked.append((arn, label))
        found = next((each for (of, at), each in self.secrets.items() if of.startswith(arn) and at == label), None)
        if found is None:
            raise NetworkError("there is none, or no cloud")
        return found

    def watch_connection(self, notify: Callable[[bool], None]) -> Callable[[], None]:
        return lambda: None


class Deployments:
    """A queue of deployments that never moves by itself."""

    def __init__(self) -> None:
        self.known: dict[str, Progress] = {}
        self.can_cancel = True

    def submit(self, deployment: Deployment) -> bool:
        self.known[deployment.deployment_id] = Progress(deployment=deployment, status=Status.QUEUED, created_ms=0)
        return True

    def cancel(self, deployment_id: str) -> bool:
        return self.can_cancel

    def progress(self, deployment_id: str) -> Progress | None:
        return self.known.get(deployment_id)

    def deployments(self) -> tuple[Progress, ...]:
        return tuple(self.known.values())


@dataclass
class Device:
    """The parts of a nucleus that IPC services meet, and its clients."""

    folder: Path
    socket: Path
    state: DeviceState
    supervision: Supervision = field(default_factory=Supervision)
    queue: Deployments = field(default_factory=Deployments)
    uplink: OfflineUplink = field(default_factory=OfflineUplink)
    bus: Bus = field(default_factory=Bus)
    validation: Validation = field(default_factory=Validation)
    updates: ComponentUpdates = field(default_factory=ComponentUpdates)
    metrics: ComponentMetrics = field(default_factory=ComponentMetrics)
    registry: Registry = field(default_factory=Registry)
    secret_source: SecretSource = field(default_factory=SecretSource)
    now_ms: int = 1_000_000
    clock_s: float = 0.0
    rate_limits: RateLimits = field(default_factory=RateLimits)
    clients: list[GreengrassCoreIPCClientV2] = field(default_factory=list)
    devices: ClientDevices = field(init=False)

    def __post_init__(self) -> None:
        self.debug_passwords = DebugPasswords(lambda: self.now_ms / 1000, lambda: self.now_ms / 1000)
        self.cloud_secrets = CloudSecrets(
            self.secrets,
            source=self.secret_source,
            network=self.secret_source,
            settings=SecretConfiguration(self.state).settings,
        )
        self.auth = AuthConfiguration(self.state)
        self.certificates = ServerCertificates(
            self.folder / "work", settings=self.auth.settings, now_s=lambda: self.now_ms / 1000
        )

    def client_devices(self, records: Records) -> ClientDevices:
        return ClientDevices(
            records=records,
            cloud=self.registry,
            network=self.registry,
            settings=self.auth.settings,
            certificates=self.certificates,
            now_s=lambda: self.now_ms / 1000,
        )

    @property
    def secrets(self) -> Secrets:
        return Secrets(self.folder / "secrets")

    def install(self, name: str, configuration: Mapping[str, Json] | None = None, *, at_ms: int = 1000) -> None:
        installed = Installed(
            name=ComponentName(name),
            version=Version.parse("1.2.3"),
            configuration=EMPTY.merge((), configuration or {}, at_ms=at_ms),
        )
        self.state.put_installed(installed)
        self.supervision.states[installed.name] = ComponentStatus(state=State.RUNNING)

    def value(self, name: str) -> dict[str, Json]:
        configuration = self.state.configuration(ComponentName(name))
        assert configuration is not None
        return {key: value for key, value in configuration.value().items() if key != "accessControl"}

    async def client(self, name: str) -> "Client":
        """A client of awsiotsdk, unmodified; the token is the component's name."""
        client = await asyncio.to_thread(greengrasscoreipc.connect, ipc_socket=str(self.socket), authtoken=name)
        self.clients.append(GreengrassCoreIPCClientV2(client=client, executor=ThreadPoolExecutor(1)))
        return Client(self.clients[-1])


class Client:
    """awsiotsdk's client, awaited."""

    def __init__(self, sdk: GreengrassCoreIPCClientV2) -> None:
        self.sdk = sdk

    async def call(self, operation: str, /, **fields: Any) -> Any:
        future: Future[Any] = getattr(self.sdk, f"{operation}_async")(**fields)
        async with asyncio.timeout(5):
            return await asyncio.wrap_future(future)

    async def stream(self, operation: str, /, **fields: Any) -> "Events":
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Any] = asyncio.Queue()

        def receive(event: Any) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(queue.put_nowait, event)

        async with asyncio.timeout(5):
            response, handle = await asyncio.to_thread(getattr(self.sdk, operation), on_stream_event=receive, **fields)
        return Events(response, handle, queue)


class Events:
    """The events of one subscription."""

    def __init__(self, response: Any, handle: Any, queue: asyncio.Queue[Any]) -> None:
        self.response = response
        self._handle = handle
        self._queue = queue

    async def next(self) -> Any:
        async with asyncio.timeout(5):
            return await self._queue.get()

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    async def close(self) -> None:
        async with asyncio.timeout(5):
            await asyncio.wrap_future(self._handle.close())


@pytest.fixture
def short_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mn"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def device(short_folder: Path) -> AsyncIterator[Device]:
    """A device with the components A and B, which may do everything, and C, which may do nothing."""
    with contextlib.closing(Journal.open(short_folder / "journal")) as journal:
        state = DeviceState(journal)
        device = Device(folder=short_folder, socket=short_folder / "ipc.socket", state=state)
        for name in ("com.example.A", "com.example.B"):
            device.install(name, {"accessControl": EVERYTHING})
        device.install("com.example.C")
        store = short_folder / "packages"
        store.mkdir()
        device.devices = device.client_devices(journal)
        server = IpcServer(
            authenticate=lambda token: token,
            authorise=Policies(state).allows,
            services=(
                pubsub_service(device.bus),
                mqtt_service(device.uplink),
                configuration_service(state, device.validation, now_ms=lambda: device.now_ms),
                lifecycle_service(device.supervision, device.updates),
                components_service(state, device.supervision),
                deployments_service(device.queue, store),
                shadow_service(
                    ToldShadows(Shadows(journal), device.bus, lambda: device.now_ms // 1000),
                    Rates(lambda: device.clock_s, lambda: device.rate_limits),
                ),
                secret_service(device.secrets, device.cloud_secrets),
                metric_service(device.metrics),
                authorization_service({"good": A}.get),
                debug_password_service(device.debug_passwords),
                client_device_service(device.devices, device.certificates, device.auth.is_deployed),
            ),
        )
        async with server.listen(device.socket):
            yield device
            for client in device.clients:
                await asyncio.to_thread(client.close)


@pytest.fixture
def until() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """Waits, five seconds at most, for something to be so."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.005)

    return wait

"""The nucleus of one device: builds the parts, gives each what it needs, and runs them until it is told to stop.

::

    cloud ── uplink ── deployer ── supervisor ── components
               │           │            │             │
               │         store       journal        (IPC)
               └── health ─┴── state ───┘             │
               └──────────────────────── services ────┘

Entering starts from the left of this list, leaving goes back through it: lock, logs, journal, uplink, credential
endpoint, IPC server, supervisor, tasks. So components stop while IPC is still open, and the uplink leaves last.
"""

import asyncio
import logging
import os
import platform
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from monodon import __version__
from monodon.core.deployment import Status
from monodon.core.json import Json
from monodon.core.lifecycle import State
from monodon.core.names import ComponentName
from monodon.core.plan import Target
from monodon.core.policy import CLIENT_DEVICES
from monodon.core.recipe.platform import platform_of
from monodon.core.shadow import DEFAULT_LIMIT_BYTES
from monodon.core.shadow_sync import RateLimits, SyncSettings
from monodon.ipc.server import IpcServer
from monodon.nucleus.artifacts import MAX_STORE_BYTES
from monodon.nucleus.changes import Changes, ComponentStatus
from monodon.nucleus.client_device_settings import AuthConfiguration
from monodon.nucleus.client_devices import ClientDevices, Registry
from monodon.nucleus.cloud_secrets import CloudSecrets, SecretConfiguration, SecretSource
from monodon.nucleus.deployer import Deployer, Hooks, Progress
from monodon.nucleus.health import Health
from monodon.nucleus.identity import CONFIG_FILE, Identity, load_identity, with_deployed
from monodon.nucleus.journal import JOURNAL_FOLDER, Journal
from monodon.nucleus.logs import Logs, LogSettings
from monodon.nucleus.policies import Policies
from monodon.nucleus.provisioned import remember
from monodon.nucleus.root import announced, claimed, socket_path, tool_credentials, writable
from monodon.nucleus.secrets import SECRETS_FOLDER, Secrets
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
from monodon.nucleus.services.token_exchange import TokenExchange
from monodon.nucleus.settings import Configurations, Platform, Settings
from monodon.nucleus.shadow_sync import SHADOW_MANAGER, ShadowSync
from monodon.nucleus.shadows import Shadows
from monodon.nucleus.state import DeviceState
from monodon.nucleus.store import Store
from monodon.nucleus.supervisor import Supervisor
from monodon.nucleus.tokens import Tokens
from monodon.nucleus.told_shadows import ToldShadows
from monodon.nucleus.uplink.offline import OfflineUplink
from monodon.nucleus.uplink.protocol import Uplink

log = logging.getLogger(__name__)

LOGS_FOLDER = "logs"
CANCEL_AGAIN_S = 2.0
#: Source: developer guide, shadow manager component, ``shadowDocumentSizeLimitBytes``.
MAX_SHADOW_BYTES = 30 * 1024
#: Who the user's own tools are over IPC.
TOOL = f"greengrass-cli#user-{os.getuid()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudServices:
    """What is asked of a cloud besides what an uplink does; None where there is no cloud."""

    registry: Registry | None = None
    secrets: SecretSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nucleus:
    """The parts of a nucleus; ``ready`` is what ``ready.json`` says."""

    root: Path
    identity: Identity
    socket: Path
    tokens: Tokens
    state: DeviceState
    store: Store
    supervisor: Supervisor
    deployer: Deployer
    uplink: Uplink
    health: Health
    shadows: ToldShadows
    shadow_sync: ShadowSync
    client_devices: ClientDevices
    certificates: ServerCertificates
    cloud_secrets: CloudSecrets
    server: IpcServer

    @property
    def ready(self) -> Mapping[str, Json]:
        """What others need to know to find this nucleus."""
        cloud = self.identity.cloud
        return {
            "pid": os.getpid(),
            "version": __version__,
            "nucleus_version": self.identity.version,
            "thing": self.identity.thing,
            "ipc_socket": str(self.socket),
            "root": str(self.root),
            "mqtt": None if cloud is None else f"{cloud.data_endpoint}:{cloud.mqtt.port}",
        }


@asynccontextmanager
async def running(
    root: Path,
    *,
    init_config: Path | None = None,
    thing: str | None = None,
    environment: Mapping[str, str] = os.environ,
    restart: Callable[[int], None] | None = None,
    now_s: Callable[[], float] = time.time,
) -> AsyncIterator[Nucleus]:
    """Run the nucleus of ``root`` for as long as the block lasts. Needs the main thread's loop.

    Args:
        restart: told when a deployment needs the nucleus (100) or the device (101) restarted: leave the block, and run
            it again. Without it such deployments go on in this process, as well as that can be.
        now_s: the device's clock, in seconds since 1970. It may jump; what takes a while is measured by another one.

    Raises:
        StateError: the root is in use, damaged or cannot be written.
        ConfigurationError: config.yaml lacks something, or a certificate cannot be used.
    """
    async with AsyncExitStack() as stack:
        root = stack.enter_context(claimed(root))
        identity = load_identity(root, init_config=init_config, thing=thing)
        with writable(root):
            nucleus = await _opened(root, identity, environment, restart, now_s, stack)
        log.info("nucleus of %s is ready", identity.thing)
        nucleus.uplink.connect()
        yield nucleus
        log.info("nucleus of %s stops", identity.thing)


async def _opened(
    root: Path,
    identity: Identity,
    environment: Mapping[str, str],
    restart: Callable[[int], None] | None,
    now_s: Callable[[], float],
    stack: AsyncExitStack,
) -> Nucleus:
    """A nucleus at work; the stack undoes it."""
    journal = Journal.open(root / JOURNAL_FOLDER)
    stack.callback(journal.close)
    remember(journal, identity, is_configured=(root / CONFIG_FILE).exists())
    state = DeviceState(journal)
    settings = Settings(identity.settings, state)
    logs = _open_logs(root, settings, now_s, stack)
    identity = with_deployed(identity, settings.configuration.value())
    log.info("nucleus %s of %s starts in %s (process %d)", identity.version, identity.thing, root, os.getpid())
    uplink, services = await _enter_uplink(identity, journal, environment, stack)
    tokens = Tokens()
    credentials_uri = await _serve_credentials(identity, tokens, uplink, stack)
    socket = stack.enter_context(socket_path(root, identity.ipc_socket, environment))
    nucleus = _built(
        root=root,
        identity=identity,
        socket=socket,
        tokens=tokens,
        journal=journal,
        state=state,
        settings=settings,
        logs=logs,
        uplink=uplink,
        cloud=services,
        restart=restart,
        now_s=now_s,
        environment={**environment, **_component_environment(identity, socket, credentials_uri, settings)},
    )
    await _start(nucleus, stack)
    return nucleus


def _built(
    *,
    root: Path,
    identity: Identity,
    socket: Path,
    tokens: Tokens,
    journal: Journal,
    state: DeviceState,
    settings: Settings,
    logs: Logs,
    uplink: Uplink,
    cloud: CloudServices,
    restart: Callable[[int], None] | None,
    now_s: Callable[[], float],
    environment: Mapping[str, str],
) -> Nucleus:
    """The parts that nothing has to be opened for, each with what it needs."""
    attributes = Platform(platform_of(platform.system(), platform.machine()), settings)
    supervisor = Supervisor(
        root=root,
        environment=lambda installed: {**environment, **_tokens(tokens.of(installed.name))},
        logs=logs,
        default_user=settings.text("runWithDefault", "posixUser"),
        shell=settings.text("runWithDefault", "posixShell") or "sh",
        default_limits=lambda: settings.limits,
    )
    health = Health(
        identity=identity,
        device=DeviceView(state, supervisor),
        uplink=uplink,
        platform=attributes,
        cadence_s=settings.whole(0, "fleetStatus", "periodicStatusPublishIntervalSeconds"),
    )
    updates, validation = ComponentUpdates(), Validation()
    store = Store(root, max_bytes=settings.whole(MAX_STORE_BYTES, "componentStoreMaxSizeBytes"))

    def now_ms() -> int:
        return int(now_s() * 1000)

    async def report(progress: Progress) -> None:
        logs.configure(settings.logging)
        _set_level(settings.logging)
        shadow_sync.reconfigure()
        certificates.reconfigure()
        client_devices.wake()
        cloud_secrets.reconfigure()
        await _tell(health, progress)

    deployer = Deployer(
        state=state,
        store=store,
        supervisor=supervisor,
        uplink=uplink,
        platform=attributes,
        thing=identity.thing,
        root=root,
        report=report,
        hooks=Hooks(
            ask_update=updates.ask, awaited=updates.awaited, updated=updates.done, validate=validation.ask
        ),
        restart=restart,
        now_ms=now_ms,
        timeout_s=lambda: settings.whole(0, "deploymentTimeoutSeconds") or None,
        region=identity.region or None,
    )
    bus = Bus()
    manager = ShadowManager(state, identity.thing)
    shadows = ToldShadows(Shadows(journal, limit_bytes=manager.limit_bytes), bus)
    shadow_sync = ShadowSync(shadows=shadows, records=journal, uplink=uplink, settings=manager.sync_settings)
    auth = AuthConfiguration(state)
    certificates = ServerCertificates(root / "work" / CLIENT_DEVICES, settings=auth.settings)
    client_devices = ClientDevices(
        records=journal,
        cloud=cloud.registry,
        network=uplink,
        settings=auth.settings,
        certificates=certificates,
        is_wanted=auth.is_deployed,
    )
    secrets = Secrets(root / SECRETS_FOLDER)
    cloud_secrets = CloudSecrets(
        secrets, source=cloud.secrets, network=uplink, settings=SecretConfiguration(state).settings
    )
    services = (
        pubsub_service(bus),
        mqtt_service(uplink),
        configuration_service(Configurations(settings, state), validation, now_ms),
        lifecycle_service(supervisor, updates),
        components_service(state, supervisor),
        deployments_service(deployer, root / "packages", lambda: state.after_deployments_ms(now_ms())),
        shadow_service(shadows, Rates(limits=manager.rate_limits)),
        secret_service(secrets, cloud_secrets),
        metric_service(ComponentMetrics()),
        authorization_service(tokens.owner),
        debug_password_service(DebugPasswords()),
        client_device_service(client_devices, certificates, auth.is_deployed),
    )
    return Nucleus(
        root=root,
        identity=identity,
        socket=socket,
        tokens=tokens,
        state=state,
        store=store,
        supervisor=supervisor,
        deployer=deployer,
        uplink=uplink,
        health=health,
        shadows=shadows,
        shadow_sync=shadow_sync,
        client_devices=client_devices,
        certificates=certificates,
        cloud_secrets=cloud_secrets,
        server=IpcServer(authenticate=tokens.owner, authorise=Policies(state).allows, services=services),
    )


async def _start(nucleus: Nucleus, stack: AsyncExitStack) -> None:
    """Open IPC, then the supervisor, then set everything to work; the stack undoes it the other way round."""
    mode = 0o666 if os.geteuid() == 0 else 0o600
    await stack.enter_async_context(nucleus.server.listen(nucleus.socket, mode=mode))
    stack.enter_context(tool_credentials(nucleus.root, nucleus.tokens.of(TOOL), nucleus.socket))
    await stack.enter_async_context(nucleus.supervisor)
    changes = await stack.enter_async_context(nucleus.supervisor.changes())
    tasks = await stack.enter_async_context(asyncio.TaskGroup())
    running = {
        tasks.create_task(nucleus.deployer.run(), name="deployer"),
        tasks.create_task(nucleus.deployer.follow(nucleus.uplink.deployments()), name="arrivals"),
        tasks.create_task(nucleus.health.run(), name="health"),
        tasks.create_task(nucleus.shadow_sync.run(), name="shadow-sync"),
        tasks.create_task(nucleus.client_devices.run(), name="client-devices"),
        tasks.create_task(nucleus.certificates.run(), name="server-certificates"),
        tasks.create_task(nucleus.cloud_secrets.run(), name="cloud-secrets"),
        tasks.create_task(_follow(changes, nucleus.health, nucleus.tokens), name="changes"),
    }
    stack.push_async_callback(_end, running)
    stack.enter_context(announced(nucleus.root, nucleus.ready))


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks until all have ended: one that was just failing may have missed the first time."""
    pending = tasks
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)


class DeviceView:
    """The device as status messages describe it."""

    def __init__(self, state: DeviceState, supervisor: Supervisor) -> None:
        self._state = state
        self._supervisor = supervisor

    @property
    def installed(self) -> Target:
        """All components of the device."""
        return self._state.installed

    def statuses(self) -> Mapping[ComponentName, ComponentStatus]:
        """How each component is."""
        return self._supervisor.statuses()

    def configuration_arns(self) -> Mapping[str, tuple[ComponentName, ...]]:
        """The configuration ARN of each target that was deployed from the cloud, with the target's roots."""
        found = {}
        for target, roots in self._state.targets().items():
            last = self._state.last_deployment(target)
            if last is not None and last["arn"]:
                found[str(last["arn"])] = tuple(roots)
        return found

    def next_sequence(self) -> int:
        """A number higher than any before, also after restarts."""
        return self._state.next_sequence()


class ShadowManager:
    """What the configuration of aws.greengrass.ShadowManager says at the moment; without it nothing is synchronised."""

    def __init__(self, state: DeviceState, thing: str) -> None:
        self._state, self._thing = state, thing

    def _value(self) -> Mapping[str, Json]:
        configuration = self._state.configuration(ComponentName(SHADOW_MANAGER))
        return {} if configuration is None else configuration.value()

    def sync_settings(self) -> SyncSettings:
        """Which shadows are synchronised, and how."""
        return SyncSettings.read(self._value(), self._thing)

    def rate_limits(self) -> RateLimits:
        """How many requests are taken from components."""
        return RateLimits.read(self._value())

    def limit_bytes(self) -> int:
        """How large a shadow document may be."""
        limit = self._value().get("shadowDocumentSizeLimitBytes")
        return limit if type(limit) is int and 0 < limit <= MAX_SHADOW_BYTES else DEFAULT_LIMIT_BYTES


async def _tell(health: Health, progress: Progress) -> None:
    if progress.status is Status.IN_PROGRESS:
        health.deployment_started()
    elif progress.outcome is not None:
        health.deployment_ended(progress.deployment, progress.outcome, progress.unchanged_roots)


async def _follow(changes: Changes, health: Health, tokens: Tokens) -> None:
    async for change in changes:
        health.component_changed(change.name)
        if change.after is State.UNINSTALLED:
            tokens.forget(change.name)


async def _enter_uplink(
    identity: Identity, journal: Journal, environment: Mapping[str, str], stack: AsyncExitStack
) -> tuple[Uplink, CloudServices]:
    """The way to the cloud, and what else is asked of it."""
    if identity.cloud is None:
        return OfflineUplink(), CloudServices()
    from monodon.nucleus.uplink.client_devices import CloudRegistry
    from monodon.nucleus.uplink.mqtt import MqttUplink
    from monodon.nucleus.uplink.secrets import SecretsManager

    uplink = MqttUplink(identity=identity, cloud=identity.cloud, records=journal, environment=environment)
    services = CloudServices(
        registry=CloudRegistry(uplink.data_plane, identity.thing), secrets=SecretsManager(uplink.data_plane)
    )
    return await stack.enter_async_context(uplink), services


async def _serve_credentials(identity: Identity, tokens: Tokens, uplink: Uplink, stack: AsyncExitStack) -> str | None:
    if identity.cloud is None or identity.cloud.role_alias is None:
        return None
    exchange = TokenExchange(authenticate=tokens.owner, credentials=uplink.credentials)
    return await stack.enter_async_context(exchange.serving())


def _component_environment(
    identity: Identity, socket: Path, credentials_uri: str | None, settings: Settings
) -> dict[str, str]:
    """What every component finds in its environment beside its token. Source: our IPC notes, section 1."""
    cloud = identity.cloud
    is_fips = "true" if str(settings.get("fipsMode")).lower() == "true" else "false"
    variables = {
        **({} if cloud is None or cloud.proxy is None else cloud.proxy.environment()),
        "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": str(socket),
        "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH": str(socket),
        "AWS_IOT_THING_NAME": identity.thing,
        "AWS_USE_FIPS_ENDPOINT": is_fips,
        "AWS_GG_FIPS_MODE": is_fips,
        "GGC_VERSION": identity.version,
        "GG_ROOT_CA_PATH": "" if cloud is None else str(cloud.root_ca),
    }
    if identity.region:
        variables |= {"AWS_REGION": identity.region, "AWS_DEFAULT_REGION": identity.region}
    if credentials_uri is not None:
        variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = credentials_uri
    return variables


def _tokens(token: str) -> dict[str, str]:
    return {"SVCUID": token, "AWS_CONTAINER_AUTHORIZATION_TOKEN": token}


def _open_logs(root: Path, settings: Settings, now_s: Callable[[], float], stack: AsyncExitStack) -> Logs:
    read = settings.logging
    logs = Logs(root / LOGS_FOLDER, read, now_s)
    stack.callback(logs.close)
    handler, logger = logs.handler(), logging.getLogger("monodon")
    before = logger.level
    stack.callback(logger.setLevel, before)
    for each in (logger, logging.getLogger("asyncio")):
        each.addHandler(handler)
        stack.callback(each.removeHandler, handler)
    _set_level(read)
    return logs


def _set_level(settings: LogSettings) -> None:
    """Let the nucleus's own loggers say no less than its logs keep."""
    level = {"TRACE": 5, "WARN": logging.WARNING}.get(settings.level) or logging.getLevelName(settings.level)
    logging.getLogger("monodon").setLevel(level)

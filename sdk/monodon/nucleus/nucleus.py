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
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from monodon import __version__
from monodon.core.deployment import Status
from monodon.core.json import Json
from monodon.core.lifecycle import State
from monodon.core.policy import CLIENT_DEVICES
from monodon.core.recipe.platform import platform_of
from monodon.ipc.server import IpcServer
from monodon.nucleus.artifacts import MAX_STORE_BYTES
from monodon.nucleus.changes import Changes
from monodon.nucleus.client_device_settings import AuthConfiguration
from monodon.nucleus.client_devices import ClientDevices
from monodon.nucleus.cloud_access import CloudServices, enter_uplink, serve_credentials
from monodon.nucleus.cloud_secrets import CloudSecrets, SecretConfiguration
from monodon.nucleus.component_environment import nucleus_variables, token_variables
from monodon.nucleus.deployer import Deployer
from monodon.nucleus.deployments import deployer
from monodon.nucleus.device_view import DeviceView
from monodon.nucleus.health import Health
from monodon.nucleus.hooks import Hooks, Progress
from monodon.nucleus.identity import CONFIG_FILE, Identity, load_identity, with_deployed
from monodon.nucleus.journal import JOURNAL_FOLDER, Journal
from monodon.nucleus.logs import Logs
from monodon.nucleus.own_log import open_logs, set_level
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
from monodon.nucleus.settings import Configurations, Platform, Settings
from monodon.nucleus.shadow_settings import ShadowConfiguration
from monodon.nucleus.shadow_sync import ShadowSync
from monodon.nucleus.shadows import Shadows
from monodon.nucleus.state import DeviceState
from monodon.nucleus.store import Store
from monodon.nucleus.supervisor import Supervisor
from monodon.nucleus.tokens import Tokens
from monodon.nucleus.told_shadows import ToldShadows
from monodon.nucleus.uplink.protocol import Uplink

log = logging.getLogger(__name__)

CANCEL_AGAIN_S = 2.0
#: Who the user's own tools are over IPC.
TOOL = f"greengrass-cli#user-{os.getuid()}"


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
    logs = open_logs(root, settings.logging, now_s, stack)
    identity = with_deployed(identity, settings.configuration.value())
    log.info("nucleus %s of %s starts in %s (process %d)", identity.version, identity.thing, root, os.getpid())
    uplink, cloud = await enter_uplink(identity, journal, environment, stack)
    tokens = Tokens()
    credentials_uri = await serve_credentials(identity, tokens, uplink, stack)
    socket = stack.enter_context(socket_path(root, identity.ipc_socket, environment))
    ground = _Ground(
        root=root,
        identity=identity,
        socket=socket,
        tokens=tokens,
        journal=journal,
        state=state,
        settings=settings,
        platform=Platform(platform_of(platform.system(), platform.machine()), settings),
        logs=logs,
        uplink=uplink,
        cloud=cloud,
        restart=restart,
        now_s=now_s,
        environment={**environment, **nucleus_variables(identity, socket, credentials_uri, settings)},
    )
    nucleus = _built(ground)
    await _start(nucleus, stack)
    return nucleus


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """What the parts stand on: all that had to be read or opened before."""

    root: Path
    identity: Identity
    socket: Path
    tokens: Tokens
    journal: Journal
    state: DeviceState
    settings: Settings
    platform: Platform
    logs: Logs
    uplink: Uplink
    cloud: CloudServices
    restart: Callable[[int], None] | None
    now_s: Callable[[], float]
    environment: Mapping[str, str]

    def now_ms(self) -> int:
        return int(self.now_s() * 1000)


def _built(ground: _Ground) -> Nucleus:
    """The parts that nothing has to be opened for, each with what it needs."""
    bus, updates, validation = Bus(), ComponentUpdates(), Validation()
    supervisor = _supervisor(ground)
    health = _health(ground, supervisor)
    store = Store(ground.root, max_bytes=ground.settings.whole(MAX_STORE_BYTES, "componentStoreMaxSizeBytes"))
    shadow_settings = ShadowConfiguration(ground.state, ground.identity.thing)
    shadows, shadow_sync = _shadows(ground, shadow_settings, bus)
    auth = AuthConfiguration(ground.state)
    certificates, client_devices = _client_devices(ground, auth)
    secrets, cloud_secrets = _secrets(ground)
    reconfigure = (
        shadow_sync.reconfigure, certificates.reconfigure, client_devices.wake, cloud_secrets.reconfigure
    )  # fmt: skip
    hooks = Hooks(ask_update=updates.ask, awaited=updates.awaited, updated=updates.done, validate=validation.ask)
    deploying = _deployer(ground, store, supervisor, report=_listener(ground, health, reconfigure), hooks=hooks)
    services = (
        pubsub_service(bus),
        mqtt_service(ground.uplink),
        configuration_service(Configurations(ground.settings, ground.state), validation, ground.now_ms),
        lifecycle_service(supervisor, updates),
        components_service(ground.state, supervisor),
        deployments_service(
            deploying, ground.root / "packages", lambda: ground.state.after_deployments_ms(ground.now_ms())
        ),
        shadow_service(shadows, Rates(limits=shadow_settings.rate_limits)),
        secret_service(secrets, cloud_secrets),
        metric_service(ComponentMetrics()),
        authorization_service(ground.tokens.owner),
        debug_password_service(DebugPasswords()),
        client_device_service(client_devices, certificates, auth.is_deployed),
    )
    owner, allows = ground.tokens.owner, Policies(ground.state).allows
    return Nucleus(
        root=ground.root,
        identity=ground.identity,
        socket=ground.socket,
        tokens=ground.tokens,
        state=ground.state,
        store=store,
        supervisor=supervisor,
        deployer=deploying,
        uplink=ground.uplink,
        health=health,
        shadows=shadows,
        shadow_sync=shadow_sync,
        client_devices=client_devices,
        certificates=certificates,
        cloud_secrets=cloud_secrets,
        server=IpcServer(authenticate=owner, authorise=allows, services=services),
    )


def _supervisor(ground: _Ground) -> Supervisor:
    settings, tokens = ground.settings, ground.tokens
    return Supervisor(
        root=ground.root,
        environment=lambda installed: {**ground.environment, **token_variables(tokens.of(installed.name))},
        logs=ground.logs,
        default_user=settings.text("runWithDefault", "posixUser"),
        shell=settings.text("runWithDefault", "posixShell") or "sh",
        default_limits=lambda: settings.limits,
    )


def _health(ground: _Ground, supervisor: Supervisor) -> Health:
    return Health(
        identity=ground.identity,
        device=DeviceView(ground.state, supervisor),
        uplink=ground.uplink,
        platform=ground.platform,
        cadence_s=ground.settings.whole(0, "fleetStatus", "periodicStatusPublishIntervalSeconds"),
    )


def _shadows(ground: _Ground, settings: ShadowConfiguration, bus: Bus) -> tuple[ToldShadows, ShadowSync]:
    shadows = ToldShadows(Shadows(ground.journal, limit_bytes=settings.limit_bytes), bus)
    sync = ShadowSync(
        shadows=shadows, records=ground.journal, uplink=ground.uplink, settings=settings.sync_settings
    )  # fmt: skip
    return shadows, sync


def _client_devices(ground: _Ground, auth: AuthConfiguration) -> tuple[ServerCertificates, ClientDevices]:
    certificates = ServerCertificates(ground.root / "work" / CLIENT_DEVICES, settings=auth.settings)
    devices = ClientDevices(
        records=ground.journal,
        cloud=ground.cloud.registry,
        network=ground.uplink,
        settings=auth.settings,
        certificates=certificates,
        is_wanted=auth.is_deployed,
    )
    return certificates, devices


def _secrets(ground: _Ground) -> tuple[Secrets, CloudSecrets]:
    secrets = Secrets(ground.root / SECRETS_FOLDER)
    settings = SecretConfiguration(ground.state).settings
    return secrets, CloudSecrets(secrets, source=ground.cloud.secrets, network=ground.uplink, settings=settings)


def _deployer(
    ground: _Ground,
    store: Store,
    supervisor: Supervisor,
    *,
    report: Callable[[Progress], Awaitable[None]],
    hooks: Hooks,
) -> Deployer:
    return deployer(
        state=ground.state,
        store=store,
        supervisor=supervisor,
        uplink=ground.uplink,
        platform=ground.platform,
        thing=ground.identity.thing,
        root=ground.root,
        report=report,
        hooks=hooks,
        restart=ground.restart,
        now_ms=ground.now_ms,
        timeout_s=lambda: ground.settings.whole(0, "deploymentTimeoutSeconds") or None,
        region=ground.identity.region or None,
    )


def _listener(
    ground: _Ground, health: Health, reconfigure: Sequence[Callable[[], None]]
) -> Callable[[Progress], Awaitable[None]]:
    """What is done at each change of a deployment's status: it may have configured the nucleus's own parts."""

    async def hear(progress: Progress) -> None:
        ground.logs.configure(ground.settings.logging)
        set_level(ground.settings.logging)
        for each in reconfigure:
            each()
        if progress.status is Status.IN_PROGRESS:
            health.deployment_started()
        elif progress.outcome is not None:
            health.deployment_ended(progress.deployment, progress.outcome, progress.unchanged_roots)

    return hear


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


async def _follow(changes: Changes, health: Health, tokens: Tokens) -> None:
    async for change in changes:
        health.component_changed(change.name)
        if change.after is State.UNINSTALLED:
            tokens.forget(change.name)

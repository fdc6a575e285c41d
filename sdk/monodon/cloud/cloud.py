"""The embedded cloud: its parts built, given what each needs, started and stopped together."""

import asyncio
import fcntl
import ipaddress
import json
import logging
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from monodon import __version__
from monodon.cloud.background import background
from monodon.cloud.broker.identity import Identity
from monodon.cloud.broker.server import ALPN, Broker
from monodon.cloud.certificates import HTTP_PROTOCOLS, CertificateAuthority
from monodon.cloud.dataplane import DataPlane
from monodon.cloud.gateway import CheckSignature, Gateway
from monodon.cloud.greengrass import (
    Account,
    Candidates,
    ClientTokens,
    Components,
    CoreDevices,
    Deployments,
    LargeDocuments,
    Limits,
    Tags,
)
from monodon.cloud.greengrass.deployments import SHADOW
from monodon.cloud.greengrass.effective import Effective
from monodon.cloud.iam import Iam
from monodon.cloud.iam_users import IamUsers
from monodon.cloud.iot import (
    Access,
    Certificates,
    DynamicGroups,
    Groups,
    Indexing,
    JobOperations,
    Policies,
    Registry,
    RoleAliases,
    Things,
)
from monodon.cloud.iot_data import SHADOW_TOPICS, IotData
from monodon.cloud.jobs import Jobs
from monodon.cloud.keys import OWN_KEY, AccessKeys
from monodon.cloud.presign import presign_get
from monodon.cloud.s3 import Buckets, MultipartUploads, Objects, Records
from monodon.cloud.secrets_manager import SecretsManager
from monodon.cloud.server import bind, serving
from monodon.cloud.store import LOCK, READY, Store, claim, write_whole
from monodon.cloud.sts import Sts
from monodon.core.json import Json
from monodon.core.names import partition_of
from monodon.core.shadow import Shadow
from monodon.errors import NetworkError, StateError

log = logging.getLogger(__name__)

DEFAULT_REGION = "us-east-1"
DEFAULT_ACCOUNT = "123456789012"
_HEALTH_TOPICS = "$aws/things/+/greengrassv2/health/json"
_JOB_TOPICS = "$aws/things/+/jobs/#"
_TICK_S = 1.0
_ANY = {"0.0.0.0", "::"}  # noqa: S104 compared, not bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Where a running cloud is reached; ``ready.json`` in its state folder says the same."""

    pid: int
    version: str
    endpoint: str
    https_endpoint: str
    mqtt_host: str
    mqtt_port: int
    ca_file: str
    region: str
    account: str


class Cloud:
    """One embedded cloud on one state folder.

    Args:
        folder: the state folder; made if it is new.
        host: an address of this machine's loopback; with ``strict`` any address of its own.
        port: for HTTP and HTTPS; 0 picks one.
        mqtt_port: for MQTT; 0 picks one.
        region: None is the state's own, or us-east-1.
        now: seconds since 1970.
        strict: requests must be signed with a key of the account (``keys``); else any signature does.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        mqtt_port: int = 0,
        region: str | None = None,
        account: str = DEFAULT_ACCOUNT,
        now: Callable[[], float] = time.time,
        limits: Limits | None = None,
        strict: bool = False,
    ) -> None:
        self._strict = strict
        self._folder = folder.absolute()
        self._host = host
        self._port = port
        self._mqtt_port = mqtt_port
        self._region = region
        self._account = account
        self._now = now
        self._limits = limits or Limits()
        #: What is running; for tests that play a device without a socket.
        self.parts: Parts | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Ready]:
        """Run until left.

        Raises:
            StateError: the folder is another cloud's, of another version, or damaged.
            NetworkError: a port is taken, or the host is not loopback.
        """
        if not self._strict:
            _check_loopback(self._host)
        claim(self._folder)
        with _locked(self._folder), Store.open(self._folder) as store:
            (self._folder / READY).unlink(missing_ok=True)  # of one that was killed
            region, account = self._place(store)
            authority = CertificateAuthority.open(self._folder, host=self._name)
            parts = self.parts = Parts(
                store,
                authority,
                region=region,
                account=account,
                now=self._now,
                limits=self._limits,
                strict=self._strict,
            )
            listener = bind(self._host, self._port)
            port: int = listener.getsockname()[1]
            https = authority.server_context(client_certificate=ssl.CERT_OPTIONAL, protocols=HTTP_PROTOCOLS)
            mqtts = authority.server_context(client_certificate=ssl.CERT_REQUIRED, protocols=ALPN)
            async with (
                serving(parts.gateway, listener, https),
                parts.broker.listen(self._host, self._mqtt_port, mqtts) as mqtt_port,
                parts.ticking(),
            ):
                parts.endpoints = _endpoints(self._name, port)
                parts.components.resume()
                parts.dynamic_groups.resume()
                ready = self._ready(port, mqtt_port, authority, region, account)
                path = self._folder / READY
                write_whole(path, json.dumps(asdict(ready), indent=2).encode() + b"\n", mode=0o644)
                log.info("the cloud is ready at %s and %s", ready.endpoint, ready.https_endpoint)
                try:
                    yield ready
                finally:
                    path.unlink(missing_ok=True)

    @property
    def _name(self) -> str:
        """What the cloud is called by those that connect to it by name."""
        if _is_loopback(self._host):
            return "localhost"
        return socket.gethostname() if self._host in _ANY else self._host

    def _ready(self, port: int, mqtt_port: int, authority: CertificateAuthority, region: str, account: str) -> Ready:
        host = self._host if _is_loopback(self._host) else self._name
        return Ready(
            pid=os.getpid(),
            version=__version__,
            endpoint=f"http://{_in_url(host)}:{port}",
            https_endpoint=f"https://{_in_url(self._name)}:{port}",
            mqtt_host=self._name,
            mqtt_port=mqtt_port,
            ca_file=str(authority.ca_file),
            region=region,
            account=account,
        )

    def _place(self, store: Store) -> tuple[str, str]:
        """Region and account, which ARNs on the disk already have."""
        table = store.table("cloud")
        kept = table.get("place")
        if kept is None:
            kept = {"region": self._region or DEFAULT_REGION, "account": self._account}
            table.put("place", kept)
        if self._region is not None and self._region != kept["region"]:
            raise StateError(
                f"the state in {self._folder} is of region {kept['region']}, not {self._region}",
                hint="leave the region out, or use another state folder",
            )
        return kept["region"], kept["account"]


class Parts:
    """The backends of a running cloud, and who tells whom."""

    def __init__(
        self,
        store: Store,
        authority: CertificateAuthority,
        *,
        region: str,
        account: str,
        now: Callable[[], float],
        limits: Limits,
        strict: bool = False,
    ) -> None:
        self.endpoints: Mapping[str, str] = {}
        self._now = now
        self._region = region
        self._keys = keys = AccessKeys(store, account=account, now=now)
        keys.open(with_file=strict)
        registry = Registry(store, region=region, account=account, now=now)
        self.access = access = Access(registry)
        role_aliases = RoleAliases(registry, access, lambda: self.endpoints)
        self.broker = Broker(
            store=store,
            authenticate=access.authenticate,
            authorise=access.authorise,
            now=now,
            on_presence=self._presence_changed,
        )
        self.jobs = Jobs(
            store=store,
            broker_publish=self.broker.publish,
            group_members=registry.members_of_arn,
            is_member=registry.is_member_of_arn,
            on_execution=lambda execution: deployments.on_execution(execution),
            on_job=lambda job_id, status: deployments.on_job(job_id, status),
            now=now,
            region=region,
            account=account,
            soon=self._next_turn,
        )
        self._iot_data = IotData(store=store, broker=self.broker, now=now, thing_exists=registry.has_thing)
        indexing = Indexing(registry, _Around(self._iot_data, self.broker))
        self.dynamic_groups = DynamicGroups(registry, indexing, soon=self._next_turn)
        tokens = ClientTokens(store, now=now)
        effective = Effective(store, now=now)
        records = Records(store, region=region, now=now)
        tags = Tags(
            store,
            exists=lambda arn: self.components.has(arn) or deployments.has(arn) or core_devices.has(arn),
            limits=limits,
        )
        self.components = Components(
            store,
            region=region,
            account=account,
            now=now,
            tokens=tokens,
            tags=tags,
            find_object=records.find,
            presign=self._presign,
            schedule=_soon,
            limits=limits,
        )
        candidates = Candidates(self.components, region=region)
        deployments = Deployments(
            store,
            registry=registry,
            tokens=tokens,
            tags=tags,
            effective=effective,
            jobs=self.jobs,
            update_shadow=self._update_shadow,
            documents=LargeDocuments(records, self._presign, inline_bytes=limits.document_bytes),
            limits=limits,
        )
        core_devices = CoreDevices(
            store,
            now=now,
            arn_prefix=f"arn:{partition_of(region)}:greengrass:{region}:{account}:coreDevices:",
            effective=effective,
            describe_deployment=deployments.describe,
            limits=limits,
        )
        self._deployments, self._core_devices, self._registry = deployments, core_devices, registry
        sts = Sts(keys, now=now)
        #: By signing name.
        self.backends: Mapping[str, Sequence[object]] = {
            "greengrass": [
                self.components,
                candidates,
                deployments,
                core_devices,
                tags,
                Account(store, now=now, thing_exists=registry.has_thing, limits=limits),
            ],
            "iot": [
                Things(registry),
                Groups(registry),
                self.dynamic_groups,
                indexing,
                Certificates(registry, access, authority, self.broker.disconnect_certificate),
                Policies(registry, access),
                role_aliases,
                JobOperations(registry, self.jobs),
            ],
            "iotdata": [self._iot_data],
            "iot-jobs-data": [self.jobs],
            "s3": [Buckets(records), Objects(records), MultipartUploads(records)],
            "sts": [sts],
            "iam": [Iam(store, account=account, now=now), IamUsers(store, account=account, keys=keys, now=now)],
            "secretsmanager": [SecretsManager(store, region=region, account=account, now=now)],
        }
        self.gateway = Gateway(
            store=store,
            region=region,
            account=account,
            now=now,
            device_api=DataPlane(
                store=store,
                registry=registry,
                access=access,
                role_alias=role_aliases.role_alias,
                issuer=sts,
                configuration=deployments.configuration_for,
                backends=[candidates, self.components],
            ),
            backends=self.backends,
            transaction=self.broker.turn,
            check_signature=_signatures(keys, now) if strict else None,
        )
        registry.on_membership_change(self._membership_changed)
        self._iot_data.watch(self._shadow_changed)
        self.broker.reserve(_JOB_TOPICS, self.jobs.handle)
        self.broker.reserve(SHADOW_TOPICS, self._iot_data.handle)
        self.broker.reserve(_HEALTH_TOPICS, self.health)

    @asynccontextmanager
    async def ticking(self) -> AsyncIterator[None]:
        """Let rollouts and time-outs go on."""

        async def tick() -> None:
            while True:
                await asyncio.sleep(_TICK_S)
                try:
                    with self.broker.turn():
                        self.jobs.tick(self._now())
                except Exception:
                    log.exception("a tick of the jobs failed")

        async with background(tick(), "cloud jobs"):
            yield

    def _next_turn(self, work: Callable[[], None]) -> None:
        """Do a piece of work in a turn of its own, when those who wait have had theirs."""

        def do() -> None:
            try:
                with self.broker.turn():
                    work()
            except Exception:
                log.exception("a piece of work failed; the next tick tries again")

        _soon(do)

    def _membership_changed(self, thing: str) -> None:
        if self._registry.has_thing(thing):
            self.jobs.membership_changed(thing)
        else:
            self._iot_data.forget_thing(thing)
            self.jobs.forget_thing(thing)

    def _presence_changed(self, client_id: str) -> None:
        if self._registry.has_thing(client_id):
            self.dynamic_groups.look_at(client_id)

    def _shadow_changed(self, thing: str, name: str | None, shadow: Shadow) -> None:
        self.dynamic_groups.look_at(thing)
        if name == SHADOW:
            self._deployments.on_shadow(thing, shadow.reported.state)

    def health(self, identity: Identity, topic: str, payload: bytes) -> None:
        self._core_devices.on_health(topic.split("/")[2], payload)

    def _update_shadow(self, thing: str, name: str, desired: Mapping[str, Json]) -> None:
        self._iot_data.update_shadow(thing, name, desired)

    def _presign(self, endpoint: str, bucket: str, key: str, lasts_s: int) -> str:
        return presign_get(
            endpoint=endpoint,
            bucket=bucket,
            key=key,
            region=self._region,
            access_key=OWN_KEY,
            secret_key=self._keys.own_secret(),
            now=self._now(),
            lasts_s=lasts_s,
        )


class _Around:
    """What fleet indexing sees besides the registry."""

    def __init__(self, iot_data: IotData, broker: Broker) -> None:
        self._iot_data = iot_data
        self.is_connected = broker.is_connected

    def shadow_state(self, thing: str, name: str | None) -> Mapping[str, Json] | None:
        shadow = self._iot_data.shadow(thing, name)
        if shadow is None:
            return None
        desired, reported = shadow.desired.state, shadow.reported.state
        has_delta = any(reported.get(key) != value for key, value in desired.items())
        return {"desired": desired, "reported": reported, "hasDelta": has_delta, "version": shadow.version}


def _signatures(keys: AccessKeys, now: Callable[[], float]) -> CheckSignature:
    """The check of ``--strict``; loads botocore, which the cloud otherwise only reads files of."""
    from monodon.cloud.signatures import Signatures

    return Signatures(keys.find, now=now).check


def _soon(work: Callable[[], None]) -> None:
    """Do ``work`` when the answer that asked for it is on its way."""
    asyncio.get_running_loop().call_soon(work)


def _endpoints(name: str, port: int) -> dict[str, str]:
    """What DescribeEndpoint answers; MQTT's host has a port of its own, and clients name it apart."""
    return {
        "iot:Data": name,
        "iot:Data-ATS": name,
        "iot:CredentialProvider": f"{_in_url(name)}:{port}",
        "iot:Jobs": f"{_in_url(name)}:{port}",
    }


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_loopback(host: str) -> None:
    if not _is_loopback(host):
        raise NetworkError(
            f"the embedded cloud takes any credentials, so it does not listen on {host}",
            hint="--strict checks signatures; or use 127.0.0.1 or ::1, and a tunnel to reach it from elsewhere",
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process alone.

    Raises:
        StateError: another cloud has it.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise StateError(
                f"the state in {folder} is in use by another cloud (process {owner})",
                hint="stop that one, or choose another folder with --state",
            ) from error
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)

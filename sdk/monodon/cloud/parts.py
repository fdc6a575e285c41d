"""The backends of a running cloud, built, given what each needs, and told of what concerns them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from monodon.cloud.background import background
from monodon.cloud.broker.identity import Identity
from monodon.cloud.broker.server import Broker
from monodon.cloud.certificates import CertificateAuthority
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
from monodon.cloud.settings import Settings
from monodon.cloud.store import Store
from monodon.cloud.sts import Sts
from monodon.cloud.throttling import Throttle
from monodon.core.json import Json
from monodon.core.names import partition_of
from monodon.core.shadow import Shadow

log = logging.getLogger(__name__)

_HEALTH_TOPICS = "$aws/things/+/greengrassv2/health/json"
_JOB_TOPICS = "$aws/things/+/jobs/#"
_TICK_S = 1.0


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
        settings: Settings | None = None,
        strict: bool = False,
    ) -> None:
        self._store, self._authority = store, authority
        self._region, self._account, self._now = region, account, now
        self._settings = settings or Settings()
        self.endpoints: Mapping[str, str] = {}
        self._keys = AccessKeys(store, account=account, now=now)
        self._keys.open(with_file=strict)
        self._registry = Registry(store, region=region, account=account, now=now)
        self.access = Access(self._registry)
        self._role_aliases = RoleAliases(self._registry, self.access, lambda: self.endpoints)
        self.broker = Broker(
            store=store,
            authenticate=self.access.authenticate,
            authorise=self.access.authorise,
            now=now,
            limits=self._settings.mqtt,
            on_presence=self._presence_changed,
        )
        self.jobs = Jobs(
            store=store,
            broker_publish=self.broker.publish,
            group_members=self._registry.members_of_arn,
            is_member=self._registry.is_member_of_arn,
            on_execution=lambda execution: self._deployments.on_execution(execution),
            on_job=lambda job_id, status: self._deployments.on_job(job_id, status),
            now=now,
            region=region,
            account=account,
            soon=self._next_turn,
        )
        self._iot_data = IotData(
            store=store,
            broker=self.broker,
            now=now,
            answer=self.broker.answer,
            thing_exists=self._registry.has_thing,
        )
        indexing = Indexing(self._registry, _Around(self._iot_data, self.broker))
        self.dynamic_groups = DynamicGroups(self._registry, indexing, soon=self._next_turn)
        self._sts = Sts(self._keys, now=now)
        records = Records(store, region=region, now=now)
        #: By signing name.
        self.backends: Mapping[str, Sequence[object]] = {
            "greengrass": self._greengrass(records),
            "iot": self._iot(indexing),
            "iotdata": [self._iot_data],
            "iot-jobs-data": [self.jobs],
            "s3": [Buckets(records), Objects(records), MultipartUploads(records)],
            "sts": [self._sts],
            "iam": [
                Iam(store, account=account, now=now),
                IamUsers(store, account=account, keys=self._keys, now=now),
            ],
            "secretsmanager": [SecretsManager(store, region=region, account=account, now=now)],
        }
        self.gateway = self._gateway(strict=strict)
        self._listen()

    def _greengrass(self, records: Records) -> list[object]:
        store, now, limits, region = self._store, self._now, self._settings.greengrass, self._region
        tokens, effective = ClientTokens(store, now=now), Effective(store, now=now)
        tags = Tags(store, exists=self._has, limits=limits)
        self.components = Components(
            store,
            region=region,
            account=self._account,
            now=now,
            tokens=tokens,
            tags=tags,
            find_object=records.find,
            presign=self._presign,
            schedule=_soon,
            limits=limits,
        )
        self._candidates = Candidates(self.components, region=region)
        self._deployments = Deployments(
            store,
            registry=self._registry,
            tokens=tokens,
            tags=tags,
            effective=effective,
            jobs=self.jobs,
            update_shadow=self._update_shadow,
            documents=LargeDocuments(records, self._presign, inline_bytes=limits.document_bytes),
            limits=limits,
        )
        self._core_devices = CoreDevices(
            store,
            now=now,
            arn_prefix=f"arn:{partition_of(region)}:greengrass:{region}:{self._account}:coreDevices:",
            effective=effective,
            describe_deployment=self._deployments.describe,
            limits=limits,
        )
        account = Account(store, now=now, thing_exists=self._registry.has_thing, limits=limits)
        return [self.components, self._candidates, self._deployments, self._core_devices, tags, account]

    def _iot(self, indexing: Indexing) -> list[object]:
        registry, access = self._registry, self.access
        return [
            Things(registry),
            Groups(registry),
            self.dynamic_groups,
            indexing,
            Certificates(registry, access, self._authority, self.broker.disconnect_certificate),
            Policies(registry, access),
            self._role_aliases,
            JobOperations(registry, self.jobs),
        ]

    def _gateway(self, *, strict: bool) -> Gateway:
        devices = DataPlane(
            store=self._store,
            registry=self._registry,
            access=self.access,
            role_alias=self._role_aliases.role_alias,
            issuer=self._sts,
            configuration=self._deployments.configuration_for,
            backends=[self._candidates, self.components],
        )
        return Gateway(
            store=self._store,
            region=self._region,
            account=self._account,
            now=self._now,
            device_api=devices,
            backends=self.backends,
            transaction=self.broker.turn,
            throttle=Throttle(self._settings.rates, now=self._now),
            check_signature=_signatures(self._keys, self._now) if strict else None,
        )

    def _listen(self) -> None:
        """Have the parts told of what concerns them."""
        self._registry.on_membership_change(self._membership_changed)
        self._iot_data.watch(self._shadow_changed)
        self.broker.reserve(_JOB_TOPICS, self.jobs.handle)
        self.broker.reserve(SHADOW_TOPICS, self._iot_data.handle)
        self.broker.reserve(_HEALTH_TOPICS, self.health)

    def _has(self, arn: str) -> bool:
        return any(each.has(arn) for each in (self.components, self._deployments, self._core_devices))

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

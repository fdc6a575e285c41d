"""Client devices of this core device: who they are, what they may do, and for how long that is known without the cloud.

A certificate is asked about at the cloud whenever it can be reached, and counts for a while after that: so a device
that connected lately connects again while the cloud is away. What is known is on disk.

Source: aws.greengrass.clientdevices.Auth, ``iot/usecases/*.java``, ``session/SessionManager.java``,
``certificate/infra/BackgroundCertificateRefresh.java``.
"""

import asyncio
import base64
import binascii
import hashlib
import logging
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from monodon.core.client_devices import AuthSettings
from monodon.core.json import Json
from monodon.deadlines import timeout
from monodon.errors import MonodonError, NetworkError, StateError
from monodon.nucleus.local_authority import is_valid_at, read_certificate
from monodon.nucleus.server_certificates import ServerCertificates
from monodon.nucleus.shadows import Records

if TYPE_CHECKING:
    from cryptography import x509

log = logging.getLogger(__name__)

REFRESH_S: Final = 24 * 3600.0
TURN_TIMEOUT_S: Final = 30.0
#: Certificates and things that are remembered; those verified longest ago give way.
MAX_KNOWN: Final = 5_000
MAX_PEM: Final = 64 * 1024

_CERTIFICATE: Final = "client-devices/certificate/"
_THING: Final = "client-devices/thing/"
_HOSTS: Final = "client-devices/hosts"
_NAME: Final = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_MAX_NAME: Final = 128
_BEGIN: Final = "-----BEGIN CERTIFICATE-----"


class RefusedError(MonodonError):
    """A client device is not who it says, or nobody can tell."""


class BusyError(MonodonError):
    """Too many questions wait for the cloud."""


class UnknownTokenError(MonodonError):
    """No session has this token (any more)."""


class Registry(Protocol):
    """The cloud's registry of client devices; each call raises NetworkError where it has no answer to go by."""

    async def is_active(self, certificate_pem: str) -> bool:
        """Whether a certificate is known and ACTIVE."""

    async def is_attached(self, thing: str, certificate_id: str) -> bool:
        """Whether a certificate belongs to a thing that is a client device of this core device."""

    async def hosts(self) -> tuple[str, ...]:
        """The addresses by which client devices reach this core device."""

    async def associated(self) -> frozenset[str]:
        """The client devices of this core device."""


class Network(Protocol):
    """The part of an uplink that is needed."""

    @property
    def is_connected(self) -> bool:
        """Whether the cloud can be reached now."""

    def watch_connection(self, notify: Callable[[bool], None]) -> Callable[[], None]:
        """Call ``notify`` with each change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Whose a token is: a thing's, or (None) a component's of this device, which may do everything."""

    thing: str | None


class ClientDevices:
    """Verifies client devices and keeps their sessions.

    Args:
        cloud: None where the device has none.
        settings: those of this moment.
        certificates: tells which certificates are this device's own.
        now_s: seconds since 1970.
    """

    def __init__(
        self,
        *,
        records: Records,
        cloud: Registry | None,
        network: Network,
        settings: Callable[[], AuthSettings],
        certificates: ServerCertificates,
        is_wanted: Callable[[], bool] = lambda: True,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._cloud = cloud
        self._network = network
        self._settings = settings
        self._certificates = certificates
        self._is_wanted = is_wanted
        self._now_s = now_s
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._turns: tuple[int, asyncio.Semaphore] = (1, asyncio.Semaphore(1))
        self._waiting = 0
        self._wake = asyncio.Event()

    # --- what brokers ask --------------------------------------------------------------------------------------------

    async def verify(self, certificate_pem: str) -> bool:
        """Whether a certificate is one of this device's own, or valid and active in the cloud's registry.

        Raises:
            RefusedError: this device has no cloud that could know it.
            BusyError: too many others ask at the moment.
            StateError: cryptography is missing.
        """
        certificate = _parsed(certificate_pem)
        if certificate is None:
            return False
        if await self._certificates.has_issued(certificate):
            return True
        if self._cloud is None:
            raise RefusedError("this device has no cloud, and so no registry of client devices")
        if not is_valid_at(certificate, datetime.fromtimestamp(self._now_s(), UTC)):
            return False
        return await self._verify_in_cloud(self._cloud, _identify(certificate), certificate_pem)

    async def _verify_in_cloud(self, cloud: Registry, certificate_id: str, pem: str) -> bool:
        is_known = self._is_known(certificate_id)
        if is_known and not self._network.is_connected:
            return True
        try:
            async with self._cloud_turn():
                is_active = await cloud.is_active(pem)
        except NetworkError as error:
            log.warning("certificate %s… is %s: %s", certificate_id[:8], "known" if is_known else "unknown", error)
            return is_known
        self._keep(_CERTIFICATE + certificate_id, {"at": self._now_s(), "pem": pem} if is_active else None)
        return is_active

    async def open_session(self, client_id: str, certificate_pem: str) -> str:
        """Return a token for a client whose certificate was verified lately; its client id is its thing's name.

        Raises:
            RefusedError: the certificate was not verified, or is not that thing's, or the thing no client device here.
            BusyError: too many others ask at the moment.
            StateError: cryptography is missing.
        """
        certificate = _parsed(certificate_pem)
        if certificate is None:
            raise RefusedError("the certificate cannot be read")
        if await self._certificates.has_issued(certificate):
            return self._add(Session(thing=None))
        if not _NAME.fullmatch(client_id):
            raise RefusedError(f"the client id {client_id[:_MAX_NAME]!r} is not a thing's name")
        certificate_id = _identify(certificate)
        if not self._is_known(certificate_id):
            raise RefusedError(
                f"certificate {certificate_id[:8]}… is not known, or not trusted any more",
                hint="verify it first, as brokers do when a client connects: VerifyClientDeviceIdentity",
            )
        if not await self._is_attached(client_id, certificate_id):
            raise RefusedError(f"certificate {certificate_id[:8]}… is not that of client device {client_id}")
        return self._add(Session(thing=client_id))

    def allows(self, token: str, operation: str, resource: str) -> bool:
        """Whether the client with that token may do an operation on a resource.

        Raises:
            UnknownTokenError: there is no such token, or it gave way to others.
            ServiceMismatchError: operation and resource are of two services.
        """
        session = self._sessions.get(token)
        if session is None:
            raise UnknownTokenError("no session has this token")
        self._sessions.move_to_end(token)
        return session.thing is None or self._settings().groups.allow(session.thing, operation, resource)

    def _add(self, session: Session) -> str:
        token = str(uuid.uuid4())
        self._sessions[token] = session
        while len(self._sessions) > self._settings().max_tokens:
            self._sessions.popitem(last=False)
        return token

    async def _is_attached(self, thing: str, certificate_id: str) -> bool:
        at = self._attachments(thing).get(certificate_id, float("-inf"))
        is_trusted = self._now_s() < at + self._settings().trust_s
        if self._cloud is None or not self._network.is_connected:
            return is_trusted
        try:
            async with self._cloud_turn():
                is_attached = await self._cloud.is_attached(thing, certificate_id)
        except NetworkError as error:
            log.warning("whose certificate %s… is can't be asked: %s", certificate_id[:8], error)
            return is_trusted
        kept = {each: when for each, when in self._attachments(thing).items() if each != certificate_id}
        if is_attached:
            kept[certificate_id] = self._now_s()
        self._keep(_THING + thing, {"at": self._now_s(), "certificates": kept} if kept else None)
        return is_attached

    # --- what is known -----------------------------------------------------------------------------------------------

    def _is_known(self, certificate_id: str) -> bool:
        record = self._records.get(_CERTIFICATE + certificate_id)
        return record is not None and self._now_s() < record["at"] + self._settings().trust_s

    def _attachments(self, thing: str) -> Mapping[str, float]:
        record = self._records.get(_THING + thing)
        return {} if record is None else record["certificates"]

    def _keep(self, key: str, record: Json | None) -> None:
        """Write what was learned; the eldest of its kind gives way."""
        before = self._records.get(key)
        if record is None and before is None:
            return
        changes: dict[str, Json | None] = {key: record}
        if before is None:
            prefix = key[: key.rindex("/") + 1]
            known = self._records.items(prefix)
            if len(known) >= MAX_KNOWN:
                changes[min(known, key=lambda each: known[each]["at"])] = None
        try:
            self._records.write(changes)
        except StateError as error:
            log.warning("what the cloud says of a client device holds for now, but cannot be kept: %s", error)

    @asynccontextmanager
    async def _cloud_turn(self) -> AsyncIterator[None]:
        """Wait for one's turn to ask the cloud: as many at a time as configured."""
        wanted = self._settings()
        if self._turns[0] != wanted.concurrent:
            self._turns = (wanted.concurrent, asyncio.Semaphore(wanted.concurrent))
        turn = self._turns[1]
        if turn.locked() and self._waiting >= wanted.queue_size:
            raise BusyError("too many questions about client devices wait for the cloud")
        self._waiting += 1
        try:
            async with timeout(TURN_TIMEOUT_S):
                await turn.acquire()
        except TimeoutError:
            raise NetworkError(f"the cloud did not answer others within {TURN_TIMEOUT_S:g} s") from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            turn.release()

    # --- in the background -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Learn this device's addresses when the cloud comes, and once a day look at who is known, until cancelled."""
        self._certificates.serve(tuple(self._records.get(_HOSTS) or ()))
        if self._cloud is None:
            return
        unwatch = self._network.watch_connection(lambda is_connected: self.wake() if is_connected else None)
        refreshed_s = self._now_s()
        try:
            while True:
                try:
                    if self._is_wanted() and self._network.is_connected:
                        await self._learn_hosts(self._cloud)
                        if self._now_s() >= refreshed_s + REFRESH_S and await self.refresh():
                            refreshed_s = self._now_s()
                except StateError as error:
                    log.warning("what the cloud says of client devices cannot be kept: %s", error)
                try:
                    async with timeout(REFRESH_S / 24):
                        await self._wake.wait()
                except TimeoutError:
                    continue
                finally:
                    self._wake.clear()
        finally:
            unwatch()

    def wake(self) -> None:
        """The cloud came, or the configuration changed: look at once."""
        self._wake.set()

    async def _learn_hosts(self, cloud: Registry) -> None:
        try:
            hosts = await cloud.hosts()
        except NetworkError as error:
            log.warning("the addresses of this device stay as last known: %s", error)
            return
        if list(hosts) != (self._records.get(_HOSTS) or []):
            self._records.write({_HOSTS: list(hosts)})
        self._certificates.serve(hosts)

    async def refresh(self) -> bool:
        """Ask again about every device that is known, and forget those that are client devices here no more.

        So those that connected once are still known when the cloud goes away later, for as long as they are trusted.
        Return whether the cloud answered.
        """
        cloud = self._cloud
        if cloud is None:
            return False
        try:
            await self._refresh(cloud, await cloud.associated())
        except (NetworkError, BusyError) as error:
            log.info("client devices stay as last known: %s", error)
            return False
        return True

    async def _refresh(self, cloud: Registry, wanted: frozenset[str]) -> None:
        attached: set[str] = set()
        for key, record in list(self._records.items(_THING).items()):
            thing = key.removeprefix(_THING)
            if thing not in wanted:
                self._records.write({key: None})
                continue
            for certificate_id in record["certificates"]:
                if await self._is_attached(thing, certificate_id):
                    attached.add(certificate_id)
        for key, record in list(self._records.items(_CERTIFICATE).items()):
            certificate_id = key.removeprefix(_CERTIFICATE)
            if certificate_id not in attached:
                self._records.write({key: None})
            else:
                await self._verify_in_cloud(cloud, certificate_id, record["pem"])


def to_pem(text: str) -> str | None:
    """Return a certificate in PEM, also where only what stands between its lines was given; None if that is neither."""
    if text.startswith(_BEGIN):
        return text
    try:
        der = base64.b64decode(re.sub(r"[^A-Za-z0-9+/=]", "", text), validate=True)
    except binascii.Error:
        return None
    body = base64.encodebytes(der).decode()
    return f"{_BEGIN}\n{body}-----END CERTIFICATE-----\n"


def _parsed(pem: str) -> "x509.Certificate | None":
    if len(pem) > MAX_PEM:
        return None
    try:
        return read_certificate(pem)
    except ValueError:
        return None


def _identify(certificate: "x509.Certificate") -> str:
    """The certificate's id in AWS IoT."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()

"""Server certificates of components that serve client devices: issued on subscription, renewed before they end.

Source: aws.greengrass.clientdevices.Auth, ``CertificateManager.java``, ``certificate/CertificateExpiryMonitor.java``.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from monodon.core.client_devices import Authority, AuthSettings
from monodon.errors import StateError
from monodon.nucleus import local_authority
from monodon.nucleus.local_authority import ServerKey, Signer

if TYPE_CHECKING:
    from cryptography import x509

log = logging.getLogger(__name__)

#: A certificate is renewed a day before it ends.
RENEW_S: Final = 24 * 3600.0
#: But not again sooner than this; AWS looks twice a minute.
LEAST_S: Final = 30.0
#: Every server's certificate has it, so that components of the device itself can check it.
LOCAL_HOST: Final = "localhost"
_MAX_HOSTS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCertificate:
    """What a server needs, in PEM; the private key is kept nowhere else."""

    private_key: str
    public_key: str
    certificate: str
    authority: str


@dataclass(slots=True, eq=False, kw_only=True)
class _Subscriber:
    name: str
    key: ServerKey
    send: Callable[[ServerCertificate], None]
    due_s: float = 0.0


class ServerCertificates:
    """Issues while :meth:`run` runs; ``settings`` gives those of this moment. Times are seconds since 1970."""

    def __init__(
        self,
        folder: Path,
        *,
        settings: Callable[[], AuthSettings],
        now_s: Callable[[], float] = time.time,
        least_s: float = LEAST_S,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._now_s = now_s
        self._least_s = least_s
        self._hosts: tuple[str, ...] = ()
        self._opened: tuple[Authority, Signer] | None = None
        self._opening = asyncio.Lock()
        self._subscribers: dict[_Subscriber, None] = {}
        self._wake = asyncio.Event()

    async def subscribe(self, name: str, send: Callable[[ServerCertificate], None]) -> Callable[[], None]:
        """Send a certificate for the component of that name, and others as they become due until the result is called.

        Raises:
            StateError: there is no authority to sign it.
        """
        key_type = self._settings().authority.key_type
        subscriber = _Subscriber(
            name=name, key=await asyncio.to_thread(local_authority.new_server_key, key_type), send=send
        )
        await self._issue(subscriber)
        self._subscribers[subscriber] = None
        self._wake.set()
        return lambda: self._subscribers.pop(subscriber, None)

    @property
    def has_subscribers(self) -> bool:
        """Whether anybody has a certificate that is to be renewed."""
        return bool(self._subscribers)

    def serve(self, hosts: tuple[str, ...]) -> None:
        """Name these hosts in certificates from now on; subscribers get new ones if they are others."""
        hosts = hosts[:_MAX_HOSTS]
        if hosts != self._hosts:
            self._hosts = hosts
            self._renew_all()

    def reconfigure(self) -> None:
        """The settings may be others: those who have a certificate of another authority get a new one."""
        if self._opened is not None and self._opened[0] != self._settings().authority:
            self._renew_all()
        self._wake.set()

    async def has_issued(self, certificate: "x509.Certificate") -> bool:
        """Whether a certificate is one that was issued here, and valid."""
        if self._opened is None and not (self._folder / "ca.pem").exists():
            return False
        try:
            signer = await self._signer()
        except StateError as error:
            log.warning("no certificate counts as this device's own: %s", error)
            return False
        return signer.has_issued(certificate, self._now())

    async def run(self) -> None:
        """Renew certificates until cancelled."""
        while True:
            delay_s = min((each.due_s for each in self._subscribers), default=float("inf")) - self._now_s()
            # Clocks are set: look again now and then, whatever the time seems to be.
            await _wait(self._wake, min(max(delay_s, 0.0), 3600.0))
            for subscriber in [each for each in self._subscribers if each.due_s <= self._now_s()]:
                try:
                    await self._issue(subscriber)
                except StateError as error:
                    log.error("the server certificate of %s cannot be renewed: %s", subscriber.name, error)
                    subscriber.due_s = self._now_s() + self._least_s

    def _renew_all(self) -> None:
        if not self._settings().is_rotated:
            return
        for subscriber in self._subscribers:
            subscriber.due_s = 0.0
        self._wake.set()

    async def _issue(self, subscriber: _Subscriber) -> None:
        settings, signer, now = self._settings(), await self._signer(), self._now()
        lasts = timedelta(seconds=settings.validity_s)
        hosts = (*self._hosts, LOCAL_HOST)
        try:
            certificate = await asyncio.to_thread(
                local_authority.sign_server, signer, subscriber.key, subscriber.name, hosts, now, lasts
            )
        except (ValueError, TypeError) as error:
            raise StateError(f"no certificate can be made for {', '.join(hosts)}: {error}") from error
        ends_s = now.timestamp() + settings.validity_s
        subscriber.due_s = (
            max(ends_s - RENEW_S, now.timestamp() + self._least_s) if settings.is_rotated else float("inf")
        )
        log.info("%s has a server certificate until %s", subscriber.name, now + lasts)
        key = subscriber.key
        subscriber.send(
            ServerCertificate(
                private_key=key.private_pem, public_key=key.public_pem, certificate=certificate, authority=signer.pem
            )
        )

    async def _signer(self) -> Signer:
        async with self._opening:
            wanted = self._settings().authority
            if self._opened is None or self._opened[0] != wanted or self._opened[1].is_ending(self._now()):
                opened = await asyncio.to_thread(local_authority.open_authority, self._folder, wanted, self._now())
                self._opened = (wanted, opened)
            return self._opened[1]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._now_s(), UTC)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, or so long; the event is clear afterwards."""
    loop = asyncio.get_running_loop()
    alarm = loop.call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        alarm.cancel()
        event.clear()

"""Secrets of AWS Secrets Manager on this device: fetched as configured, kept encrypted, and served from there.

They are fetched when the nucleus starts, after each deployment, when the cloud comes back after it could not be asked,
and as often as configured. What could not be fetched stays as it was.

Source: aws.greengrass.SecretManager, ``SecretManager.java``, ``SecretManagerService.java``.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from monodon.core.cloud_secrets import CloudSecretSettings, WantedSecret
from monodon.core.configuration import Configuration
from monodon.core.names import ComponentName
from monodon.core.policy import SECRET_MANAGER
from monodon.deadlines import timeout
from monodon.errors import NetworkError, StateError
from monodon.nucleus.secrets import Secrets
from monodon.nucleus.state import DeviceState

log = logging.getLogger(__name__)

#: How long a component waits at most while others' secrets are fetched.
TURN_TIMEOUT_S: Final = 30.0
RETRY_S: Final = 60.0

_NAME: Final = ComponentName(SECRET_MANAGER)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedSecret:
    """One version of a secret, as the cloud has it."""

    name: str
    arn: str
    version_id: str
    labels: tuple[str, ...]
    value: str | bytes = field(repr=False)


class SecretSource(Protocol):
    """Where secrets come from."""

    async def fetch(self, arn: str, label: str) -> FetchedSecret:
        """Return the version of a secret that has a label; NetworkError says why not."""


class Network(Protocol):
    """The part of an uplink that is needed."""

    @property
    def is_connected(self) -> bool:
        """Whether the cloud can be reached now."""

    def watch_connection(self, notify: Callable[[bool], None]) -> Callable[[], None]:
        """Call ``notify`` with each change."""


class SecretConfiguration:
    """What the configuration of aws.greengrass.SecretManager says; what is wrong with it is logged once."""

    def __init__(self, state: DeviceState) -> None:
        self._state = state
        self._read: tuple[Configuration | None, CloudSecretSettings] = (None, CloudSecretSettings())

    def settings(self) -> CloudSecretSettings:
        """The settings of this moment; none where the component is not there."""
        found = self._state.configuration(_NAME)
        if found is not self._read[0]:
            self._read = (found, CloudSecretSettings.read(None if found is None else found.value()))
            for problem in self._read[1].problems:
                log.warning("%s: %s", _NAME, problem)
        return self._read[1]


class CloudSecrets:
    """Keeps the store as the cloud has it, while :meth:`run` runs.

    Args:
        source: None where the device has no cloud: what is stored is all there is.
    """

    def __init__(
        self,
        store: Secrets,
        *,
        source: SecretSource | None,
        network: Network,
        settings: Callable[[], CloudSecretSettings],
        retry_s: float = RETRY_S,
    ) -> None:
        self._store = store
        self._source = source
        self._network = network
        self._settings = settings
        self._retry_s = retry_s
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()

    def wanted(self, secret_id: str) -> WantedSecret | None:
        """Return the configured secret of that name or ARN."""
        return self._settings().wanted(secret_id)

    @property
    def is_reachable(self) -> bool:
        """Whether there is a cloud to ask now."""
        return self._source is not None and self._network.is_connected

    async def refresh(self, secret_id: str, label: str) -> bool:
        """Fetch the version with a label anew, if it is one that is configured; return whether it was.

        Failures are logged, and leave what is stored.
        """
        wanted = self.wanted(secret_id)
        if wanted is None or label not in wanted.labels:
            log.debug("%s of %s is not configured: not fetched", label, secret_id)
            return False
        try:
            async with timeout(TURN_TIMEOUT_S), self._turn:
                await self._fetch(wanted, label)
        except TimeoutError:
            log.warning("%s of %s stays as it is: others are fetched for %g s", label, wanted.arn, TURN_TIMEOUT_S)
            return False
        except (NetworkError, StateError) as error:
            log.warning("%s of %s stays as it is: %s", label, wanted.arn, error)
            return False
        return True

    async def _fetch(self, wanted: WantedSecret, label: str) -> None:
        if self._source is None:
            raise NetworkError("this device has no cloud")
        found = await self._source.fetch(wanted.arn, label)
        await asyncio.to_thread(
            self._store.keep,
            found.name,
            found.value,
            arn=found.arn,
            version_id=found.version_id,
            stages=found.labels,
        )

    def reconfigure(self) -> None:
        """A deployment ended: fetch what is configured now."""
        self._wake.set()

    async def run(self) -> None:
        """Keep the store up to date until cancelled."""
        if self._source is None:
            return
        unwatch = self._network.watch_connection(lambda is_connected: self._wake.set() if is_connected else None)
        try:
            while True:
                await self._forget()
                is_whole = not self._network.is_connected or await self._fetch_all()
                await self._pause(self._settings().refresh_s if is_whole else self._retry_s)
        finally:
            unwatch()

    async def _pause(self, seconds: float | None) -> None:
        try:
            async with timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _forget(self) -> None:
        """Forget what is configured no more."""
        settings = self._settings()

        def labels(arn: str) -> frozenset[str]:
            return frozenset(label for each in settings.secrets if each.has_arn(arn) for label in each.labels)

        try:
            await asyncio.to_thread(self._store.retain, labels)
        except StateError as error:
            log.warning("secrets that are configured no more stay: %s", error)

    async def _fetch_all(self) -> bool:
        """Fetch what is configured; return whether all came."""
        wanted = [(each.arn, label) for each in self._settings().secrets for label in each.labels]
        return all([await self.refresh(arn, label) for arn, label in wanted])

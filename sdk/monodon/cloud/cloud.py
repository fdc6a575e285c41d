"""The embedded cloud: its parts built, given what each needs, started and stopped together."""

import fcntl
import ipaddress
import json
import logging
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from monodon import __version__
from monodon.cloud.broker.server import ALPN
from monodon.cloud.certificates import HTTP_PROTOCOLS, CertificateAuthority
from monodon.cloud.parts import Parts
from monodon.cloud.server import bind, serving
from monodon.cloud.settings import Settings
from monodon.cloud.store import LOCK, READY, Store, claim, write_whole
from monodon.errors import NetworkError, StateError

__all__ = ["Cloud", "Parts", "Ready"]

log = logging.getLogger(__name__)

DEFAULT_REGION = "us-east-1"
DEFAULT_ACCOUNT = "123456789012"
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
        settings: limits that differ from AWS's.
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
        settings: Settings | None = None,
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
        self._settings = settings or Settings()
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
                settings=self._settings,
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

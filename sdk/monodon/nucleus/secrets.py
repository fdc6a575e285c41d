"""Secrets of a device: encrypted files under its root, which tools and the cloud fill, and components read over IPC.

Each secret is one file, AES-256-GCM under a key that lies beside them (mode 0600, in a folder of mode 0700). So a copy
of a secret's file alone says nothing, and who may read the nucleus's own files may read the secrets.
"""

import base64
import fcntl
import hashlib
import json
import os
import secrets
import string
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from monodon.core.json import Json
from monodon.errors import StateError
from monodon.nucleus.disk import read, write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: Where a device's secrets are, below its root.
SECRETS_FOLDER: Final = "secrets"
CURRENT: Final = "AWSCURRENT"
PREVIOUS: Final = "AWSPREVIOUS"

_MARK: Final = b"monodon-secret-1"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_SUFFIX: Final = string.ascii_letters + string.digits
_SUFFIX_LENGTH: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVersion:
    """One value of a secret, text or bytes, and the labels that point to it."""

    value: str | bytes = field(repr=False)
    stages: tuple[str, ...] = ()
    is_from_cloud: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret and its versions by id."""

    name: str
    arn: str
    versions: Mapping[str, SecretVersion]

    def labelled(self, stage: str) -> str | None:
        """Return the id of the version that has a label; a label is on one version at most."""
        return next((version_id for version_id, version in self.versions.items() if stage in version.stages), None)


class Secrets:
    """The secrets in one folder. Reads see what another process has put since."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, secret_id: str) -> Secret | None:
        """Return the secret of that name or ARN, or None.

        Raises:
            StateError: its file can't be read.
        """
        name = secret_id
        if secret_id.startswith("arn:"):
            name = secret_id.partition(":secret:")[2][: -_SUFFIX_LENGTH - 1]
        content = read(self._path(name)) if name else None
        if content is None:
            return None
        secret = _from_record(self._decrypt(content, name))
        return secret if secret_id in (secret.name, secret.arn) else None

    def names(self) -> list[str]:
        """Return the names of all secrets, in order."""
        contents = ((path, read(path)) for path in self._folder.glob("*.secret"))
        found = (self._decrypt(content, str(path)) for path, content in contents if content is not None)
        return sorted(str(record["name"]) for record in found)

    def put(
        self,
        name: str,
        value: str | bytes,
        *,
        version_id: str | None = None,
        stages: Sequence[str] = (CURRENT,),
        arn: str | None = None,
    ) -> Secret:
        """Add a version to a secret, or make the secret; labels move to the new version.

        What was AWSCURRENT becomes AWSPREVIOUS; versions without a label go, as in AWS Secrets Manager.

        Raises:
            StateError: the folder can't be written.
        """
        with self._locked():
            before = self.find(name) or Secret(name=name, arn=arn or _local_arn(name), versions={})
            moved = set(stages)
            former = before.labelled(CURRENT) if CURRENT in moved else None
            if former is not None:
                moved.add(PREVIOUS)
            kept: dict[str, SecretVersion] = {}
            for each, version in before.versions.items():
                labels = tuple(stage for stage in version.stages if stage not in moved)
                labels += (PREVIOUS,) if each == former and PREVIOUS not in stages else ()
                if labels:
                    kept[each] = replace(version, stages=labels)
            kept[version_id or str(uuid.uuid4())] = SecretVersion(value=value, stages=tuple(stages))
            secret = replace(before, arn=arn or before.arn, versions=kept)
            self._write(self._path(name), self._encrypt(_to_record(secret)))
            return secret

    def keep(self, name: str, value: str | bytes, *, arn: str, version_id: str, stages: Sequence[str]) -> None:
        """Take over a version from the cloud with the labels that it has there; others lose these labels.

        Raises:
            StateError: somebody put a secret of that name but another ARN on this device, or the disk refuses it.
        """
        with self._locked():
            before = self.find(name) or Secret(name=name, arn=arn, versions={})
            if before.arn != arn:
                raise StateError(
                    f"the secret {name} was put on this device as {before.arn}, and hides the cloud's {arn}",
                    hint=f"`monodon secret remove {name}` lets the cloud's take its place",
                )
            kept = {
                each: replace(version, stages=tuple(stage for stage in version.stages if stage not in stages))
                for each, version in before.versions.items()
                if each != version_id
            }
            kept = {each: version for each, version in kept.items() if version.stages}
            kept[version_id] = SecretVersion(value=value, stages=tuple(stages), is_from_cloud=True)
            secret = replace(before, versions=kept)
            if secret != before:
                self._write(self._path(name), self._encrypt(_to_record(secret)))

    def retain(self, labels: Callable[[str], Collection[str]]) -> None:
        """Forget versions of the cloud without a label that is still wanted: ``labels`` gives those of an ARN.

        Raises:
            StateError: a file can't be read or written.
        """
        for name in self.names():
            with self._locked():
                secret = self.find(name)
                if secret is None:
                    continue
                wanted = labels(secret.arn)
                kept = {
                    each: version
                    for each, version in secret.versions.items()
                    if not version.is_from_cloud or any(stage in wanted for stage in version.stages)
                }
                if not kept:
                    self.remove(name)
                elif len(kept) < len(secret.versions):
                    self._write(self._path(name), self._encrypt(_to_record(replace(secret, versions=kept))))

    def remove(self, name: str) -> bool:
        """Forget a secret; return whether there was one."""
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            return False
        return True

    def _path(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.secret"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"cannot keep secrets in {self._folder}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, path: Path, content: bytes) -> None:
        try:
            write_whole(path, content)
        except OSError as error:
            raise StateError(f"cannot write {path}: {error.strerror}") from error

    def _key(self, *, make: bool) -> bytes:
        path = self._folder / "key"
        key = read(path)
        if key is None and make:
            key = secrets.token_bytes(_KEY_BYTES)
            os.close(os.open(path.with_name(f".{path.name}.part"), os.O_WRONLY | os.O_CREAT, 0o600))
            self._write(path, key)
        if key is None or len(key) != _KEY_BYTES:
            raise StateError(f"the key of the secrets, {path}, is missing or damaged", hint="put the secrets anew")
        return key

    def _encrypt(self, record: Json) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + _cipher(self._key(make=True)).encrypt(nonce, json.dumps(record).encode(), _MARK)

    def _decrypt(self, content: bytes, name: str) -> Json:
        cipher = _cipher(self._key(make=False))
        from cryptography.exceptions import InvalidTag

        try:
            return json.loads(cipher.decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], _MARK))
        except (InvalidTag, ValueError) as error:
            raise StateError(
                f"the file of {name} is damaged, or was made with another key", hint="put it anew"
            ) from error


def _cipher(key: bytes) -> "AESGCM":
    """Return the cipher of a key; its library takes 30 ms to load, and is loaded only where there are secrets."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise StateError("secrets need the package cryptography", hint="pip install 'monodon[local]'") from error
    return AESGCM(key)


def _local_arn(name: str) -> str:
    """Return an ARN of the form that AWS gives, for a secret that is only here."""
    suffix = "".join(secrets.choice(_SUFFIX) for _ in range(_SUFFIX_LENGTH))
    return f"arn:aws:secretsmanager:local:000000000000:secret:{name}-{suffix}"


def _to_record(secret: Secret) -> Json:
    return {
        "name": secret.name,
        "arn": secret.arn,
        "versions": {
            version_id: {
                "stages": list(version.stages),
                **({"cloud": True} if version.is_from_cloud else {}),
                **(
                    {"string": version.value}
                    if isinstance(version.value, str)
                    else {"binary": base64.b64encode(version.value).decode()}
                ),
            }
            for version_id, version in secret.versions.items()
        },
    }


def _from_record(record: Json) -> Secret:
    return Secret(
        name=record["name"],
        arn=record["arn"],
        versions={
            version_id: SecretVersion(
                value=version["string"] if "string" in version else base64.b64decode(version["binary"]),
                stages=tuple(version["stages"]),
                is_from_cloud=version.get("cloud", False),
            )
            for version_id, version in record["versions"].items()
        },
    )

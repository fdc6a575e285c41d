"""Access keys: the account's first one, those of IAM users, and those that STS hands out for a while.

The first key stands in ``<state>/credentials``, a file as AWS's tools read it (``AWS_SHARED_CREDENTIALS_FILE``).
Secrets are kept as they are, in a database that its owner alone reads: to check a signature they must be known.
"""

import secrets
import string
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from monodon.cloud.store import Store, write_whole
from monodon.core.json import Json

CREDENTIALS = "credentials"
#: The key that the cloud's own URLs are signed with; nobody is told its secret.
OWN_KEY = "MONODONCLOUD"
_LETTERS = string.ascii_uppercase + "234567"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """One key, whose it is, and until when (seconds since the epoch; None: for ever)."""

    access_key: str
    secret: str
    arn: str
    user_id: str
    token: str | None = None
    expiration: float | None = None
    is_active: bool = True
    created: float = 0.0


class AccessKeys:
    """Every key of the account."""

    def __init__(self, store: Store, *, account: str, now: Callable[[], float]) -> None:
        self._store = store
        self._table = store.table("keys")
        self._root = f"arn:aws:iam::{account}:user/monodon"
        self._now = now

    def open(self, *, with_file: bool) -> None:
        """Make the cloud's own key, and the account's first one with its file, unless they are there."""
        with self._store.transaction():
            if self.find(OWN_KEY) is None:
                self.put(AccessKey(access_key=OWN_KEY, secret=_secret(), arn=self._root, user_id="AIDAMONODON"))
        path = self._store.folder / CREDENTIALS
        if path.exists() or not with_file:
            return
        key = self.make(self._root, "AIDAMONODON")
        text = f"[default]\naws_access_key_id = {key.access_key}\naws_secret_access_key = {key.secret}\n"
        write_whole(path, text.encode(), mode=0o600)

    def own_secret(self) -> str:
        """What the cloud's own URLs are signed with."""
        key = self.find(OWN_KEY)
        assert key is not None
        return key.secret

    def make(self, arn: str, user_id: str) -> AccessKey:
        """Make a lasting key."""
        key = AccessKey(
            access_key="AKIA" + _random(16), secret=_secret(), arn=arn, user_id=user_id, created=self._now()
        )
        self.put(key)
        return key

    def lend(self, arn: str, user_id: str, until: float) -> AccessKey:
        """Make a key with a session token; those that ended a day ago are forgotten."""
        with self._store.transaction():
            for old in list(self.all()):
                if old.expiration is not None and old.expiration < self._now() - 86_400:
                    self.delete(old.access_key)
            key = AccessKey(
                access_key="ASIA" + _random(16),
                secret=_secret(),
                token=secrets.token_urlsafe(120),
                arn=arn,
                user_id=user_id,
                expiration=until,
                created=self._now(),
            )
            self.put(key)
        return key

    def find(self, access_key: str) -> AccessKey | None:
        """One key."""
        record = self._table.get(access_key)
        return None if record is None else AccessKey(**record)

    def all(self) -> Iterator[AccessKey]:
        """Every key."""
        return (AccessKey(**record) for _, record in self._table.items())

    def put(self, key: AccessKey) -> None:
        """Keep a key."""
        record: dict[str, Json] = asdict(key)
        self._table.put(key.access_key, record)

    def delete(self, access_key: str) -> None:
        """Forget a key."""
        self._table.delete(access_key)


def _secret() -> str:
    return secrets.token_urlsafe(30)


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))

"""The password of the local debug console: made over IPC for a person at the device, good for eight hours.

Source: aws.greengrass.Cli, ``CLIEventStreamAgent.java``, ``CreateDebugPasswordHandler``; ipc.md 4.7.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Final

from monodon.core.policy import CLI
from monodon.ipc.service import Operation, Service
from monodon.ipc.shapes import CreateDebugPasswordRequest, CreateDebugPasswordResponse

USERNAME: Final = "debug"
LIFETIME_S: Final = 8 * 3600
_BYTES: Final = 24  # 32 characters
_MAX_VALID: Final = 100


class DebugPasswords:
    """The passwords that are good now, in memory and hashed; the oldest gives way when there are many."""

    def __init__(self, now_s: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic) -> None:
        """``now_s`` says when a password ends, ``clock`` has it end: the time of day may jump."""
        self._now_s, self._clock = now_s, clock
        self._expirations: dict[bytes, float] = {}

    def create(self) -> tuple[str, float]:
        """Return a new password and when it ends, in seconds since the epoch."""
        password, now = secrets.token_urlsafe(_BYTES), self._clock()
        self._expirations = {key: end for key, end in self._expirations.items() if end > now}
        if len(self._expirations) >= _MAX_VALID:
            del self._expirations[next(iter(self._expirations))]
        self._expirations[_digest(password)] = now + LIFETIME_S
        return password, self._now_s() + LIFETIME_S

    def allows(self, username: str, password: str) -> bool:
        """Whether this is a password that was made here and has not ended."""
        found = [end for key, end in self._expirations.items() if hmac.compare_digest(key, _digest(password))]
        return username == USERNAME and any(end > self._clock() for end in found)


def _digest(password: str) -> bytes:
    return hashlib.sha256(password.encode()).digest()


def debug_password_service(passwords: DebugPasswords) -> Service:
    """Return the service that makes debug passwords; the console has no certificate, so no hashes of one."""

    def create(request: CreateDebugPasswordRequest, caller: str) -> CreateDebugPasswordResponse:
        password, expires_at_s = passwords.create()
        return CreateDebugPasswordResponse(username=USERNAME, password=password, password_expiration=expires_at_s)

    return Service(CLI, {"aws.greengrass#CreateDebugPassword": Operation(create, resource=lambda request: "*")})

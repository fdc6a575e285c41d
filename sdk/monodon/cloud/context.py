"""Who asks, and of which account and region: what every operation of a backend gets besides its input."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """One request's surroundings.

    ``endpoint`` is the origin that the client used (``https://localhost:4566``), ``certificate_id`` the device's, if it
    showed one that the cloud's authority signed, ``access_key`` the key that a request is signed with.
    """

    region: str
    account: str
    request_id: str = "internal"
    endpoint: str = "http://127.0.0.1"
    certificate_id: str | None = None
    access_key: str | None = None

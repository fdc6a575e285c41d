"""Tokens over IPC: the stream manager asks whose a token is, to let components in by itself.

Source: Greengrass nucleus, ``AuthorizationIPCAgent.java``; ipc.md 4.8.
"""

from collections.abc import Callable
from typing import Final

from monodon.core.policy import STREAM_MANAGER
from monodon.ipc.errors import InvalidTokenError, UnauthorizedError
from monodon.ipc.service import Operation, Service
from monodon.ipc.shapes import ValidateAuthorizationTokenRequest, ValidateAuthorizationTokenResponse

_ALLOWED: Final = frozenset({STREAM_MANAGER})


def authorization_service(owner: Callable[[str], str | None]) -> Service:
    """Return the service of tokens; ``owner`` says whose a token is."""

    def validate(request: ValidateAuthorizationTokenRequest, caller: str) -> ValidateAuthorizationTokenResponse:
        if caller not in _ALLOWED:
            raise UnauthorizedError(f"{caller} is not authorized to perform aws.greengrass#ValidateAuthorizationToken")
        if owner(request.token or "") is None:
            raise InvalidTokenError("Invalid token")
        return ValidateAuthorizationTokenResponse(is_valid=True)

    return Service(
        "aws.greengrass.ipc.authorization", {"aws.greengrass#ValidateAuthorizationToken": Operation(validate)}
    )

"""awsiotsdk's errors as ``IpcError``: what was refused, by which name, and what to do about it."""

from awscrt.exceptions import AwsCrtError
from awsiot.eventstreamrpc import (
    AccessDeniedError,
    ConnectionClosedError,
    DeserializeError,
    EventStreamError,
    SerializeError,
    StreamClosedError,
    UnmappedDataError,
)
from awsiot.greengrasscoreipc.model import GreengrassCoreIPCError

from monodon.component.messages import INVALID_MESSAGE
from monodon.errors import IpcError

ACCESS_DENIED = "AccessDenied"
CONNECTION_LOST = "ConnectionLost"
TIMEOUT = "Timeout"

#: Codes of errors that another attempt may not meet.
TRANSIENT = frozenset({ACCESS_DENIED, CONNECTION_LOST, TIMEOUT, "ServiceError"})

_HINTS = {
    "UnauthorizedError": "the component's recipe or configuration needs an accessControl entry that allows it",
}


def lost(what: str) -> IpcError:
    """Return the error of a call without a connection."""
    return IpcError(f"{what}: not connected to the nucleus", code=CONNECTION_LOST)


def timed_out(what: str, deadline_s: float) -> IpcError:
    """Return the error of a call that was not answered; it may have been carried out all the same."""
    return IpcError(f"{what}: no answer from the nucleus within {deadline_s:g} s", code=TIMEOUT)


def translate(what: str, error: Exception) -> IpcError:
    """Return an error of awsiotsdk or awscrt as ours."""
    if isinstance(error, GreengrassCoreIPCError):
        code = type(error).__name__
        message = getattr(error, "message", None) or "no reason given"
        return IpcError(f"{what}: {code}: {message}", code=code, hint=_HINTS.get(code))
    if isinstance(error, AccessDeniedError):
        return IpcError(
            f"{what}: the nucleus refuses the token of this process",
            code=ACCESS_DENIED,
            hint="SVCUID is only good for the process that the nucleus started with it",
        )
    if isinstance(error, SerializeError | DeserializeError | UnmappedDataError):
        return IpcError(f"{what}: {type(error).__name__}: {error}", code=INVALID_MESSAGE)
    is_native = type(error) is RuntimeError and "AWS_" in str(error)  # what awscrt raises at once has no type
    if is_native or isinstance(error, StreamClosedError | ConnectionClosedError | EventStreamError | AwsCrtError):
        reason = str(error) or "closed without an answer"
        return IpcError(f"{what}: the connection to the nucleus broke: {reason}", code=CONNECTION_LOST)
    return IpcError(f"{what}: {type(error).__name__}: {error}")

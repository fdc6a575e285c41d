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

from monodon.component.messages import CONNECTION_LOST, INVALID_MESSAGE, TIMEOUT
from monodon.errors import IpcError

ACCESS_DENIED = "AccessDenied"

#: The connection was closed before the request was on its way, so it may be sent again on the next one.
NOT_SENT = "NotSent"

#: Codes of errors that another attempt may not meet.
TRANSIENT = frozenset({ACCESS_DENIED, CONNECTION_LOST, NOT_SENT, TIMEOUT, "ServiceError"})

_BROKEN: tuple[type[Exception], ...] = (StreamClosedError, EventStreamError, AwsCrtError)
_SIZE = "AWS_ERROR_EVENT_STREAM_MESSAGE_FIELD_SIZE_EXCEEDED"
_CLOSED = "AWS_ERROR_EVENT_STREAM_RPC_CONNECTION_CLOSED"


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
        return IpcError(f"{what}: {code}: {message}", code=code)
    if isinstance(error, AccessDeniedError):
        return IpcError(
            f"{what}: the nucleus refuses the token of this process",
            code=ACCESS_DENIED,
            hint="SVCUID is only good for the process that the nucleus started with it",
        )
    if isinstance(error, SerializeError | DeserializeError | UnmappedDataError):
        return IpcError(f"{what}: {type(error).__name__}: {error}", code=INVALID_MESSAGE)
    native = str(error) if type(error) is RuntimeError else ""  # what awscrt raises at once has no type of its own
    if isinstance(error, ConnectionClosedError) or _CLOSED in native:
        return IpcError(f"{what}: the connection to the nucleus is closed", code=NOT_SENT)
    if _SIZE in native:
        return IpcError(
            f"{what}: the message is too large: {error}",
            code=INVALID_MESSAGE,
            hint="a frame holds 24 MiB, which is 18.8 MB in base64; arrays go by reference: component.share(array)",
        )
    if "AWS_" in native or isinstance(error, _BROKEN):
        reason = str(error) or "closed without an answer"
        return IpcError(f"{what}: the connection to the nucleus broke: {reason}", code=CONNECTION_LOST)
    return IpcError(f"{what}: {type(error).__name__}: {error}")

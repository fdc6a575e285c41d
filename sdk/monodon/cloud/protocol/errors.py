"""What a backend raises, and what a client reads: AWS's error name, a message, and the error's other members."""

from collections.abc import Mapping

from monodon.core.json import Json
from monodon.errors import MonodonError


class ServiceError(MonodonError):
    """An AWS error: ``code`` is its name in the service model, ``members`` what it carries besides the message.

    ``status`` overrides the HTTP status of the model, and is needed for errors that the model does not have.
    """

    def __init__(self, code: str, message: str, *, status: int | None = None, **members: Json) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.members: Mapping[str, Json] = members


#: What a service calls a request that its model refuses; by signing name.
_VALIDATION = {
    "greengrass": "ValidationException",
    "iot": "InvalidRequestException",
    "iotdata": "InvalidRequestException",
    "iot-jobs-data": "InvalidRequestException",
    "s3": "InvalidRequest",
    "sts": "ValidationError",
    "iam": "ValidationError",
}


def validation_error(
    service: str, problems: list[tuple[str, str]], reason: str = "FIELD_VALIDATION_FAILED"
) -> ServiceError:
    """The error of a request that does not fit its model.

    Args:
        problems: (field, what is wrong with it), at least one.
        reason: Greengrass's ``ValidationExceptionReason``.
    """
    count = len(problems)
    listed = "; ".join(text for _, text in problems)
    message = f"{count} validation error{'s' if count > 1 else ''} detected: {listed}"
    if reason == "CANNOT_PARSE":
        message = listed
    code = _VALIDATION.get(service, "ValidationException")
    if service != "greengrass":
        return ServiceError(code, message, status=400)
    fields = [{"name": name, "message": text} for name, text in problems]
    return ServiceError(code, message, status=400, reason=reason, fields=fields)


def unknown_operation(service: str, method: str, path: str) -> ServiceError:
    """The error of a request that no operation of the service's model fits."""
    message = f"{service} has no operation {method} {path}"
    if service == "greengrass":
        return ServiceError("ValidationException", message, status=404, reason="UNKNOWN_OPERATION")
    if service == "s3":
        return ServiceError("MethodNotAllowed", message, status=405)
    return ServiceError("UnknownOperationException", message, status=404)


def not_implemented(service: str, operation: str) -> ServiceError:
    """The error of an operation that AWS has and the embedded cloud does not."""
    code = "NotImplemented" if service == "s3" else "NotImplementedException"
    return ServiceError(code, f"the embedded cloud does not implement {service}:{operation}", status=501)

"""Every operation of the service model, as data: its shapes, its errors and the policy it asks for.

Source: awsiotsdk 1.31.0, ``greengrasscoreipc/model.py``; ipc.md section 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from monodon.core.policy import SERVICE_OF
from monodon.ipc import shapes
from monodon.ipc.errors import ERRORS
from monodon.ipc.serialisation import Shape

PREFIX: Final = "aws.greengrass#"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationModel:
    """One operation. A streaming one has an ``event``; one without ``service`` asks for no policy."""

    name: str
    request: type[Shape]
    response: type[Shape]
    event: type[Shape] | None
    errors: frozenset[str]
    service: str | None


def model_type(shape: type[Shape]) -> str:
    """Return the full shape id, as the ``service-model-type`` header has it."""
    return PREFIX + shape.__name__


_ARGUMENTS: Final = "InvalidArgumentsError"
_NOT_FOUND: Final = "ResourceNotFoundError"

#: operation: (stream event or None, errors besides ServiceError, and besides UnauthorizedError where a policy is)
_TABLE: Final[Mapping[str, tuple[str | None, str]]] = {
    "PublishToTopic": (None, _ARGUMENTS),
    "SubscribeToTopic": ("SubscriptionResponseMessage", _ARGUMENTS),
    "PublishToIoTCore": (None, _ARGUMENTS),
    "SubscribeToIoTCore": ("IoTCoreMessage", _ARGUMENTS),
    "SubscribeToIoTCoreConnectionStatus": ("IoTCoreConnectionStatusEvent", _ARGUMENTS),
    "GetConfiguration": (None, _NOT_FOUND),
    "UpdateConfiguration": (None, f"{_ARGUMENTS} FailedUpdateConditionCheckError ConflictError"),
    "SubscribeToConfigurationUpdate": ("ConfigurationUpdateEvents", _NOT_FOUND),
    "SubscribeToValidateConfigurationUpdates": ("ValidateConfigurationUpdateEvents", ""),
    "SendConfigurationValidityReport": (None, _ARGUMENTS),
    "UpdateState": (None, _NOT_FOUND),
    "SubscribeToComponentUpdates": ("ComponentUpdatePolicyEvents", _NOT_FOUND),
    "DeferComponentUpdate": (None, f"{_ARGUMENTS} {_NOT_FOUND}"),
    "PauseComponent": (None, f"{_ARGUMENTS} {_NOT_FOUND}"),
    "ResumeComponent": (None, f"{_ARGUMENTS} {_NOT_FOUND}"),
    "GetSecretValue": (None, _NOT_FOUND),
    "GetThingShadow": (None, f"{_ARGUMENTS} {_NOT_FOUND}"),
    "UpdateThingShadow": (None, f"{_ARGUMENTS} ConflictError"),
    "DeleteThingShadow": (None, f"{_ARGUMENTS} {_NOT_FOUND}"),
    "ListNamedShadowsForThing": (None, f"{_ARGUMENTS} {_NOT_FOUND}"),
    "ListComponents": (None, ""),
    "GetComponentDetails": (None, f"{_ARGUMENTS} {_NOT_FOUND}"),
    "RestartComponent": (None, f"{_ARGUMENTS} {_NOT_FOUND} ComponentNotFoundError"),
    "StopComponent": (None, f"{_ARGUMENTS} {_NOT_FOUND} ComponentNotFoundError"),
    "CreateLocalDeployment": (
        None,
        f"{_ARGUMENTS} InvalidRecipeDirectoryPathError InvalidArtifactsDirectoryPathError",
    ),
    "CancelLocalDeployment": (None, f"{_ARGUMENTS} {_NOT_FOUND}"),
    "GetLocalDeploymentStatus": (None, f"{_ARGUMENTS} {_NOT_FOUND}"),
    "ListLocalDeployments": (None, ""),
    "CreateDebugPassword": (None, ""),
    "ValidateAuthorizationToken": (None, "UnauthorizedError InvalidTokenError"),
    "PutComponentMetric": (None, _ARGUMENTS),
    "GetClientDeviceAuthToken": (None, f"{_ARGUMENTS} InvalidCredentialError"),
    "VerifyClientDeviceIdentity": (None, _ARGUMENTS),
    "AuthorizeClientDeviceAction": (None, f"{_ARGUMENTS} InvalidClientDeviceAuthTokenError"),
    "SubscribeToCertificateUpdates": ("CertificateUpdateEvent", _ARGUMENTS),
}


def _model(name: str, event: str | None, errors: str) -> OperationModel:
    service = SERVICE_OF.get(PREFIX + name)
    names = {*errors.split(), "ServiceError", *(["UnauthorizedError"] if service else [])}
    assert names <= ERRORS.keys(), name
    return OperationModel(
        name=PREFIX + name,
        request=getattr(shapes, f"{name}Request"),
        response=getattr(shapes, f"{name}Response"),
        event=getattr(shapes, event) if event else None,
        errors=frozenset(names),
        service=service,
    )


#: Every operation by its full name.
OPERATIONS: Final[Mapping[str, OperationModel]] = {
    PREFIX + name: _model(name, event, errors) for name, (event, errors) in _TABLE.items()
}

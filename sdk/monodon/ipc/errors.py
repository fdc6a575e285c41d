"""The errors of the service model. The name of a class is the name a client sees; raise one to answer with it."""

import json

from monodon.errors import IpcError

SERVICE = "aws.greengrass#GreengrassCoreIPC"


class ModelledError(IpcError):
    """An error that the client maps to its class of the same name; never raised itself."""

    def __init__(self, message: str, *, hint: str | None = None, **members: object) -> None:
        super().__init__(message, code=type(self).__name__, hint=hint)
        self.members = {name: value for name, value in members.items() if value is not None}

    @property
    def model_type(self) -> str:
        """The ``service-model-type``."""
        return f"aws.greengrass#{type(self).__name__}"

    def body(self) -> bytes:
        """The JSON text: Python's client reads ``message``, others the underscored fields."""
        fields = {
            "_service": SERVICE,
            "_message": self.message,
            "_errorCode": type(self).__name__,
            "message": self.message,
        }
        return json.dumps({**fields, **self.members}).encode("ascii")


class ServiceError(ModelledError):
    """Something went wrong on the nucleus's side, or is not offered."""


class UnauthorizedError(ModelledError):
    """The caller's policies don't allow it."""


class InvalidArgumentsError(ModelledError):
    """The request is not what it must be."""


class ResourceNotFoundError(ModelledError):
    """What the request names is not there; members ``resourceType`` and ``resourceName``."""


class ComponentNotFoundError(ModelledError):
    """No such component."""


class ConflictError(ModelledError):
    """The request was made against an older version."""


class FailedUpdateConditionCheckError(ModelledError):
    """A configuration update older than what is there."""


class InvalidTokenError(ModelledError):
    """Not a token that this nucleus gave out."""


class InvalidRecipeDirectoryPathError(ModelledError):
    """A local deployment's recipes can't be read from there."""


class InvalidArtifactsDirectoryPathError(ModelledError):
    """A local deployment's artifacts can't be read from there."""


class InvalidClientDeviceAuthTokenError(ModelledError):
    """Not a client device's session."""


class InvalidCredentialError(ModelledError):
    """A client device's credential was refused."""


#: Every error by its name.
ERRORS: dict[str, type[ModelledError]] = {error.__name__: error for error in ModelledError.__subclasses__()}

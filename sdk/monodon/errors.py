"""Every error that Monodon raises on purpose.

::

    MonodonError                    message, and a hint that says what to do about it
    ├── InvalidName                 a component, thing or ARN that AWS would refuse
    ├── InvalidVersion              not a semantic version
    ├── InvalidRequirement          not a version requirement a device understands
    ├── RecipeError                 a recipe with problems; all of them, with line and column
    ├── ConfigurationError          a configuration value, key or update that cannot be used
    ├── DeploymentError             a deployment that failed; AWS's error codes, general first
    ├── InvalidTransition           an event that cannot happen in a lifecycle state
    ├── StateError                  a state folder that is in use, of another version, or damaged
    ├── NetworkError                something remote refused, failed, or did not answer in time
    ├── IpcError                    an IPC call was refused or its connection broke
    ├── FrameError                  a picture, clip or camera that gives no usable frame
    ├── ModelError                  a model, its labels or its manifest that cannot be used
    ├── PublishError                a component version that could not be published
    └── FleetError                  a fleet operation that AWS refused or that failed on devices
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monodon.core.recipe.problems import Problem


class MonodonError(Exception):
    """Base of every error Monodon raises on purpose; never raised itself. ``hint`` says what to do about it."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidName(MonodonError):
    """A component name, thing name or ARN that AWS would refuse."""


class InvalidVersion(MonodonError):
    """The text is not a semantic version."""


class InvalidRequirement(MonodonError):
    """The text is not a version requirement that a device understands."""


class RecipeError(MonodonError):
    """A recipe that cannot be used; ``problems`` holds every one that was found."""

    def __init__(self, message: str, *, problems: Sequence["Problem"] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class ConfigurationError(MonodonError):
    """A configuration value, key or update that cannot be used."""


class DeploymentError(MonodonError):
    """A deployment that failed, with AWS's error codes (general first) and error types.

    Source: Greengrass nucleus, ``deployment/errorcode/DeploymentErrorCode.java``.
    """

    def __init__(
        self, message: str, *, codes: Sequence[str] = (), types: Sequence[str] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.codes = tuple(codes)
        self.types = tuple(types)


class InvalidTransition(MonodonError):
    """An event that cannot happen in a lifecycle state."""


class StateError(MonodonError):
    """A state folder that is in use, of another version, or damaged."""


class NetworkError(MonodonError):
    """Something remote refused, failed, or did not answer in time."""


class IpcError(MonodonError):
    """An IPC call was refused, or its connection broke; ``code`` is the service model's error name, if any."""

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class FrameError(MonodonError):
    """A picture, clip or camera that gives no usable frame."""


class ModelError(MonodonError):
    """A model, its labels or its manifest that cannot be used."""


class PublishError(MonodonError):
    """A component version that could not be published."""


class FleetError(MonodonError):
    """A fleet operation that AWS refused, or that failed on devices."""

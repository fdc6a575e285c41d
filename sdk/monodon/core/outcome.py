"""How a deployment ends, in AWS's words: detailed status, cause, error codes and error types."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from monodon.core.json import Json
from monodon.errors import DeploymentError, MonodonError

#: IoT Jobs refuses longer values. Source: cloud notes, section 5.
MAX_DETAIL_LENGTH = 1024

FIRST_CODE = "DEPLOYMENT_FAILURE"
REJECTED_CODE = "DEPLOYMENT_REJECTED"


class DetailedStatus(StrEnum):
    """What became of the device."""

    SUCCESSFUL = "SUCCESSFUL"
    FAILED_NO_STATE_CHANGE = "FAILED_NO_STATE_CHANGE"
    FAILED_ROLLBACK_NOT_REQUESTED = "FAILED_ROLLBACK_NOT_REQUESTED"
    FAILED_ROLLBACK_COMPLETE = "FAILED_ROLLBACK_COMPLETE"
    FAILED_UNABLE_TO_ROLLBACK = "FAILED_UNABLE_TO_ROLLBACK"
    REJECTED = "REJECTED"


class Status(StrEnum):
    """How a deployment fares, as jobs, shadows and local callers see it."""

    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    CANCELED = "CANCELED"


_REQUEST = ("REQUEST_ERROR",)
_RECIPE = ("COMPONENT_RECIPE_ERROR",)
_DEVICE = ("DEVICE_ERROR",)
_COMPONENT = ("COMPONENT_ERROR",)

#: Which type a code belongs to; codes that begin with ``IO_`` are the device's.
#: Source: Greengrass nucleus, ``deployment/errorcode/DeploymentErrorCode.java``.
ERROR_TYPES: Mapping[str, tuple[str, ...]] = {
    "DEPLOYMENT_DOCUMENT_NOT_VALID": _REQUEST,
    "COMPONENT_VERSION_REQUIREMENTS_NOT_MET": _REQUEST,
    "COMPONENT_CIRCULAR_DEPENDENCY_ERROR": _REQUEST,
    "MULTIPLE_NUCLEUS_RESOLVED_ERROR": _REQUEST,
    "UNAUTHORIZED_NUCLEUS_MINOR_VERSION_UPDATE": _REQUEST,
    "MISSING_DOCKER_APPLICATION_MANAGER": _REQUEST,
    "NUCLEUS_MISSING_REQUIRED_CAPABILITIES": _REQUEST,
    "RUN_WITH_CONFIG_NOT_VALID": _REQUEST,
    "RECIPE_PARSE_ERROR": _RECIPE,
    "RECIPE_MISSING_MANIFEST": _RECIPE,
    "RECIPE_MISSING_ARTIFACT_HASH_ALGORITHM": _RECIPE,
    "EMPTY_ARTIFACT_SCHEME": _RECIPE,
    "UNSUPPORTED_ARTIFACT_SCHEME": _RECIPE,
    "ARTIFACT_CHECKSUM_MISMATCH": _RECIPE,
    "COMPONENT_DEPENDENCY_NOT_VALID": _RECIPE,
    "COMPONENT_VERSION_NOT_VALID": _RECIPE,
    "LOCAL_RECIPE_NOT_FOUND": _DEVICE,
    "LOCAL_RECIPE_CORRUPTED": _DEVICE,
    "DISK_SPACE_CRITICAL": _DEVICE,
    "SET_PERMISSION_ERROR": _DEVICE,
    "COMPONENT_UPDATE_ERROR": _COMPONENT,
    "COMPONENT_BROKEN": _COMPONENT,
    "COMPONENT_BOOTSTRAP_ERROR": _COMPONENT,
    "COMPONENT_BOOTSTRAP_TIMEOUT": _COMPONENT,
    "COMPONENT_CONFIGURATION_NOT_VALID": _COMPONENT,
    "REMOVE_COMPONENT_ERROR": _COMPONENT,
    "NETWORK_ERROR": ("NETWORK_ERROR",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of a deployment. ``cause`` says why it failed; the error stack goes from general to particular."""

    status: Status
    detailed: DetailedStatus | None = None
    cause: str | None = None
    error_stack: tuple[str, ...] = ()
    error_types: tuple[str, ...] = ()

    @property
    def has_succeeded(self) -> bool:
        """Whether the device runs what was asked for."""
        return self.status is Status.SUCCEEDED

    def job_details(self) -> dict[str, str]:
        """The ``statusDetails`` of a job execution: texts without control characters, each at most 1024 long."""
        details = {
            "detailed-deployment-status": self.detailed or "",
            "deployment-failure-cause": self.cause or "",
            "deployment-error-stack": _fitting_list(self.error_stack),
            "deployment-error-types": _fitting_list(self.error_types),
        }
        return {key: _printable(value)[:MAX_DETAIL_LENGTH] for key, value in details.items() if value}

    def shadow_details(self) -> dict[str, Json]:
        """The ``statusDetails`` of the deployment shadow; an empty cause clears the one of before."""
        return {
            "detailedStatus": None if self.detailed is None else str(self.detailed),
            "failureCause": self.cause or "",
            "errorStack": list(self.error_stack),
            "errorTypes": list(self.error_types),
        }

    def to_record(self) -> dict[str, Json]:
        """The JSON object that ``from_record`` reads."""
        return {
            "status": str(self.status),
            "detailed": None if self.detailed is None else str(self.detailed),
            "cause": self.cause,
            "error_stack": list(self.error_stack),
            "error_types": list(self.error_types),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Json]) -> "Outcome":
        """Read what ``to_record`` wrote."""
        detailed = record["detailed"]
        return cls(
            status=Status(record["status"]),
            detailed=None if detailed is None else DetailedStatus(detailed),
            cause=record["cause"],
            error_stack=tuple(record["error_stack"]),
            error_types=tuple(record["error_types"]),
        )


SUCCEEDED = Outcome(status=Status.SUCCEEDED, detailed=DetailedStatus.SUCCESSFUL)
CANCELED = Outcome(status=Status.CANCELED)


def failure(error: BaseException, detailed: DetailedStatus | None, *, is_local: bool = False) -> Outcome:
    """Return the outcome of a deployment that ended by ``error``.

    The cause joins the messages of the error and of those that caused it with ``. ``. What is not a DeploymentError
    adds no code. A local deployment's component errors are the user's own.

    Source: Greengrass nucleus, ``DeploymentErrorCodeUtils.java``.
    """
    chain = list(_chain(error))
    codes: dict[str, None] = {FIRST_CODE: None}
    types: dict[str, None] = {}
    for link in chain:
        if isinstance(link, DeploymentError):
            codes.update(dict.fromkeys(link.codes))
            types.update(dict.fromkeys(link.types))
    for code in codes:
        types.update(dict.fromkeys(ERROR_TYPES.get(code, _DEVICE if code.startswith("IO_") else ())))
    if is_local:
        types = dict.fromkeys("USER_COMPONENT_ERROR" if kind == "COMPONENT_ERROR" else kind for kind in types)
    return Outcome(
        status=Status.FAILED,
        detailed=detailed,
        cause=". ".join(dict.fromkeys(_message(link) for link in chain)),
        error_stack=tuple(codes),
        error_types=tuple(types),
    )


def rejection(cause: str, *codes: str) -> Outcome:
    """Return the outcome of a deployment that the device does not even begin."""
    return Outcome(
        status=Status.REJECTED,
        detailed=DetailedStatus.REJECTED,
        cause=cause,
        error_stack=(REJECTED_CODE, *codes),
    )


def _chain(error: BaseException) -> Iterable[BaseException]:
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        seen.append(link)
        link = link.__cause__
    return seen


def _message(error: BaseException) -> str:
    if isinstance(error, MonodonError):
        return error.message if error.hint is None else f"{error.message} ({error.hint})"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _printable(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ufeff]+", " ", text)


def _fitting_list(texts: tuple[str, ...]) -> str:
    """A JSON list that fits; the last texts go first."""
    if not texts:
        return ""
    kept = list(texts)
    while len(json.dumps(kept)) > MAX_DETAIL_LENGTH:
        kept.pop()
    return json.dumps(kept)

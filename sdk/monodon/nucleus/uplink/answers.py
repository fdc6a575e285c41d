"""What the cloud's HTTPS answers say, and what a refusal is to a deployment: AWS's error codes and types."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus

from monodon.core.json import Json
from monodon.core.large_document import ALGORITHM
from monodon.errors import DeploymentError, NetworkError
from monodon.nucleus.uplink.exchange import Answer
from monodon.nucleus.uplink.protocol import CandidateRequest, RoleCredentials

_PERMISSION = ("PERMISSION_ERROR",)
_REQUEST = ("REQUEST_ERROR",)
_NO_VERSION = ("NO_AVAILABLE_COMPONENT_VERSION", "COMPONENT_VERSION_REQUIREMENTS_NOT_MET")


def check_service(answer: Answer, where: str) -> None:
    """Raise NetworkError where asking again later may help."""
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise NetworkError(f"{where} answered {answer.status}: {_message(answer)}")


def read_large_document(answer: Answer) -> tuple[str, str]:
    """Return URL and digest in an answer to GetDeploymentConfiguration.

    Raises:
        NetworkError: they are not there.
    """
    body = read_object(answer)
    check = body.get("integrityCheck")
    url, algorithm, digest = (
        body.get("preSignedUrl"),
        *((check.get("algorithm"), check.get("digest")) if isinstance(check, Mapping) else (None, None)),
    )
    if not isinstance(url, str) or not isinstance(digest, str) or algorithm != ALGORITHM:
        raise NetworkError(f"the cloud gave no URL with a {ALGORITHM} of the deployment's document")
    return url, digest


def candidate_error(request: CandidateRequest, answer: Answer) -> DeploymentError:
    """What a refused ResolveComponentCandidates is."""
    if answer.status != HTTPStatus.NOT_FOUND:
        return api_error("ResolveComponentCandidates", answer)
    wanted = ", ".join(f"{who} needs {what}" for who, what in sorted(request.requirements.items()))
    message = _message(answer)
    if "claim platform" in message:
        platform = ", ".join(f"{key} {value}" for key, value in sorted(request.platform.items()))
        return DeploymentError(
            f"no version of {request.name} is for this device's platform ({platform})",
            codes=_NO_VERSION,
            types=_REQUEST,
            hint="add a manifest for this platform to the component's recipe",
        )
    return DeploymentError(
        f"no version of {request.name} fits: {wanted or message}",
        codes=_NO_VERSION,
        types=_REQUEST,
        hint="publish a version that satisfies all of these, or relax one of them",
    )


#: HTTP status → (error codes, error types). Source: Greengrass nucleus, ``DeploymentErrorCode.java``.
_API_CODES: Mapping[int, tuple[str, tuple[str, ...]]] = {
    HTTPStatus.BAD_REQUEST: ("BAD_REQUEST", ("NUCLEUS_ERROR",)),
    HTTPStatus.FORBIDDEN: ("ACCESS_DENIED", _PERMISSION),
    HTTPStatus.UNAUTHORIZED: ("ACCESS_DENIED", _PERMISSION),
    HTTPStatus.NOT_FOUND: ("RESOURCE_NOT_FOUND", _REQUEST),
    HTTPStatus.CONFLICT: ("CONFLICTED_REQUEST", _REQUEST),
}
_DENIED = {
    "ResolveComponentCandidates": ("RESOLVE_COMPONENT_CANDIDATES_ACCESS_DENIED",),
    "GetComponentVersionArtifact": ("GET_COMPONENT_VERSION_ARTIFACT_ACCESS_DENIED",),
    "GetDeploymentConfiguration": ("GET_DEPLOYMENT_CONFIGURATION_ACCESS_DENIED",),
}


def api_error(operation: str, answer: Answer) -> DeploymentError:
    """What any other refused operation of the data plane is."""
    code, types = _API_CODES.get(answer.status, ("HTTP_REQUEST_ERROR", ("HTTP_ERROR",)))
    return DeploymentError(
        f"{operation} was refused with {answer.status}: {_message(answer)}",
        codes=("CLOUD_API_ERROR", code, *(_DENIED.get(operation, ()) if code == "ACCESS_DENIED" else ())),
        types=types,
    )


def artifact_error(uri: str, answer: Answer) -> DeploymentError:
    """What an artifact is that is not given."""
    is_s3 = uri.lower().startswith("s3:")
    if answer.status == HTTPStatus.NOT_FOUND:
        codes, types, why = ("S3_GET_OBJECT_RESOURCE_NOT_FOUND",), _REQUEST, "it is not there"
    elif answer.status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED):
        codes, types, why = ("S3_GET_OBJECT_ACCESS_DENIED",), _PERMISSION, "the device's role may not read it"
    else:
        codes, types, why = ("S3_BAD_REQUEST",), ("DEPENDENCY_ERROR",), f"S3 answered {answer.status}"
    if not is_s3:
        codes, types, why = ("DOWNLOAD_GREENGRASS_ARTIFACT_ERROR",), ("HTTP_ERROR",), f"the answer is {answer.status}"
    return DeploymentError(
        f"the artifact {uri} cannot be fetched: {why}", codes=("ARTIFACT_DOWNLOAD_ERROR", *codes), types=types
    )


def read_credentials(answer: Answer) -> RoleCredentials:
    """Return what the credential provider gives.

    Raises:
        NetworkError: it refused, or its answer makes no sense.
    """
    if answer.status != HTTPStatus.OK:
        raise NetworkError(
            f"the credential provider refused with {answer.status}: {_message(answer)}",
            hint="the certificate's policy must allow iot:AssumeRoleWithCertificate on the role alias",
        )
    try:
        given = read_object(answer)["credentials"]
        expiration = datetime.fromisoformat(given["expiration"])
        return RoleCredentials(
            access_key_id=given["accessKeyId"],
            secret_access_key=given["secretAccessKey"],
            session_token=given["sessionToken"],
            expiration=expiration if expiration.tzinfo else expiration.replace(tzinfo=UTC),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise NetworkError(f"the credential provider's answer cannot be read: {error!r}") from error


def read_object(answer: Answer) -> Mapping[str, Json]:
    """Return the JSON object in an answer.

    Raises:
        NetworkError: there is none.
    """
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise NetworkError(f"the cloud's answer is not JSON: {error}") from None
    if not isinstance(body, Mapping):
        raise NetworkError("the cloud's answer is not a JSON object")
    return body


def _message(answer: Answer) -> str:
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        body = None
    message = body.get("message", body.get("Message")) if isinstance(body, Mapping) else None
    return str(message) if message else answer.headers.get("x-amzn-errortype", "no reason given")

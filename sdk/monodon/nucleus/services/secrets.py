"""Secrets over IPC: components get those whose ARN their policies name.

Source: aws.greengrass.SecretManager, ``SecretManagerService.java``, ``SecretManager.java``; ipc.md 4.5.
"""

from monodon.core.policy import SECRET_MANAGER
from monodon.ipc.errors import ResourceNotFoundError, ServiceError
from monodon.ipc.service import Operation, Service
from monodon.ipc.shapes import GetSecretValueRequest, GetSecretValueResponse, SecretValue
from monodon.nucleus.secrets import CURRENT, Secret, Secrets


def _not_found(what: str, name: str) -> ResourceNotFoundError:
    return ResourceNotFoundError(what, resourceType="secret", resourceName=name)


def secret_service(secrets: Secrets) -> Service:
    """Return the service of secrets."""

    def find(request: GetSecretValueRequest) -> Secret:
        if not request.secret_id:
            raise ServiceError("secretId is required")
        secret = secrets.find(request.secret_id)
        if secret is None:
            raise _not_found(f"Secret {request.secret_id} is not configured on this device", request.secret_id)
        return secret

    def get_secret_value(request: GetSecretValueRequest, caller: str) -> GetSecretValueResponse:
        secret = find(request)
        if request.version_id and request.version_stage:
            raise ServiceError("versionId and versionStage can't both be given")
        stage = request.version_stage or CURRENT
        version_id = request.version_id or secret.labelled(stage)
        version = secret.versions.get(version_id or "")
        if version is None or version_id is None:
            wanted = f"version {request.version_id}" if request.version_id else f"label {stage}"
            raise _not_found(f"Secret {secret.name} has no {wanted}", secret.name)
        value = version.value
        return GetSecretValueResponse(
            secret_id=secret.arn,
            version_id=version_id,
            version_stage=version.stages,
            secret_value=SecretValue(secret_string=value)
            if isinstance(value, str)
            else SecretValue(secret_binary=value),
        )

    return Service(
        SECRET_MANAGER,
        {
            "aws.greengrass#GetSecretValue": Operation(get_secret_value, resource=lambda request: find(request).arn),
        },
    )

"""Secrets over IPC: components get those whose ARN their policies name.

Source: aws.greengrass.SecretManager, ``SecretManagerService.java``, ``SecretManager.java``; ipc.md 4.5.
"""

from monodon.core.cloud_secrets import WantedSecret
from monodon.core.policy import SECRET_MANAGER
from monodon.ipc.errors import ResourceNotFoundError, ServiceError
from monodon.ipc.service import Operation, Service
from monodon.ipc.shapes import GetSecretValueRequest, GetSecretValueResponse, SecretValue
from monodon.nucleus.cloud_secrets import CloudSecrets
from monodon.nucleus.secrets import CURRENT, Secret, Secrets, SecretVersion

_Found = tuple[Secret, str, SecretVersion]


def _not_found(what: str, name: str) -> ResourceNotFoundError:
    return ResourceNotFoundError(what, resourceType="secret", resourceName=name)


class _Operations:
    def __init__(self, secrets: Secrets, cloud: CloudSecrets | None) -> None:
        self._secrets = secrets
        self._cloud = cloud

    def arn(self, request: GetSecretValueRequest) -> str:
        """The ARN that policies must name; of a secret that was never fetched, as it is configured."""
        if not request.secret_id:
            raise ServiceError("secretId is required")
        secret = self._secrets.find(request.secret_id)
        if secret is not None:
            return secret.arn
        wanted = None if self._cloud is None else self._cloud.wanted(request.secret_id)
        if wanted is None:
            raise _not_found(f"Secret {request.secret_id} is not configured on this device", request.secret_id)
        return wanted.arn

    async def get(self, request: GetSecretValueRequest, caller: str) -> GetSecretValueResponse:
        arn = self.arn(request)
        if request.version_id and request.version_stage:
            raise ServiceError("versionId and versionStage can't both be given")
        found = await self._found(request, arn)
        if found is None:
            what = (
                f"version {request.version_id}" if request.version_id else f"label {request.version_stage or CURRENT}"
            )
            raise _not_found(f"Secret {request.secret_id} has no {what} on this device", request.secret_id or "")
        secret, version_id, version = found
        value = version.value
        return GetSecretValueResponse(
            secret_id=secret.arn,
            version_id=version_id,
            version_stage=version.stages,
            secret_value=SecretValue(secret_string=value)
            if isinstance(value, str)
            else SecretValue(secret_binary=value),
        )

    async def _found(self, request: GetSecretValueRequest, arn: str) -> _Found | None:
        """What is stored, after a look at the cloud where that is asked for, or else nothing is there."""
        cloud, label = self._cloud, request.version_stage or CURRENT
        if cloud is None or request.version_id:
            return self._stored(request, arn)
        is_asked = bool(request.refresh) and cloud.is_reachable
        if is_asked:
            await cloud.refresh(arn, label)
        found = self._stored(request, arn)
        if found is None and not is_asked and await cloud.refresh(arn, label):
            found = self._stored(request, arn)
        return found

    def _stored(self, request: GetSecretValueRequest, arn: str) -> _Found | None:
        secret = self._secrets.find(request.secret_id or "")
        # Policies were asked about the ARN: one that was configured without its last characters has them now.
        if secret is None or not WantedSecret(arn=arn).has_arn(secret.arn):
            return None
        version_id = request.version_id or secret.labelled(request.version_stage or CURRENT)
        version = secret.versions.get(version_id or "")
        return None if version_id is None or version is None else (secret, version_id, version)


def secret_service(secrets: Secrets, cloud: CloudSecrets | None = None) -> Service:
    """Return the service of secrets; ``cloud`` fetches those that are configured and not here, or to be refreshed."""
    operations = _Operations(secrets, cloud)
    return Service(
        SECRET_MANAGER, {"aws.greengrass#GetSecretValue": Operation(operations.get, resource=operations.arn)}
    )

"""Local deployments: tools on the device create, follow, list and cancel them.

Source: aws.greengrass.Cli, ``CLIEventStreamAgent.java``; ipc.md 4.7.
"""

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from monodon.core.deployment import Deployment, Outcome, Status, read_local
from monodon.core.policy import CLI
from monodon.errors import DeploymentError
from monodon.ipc.errors import (
    InvalidArgumentsError,
    InvalidArtifactsDirectoryPathError,
    InvalidRecipeDirectoryPathError,
    ResourceNotFoundError,
)
from monodon.ipc.serialisation import to_json
from monodon.ipc.service import Operation, Service
from monodon.ipc.shapes import (
    CancelLocalDeploymentRequest,
    CancelLocalDeploymentResponse,
    CreateLocalDeploymentRequest,
    CreateLocalDeploymentResponse,
    DeploymentStatusDetails,
    GetLocalDeploymentStatusRequest,
    GetLocalDeploymentStatusResponse,
    ListLocalDeploymentsRequest,
    ListLocalDeploymentsResponse,
    LocalDeployment,
)

_ENDED = (Status.SUCCEEDED, Status.FAILED, Status.REJECTED, Status.CANCELED)


class Progress(Protocol):
    """How one deployment fares."""

    @property
    def deployment(self) -> Deployment:
        """What was asked for."""

    @property
    def status(self) -> Status:
        """Where it is."""

    @property
    def created_ms(self) -> int:
        """When it was asked for."""

    @property
    def outcome(self) -> Outcome | None:
        """How it ended."""

    @property
    def awaited(self) -> str:
        """For whom it waits; empty where it waits for nobody."""


class Deployments(Protocol):
    """The part of a deployer that tools ask."""

    def submit(self, deployment: Deployment) -> bool:
        """Queue a deployment."""

    def cancel(self, deployment_id: str) -> bool:
        """Cancel one that is not applied yet; False: too late."""

    def progress(self, deployment_id: str) -> Progress | None:
        """How one fares."""

    def deployments(self) -> tuple[Progress, ...]:
        """All of them, oldest first."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _created_on(created_ms: int) -> str:
    return datetime.fromtimestamp(created_ms / 1000, UTC).strftime("%d-%m-%Y %H:%M:%S UTC")


def _details(progress: Progress) -> DeploymentStatusDetails | None:
    """How it ended. Of one that goes on, the cause tells for whom it waits: AWS's shape has no field for that."""
    outcome = progress.outcome
    if outcome is None:
        waiting = f"waiting for {progress.awaited}"
        return DeploymentStatusDetails(deployment_failure_cause=waiting) if progress.awaited else None
    return DeploymentStatusDetails(
        detailed_deployment_status=None if outcome.detailed is None else str(outcome.detailed),
        deployment_error_stack=outcome.error_stack or None,
        deployment_error_types=outcome.error_types or None,
        deployment_failure_cause=outcome.cause,
    )


def _local_deployment(progress: Progress) -> LocalDeployment:
    status = Status.FAILED if progress.status is Status.REJECTED else progress.status
    return LocalDeployment(
        deployment_id=progress.deployment.deployment_id,
        status=str(status),
        created_on=_created_on(progress.created_ms),
        deployment_status_details=_details(progress),
    )


def _id(request: GetLocalDeploymentStatusRequest | CancelLocalDeploymentRequest) -> str:
    text = request.deployment_id or ""
    try:
        if str(uuid.UUID(text)) == text.lower():
            return text
    except ValueError:
        pass
    raise InvalidArgumentsError(f"deploymentId {text!r} is not a UUID")


def _check_folders(request: CreateLocalDeploymentRequest, store: Path) -> None:
    if request.recipe_directory_path is not None and not Path(request.recipe_directory_path).is_dir():
        raise InvalidRecipeDirectoryPathError(f"{request.recipe_directory_path} is not a folder")
    if request.artifacts_directory_path is None:
        return
    artifacts = Path(request.artifacts_directory_path)
    if not artifacts.is_dir():
        raise InvalidArtifactsDirectoryPathError(f"{artifacts} is not a folder")
    if store.resolve().is_relative_to(artifacts.resolve()):
        raise InvalidArtifactsDirectoryPathError(f"{artifacts} contains the nucleus's own component store")


class _Operations:
    """The operations, on the queue of deployments."""

    def __init__(
        self, deployments: Deployments, store: Path, now_ms: Callable[[], int], new_id: Callable[[], str]
    ) -> None:
        self._deployments = deployments
        self._store = store
        self._now_ms = now_ms
        self._new_id = new_id

    def checked(self, request: CreateLocalDeploymentRequest) -> str:
        if request.group_name is not None and ":" in request.group_name:
            raise InvalidArgumentsError(f"groupName {request.group_name!r} must not contain ':'")
        return "*"

    def create(self, request: CreateLocalDeploymentRequest, caller: str) -> CreateLocalDeploymentResponse:
        _check_folders(request, self._store)
        deployment_id = self._new_id()
        try:
            deployment = read_local(to_json(request), deployment_id=deployment_id, timestamp_ms=self._now_ms())
        except DeploymentError as error:
            raise InvalidArgumentsError(str(error)) from error
        self._deployments.submit(deployment)
        return CreateLocalDeploymentResponse(deployment_id=deployment_id)

    def _find(self, request: GetLocalDeploymentStatusRequest | CancelLocalDeploymentRequest) -> Progress:
        progress = self._deployments.progress(_id(request))
        if progress is None or not progress.deployment.is_local:
            raise ResourceNotFoundError(
                "Cannot find deployment", resourceType="deployment", resourceName=request.deployment_id
            )
        return progress

    def get_status(self, request: GetLocalDeploymentStatusRequest, caller: str) -> GetLocalDeploymentStatusResponse:
        return GetLocalDeploymentStatusResponse(deployment=_local_deployment(self._find(request)))

    def list_deployments(self, request: ListLocalDeploymentsRequest, caller: str) -> ListLocalDeploymentsResponse:
        local = (progress for progress in self._deployments.deployments() if progress.deployment.is_local)
        return ListLocalDeploymentsResponse(local_deployments=tuple(map(_local_deployment, local)))

    def cancel(self, request: CancelLocalDeploymentRequest, caller: str) -> CancelLocalDeploymentResponse:
        progress = self._find(request)
        if progress.status in _ENDED:
            return CancelLocalDeploymentResponse(message=f"The deployment has ended already: {progress.status}")
        if not self._deployments.cancel(progress.deployment.deployment_id):
            return CancelLocalDeploymentResponse(message="The deployment is being applied and can't be canceled")
        return CancelLocalDeploymentResponse(message="Cancel request submitted")


def deployments_service(
    deployments: Deployments,
    store: Path,
    now_ms: Callable[[], int] = _now_ms,
    new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
) -> Service:
    """Return the service of local deployments. ``store`` is the folder of the nucleus's own components."""
    operations = _Operations(deployments, store, now_ms, new_id)
    return Service(
        CLI,
        {
            "aws.greengrass#CreateLocalDeployment": Operation(operations.create, resource=operations.checked),
            "aws.greengrass#GetLocalDeploymentStatus": Operation(operations.get_status, resource=_id),
            "aws.greengrass#ListLocalDeployments": Operation(operations.list_deployments, resource=lambda request: "*"),
            "aws.greengrass#CancelLocalDeployment": Operation(
                operations.cancel, resource=lambda request: "*" if _id(request) else ""
            ),
        },
    )

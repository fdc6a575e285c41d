"""How a simulated deployment ends when it fails: AWS's codes, a cause as a device would word it. Pure."""

from typing import Final

from monodon.core.deployment import Deployment, FailureHandling
from monodon.core.outcome import DetailedStatus, Outcome, failure, rejection
from monodon.errors import DeploymentError

#: Codes of what breaks once components run: the device goes back, or stays as it is, as the deployment says.
LATE: Final = frozenset(
    {
        "COMPONENT_BROKEN",
        "COMPONENT_UPDATE_ERROR",
        "COMPONENT_BOOTSTRAP_ERROR",
        "COMPONENT_BOOTSTRAP_TIMEOUT",
        "REMOVE_COMPONENT_ERROR",
    }
)
_CAUSES: Final = {
    "COMPONENT_BROKEN": "{what} is BROKEN: its run script exited with code 1",
    "COMPONENT_UPDATE_ERROR": "{what} could not be updated",
    "COMPONENT_BOOTSTRAP_ERROR": "the bootstrap script of {what} exited with code 1",
    "COMPONENT_BOOTSTRAP_TIMEOUT": "the bootstrap script of {what} took longer than its time-out",
    "COMPONENT_CONFIGURATION_NOT_VALID": "{what} does not accept its configuration",
    "ARTIFACT_CHECKSUM_MISMATCH": "an artifact of {what} has another checksum than its recipe says",
    "ARTIFACT_DOWNLOAD_ERROR": "an artifact of {what} could not be downloaded",
    "S3_GET_OBJECT_ACCESS_DENIED": "the device may not read an artifact of {what} from its bucket",
    "DISK_SPACE_CRITICAL": "the disk has no room for the artifacts of {what}",
    "NETWORK_ERROR": "the cloud could not be reached for {what}",
    "COMPONENT_VERSION_REQUIREMENTS_NOT_MET": "no version of {what} satisfies all requirements",
}
#: What stands between DEPLOYMENT_FAILURE and the code itself in AWS's error stacks.
_STEPS: Final = {
    "ARTIFACT_CHECKSUM_MISMATCH": "ARTIFACT_DOWNLOAD_ERROR",
    "S3_GET_OBJECT_ACCESS_DENIED": "ARTIFACT_DOWNLOAD_ERROR",
    "COMPONENT_BROKEN": "COMPONENT_UPDATE_ERROR",
}


def cause_of(code: str, what: str) -> str:
    """What a device says of ``what`` (a component with its version)."""
    return _CAUSES.get(code, "{what} could not be deployed").format(what=what or "the deployment")


def failed(deployment: Deployment, code: str, component: str) -> Outcome:
    """The outcome of a deployment that ``component`` (may be "") makes fail with ``code``."""
    version = next((root.requirement for name, root in deployment.components.items() if name == component), "")
    step = _STEPS.get(code)
    codes = (code,) if step is None else (step, code)
    return failure(
        DeploymentError(cause_of(code, f"{component} {version}".strip()), codes=codes), _state(deployment, code)
    )


def conflicting(problem: str) -> Outcome:
    """The outcome of a deployment that cannot stand beside another target's."""
    error = DeploymentError(problem, codes=("COMPONENT_VERSION_REQUIREMENTS_NOT_MET",))
    return failure(error, DetailedStatus.FAILED_NO_STATE_CHANGE)


def refused(deployment: Deployment, *, wants_none: bool) -> Outcome | None:
    """Why a device does not even begin; None: it does. ``wants_none``: it refuses everything."""
    if deployment.unknown_capabilities:
        names = ", ".join(deployment.unknown_capabilities)
        return rejection(f"the device lacks: {names}", "NUCLEUS_MISSING_REQUIRED_CAPABILITIES")
    return rejection("the device takes no deployments now") if wants_none else None


def _state(deployment: Deployment, code: str) -> DetailedStatus:
    if code not in LATE:
        return DetailedStatus.FAILED_NO_STATE_CHANGE
    if deployment.on_failure is FailureHandling.ROLLBACK:
        return DetailedStatus.FAILED_ROLLBACK_COMPLETE
    return DetailedStatus.FAILED_ROLLBACK_NOT_REQUESTED

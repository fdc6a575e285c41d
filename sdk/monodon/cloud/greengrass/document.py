"""From a CreateDeployment request to what devices get. Pure."""

from collections.abc import Mapping

from monodon.cloud.greengrass.errors import invalid_fields
from monodon.core.configuration import ConfigurationUpdate
from monodon.core.deployment import Deployment, FailureHandling, RootComponent, UpdateAction, UpdatePolicy
from monodon.core.json import Json, is_deeper, read_json
from monodon.core.names import ComponentName
from monodon.core.plan import RunWith
from monodon.core.semver import Version
from monodon.errors import InvalidName, InvalidVersion

Problems = list[tuple[str, str]]

#: Defaults of the API. Source: cloud notes, section 4.
DEFAULT_POLICIES: Mapping[str, Json] = {
    "failureHandlingPolicy": "ROLLBACK",
    "componentUpdatePolicy": {"timeoutInSeconds": 60, "action": "NOTIFY_COMPONENTS"},
    "configurationValidationPolicy": {"timeoutInSeconds": 30},
}
_MAX_TIMEOUT_MINUTES = 10_080
#: What a device reads without trouble; a recipe's default configuration may have as many.
MAX_DEPTH = 100


def with_defaults(policies: Mapping[str, Json]) -> dict[str, Json]:
    """Return deployment policies with what was not said filled in, as GetDeployment shows them."""
    return {
        "failureHandlingPolicy": policies.get("failureHandlingPolicy", DEFAULT_POLICIES["failureHandlingPolicy"]),
        **{
            name: {**DEFAULT_POLICIES[name], **policies.get(name, {})}
            for name in ("componentUpdatePolicy", "configurationValidationPolicy")
        },
    }


def read_deployment(
    request: Mapping[str, Json],
    *,
    deployment_id: str,
    configuration_arn: str,
    target: str,
    timestamp_ms: int,
) -> Deployment:
    """Return the deployment that devices of ``target`` get.

    Raises:
        ServiceError: ValidationException with all that the model does not check: versions, names, merges, pointers.
    """
    problems: Problems = []
    policies = with_defaults(request.get("deploymentPolicies", {}))
    components = _components(request.get("components", {}), problems)
    _check_waits(policies, problems)
    _check_job(request.get("iotJobConfiguration", {}), problems)
    if problems:
        raise invalid_fields(problems)
    parent = request.get("parentTargetArn")
    capabilities = {
        "SUB_DEPLOYMENTS": parent is not None,
        "LINUX_RESOURCE_LIMITS": any(
            root.run_with is not None and (root.run_with.memory_kb is not None or root.run_with.cpus is not None)
            for root in components.values()
        ),
    }
    return Deployment(
        deployment_id=deployment_id,
        name=request.get("deploymentName"),
        configuration_arn=configuration_arn,
        target=target,
        timestamp_ms=timestamp_ms,
        components=components,
        on_failure=FailureHandling(policies["failureHandlingPolicy"]),
        update_policy=UpdatePolicy(
            timeout_s=policies["componentUpdatePolicy"]["timeoutInSeconds"],
            action=UpdateAction(policies["componentUpdatePolicy"]["action"]),
        ),
        validation_timeout_s=policies["configurationValidationPolicy"]["timeoutInSeconds"],
        required_capabilities=tuple(name for name, is_needed in capabilities.items() if is_needed),
        parent_target_arn=parent,
        on_behalf_of=request["targetArn"] if parent is not None else None,
    )


def _components(given: Mapping[str, Json], problems: Problems) -> dict[ComponentName, RootComponent]:
    roots: dict[ComponentName, RootComponent] = {}
    for name, entry in given.items():
        field = f"components.{name}"
        try:
            parsed = ComponentName.parse(name)
        except InvalidName as error:
            problems.append((field, error.message))
            continue
        try:
            version = Version.parse(entry["componentVersion"])
        except InvalidVersion as error:
            problems.append((f"{field}.componentVersion", error.message))
            continue
        roots[parsed] = RootComponent(
            requirement=str(version),
            update=_update(entry.get("configurationUpdate"), f"{field}.configurationUpdate", problems),
            run_with=_run_with(entry.get("runWith")),
        )
    return roots


def _update(given: Mapping[str, Json] | None, field: str, problems: Problems) -> ConfigurationUpdate | None:
    if given is None:
        return None
    merge = None
    if "merge" in given:
        try:
            merge = read_json(given["merge"])
        except ValueError as error:
            problems.append((f"{field}.merge", f"is not JSON: {error}"[:300]))
        else:
            if not isinstance(merge, dict):
                problems.append((f"{field}.merge", "is not a JSON object"))
            elif is_deeper(merge, MAX_DEPTH):
                problems.append((f"{field}.merge", f"is nested deeper than {MAX_DEPTH} levels"))
    reset = tuple(given.get("reset", ()))
    for pointer in reset:
        if pointer and not pointer.startswith("/"):
            problems.append((f"{field}.reset", f"{pointer!r} is not a JSON pointer; it begins with '/'"))
    return ConfigurationUpdate(merge=merge, reset=reset)


def _run_with(given: Mapping[str, Json] | None) -> RunWith | None:
    if given is None:
        return None
    limits = given.get("systemResourceLimits", {})
    return RunWith(
        posix_user=given.get("posixUser"),
        memory_kb=limits.get("memory"),
        cpus=limits.get("cpus"),
        windows_user=given.get("windowsUser"),
    )


def _check_waits(policies: Mapping[str, Json], problems: Problems) -> None:
    for name in ("componentUpdatePolicy", "configurationValidationPolicy"):
        seconds = policies[name]["timeoutInSeconds"]
        if seconds < 0:
            problems.append((f"deploymentPolicies.{name}.timeoutInSeconds", f"{seconds} is negative"))


def _check_job(given: Mapping[str, Json], problems: Problems) -> None:
    """What stands in the API's text and not in its shapes (cloud notes, section 4)."""
    field = "iotJobConfiguration"
    rate = given.get("jobExecutionsRolloutConfig", {}).get("exponentialRate")
    if rate is not None and len(rate["rateIncreaseCriteria"]) != 1:
        problems.append(
            (
                f"{field}.jobExecutionsRolloutConfig.exponentialRate.rateIncreaseCriteria",
                "exactly one of numberOfNotifiedThings and numberOfSucceededThings is needed",
            )
        )
    for index, criterion in enumerate(given.get("abortConfig", {}).get("criteriaList", ())):
        if not 0 < criterion["thresholdPercentage"] <= 100:
            problems.append((f"{field}.abortConfig.criteriaList.{index + 1}.thresholdPercentage", "is not in 0 to 100"))
    minutes = given.get("timeoutConfig", {}).get("inProgressTimeoutInMinutes")
    if minutes is not None and not 1 <= minutes <= _MAX_TIMEOUT_MINUTES:
        message = f"{minutes} is not in 1 to {_MAX_TIMEOUT_MINUTES}"
        problems.append((f"{field}.timeoutConfig.inProgressTimeoutInMinutes", message))

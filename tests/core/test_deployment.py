"""Deployment documents, and how a deployment's end is told."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.core.configuration import ConfigurationUpdate
from monodon.core.deployment import (
    LOCAL_TARGET,
    SUCCEEDED,
    Deployment,
    DetailedStatus,
    FailureHandling,
    LocalRequest,
    Outcome,
    RootComponent,
    Status,
    UpdateAction,
    UpdatePolicy,
    failure,
    from_record,
    ignored_updates,
    read_document,
    read_local,
    rejection,
    to_record,
    with_roots,
    write_document,
)
from monodon.core.names import ComponentName
from monodon.core.plan import RunWith
from monodon.core.semver import Version
from monodon.errors import DeploymentError

ARN = "arn:aws:greengrass:eu-west-1:123456789012:configuration:thinggroup/drones:7"
CAMERA = ComponentName("com.example.Camera")


def document(**members: object) -> dict[str, object]:
    return {
        "deploymentId": "d-1",
        "configurationArn": ARN,
        "creationTimestamp": 1_600_000_000_000,
        "components": {},
        **members,
    }


def test_a_full_document_is_read() -> None:
    """Section 5.1."""
    deployment = read_document(
        document(
            deploymentName="spring",
            schemaDate="2021-05-17",
            components={
                CAMERA: {
                    "version": "1.2.3",
                    "configurationUpdate": {"merge": {"a": {"b": 1}}, "reset": ["/c", ""]},
                    "runWith": {"posixUser": "ggc:ggc", "systemResourceLimits": {"memory": 2048.0, "cpus": 0.5}},
                }
            },
            failureHandlingPolicy="DO_NOTHING",
            componentUpdatePolicy={"timeout": 30, "action": "SKIP_NOTIFY_COMPONENTS"},
            configurationValidationPolicy={"timeout": 5.0},
            requiredCapabilities=["SUB_DEPLOYMENTS"],
        )
    )
    assert deployment == Deployment(
        deployment_id="d-1",
        name="spring",
        configuration_arn=ARN,
        target="thinggroup/drones",
        timestamp_ms=1_600_000_000_000,
        components={
            CAMERA: RootComponent(
                requirement="1.2.3",
                update=ConfigurationUpdate(merge={"a": {"b": 1}}, reset=("/c", "")),
                run_with=RunWith(posix_user="ggc:ggc", memory_kb=2048, cpus=0.5),
            )
        },
        on_failure=FailureHandling.DO_NOTHING,
        update_policy=UpdatePolicy(timeout_s=30, action=UpdateAction.SKIP_NOTIFY_COMPONENTS),
        validation_timeout_s=5,
        required_capabilities=("SUB_DEPLOYMENTS",),
    )


def test_keys_of_any_case_floats_and_unknown_keys_are_fine() -> None:
    deployment = read_document(
        {
            "DEPLOYMENTID": "d",
            "configurationARN": ARN,
            "CreationTimestamp": 1.6e12,
            "Components": {CAMERA: {"Version": "1.0.0", "configurationUpdate": {"MERGE": {"Key": 1}, "RESET": []}}},
            "colour": "blue",
        }
    )
    assert deployment.timestamp_ms == 1_600_000_000_000
    assert deployment.components[CAMERA].update == ConfigurationUpdate(merge={"Key": 1})


def test_defaults() -> None:
    deployment = read_document(document())
    assert deployment.on_failure is FailureHandling.ROLLBACK
    assert deployment.update_policy == UpdatePolicy(timeout_s=60, action=UpdateAction.NOTIFY_COMPONENTS)
    assert deployment.validation_timeout_s == 60
    assert read_document(document(configurationValidationPolicy={})).validation_timeout_s == 20


def test_a_subgroup_counts_as_its_parent() -> None:
    parent = "arn:aws:iot:eu-west-1:123456789012:thinggroup/fleet"
    assert read_document(document(parentTargetArn=parent)).target == "thinggroup/fleet"
    thing = ARN.replace("thinggroup/drones", "thing/drone-1")
    assert read_document(document(configurationArn=thing)).target == "thing/drone-1"


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"deploymentId": None}, "deploymentId is missing"),
        ({"creationTimestamp": None}, "creationTimestamp is missing"),
        ({"creationTimestamp": "soon"}, "creationTimestamp: expected a number"),
        ({"creationTimestamp": float("inf")}, "creationTimestamp: expected a number"),
        ({"creationTimestamp": True}, "creationTimestamp: expected a number"),
        ({"configurationArn": "x"}, "configurationArn"),
        ({"components": []}, "components: expected an object"),
        ({"components": {"a b": {"version": "1.0.0"}}}, "'a b' is not a component name"),
        ({"components": {"A": {}}}, "A.version is missing"),
        ({"components": {"A": {"version": "^1.0"}}}, "A.version"),
        ({"components": {"A": {"version": "1.0.0-1"}}}, "begins with a digit"),
        ({"components": {"A": {"version": "1.0.0", "configurationUpdate": {"merge": "{}"}}}}, "merge: expected an obj"),
        ({"components": {"A": {"version": "1.0.0", "configurationUpdate": {"reset": "/a"}}}}, "reset: expected a list"),
        ({"components": {"A": {"version": "1.0.0", "runWith": {"systemResourceLimits": {"memory": 0}}}}}, "above 0"),
        ({"failureHandlingPolicy": "PANIC"}, "'PANIC' is none of ROLLBACK, DO_NOTHING"),
    ],
)
def test_a_wrong_document_names_the_key(members: dict[str, object], said: str) -> None:
    with pytest.raises(DeploymentError) as caught:
        read_document(document(**members))
    assert said in str(caught.value)
    assert caught.value.codes


def test_what_is_no_object_is_refused() -> None:
    for value in ([], "text", 5):
        with pytest.raises(DeploymentError):
            read_document(value)


def test_unknown_capabilities_are_named() -> None:
    deployment = read_document(document(requiredCapabilities=["SUB_DEPLOYMENTS", "TELEPORT"]))
    assert deployment.unknown_capabilities == ("TELEPORT",)


def test_an_older_deployment_of_the_same_parent_is_stale() -> None:
    """Case 56: subgroup deployments A2 then A1 (older): A1 is rejected (rule Q6)."""
    deployment = read_document(document(creationTimestamp=1000))
    assert deployment.is_stale(1001)
    assert not deployment.is_stale(1000)
    assert not deployment.is_stale(None)


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True).filter(lambda text: text not in (".", ".."))
JSON = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=3)
SECONDS = st.floats(0, 1e6) | st.integers(0, 10**6).map(float)
ROOTS = st.builds(
    RootComponent,
    requirement=st.sampled_from(["1.0.0", "2.1.0-rc.1", "0.0.1+b"]),
    update=st.none()
    | st.builds(ConfigurationUpdate, merge=st.none() | JSON, reset=st.lists(st.text(max_size=4)).map(tuple)),
    run_with=st.none()
    | st.builds(
        RunWith,
        posix_user=st.none() | st.just("user"),
        memory_kb=st.none() | st.integers(1, 10**9),
        cpus=st.none() | st.floats(0.1, 64),
    ),
)
DEPLOYMENTS = st.builds(
    Deployment,
    deployment_id=st.text(min_size=1, max_size=10),
    target=st.just("thinggroup/drones"),
    timestamp_ms=st.integers(0, 2**50),
    name=st.none() | st.text(max_size=5),
    configuration_arn=st.just(ARN),
    components=st.dictionaries(NAMES.map(ComponentName), ROOTS, max_size=3),
    on_failure=st.sampled_from(FailureHandling),
    update_policy=st.builds(UpdatePolicy, timeout_s=SECONDS, action=st.sampled_from(UpdateAction)),
    validation_timeout_s=SECONDS,
    required_capabilities=st.lists(st.text(max_size=5)).map(tuple),
    on_behalf_of=st.none() | st.just("arn:aws:iot:eu-west-1:1:thinggroup/sub"),
)


@given(DEPLOYMENTS)
def test_reading_what_was_written_gives_the_same(deployment: Deployment) -> None:
    written = json.loads(json.dumps(write_document(deployment)))
    assert read_document(written) == deployment
    assert from_record(json.loads(json.dumps(to_record(deployment)))) == deployment


REQUEST = {
    "rootComponentVersionsToAdd": {"New": "^1.0.0"},
    "rootComponentsToRemove": ["Old"],
    "componentToConfiguration": {"New": {"MERGE": {"a": 1}, "RESET": ["/b"]}, "Other": {"MERGE": {}}},
    "componentToRunWithInfo": {"Kept": {"posixUser": "me"}},
    "recipeDirectoryPath": "/r",
    "artifactsDirectoryPath": "/a",
}


def test_a_local_request_is_read() -> None:
    """Section 5.2."""
    deployment = read_local(REQUEST, deployment_id="id", timestamp_ms=5)
    assert deployment.target == LOCAL_TARGET
    assert deployment.is_local
    assert deployment.on_failure is FailureHandling.DO_NOTHING
    assert deployment.update_policy.action is UpdateAction.SKIP_NOTIFY_COMPONENTS
    assert deployment.validation_timeout_s == 20
    assert deployment.local == LocalRequest(
        removals=(ComponentName("Old"),),
        updates={
            ComponentName("New"): ConfigurationUpdate(merge={"a": 1}, reset=("/b",)),
            ComponentName("Other"): ConfigurationUpdate(merge={}),
        },
        run_with={ComponentName("Kept"): RunWith(posix_user="me")},
        recipes="/r",
        artifacts="/a",
    )
    assert from_record(json.loads(json.dumps(to_record(deployment)))) == deployment


def test_a_local_deployment_keeps_the_other_roots_at_their_running_versions() -> None:
    deployment = with_roots(
        read_local(REQUEST, deployment_id="id", timestamp_ms=5),
        {ComponentName("Old"): Version(3, 0, 0), ComponentName("Kept"): Version(2, 0, 0)},
    )
    assert dict(deployment.components) == {
        "Kept": RootComponent(requirement="2.0.0", run_with=RunWith(posix_user="me")),
        "New": RootComponent(requirement="^1.0.0", update=ConfigurationUpdate(merge={"a": 1}, reset=("/b",))),
    }
    assert ignored_updates(deployment) == ("Other",)


def test_a_local_deployment_may_name_a_group_and_is_never_stale() -> None:
    assert read_local({"groupName": ""}, deployment_id="id", timestamp_ms=5).target == "LOCAL_DEPLOYMENT"
    deployment = read_local({"groupName": "g"}, deployment_id="id", timestamp_ms=5)
    assert deployment.target == "thinggroup/g"
    assert not deployment.is_stale(10)
    with pytest.raises(DeploymentError):
        read_local({"groupName": "a:b"}, deployment_id="id", timestamp_ms=5)
    with pytest.raises(DeploymentError):
        read_local({"rootComponentVersionsToAdd": {"A": "x"}}, deployment_id="id", timestamp_ms=5)


def test_a_failure_tells_codes_types_and_the_chain_of_causes() -> None:
    broken = DeploymentError("Camera is BROKEN", codes=("COMPONENT_UPDATE_ERROR", "COMPONENT_BROKEN"))
    broken.__cause__ = DeploymentError("no disk", codes=("DISK_SPACE_CRITICAL",))
    outcome = failure(broken, DetailedStatus.FAILED_ROLLBACK_COMPLETE)
    assert outcome == Outcome(
        status=Status.FAILED,
        detailed=DetailedStatus.FAILED_ROLLBACK_COMPLETE,
        cause="Camera is BROKEN. no disk",
        error_stack=("DEPLOYMENT_FAILURE", "COMPONENT_UPDATE_ERROR", "COMPONENT_BROKEN", "DISK_SPACE_CRITICAL"),
        error_types=("COMPONENT_ERROR", "DEVICE_ERROR"),
    )
    local = failure(broken, None, is_local=True)
    assert local.error_types == ("USER_COMPONENT_ERROR", "DEVICE_ERROR")
    assert failure(ValueError("?"), None).error_stack == ("DEPLOYMENT_FAILURE",)
    assert Outcome.from_record(json.loads(json.dumps(outcome.to_record()))) == outcome


def test_job_details_fit_iot_jobs() -> None:
    """Values are at most 1024 characters and hold no control characters; lists stay JSON."""
    outcome = failure(
        DeploymentError("line\nnext\x1b[0m" + "x" * 3000, codes=[f"CODE_{number}" for number in range(300)]),
        DetailedStatus.FAILED_NO_STATE_CHANGE,
    )
    details = outcome.job_details()
    assert details["detailed-deployment-status"] == "FAILED_NO_STATE_CHANGE"
    assert details["deployment-failure-cause"].startswith("line next [0mxxx")
    assert len(details["deployment-failure-cause"]) == 1024
    assert json.loads(details["deployment-error-stack"])[:2] == ["DEPLOYMENT_FAILURE", "CODE_0"]
    assert SUCCEEDED.job_details() == {"detailed-deployment-status": "SUCCESSFUL"}
    assert rejection("old", "REJECTED_STALE_DEPLOYMENT").shadow_details() == {
        "detailedStatus": "REJECTED",
        "failureCause": "old",
        "errorStack": ["DEPLOYMENT_REJECTED", "REJECTED_STALE_DEPLOYMENT"],
        "errorTypes": [],
    }

"""Components and local deployments, for tools, through awsiotsdk: ipc.md 4.7."""

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from awsiot.greengrasscoreipc import model

from monodon.core.deployment import DetailedStatus, Outcome, Status
from monodon.core.lifecycle import State
from monodon.nucleus.changes import ComponentStatus

A, B, C = "com.example.A", "com.example.B", "com.example.C"
TOOLS = ["aws.greengrass.Cli", "greengrass-cli#user-1000"]


@pytest.mark.parametrize("tool", TOOLS)
async def test_tools_need_no_policy(device: Any, tool: str) -> None:
    device.install(C, {"n": 1})
    device.supervision.states[C] = ComponentStatus(state=State.BROKEN)
    client = await device.client(tool)
    listed = (await client.call("list_components")).components
    assert [(each.component_name, each.version, each.state) for each in listed] == [
        (A, "1.2.3", "RUNNING"),
        (B, "1.2.3", "RUNNING"),
        (C, "1.2.3", "BROKEN"),
    ]
    details = (await client.call("get_component_details", component_name=C)).component_details
    assert (details.component_name, details.configuration) == (C, {"n": 1})


async def test_components_need_one(device: Any) -> None:
    client = await device.client(C)
    with pytest.raises(model.UnauthorizedError):
        await client.call("list_components")
    with pytest.raises(model.UnauthorizedError):
        await client.call("restart_component", component_name=C)
    policy = {"aws.greengrass.Cli": {"p": {"operations": ["aws.greengrass#RestartComponent"], "resources": [C]}}}
    device.install(C, {"accessControl": policy})
    assert (await client.call("restart_component", component_name=C)).restart_status == "SUCCEEDED"
    with pytest.raises(model.UnauthorizedError):
        await client.call("restart_component", component_name=B)
    assert device.supervision.asked == [("restart", C)]


async def test_restart_and_stop(device: Any) -> None:
    client = await device.client(TOOLS[0])
    device.supervision.states[B] = ComponentStatus(state=State.BROKEN)
    assert (await client.call("restart_component", component_name=A)).restart_status == "SUCCEEDED"
    assert (await client.call("restart_component", component_name=B)).restart_status == "SUCCEEDED"
    assert (await client.call("stop_component", component_name=C)).stop_status == "SUCCEEDED"
    assert device.supervision.asked == [("restart", A), ("reinstall", B), ("stop", C)]
    del device.supervision.states[C]
    assert (await client.call("stop_component", component_name=C)).stop_status == "FAILED"


@pytest.mark.parametrize("operation", ["get_component_details", "restart_component", "stop_component"])
async def test_names_are_checked(device: Any, operation: str) -> None:
    """Before authorization here."""
    stranger, tool = await device.client(C), await device.client(TOOLS[0])
    with pytest.raises(model.InvalidArgumentsError):
        await stranger.call(operation, component_name="")
    with pytest.raises(model.ResourceNotFoundError):
        await tool.call(operation, component_name="com.example.X")


async def test_a_local_deployment_from_start_to_end(device: Any, tmp_path: Path) -> None:
    client = await device.client(TOOLS[1])
    created = await client.call(
        "create_local_deployment",
        group_name="g",
        root_component_versions_to_add={"com.example.New": "1.0.0"},
        root_components_to_remove=["com.example.Old"],
        component_to_configuration={"com.example.New": {"MERGE": {"a": 1}, "RESET": ["/b"]}},
        component_to_run_with_info={
            "com.example.New": model.RunWithInfo(
                posix_user="u:g", system_resource_limits=model.SystemResourceLimits(memory=1024, cpus=0.5)
            )
        },
        recipe_directory_path=str(tmp_path),
        artifacts_directory_path=str(tmp_path),
        failure_handling_policy="ROLLBACK",
    )
    deployment_id = created.deployment_id
    assert str(uuid.UUID(deployment_id)) == deployment_id
    deployment = device.queue.known[deployment_id].deployment
    assert deployment.target == "thinggroup/g"
    assert {str(name): root.requirement for name, root in deployment.components.items()} == {"com.example.New": "1.0.0"}
    assert deployment.local.removals == ("com.example.Old",)
    assert deployment.local.updates["com.example.New"].merge == {"a": 1}
    assert deployment.local.run_with["com.example.New"].memory_kb == 1024

    async def status() -> model.LocalDeployment:
        return (await client.call("get_local_deployment_status", deployment_id=deployment_id)).deployment

    now = await status()
    assert (now.status, now.created_on, now.deployment_status_details) == ("QUEUED", "01-01-1970 00:00:00 UTC", None)
    outcome = Outcome(
        status=Status.REJECTED,
        detailed=DetailedStatus.REJECTED,
        cause="why",
        error_stack=("DEPLOYMENT_REJECTED",),
        error_types=("DEVICE_ERROR",),
    )
    known = device.queue.known
    known[deployment_id] = replace(known[deployment_id], status=Status.REJECTED, outcome=outcome)
    ended = await status()
    assert ended.status == "FAILED"
    details = ended.deployment_status_details
    assert (details.detailed_deployment_status, details.deployment_failure_cause) == ("REJECTED", "why")
    assert details.deployment_error_stack == ["DEPLOYMENT_REJECTED"]
    listed = (await client.call("list_local_deployments")).local_deployments
    assert [each.deployment_id for each in listed] == [deployment_id]
    answer = await client.call("cancel_local_deployment", deployment_id=deployment_id)
    assert "ended already" in answer.message


async def test_cancelling(device: Any) -> None:
    client = await device.client(TOOLS[0])
    created = await client.call("create_local_deployment", root_component_versions_to_add={A: "1.0.0"})
    answer = await client.call("cancel_local_deployment", deployment_id=created.deployment_id)
    assert answer.message == "Cancel request submitted"
    device.queue.can_cancel = False
    answer = await client.call("cancel_local_deployment", deployment_id=created.deployment_id)
    assert "can't be canceled" in answer.message


@pytest.mark.parametrize("operation", ["get_local_deployment_status", "cancel_local_deployment"])
async def test_ids_are_checked(device: Any, operation: str) -> None:
    stranger, tool = await device.client(C), await device.client(TOOLS[0])
    for text in (None, "", "x", "urn:uuid:" + str(uuid.uuid4())):
        with pytest.raises(model.InvalidArgumentsError):
            await stranger.call(operation, deployment_id=text)
    with pytest.raises(model.UnauthorizedError):
        await stranger.call(operation, deployment_id=str(uuid.uuid4()))
    with pytest.raises(model.ResourceNotFoundError):
        await tool.call(operation, deployment_id=str(uuid.uuid4()))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"group_name": "a:b"}, model.InvalidArgumentsError),
        ({"root_component_versions_to_add": {"not a name": "1.0.0"}}, model.InvalidArgumentsError),
        ({"recipe_directory_path": "/nowhere/at/all"}, model.InvalidRecipeDirectoryPathError),
        ({"artifacts_directory_path": "/nowhere/at/all"}, model.InvalidArtifactsDirectoryPathError),
        ({"artifacts_directory_path": "/"}, model.InvalidArtifactsDirectoryPathError),
    ],
)
async def test_deployments_that_are_refused(device: Any, fields: dict[str, Any], error: type[Exception]) -> None:
    client = await device.client(TOOLS[0])
    with pytest.raises(error):
        await client.call("create_local_deployment", **fields)
    assert device.queue.known == {}

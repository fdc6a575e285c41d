"""Every operation of the table (cloud.md 2) and of AWS IoT's list, by boto3; each answer is checked by its model."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from monodon.cloud.settings import Settings, read_settings

ACCOUNT = "123456789012"
PREFIX = f"arn:aws:greengrass:us-east-1:{ACCOUNT}"
GROUP = f"arn:aws:iot:us-east-1:{ACCOUNT}:thinggroup/drones"
THING = f"arn:aws:iot:us-east-1:{ACCOUNT}:thing/drone-1"
COMPONENT = f"{PREFIX}:components:com.example.Hello"
VERSION = f"{COMPONENT}:versions:1.0.0"
ALLOW = {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [ALLOW]})
RECIPE = json.dumps(
    {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": "com.example.Hello",
        "ComponentVersion": "1.0.0",
        "ComponentPublisher": "Example",
        "Manifests": [{"Platform": {"os": "linux"}, "Artifacts": [{"Uri": "s3://artifacts/hello.zip"}]}],
    }
).encode()

#: In order: service, operation, its arguments (``…`` stands for what an earlier answer gave under that name).
Step = tuple[str, str, dict[str, Any]]
STEPS: list[Step] = [
    ("s3", "CreateBucket", {"Bucket": "artifacts"}),
    ("s3", "PutObject", {"Bucket": "artifacts", "Key": "hello.zip", "Body": b"zip"}),
    ("s3", "HeadObject", {"Bucket": "artifacts", "Key": "hello.zip"}),
    ("s3", "ListObjectsV2", {"Bucket": "artifacts"}),
    ("sts", "GetCallerIdentity", {}),
    ("iot", "DescribeEndpoint", {"endpointType": "iot:Data-ATS"}),
    ("iot", "CreateThingType", {"thingTypeName": "drone"}),
    ("iot", "ListThingTypes", {}),
    ("iot", "CreateThing", {"thingName": "drone-1", "thingTypeName": "drone"}),
    ("iot", "CreateThing", {"thingName": "drone-2"}),
    ("iot", "DescribeThing", {"thingName": "drone-1"}),
    ("iot", "UpdateThing", {"thingName": "drone-1", "attributePayload": {"attributes": {"sea": "arctic"}}}),
    ("iot", "ListThings", {"attributeName": "sea"}),
    ("iot", "CreateThingGroup", {"thingGroupName": "fleet"}),
    ("iot", "CreateThingGroup", {"thingGroupName": "drones", "parentGroupName": "fleet"}),
    ("iot", "DescribeThingGroup", {"thingGroupName": "drones"}),
    ("iot", "UpdateThingGroup", {"thingGroupName": "fleet", "thingGroupProperties": {"thingGroupDescription": "x"}}),
    ("iot", "ListThingGroups", {}),
    ("iot", "AddThingToThingGroup", {"thingGroupName": "drones", "thingName": "drone-1"}),
    ("iot", "UpdateThingGroupsForThing", {"thingName": "drone-2", "thingGroupsToAdd": ["fleet"]}),
    ("iot", "RemoveThingFromThingGroup", {"thingGroupName": "fleet", "thingName": "drone-2"}),
    ("iot", "ListThingsInThingGroup", {"thingGroupName": "fleet", "recursive": True}),
    ("iot", "ListThingGroupsForThing", {"thingName": "drone-1"}),
    ("iot", "UpdateIndexingConfiguration", {"thingIndexingConfiguration": {"thingIndexingMode": "REGISTRY"}}),
    ("iot", "GetIndexingConfiguration", {}),
    ("iot", "DescribeIndex", {"indexName": "AWS_Things"}),
    ("iot", "SearchIndex", {"queryString": "attributes.sea:arctic"}),
    ("iot", "GetStatistics", {"queryString": "*"}),
    ("iot", "CreateDynamicThingGroup", {"thingGroupName": "cold", "queryString": "attributes.sea:arctic"}),
    ("iot", "UpdateDynamicThingGroup", {"thingGroupName": "cold", "thingGroupProperties": {}, "queryString": "*"}),
    ("iot", "DeleteDynamicThingGroup", {"thingGroupName": "cold"}),
    ("iot", "CreateKeysAndCertificate", {"setAsActive": True}),
    ("iot", "DescribeCertificate", {"certificateId": "…certificateId"}),
    ("iot", "ListCertificates", {}),
    ("iot", "CreatePolicy", {"policyName": "all", "policyDocument": POLICY}),
    ("iot", "GetPolicy", {"policyName": "all"}),
    ("iot", "ListPolicies", {}),
    ("iot", "CreatePolicyVersion", {"policyName": "all", "policyDocument": POLICY, "setAsDefault": True}),
    ("iot", "ListPolicyVersions", {"policyName": "all"}),
    ("iot", "DeletePolicyVersion", {"policyName": "all", "policyVersionId": "1"}),
    ("iot", "AttachPolicy", {"policyName": "all", "target": "…certificateArn"}),
    ("iot", "ListAttachedPolicies", {"target": "…certificateArn"}),
    ("iot", "ListTargetsForPolicy", {"policyName": "all"}),
    ("iot", "AttachThingPrincipal", {"thingName": "drone-1", "principal": "…certificateArn"}),
    ("iot", "ListThingPrincipals", {"thingName": "drone-1"}),
    ("iot", "ListPrincipalThings", {"principal": "…certificateArn"}),
    ("iot", "GetEffectivePolicies", {"thingName": "drone-1", "principal": "…certificateArn"}),
    ("iot", "TagResource", {"resourceArn": GROUP, "tags": [{"Key": "a", "Value": "b"}]}),
    ("iot", "ListTagsForResource", {"resourceArn": GROUP}),
    ("iot", "UntagResource", {"resourceArn": GROUP, "tagKeys": ["a"]}),
    ("iam", "CreateRole", {"RoleName": "r", "AssumeRolePolicyDocument": POLICY}),
    ("iot", "CreateRoleAlias", {"roleAlias": "alias", "roleArn": f"arn:aws:iam::{ACCOUNT}:role/r"}),
    ("iot", "DescribeRoleAlias", {"roleAlias": "alias"}),
    ("iot", "ListRoleAliases", {}),
    ("greengrassv2", "CreateComponentVersion", {"inlineRecipe": RECIPE, "tags": {"made": "here"}}),
    ("greengrassv2", "DescribeComponent", {"arn": VERSION}),
    ("greengrassv2", "GetComponent", {"arn": VERSION, "recipeOutputFormat": "YAML"}),
    ("greengrassv2", "GetComponentVersionArtifact", {"arn": VERSION, "artifactName": "hello.zip"}),
    ("greengrassv2", "ListComponents", {}),
    ("greengrassv2", "ListComponentVersions", {"arn": COMPONENT}),
    (
        "greengrassv2",
        "ResolveComponentCandidates",
        {
            "platform": {"attributes": {"os": "linux", "architecture": "amd64"}},
            "componentCandidates": [{"componentName": "com.example.Hello", "versionRequirements": {"d": ">=1.0.0"}}],
        },
    ),
    (
        "greengrassv2",
        "CreateDeployment",
        {
            "targetArn": GROUP,
            "components": {"com.example.Hello": {"componentVersion": "1.0.0", "runWith": {"windowsUser": "w"}}},
        },
    ),
    ("greengrassv2", "GetDeployment", {"deploymentId": "…deploymentId"}),
    ("greengrassv2", "ListDeployments", {"historyFilter": "ALL"}),
    ("iot", "DescribeJob", {"jobId": "…iotJobId"}),
    ("iot", "GetJobDocument", {"jobId": "…iotJobId"}),
    ("iot", "ListJobs", {}),
    ("iot", "ListJobExecutionsForJob", {"jobId": "…iotJobId"}),
    ("iot", "ListJobExecutionsForThing", {"thingName": "drone-1"}),
    ("iot", "DescribeJobExecution", {"jobId": "…iotJobId", "thingName": "drone-1"}),
    ("greengrassv2", "ListCoreDevices", {}),
    ("greengrassv2", "GetCoreDevice", {"coreDeviceThingName": "drone-1"}),
    ("greengrassv2", "ListInstalledComponents", {"coreDeviceThingName": "drone-1", "topologyFilter": "ALL"}),
    ("greengrassv2", "ListEffectiveDeployments", {"coreDeviceThingName": "drone-1"}),
    (
        "greengrassv2",
        "BatchAssociateClientDeviceWithCoreDevice",
        {"coreDeviceThingName": "drone-1", "entries": [{"thingName": "drone-2"}]},
    ),
    ("greengrassv2", "ListClientDevicesAssociatedWithCoreDevice", {"coreDeviceThingName": "drone-1"}),
    (
        "greengrassv2",
        "BatchDisassociateClientDeviceFromCoreDevice",
        {"coreDeviceThingName": "drone-1", "entries": [{"thingName": "drone-2"}]},
    ),
    (
        "greengrassv2",
        "UpdateConnectivityInfo",
        {"thingName": "drone-1", "connectivityInfo": [{"id": "1", "hostAddress": "10.0.0.1", "portNumber": 8883}]},
    ),
    ("greengrassv2", "GetConnectivityInfo", {"thingName": "drone-1"}),
    ("greengrassv2", "AssociateServiceRoleToAccount", {"roleArn": f"arn:aws:iam::{ACCOUNT}:role/r"}),
    ("greengrassv2", "GetServiceRoleForAccount", {}),
    ("greengrassv2", "DisassociateServiceRoleFromAccount", {}),
    ("greengrassv2", "TagResource", {"resourceArn": VERSION, "tags": {"a": "b"}}),
    ("greengrassv2", "ListTagsForResource", {"resourceArn": VERSION}),
    ("greengrassv2", "UntagResource", {"resourceArn": VERSION, "tagKeys": ["a"]}),
    ("greengrassv2", "CancelDeployment", {"deploymentId": "…deploymentId"}),
    ("greengrassv2", "DeleteDeployment", {"deploymentId": "…deploymentId"}),
    ("greengrassv2", "DeleteComponent", {"arn": VERSION}),
    ("greengrassv2", "DeleteCoreDevice", {"coreDeviceThingName": "drone-1"}),
    ("iot", "CreateJob", {"jobId": "job", "targets": [THING], "document": "{}", "targetSelection": "CONTINUOUS"}),
    ("iot", "AssociateTargetsWithJob", {"jobId": "job", "targets": [GROUP]}),
    ("iot", "UpdateJob", {"jobId": "job", "timeoutConfig": {"inProgressTimeoutInMinutes": 5}}),
    ("iot-jobs-data", "GetPendingJobExecutions", {"thingName": "drone-1"}),
    ("iot-jobs-data", "StartNextPendingJobExecution", {"thingName": "drone-1"}),
    ("iot-jobs-data", "DescribeJobExecution", {"thingName": "drone-1", "jobId": "job"}),
    ("iot-jobs-data", "UpdateJobExecution", {"thingName": "drone-1", "jobId": "job", "status": "IN_PROGRESS"}),
    ("iot", "CancelJobExecution", {"jobId": "job", "thingName": "drone-1", "force": True}),
    ("iot", "DeleteJobExecution", {"jobId": "job", "thingName": "drone-1", "executionNumber": 1}),
    ("iot", "CancelJob", {"jobId": "job", "force": True}),
    ("iot", "DeleteJob", {"jobId": "job", "force": True}),
    ("iot-data", "UpdateThingShadow", {"thingName": "drone-1", "payload": b'{"state": {"desired": {"a": 1}}}'}),
    ("iot-data", "GetThingShadow", {"thingName": "drone-1"}),
    ("iot-data", "ListNamedShadowsForThing", {"thingName": "drone-1"}),
    ("iot-data", "DeleteThingShadow", {"thingName": "drone-1"}),
    ("iot-data", "Publish", {"topic": "a", "qos": 1, "payload": b"x", "retain": True}),
    ("iot-data", "GetRetainedMessage", {"topic": "a"}),
    ("iot-data", "ListRetainedMessages", {}),
    ("iot", "DeleteRoleAlias", {"roleAlias": "alias"}),
    ("iot", "DetachThingPrincipal", {"thingName": "drone-1", "principal": "…certificateArn"}),
    ("iot", "DetachPolicy", {"policyName": "all", "target": "…certificateArn"}),
    ("iot", "UpdateCertificate", {"certificateId": "…certificateId", "newStatus": "INACTIVE"}),
    ("iot", "DeleteCertificate", {"certificateId": "…certificateId"}),
    ("iot", "DeletePolicy", {"policyName": "all"}),
    ("iot", "DeleteThing", {"thingName": "drone-2"}),
    ("iot", "DeleteThingGroup", {"thingGroupName": "drones"}),
    ("iot", "DeprecateThingType", {"thingTypeName": "drone"}),
]
#: Members that the model calls optional and that AWS always gives: without them scripts would look at nothing.
GIVEN = {
    "CreateDeployment": {"deploymentId", "iotJobId", "iotJobArn"},
    "GetDeployment": {"targetArn", "revisionId", "deploymentStatus", "iotJobId", "components", "deploymentPolicies"},
    "DescribeJobExecution": {"execution"},
    "CreateThing": {"thingName", "thingArn", "thingId"},
    "SearchIndex": {"things"},
}


@pytest.fixture
async def cloud(tmp_path: Path, run_cloud: Any) -> AsyncIterator[Any]:
    async with run_cloud(tmp_path / "state") as cloud:
        yield cloud


def filled(value: Any, known: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: filled(each, known) for key, each in value.items()}
    return known[value[1:]] if isinstance(value, str) and value.startswith("…") else value


def problems(client: Any, operation: str, answer: dict[str, Any]) -> str:
    """What the answer, as boto3 read it, has against its model."""
    shape = client.meta.service_model.operation_model(operation).output_shape
    if shape is None:
        return ""
    body = {key: value for key, value in answer.items() if key != "ResponseMetadata"}
    streamed = {name for name, member in shape.members.items() if member.serialization.get("streaming")}
    return str(
        ParamValidator()
        .validate({key: value for key, value in body.items() if key not in streamed}, shape)
        .generate_report()
    )


async def test_each_operation_answers_as_its_model_says(cloud: Any) -> None:
    known: dict[str, Any] = {}

    def work() -> None:
        for service, operation, arguments in STEPS:
            if operation == "ListCoreDevices":
                part = {"componentName": "com.example.Hello", "version": "1.0.0", "fleetConfigArns": [], "isRoot": True}
                cloud.report_health("drone-1", components=[{**part, "status": "RUNNING"}])
            client = cloud.client_of(service)
            answer = getattr(client, xform_name(operation))(**filled(arguments, known))
            if service != "iam":  # boto3 makes objects of its policy documents
                assert problems(client, operation, answer) == "", operation
            assert GIVEN.get(operation, set()) <= answer.keys(), operation
            known.update({key: value for key, value in answer.items() if isinstance(value, str)})
            for value in answer.values():
                if hasattr(value, "close"):
                    value.close()
        table = {operation for service, operation, _ in STEPS if service == "greengrassv2"}
        assert table == set(cloud.greengrassv2.meta.service_model.operation_names)

    await cloud.off_loop(work)


async def test_paginators_reach_everything_once(cloud: Any) -> None:
    def pages(service: str, operation: str, key: str, **arguments: Any) -> list[str]:
        paginator = cloud.client_of(service).get_paginator(operation)
        found = paginator.paginate(**arguments, PaginationConfig={"PageSize": 2})
        return [json.dumps(each, default=str) for page in found for each in page[key]]

    def fill() -> Iterator[list[str]]:
        for number in range(5):
            cloud.add_drone(f"drone-{number}", "drones")
            cloud.report_health(
                f"drone-{number}",
                components=[
                    {"componentName": f"c{each}", "version": "1.0.0", "fleetConfigArns": [], "isRoot": True,
                     "status": "RUNNING"}
                    for each in range(5)
                ],
            )  # fmt: skip
            recipe = RECIPE.replace(b"1.0.0", b"1.0.%d" % number)
            cloud.greengrassv2.create_component_version(inlineRecipe=recipe)
            cloud.greengrassv2.create_component_version(inlineRecipe=recipe.replace(b"Hello", b"Hello%d" % number))
            cloud.greengrassv2.create_deployment(targetArn=GROUP)
        drone = {"coreDeviceThingName": "drone-0"}
        entries = [{"thingName": f"drone-{number}"} for number in range(1, 5)]
        cloud.greengrassv2.batch_associate_client_device_with_core_device(**drone, entries=entries)
        yield pages("greengrassv2", "list_components", "components")
        yield pages("greengrassv2", "list_component_versions", "componentVersions", arn=COMPONENT)
        yield pages("greengrassv2", "list_deployments", "deployments", historyFilter="ALL")
        yield pages("greengrassv2", "list_core_devices", "coreDevices")
        yield pages("greengrassv2", "list_installed_components", "installedComponents", **drone)
        yield pages("greengrassv2", "list_effective_deployments", "effectiveDeployments", **drone)
        key = "associatedClientDevices"
        yield [*pages("greengrassv2", "list_client_devices_associated_with_core_device", key, **drone), "itself"]
        yield pages("iot", "list_things", "things")
        yield pages("iot", "list_things_in_thing_group", "things", thingGroupName="drones")
        yield pages("iot", "list_jobs", "jobs")

    def work() -> None:
        for found in fill():
            assert len(found) == len(set(found)) >= 5, found

    await cloud.off_loop(work)


async def test_a_deployment_of_a_thing_tells_its_job_only_where_aws_does(cloud: Any) -> None:
    """cloud.md 4: CreateDeployment gives the id alone; the list of the device has an iotJobId without iotJobArn."""

    def work() -> None:
        cloud.add_drone("drone-1", "drones")
        cloud.report_health("drone-1")
        made = cloud.greengrassv2.create_deployment(targetArn=THING)
        assert made.keys() - {"ResponseMetadata"} == {"deploymentId"}
        listed = cloud.greengrassv2.list_effective_deployments(coreDeviceThingName="drone-1")
        (entry,) = listed["effectiveDeployments"]
        assert entry["iotJobId"]
        assert entry["iotJobId"] != made["deploymentId"]
        assert "iotJobArn" not in entry
        got = cloud.greengrassv2.get_deployment(deploymentId=made["deploymentId"])
        assert got.keys().isdisjoint({"iotJobId", "iotJobArn"})

    await cloud.off_loop(work)


async def test_rates_are_settings_and_named_as_each_service_names_them(tmp_path: Path, run_cloud: Any) -> None:
    rates = read_settings(["rate.ListDeployments=2", "rate.ListBuckets=1", "rate.ListThings=1", "page=1"])
    asked: dict[str, tuple[str, int, str]] = {
        "greengrassv2": ("list_deployments", 2, "ThrottlingException"),
        "s3": ("list_buckets", 1, "SlowDown"),
        "iot": ("list_things", 1, "ThrottlingException"),
    }

    def refused(call: Callable[[], Any]) -> dict[str, Any]:
        with pytest.raises(ClientError) as caught:
            call()
        return dict(caught.value.response)

    async with run_cloud(tmp_path / "state", settings=rates) as cloud:

        def work() -> None:
            now = cloud.clock.offset
            for service, (operation, count, code) in asked.items():
                call = getattr(cloud.client_of(service), operation)
                for _ in range(count):
                    call()
                response = refused(call)
                assert response["Error"]["Code"] == code
                cloud.clock.offset = now = now + 5
                call()
            again = refused(lambda: [cloud.greengrassv2.list_deployments() for _ in range(5)])
            assert again["retryAfterSeconds"] >= 1
            assert again["ResponseMetadata"]["HTTPStatusCode"] == 429

        await cloud.off_loop(work)


def test_settings_are_read_and_refused() -> None:
    settings = read_settings(["recipe_bytes=10", "mqtt.receive_maximum=3", "rate.CreateThing=0.5"])
    assert (settings.greengrass.recipe_bytes, settings.mqtt.receive_maximum) == (10, 3)
    assert settings.rates == {"CreateThing": 0.5}
    assert read_settings([]) == Settings()
    for wrong in ("recipe_bytes", "recipe_bytes=x", "recipe_bytes=-1", "depth=3", "mqtt.depth=3", "rate.X=inf"):
        with pytest.raises(ValueError):
            read_settings([wrong])

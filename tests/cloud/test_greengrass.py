"""Greengrass with real boto3 against a whole cloud; devices are played over the broker's own doors."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from monodon.cloud.certificates import CertificateAuthority
from monodon.cloud.cloud import Parts
from monodon.cloud.protocol.model import load
from monodon.cloud.store import Store

ACCOUNT = "123456789012"
GROUP_ARN = f"arn:aws:iot:us-east-1:{ACCOUNT}:thinggroup/drones"
THING_ARN = f"arn:aws:iot:us-east-1:{ACCOUNT}:thing/drone-1"
RECIPE = """\
RecipeFormatVersion: "2020-01-25"
ComponentName: com.example.Hello
ComponentVersion: {version}
ComponentDescription: Says hello.
ComponentPublisher: Example
Manifests:
  - Platform:
      os: linux
    Lifecycle:
      Run: echo hello
    Artifacts:
      - Uri: s3://artifacts/hello/{version}/hello.zip
        Unarchive: ZIP
"""


@pytest.fixture
async def cloud(tmp_path: Path, run_cloud: Any) -> AsyncIterator[Any]:
    async with run_cloud(tmp_path / "state") as cloud:
        yield cloud


def refused(call: Callable[[], Any], code: str) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        call()
    response: dict[str, Any] = caught.value.response  # type: ignore[assignment]
    assert response["Error"]["Code"] == code, response
    return response


def publish(cloud: Any, version: str, *, with_artifact: bool = True) -> str:
    s3, greengrass = cloud.s3, cloud.greengrassv2
    s3.create_bucket(Bucket="artifacts")
    if with_artifact:
        s3.put_object(Bucket="artifacts", Key=f"hello/{version}/hello.zip", Body=b"zip" + version.encode())
    created = greengrass.create_component_version(inlineRecipe=RECIPE.format(version=version).encode())
    assert created["status"] == {"componentState": "REQUESTED", "message": "NONE", "errors": {}}
    return str(created["arn"])


async def test_a_component_is_registered_processed_and_immutable(cloud: Any) -> None:
    def work() -> None:
        greengrass = cloud.greengrassv2
        arn = publish(cloud, "1.0.0")
        described = greengrass.describe_component(arn=arn)
        assert described["status"] == {"componentState": "DEPLOYABLE", "message": "NONE", "errors": {}}
        assert (described["componentName"], described["componentVersion"]) == ("com.example.Hello", "1.0.0")
        assert described["platforms"] == [{"attributes": {"os": "linux"}}]
        assert described["publisher"] == "Example"
        got = json.loads(greengrass.get_component(arn=arn, recipeOutputFormat="JSON")["recipe"])
        artifact = got["Manifests"][0]["Artifacts"][0]
        assert artifact["Digest"] == base64.b64encode(hashlib.sha256(b"zip1.0.0").digest()).decode()
        assert artifact["Algorithm"] == "SHA-256"
        assert greengrass.get_component(arn=arn)["recipeOutputFormat"] == "YAML"
        again = refused(
            lambda: greengrass.create_component_version(inlineRecipe=RECIPE.format(version="1.0.0").encode()),
            "ConflictException",
        )
        assert again["resourceType"] == "COMPONENT_VERSION"
        for version in ("1.10.0", "1.2.0", "2.0.0-rc.1"):
            publish(cloud, version)
        base = arn.partition(":versions:")[0]
        pages = greengrass.get_paginator("list_component_versions").paginate(arn=base, PaginationConfig={"PageSize": 2})
        versions = [each["componentVersion"] for page in pages for each in page["componentVersions"]]
        assert versions == ["2.0.0-rc.1", "1.10.0", "1.2.0", "1.0.0"]
        (listed,) = greengrass.list_components()["components"]
        assert listed["arn"] == base
        assert listed["latestVersion"]["componentVersion"] == "2.0.0-rc.1"
        public = greengrass.list_components(scope="PUBLIC")["components"]
        assert "aws.greengrass.Nucleus" in {each["componentName"] for each in public}
        nucleus = next(each for each in public if each["componentName"] == "aws.greengrass.Nucleus")
        assert nucleus["arn"].split(":")[4] == "aws"
        assert greengrass.describe_component(arn=nucleus["latestVersion"]["arn"])["status"]["componentState"]
        greengrass.delete_component(arn=arn)
        refused(lambda: greengrass.describe_component(arn=arn), "ResourceNotFoundException")
        refused(lambda: greengrass.delete_component(arn=arn), "ResourceNotFoundException")
        refused(lambda: greengrass.list_component_versions(arn=base, nextToken="x"), "ValidationException")

    await cloud.off_loop(work)


async def test_a_missing_artifact_fails_the_version_and_says_which(cloud: Any) -> None:
    def work() -> None:
        arn = publish(cloud, "1.0.0", with_artifact=False)
        status = cloud.greengrassv2.describe_component(arn=arn)["status"]
        assert status["componentState"] == "FAILED"
        assert list(status["errors"]) == ["s3://artifacts/hello/1.0.0/hello.zip"]
        assert "NoSuchKey" in status["errors"]["s3://artifacts/hello/1.0.0/hello.zip"]

    await cloud.off_loop(work)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (b"", "inlineRecipe"),
        (b"\xff\xfe\x00", "inlineRecipe"),
        (b"ComponentName: [", "inlineRecipe:"),
        (b"RecipeFormatVersion: '2020-01-25'\nComponentName: a b\nComponentVersion: 1\n", "inlineRecipe:2:"),
        (b"x" * 16_385, "16385 bytes"),
        (RECIPE.replace("com.example.Hello", "aws.greengrass.Cli").format(version="9.0.0").encode(), "public"),
    ],
)
async def test_a_bad_recipe_is_refused_with_line_and_column(cloud: Any, recipe: bytes, words: str) -> None:
    def work() -> None:
        response = refused(
            lambda: cloud.greengrassv2.create_component_version(inlineRecipe=recipe), "ValidationException"
        )
        assert response["reason"] == "FIELD_VALIDATION_FAILED"
        assert words in str(response["fields"]) + response["Error"]["Message"]

    await cloud.off_loop(work)


async def test_a_client_token_gives_the_same_answer_for_eight_hours(cloud: Any) -> None:
    def work() -> None:
        cloud.add_drone("drone-1", "drones")
        greengrass = cloud.greengrassv2
        first = greengrass.create_deployment(targetArn=GROUP_ARN, clientToken="t-1")
        again = greengrass.create_deployment(targetArn=GROUP_ARN, clientToken="t-1", deploymentName="x")
        assert again["deploymentId"] == first["deploymentId"]
        other = greengrass.create_deployment(targetArn=GROUP_ARN, clientToken="t-2")
        assert other["deploymentId"] != first["deploymentId"]
        cloud.clock.offset = 8 * 3600 + 1
        late = greengrass.create_deployment(targetArn=GROUP_ARN, clientToken="t-1")
        assert late["deploymentId"] != first["deploymentId"]
        assert greengrass.get_deployment(deploymentId=late["deploymentId"])["revisionId"] == "3"

    await cloud.off_loop(work)


async def test_a_group_deployment_goes_out_as_a_job_and_comes_back(cloud: Any) -> None:
    def work() -> None:
        cloud.add_drone("drone-1", "drones")
        greengrass, iot = cloud.greengrassv2, cloud.iot
        publish(cloud, "1.0.0")
        components = {
            "com.example.Hello": {
                "componentVersion": "1.0.0",
                "configurationUpdate": {"merge": '{"a": {"b": 1}}', "reset": ["/c"]},
                "runWith": {"posixUser": "ggc_user", "systemResourceLimits": {"memory": 1000, "cpus": 0.5}},
            }
        }
        created = greengrass.create_deployment(
            targetArn=GROUP_ARN, deploymentName="first", components=components, tags={"who": "me"}
        )
        deployment_id = created["deploymentId"]
        assert created["iotJobArn"].endswith(f":job/{created['iotJobId']}")
        got = greengrass.get_deployment(deploymentId=deployment_id)
        assert got["components"] == components
        assert (got["revisionId"], got["deploymentStatus"], got["isLatestForTarget"]) == ("1", "ACTIVE", True)
        assert got["deploymentPolicies"] == {
            "failureHandlingPolicy": "ROLLBACK",
            "componentUpdatePolicy": {"timeoutInSeconds": 60, "action": "NOTIFY_COMPONENTS"},
            "configurationValidationPolicy": {"timeoutInSeconds": 30},
        }
        assert got["tags"] == {"who": "me"}
        document = json.loads(iot.get_job_document(jobId=created["iotJobId"])["document"])
        assert document["deploymentId"] == deployment_id
        arn = f"arn:aws:greengrass:us-east-1:{ACCOUNT}:configuration:thinggroup/drones:1"
        assert document["configurationArn"] == arn
        hello = document["components"]["com.example.Hello"]
        assert hello["configurationUpdate"] == {"merge": {"a": {"b": 1}}, "reset": ["/c"]}
        assert document["requiredCapabilities"] == ["LINUX_RESOURCE_LIMITS"]
        summary = iot.list_job_executions_for_job(jobId=created["iotJobId"])["executionSummaries"]
        assert [each["thingArn"] for each in summary] == [THING_ARN]
        assert summary[0]["jobExecutionSummary"]["status"] == "QUEUED"
        refused(lambda: greengrass.delete_deployment(deploymentId=deployment_id), "ConflictException")

        cloud.report_health("drone-1")
        cloud.report_job("drone-1", created["iotJobId"], "IN_PROGRESS")
        cloud.report_job(
            "drone-1",
            created["iotJobId"],
            "FAILED",
            {
                "detailed-deployment-status": "FAILED_ROLLBACK_COMPLETE",
                "deployment-failure-cause": "broken",
                "deployment-error-stack": '["DEPLOYMENT_FAILURE"]',
                "deployment-error-types": '["COMPONENT_ERROR"]',
            },
        )
        (effective,) = greengrass.list_effective_deployments(coreDeviceThingName="drone-1")["effectiveDeployments"]
        assert effective["coreDeviceExecutionStatus"] == "FAILED"
        assert effective["reason"] == "FAILED_ROLLBACK_COMPLETE: broken"
        assert effective["statusDetails"] == {"errorStack": ["DEPLOYMENT_FAILURE"], "errorTypes": ["COMPONENT_ERROR"]}
        assert effective["targetArn"] == GROUP_ARN
        execution = iot.describe_job_execution(jobId=created["iotJobId"], thingName="drone-1")["execution"]
        assert execution["statusDetails"]["detailsMap"]["deployment-failure-cause"] == "broken"
        assert greengrass.list_core_devices(thingGroupArn=GROUP_ARN)["coreDevices"] == []

        second = greengrass.create_deployment(targetArn=GROUP_ARN, components=components)
        old = greengrass.get_deployment(deploymentId=deployment_id)
        assert (old["deploymentStatus"], old["isLatestForTarget"]) == ("INACTIVE", False)
        assert iot.describe_job(jobId=created["iotJobId"])["job"]["status"] == "CANCELED"
        cloud.report_job("drone-1", second["iotJobId"], "SUCCEEDED", {"detailed-deployment-status": "SUCCESSFUL"})
        devices = greengrass.list_core_devices(thingGroupArn=GROUP_ARN)["coreDevices"]
        assert [each["coreDeviceThingName"] for each in devices] == ["drone-1"]
        latest = greengrass.list_deployments(targetArn=GROUP_ARN)["deployments"]
        assert [each["deploymentId"] for each in latest] == [second["deploymentId"]]
        history = greengrass.list_deployments(targetArn=GROUP_ARN, historyFilter="ALL")["deployments"]
        assert {each["deploymentId"] for each in history} == {deployment_id, second["deploymentId"]}
        cancel = {"deploymentId": second["deploymentId"]}
        assert greengrass.cancel_deployment(**cancel)["message"] == "SUCCESS"
        refused(lambda: greengrass.cancel_deployment(**cancel), "ConflictException")
        greengrass.delete_deployment(**cancel)
        refused(lambda: greengrass.get_deployment(**cancel), "ResourceNotFoundException")
        assert greengrass.create_deployment(targetArn=GROUP_ARN)["deploymentId"]
        newest = greengrass.list_deployments(targetArn=GROUP_ARN)["deployments"][0]
        assert newest["revisionId"] == "3"

    await cloud.off_loop(work)


async def test_a_late_joiner_gets_the_groups_deployment_and_a_leaver_loses_it(cloud: Any) -> None:
    def work() -> None:
        cloud.add_drone("drone-1", "drones")
        job = cloud.greengrassv2.create_deployment(targetArn=GROUP_ARN)["iotJobId"]
        cloud.add_drone("drone-2", "drones")
        executions = cloud.iot.list_job_executions_for_job(jobId=job)["executionSummaries"]
        assert len(executions) == 2
        cloud.iot.remove_thing_from_thing_group(thingGroupName="drones", thingName="drone-2")
        execution = cloud.iot.describe_job_execution(jobId=job, thingName="drone-2")["execution"]
        assert execution["status"] == "REMOVED"
        cloud.iot.create_thing_group(thingGroupName="north", parentGroupName="drones")
        cloud.add_drone("drone-3", "north")
        assert cloud.iot.describe_job_execution(jobId=job, thingName="drone-3")["execution"]["status"] == "QUEUED"

    await cloud.off_loop(work)


async def test_a_late_joiner_of_a_nested_group_gets_the_deployment_of_the_one_above(cloud: Any) -> None:
    def work() -> None:
        greengrass, iot = cloud.greengrassv2, cloud.iot
        for group, parent in (("fleet", None), ("drones", "fleet")):
            iot.create_thing_group(thingGroupName=group, **({"parentGroupName": parent} if parent else {}))
        target = f"arn:aws:iot:us-east-1:{ACCOUNT}:thinggroup/fleet"
        job = {"jobId": greengrass.create_deployment(targetArn=target)["iotJobId"]}
        cloud.add_drone("drone-1", "drones")
        cloud.add_drone("drone-2", "others")
        (execution,) = iot.list_job_executions_for_job(**job)["executionSummaries"]
        assert execution["thingArn"].endswith("thing/drone-1")
        iot.remove_thing_from_thing_group(thingGroupName="drones", thingName="drone-1")
        (execution,) = iot.list_job_executions_for_job(**job)["executionSummaries"]
        assert execution["jobExecutionSummary"]["status"] == "REMOVED"

    await cloud.off_loop(work)


async def test_a_thing_deployment_goes_by_the_deployment_shadow(cloud: Any) -> None:
    def work() -> None:
        cloud.add_drone("drone-1", "drones")
        cloud.report_health("drone-1")
        greengrass, data = cloud.greengrassv2, cloud.client_of("iot-data")
        created = greengrass.create_deployment(targetArn=THING_ARN, deploymentName="mine")
        assert "iotJobId" not in created
        place = {"thingName": "drone-1", "shadowName": "AWSManagedGreengrassV2Deployment"}
        shadow = json.loads(data.get_thing_shadow(**place)["payload"].read())
        desired = shadow["state"]["desired"]
        document = json.loads(desired["fleetConfig"])
        assert document["deploymentId"] == created["deploymentId"]
        assert document["configurationArn"].endswith(":configuration:thing/drone-1:1")
        assert desired["desiredStatus"] not in {None, "CANCELED"}
        (effective,) = greengrass.list_effective_deployments(coreDeviceThingName="drone-1")["effectiveDeployments"]
        assert effective["coreDeviceExecutionStatus"] == "QUEUED"
        assert effective["iotJobId"]
        assert "iotJobArn" not in effective
        reported = {
            "fleetConfigurationArnForStatus": document["configurationArn"],
            "status": "SUCCEEDED",
            "statusDetails": {"detailedStatus": "SUCCESSFUL", "failureCause": "", "errorStack": [], "errorTypes": []},
        }
        for status in ("SHINY", ["SUCCEEDED"], None):
            garbage = {"state": {"reported": {**reported, "status": status}}}
            data.update_thing_shadow(**place, payload=json.dumps(garbage).encode())
        assert greengrass.get_deployment(deploymentId=created["deploymentId"])["deploymentStatus"] == "ACTIVE"
        data.update_thing_shadow(**place, payload=json.dumps({"state": {"reported": reported}}).encode())
        (effective,) = greengrass.list_effective_deployments(coreDeviceThingName="drone-1")["effectiveDeployments"]
        assert (effective["coreDeviceExecutionStatus"], effective["reason"]) == ("COMPLETED", "SUCCESSFUL")
        status = greengrass.get_deployment(deploymentId=created["deploymentId"])["deploymentStatus"]
        assert status == "COMPLETED"
        second = greengrass.create_deployment(targetArn=THING_ARN)
        greengrass.cancel_deployment(deploymentId=second["deploymentId"])
        shadow = json.loads(data.get_thing_shadow(**place)["payload"].read())
        assert shadow["state"]["desired"]["desiredStatus"] == "CANCELED"
        statuses = {
            each["deploymentId"]: each["coreDeviceExecutionStatus"]
            for each in greengrass.list_effective_deployments(coreDeviceThingName="drone-1")["effectiveDeployments"]
        }
        assert statuses[second["deploymentId"]] == "CANCELED"
        third = greengrass.create_deployment(targetArn=THING_ARN)
        cloud.iot.delete_thing(thingName="drone-1")
        greengrass.cancel_deployment(deploymentId=third["deploymentId"])
        cloud.iot.create_thing(thingName="drone-1")
        refused(lambda: data.get_thing_shadow(**place), "ResourceNotFoundException")

    await cloud.off_loop(work)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"components": {"a b": {"componentVersion": "1.0.0"}}}, "components.a b"),
        ({"components": {"a": {"componentVersion": ">=1.0.0"}}}, "components.a.componentVersion"),
        (
            {"components": {"a": {"componentVersion": "1.0.0", "configurationUpdate": {"merge": "{"}}}},
            "components.a.configurationUpdate.merge",
        ),
        (
            {"components": {"a": {"componentVersion": "1.0.0", "configurationUpdate": {"merge": "[]"}}}},
            "components.a.configurationUpdate.merge",
        ),
        (
            {"components": {"a": {"componentVersion": "1.0.0", "configurationUpdate": {"merge": '{"a": 1e999}'}}}},
            "components.a.configurationUpdate.merge",
        ),
        (
            {
                "components": {
                    "a": {
                        "componentVersion": "1.0.0",
                        "configurationUpdate": {"merge": '{"a":' * 101 + "1" + "}" * 101},
                    }
                }
            },
            "components.a.configurationUpdate.merge",
        ),
        (
            {"components": {"a": {"componentVersion": "1.0.0", "configurationUpdate": {"reset": ["x"]}}}},
            "components.a.configurationUpdate.reset",
        ),
        (
            {"iotJobConfiguration": {"timeoutConfig": {"inProgressTimeoutInMinutes": 10081}}},
            "iotJobConfiguration.timeoutConfig.inProgressTimeoutInMinutes",
        ),
        (
            {"deploymentPolicies": {"configurationValidationPolicy": {"timeoutInSeconds": -1}}},
            "deploymentPolicies.configurationValidationPolicy.timeoutInSeconds",
        ),
        ({"parentTargetArn": GROUP_ARN, "targetArn": THING_ARN}, "targetArn"),
        (
            {
                "components": {
                    "a": {
                        "componentVersion": "1.0.0",
                        "configurationUpdate": {"merge": json.dumps({"a": "x" * 10_485_700})},
                    }
                }
            },
            "components",
        ),
    ],
)
async def test_what_the_model_does_not_check_is_checked(cloud: Any, change: dict[str, Any], field: str) -> None:
    def work() -> None:
        cloud.add_drone("drone-1", "drones")
        request = {"targetArn": GROUP_ARN, **change}
        response = refused(lambda: cloud.greengrassv2.create_deployment(**request), "ValidationException")
        assert response["fields"][0]["name"] == field
        assert cloud.greengrassv2.list_deployments()["deployments"] == []

    await cloud.off_loop(work)


async def test_a_subdeployment_carries_its_parent(cloud: Any) -> None:
    def work() -> None:
        cloud.iot.create_thing_group(thingGroupName="drones")
        cloud.iot.create_thing_group(thingGroupName="canary")
        canary = GROUP_ARN.replace("drones", "canary")
        created = cloud.greengrassv2.create_deployment(targetArn=canary, parentTargetArn=GROUP_ARN)
        document = json.loads(cloud.iot.get_job_document(jobId=created["iotJobId"])["document"])
        assert (document["parentTargetArn"], document["onBehalfOf"]) == (GROUP_ARN, canary)
        assert document["requiredCapabilities"] == ["SUB_DEPLOYMENTS"]
        listed = cloud.greengrassv2.list_deployments(parentTargetArn=GROUP_ARN)["deployments"]
        assert [each["deploymentId"] for each in listed] == [created["deploymentId"]]
        missing = GROUP_ARN.replace("drones", "none")
        refused(lambda: cloud.greengrassv2.create_deployment(targetArn=missing), "ResourceNotFoundException")
        other = GROUP_ARN.replace("us-east-1", "eu-west-1")
        refused(lambda: cloud.greengrassv2.create_deployment(targetArn=other), "ResourceNotFoundException")

    await cloud.off_loop(work)


async def test_core_devices_are_what_their_health_messages_say(cloud: Any) -> None:
    def component(name: str, status: str = "RUNNING", **more: Any) -> dict[str, Any]:
        return {
            "componentName": name,
            "version": "1.0.0",
            "status": status,
            "isRoot": True,
            "fleetConfigArns": [],
            **more,
        }

    def work() -> None:
        greengrass = cloud.greengrassv2
        cloud.add_drone("drone-1", "drones")
        refused(lambda: greengrass.get_core_device(coreDeviceThingName="drone-1"), "ResourceNotFoundException")
        nucleus = component("aws.greengrass.Nucleus", isRoot=False)
        cloud.report_health("drone-1", components=[component("a"), component("b"), nucleus])
        device = greengrass.get_core_device(coreDeviceThingName="drone-1")
        assert (device["status"], device["platform"], device["architecture"]) == ("HEALTHY", "linux", "amd64")

        def installed(**query: Any) -> dict[str, Any]:
            pages = greengrass.get_paginator("list_installed_components").paginate(
                coreDeviceThingName="drone-1", PaginationConfig={"PageSize": 1}, **query
            )
            return {each["componentName"]: each for page in pages for each in page["installedComponents"]}

        assert set(installed()) == {"a", "b"}
        assert set(installed(topologyFilter="ALL")) == {"a", "b", "aws.greengrass.Nucleus"}
        before = installed()["a"]["lastStatusChangeTimestamp"]
        broken = component(
            "b", "BROKEN", componentStatusDetails={"statusCodes": ["RUN_ERROR"], "statusReason": "exit 1"}
        )
        information = {
            "deploymentId": "d-1",
            "status": "FAILED",
            "statusDetails": {},
            "unchangedRootComponents": ["a"],
        }
        cloud.report_health(
            "drone-1",
            components=[broken],
            trigger="THING_GROUP_DEPLOYMENT",
            messageType="PARTIAL",
            sequenceNumber=2,
            overallDeviceStatus="UNHEALTHY",
            deploymentInformation=information,
        )
        found = installed()
        assert found["a"]["lastStatusChangeTimestamp"] == before
        assert (found["a"]["lastInstallationSource"], found["b"]["lastInstallationSource"]) == ("d-1", "d-1")
        assert found["b"]["lifecycleState"] == "BROKEN"
        assert found["b"]["lifecycleStateDetails"] == "exit 1"
        assert found["b"]["lifecycleStatusCodes"] == ["RUN_ERROR"]
        assert [each["coreDeviceThingName"] for each in greengrass.list_core_devices(status="UNHEALTHY")["coreDevices"]]
        assert greengrass.list_core_devices(status="HEALTHY")["coreDevices"] == []
        cloud.report_health("drone-1", components=[], sequenceNumber=1, trigger="CADENCE", messageType="COMPLETE")
        cloud.report_health("drone-1", components=[], sequenceNumber=1, timestamp=1)
        assert set(installed()) == {"a", "b"}, "a lower sequence number is stale, a launch's too"
        gone = component("a", "UNINSTALLED")
        cloud.report_health(
            "drone-1", components=[gone], sequenceNumber=3, messageType="PARTIAL", trigger="COMPONENT_STATUS_CHANGE"
        )
        assert set(installed()) == {"b"}
        for chunk, name in enumerate(("x", "y"), start=1):
            cloud.report_health(
                "drone-1",
                components=[component(name)],
                sequenceNumber=4,
                messageType="COMPLETE",
                trigger="CADENCE",
                chunkInfo={"chunkId": chunk, "totalChunks": 2},
            )
        assert set(installed()) == {"x", "y"}
        cloud.report_raw_health("drone-1", b"\x00garbage")
        cloud.report_raw_health("drone-1", b"{}")
        assert set(installed()) == {"x", "y"}
        tags = {"resourceArn": f"arn:aws:greengrass:us-east-1:{ACCOUNT}:coreDevices:drone-1"}
        greengrass.tag_resource(**tags, tags={"a": "b", "c": ""})
        greengrass.untag_resource(**tags, tagKeys=["a"])
        assert greengrass.list_tags_for_resource(**tags)["tags"] == {"c": ""}
        greengrass.delete_core_device(coreDeviceThingName="drone-1")
        refused(lambda: greengrass.get_core_device(coreDeviceThingName="drone-1"), "ResourceNotFoundException")
        refused(lambda: greengrass.list_tags_for_resource(**tags), "ResourceNotFoundException")
        assert cloud.iot.describe_thing(thingName="drone-1")["thingName"] == "drone-1"

    await cloud.off_loop(work)


async def test_a_device_that_was_set_up_anew_counts_from_the_beginning(cloud: Any) -> None:
    def work() -> None:
        def version() -> str:
            found: str = cloud.greengrassv2.get_core_device(coreDeviceThingName="drone-1")["coreVersion"]
            return found

        cloud.add_drone("drone-1", "drones")
        cloud.report_health("drone-1", sequenceNumber=70, timestamp=1000)
        cloud.report_health("drone-1", sequenceNumber=1, timestamp=900, ggcVersion="2.0.0")
        assert version() == "2.18.0", "a launch that was long on its way"
        cloud.report_health("drone-1", sequenceNumber=60, timestamp=1001, ggcVersion="2.0.0")
        assert version() == "2.18.0"
        cloud.report_health("drone-1", sequenceNumber=1, timestamp=1002, ggcVersion="2.1.0")
        assert version() == "2.1.0"
        cloud.report_health("drone-1", sequenceNumber=2, timestamp=1003, ggcVersion="2.2.0", trigger="CADENCE")
        assert version() == "2.2.0"

    await cloud.off_loop(work)


async def test_what_is_published_by_the_api_on_a_reserved_topic_is_answered_too(cloud: Any) -> None:
    def work() -> None:
        cloud.add_drone("drone-1", "drones")
        data = cloud.client_of("iot-data")
        topic = "$aws/things/drone-1/shadow/name/lamp/update"
        data.publish(topic=topic, qos=1, payload=json.dumps({"state": {"desired": {"on": True}}}))
        shadow = json.loads(data.get_thing_shadow(thingName="drone-1", shadowName="lamp")["payload"].read())
        assert shadow["state"]["desired"] == {"on": True}
        health = {
            "ggcVersion": "2.18.0",
            "platform": "linux",
            "architecture": "amd64",
            "thing": "drone-1",
            "overallDeviceStatus": "UNHEALTHY",
            "sequenceNumber": 1,
            "timestamp": 1,
            "messageType": "COMPLETE",
            "trigger": "NUCLEUS_LAUNCH",
        }
        data.publish(topic="$aws/things/drone-1/greengrassv2/health/json", payload=json.dumps(health))
        assert cloud.greengrassv2.get_core_device(coreDeviceThingName="drone-1")["status"] == "UNHEALTHY"

    await cloud.off_loop(work)


async def test_candidates_are_chosen_in_awss_words(cloud: Any) -> None:
    def work() -> None:
        for version in ("1.0.0", "1.5.0", "2.0.0"):
            publish(cloud, version)

        def resolve(requirements: dict[str, str], os: str = "linux", name: str = "com.example.Hello") -> Any:
            return cloud.greengrassv2.resolve_component_candidates(
                platform={"attributes": {"os": os, "architecture": "amd64"}},
                componentCandidates=[{"componentName": name, "versionRequirements": requirements}],
            )["resolvedComponentVersions"]

        (found,) = resolve({"a": ">=1.0.0 <2.0.0", "b": "^1.0.0"})
        assert found["componentVersion"] == "1.5.0"
        assert json.loads(found["recipe"])["Manifests"][0]["Artifacts"][0]["Digest"]
        assert resolve({})[0]["componentVersion"] == "2.0.0"
        message = refused(lambda: resolve({"a": ">=3.0.0"}), "ResourceNotFoundException")["Error"]["Message"]
        assert "no usable version" in message
        assert "2.0.0, 1.5.0, 1.0.0" in message
        message = refused(lambda: resolve({}, os="windows"), "ResourceNotFoundException")["Error"]["Message"]
        assert "claim platform" in message
        message = refused(lambda: resolve({}, name="none"), "ResourceNotFoundException")["Error"]["Message"]
        assert "no usable version" in message
        refused(lambda: resolve({"a": "what?"}), "ValidationException")
        (cli,) = resolve({"a": "^2.0.0"}, name="aws.greengrass.Cli")
        assert cli["arn"].split(":")[4] == "aws"

    await cloud.off_loop(work)


async def test_the_rest_is_kept_and_given_back(cloud: Any) -> None:
    def work() -> None:
        greengrass = cloud.greengrassv2
        refused(greengrass.get_service_role_for_account, "ResourceNotFoundException")
        greengrass.associate_service_role_to_account(roleArn="arn:aws:iam::1:role/x")
        assert greengrass.get_service_role_for_account()["roleArn"] == "arn:aws:iam::1:role/x"
        assert greengrass.disassociate_service_role_from_account()["disassociatedAt"]
        cloud.add_drone("drone-1", "drones")
        info = [{"id": "a", "hostAddress": "10.0.0.1", "portNumber": 8883}]
        assert greengrass.update_connectivity_info(thingName="drone-1", connectivityInfo=info)["version"]
        assert greengrass.get_connectivity_info(thingName="drone-1")["connectivityInfo"] == info
        for unknown in (
            lambda: greengrass.batch_associate_client_device_with_core_device(coreDeviceThingName="core"),
            lambda: greengrass.batch_disassociate_client_device_from_core_device(coreDeviceThingName="core"),
            lambda: greengrass.list_client_devices_associated_with_core_device(coreDeviceThingName="core"),
        ):
            refused(unknown, "ResourceNotFoundException")
        cloud.iot.create_thing(thingName="core")
        answer = greengrass.batch_associate_client_device_with_core_device(
            coreDeviceThingName="core", entries=[{"thingName": "drone-1"}, {"thingName": "none"}]
        )
        assert [each["thingName"] for each in answer["errorEntries"]] == ["none"]
        listed = greengrass.list_client_devices_associated_with_core_device(coreDeviceThingName="core")
        assert [each["thingName"] for each in listed["associatedClientDevices"]] == ["drone-1"]
        greengrass.batch_disassociate_client_device_from_core_device(
            coreDeviceThingName="core", entries=[{"thingName": "drone-1"}]
        )
        listed = greengrass.list_client_devices_associated_with_core_device(coreDeviceThingName="core")
        assert listed["associatedClientDevices"] == []

    await cloud.off_loop(work)


def test_every_operation_of_the_model_is_there(tmp_path: Path) -> None:
    """Cloud notes, section 2: 29 operations."""
    with Store.open(tmp_path / "state") as store:
        authority = CertificateAuthority.open(tmp_path / "state")
        parts = Parts(store, authority, region="us-east-1", account=ACCOUNT, now=lambda: 0.0)
        backends = parts.backends["greengrass"]
        missing = [
            operation.name
            for operation in load("greengrassv2").operations.values()
            if not any(hasattr(backend, operation.method_name) for backend in backends)
        ]
    assert missing == []

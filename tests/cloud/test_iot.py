"""AWS IoT's registry and security with real boto3; the device data plane with a certificate."""

import http.client
import json
import ssl
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

from monodon.cloud.broker.identity import CONNECT, PUBLISH, RECEIVE, SUBSCRIBE

ACCOUNT = "123456789012"
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
            {
                "Effect": "Allow",
                "Action": ["iot:Publish", "iot:Receive"],
                "Resource": f"arn:aws:iot:us-east-1:{ACCOUNT}:topic/${{iot:Connection.Thing.ThingName}}/*",
            },
            {
                "Effect": "Allow",
                "Action": "iot:AssumeRoleWithCertificate",
                "Resource": f"arn:aws:iot:us-east-1:{ACCOUNT}:rolealias/Exchange",
            },
        ],
    }
)


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


async def test_things_and_groups(cloud: Any) -> None:
    def work() -> None:
        iot = cloud.iot
        made = iot.create_thing(thingName="a", attributePayload={"attributes": {"sea": "arctic"}})
        assert made["thingArn"] == f"arn:aws:iot:us-east-1:{ACCOUNT}:thing/a"
        again = iot.create_thing(thingName="a", attributePayload={"attributes": {"sea": "arctic"}})
        assert again["thingId"] == made["thingId"]
        refused(lambda: iot.create_thing(thingName="a"), "ResourceAlreadyExistsException")
        refused(lambda: iot.create_thing(thingName="a b"), "InvalidRequestException")
        refused(lambda: iot.create_thing(thingName="c", thingTypeName="none"), "ResourceNotFoundException")
        iot.create_thing_type(thingTypeName="drone")
        assert iot.describe_thing_type(thingTypeName="drone")["thingTypeArn"].endswith(":thingtype/drone")
        for name in ("b", "c", "d"):
            iot.create_thing(thingName=name, thingTypeName="drone")
        pages = iot.get_paginator("list_things").paginate(thingTypeName="drone", PaginationConfig={"PageSize": 2})
        assert [each["thingName"] for page in pages for each in page["things"]] == ["b", "c", "d"]
        found = iot.list_things(attributeName="sea", attributeValue="arctic")["things"]
        assert [each["thingName"] for each in found] == ["a"]
        iot.update_thing(
            thingName="a", attributePayload={"attributes": {"sea": "", "depth": "9"}, "merge": True}, expectedVersion=1
        )
        described = iot.describe_thing(thingName="a")
        assert (described["attributes"], described["version"]) == ({"depth": "9"}, 2)
        refused(lambda: iot.update_thing(thingName="a", expectedVersion=1), "VersionConflictException")

        iot.create_thing_group(thingGroupName="root", tags=[{"Key": "k", "Value": "v"}])
        group = iot.create_thing_group(thingGroupName="child", parentGroupName="root")
        refused(lambda: iot.create_thing_group(thingGroupName="child"), "ResourceAlreadyExistsException")
        refused(lambda: iot.create_thing_group(thingGroupName="x", parentGroupName="none"), "ResourceNotFoundException")
        iot.add_thing_to_thing_group(thingGroupName="root", thingName="a")
        iot.add_thing_to_thing_group(thingGroupArn=group["thingGroupArn"], thingName="b")
        assert iot.list_things_in_thing_group(thingGroupName="root")["things"] == ["a"]
        assert iot.list_things_in_thing_group(thingGroupName="root", recursive=True)["things"] == ["a", "b"]
        groups = iot.list_thing_groups_for_thing(thingName="b")["thingGroups"]
        assert [each["groupName"] for each in groups] == ["child"]
        described = iot.describe_thing_group(thingGroupName="child")
        assert described["thingGroupMetadata"]["parentGroupName"] == "root"
        assert iot.list_thing_groups(parentGroup="root")["thingGroups"][0]["groupName"] == "child"
        assert [each["groupName"] for each in iot.list_thing_groups(recursive=False)["thingGroups"]] == ["root"]
        iot.update_thing_group(thingGroupName="child", thingGroupProperties={"thingGroupDescription": "x"})
        iot.update_thing_groups_for_thing(thingName="b", thingGroupsToAdd=["root"], thingGroupsToRemove=["child"])
        assert iot.list_things_in_thing_group(thingGroupName="root")["things"] == ["a", "b"]
        refused(lambda: iot.delete_thing_group(thingGroupName="root"), "InvalidRequestException")
        iot.delete_thing_group(thingGroupName="child")
        iot.delete_thing_group(thingGroupName="root")
        iot.delete_thing(thingName="a")
        refused(lambda: iot.describe_thing(thingName="a"), "ResourceNotFoundException")
        refused(lambda: iot.list_billing_groups(), "NotImplementedException")

    await cloud.off_loop(work)


def provision(cloud: Any, thing: str, tmp_path: Path) -> dict[str, Any]:
    iot = cloud.iot
    cloud.add_drone(thing, "drones")
    made: dict[str, Any] = iot.create_keys_and_certificate(setAsActive=True)
    iot.attach_thing_principal(thingName=thing, principal=made["certificateArn"])
    (tmp_path / f"{thing}.pem").write_text(made["certificatePem"] + made["keyPair"]["PrivateKey"])
    return made


async def test_certificates_policies_and_what_they_allow(cloud: Any, tmp_path: Path) -> None:
    access = cloud._parts.access

    def work() -> None:
        iot = cloud.iot
        made = provision(cloud, "drone-1", tmp_path)
        certificate_id, arn = made["certificateId"], made["certificateArn"]
        assert arn == f"arn:aws:iot:us-east-1:{ACCOUNT}:cert/{certificate_id}"
        assert iot.describe_certificate(certificateId=certificate_id)["certificateDescription"]["status"] == "ACTIVE"
        assert iot.list_thing_principals(thingName="drone-1")["principals"] == [arn]
        assert iot.list_principal_things(principal=arn)["things"] == ["drone-1"]
        malformed = {"policyName": "p", "policyDocument": "{}"}
        refused(lambda: iot.create_policy(**malformed), "MalformedPolicyException")
        iot.create_policy(policyName="p", policyDocument=POLICY)
        refused(lambda: iot.create_policy(policyName="p", policyDocument=POLICY), "ResourceAlreadyExistsException")
        assert json.loads(iot.get_policy(policyName="p")["policyDocument"]) == json.loads(POLICY)

        def may(action: str, resource: str, client_id: str = "drone-1") -> bool:
            identity = access.identity(certificate_id)
            return bool(access.authorise(replace(identity, client_id=client_id), action, resource))

        assert not may(CONNECT, "drone-1")
        iot.attach_policy(policyName="p", target=arn)
        assert may(CONNECT, "drone-1")
        assert may(PUBLISH, "drone-1/x")
        assert may(RECEIVE, "drone-1/x", client_id="drone-1#2")
        assert not may(PUBLISH, "drone-2/x")
        assert not may(SUBSCRIBE, "drone-1/x")
        assert [each["policyName"] for each in iot.list_attached_policies(target=arn)["policies"]] == ["p"]
        assert iot.list_targets_for_policy(policyName="p")["targets"] == [arn]
        refused(lambda: iot.delete_policy(policyName="p"), "DeleteConflictException")
        everything = POLICY.replace("${iot:Connection.Thing.ThingName}/*", "*").replace("iot:Publish", "iot:*")
        version = iot.create_policy_version(policyName="p", policyDocument=everything, setAsDefault=True)
        assert version["policyVersionId"] == "2"
        assert may(PUBLISH, "drone-2/x")
        iot.set_default_policy_version(policyName="p", policyVersionId="1")
        assert not may(PUBLISH, "drone-2/x")
        assert [each["versionId"] for each in iot.list_policy_versions(policyName="p")["policyVersions"]] == ["2", "1"]
        iot.detach_policy(policyName="p", target=arn)
        assert not may(CONNECT, "drone-1")
        iot.attach_policy(policyName="p", target=f"arn:aws:iot:us-east-1:{ACCOUNT}:thinggroup/drones")
        assert may(CONNECT, "drone-1"), "a group's policies hold for its things"
        refused(lambda: iot.delete_certificate(certificateId=certificate_id), "CertificateStateException")
        iot.update_certificate(certificateId=certificate_id, newStatus="INACTIVE")
        assert access.identity(certificate_id) is None
        refused(lambda: iot.delete_certificate(certificateId=certificate_id), "DeleteConflictException")
        iot.detach_thing_principal(thingName="drone-1", principal=arn)
        iot.delete_certificate(certificateId=certificate_id)
        refused(lambda: iot.describe_certificate(certificateId=certificate_id), "ResourceNotFoundException")
        assert iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"] == "localhost"
        assert iot.describe_endpoint(endpointType="iot:CredentialProvider")["endpointAddress"].startswith("localhost:")
        refused(lambda: iot.describe_endpoint(endpointType="iot:None"), "InvalidRequestException")

    await cloud.off_loop(work)


async def test_devices_ask_with_their_certificate(cloud: Any, tmp_path: Path) -> None:
    port = int(cloud.ready.https_endpoint.rpartition(":")[2])

    def ask(method: str, path: str, body: bytes = b"", *, device: str | None = "drone-1", **headers: str) -> Any:
        context = ssl.create_default_context(cafile=cloud.ready.ca_file)
        if device is not None:
            context.load_cert_chain(tmp_path / f"{device}.pem")
        with closing(http.client.HTTPSConnection("localhost", port, timeout=10, context=context)) as connection:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")

    def work() -> None:
        made = provision(cloud, "drone-1", tmp_path)
        cloud.iot.create_thing_group(thingGroupName="sub", parentGroupName="drones")
        cloud.iot.add_thing_to_thing_group(thingGroupName="sub", thingName="drone-1")
        cloud.s3.create_bucket(Bucket="artifacts")
        cloud.s3.put_object(Bucket="artifacts", Key="a/b.zip", Body=b"bytes")
        recipe = {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": "com.example.A",
            "ComponentVersion": "1.0.0",
            "Manifests": [{"Artifacts": [{"Uri": "s3://artifacts/a/b.zip"}]}],
        }
        arn = cloud.greengrassv2.create_component_version(inlineRecipe=json.dumps(recipe).encode())["arn"]
        status, groups = ask("GET", "/greengrass/v2/coreDevices/drone-1/thingGroups")
        assert status == 200
        assert [each["thingGroupName"] for each in groups["thingGroups"]] == ["drones", "sub"]
        assert groups["thingGroups"][1]["rootToParentThingGroups"][0]["thingGroupName"] == "drones"
        assert ask("GET", "/greengrass/v2/coreDevices/drone-2/thingGroups")[0] == 403
        candidate = {"componentCandidates": [{"componentName": "com.example.A", "versionRequirements": {"g": "1.0.0"}}]}
        status, resolved = ask("POST", "/greengrass/v2/resolveComponentCandidates", json.dumps(candidate).encode())
        assert (status, resolved["resolvedComponentVersions"][0]["arn"]) == (200, arn)
        status, found = ask("GET", f"/greengrass/v2/components/{quote(arn, safe='')}/artifacts/b.zip")
        assert status == 200
        context = ssl.create_default_context(cafile=cloud.ready.ca_file)
        with urllib.request.urlopen(found["preSignedUrl"], timeout=10, context=context) as answer:
            assert (answer.read(), answer.headers["content-length"]) == (b"bytes", "5")
        assert ask("GET", f"/greengrass/v2/components/{quote(arn, safe='')}/artifacts/none")[0] == 404
        assert ask("GET", "/greengrass/v2/deployments")[0] == 403
        assert ask("GET", "/greengrass/v2/nothing")[0] == 404
        assert ask("GET", "/greengrass/v2/coreDevices/drone-1/thingGroups", device=None)[0] == 403

        role = f"arn:aws:iam::{ACCOUNT}:role/Exchange"
        cloud.iot.create_role_alias(roleAlias="Exchange", roleArn=role, credentialDurationSeconds=900)
        described = cloud.iot.describe_role_alias(roleAlias="Exchange")["roleAliasDescription"]
        assert (described["roleArn"], described["credentialDurationSeconds"]) == (role, 900)
        path = "/role-aliases/Exchange/credentials"
        assert ask("GET", path, x_amzn_iot_thingname="drone-1")[0] == 403
        cloud.iot.create_policy(policyName="p", policyDocument=POLICY)
        cloud.iot.attach_policy(policyName="p", target=made["certificateArn"])
        status, issued = ask("GET", path, x_amzn_iot_thingname="drone-1")
        assert status == 200
        assert set(issued["credentials"]) == {"accessKeyId", "secretAccessKey", "sessionToken", "expiration"}
        assert ask("GET", path, x_amzn_iot_thingname="drone-2")[0] == 403
        cloud.iot.update_certificate(certificateId=made["certificateId"], newStatus="REVOKED")
        assert ask("GET", path, x_amzn_iot_thingname="drone-1")[0] == 403

    await cloud.off_loop(work)


async def test_jobs_from_the_control_plane(cloud: Any) -> None:
    def work() -> None:
        iot = cloud.iot
        cloud.add_drone("drone-1", "drones")
        cloud.add_drone("drone-2", "drones")
        arn = f"arn:aws:iot:us-east-1:{ACCOUNT}:"
        refused(
            lambda: iot.create_job(jobId="j", targets=[f"{arn}thing/x"], document="{}"), "ResourceNotFoundException"
        )
        refused(
            lambda: iot.create_job(jobId="j", targets=[f"{arn}thing/drone-1"], document="["), "InvalidRequestException"
        )
        refused(
            lambda: iot.create_job(jobId="j", targets=[f"{arn}thing/drone-1"], document='{"a": NaN}'),
            "InvalidRequestException",
        )
        iot.create_job(jobId="j", targets=[f"{arn}thinggroup/drones"], document='{"a": 1}', description="x")
        job = iot.describe_job(jobId="j")["job"]
        assert (job["status"], job["targetSelection"], job["description"]) == ("IN_PROGRESS", "SNAPSHOT", "x")
        assert job["jobProcessDetails"]["numberOfQueuedThings"] == 2
        pages = iot.get_paginator("list_job_executions_for_job").paginate(jobId="j", PaginationConfig={"PageSize": 1})
        assert len([each for page in pages for each in page["executionSummaries"]]) == 2
        summaries = iot.list_job_executions_for_thing(thingName="drone-1", status="QUEUED")["executionSummaries"]
        assert [each["jobId"] for each in summaries] == ["j"]
        data = cloud.client_of("iot-jobs-data")
        started = data.start_next_pending_job_execution(thingName="drone-1")["execution"]
        assert json.loads(started["jobDocument"]) == {"a": 1}
        data.update_job_execution(jobId="j", thingName="drone-1", status="SUCCEEDED", statusDetails={"k": "v"})
        execution = iot.describe_job_execution(jobId="j", thingName="drone-1")["execution"]
        assert (execution["status"], execution["statusDetails"]) == ("SUCCEEDED", {"detailsMap": {"k": "v"}})
        refused(lambda: iot.delete_job(jobId="j"), "InvalidStateTransitionException")
        iot.cancel_job(jobId="j", comment="enough")
        assert iot.describe_job_execution(jobId="j", thingName="drone-2")["execution"]["status"] == "CANCELED"
        assert [each["jobId"] for each in iot.list_jobs(status="CANCELED")["jobs"]] == ["j"]
        iot.delete_job(jobId="j")
        refused(lambda: iot.describe_job(jobId="j"), "ResourceNotFoundException")

    await cloud.off_loop(work)


async def test_a_thing_changes_groups_at_once(cloud: Any) -> None:
    def work() -> None:
        iot = cloud.iot
        cloud.add_drone("drone-1", "a")
        iot.create_thing_group(thingGroupName="b")
        change = {"thingGroupsToAdd": ["b"], "thingGroupsToRemove": ["a"]}
        refused(lambda: iot.update_thing_groups_for_thing(**change), "InvalidRequestException")
        iot.update_thing_groups_for_thing(thingName="drone-1", **change)
        groups = iot.list_thing_groups_for_thing(thingName="drone-1")["thingGroups"]
        assert [each["groupName"] for each in groups] == ["b"]

    await cloud.off_loop(work)


async def test_a_job_is_changed_under_way(cloud: Any) -> None:
    def work() -> None:
        iot, data = cloud.iot, cloud.client_of("iot-jobs-data")
        for number in range(4):
            cloud.add_drone(f"drone-{number}", "drones")
        arn = f"arn:aws:iot:us-east-1:{ACCOUNT}:"
        rate = {"maximumPerMinute": 1}
        late = {"inProgressTimeoutInMinutes": 10_081}
        targets = [f"{arn}thing/drone-0", f"{arn}thing/drone-1"]
        refused(
            lambda: iot.create_job(jobId="j", targets=targets, document="{}", timeoutConfig=late),
            "InvalidRequestException",
        )
        iot.create_job(jobId="snapshot", targets=targets, document="{}")
        refused(lambda: iot.associate_targets_with_job(jobId="snapshot", targets=targets), "InvalidRequestException")
        iot.delete_job(jobId="snapshot", force=True)
        iot.create_job(
            jobId="j",
            targets=targets,
            document="{}",
            targetSelection="CONTINUOUS",
            jobExecutionsRolloutConfig=rate,
        )

        def statuses() -> dict[str, str]:
            pages = iot.get_paginator("list_job_executions_for_job").paginate(
                jobId="j", PaginationConfig={"PageSize": 1}
            )
            found = (each for page in pages for each in page["executionSummaries"])
            return {each["thingArn"].rpartition("/")[2]: each["jobExecutionSummary"]["status"] for each in found}

        def cancel(**more: Any) -> None:
            iot.cancel_job_execution(jobId="j", thingName="drone-0", **more)

        assert statuses() == {"drone-0": "QUEUED"}
        iot.update_job(jobId="j", jobExecutionsRolloutConfig={"maximumPerMinute": 1000}, description="faster")
        assert statuses() == {"drone-0": "QUEUED", "drone-1": "QUEUED"}
        assert iot.describe_job(jobId="j")["job"]["description"] == "faster"
        iot.associate_targets_with_job(jobId="j", targets=[f"{arn}thinggroup/drones"])
        assert list(statuses()) == [f"drone-{number}" for number in range(4)]
        data.start_next_pending_job_execution(thingName="drone-0")
        refused(cancel, "InvalidStateTransitionException")
        refused(lambda: cancel(expectedVersion=7, force=True), "VersionConflictException")
        cancel(expectedVersion=2, force=True, statusDetails={"why": "enough"})
        described = iot.describe_job_execution(jobId="j", thingName="drone-0")["execution"]
        assert (described["status"], described["statusDetails"]) == ("CANCELED", {"detailsMap": {"why": "enough"}})
        iot.delete_job_execution(jobId="j", thingName="drone-0", executionNumber=1)
        refused(lambda: cancel(force=True), "ResourceNotFoundException")
        iot.delete_thing(thingName="drone-1")
        assert statuses() == {"drone-1": "REMOVED", "drone-2": "QUEUED", "drone-3": "QUEUED"}
        iot.cancel_job(jobId="j")
        refused(lambda: iot.update_job(jobId="j", description="late"), "InvalidRequestException")

    await cloud.off_loop(work)


async def test_roles_are_kept_and_given_back(cloud: Any) -> None:
    def work() -> None:
        iam = cloud.iam
        trust = {"Version": "2012-10-17", "Statement": []}
        role = iam.create_role(RoleName="Exchange", AssumeRolePolicyDocument=json.dumps(trust))["Role"]
        assert role["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/Exchange"
        assert iam.get_role(RoleName="Exchange")["Role"]["AssumeRolePolicyDocument"] == trust
        with pytest.raises(iam.exceptions.EntityAlreadyExistsException):
            iam.create_role(RoleName="Exchange", AssumeRolePolicyDocument="{}")
        with pytest.raises(iam.exceptions.NoSuchEntityException):
            iam.get_role(RoleName="None")
        iam.put_role_policy(RoleName="Exchange", PolicyName="Artifacts", PolicyDocument=json.dumps(trust))
        assert iam.get_role_policy(RoleName="Exchange", PolicyName="Artifacts")["PolicyDocument"] == trust
        policy = iam.create_policy(PolicyName="p", PolicyDocument=json.dumps(trust))["Policy"]
        iam.attach_role_policy(RoleName="Exchange", PolicyArn=policy["Arn"])
        attached = iam.list_attached_role_policies(RoleName="Exchange")["AttachedPolicies"]
        assert attached == [{"PolicyName": "p", "PolicyArn": policy["Arn"]}]
        with pytest.raises(iam.exceptions.DeleteConflictException):
            iam.delete_role(RoleName="Exchange")
        with pytest.raises(iam.exceptions.MalformedPolicyDocumentException):
            iam.put_role_policy(RoleName="Exchange", PolicyName="x", PolicyDocument="{")
        iam.detach_role_policy(RoleName="Exchange", PolicyArn=policy["Arn"])
        iam.delete_role_policy(RoleName="Exchange", PolicyName="Artifacts")
        iam.delete_role(RoleName="Exchange")

    await cloud.off_loop(work)


@pytest.mark.parametrize(
    ("service", "operation"),
    [("logs", "describe_log_groups"), ("lambda", "list_functions"), ("cloudformation", "list_stacks")],
)
async def test_a_service_that_is_not_there_says_so_in_its_own_protocol(
    cloud: Any, service: str, operation: str
) -> None:
    def work() -> None:
        response = refused(getattr(cloud.client_of(service), operation), "UnknownServiceException")
        assert f"no service '{service}'" in response["Error"]["Message"]

    await cloud.off_loop(work)

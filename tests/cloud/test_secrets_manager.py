"""Secrets Manager of the embedded cloud, asked by boto3."""

import functools
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

NAME = "fleet/camera"


async def test_versions_and_labels_from_create_to_delete(tmp_path: Path, run_cloud: Any) -> None:
    async with run_cloud(tmp_path) as cloud:
        await cloud.off_loop(lambda: versions_and_labels(cloud.secretsmanager))


def versions_and_labels(client: Any) -> None:
    made = client.create_secret(Name=NAME, SecretString="one", Description="d", Tags=[{"Key": "k", "Value": "v"}])
    arn, first = made["ARN"], made["VersionId"]
    assert arn.startswith("arn:aws:secretsmanager:us-east-1:123456789012:secret:fleet/camera-")
    second = client.put_secret_value(SecretId=NAME, SecretBinary=b"\0two")
    assert second["VersionStages"] == ["AWSCURRENT"]
    current = client.get_secret_value(SecretId=arn)
    assert (current["ARN"], current["Name"], current["VersionId"]) == (arn, NAME, second["VersionId"])
    assert (current["SecretBinary"], current["VersionStages"]) == (b"\0two", ["AWSCURRENT"])
    assert "SecretString" not in current
    for wanted in ({"VersionStage": "AWSPREVIOUS"}, {"VersionId": first}):
        assert client.get_secret_value(SecretId=arn.rpartition("-")[0], **wanted)["SecretString"] == "one"
    third = client.put_secret_value(SecretId=NAME, SecretString="three", VersionStages=["next"])["VersionId"]
    assert client.get_secret_value(SecretId=NAME)["VersionId"] == second["VersionId"]
    client.update_secret_version_stage(
        SecretId=NAME, VersionStage="AWSCURRENT", MoveToVersionId=third, RemoveFromVersionId=second["VersionId"]
    )
    described = client.describe_secret(SecretId=NAME)
    assert {key: set(stages) for key, stages in described["VersionIdsToStages"].items()} == {
        third: {"next", "AWSCURRENT"},
        second["VersionId"]: {"AWSPREVIOUS"},
    }
    assert (described["Description"], described["Tags"]) == ("d", [{"Key": "k", "Value": "v"}])
    assert described["CreatedDate"] <= described["LastChangedDate"]
    listed = client.list_secret_version_ids(SecretId=NAME, IncludeDeprecated=True)["Versions"]
    assert {version["VersionId"] for version in listed} == {first, second["VersionId"], third}
    fourth = client.update_secret(SecretId=NAME, SecretString="four", Description="e")["VersionId"]
    assert client.get_secret_value(SecretId=NAME, VersionStage="AWSPREVIOUS")["VersionId"] == third
    assert client.get_secret_value(SecretId=NAME)["VersionId"] == fourth

    deleted = client.delete_secret(SecretId=NAME, RecoveryWindowInDays=7)
    assert 6 * 86_400 < deleted["DeletionDate"].timestamp() - described["LastChangedDate"].timestamp() < 8 * 86_400
    assert client.list_secrets()["SecretList"] == []
    with pytest.raises(client.exceptions.InvalidRequestException):
        client.get_secret_value(SecretId=NAME)
    client.restore_secret(SecretId=NAME)
    assert client.get_secret_value(SecretId=NAME)["SecretString"] == "four"
    client.delete_secret(SecretId=NAME, ForceDeleteWithoutRecovery=True)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.describe_secret(SecretId=arn)


async def test_a_repeated_call_is_the_same_call(tmp_path: Path, run_cloud: Any) -> None:
    def work(client: Any) -> None:
        token = str(uuid.uuid4())
        made = [client.create_secret(Name=NAME, SecretString="a", ClientRequestToken=token) for _ in range(2)]
        assert made[0]["VersionId"] == made[1]["VersionId"] == token
        with pytest.raises(client.exceptions.ResourceExistsException):
            client.create_secret(Name=NAME, SecretString="b", ClientRequestToken=token)
        with pytest.raises(client.exceptions.ResourceExistsException):
            client.put_secret_value(SecretId=NAME, SecretString="b", ClientRequestToken=token)
        assert client.put_secret_value(SecretId=NAME, SecretString="a", ClientRequestToken=token)["VersionId"] == token

    async with run_cloud(tmp_path) as cloud:
        await cloud.off_loop(lambda: work(cloud.secretsmanager))


#: None of these changes anything.
WRONG: list[tuple[Callable[[Any], Any], str]] = [
    (lambda c: c.get_secret_value(SecretId="none"), "ResourceNotFoundException"),
    (lambda c: c.get_secret_value(SecretId="empty"), "ResourceNotFoundException"),
    (lambda c: c.get_secret_value(SecretId=NAME, VersionStage="none"), "ResourceNotFoundException"),
    (lambda c: c.get_secret_value(SecretId=NAME, VersionId="v" * 32), "ResourceNotFoundException"),
    (lambda c: c.create_secret(Name="a b", SecretString="x"), "InvalidParameterException"),
    (lambda c: c.create_secret(Name="a" * 600, SecretString="x"), "ValidationException"),
    (lambda c: c.create_secret(Name=NAME, SecretString="x"), "ResourceExistsException"),
    (lambda c: c.put_secret_value(SecretId=NAME), "InvalidParameterException"),
    (lambda c: c.put_secret_value(SecretId=NAME, SecretString="x", SecretBinary=b"x"), "InvalidParameterException"),
    (lambda c: c.put_secret_value(SecretId=NAME, SecretString="\u00e4" * 40_000), "InvalidParameterException"),
    (
        lambda c: c.update_secret_version_stage(SecretId=NAME, VersionStage="AWSCURRENT"),
        "InvalidParameterException",
    ),
    (lambda c: c.delete_secret(SecretId=NAME, RecoveryWindowInDays=3), "InvalidParameterException"),
    (lambda c: c.rotate_secret(SecretId=NAME), "NotImplementedException"),
]


async def test_what_is_wrong_is_named_as_aws_does(tmp_path: Path, run_cloud: Any) -> None:
    def work(client: Any) -> None:
        client.create_secret(Name=NAME, SecretString="one")
        client.create_secret(Name="empty")
        for call, code in WRONG:
            with pytest.raises(ClientError) as refused:
                call(client)
            assert refused.value.response["Error"]["Code"] == code
            assert refused.value.response["Error"]["Message"]

    async with run_cloud(tmp_path) as cloud:
        await cloud.off_loop(lambda: work(cloud.secretsmanager))


async def test_lists_are_filtered_and_come_in_pages(tmp_path: Path, run_cloud: Any) -> None:
    def work(client: Any) -> None:
        for name in ("a/1", "a/2", "b/1"):
            client.create_secret(Name=name, SecretString="x")
        pages = client.get_paginator("list_secrets").paginate(PaginationConfig={"PageSize": 2})
        assert [[each["Name"] for each in page["SecretList"]] for page in pages] == [["a/1", "a/2"], ["b/1"]]
        found = client.list_secrets(Filters=[{"Key": "name", "Values": ["a/"]}])["SecretList"]
        assert [each["Name"] for each in found] == ["a/1", "a/2"]
        client.tag_resource(SecretId="b/1", Tags=[{"Key": "team", "Value": "x"}])
        found = client.list_secrets(Filters=[{"Key": "tag-key", "Values": ["team"]}])["SecretList"]
        assert [each["Name"] for each in found] == ["b/1"]
        client.untag_resource(SecretId="b/1", TagKeys=["team"])
        assert "Tags" not in client.describe_secret(SecretId="b/1")

    async with run_cloud(tmp_path) as cloud:
        await cloud.off_loop(lambda: work(cloud.secretsmanager))


async def test_values_survive_a_restart_and_are_not_to_be_read_in_the_state(tmp_path: Path, run_cloud: Any) -> None:
    async with run_cloud(tmp_path) as cloud:
        await cloud.off_loop(lambda: cloud.secretsmanager.create_secret(Name=NAME, SecretString="hunter2-hunter2"))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes(), path
    assert (tmp_path / "secrets.key").stat().st_mode & 0o777 == 0o600
    async with run_cloud(tmp_path) as cloud:
        got = await cloud.off_loop(lambda: cloud.secretsmanager.get_secret_value(SecretId=NAME))
        assert got["SecretString"] == "hunter2-hunter2"
    (tmp_path / "secrets.key").write_text(json.dumps({"key": "00" * 32}))
    async with run_cloud(tmp_path) as cloud:
        with pytest.raises(cloud.secretsmanager.exceptions.DecryptionFailure):
            await cloud.off_loop(lambda: cloud.secretsmanager.get_secret_value(SecretId=NAME))


async def test_an_unknown_target_is_refused(tmp_path: Path, run_cloud: Any) -> None:
    scope = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/secretsmanager/aws4_request"

    def work(target: str) -> None:
        headers = {"Authorization": scope, "X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
        request = urllib.request.Request(cloud.ready.endpoint, data=b"{}", headers=headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        with refused.value as answer:
            assert answer.code == 400
            assert answer.headers["content-type"] == "application/x-amz-json-1.1"
            assert json.loads(answer.read())["__type"] == "UnknownOperationException"

    async with run_cloud(tmp_path) as cloud:
        for target in ("", "secretsmanager.None", "other.GetSecretValue", "GetSecretValue"):
            await cloud.off_loop(functools.partial(work, target))

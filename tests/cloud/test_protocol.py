import json
from typing import Any
from xml.etree import ElementTree

import pytest

from monodon.cloud.protocol import (
    FileBody,
    ServiceError,
    WireRequest,
    WireResponse,
    parse_request,
    route,
    serialise,
    serialise_error,
)
from monodon.cloud.protocol.errors import not_implemented
from monodon.cloud.protocol.model import load
from monodon.cloud.protocol.patterns import compile_pattern

GREENGRASS = load("greengrassv2")
ARN = "arn:aws:greengrass:us-east-1:123456789012:components:a.b:versions:1.0.0"
QUOTED = "arn%3Aaws%3Agreengrass%3Aus-east-1%3A123456789012%3Acomponents%3Aa.b%3Aversions%3A1.0.0"


def ask(service: str, method: str, target: str, body: bytes = b"", **headers: str) -> tuple[str, dict[str, Any]]:
    path, _, query = target.partition("?")
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = WireRequest(method=method, raw_path=path, raw_query=query, headers=names)
    model = load(service)
    match = route(model, request, body)
    return match.operation.method_name, parse_request(model, match, request, body)


@pytest.mark.parametrize(
    ("service", "method", "target", "headers", "operation", "value"),
    [
        ("greengrassv2", "GET", f"/greengrass/v2/components/{QUOTED}", {}, "get_component", {"arn": ARN}),
        (
            "greengrassv2",
            "GET",
            f"/greengrass/v2/components/{QUOTED}/artifacts/a%2Fb/c%20d.zip",
            {"x_amz_iot_endpoint_type": "fips"},
            "get_component_version_artifact",
            {"arn": ARN, "artifactName": "a/b/c d.zip"},
        ),
        (
            "greengrassv2",
            "DELETE",
            f"/tags/{QUOTED}?tagKeys=a&tagKeys=b%26",
            {},
            "untag_resource",
            {"resourceArn": ARN, "tagKeys": ["a", "b&"]},
        ),
        ("greengrassv2", "GET", "/greengrass/v2/coreDevices?maxResults=5", {}, "list_core_devices", {"maxResults": 5}),
        ("s3", "GET", "/", {}, "list_buckets", {}),
        ("s3", "PUT", "/bucket", {}, "create_bucket", {"Bucket": "bucket"}),
        ("s3", "GET", "/bucket/", {}, "list_objects", {"Bucket": "bucket"}),
        ("s3", "GET", "/bucket?list-type=2&prefix=a", {}, "list_objects_v2", {"Bucket": "bucket", "Prefix": "a"}),
        ("s3", "GET", "/bucket/a%2Bb//c", {}, "get_object", {"Bucket": "bucket", "Key": "a+b//c"}),
        ("s3", "PUT", "/b/k", {}, "put_object", {"Bucket": "b", "Key": "k"}),
        (
            "s3",
            "PUT",
            "/b/k?partNumber=2&uploadId=u",
            {},
            "upload_part",
            {"Bucket": "b", "Key": "k", "PartNumber": 2, "UploadId": "u"},
        ),
        (
            "s3",
            "PUT",
            "/b/k",
            {"x_amz_copy_source": "b/other"},
            "copy_object",
            {"Bucket": "b", "Key": "k", "CopySource": "b/other"},
        ),
        ("s3", "POST", "/b/k?uploads", {}, "create_multipart_upload", {"Bucket": "b", "Key": "k"}),
        ("s3", "GET", "/b/k?uploadId=u", {}, "list_parts", {"Bucket": "b", "Key": "k", "UploadId": "u"}),
        ("s3", "DELETE", "/b/k", {}, "delete_object", {"Bucket": "b", "Key": "k"}),
        ("s3", "GET", "/b?location", {}, "get_bucket_location", {"Bucket": "b"}),
        (
            "s3",
            "PUT",
            "/b/k",
            {"x_amz_meta_name": "whale"},
            "put_object",
            {"Bucket": "b", "Key": "k", "Metadata": {"name": "whale"}},
        ),
        ("iot", "PUT", "/things/t/principals", {"x_amzn_principal": "p"}, "attach_thing_principal", None),
        (
            "iot",
            "GET",
            "/endpoint?endpointType=iot:Data-ATS",
            {},
            "describe_endpoint",
            {"endpointType": "iot:Data-ATS"},
        ),
        ("sts", "GET", "/?Action=GetCallerIdentity&Version=2011-06-15", {}, "get_caller_identity", {}),
    ],
)
def test_a_request_finds_its_operation(
    service: str, method: str, target: str, headers: dict[str, str], operation: str, value: dict[str, Any] | None
) -> None:
    found, parsed = ask(service, method, target, **headers)
    assert found == operation
    if value is not None:
        parsed = {name: item for name, item in parsed.items() if name != "iotEndpointType"}
        assert {name: item for name, item in parsed.items() if name != "s3EndpointType"} == value


def test_a_deployment_is_read_with_its_nested_members() -> None:
    document = {
        "targetArn": "arn:aws:iot:us-east-1:123456789012:thinggroup/drones",
        "components": {"a.b": {"componentVersion": "1.0.0", "configurationUpdate": {"merge": "{}", "reset": ["/a"]}}},
        "deploymentName": None,
        "aNewMember": 1,
        "iotJobConfiguration": {"jobExecutionsRolloutConfig": {"maximumPerMinute": 5.0}},
    }
    name, value = ask("greengrassv2", "POST", "/greengrass/v2/deployments", json.dumps(document).encode())
    assert name == "create_deployment"
    del document["deploymentName"], document["aNewMember"]
    assert value == document


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"targetArn": None}, "targetArn", "must not be null"),
        ({"targetArn": "arn:aws:iot:x:y:thing/z"}, "targetArn", "regular expression pattern"),
        ({"clientToken": "a b"}, "clientToken", "regular expression pattern"),
        ({"clientToken": "a" * 65}, "clientToken", "length less than or equal to 64"),
        ({"deploymentName": ""}, "deploymentName", "length greater than or equal to 1"),
        ({"deploymentName": 5}, "deploymentName", "type string"),
        ({"components": []}, "components", "type map"),
        ({"components": {"a": {}}}, "components.a.value.componentVersion", "must not be null"),
        ({"components": {"": {"componentVersion": "1.0.0"}}}, "components.key", "length greater than or equal to 1"),
        ({"deploymentPolicies": {"failureHandlingPolicy": "SHRUG"}}, None, "enum value set: [DO_NOTHING, ROLLBACK]"),
        (
            {"iotJobConfiguration": {"jobExecutionsRolloutConfig": {"maximumPerMinute": 1001}}},
            "iotJobConfiguration.jobExecutionsRolloutConfig.maximumPerMinute",
            "value less than or equal to 1000",
        ),
        (
            {"components": {"a": {"componentVersion": "1", "runWith": {"systemResourceLimits": {"cpus": True}}}}},
            None,
            "type double",
        ),
        ({"tags": {str(n): "" for n in range(201)}}, "tags", "length less than or equal to 200"),
    ],
)
def test_the_server_refuses_what_boto3_lets_through(change: dict[str, Any], field: str | None, words: str) -> None:
    document = {"targetArn": "arn:aws:iot:us-east-1:123456789012:thing/z", **change}
    with pytest.raises(ServiceError) as caught:
        ask("greengrassv2", "POST", "/greengrass/v2/deployments", json.dumps(document).encode())
    error = caught.value
    assert error.code == "ValidationException"
    assert error.members["reason"] == "FIELD_VALIDATION_FAILED"
    assert words in error.members["fields"][0]["message"]
    if field:
        assert error.members["fields"][0]["name"] == field


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ServiceError, match="3 validation errors") as caught:
        ask("greengrassv2", "POST", "/greengrass/v2/deployments", b'{"targetArn": "x", "clientToken": ""}')
    assert {field["name"] for field in caught.value.members["fields"]} >= {"targetArn", "clientToken"}


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'"x"', b"\xff\xfe{", b'{"a": NaN}', b'{"components":' * 3000 + b"1" + b"}" * 3000]
)
def test_a_body_that_is_no_json_object_is_a_typed_error(body: bytes) -> None:
    with pytest.raises(ServiceError) as caught:
        ask("greengrassv2", "POST", "/greengrass/v2/deployments", body)
    assert caught.value.code == "ValidationException"


def test_xml_with_entities_is_refused() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><Delete><Object><Key>&a;</Key></Object></Delete>'
    with pytest.raises(ServiceError, match="document types are not allowed"):
        ask("s3", "POST", "/b?delete", bomb)


def test_xml_is_read_with_flattened_lists() -> None:
    body = (
        b'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        b"<Object><Key>a&amp;b</Key></Object><Object><Key>c</Key></Object><Quiet>true</Quiet></Delete>"
    )
    _, value = ask("s3", "POST", "/b?delete", body)
    assert value["Delete"] == {"Objects": [{"Key": "a&b"}, {"Key": "c"}], "Quiet": True}


def test_a_form_is_read() -> None:
    body = (
        b"Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fxxxx"
        b"&RoleSessionName=me&Tags.member.1.Key=k&Tags.member.1.Value=v"
    )
    name, value = ask("sts", "POST", "/", body)
    assert name == "assume_role"
    assert value["Tags"] == [{"Key": "k", "Value": "v"}]


@pytest.mark.parametrize(
    ("service", "method", "target", "code", "status"),
    [
        ("greengrassv2", "GET", "/greengrass/v2/nothing", "ValidationException", 404),
        ("greengrassv2", "PATCH", "/greengrass/v2/deployments", "ValidationException", 404),
        ("iot", "GET", "/nothing/at/all", "UnknownOperationException", 404),
        ("s3", "PATCH", "/b/k", "MethodNotAllowed", 405),
        ("sts", "POST", "/", "InvalidAction", 400),
    ],
)
def test_an_unknown_operation_is_a_clear_error(service: str, method: str, target: str, code: str, status: int) -> None:
    with pytest.raises(ServiceError) as caught:
        ask(service, method, target)
    assert (caught.value.code, caught.value.status) == (code, status)


def test_a_modelled_error_has_its_status_name_and_members() -> None:
    """cloud.md 1: the name in x-amzn-ErrorType, members in the body, Retry-After in its header."""
    error = ServiceError("ResourceNotFoundException", "gone", resourceId="a", resourceType="Component")
    response = serialise_error(GREENGRASS, error, request_id="r")
    assert response.status == 404
    assert dict(response.headers)["x-amzn-ErrorType"] == "ResourceNotFoundException"
    assert json_body(response) == {"message": "gone", "resourceId": "a", "resourceType": "Component"}
    throttled = serialise_error(
        GREENGRASS, ServiceError("ThrottlingException", "slow", retryAfterSeconds=3), request_id="r"
    )
    assert throttled.status == 429
    assert dict(throttled.headers)["Retry-After"] == "3"
    missing = serialise_error(GREENGRASS, not_implemented("greengrass", "X"), request_id="r")
    assert missing.status == 501


def json_body(response: WireResponse) -> Any:
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


def test_an_s3_error_is_xml_and_a_query_error_has_its_own_form() -> None:
    response = serialise_error(load("s3"), ServiceError("NoSuchKey", "a < b\x00", Key="k"), request_id="r")
    assert response.status == 404
    assert isinstance(response.body, bytes)
    root = ElementTree.fromstring(response.body)
    assert [root.findtext(name) for name in ("Code", "Message", "Key")] == ["NoSuchKey", "a < b\ufffd", "k"]
    response = serialise_error(load("iam"), ServiceError("NoSuchEntityException", "gone"), request_id="r")
    assert response.status == 404
    assert b"<Code>NoSuchEntity</Code>" in response.body  # type: ignore[operator]


def test_a_files_part_is_passed_on_as_it_is(tmp_path: Any) -> None:
    body = FileBody(path=tmp_path / "x", size=3)
    operation = load("s3").operations["GetObject"]
    output = {"Body": body, "ETag": '"e"', "LastModified": 1.5, "Metadata": {"name": "whale"}, "ContentType": "a/b"}
    response = serialise(load("s3"), operation, output, request_id="r")
    assert response.body is body
    headers = {name.lower(): value for name, value in response.headers}
    assert headers["etag"] == '"e"'
    assert headers["last-modified"] == "Thu, 01 Jan 1970 00:00:01 GMT"
    assert headers["x-amz-meta-name"] == "whale"
    assert headers["content-type"] == "a/b"


def test_a_listing_is_xml_with_flattened_elements() -> None:
    operation = load("s3").operations["ListObjectsV2"]
    output = {"Name": "b", "Contents": [{"Key": "a", "Size": 1, "LastModified": 0.0}, {"Key": "b"}], "KeyCount": 2}
    response = serialise(load("s3"), operation, output, request_id="r")
    assert isinstance(response.body, bytes)
    root = ElementTree.fromstring(response.body)
    space = "{http://s3.amazonaws.com/doc/2006-03-01/}"
    assert root.tag == f"{space}ListBucketResult"
    assert [node.findtext(f"{space}Key") for node in root.findall(f"{space}Contents")] == ["a", "b"]
    assert root.findtext(f"{space}Contents/{space}LastModified") == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        (r"[\p{Graph}\x20]*", "a b!", True),
        (r"[\p{Graph}\x20]*", "ä", False),
        (r"[^\p{C}]*", "wäl\U0001f40b", True),
        (r"[^\p{C}]*", "a\nb", False),
        (r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$", "größe 12_@", True),
        (r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$", "a*b", False),
        (r"\p{Upper}+", "ABC", True),
        (r"\p{Upper}+", "abc", False),
    ],
)
def test_javas_classes_are_understood(pattern: str, text: str, fits: bool) -> None:
    assert (compile_pattern(pattern).fullmatch(text) is not None) is fits

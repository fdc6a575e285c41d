"""botocore is the other end: what it writes we read, what we write it reads."""

import base64
import contextlib
import functools
import string
from datetime import UTC, datetime
from typing import Any

import botocore.model
import botocore.parsers
import botocore.serialize
import botocore.session
import pytest
from botocore.awsrequest import AWSRequest, prepare_request_dict
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from monodon.cloud.protocol import Operation, ServiceError, Shape, WireRequest, parse_request, route, serialise
from monodon.cloud.protocol.model import load

SERVICES = ["greengrassv2", "iot-jobs-data", "iot-data", "sts"]
OPERATIONS = [(service, name) for service in SERVICES for name in sorted(load(service).operations)]
QUICK = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@functools.cache
def theirs(service: str) -> botocore.model.ServiceModel:
    return botocore.session.get_session().get_service_model(service)


def strings(shape: Shape, *, plain: bool) -> st.SearchStrategy[str]:
    if shape.enum:
        return st.sampled_from(sorted(shape.enum))
    low, high = int(shape.minimum or 0), int(min(shape.maximum or 24, 24 + (shape.minimum or 0)))
    if shape.pattern is not None and "arn:" in shape.pattern.pattern:
        return st.just("arn:aws:greengrass:us-east-1:123456789012:components:a.b").map(
            lambda text: text if shape.pattern and shape.pattern.fullmatch(text) else _arn(shape)
        )
    if plain or shape.pattern is not None:
        alphabet = string.digits if shape.pattern is not None else string.ascii_lowercase + string.digits
        return st.text(alphabet, min_size=max(low, 1), max_size=max(high, 1))
    letters = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))
    return st.text(letters, min_size=low, max_size=max(high, low))


def _arn(shape: Shape) -> str:
    candidates = [
        "arn:aws:greengrass:us-east-1:123456789012:components:a.b:versions:1.0.0",
        "arn:aws:iot:us-east-1:123456789012:thinggroup/whales",
        "arn:aws:greengrass:us-east-1:123456789012:deployments:x",
        "arn:aws:iot:us-east-1:123456789012:job/whales",
        "arn:aws:iam::123456789012:role/whales",
    ]
    assert shape.pattern is not None
    return next(text for text in candidates if shape.pattern.fullmatch(text))


def values(shape: Shape, depth: int = 0, *, plain: bool = False) -> st.SearchStrategy[Any]:
    low, high = shape.minimum, shape.maximum
    match shape.type:
        case "structure":
            required = {n: values(shape.members[n].shape, depth + 1) for n in shape.required}
            optional = {
                n: values(m.shape, depth + 1) for n, m in shape.members.items() if n not in required and depth < 4
            }
            return st.fixed_dictionaries(required, optional=optional)
        case "list":
            size = int(low or 0)
            return st.lists(values(shape.element.shape, depth + 1), min_size=max(size, 1), max_size=max(size, 2))
        case "map":
            keys = values(shape.key.shape, depth + 1, plain=True)
            return st.dictionaries(keys, values(shape.value.shape, depth + 1), min_size=1, max_size=2)
        case "string":
            return strings(shape, plain=plain)
        case "integer" | "long":
            return st.integers(int(low or 0), int(min(high or 2**31 - 1, 2**53)))
        case "float" | "double":
            return st.floats(low or 0, high or 1e6, allow_nan=False)
        case "boolean":
            return st.booleans()
        case "timestamp":
            return st.integers(0, 4_000_000_000).map(float)
        case "blob":
            return st.binary(min_size=1, max_size=20)
    raise AssertionError(shape.type)


def inputs(operation: Operation) -> st.SearchStrategy[dict[str, Any]]:
    shape = operation.input
    assert shape is not None
    members = {
        name: values(member.shape, 1, plain=member.location in {"header", "uri"})
        for name, member in shape.members.items()
        if not member.is_json_value
    }
    needed = {name: members[name] for name in members if name in shape.required}
    return st.fixed_dictionaries(needed, optional={n: s for n, s in members.items() if n not in needed})


def as_their_input(shape: Shape, value: Any) -> Any:
    """Times as datetimes, as boto3 takes them."""
    match shape.type:
        case "structure":
            return {name: as_their_input(shape.members[name].shape, item) for name, item in value.items()}
        case "list":
            return [as_their_input(shape.element.shape, item) for item in value]
        case "map":
            return {key: as_their_input(shape.value.shape, item) for key, item in value.items()}
        case "timestamp":
            return datetime.fromtimestamp(value, UTC)
    return value


@pytest.mark.slow
@pytest.mark.parametrize(("service", "name"), OPERATIONS)
@QUICK
@given(data=st.data())
def test_what_botocore_sends_is_routed_and_read_back(service: str, name: str, data: st.DataObject) -> None:
    model = load(service)
    operation = model.operations[name]
    if operation.input is None:
        return
    value = data.draw(inputs(operation))
    # A form cannot say that a structure is there and empty.
    assume(service != "sts" or "{}" not in str(list(value.values())))
    request, body = sent(service, name, as_their_input(operation.input, value))
    match = route(model, request, body)
    assert match.operation is operation
    assert parse_request(model, match, request, body) == value


def sent(service: str, name: str, parameters: dict[str, Any]) -> tuple[WireRequest, bytes]:
    description = theirs(service)
    serializer = botocore.serialize.create_serializer(description.metadata["protocol"], include_validation=False)
    written = serializer.serialize_to_request(parameters, description.operation_model(name))
    prepare_request_dict(written, "http://localhost:1", {"client_config": None}, "test")
    body = written["body"]
    if isinstance(body, dict):
        body = (
            AWSRequest(method=written["method"], url=written["url"], data=body, headers=written["headers"])
            .prepare()
            .body
        )
    path, _, query = written["url"].removeprefix("http://localhost:1").partition("?")
    request = WireRequest(
        method=written["method"],
        raw_path=path,
        raw_query=query,
        headers={key.lower(): text for key, text in written["headers"].items()},
    )
    return request, body.encode() if isinstance(body, str) else bytes(body)


def outputs(operation: Operation) -> st.SearchStrategy[dict[str, Any]]:
    assert operation.output is not None
    members = {
        name: values(member.shape, 1, plain=member.location == "header")
        for name, member in operation.output.members.items()
        if member.location != "statusCode"
    }
    return st.fixed_dictionaries({}, optional=members)


@pytest.mark.slow
@pytest.mark.parametrize(("service", "name"), OPERATIONS)
@QUICK
@given(data=st.data())
def test_what_we_answer_botocore_reads(service: str, name: str, data: st.DataObject) -> None:
    model = load(service)
    operation = model.operations[name]
    output = data.draw(outputs(operation)) if operation.output is not None else {}
    response = serialise(model, operation, output, request_id="r-1")
    parser = botocore.parsers.create_parser(theirs(service).metadata["protocol"])
    their_operation = theirs(service).operation_model(name)
    assert isinstance(response.body, bytes)
    headers = {key.lower(): text for key, text in response.headers}
    body: Any = response.body
    if their_operation.has_streaming_output:
        return
    read = parser.parse(
        {"status_code": response.status, "headers": headers, "body": body}, their_operation.output_shape
    )
    assert read.pop("ResponseMetadata")["RequestId"] == "r-1"
    expected = as_their_input(operation.output, output) if operation.output is not None else {}
    if operation.output is not None and operation.output.payload is not None:
        read = {key: item for key, item in read.items() if item not in (b"", None)}
    assert comparable(read) == comparable(expected)


def comparable(value: Any) -> Any:
    """Times in UTC, bytes as base64."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, str):
        return value.replace("\r", "\n")
    return value


@pytest.mark.parametrize("service", ["greengrassv2", "iot", "iot-data", "iot-jobs-data", "s3", "sts", "iam"])
def test_every_pattern_of_the_models_is_understood(service: str) -> None:
    model = load(service)
    for operation in model.operations.values():
        if operation.input is not None:
            walk(operation.input, set())


def walk(shape: Shape, seen: set[str]) -> None:
    if shape.name in seen:
        return
    seen.add(shape.name)
    assert shape.pattern is None or shape.pattern.pattern
    inner = list(shape.members.values()) if shape.type == "structure" else []
    if shape.type == "list":
        inner = [shape.element]
    elif shape.type == "map":
        inner = [shape.key, shape.value]
    for member in inner:
        walk(member.shape, seen)


@given(body=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(deadline=None, max_examples=200)
def test_no_body_breaks_the_reader(body: bytes) -> None:
    for service, method, path in [
        ("greengrassv2", "POST", "/greengrass/v2/deployments"),
        ("s3", "POST", "/bucket/key"),
        ("sts", "POST", "/"),
    ]:
        model = load(service)
        query = "uploadId=1" if service == "s3" else ""
        request = WireRequest(method=method, raw_path=path, raw_query=query)
        with contextlib.suppress(ServiceError):
            parse_request(model, route(model, request, body), request, body)

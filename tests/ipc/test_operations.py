"""The table of operations and the shapes, against awsiotsdk's own model and its own (de)serialisation."""

import datetime
import inspect
import json
import re
from typing import Any

import pytest
from awsiot import eventstreamrpc
from awsiot.greengrasscoreipc import model
from hypothesis import given
from hypothesis import strategies as st

from monodon.ipc import errors, shapes
from monodon.ipc.errors import InvalidArgumentsError, ResourceNotFoundError, ServiceError
from monodon.ipc.operations import OPERATIONS
from monodon.ipc.serialisation import Shape, fields_of, read_shape, to_json, write_shape

SDK_SHAPES = {
    name: cls
    for name, cls in inspect.getmembers(model, inspect.isclass)
    if issubclass(cls, eventstreamrpc.Shape) and not issubclass(cls, eventstreamrpc.ErrorShape)
}
OUR_SHAPES = {
    name: cls
    for name, cls in inspect.getmembers(shapes, inspect.isclass)
    if issubclass(cls, Shape) and name not in ("Shape", "UnionShape")
}
SDK_OPERATIONS = {
    cls._model_name(): cls
    for _, cls in inspect.getmembers(model, inspect.isclass)
    if issubclass(cls, eventstreamrpc.ClientOperation) and cls is not eventstreamrpc.ClientOperation
}


def test_the_shapes_are_those_of_the_sdk() -> None:
    assert OUR_SHAPES.keys() == SDK_SHAPES.keys()


def test_fields_have_the_names_of_the_sdk() -> None:
    """As the SDK's own readers of payloads name them."""
    sources = re.split(r"^class ", inspect.getsource(model), flags=re.MULTILINE)
    bodies = {source[: source.index("(")]: source for source in sources[1:] if "(" in source[:80]}
    for name in SDK_SHAPES:
        known = re.findall(r"if '(\w+)' in payload:\n\s+new\.(\w+) = ", bodies[name])
        assert {(wire, attribute) for attribute, wire, *_ in fields_of(OUR_SHAPES[name])} == set(known), name


def test_the_operations_are_those_of_the_sdk() -> None:
    assert len(OPERATIONS) == 35
    assert OPERATIONS.keys() == SDK_OPERATIONS.keys()
    for name, operation in OPERATIONS.items():
        sdk = SDK_OPERATIONS[name]
        assert operation.request.__name__ == sdk._request_type().__name__
        assert operation.response.__name__ == sdk._response_type().__name__
        event = sdk._response_stream_type()
        assert (operation.event.__name__ if operation.event else None) == (event.__name__ if event else None)


def test_the_errors_are_those_of_the_sdk() -> None:
    known = {
        name
        for name, cls in inspect.getmembers(model, inspect.isclass)
        if issubclass(cls, model.GreengrassCoreIPCError) and cls is not model.GreengrassCoreIPCError
    }
    assert errors.ERRORS.keys() == known


SAMPLES: dict[str, Any] = {
    "str": "é\ud83d\udc33"[0],
    "bool": False,
    "int": 5,
    "float": 1.5,
    "bytes": b"\0\xff",
    "Mapping[str, Any]": {"a": [None, 1, 2**53, {"b": 1.5}]},
    "tuple[str, ...]": ("x", "y"),
    "Mapping[str, str]": {"A": "1.0.0"},
    "Mapping[str, collections.abc.Mapping[str, Any]]": {"A": {"MERGE": {"x": None}, "RESET": ["/a"]}},
}


def example(cls: type[Shape]) -> Shape:
    """A value of a shape with every field set (of a union, the last)."""
    hints = inspect.get_annotations(cls, eval_str=True)
    values = {attribute: example_of(hints[attribute]) for attribute in hints}
    if issubclass(cls, shapes.UnionShape):
        values = dict(list(values.items())[-1:])
    return cls(**values)


def example_of(annotation: Any) -> Any:
    (only,) = (argument for argument in annotation.__args__ if argument is not type(None))
    return example_value(only)


def example_value(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, Shape):
        return example(annotation)
    text = re.sub(r"^(collections\.abc|typing)\.", "", str(annotation).replace("typing.Any", "Any"))
    text = annotation.__name__ if isinstance(annotation, type) and "[" not in text else text
    if text in SAMPLES:
        return SAMPLES[text]
    inner = annotation.__args__
    return (example_value(inner[0]),) if text.startswith("tuple") else {"k": example_value(inner[1])}


@pytest.mark.parametrize("name", sorted(OUR_SHAPES))
def test_the_sdk_reads_what_we_write_and_we_what_it_writes(name: str) -> None:
    value = example(OUR_SHAPES[name])
    theirs = SDK_SHAPES[name]._from_payload(json.loads(write_shape(value)))
    assert read_shape(OUR_SHAPES[name], json.dumps(theirs._to_payload()).encode()) == value


@pytest.mark.parametrize("name", sorted(OUR_SHAPES))
def test_absent_fields_are_left_out(name: str) -> None:
    assert write_shape(OUR_SHAPES[name]()) == b"{}"


@pytest.mark.parametrize(
    "name", sorted(name for name, cls in OUR_SHAPES.items() if not issubclass(cls, shapes.UnionShape))
)
def test_null_and_unknown_fields_are_ignored(name: str) -> None:
    body = dict.fromkeys((wire for _, wire, *_ in fields_of(OUR_SHAPES[name])), None) | {"other": 1}
    assert read_shape(OUR_SHAPES[name], json.dumps(body).encode()) == OUR_SHAPES[name]()


@pytest.mark.parametrize(
    ("shape", "body", "complaint"),
    [
        (shapes.PublishToTopicRequest, b"", "the body is not JSON"),
        (shapes.PublishToTopicRequest, b"\xff", "the body is not JSON"),
        (shapes.PublishToTopicRequest, "{}".encode("utf-16"), "the body is not JSON"),
        (shapes.PublishToTopicRequest, b"[" * 100_000, "the body is not JSON"),
        (shapes.PublishToTopicRequest, b'{"topic": NaN}', "NaN is not JSON"),
        (shapes.PublishToTopicRequest, b"[]", "the body must be a JSON object"),
        (shapes.PublishToTopicRequest, b'{"topic": 5}', "topic must be a text, not 5"),
        (shapes.PublishToTopicRequest, b'{"publishMessage": {}}', "exactly one of jsonMessage or binaryMessage"),
        (
            shapes.PublishToTopicRequest,
            b'{"publishMessage": {"jsonMessage": {"message": {}}, "binaryMessage": {"message": ""}}}',
            "exactly one of",
        ),
        (
            shapes.PublishToTopicRequest,
            b'{"publishMessage": {"jsonMessage": {"message": [1]}}}',
            r"publishMessage.jsonMessage.message must be a JSON object, not \[1\]",
        ),
        (shapes.PublishToTopicRequest, b'{"publishMessage": {"binaryMessage": {"message": "?"}}}', "must be base64"),
        (shapes.PublishToTopicRequest, b'{"publishMessage": {"binaryMessage": {"message": "AP8"}}}', "must be base64"),
        (shapes.UpdateConfigurationRequest, b'{"timestamp": true}', "timestamp must be a number"),
        (shapes.UpdateConfigurationRequest, b'{"timestamp": 1' + b"0" * 400 + b"}", "timestamp must be a number"),
        (shapes.UpdateConfigurationRequest, b'{"keyPath": "a"}', "keyPath must be a list"),
        (shapes.UpdateConfigurationRequest, b'{"keyPath": ["a", 1]}', r"keyPath\[1\] must be a text"),
        (shapes.UpdateConfigurationRequest, b'{"valueToMerge": 1}', "valueToMerge must be a JSON object"),
        (shapes.DeferComponentUpdateRequest, b'{"recheckAfterMs": 1.5}', "must be a whole number"),
        (shapes.DeferComponentUpdateRequest, b'{"recheckAfterMs": 1e999}', "beyond the range of a number"),
        (shapes.UpdateConfigurationRequest, b'{"valueToMerge": {"a": [-1e999]}}', "beyond the range of a number"),
        (shapes.GetSecretValueRequest, b'{"refresh": 1}', "refresh must be true or false"),
        (shapes.CreateLocalDeploymentRequest, b'{"rootComponentVersionsToAdd": {"A": 1}}', r"ToAdd.A must be a text"),
    ],
)
def test_invalid_bodies_are_named(shape: type[Shape], body: bytes, complaint: str) -> None:
    with pytest.raises(InvalidArgumentsError, match=complaint):
        read_shape(shape, body)


@pytest.mark.parametrize("body", [b'{"recheckAfterMs": 5}', b'{"recheckAfterMs": 5.0}'])
def test_a_whole_number_may_be_written_as_a_fraction(body: bytes) -> None:
    assert read_shape(shapes.DeferComponentUpdateRequest, body).recheck_after_ms == 5


def test_integers_stay_integers() -> None:
    body = b'{"valueToMerge": {"a": 5, "b": 9007199254740993, "c": 5.0}}'
    value = read_shape(shapes.UpdateConfigurationRequest, body).value_to_merge
    assert value is not None
    assert [type(item) for item in value.values()] == [int, int, float]
    assert value["b"] == 9007199254740993


def test_timestamps_are_seconds() -> None:
    moment = datetime.datetime(2026, 11, 21, 12, 0, 0, 500_000, datetime.UTC)
    sent = model.UpdateConfigurationRequest(timestamp=moment)._to_payload()
    assert read_shape(shapes.UpdateConfigurationRequest, json.dumps(sent).encode()).timestamp == moment.timestamp()


def test_a_body_is_made_once() -> None:
    event = shapes.PostComponentUpdateEvent(deployment_id="d")
    assert write_shape(event) is write_shape(event)
    assert event == shapes.PostComponentUpdateEvent(deployment_id="d")


def test_infinity_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_shape(shapes.GetConfigurationResponse(value={"a": float("inf")}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(message=st.dictionaries(st.text(), JSON, max_size=4), topic=st.text())
def test_json_messages_survive(message: dict[str, Any], topic: str) -> None:
    event = shapes.SubscriptionResponseMessage(
        json_message=shapes.JsonMessage(message=message, context=shapes.MessageContext(topic=topic))
    )
    assert read_shape(shapes.SubscriptionResponseMessage, write_shape(event)) == event
    assert json.loads(write_shape(event)) == to_json(event)


def test_errors_carry_all_four_fields() -> None:
    error = ResourceNotFoundError("Key not found", resourceType="secret", resourceName=None)
    assert json.loads(error.body()) == {
        "_service": "aws.greengrass#GreengrassCoreIPC",
        "_message": "Key not found",
        "_errorCode": "ResourceNotFoundError",
        "message": "Key not found",
        "resourceType": "secret",
    }
    assert error.model_type == "aws.greengrass#ResourceNotFoundError"
    assert ServiceError("x").code == "ServiceError"

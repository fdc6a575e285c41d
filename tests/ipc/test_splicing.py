"""Publishes that are passed on as they came mean what they mean when decoded."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.ipc.errors import InvalidArgumentsError
from monodon.ipc.serialisation import read_shape, write_shape
from monodon.ipc.shapes import PublishToTopicRequest, SubscriptionResponseMessage
from monodon.ipc.splicing import SplicedPublish, read_publish

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def body_of(topic: str, member: str, message: Any, **options: Any) -> bytes:
    return json.dumps({"topic": topic, "publishMessage": {member: {"message": message}}}, **options).encode()


def event_of(body: bytes) -> SubscriptionResponseMessage:
    spliced = read_publish(memoryview(body))
    assert isinstance(spliced, SplicedPublish)
    assert spliced == read_publish(body)
    return read_shape(SubscriptionResponseMessage, write_shape(spliced.event()))


@given(
    topic=st.text(),
    message=st.dictionaries(st.text(), JSON, max_size=4),
    form=st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}]),
    ensure_ascii=st.booleans(),
    padding=st.sampled_from([0, 3000]),
)
def test_json_messages(
    topic: str, message: dict[str, Any], form: dict[str, Any], ensure_ascii: bool, padding: int
) -> None:
    try:
        topic.encode()
        json.dumps(message, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        ensure_ascii = True
    message = message | {"padding": "x" * padding}
    event = event_of(body_of(topic, "jsonMessage", message, ensure_ascii=ensure_ascii, **form))
    assert event.json_message is not None
    assert event.json_message.context is not None
    assert (event.json_message.message, event.json_message.context.topic) == (message, topic)


@given(topic=st.text("ab/é"), message=st.binary(max_size=40) | st.sampled_from([bytes(30_000), b"\xff" * 70_001]))
def test_binary_messages(topic: str, message: bytes) -> None:
    event = event_of(body_of(topic, "binaryMessage", base64.b64encode(message).decode()))
    assert event.binary_message is not None
    assert event.binary_message.context is not None
    assert (event.binary_message.message, event.binary_message.context.topic) == (message, topic)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"topic": "t"}',
        body_of("t", "jsonMessage", [1]),
        body_of("t", "jsonMessage", None),
        body_of("t", "jsonMessage", {"a": float("nan")}),
        body_of("t", "binaryMessage", "AP8"),
        body_of("t", "binaryMessage", "A==="),
        body_of("t", "binaryMessage", "A=P8"),
        body_of("t", "binaryMessage", "?" * 2000),
        body_of("t", "binaryMessage", {"a": 1}),
        body_of("t", "otherMessage", {"a": 1}),
        b'{"topic": "t", "publishMessage": {"jsonMessage": {"message": {"a": 1}, "context": {"topic": "x"}}}}',
        b'{"topic": "t", "publishMessage": {"jsonMessage": {"message": {"a": 1}}, "binaryMessage": {"message": ""}}}',
        b'{"topic": "t", "publishMessage": {"jsonMessage": {"message": {"a": 1}}}} x',
        b'{"topic": "t", "publishMessage": {"jsonMessage": {"message": {"a": 1}}}}}',
        b'{"topic": "t", "publishMessage": {"jsonMessage": {"message": {"a": 1}}}',
        b'{"topic": "t\x01", "publishMessage": {"jsonMessage": {"message": {}}}}',
        b'{"topic": "\\x", "publishMessage": {"jsonMessage": {"message": {}}}}',
        b'{"topic": "\xff", "publishMessage": {"jsonMessage": {"message": {}}}}',
        b'{"topic": "t", "publishMessage": {"jsonMessage": {"message": {"a": "' + b"x" * 3000 + b'\x01"}}}}',
        b'{"topic": "t", "publishMessage": {"jsonMessage": {"message": {"a": "' + b"x" * 3000 + b'\xff"}}}}',
        b'{"topic": "t", "publishMessage": {"jsonMessage": {"message": {"a": "' + b"x" * 3000 + b"}}}}",
        b'{"topic": "t", "publishMessage": {"jsonMessage": {"message": ' + b'{"a":' * 50_000 + b"}" * 50_003,
    ],
)
def test_everything_else_is_read_the_usual_way(body: bytes) -> None:
    """What is refused is refused alike; what is valid in another form is not spliced."""
    expected = outcome(lambda each: read_shape(PublishToTopicRequest, each), body)
    compact = body.replace(b": ", b":").replace(b", ", b",")
    assert outcome(read_publish, body) == outcome(read_publish, memoryview(body)) == expected
    assert type(outcome(read_publish, compact)) is type(expected)


def outcome(read: Callable[[bytes | memoryview], object], body: bytes | memoryview) -> object:
    try:
        return read(body)
    except InvalidArgumentsError as error:
        return error.message

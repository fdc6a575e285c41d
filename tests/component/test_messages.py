"""Dataclasses ↔ messages."""

from dataclasses import dataclass
from typing import Any

import pytest

from monodon.component.messages import INVALID_MESSAGE, Message, iot_payload, local_content
from monodon.errors import IpcError


@dataclass(frozen=True)
class Label:
    name: str
    score: float


@dataclass(frozen=True)
class Labels:
    frame: int
    labels: tuple[Label, ...] = ()


class Scalar:
    """What numpy's scalars and arrays offer, without numpy."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def tolist(self) -> Any:
        return self._value


def test_a_dataclass_goes_out_as_an_object_and_comes_back() -> None:
    labels = Labels(4, (Label("narwhal", 0.75),))
    content = local_content("a", labels)
    assert content == {"frame": 4, "labels": [{"name": "narwhal", "score": 0.75}]}
    assert Message(topic="a", content=content).read(Labels) == labels


def test_bytes_and_text_stay_what_they_are() -> None:
    assert local_content("a", b"\x00") == b"\x00"
    assert local_content("a", "grüße") == "grüße".encode()
    assert Message(topic="a", content="grüße".encode()).text == "grüße"


def test_scalars_and_arrays_of_numpy_need_no_numpy() -> None:
    content = local_content("a", {"score": Scalar(0.5), "box": Scalar([1, 2])})
    assert content == {"score": 0.5, "box": [1, 2]}


def test_real_numpy_values_are_sent() -> None:
    np = pytest.importorskip("numpy")
    content = local_content("a", {"s": np.float32(0.5), "n": np.int64(3), "b": np.bool_(True), "a": np.zeros(2)})
    assert content == {"s": 0.5, "n": 3, "b": True, "a": [0.0, 0.0]}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"at": {1, 2}, "x": [object()]}, r"x\[0\] is a object"),
        ({"score": float("nan")}, "score is nan"),
        ([1, 2], "JSON list; local messages are objects"),
        ({(1, 2): 3}, r"key \(1, 2\)"),
        ("half \ud800", "surrogates not allowed"),
    ],
)
def test_what_json_cannot_carry_is_named(message: Any, words: str) -> None:
    with pytest.raises(IpcError, match=words) as caught:
        local_content("a/b", message)
    assert caught.value.code == INVALID_MESSAGE
    assert "a/b" in caught.value.message


def test_a_message_that_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    with pytest.raises(IpcError, match="cannot be sent: nested too deeply"):
        local_content("a", loop)


def test_an_iot_payload_may_be_any_json() -> None:
    assert iot_payload("a", {"x": "\ud800é"}) == rb'{"x": "\ud800\u00e9"}'
    assert iot_payload("a", [1, "ö"]) == '[1, "ö"]'.encode()
    assert iot_payload("a", b"raw") == b"raw"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"frame": "x"}, "no Labels: frame = 'x': expected a whole number"),
        ({"frame": 1, "labels": [{"name": "a"}]}, r"labels\[0\].score = \(nothing\): expected a number"),
        (b"no json", "is not JSON"),
        (b"\xff", "is not JSON"),
    ],
)
def test_a_bad_message_is_a_clear_error(content: Any, words: str) -> None:
    with pytest.raises(IpcError, match=words) as caught:
        Message(topic="labels", content=content).read(Labels)
    assert caught.value.code == INVALID_MESSAGE
    assert "labels" in caught.value.message


def test_unknown_keys_of_a_message_are_passed_over() -> None:
    """A newer sender may say more."""
    assert Message(topic="a", content=b'{"frame": 1.0, "new": 2}').read(Labels) == Labels(1)

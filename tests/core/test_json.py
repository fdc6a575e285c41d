"""JSON texts, and what Python's reader takes for one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.core.json import is_deeper, read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.booleans())
def test_what_was_written_is_read(value: object, is_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii)
    assert read_json(text) == value
    assert read_json(text.encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff",
        b'"\xed\xa0\x80"',
        '{"a": NaN}',
        "[-Infinity]",
        "1e999",
        r'"\ud800"',
        r'{"\udfff": 1}',
        "[" * 100_000,
        "1" * 5000,
    ],
)
def test_what_could_not_be_written_again_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        read_json(text)


@pytest.mark.parametrize(("value", "depth"), [(1, 0), ({}, 1), ([[]], 2), ({"a": [{"b": 1}, 2]}, 3)])
def test_levels_are_objects_and_arrays(value: object, depth: int) -> None:
    assert [is_deeper(value, levels) for levels in range(5)] == [levels < depth for levels in range(5)]

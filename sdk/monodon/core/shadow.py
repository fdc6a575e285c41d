"""Shadow documents: update, merge, delta, versions; the nucleus's shadows and the cloud's alike.

A shadow has two sections, ``desired`` and ``reported``, a time of change for each of their leaves, and a version that
counts its updates. What was asked for and has not been reported yet is its ``delta``.

Source: AWS IoT Core developer guide, "Device Shadow service documents"; Greengrass shadow manager.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from monodon.core.json import Json, is_deeper, read_json
from monodon.errors import MonodonError

MAX_DEPTH: Final = 6
DEFAULT_LIMIT_BYTES: Final = 8 * 1024
MAX_CLIENT_TOKEN_BYTES: Final = 64

_SECTIONS: Final = ("desired", "reported")
_ABSENT: Final = object()


class ShadowError(MonodonError):
    """An update, get or delete that is answered on ``rejected``; ``code`` is AWS's: 400, 404, 409, 413."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """``desired`` or ``reported``: the values, and the same shape with ``{"timestamp": seconds}`` for each leaf."""

    state: Mapping[str, Json] = field(default_factory=dict)
    metadata: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """One shadow of a thing; ``version`` is that of the last update."""

    version: int
    timestamp_s: int
    desired: Section = field(default_factory=Section)
    reported: Section = field(default_factory=Section)

    def to_record(self) -> dict[str, Json]:
        """What is kept on disk; ``from_record`` reads it."""
        record: dict[str, Json] = {"version": self.version, "timestamp": self.timestamp_s}
        for name, section in _sections(self).items():
            record[name] = {"state": section.state, "metadata": section.metadata}
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Json]) -> "Shadow":
        """The shadow that ``to_record`` wrote."""
        desired, reported = (Section(**record[name]) for name in _SECTIONS)
        return cls(version=record["version"], timestamp_s=record["timestamp"], desired=desired, reported=reported)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A checked update: the sections that it names (None clears one), the version it expects, its token."""

    sections: Mapping[str, Mapping[str, Json] | None]
    version: int | None = None
    client_token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What an update brought about: the new shadow, and the messages to publish (``delta`` None: all is reported)."""

    shadow: Shadow
    accepted: Mapping[str, Json]
    delta: Mapping[str, Json] | None
    documents: Mapping[str, Json]


def read_token(payload: bytes) -> str | None:
    """The client token of any request, as far as it can be found; an empty or broken payload has none."""
    token = _member(payload, "clientToken")
    return token if isinstance(token, str) else None


def read_version(payload: bytes) -> int | None:
    """The version that a delete insists on, if any."""
    version = _member(payload, "version")
    return version if isinstance(version, int) else None


def _member(payload: bytes, name: str) -> Json:
    try:
        document = read_json(payload)
    except ValueError:
        return None
    return document.get(name) if isinstance(document, dict) else None


def read_request(payload: bytes | str) -> Request:
    """Read an update's payload.

    Raises:
        ShadowError: it is not such a document (400).
    """
    try:
        document = read_json(payload)
    except ValueError as error:
        raise ShadowError(400, "Payload contains invalid json") from error
    if not isinstance(document, dict):
        raise ShadowError(400, "Payload must be a JSON object")
    state = document.get("state")
    if not isinstance(state, dict):
        raise ShadowError(400, "Missing required node: state")
    for name in state:
        if name not in (*_SECTIONS, "delta"):
            raise ShadowError(400, f"State contains an invalid node: '{name}'")
    sections = {name: _read_section(name, state[name]) for name in _SECTIONS if name in state}
    version, token = document.get("version"), document.get("clientToken")
    if version is not None and (not isinstance(version, int) or isinstance(version, bool)):
        raise ShadowError(400, "Version must be an integer")
    if token is not None and (not isinstance(token, str) or len(token.encode()) > MAX_CLIENT_TOKEN_BYTES):
        raise ShadowError(400, f"clientToken must be a string of at most {MAX_CLIENT_TOKEN_BYTES} bytes")
    return Request(sections=sections, version=version, client_token=token)


def _read_section(name: str, value: Json) -> Mapping[str, Json] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ShadowError(400, f"State node {name} must be an object")
    if is_deeper(value, MAX_DEPTH):
        raise ShadowError(400, f"JSON contains too many levels of nesting; maximum is {MAX_DEPTH}")
    return value


def update(
    shadow: Shadow | None,
    request: Request,
    now_s: int,
    *,
    first_version: int = 1,
    limit_bytes: int | None = DEFAULT_LIMIT_BYTES,
) -> Update:
    """Merge a request into a shadow (None: there is none yet).

    Null removes a key, arrays are replaced, a section that is null is cleared. ``first_version`` is that of a new
    shadow: AWS goes on counting after a delete, the shadow manager of a device begins at 1.

    Raises:
        ShadowError: another version than expected (409; 400 if there is no shadow), or too large (413).
    """
    _check_version(shadow, request, first_version)
    before = shadow or Shadow(version=first_version - 1, timestamp_s=now_s)
    sections = {
        name: _merge_section(section, request.sections[name], now_s) if name in request.sections else section
        for name, section in _sections(before).items()
    }
    after = Shadow(version=before.version + 1, timestamp_s=now_s, **sections)
    size = len(json.dumps([after.desired.state, after.reported.state], ensure_ascii=False).encode())
    if limit_bytes is not None and size > limit_bytes:
        raise ShadowError(413, f"The payload exceeds the maximum size allowed: {size} of {limit_bytes} bytes")
    token = {} if request.client_token is None else {"clientToken": request.client_token}
    accepted = {
        "state": dict(request.sections),
        "metadata": {name: _stamp(value, now_s) for name, value in request.sections.items() if value is not None},
        "version": after.version,
        "timestamp": now_s,
        **token,
    }
    documents = {
        "previous": _document(shadow) if shadow else None,
        "current": _document(after),
        "timestamp": now_s,
        **token,
    }
    return Update(shadow=after, accepted=accepted, delta=_delta_message(after, now_s, token), documents=documents)


def _check_version(shadow: Shadow | None, request: Request, first_version: int) -> None:
    if request.version is None:
        return
    if shadow is None and request.version != first_version:
        raise ShadowError(400, "Invalid version: the shadow does not exist yet")
    if shadow is not None and request.version != shadow.version:
        raise ShadowError(409, "Version conflict")


def document(shadow: Shadow, now_s: int) -> dict[str, Json]:
    """What a get answers: both sections, the delta when there is one, metadata, version, and the time of the answer."""
    answer = _document(shadow)
    difference = delta(shadow)
    if difference:
        answer["state"]["delta"] = difference
    return {**answer, "timestamp": now_s}


def delta(shadow: Shadow) -> dict[str, Json]:
    """What is desired and not reported so; arrays are compared whole, keys that are only reported do not count."""
    return _difference(shadow.desired.state, shadow.reported.state)


def _delta_message(shadow: Shadow, now_s: int, token: Mapping[str, Json]) -> dict[str, Json] | None:
    difference = delta(shadow)
    if not difference:
        return None
    metadata = _masked(shadow.desired.metadata, difference)
    return {"version": shadow.version, "timestamp": now_s, "state": difference, "metadata": metadata, **token}


def _sections(shadow: Shadow) -> dict[str, Section]:
    return {"desired": shadow.desired, "reported": shadow.reported}


def _document(shadow: Shadow) -> dict[str, Json]:
    sections = {name: section for name, section in _sections(shadow).items() if section.state}
    return {
        "state": {name: section.state for name, section in sections.items()},
        "metadata": {name: section.metadata for name, section in sections.items()},
        "version": shadow.version,
    }


def _merge_section(section: Section, change: Mapping[str, Json] | None, now_s: int) -> Section:
    if change is None:
        return Section()
    state, metadata = _merge(section.state, section.metadata, change, now_s)
    return Section(state=state, metadata=metadata)


def _merge(
    state: Mapping[str, Json], metadata: Mapping[str, Json], change: Mapping[str, Json], now_s: int
) -> tuple[dict[str, Json], dict[str, Json]]:
    state, metadata = dict(state), dict(metadata)
    for key, value in change.items():
        if value is None:
            state.pop(key, None)
            metadata.pop(key, None)
        elif isinstance(value, dict):
            inner = state.get(key)
            below = (inner, metadata[key]) if isinstance(inner, dict) else ({}, {})
            state[key], metadata[key] = _merge(below[0], below[1], value, now_s)
        else:
            state[key], metadata[key] = value, _stamp(value, now_s)
    return state, metadata


def _stamp(value: Json, now_s: int) -> Json:
    if isinstance(value, dict):
        return {key: _stamp(each, now_s) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_stamp(each, now_s) for each in value]
    return {"timestamp": now_s}


def _difference(desired: Mapping[str, Json], reported: Mapping[str, Json]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key, value in desired.items():
        other = reported.get(key, _ABSENT)
        if isinstance(value, dict) and isinstance(other, dict):
            inner = _difference(value, other)
            if inner:
                found[key] = inner
        elif not same(value, other):
            found[key] = value
    return found


def same(one: Json, other: Json) -> bool:
    """Equality as JSON sees it: ``true`` is not 1, ``1.0`` is 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def _masked(metadata: Json, shape: Json) -> Json:
    if isinstance(metadata, dict) and isinstance(shape, dict):
        return {key: _masked(metadata[key], shape[key]) for key in shape if key in metadata}
    return metadata

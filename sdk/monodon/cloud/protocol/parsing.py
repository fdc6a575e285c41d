"""From a request and its body to the input that a backend gets: a dict by the model's member names.

Bytes are ``bytes``, times seconds since 1970, members that were not sent (or were null) are absent.
"""

import math
from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import parse_qsl
from xml.etree import ElementTree

from monodon.cloud.protocol import validation
from monodon.cloud.protocol.errors import validation_error
from monodon.cloud.protocol.model import Member, ServiceModel, Shape
from monodon.cloud.protocol.routing import Match
from monodon.cloud.protocol.scalars import UnreadableError, decode_base64, from_text, read_time
from monodon.cloud.protocol.wire import WireRequest
from monodon.core.json import Json, read_json

_MAX_DEPTH = 100
_XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"


def parse_request(model: ServiceModel, match: Match, request: WireRequest, body: bytes) -> dict[str, Json]:
    """Return the validated input of an operation.

    A streaming payload (an S3 object) is not in it: the server hands it over apart, and ``body`` is empty then.

    Raises:
        ServiceError: the body cannot be parsed, or the input does not fit the model; all problems at once.
    """
    shape = match.operation.input
    if shape is None:
        return {}
    reader = _Reader(model)
    if model.protocol == "query":
        value = reader.form(shape, request, body)
    else:
        value = reader.bindings(shape, match, request)
        value.update(reader.body(shape, body))
    found = reader.problems or list(validation.problems(shape, value))
    if found:
        raise validation_error(model.signing_name, found)
    return value


class _Reader:
    """Reads one request, collecting what is of a wrong type."""

    def __init__(self, model: ServiceModel) -> None:
        self._model = model
        self.problems: list[tuple[str, str]] = []

    def bindings(self, shape: Shape, match: Match, request: WireRequest) -> dict[str, Json]:
        """Members that travel in the path, the query and the headers."""
        value: dict[str, Json] = {}
        for name, member in shape.members.items():
            match member.location:
                case "uri":
                    texts = [match.labels[member.wire_name]] if member.wire_name in match.labels else []
                case "querystring":
                    texts = [text for key, text in request.query if key == member.wire_name]
                case "header":
                    texts = [request.headers[key] for key in (member.wire_name.lower(),) if key in request.headers]
                case "headers":
                    value.update(self._prefixed_headers(name, member, request.headers))
                    continue
                case _:
                    continue
            if texts:
                self._store(value, name, member, texts)
        return value

    def body(self, shape: Shape, body: bytes) -> dict[str, Json]:
        """Members that travel in the body."""
        payload = shape.payload
        if payload is not None and payload.shape.type in {"blob", "string"}:
            if payload.is_streaming or not body:
                return {}
            return {payload.name: body if payload.shape.type == "blob" else body.decode("utf-8", errors="replace")}
        if self._model.protocol == "rest-xml":
            return self._xml_body(shape, body)
        return self._json_body(shape, body)

    def form(self, shape: Shape, request: WireRequest, body: bytes) -> dict[str, Json]:
        """The whole input of a query protocol's request."""
        text = body.decode("utf-8", errors="replace")
        pairs = parse_qsl(text, keep_blank_values=True) if request.method == "POST" else request.query
        value: dict[str, Json] = self._form_structure(shape, dict(pairs), "", 0)
        return value

    def _json_body(self, shape: Shape, body: bytes) -> dict[str, Json]:
        if not body.strip():
            return {}
        try:
            document = read_json(body)
        except ValueError as error:
            self._cannot_parse(f"the body is not JSON: {str(error)[:200]}")
        payload = shape.payload
        if payload is not None:
            return {payload.name: self._json(payload, document, payload.name, 0)}
        if not isinstance(document, dict):
            self._cannot_parse("the body is not a JSON object")
        value = {}
        for name, member in shape.members.items():
            element = document.get(member.wire_name)
            if member.location is None and element is not None:
                value[name] = self._json(member, element, name, 0)
        return value

    def _json(self, member: Member, value: Json, path: str, depth: int) -> Json:
        """A JSON value as its shape wants it; null elements of lists and maps are dropped, as AWS does."""
        shape = member.shape
        if depth > _MAX_DEPTH:
            return self._wrong(path, "nested less deeply")
        match shape.type, value:
            case "structure", dict():
                return {
                    name: self._json(inner, value[inner.wire_name], f"{path}.{name}", depth + 1)
                    for name, inner in shape.members.items()
                    if value.get(inner.wire_name) is not None
                }
            case "list", list():
                return [
                    self._json(shape.element, element, f"{path}.{index + 1}.member", depth + 1)
                    for index, element in enumerate(value)
                    if element is not None
                ]
            case "map", dict():
                return {
                    key: self._json(shape.value, element, f"{path}.{key}.value", depth + 1)
                    for key, element in value.items()
                    if element is not None
                }
            case _:
                return self._json_scalar(shape, value, path)

    def _json_scalar(self, shape: Shape, value: Json, path: str) -> Json:
        try:
            match shape.type, value:
                case (("string" | "character"), str()):
                    return value
                case "boolean", bool():
                    return value
                case (("integer" | "long" | "float" | "double" | "timestamp" | "bigdecimal"), bool()):
                    pass
                case (("integer" | "long"), int()):
                    return value
                case (("integer" | "long"), float()) if value.is_integer():
                    return int(value)
                case (("float" | "double" | "bigdecimal" | "timestamp"), (int() | float())) if math.isfinite(value):
                    return value
                case "timestamp", str():
                    return read_time(value)
                case "blob", str():
                    return decode_base64(value)
        except (UnreadableError, OverflowError):
            pass
        return self._wrong(path, f"a JSON value of type {shape.type}")

    def _xml_body(self, shape: Shape, body: bytes) -> dict[str, Json]:
        if not body.strip():
            return {}
        try:
            root = _parse_xml(body)
        except (ElementTree.ParseError, ValueError) as error:
            self._cannot_parse(f"the body is not XML: {error}")
        if shape.payload is not None:
            return {shape.payload.name: self._xml(shape.payload, root, shape.payload.name, 0)}
        value: dict[str, Json] = self._xml_structure(shape, root, "", 0)
        return value

    def _xml(self, member: Member, node: ElementTree.Element, path: str, depth: int) -> Json:
        shape = member.shape
        if depth > _MAX_DEPTH:
            return self._wrong(path, "nested less deeply")
        match shape.type:
            case "structure":
                return self._xml_structure(shape, node, path, depth + 1)
            case "list":
                return [self._xml(shape.element, child, f"{path}.{i + 1}", depth + 1) for i, child in enumerate(node)]
            case _:
                return self._text(shape, node.text or "", path)

    def _xml_structure(self, shape: Shape, node: ElementTree.Element, path: str, depth: int) -> Json:
        children: dict[str, list[ElementTree.Element]] = {}
        for child in node:
            children.setdefault(_local(child.tag), []).append(child)
        value: dict[str, Json] = {}
        for name, member in shape.members.items():
            inner = f"{path}.{name}" if path else name
            if member.is_attribute:
                text = node.get(member.wire_name, node.get(_XSI_TYPE))
                if text is not None:
                    value[name] = text
                continue
            found = children.get(member.wire_name)
            if member.location is not None or not found:
                continue
            if member.shape.type == "list" and member.is_flattened:
                element = member.shape.element
                value[name] = [self._xml(element, child, f"{inner}.{i + 1}", depth) for i, child in enumerate(found)]
            else:
                value[name] = self._xml(member, found[0], inner, depth)
        return value

    def _form_structure(self, shape: Shape, fields: Mapping[str, str], prefix: str, depth: int) -> Json:
        value: dict[str, Json] = {}
        for name, member in shape.members.items():
            key = f"{prefix}{member.wire_name}"
            if key in fields or any(field.startswith(f"{key}.") for field in fields):
                value[name] = self._form(member, fields, key, depth + 1)
        return value

    def _form(self, member: Member, fields: Mapping[str, str], key: str, depth: int) -> Json:
        shape = member.shape
        if depth > _MAX_DEPTH:
            return self._wrong(key, "nested less deeply")
        match shape.type:
            case "structure":
                return self._form_structure(shape, fields, f"{key}.", depth)
            case "list":
                middle = "" if member.is_flattened else f".{shape.element.wire_name}"
                return [self._form(shape.element, fields, at, depth) for at in _numbered(fields, f"{key}{middle}")]
            case "map":
                middle = "" if member.is_flattened else ".entry"
                keys = _numbered(fields, f"{key}{middle}")
                return {
                    fields.get(f"{at}.{shape.key.wire_name}", ""): self._form(
                        shape.value, fields, f"{at}.{shape.value.wire_name}", depth
                    )
                    for at in keys
                }
            case _:
                return self._text(shape, fields.get(key, ""), key)

    def _store(self, value: dict[str, Json], name: str, member: Member, texts: list[str]) -> None:
        """Put a member that came as text; lists came several times, or (headers) separated by commas."""
        if member.is_json_value:
            try:
                value[name] = read_json(decode_base64(texts[0]))
            except ValueError:
                self._wrong(name, "JSON in base64")
        elif member.shape.type == "list":
            if member.location == "header":
                texts = [text.strip() for text in texts[0].split(",")]
            value[name] = [self._text(member.shape.element.shape, text, name) for text in texts]
        else:
            value[name] = self._text(member.shape, texts[0], name)

    @staticmethod
    def _prefixed_headers(name: str, member: Member, headers: Mapping[str, str]) -> dict[str, Json]:
        prefix = member.wire_name.lower()
        found = {key[len(prefix) :]: text for key, text in headers.items() if key.startswith(prefix)}
        return {name: found} if found else {}

    def _text(self, shape: Shape, text: str, path: str) -> Json:
        try:
            return from_text(shape, text)
        except UnreadableError as error:
            return self._wrong(path, str(error))

    def _wrong(self, path: str, wanted: str) -> None:
        self.problems.append((path, f"Value at '{path}' failed to satisfy constraint: Member must be {wanted}"))

    def _cannot_parse(self, message: str) -> NoReturn:
        raise validation_error(self._model.signing_name, [("body", message)], reason="CANNOT_PARSE") from None


def _parse_xml(body: bytes) -> ElementTree.Element:
    """Parse XML that may not declare entities: a few of them would unfold to gigabytes."""
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise ValueError("document types are not allowed")
    return ElementTree.fromstring(body)  # noqa: S314  (no entities, checked above)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _numbered(fields: Mapping[str, str], prefix: str) -> list[str]:
    """``prefix.1``, ``prefix.2``, … as far as there are any, in order."""
    start = len(prefix) + 1
    numbers = {
        int(number)
        for number in (field[start:].partition(".")[0] for field in fields if field.startswith(f"{prefix}."))
        if number.isdecimal()
    }
    return [f"{prefix}.{number}" for number in sorted(numbers)]

"""From a request's method, raw path, query and headers to the operation it asks for.

ARNs stand percent-encoded in paths, so a path is matched as it came and its labels are decoded afterwards; a greedy
label (``{artifactName+}``) may hold slashes (cloud.md 1).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qs, unquote_to_bytes
from weakref import WeakKeyDictionary

from monodon.cloud.protocol.errors import ServiceError, unknown_operation, validation_error
from monodon.cloud.protocol.model import Operation, ServiceModel
from monodon.cloud.protocol.wire import WireRequest

_LABEL = re.compile(r"\{(\w+)(\+?)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """An operation, and the decoded labels of the path by their wire names."""

    operation: Operation
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class _Route:
    operation: Operation

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        text, position = "", 0
        path = self.operation.path
        for label in _LABEL.finditer(path):
            text += re.escape(path[position : label.start()])
            text += f"(?P<{label[1]}>.+)" if label[2] else f"(?P<{label[1]}>[^/]+)"
            position = label.end()
        return re.compile(text + re.escape(path[position:]) + "/?")

    @cached_property
    def needed_query(self) -> frozenset[str]:
        """Query parameters that must be there: those of the route, and the required ones of the input."""
        return frozenset(name for name, _ in self.operation.literal_query) | self._required("querystring")

    @cached_property
    def needed_headers(self) -> frozenset[str]:
        return frozenset(name.lower() for name in self._required("header"))

    @cached_property
    def rank(self) -> tuple[int, int, int]:
        """Greater is more specific: literal characters of the path, then what must be there besides."""
        literal = len(_LABEL.sub("", self.operation.path))
        greedy = -1 if "+}" in self.operation.path else 0
        return (literal, len(self.needed_query) + len(self.needed_headers), greedy)

    def _required(self, location: str) -> frozenset[str]:
        shape = self.operation.input
        if shape is None:
            return frozenset()
        members = (shape.members[name] for name in shape.required)
        return frozenset(member.wire_name for member in members if member.location == location)

    def fits(self, request: WireRequest) -> bool:
        """Whether everything but the path fits."""
        query = dict(request.query)
        literal = all(name in query and value in {"", query[name]} for name, value in self.operation.literal_query)
        return literal and self.needed_query <= request.query_names and self.needed_headers <= request.headers.keys()


_tables: WeakKeyDictionary[ServiceModel, dict[str, list[_Route]]] = WeakKeyDictionary()


def route(model: ServiceModel, request: WireRequest, body: bytes | None = None) -> Match:
    """Return the operation that a request asks for.

    Args:
        body: the form of a query protocol's request (sts, iam); other protocols do not look at it.

    Raises:
        ServiceError: no operation of the model fits.
    """
    if model.protocol == "query":
        return _route_query(model, request, body or b"")
    if model.protocol == "json":
        return _route_target(model, request)
    candidates: list[tuple[_Route, re.Match[str]]] = []
    for entry in _table(model).get(request.method, ()):
        match = entry.pattern.fullmatch(request.raw_path)
        if match is not None and (entry.fits(request) or model.protocol == "rest-json"):
            candidates.append((entry, match))
    if not candidates:
        raise unknown_operation(model.signing_name, request.method, request.raw_path)
    best, match = max(candidates, key=lambda pair: (pair[0].fits(request), pair[0].rank))
    labels = {name: _decode(model, name, text) for name, text in match.groupdict().items()}
    return Match(operation=best.operation, labels=labels)


def _route_query(model: ServiceModel, request: WireRequest, body: bytes) -> Match:
    """The ``Action`` of a form, or of the query string of a GET."""
    fields = parse_qs(body.decode("utf-8", errors="replace")) if request.method == "POST" else {}
    name = (fields.get("Action") or [value for key, value in request.query if key == "Action"] or [""])[0]
    operation = model.operations.get(name)
    if operation is None:
        raise ServiceError("InvalidAction", f"{model.signing_name} has no action {name!r}", status=400)
    return Match(operation=operation, labels={})


def _route_target(model: ServiceModel, request: WireRequest) -> Match:
    """The operation that the header ``X-Amz-Target`` of a JSON protocol names."""
    prefix, _, name = request.headers.get("x-amz-target", "").rpartition(".")
    operation = model.operations.get(name) if prefix == model.target_prefix else None
    if operation is None or request.method != "POST":
        raise ServiceError("UnknownOperationException", f"{model.signing_name} has no operation {name!r}", status=400)
    return Match(operation=operation, labels={})


def _decode(model: ServiceModel, name: str, text: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        problem = (name, f"Value at '{name}' is not UTF-8")
        raise validation_error(model.signing_name, [problem], reason="CANNOT_PARSE") from None


def _table(model: ServiceModel) -> dict[str, list[_Route]]:
    table = _tables.get(model)
    if table is None:
        table = _tables[model] = {}
        for operation in model.operations.values():
            table.setdefault(operation.method, []).append(_Route(operation=operation))
    return table

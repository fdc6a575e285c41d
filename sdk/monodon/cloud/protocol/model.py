"""botocore's service models, read from its files: operations and shapes.

The JSON files alone are read, never botocore's loaders: 6 MB of memory instead of 30 (``layout.md``).
"""

import gzip
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from monodon.cloud.protocol.patterns import compile_pattern
from monodon.core.json import Json
from monodon.errors import StateError


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of a structure, the element of a list, the key or value of a map: a shape and where it travels."""

    name: str
    shape: "Shape"
    location: str | None
    wire_name: str
    has_wire_name: bool
    is_flattened: bool
    is_json_value: bool
    is_streaming: bool
    namespace: str | None
    is_attribute: bool


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A type of the model. Its members are made when they are first asked for: shapes may hold themselves."""

    name: str
    type: str
    definition: Mapping[str, Json] = field(repr=False, compare=False)
    service: "ServiceModel" = field(repr=False, compare=False)

    @cached_property
    def members(self) -> Mapping[str, Member]:
        return {name: self._member(name, ref) for name, ref in self.definition.get("members", {}).items()}

    @cached_property
    def required(self) -> tuple[str, ...]:
        return tuple(self.definition.get("required", ()))

    @cached_property
    def element(self) -> Member:
        return self._member("member", self.definition["member"])

    @cached_property
    def key(self) -> Member:
        return self._member("key", self.definition["key"])

    @cached_property
    def value(self) -> Member:
        return self._member("value", self.definition["value"])

    @cached_property
    def payload(self) -> Member | None:
        name = self.definition.get("payload")
        return None if name is None else self.members[name]

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        text = self.definition.get("pattern")
        return None if text is None else compile_pattern(text)

    @cached_property
    def enum(self) -> frozenset[str]:
        return frozenset(self.definition.get("enum", ()))

    @property
    def minimum(self) -> float | None:
        return self.definition.get("min")

    @property
    def maximum(self) -> float | None:
        return self.definition.get("max")

    @property
    def is_flattened(self) -> bool:
        return bool(self.definition.get("flattened", False))

    @property
    def timestamp_format(self) -> str | None:
        return self.definition.get("timestampFormat")

    def _member(self, name: str, ref: Mapping[str, Json]) -> Member:
        shape = self.service.shape(ref["shape"])
        traits = {**shape.definition, **ref}
        wire_name = ref.get("locationName", shape.definition.get("locationName"))
        return Member(
            name=name,
            shape=shape,
            location=ref.get("location"),
            wire_name=wire_name or name,
            has_wire_name=wire_name is not None,
            is_flattened=bool(traits.get("flattened", False)),
            is_json_value=bool(ref.get("jsonvalue", False)),
            is_streaming=bool(traits.get("streaming", False)),
            namespace=traits.get("xmlNamespace", {}).get("uri"),
            is_attribute=bool(ref.get("xmlAttribute", False)),
        )


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation: its route, its shapes, and the name of the method that answers it."""

    name: str
    method: str
    path: str
    literal_query: tuple[tuple[str, str], ...]
    status: int
    input: Shape | None
    output: Shape | None
    output_wrapper: str | None

    @cached_property
    def method_name(self) -> str:
        """``CreateDeployment`` → ``create_deployment``, as boto3 names it."""
        split = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", self.name)
        return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", split).lower()


class ServiceModel:
    """A service as botocore knows it."""

    def __init__(self, description: Mapping[str, Json]) -> None:
        metadata = description["metadata"]
        self.signing_name: str = metadata.get("signingName") or metadata["endpointPrefix"]
        self.protocol: str = metadata["protocol"]
        #: What the name of an operation follows in the header ``X-Amz-Target``, and the version of the content type.
        self.target_prefix: str = metadata.get("targetPrefix", "")
        self.json_version: str = metadata.get("jsonVersion", "")
        self.namespace: str = metadata.get("xmlNamespace", f"http://s3.amazonaws.com/doc/{metadata['apiVersion']}/")
        self._shapes: Mapping[str, Json] = description["shapes"]
        self._made: dict[str, Shape] = {}
        self.operations: Mapping[str, Operation] = {
            name: self._operation(name, definition) for name, definition in description["operations"].items()
        }

    def shape(self, name: str) -> Shape:
        """Return the shape of that name, always the same object."""
        shape = self._made.get(name)
        if shape is None:
            definition = self._shapes[name]
            shape = self._made[name] = Shape(name=name, type=definition["type"], definition=definition, service=self)
        return shape

    @cached_property
    def errors(self) -> Mapping[str, Shape]:
        """Errors by the name that clients see, and by the name of their shape."""
        found: dict[str, Shape] = {}
        for name, definition in self._shapes.items():
            if definition.get("exception"):
                found[name] = self.shape(name)
                found.setdefault(definition.get("error", {}).get("code", name), self.shape(name))
        return found

    def _operation(self, name: str, definition: Mapping[str, Json]) -> Operation:
        http = definition["http"]
        path, _, query = http["requestUri"].partition("?")
        literals = tuple((key, value) for key, _, value in (part.partition("=") for part in query.split("&")) if key)
        output = definition.get("output")
        return Operation(
            name=name,
            method=http["method"],
            path=path,
            literal_query=literals,
            status=http.get("responseCode", 200),
            input=self.shape(definition["input"]["shape"]) if "input" in definition else None,
            output=self.shape(output["shape"]) if output else None,
            output_wrapper=output.get("resultWrapper") if output else None,
        )


def data_folder() -> Path:
    """Return where botocore keeps its models, without importing it.

    Raises:
        StateError: botocore is not installed.
    """
    spec = importlib.util.find_spec("botocore")
    if spec is None or spec.origin is None:
        raise StateError(
            "the embedded cloud needs botocore's service models, and botocore is not installed",
            hint="pip install 'monodon[local]'",
        )
    return Path(spec.origin).parent / "data"


@cache
def load(service: str) -> ServiceModel:
    """Return botocore's newest model of a service, by the name that boto3 gives it (``greengrassv2``, ``iot-data``).

    Raises:
        StateError: botocore is not installed, or has no such service.
    """
    folder = data_folder() / service
    versions = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    for version in reversed(versions):
        packed, plain = version / "service-2.json.gz", version / "service-2.json"
        if packed.exists():
            return read(gzip.decompress(packed.read_bytes()))
        if plain.exists():
            return read(plain.read_bytes())
    raise StateError(f"botocore has no model of {service}", hint="pip install --upgrade 'monodon[local]'")


def read(text: bytes) -> ServiceModel:
    """Return the model that the text of a ``service-2.json`` describes; documentation is left out."""
    return ServiceModel(json.loads(text, object_hook=_without_documentation))


def _without_documentation(value: dict[str, Json]) -> dict[str, Json]:
    if isinstance(value.get("documentation"), str):
        del value["documentation"]
    return value

"""Every IPC operation by name, its request from JSON and its answers as JSON, by AWS's own model of them."""

import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from awsiot.eventstreamrpc import ClientOperation
from awsiot.greengrasscoreipc import model

from monodon.core.json import Json
from monodon.errors import IpcError

PREFIX = "aws.greengrass#"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation; ``client_name`` is what awsiotsdk calls it, a streaming one goes on after its answer."""

    name: str
    client_name: str
    is_streaming: bool
    request_type: Any

    def request(self, content: Mapping[str, Json]) -> Any:
        """Return the request that the JSON describes.

        Raises:
            IpcError: a field that the operation does not have, or one of another type (``InvalidArgumentsError``).
        """
        try:
            request = self.request_type._from_payload(content)
            understood = request._to_payload()
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise _unfit(f"the request of {self.name} does not fit: {error}") from error
        if unknown := _unknown(content, understood, ""):
            raise _unfit(f"{self.name} has no field {unknown}")
        if misread := _misread(content, understood, ""):
            raise _unfit(f"{misread} of {self.name} is not base64 with padding")
        return request


def _unfit(message: str) -> IpcError:
    return IpcError(message, code="InvalidArgumentsError", hint="field names are those of the wire, as componentName")


def _unknown(given: Json, understood: Json, path: str) -> str | None:
    """Return the path of a key that got lost on the way through the model."""
    if isinstance(given, Mapping) and isinstance(understood, Mapping):
        for key, value in given.items():
            inner = f"{path}.{key}" if path else key
            if value is not None and key not in understood:
                return inner
            found = _unknown(value, understood.get(key), inner)
            if found is not None:
                return found
    return None


def _misread(given: Json, understood: Json, path: str) -> str | None:
    """Return the path of a text that came back as another: the model reads base64 and passes over what is none."""
    if isinstance(given, str) and isinstance(understood, str) and given != understood:
        return path
    inner: Iterable[tuple[Json, Json, str]] = ()
    if isinstance(given, Mapping) and isinstance(understood, Mapping):
        inner = ((value, understood.get(key), f"{path}.{key}" if path else key) for key, value in given.items())
    elif isinstance(given, list) and isinstance(understood, list):
        inner = ((*pair, f"{path}[{index}]") for index, pair in enumerate(zip(given, understood, strict=False)))
    return next((found for each in inner if (found := _misread(*each))), None)


@functools.cache
def _operations() -> Mapping[str, Operation]:
    found = {}
    for each in ClientOperation.__subclasses__():
        if each.__module__ == model.__name__:
            name = each._model_name().removeprefix(PREFIX)
            found[name] = Operation(
                name=name,
                client_name=_snake(name),
                is_streaming=each._response_stream_type() is not None,
                request_type=each._request_type(),
            )
    return found


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name.replace("IoT", "Iot")).lower()


def operation(name: str) -> Operation:
    """Return an operation: ``GetConfiguration``, ``get_configuration`` or ``aws.greengrass#GetConfiguration``.

    Raises:
        IpcError: there is none of that name.
    """
    bare = name.removeprefix(PREFIX)
    known = _operations()
    by_client = {each.client_name: each for each in known.values()}
    found = known.get(bare) or by_client.get(bare)
    if found is None:
        near = get_close_matches(bare, [*known, *by_client], n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
        raise IpcError(f"no operation {name}", code="UnknownOperation", hint=hint)
    return found


def to_json(answer: Any) -> Json:
    """Return a response or an event as it came over the wire: blobs in base64, times in seconds."""
    return answer._to_payload()


def to_text(value: Json, *, indent: int | None = None) -> str:
    """Return JSON as it is read best; escaped where UTF-8 has no word for it (half a surrogate pair)."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text

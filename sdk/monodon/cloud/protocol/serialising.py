"""From a backend's output, or its error, to the response that the client's SDK reads."""

import base64
import json
from collections.abc import Iterable, Mapping
from xml.sax.saxutils import escape, quoteattr

from monodon.cloud.protocol.errors import ServiceError
from monodon.cloud.protocol.model import Member, Operation, ServiceModel, Shape
from monodon.cloud.protocol.scalars import to_text
from monodon.cloud.protocol.wire import FileBody, WireResponse
from monodon.core.json import Json

#: Root elements that S3 documents; the models do not have them, and SDKs do not look.
_ROOTS = {
    "ListBuckets": "ListAllMyBucketsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "DeleteObjects": "DeleteResult",
}


def serialise(
    model: ServiceModel, operation: Operation, output: Mapping[str, Json], *, request_id: str, status: int | None = None
) -> WireResponse:
    """Return the response of an operation that went well. None stands for a member that is not there.

    Args:
        status: instead of the model's (206 for a part of an object).
    """
    shape = operation.output
    given = {name: value for name, value in output.items() if value is not None}
    if model.protocol == "query":
        return _query(model, operation, given, request_id)
    headers: list[tuple[str, str]] = [_request_id(model, request_id)]
    status = status or operation.status
    if shape is None and model.protocol == "json":
        return WireResponse(status=status, headers=(*headers, ("content-type", _json_type(model))), body=b"{}")
    if shape is None:
        return WireResponse(status=status, headers=tuple(headers))
    for name, value in given.items():
        member = shape.members[name]
        if member.location == "header":
            headers.append((member.wire_name, to_text(member, value, default_time="rfc822")))
        elif member.location == "headers":
            headers.extend((f"{member.wire_name}{key}", text) for key, text in value.items())
        elif member.location == "statusCode":
            status = value
    body, content_type = _body(model, operation, shape, given)
    if content_type and not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("content-type", content_type))
    return WireResponse(status=status, headers=tuple(headers), body=body)


def serialise_error(model: ServiceModel, error: ServiceError, *, request_id: str, resource: str = "") -> WireResponse:
    """Return the response of an error; its status is the error's own, else the model's, else 400."""
    shape = model.errors.get(error.code)
    status = error.status
    if status is None:
        definition: Mapping[str, Json] = shape.definition.get("error", {}) if shape is not None else {}
        status = int(definition.get("httpStatusCode", 400))
    if model.protocol == "query":
        return _query_error(model, error, status, request_id)
    if model.protocol == "rest-xml":
        return _xml_error(model, error, status, request_id, resource)
    headers = [_request_id(model, request_id), ("content-type", _json_type(model)), ("x-amzn-ErrorType", error.code)]
    body: dict[str, Json] = {"message": error.message}
    if model.protocol == "json":
        body["__type"] = error.code
    for name, value in error.members.items():
        member = shape.members.get(name) if shape is not None else None
        if member is not None and member.location == "header":
            headers.append((member.wire_name, to_text(member, value, default_time="rfc822")))
        else:
            body[member.wire_name if member is not None else name] = value
    return WireResponse(status=status, headers=tuple(headers), body=json.dumps(body).encode())


def _body(
    model: ServiceModel, operation: Operation, shape: Shape, given: Mapping[str, Json]
) -> tuple[bytes | FileBody, str]:
    payload = shape.payload
    is_xml = model.protocol == "rest-xml"
    if payload is not None:
        value = given.get(payload.name)
        if isinstance(value, bytes | FileBody):
            return value, "application/octet-stream"
        if isinstance(value, str):
            return value.encode(), "text/plain"
        if value is None:
            return b"", ""
        if is_xml:
            return _document(payload.wire_name, _xml_members(payload.shape, value), model.namespace), "application/xml"
        return json.dumps(_json(payload.shape, value)).encode(), "application/json"
    rest = {name: value for name, value in given.items() if shape.members[name].location is None}
    if not is_xml:
        return json.dumps(_json(shape, rest), separators=(",", ":")).encode(), _json_type(model)
    if not any(member.location is None for member in shape.members.values()):
        return b"", ""
    root = _ROOTS.get(operation.name, f"{operation.name}Result")
    return _document(root, _xml_members(shape, rest), model.namespace), "application/xml"


def _json_type(model: ServiceModel) -> str:
    return f"application/x-amz-json-{model.json_version}" if model.protocol == "json" else "application/json"


def _json(shape: Shape, value: Json) -> Json:
    match shape.type:
        case "structure":
            return {
                shape.members[name].wire_name: _json(shape.members[name].shape, element)
                for name, element in value.items()
                if element is not None
            }
        case "list":
            return [_json(shape.element.shape, element) for element in value]
        case "map":
            return {key: _json(shape.value.shape, element) for key, element in value.items()}
        case "blob":
            return base64.b64encode(value).decode()
        case "timestamp":
            return round(value, 3)
        case _:
            return value


def _xml_members(shape: Shape, value: Mapping[str, Json]) -> str:
    parts: list[str] = []
    for name, element in value.items():
        member = shape.members[name]
        if element is None or member.is_attribute:
            continue
        if member.shape.type == "list" and member.is_flattened:
            inner = member.shape.element
            tag = inner.wire_name if inner.has_wire_name else member.wire_name
            parts.extend(_xml(inner, item, tag) for item in element)
        else:
            parts.append(_xml(member, element, member.wire_name))
    return "".join(parts)


def _xml(member: Member, value: Json, tag: str) -> str:
    shape = member.shape
    match shape.type:
        case "structure":
            return f"<{tag}{_attributes(shape, value)}>{_xml_members(shape, value)}</{tag}>"
        case "list":
            inner = "".join(_xml(shape.element, item, shape.element.wire_name) for item in value)
            return f"<{tag}>{inner}</{tag}>"
        case "map":
            entries = "".join(
                f"<entry>{_xml(shape.key, key, shape.key.wire_name)}"
                f"{_xml(shape.value, item, shape.value.wire_name)}</entry>"
                for key, item in value.items()
            )
            return f"<{tag}>{entries}</{tag}>"
        case _:
            return f"<{tag}>{_escape(to_text(member, value, default_time='iso8601'))}</{tag}>"


def _attributes(shape: Shape, value: Mapping[str, Json]) -> str:
    texts: Iterable[str] = (
        f' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" {member.wire_name}={quoteattr(str(value[name]))}'
        for name, member in shape.members.items()
        if member.is_attribute and value.get(name) is not None
    )
    return "".join(texts)


def _query(model: ServiceModel, operation: Operation, given: Mapping[str, Json], request_id: str) -> WireResponse:
    result = ""
    if operation.output is not None:
        wrapper = operation.output_wrapper or f"{operation.name}Result"
        result = f"<{wrapper}>{_xml_members(operation.output, given)}</{wrapper}>"
    inner = f"{result}<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
    body = _document(f"{operation.name}Response", inner, model.namespace)
    return WireResponse(status=200, headers=(("content-type", "text/xml"), _request_id(model, request_id)), body=body)


def _query_error(model: ServiceModel, error: ServiceError, status: int, request_id: str) -> WireResponse:
    shape = model.errors.get(error.code)
    code = shape.definition.get("error", {}).get("code", error.code) if shape is not None else error.code
    kind = "Sender" if status < 500 else "Receiver"
    inner = (
        f"<Error><Type>{kind}</Type><Code>{_escape(code)}</Code><Message>{_escape(error.message)}</Message></Error>"
        f"<RequestId>{request_id}</RequestId>"
    )
    body = _document("ErrorResponse", inner, model.namespace)
    return WireResponse(
        status=status, headers=(("content-type", "text/xml"), _request_id(model, request_id)), body=body
    )


def _xml_error(model: ServiceModel, error: ServiceError, status: int, request_id: str, resource: str) -> WireResponse:
    members = "".join(f"<{name}>{_escape(str(value))}</{name}>" for name, value in error.members.items())
    inner = (
        f"<Code>{_escape(error.code)}</Code><Message>{_escape(error.message)}</Message>{members}"
        f"<Resource>{_escape(resource)}</Resource><RequestId>{request_id}</RequestId>"
    )
    headers = (("content-type", "application/xml"), _request_id(model, request_id))
    return WireResponse(status=status, headers=headers, body=_document("Error", inner, ""))


def _document(root: str, inner: str, namespace: str) -> bytes:
    attribute = f' xmlns="{namespace}"' if namespace else ""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}{attribute}>{inner}</{root}>'.encode()


def _escape(text: str) -> str:
    """Text for XML 1.0, which has no place for control characters: they become U+FFFD."""
    cleaned = "".join(c if c in "\t\n\r" or c >= " " else "\ufffd" for c in text)
    return escape(cleaned, {"\r": "&#13;"})


def _request_id(model: ServiceModel, request_id: str) -> tuple[str, str]:
    return ("x-amz-request-id" if model.protocol == "rest-xml" else "x-amzn-RequestId", request_id)

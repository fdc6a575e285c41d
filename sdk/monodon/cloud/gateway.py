"""From an HTTP request to the backend that answers it, and back.

A signed request goes to the service in its signature's scope; an unsigned one is a presigned S3 URL, or a device with
its certificate. Each answer of a backend is durable before it is sent: synchronous methods run
inside one transaction, with what they publish.
"""

import asyncio
import inspect
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from monodon.cloud import presign
from monodon.cloud.bodies import STALL_S, Body
from monodon.cloud.certificates import identify
from monodon.cloud.context import RequestContext
from monodon.cloud.protocol import (
    FileBody,
    Operation,
    ServiceError,
    ServiceModel,
    WireRequest,
    WireResponse,
    parse_request,
    route,
    serialise,
    serialise_error,
)
from monodon.cloud.protocol.errors import not_implemented
from monodon.cloud.protocol.model import load
from monodon.cloud.server import PEER_CERTIFICATE, Receive, Scope, Send
from monodon.cloud.store import Store
from monodon.cloud.throttling import Throttle
from monodon.core.json import Json

log = logging.getLogger(__name__)

#: A configuration merge may have 10 MB (cloud.md 7), and JSON in JSON grows.
_MAX_BODY = 40 * 1024 * 1024
_DRAIN = 1024 * 1024
_PIECE = 256 * 1024

_SCOPE = re.compile(r"Credential=([^/,\s]+)/\d{8}/(?:([^/,\s]+)/)?([^/,\s]+)/aws4_request")

#: signing name → botocore's name of the service's model.
MODELS = {
    "greengrass": "greengrassv2",
    "iot": "iot",
    "iotdata": "iot-data",
    "iot-jobs-data": "iot-jobs-data",
    "s3": "s3",
    "sts": "sts",
    "iam": "iam",
    "secretsmanager": "secretsmanager",
}

_INTERNAL = {
    "greengrass": "InternalServerException",
    "s3": "InternalError",
    "iot": "InternalFailureException",
    "secretsmanager": "InternalServiceError",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request on its way in."""

    request: WireRequest
    body: Body
    context: RequestContext
    #: The request as it was signed: its bucket may stand in the host.
    signed: WireRequest | None = None


DeviceApi = Callable[[Call], Awaitable[WireResponse]]
#: (request as it came, signing name, scheme, reads the body)
CheckSignature = Callable[[WireRequest, str, str, Callable[[], Awaitable[bytes]]], Awaitable[None]]


class Gateway:
    """The ASGI application of the cloud's HTTP port.

    Args:
        backends: signing name → objects whose methods are named as operations (``create_deployment``); the first one
            that has the method answers. A method gets the input and a ``RequestContext`` and returns the output.
        device_api: answers unsigned requests of devices.
        now: seconds since 1970.
        transaction: what a synchronous method runs in; None: a transaction of ``store``.
        check_signature: raises ServiceError for a signature that is none of the account's; None takes any.
        throttle: how often operations may be called.
        stall_s: how long a client may send nothing of a body that it has begun.
    """

    def __init__(
        self,
        *,
        store: Store,
        region: str,
        account: str,
        backends: Mapping[str, Sequence[object]],
        device_api: DeviceApi,
        now: Callable[[], float],
        transaction: Callable[[], AbstractContextManager[None]] | None = None,
        check_signature: CheckSignature | None = None,
        stall_s: float = STALL_S,
        throttle: Throttle | None = None,
    ) -> None:
        self._throttle = throttle or Throttle({}, now=now)
        self._check_signature = check_signature
        self._stall_s = stall_s
        self._transaction = transaction or store.transaction
        self._region = region
        self._account = account
        self._backends = backends
        self._device_api = device_api
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        request = WireRequest(
            method=scope["method"],
            raw_path=scope["raw_path"].decode("latin-1"),
            raw_query=scope["query_string"].decode("latin-1"),
            headers=headers,
        )
        certificate: bytes | None = scope.get(PEER_CERTIFICATE)
        host = headers.get("host", "localhost")
        context = RequestContext(
            region=self._region,
            account=self._account,
            request_id=str(uuid.uuid4()),
            endpoint=f"{scope['scheme']}://{host}",
            certificate_id=identify(certificate) if certificate else None,
            access_key=_access_key(request),
        )
        call = Call(
            request=_path_style(request, host),
            body=Body(receive, headers, stall_s=self._stall_s),
            context=context,
            signed=request,
        )
        response = await self._answer(call)
        await _respond(call, response, send)

    async def _answer(self, call: Call) -> WireResponse:
        service = service_of(call.request)
        if service is None:
            return await self._device_api(call)
        if service not in MODELS or service not in self._backends:
            return _no_service(service, call, self._backends)
        return await self.call(service, call)

    async def call(self, service: str, call: Call) -> WireResponse:
        """Answer a request as one service would, errors included."""
        model = load(MODELS[service])
        try:
            return await self._operate(model, service, call)
        except ServiceError as error:
            log.debug("%s %s: %s: %s", call.request.method, call.request.raw_path, error.code, error.message)
            resource = unquote(call.request.raw_path)
            return serialise_error(model, error, request_id=call.context.request_id, resource=resource)
        except Exception:
            log.exception("%s %s failed", call.request.method, call.request.raw_path)
            code = _INTERNAL.get(service, "InternalFailure")
            failure = ServiceError(code, "the embedded cloud failed; its log says why", status=500)
            return serialise_error(model, failure, request_id=call.context.request_id)

    async def _operate(self, model: ServiceModel, service: str, call: Call) -> WireResponse:
        request = call.request
        if self._check_signature is not None and call.signed is not None:
            scheme = call.context.endpoint.partition(":")[0]
            await self._check_signature(call.signed, service, scheme, lambda: call.body.hold(_MAX_BODY))
        if service == "s3":
            presign.check_expiry(request, now=self._now())
        form = await call.body.read(_MAX_BODY) if model.protocol == "query" else None
        match = route(model, request, form)
        operation = match.operation
        method = self._method(service, operation)
        self._throttle.check(service, operation.name)
        streaming = _streaming_member(operation)
        if streaming is not None:
            value = parse_request(model, match, request, b"")
            value[streaming] = call.body
        else:
            body = form if form is not None else await call.body.read(_MAX_BODY)
            value = parse_request(model, match, request, body)
        log.debug("%s:%s", service, operation.name)
        if inspect.iscoroutinefunction(method):
            output = await method(value, call.context)
        else:
            with self._transaction():
                output = method(value, call.context)
        if isinstance(output, WireResponse):
            return output
        return serialise(model, operation, output or {}, request_id=call.context.request_id)

    def _method(self, service: str, operation: Operation) -> Callable[..., Json]:
        for backend in self._backends[service]:
            method: Callable[..., Json] | None = getattr(backend, operation.method_name, None)
            if method is not None:
                return method
        raise not_implemented(service, operation.name)


def service_of(request: WireRequest) -> str | None:
    """Return the signing name of the service that a request is signed for; None if it is not signed.

    S3's older signatures name no service: nothing else uses their forms.
    """
    found = _SCOPE.search(request.headers.get("authorization", ""))
    if found is not None:
        return found[3]
    if request.headers.get("authorization", "").startswith("AWS "):
        return "s3"
    query = dict(request.query)
    credential = query.get("X-Amz-Credential", "").split("/")
    if len(credential) >= 4 and credential[-1] == "aws4_request":
        return credential[-2]
    if {"AWSAccessKeyId", "Signature", "Expires"} <= query.keys():
        return "s3"
    return None


def _access_key(request: WireRequest) -> str | None:
    found = _SCOPE.search(request.headers.get("authorization", ""))
    if found is not None:
        return found[1]
    query = dict(request.query)
    return query.get("X-Amz-Credential", "").split("/")[0] or query.get("AWSAccessKeyId")


def _path_style(request: WireRequest, host: str) -> WireRequest:
    """Put the bucket of ``bucket.localhost:4566`` in front of the path, as ``localhost:4566/bucket`` has it."""
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    for suffix in (".s3.localhost", ".localhost"):
        bucket = name.removesuffix(suffix)
        if bucket and bucket != name and bucket != "s3":
            return WireRequest(
                method=request.method,
                raw_path=f"/{bucket}{request.raw_path}",
                raw_query=request.raw_query,
                headers=request.headers,
            )
    return request


def _no_service(service: str, call: Call, backends: Mapping[str, Sequence[object]]) -> WireResponse:
    """Answer in the protocol that the request seems to have: a form in XML, all else in JSON."""
    code = "UnknownServiceException"
    message = f"the embedded cloud has no service {service!r}; it has {', '.join(sorted(backends))}"
    error = ServiceError(code, message, status=501, __type=code)
    is_form = call.request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    return serialise_error(load("sts" if is_form else "greengrassv2"), error, request_id=call.context.request_id)


def _streaming_member(operation: Operation) -> str | None:
    shape = operation.input
    if shape is None or shape.payload is None or not shape.payload.is_streaming:
        return None
    return shape.payload.name


async def _respond(call: Call, response: WireResponse, send: Send) -> None:
    # Opened before anything else can run: the object may be replaced, and its file removed, while it is sent.
    file = Path.open(response.body.path, "rb") if isinstance(response.body, FileBody) else None
    try:
        await _send(call, response, file, send)
    finally:
        if file is not None:
            file.close()


async def _send(call: Call, response: WireResponse, file: BinaryIO | None, send: Send) -> None:
    headers = {name.lower(): value for name, value in response.headers}
    size = len(response.body) if isinstance(response.body, bytes) else response.body.size
    if call.request.method != "HEAD" and response.status not in {204, 304}:
        headers["content-length"] = str(size)
    if not await _body_is_read(call):
        headers["connection"] = "close"
    pairs = [(name.encode("latin-1"), _header(value)) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": pairs})
    if call.request.method == "HEAD" or response.status in {204, 304}:
        await send({"type": "http.response.body", "body": b""})
    elif isinstance(response.body, bytes):
        await send({"type": "http.response.body", "body": response.body})
    else:
        assert file is not None
        await _send_file(response.body, file, send)


async def _body_is_read(call: Call) -> bool:
    """Whether the connection can serve another request.

    A client that waits for ``100 Continue`` has not sent its body: answered without asking for it, it must not reuse
    the connection (findings 4).
    """
    if call.body.is_read:
        return True
    if call.request.headers.get("expect", "").lower() == "100-continue":
        return False
    try:
        return await call.body.drain(_DRAIN)
    except ServiceError:
        return False


async def _send_file(body: FileBody, file: BinaryIO, send: Send) -> None:
    file.seek(body.offset)
    left = body.size
    while left > 0:
        piece = await asyncio.to_thread(file.read, min(left, _PIECE))
        if not piece:
            raise OSError(f"{body.path} is shorter than it was")
        left -= len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
    if body.size == 0:
        await send({"type": "http.response.body", "body": b""})


def _header(value: str) -> bytes:
    """A header value on one line; what latin-1 does not have goes as UTF-8."""
    line = value.replace("\r", " ").replace("\n", " ")
    try:
        return line.encode("latin-1")
    except UnicodeEncodeError:
        return line.encode()

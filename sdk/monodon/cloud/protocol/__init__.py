"""AWS's wire formats, driven by botocore's own service models: route, parse, validate, serialise, errors. Pure."""

from monodon.cloud.protocol.errors import ServiceError
from monodon.cloud.protocol.model import Member, Operation, ServiceModel, Shape
from monodon.cloud.protocol.parsing import parse_request
from monodon.cloud.protocol.routing import Match, route
from monodon.cloud.protocol.serialising import serialise, serialise_error
from monodon.cloud.protocol.wire import FileBody, WireRequest, WireResponse

__all__ = [
    "FileBody",
    "Match",
    "Member",
    "Operation",
    "ServiceError",
    "ServiceModel",
    "Shape",
    "WireRequest",
    "WireResponse",
    "parse_request",
    "route",
    "serialise",
    "serialise_error",
]

"""Numbers, times and bytes as text, and back. Times are seconds since 1970 everywhere inside the cloud."""

import base64
import binascii
import json
import math
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from monodon.cloud.protocol.model import Member, Shape
from monodon.core.json import Json


class UnreadableError(ValueError):
    """A scalar that is not of its type; says which type was expected."""


def from_text(shape: Shape, text: str) -> Json:
    """Read a scalar out of a header, query, form or XML text.

    Raises:
        UnreadableError: it is not of the shape's type.
    """
    match shape.type:
        case "string" | "character":
            return text
        case "integer" | "long":
            return _integer(text)
        case "float" | "double" | "bigdecimal":
            return _float(text)
        case "boolean":
            if text.lower() not in {"true", "false"}:
                raise UnreadableError("a boolean")
            return text.lower() == "true"
        case "timestamp":
            return read_time(text)
        case "blob":
            return decode_base64(text)
        case other:
            raise UnreadableError(f"a {other}")


def to_text(member: Member, value: Json, *, default_time: str) -> str:
    """Write a scalar as a header, a query value or XML text."""
    shape = member.shape
    if member.is_json_value:
        return base64.b64encode(json.dumps(value).encode()).decode()
    match shape.type:
        case "boolean":
            return "true" if value else "false"
        case "timestamp":
            return write_time(value, shape.timestamp_format or default_time)
        case "blob":
            return base64.b64encode(value).decode()
        case "list":
            return ",".join(to_text(shape.element, element, default_time=default_time) for element in value)
        case _:
            return str(value)


def read_time(text: str) -> float:
    """Read a time in any of AWS's three formats.

    Raises:
        UnreadableError: it is none of them.
    """
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if not math.isfinite(seconds):
            raise UnreadableError("a timestamp")
        return seconds
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError):
            raise UnreadableError("a timestamp") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def write_time(seconds: float, style: str) -> str:
    """Write a time as ``iso8601``, ``rfc822`` or ``unixTimestamp``."""
    if style == "unixTimestamp":
        return str(round(seconds, 3))
    moment = datetime.fromtimestamp(seconds, UTC)
    if style == "rfc822":
        return format_datetime(moment, usegmt=True)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def decode_base64(text: str) -> bytes:
    """Decode base64.

    Raises:
        UnreadableError: it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableError("base64") from None


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UnreadableError("an integer") from None


def _float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UnreadableError("a number") from None
    if not math.isfinite(value):
        raise UnreadableError("a finite number")
    return value

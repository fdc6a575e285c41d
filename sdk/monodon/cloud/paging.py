"""Pages of listings: a token says after which key the next page starts, and nothing else."""

import base64
import binascii
from collections.abc import Iterable
from typing import TypeVar

from monodon.cloud.protocol import ServiceError

T = TypeVar("T")


def write_token(key: str) -> str:
    """A token for clients, opaque to them."""
    return base64.urlsafe_b64encode(b"k" + key.encode()).decode()


def read_token(token: str | None, *, error: str = "InvalidRequestException") -> str | None:
    """Return the key of a token of ours; None for none.

    Args:
        error: the service's name of a bad request.

    Raises:
        ServiceError: it is not a token of ours.
    """
    if not token:
        return None
    try:
        text = base64.urlsafe_b64decode(token.encode("ascii")).decode()
    except (binascii.Error, UnicodeError):
        text = ""
    if not text.startswith("k"):
        raise ServiceError(error, "the pagination token is not valid", status=400)
    return text[1:]


def page(entries: Iterable[tuple[str, T]], limit: int) -> tuple[list[T], str | None]:
    """Return the first ``limit`` values and the token of the next page, None if there is none.

    Args:
        entries: keys in order and values, starting after the token's key.
    """
    values: list[T] = []
    last = ""
    for key, value in entries:
        if len(values) == limit:
            return values, write_token(last)
        values.append(value)
        last = key
    return values, None


def page_of(
    entries: Iterable[tuple[str, T]], token: str | None, limit: int, *, error: str = "InvalidRequestException"
) -> tuple[list[T], str | None]:
    """Like ``page``, of entries that do not start after the token's key but hold all of them, in order."""
    after = read_token(token, error=error)
    return page(((key, value) for key, value in entries if after is None or key > after), limit)

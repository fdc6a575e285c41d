"""Listing keys: prefix, delimiter, pages. Pure."""

import base64
import binascii
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import quote

from monodon.cloud.protocol import ServiceError
from monodon.core.json import Json

#: Greater than every key that starts with what stands before it.
_LAST = chr(0x10FFFF)

#: (prefix, later than this key or None) → keys and records in order.
Pages = Callable[[str, str | None], Iterable[tuple[str, dict[str, Json]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One page: keys with their records, common prefixes, and after which key or prefix the next page starts."""

    keys: tuple[tuple[str, dict[str, Json]], ...]
    prefixes: tuple[str, ...]
    next_after: str | None
    limit: int


def list_keys(pages: Pages, *, prefix: str, delimiter: str | None, after: str | None, limit: int) -> Listing:
    """Return up to ``limit`` keys and common prefixes that come after ``after``.

    A common prefix is everything up to the first delimiter past ``prefix``; keys under it are passed over at once.
    """
    keys: list[tuple[str, dict[str, Json]]] = []
    prefixes: list[str] = []
    last = after
    if delimiter and after is not None and after.startswith(prefix) and after.endswith(delimiter):
        after += _LAST
    while True:
        group: str | None = None
        for key, record in pages(prefix, after):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            if len(keys) + len(prefixes) == limit:
                return _page(keys, prefixes, last if limit else None, limit)
            if delimiter and end >= 0:
                group = key[: end + len(delimiter)]
                break
            keys.append((key, record))
            last = key
        if group is None:
            return _page(keys, prefixes, None, limit)
        prefixes.append(group)
        last = group
        after = group + _LAST


def _page(keys: list[tuple[str, dict[str, Json]]], prefixes: list[str], next_after: str | None, limit: int) -> Listing:
    return Listing(keys=tuple(keys), prefixes=tuple(prefixes), next_after=next_after, limit=limit)


def write_token(after: str | None) -> str | None:
    """A continuation token; opaque to clients."""
    return None if after is None else base64.urlsafe_b64encode(after.encode()).decode()


def read_token(token: str | None) -> str | None:
    """Read a continuation token of ours.

    Raises:
        ServiceError: it is not one.
    """
    if token is None:
        return None
    try:
        return base64.urlsafe_b64decode(token.encode("ascii")).decode()
    except (binascii.Error, UnicodeError):
        raise ServiceError("InvalidArgument", "The continuation token provided is incorrect", status=400) from None


def url_encode(encoding: str | None) -> Callable[[str], str]:
    """How keys are written: XML cannot hold every key, so clients ask for ``url``."""
    return (lambda text: quote(text, safe="/~")) if encoding == "url" else (lambda text: text)

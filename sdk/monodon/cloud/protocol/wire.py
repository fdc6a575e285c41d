"""HTTP as values: what the server hands in and gets back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import parse_qsl


@dataclass(frozen=True, kw_only=True)
class WireRequest:
    """The head of a request; paths and queries as they came, percent-encoded; header names in lower case."""

    method: str
    raw_path: str
    raw_query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def query(self) -> tuple[tuple[str, str], ...]:
        """Names and values of the query string, decoded, in order; ``?delete`` has the value ""."""
        return tuple(parse_qsl(self.raw_query, keep_blank_values=True, encoding="utf-8", errors="replace"))

    @cached_property
    def query_names(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.query)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBody:
    """A part of a file, sent without being read into memory at once."""

    path: Path
    offset: int = 0
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WireResponse:
    """A response; ``content-length`` is added by the server."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | FileBody = b""

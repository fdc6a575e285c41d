"""JSON pointers, RFC 6901, as the device reads them in variables."""

import re
from collections.abc import Mapping, Sequence

from monodon.core.json import Json
from monodon.errors import DeploymentError


class Missing:
    """What a pointer finds where nothing is; told apart from null."""


MISSING = Missing()


class NoPointer(DeploymentError):
    """A text that is no pointer: AWS's device did not foresee that, and reports no detailed status (I4)."""


def look_up_pointer(document: Json, pointer: str) -> Json | Missing:
    """Return what an RFC 6901 pointer names, or MISSING; ``-`` never names anything (I6).

    Raises:
        NoPointer: the pointer is not empty and does not start with ``/``.
    """
    if not pointer:
        return document
    if not pointer.startswith("/"):
        raise NoPointer(
            f"{{configuration:{pointer}}} is no JSON pointer",
            codes=("DEPLOYMENT_FAILURE",),
            hint=f"write {{configuration:/{pointer}}}",
        )
    for part in pointer[1:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, Mapping) and key in document:
            document = document[key]
        elif isinstance(document, Sequence) and not isinstance(document, str) and _is_index(key, document):
            document = document[int(key)]
        else:
            return MISSING
    return document


def _is_index(key: str, items: Sequence[Json]) -> bool:
    return re.fullmatch(r"0|[1-9]\d{0,8}", key, re.ASCII) is not None and int(key) < len(items)

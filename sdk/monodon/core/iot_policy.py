"""IoT policies: what a certificate may do at connect, publish, subscribe and receive. Pure; IAM policies read alike.

Source: AWS IoT Core developer guide, "AWS IoT Core policies" and "Thing policy variables".
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from monodon.core.json import Json, read_json

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
#: ``${*}``, ``${?}`` and ``${$}`` stand for the characters themselves.
_LITERALS = {"*": "*", "?": "?", "$": "$"}


class PolicyError(ValueError):
    """The text is not an IoT policy; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement; resources and conditions still hold their variables."""

    allows: bool
    actions: tuple[str, ...]
    not_actions: tuple[str, ...] | None
    resources: tuple[str, ...]
    not_resources: tuple[str, ...] | None
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...]


Policy = tuple[Statement, ...]


@lru_cache(maxsize=512)
def read_policy(text: str) -> Policy:
    """Return the statements of a policy document.

    Raises:
        PolicyError: it is not JSON, or not a policy.
    """
    try:
        document = read_json(text)
    except ValueError as error:
        raise PolicyError(f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise PolicyError("not a JSON object")
    if document.get("Version", "2012-10-17") not in ("2012-10-17", "2008-10-17"):
        raise PolicyError("Version must be 2012-10-17")
    statements = document.get("Statement")
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise PolicyError("Statement must be a list of at least one")
    return tuple(_statement(entry) for entry in statements)


def allowed(policies: Iterable[Policy], action: str, resource: str, variables: Mapping[str, str]) -> bool:
    """Whether some statement allows and none denies.

    Args:
        action: ``iot:Connect``, ``iot:Publish``, …
        resource: the ARN of the client, topic or topic filter.
        variables: what is known of the connection, e.g. ``iot:Connection.Thing.ThingName``. A statement that names an
            unknown one does not apply.
    """
    permitted = False
    for policy in policies:
        for statement in policy:
            if not _applies(statement, action, resource, variables):
                continue
            if not statement.allows:
                return False
            permitted = True
    return permitted


def _statement(entry: Json) -> Statement:
    if not isinstance(entry, dict) or entry.get("Effect") not in ("Allow", "Deny"):
        raise PolicyError("a statement needs Effect: Allow or Deny")
    if ("Action" in entry) == ("NotAction" in entry):
        raise PolicyError("a statement needs either Action or NotAction")
    if ("Resource" in entry) == ("NotResource" in entry):
        raise PolicyError("a statement needs either Resource or NotResource")
    return Statement(
        allows=entry["Effect"] == "Allow",
        actions=_texts(entry.get("Action", []), "Action"),
        not_actions=_texts(entry["NotAction"], "NotAction") if "NotAction" in entry else None,
        resources=_texts(entry.get("Resource", []), "Resource"),
        not_resources=_texts(entry["NotResource"], "NotResource") if "NotResource" in entry else None,
        conditions=tuple(_conditions(entry.get("Condition", {}))),
    )


def _conditions(block: Json) -> Iterable[tuple[str, str, tuple[str, ...]]]:
    if not isinstance(block, dict):
        raise PolicyError("Condition must be an object")
    for operator, keys in block.items():
        if not isinstance(keys, dict):
            raise PolicyError(f"Condition {operator} must be an object")
        for key, wanted in keys.items():
            yield operator, key, _texts(wanted, f"Condition {operator}")


def _texts(value: Json, name: str) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str | bool) for text in values):
        raise PolicyError(f"{name} must be a string or a list of strings")
    return tuple(str(text).lower() if isinstance(text, bool) else text for text in values)


def _applies(statement: Statement, action: str, resource: str, variables: Mapping[str, str]) -> bool:
    if statement.not_actions is not None:
        if any(_like(pattern.lower(), action.lower()) for pattern in statement.not_actions):
            return False
    elif not any(_like(pattern.lower(), action.lower()) for pattern in statement.actions):
        return False
    if statement.not_resources is not None:
        if _fits(statement.not_resources, resource, variables):
            return False
    elif not _fits(statement.resources, resource, variables):
        return False
    return all(_holds(condition, variables, statement.allows) for condition in statement.conditions)


def _fits(patterns: Sequence[str], resource: str, variables: Mapping[str, str]) -> bool:
    return any(
        _covers(pattern, resource, variables) for pattern in patterns if _names(pattern) <= variables.keys() | _LITERALS
    )


@lru_cache(maxsize=4096)
def _names(pattern: str) -> frozenset[str]:
    """The variables in a pattern."""
    return frozenset(_VARIABLE.findall(pattern))


def _covers(pattern: str, resource: str, variables: Mapping[str, str]) -> bool:
    """Whether a pattern covers a resource; the values of variables have no wildcards.

    Each thing has patterns of its own through its variables: they are compared piece by piece, never compiled.
    """
    parts = _parts(pattern)
    if "?" in parts:
        return _compiled(parts, variables).fullmatch(resource) is not None
    pieces = [""]
    for part in parts:
        if part == "*":
            pieces.append("")
        else:
            pieces[-1] += _value(part, variables)
    if len(pieces) == 1:
        return resource == pieces[0]
    first, last = pieces[0], pieces[-1]
    at, end = len(first), len(resource) - len(last)
    if end < at or not resource.startswith(first) or not resource.endswith(last):
        return False
    for piece in pieces[1:-1]:
        found = resource.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


@lru_cache(maxsize=4096)
def _parts(pattern: str) -> tuple[str, ...]:
    """Texts (with ``=`` before them), variables (``${name}``) and wildcards of a pattern."""
    texts = re.split(r"(\$\{[^}]*\}|\*|\?)", pattern)
    return tuple(text if text in ("*", "?") or _VARIABLE.fullmatch(text) else f"={text}" for text in texts if text)


def _value(part: str, variables: Mapping[str, str]) -> str:
    if part.startswith("="):
        return part[1:]
    name = part[2:-1]
    return _LITERALS.get(name) or variables[name]


def _compiled(parts: Sequence[str], variables: Mapping[str, str]) -> re.Pattern[str]:
    wild = {"*": ".*", "?": "."}
    return re.compile("".join(wild.get(part) or re.escape(_value(part, variables)) for part in parts), re.DOTALL)


def _wildcards(text: str) -> str:
    return "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in text)


@lru_cache(maxsize=1024)
def _like(pattern: str, text: str) -> bool:
    return re.fullmatch(_wildcards(pattern), text, re.DOTALL) is not None


_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "Bool": lambda have, want: have.lower() == want.lower(),
    "StringEquals": lambda have, want: have == want,
    "StringEqualsIgnoreCase": lambda have, want: have.lower() == want.lower(),
    "StringLike": lambda have, want: _like(want, have),
    "StringNotEquals": lambda have, want: have == want,
    "StringNotLike": lambda have, want: _like(want, have),
}


def _holds(condition: tuple[str, str, tuple[str, ...]], variables: Mapping[str, str], allows: bool) -> bool:
    """Whether a condition holds; one that is not understood makes an Allow fail and a Deny apply."""
    operator, key, wanted = condition
    name = operator.removeprefix("ForAnyValue:").removeprefix("ForAllValues:").removesuffix("IfExists")
    compare = _OPERATORS.get(name)
    if compare is None:
        return not allows
    have = variables.get(key)
    if have is None:
        return operator.endswith("IfExists") or "Not" in name
    found = any(compare(have, want) for want in wanted)
    return not found if "Not" in name else found

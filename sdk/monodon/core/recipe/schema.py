"""The JSON Schema (draft 2020-12) of a recipe, written from the reader's own table of keys, for editors.

A schema knows nothing of key case, versions or requirements beyond their outline: what it accepts the reader may still
refuse. What it refuses of a recipe in the documented spelling, the reader refuses, too, or AWS does.
"""

from collections.abc import Mapping
from typing import TypeAlias

from monodon.core.json import Json
from monodon.core.recipe.keys import SHAPES, STEPS, Choice, Free, Key, Kind, ListOf, MapOf, Object, Text

URI = "https://json-schema.org/draft/2020-12/schema"
_Schema: TypeAlias = dict[str, Json]
#: Any scalar will do: a device takes its text.
_SCALAR: _Schema = {"type": ["string", "number", "boolean", "null"]}
_PATTERNS: Mapping[Text, str] = {
    Text.NAME: r"^(?:[A-Za-z0-9._-]{1,128}|\{COMPONENT_NAME\})$",
    Text.VERSION: (
        r"^(?:\d{1,6}\.\d{1,6}\.\d{1,6}(?:[-+][0-9A-Za-z.+-]+)?"
        r"|NEXT_PATCH|COMPONENT_VERSION|\{COMPONENT_VERSION\})$"
    ),
    Text.REQUIREMENT: r"^[^,\[\]]*$",
    Text.URI: r"^[^\s<>]+$",
}
_STEP_DESCRIPTIONS: Mapping[str, str] = {
    "Bootstrap": "Before the new set of components starts; exit 100 restarts the nucleus, 101 the device.",
    "Install": "At every launch of the nucleus, and when the component is new; 120 seconds by default.",
    "Startup": "Has to end, or to report RUNNING over IPC, in 120 seconds by default.",
    "Run": "The program itself; the component is RUNNING as soon as it exists.",
    "Shutdown": "When the component stops; 15 seconds by default.",
    "Recover": "After an error, before the next try; 60 seconds by default.",
    "Uninstall": "When the component leaves the device; 120 seconds by default.",
}


def schema() -> _Schema:
    """Return the schema; of keys it knows the documented spelling alone, for completion."""
    definitions = {name: _object(name) for name in SHAPES if name != "Recipe"}
    definitions |= {"Lifecycle": _lifecycle(), "Step": _step()}
    return {
        "$schema": URI,
        "$id": "https://monodon.dev/schemas/recipe-2020-01-25.json",
        "title": "AWS IoT Greengrass component recipe, format 2020-01-25",
        **_object("Recipe"),
        "$defs": definitions,
    }


def _object(shape: str) -> _Schema:
    keys = SHAPES[shape]
    return {
        "type": "object",
        "properties": {key.name: _property(key) for key in keys},
        "required": [key.name for key in keys if key.is_required],
    }


def _property(key: Key) -> _Schema:
    if key.name == "Lifecycle":
        return {"description": key.description, "anyOf": [{"$ref": "#/$defs/Lifecycle"}, {"type": "null"}]}
    inner = _kind(key.kind)
    if not key.is_required:
        inner = _or_null(inner)
    return {"description": key.description, **inner}


def _kind(kind: Kind) -> _Schema:
    if isinstance(kind, Text):
        pattern = _PATTERNS.get(kind)
        return {"type": "string", "pattern": pattern} if pattern else _SCALAR
    if isinstance(kind, Choice):
        return {"anyOf": [{"enum": list(kind.values)}, {"type": "string", "pattern": _any_case(kind.values)}]}
    if isinstance(kind, Object):
        return {"$ref": f"#/$defs/{kind.shape}"}
    if isinstance(kind, ListOf):
        item = _kind(kind.item)
        return {"type": "array", "items": {"type": ["string", "number", "boolean"]} if item is _SCALAR else item}
    if isinstance(kind, MapOf):
        return {"type": "object", "additionalProperties": _kind(kind.item)}
    assert isinstance(kind, Free)
    return {"type": "object"}


def _or_null(inner: _Schema) -> _Schema:
    return inner if inner is _SCALAR else {"anyOf": [inner, {"type": "null"}]}


def _any_case(words: tuple[str, ...]) -> str:
    """Return a pattern for the words in any case; JSON Schema has no flag for it."""

    def letters(word: str) -> str:
        return "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else (f"\\{c}" if c in ".-" else c) for c in word)

    return f"^(?:{'|'.join(letters(word) for word in words)})$"


def _lifecycle() -> _Schema:
    steps: _Schema = {
        name: {
            "description": _STEP_DESCRIPTIONS[name],
            "anyOf": [{"$ref": "#/$defs/Step"}, {"type": ["string", "null"]}],
        }
        for name in STEPS
    }
    setenv = {"description": "Environment variables of every step.", "type": "object"}
    return {"type": "object", "properties": {**steps, "Setenv": setenv}}


def _step() -> _Schema:
    return {
        "type": "object",
        "properties": {
            "Script": {"description": "What to run, with sh -c."},
            "RequiresPrivilege": {"description": "Run as root."},
            "Skipif": {"description": "'exists <path>' or 'onpath <program>'; '!' in front negates."},
            "Timeout": {"description": "Whole seconds."},
            "Setenv": {"description": "Environment variables of this step."},
            "BootstrapOnRollback": {"description": "Run Bootstrap again when a deployment is rolled back."},
        },
    }

"""Configuration → the author's settings, and the author's defaults → ``DefaultConfiguration``."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from monodon.component.values import decode, describe, encode, field_types, is_required
from monodon.core.json import Json
from monodon.errors import ConfigurationError

S = TypeVar("S")

#: Keys of a component's configuration that are the nucleus's, not the component's.
RESERVED = frozenset({"accessControl"})


def read_settings(settings: type[S], configuration: Mapping[str, Json]) -> S:
    """Return the configuration of a component as its settings; what it leaves out has the default.

    Raises:
        ConfigurationError: a key that is unknown, missing or of another type; the message has them all.
        TypeError: a field of ``settings`` has a type that a configuration cannot hold.
    """
    _check_type(settings)
    value, misfits = decode(settings, configuration, ignore=RESERVED)
    if misfits:
        found = "; ".join(str(misfit) for misfit in misfits)
        unknown = [misfit.path for misfit in misfits if misfit.is_unknown]
        hint = "correct the configuration in a new deployment"
        if unknown:
            pointers = ", ".join(f'"/{path.replace(".", "/")}"' for path in unknown)
            hint += f"; a deployment removes a key left by an earlier version with reset: [{pointers}]"
        raise ConfigurationError(f"configuration does not fit {settings.__name__}: {found}", hint=hint)
    assert isinstance(value, settings)
    return value


def _check_type(settings: type[Any]) -> None:
    if not (isinstance(settings, type) and dataclasses.is_dataclass(settings)):
        raise TypeError(f"settings are a dataclass, not {settings!r}")


def default_configuration(settings: type[Any] | Any) -> dict[str, Json]:
    """Return the defaults of a settings class (or the values of an instance) as a recipe's ``DefaultConfiguration``.

    A field without a default is left out: then a deployment has to give it.
    """
    if not isinstance(settings, type):
        values: dict[str, Json] = encode(settings)
        return values
    _check_type(settings)
    defaults: dict[str, Json] = {}
    for field in dataclasses.fields(settings):
        if is_required(field) or not field.init:
            continue
        value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        defaults[field.name] = encode(value, field.name)
    return defaults


def merge(configuration: Mapping[str, Json], changes: Mapping[str, Json]) -> dict[str, Json]:
    """Return ``configuration`` with ``changes`` merged in: objects key by key, all else replaced."""
    merged = dict(configuration)
    for key, value in changes.items():
        before = merged.get(key)
        merged[key] = merge(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged


def override(settings: type[Any], assignment: str) -> dict[str, Json]:
    """Return what ``key=value`` of a command line changes; ``a.b=1`` reaches into an object.

    The value is JSON where that fits the setting, else the text as it stands, so text needs no quotes.

    Raises:
        ConfigurationError: no ``=``.
    """
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise ConfigurationError(f"{assignment!r} is not key=value", hint="for example --set interval_s=0.5")
    hint: Any = settings
    for name in key.split("."):
        hint = field_types(hint).get(name, Any) if dataclasses.is_dataclass(hint) else Any
    value: Json = _parse(hint, text)
    for name in reversed(key.split(".")):
        value = {name: value}
    changes: dict[str, Json] = value
    return changes


def _parse(hint: Any, text: str) -> Json:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    _, misfits = decode(hint, value)
    _, misfits_of_text = decode(hint, text)
    return text if misfits and not misfits_of_text else value


def table(settings: type[Any]) -> list[tuple[str, str, str]]:
    """Return name, expected type in words, and default as JSON of each setting ("" if it must be given)."""
    defaults = default_configuration(settings)
    hints = field_types(settings)
    return [
        (field.name, describe(hints[field.name]), json.dumps(defaults[field.name]) if field.name in defaults else "")
        for field in dataclasses.fields(settings)
        if field.init
    ]

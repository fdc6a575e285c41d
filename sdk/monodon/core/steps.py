"""The steps of a component's lifecycle as a recipe writes them, read with the device's coercions.

A step is a script, or a map of Script, Timeout, Skipif, RequiresPrivilege and Setenv. Step names and the keys
inside a step match without regard to case; the operators of Skipif and the names of variables do not.

Source: Greengrass nucleus, ``lifecyclemanager/GenericExternalService.java``, ``util/Coerce.java``.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from monodon.core.json import Json
from monodon.errors import ConfigurationError

#: Seconds until a step counts as hung; None waits for ever.
DEFAULT_TIMEOUTS_S: Mapping[str, int | None] = {
    "bootstrap": 120,
    "install": 120,
    "startup": 120,
    "run": None,
    "shutdown": 15,
    "recover": 60,
    "uninstall": 120,
}

#: Seconds after which an error of a state is forgotten.
ERROR_RESET_S = 3600

_SKIPIF = re.compile(r"(!?)(exists|onpath)\s+(\S.*)", re.DOTALL)
_NUMBER = re.compile(r"([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)(?:\.[0-9]*)?")
_TRUE = frozenset({"true", "yes", "on", "t", "y", "Y"})


class SkipifKind(StrEnum):
    """What a Skipif asks."""

    EXISTS = "exists"
    ONPATH = "onpath"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipif:
    """Skip the step when ``argument`` exists or is a program on PATH; the other way round when negated."""

    kind: SkipifKind
    argument: str
    is_negated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step to execute. ``key`` is its place in the lifecycle as logs name it, such as ``Run.Script``."""

    name: str
    key: str
    script: str
    requires_privilege: bool = False
    skipif: Skipif | None = None
    timeout_s: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    is_run_on_rollback: bool = False


def read_step(lifecycle: Mapping[str, Json], name: str) -> Step | None:
    """Return the step ``name`` of a lifecycle, or None where it is absent or its script empty.

    Args:
        name: a key of `DEFAULT_TIMEOUTS_S`.

    Raises:
        ConfigurationError: a map without Script, a Skipif of another form, or a step that is a list. The
            component fails with ``<STEP>_CONFIG_NOT_VALID``.
    """
    spelling, value = _lookup(lifecycle, name)
    if value is None:
        return None
    if not isinstance(value, Mapping):
        script = _script(value, spelling)
        return Step(name=name, key=spelling, script=script, timeout_s=DEFAULT_TIMEOUTS_S[name]) if script else None
    script_key, script_value = _lookup(value, "script")
    if script_value is None:
        raise ConfigurationError(f"step {spelling} has no Script", hint="give it a Script, or write the script itself")
    script = _script(script_value, f"{spelling}.{script_key}")
    timeout = _lookup(value, "timeout")[1]
    if not script:
        return None
    return Step(
        name=name,
        key=f"{spelling}.{script_key}",
        script=script,
        requires_privilege=coerce_boolean(_lookup(value, "requiresprivilege")[1]),
        skipif=_skipif(_lookup(value, "skipif")[1], spelling),
        timeout_s=DEFAULT_TIMEOUTS_S[name] if timeout is None else max(0, coerce_integer(timeout)),
        environment=_environment(_lookup(value, "setenv")[1], f"{spelling}.Setenv"),
        is_run_on_rollback=coerce_boolean(_lookup(value, "bootstraponrollback")[1]),
    )


def read_environment(lifecycle: Mapping[str, Json]) -> dict[str, str]:
    """Return the variables that the lifecycle's own Setenv gives to every step.

    Raises:
        ConfigurationError: Setenv is no map.
    """
    return _environment(_lookup(lifecycle, "setenv")[1], "Setenv")


def read_error_reset_s(lifecycle: Mapping[str, Json]) -> int:
    """Return after how many seconds an error is forgotten: the undocumented ``errorResetTime``, or an hour."""
    value = _lookup(lifecycle, "errorresettime")[1]
    return ERROR_RESET_S if value is None else max(0, coerce_integer(value))


def coerce_integer(value: Json) -> int:
    """Return a whole number as the device reads it: a leading ``0`` in text is octal, ``0x`` hexadecimal, fractions
    are cut, and text that is no number is 0.
    """
    if isinstance(value, bool | int | float):
        return int(value)
    match = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return 0
    sign, digits = match.groups()
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits.startswith("0") else 10
    try:
        number = int(digits, base)
    except ValueError:
        return 0
    return -number if sign == "-" else number


def coerce_boolean(value: Json) -> bool:
    """Return a truth value as the device reads it: true, a number but 0, or one of ``true yes on t y Y``."""
    if isinstance(value, str):
        return value in _TRUE
    return isinstance(value, bool | int | float) and value != 0


def _lookup(mapping: Mapping[str, Json], key: str) -> tuple[str, Json]:
    """The spelling and value of ``key`` in any case: the first spelling and the last value, as a store merges them."""
    found = [(name, value) for name, value in mapping.items() if name.lower() == key]
    return (found[0][0], found[-1][1]) if found else (key, None)


def _script(value: Json, where: str) -> str:
    if isinstance(value, list | dict):
        raise ConfigurationError(f"step {where} must be a script, not a {type(value).__name__}")
    return _text(value)


def _skipif(value: Json, where: str) -> Skipif | None:
    if value is None:
        return None
    match = _SKIPIF.fullmatch(_text(value).strip())
    if match is None:
        raise ConfigurationError(
            f"Skipif of step {where} is {_text(value)!r}",
            hint="write `exists PATH`, `onpath PROGRAM`, or either after !",
        )
    negation, kind, argument = match.groups()
    return Skipif(kind=SkipifKind(kind), argument=argument, is_negated=bool(negation))


def _environment(value: Json, where: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{where} must be a map of variables, not {_text(value)!r}")
    return {name: _text(text) for name, text in value.items()}


def _text(value: Json) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)

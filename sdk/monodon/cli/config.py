"""``monodon config``: why a component is configured as it is."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from monodon.cli.root import find_root, root_option

if TYPE_CHECKING:
    from monodon.core.json import Json
    from monodon.core.origins import Attempt, Origin
    from monodon.core.pointers import Missing
    from monodon.nucleus.explanation import Key

_INDENT = " " * 4


@click.group()
def command() -> None:
    """Explain the configuration of a device's components; its nucleus need not be running."""


@command.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@root_option
def show(name: str, as_json: bool, root: Path | None) -> None:
    """Show every key of component NAME: its value, who set it and when, and which merges lost to it."""
    from monodon.nucleus.explanation import explain

    found = explain(find_root(root), name)
    keys = [key for key in found.keys if not _is_missing(key.value)]
    if as_json:
        document = {"component": found.name, "version": str(found.version), "keys": [_document(key) for key in keys]}
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    click.echo(f"{found.name} {found.version}" + ("" if keys else ": no configuration"))
    for key in keys:
        click.echo(f"{key.pointer}: {click.style(_text(key.value), bold=True)}")
        click.echo(_INDENT + _set_by(key))
        for attempt in key.origin.lost if key.origin else ():
            click.echo(_INDENT + click.style(_lost(attempt, key), fg="yellow"))


@command.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@root_option
def diff(name: str, as_json: bool, root: Path | None) -> None:
    """Show the keys of component NAME that are not (+) as the recipe of its version has them (-), and why."""
    from monodon.nucleus.explanation import explain

    found = explain(find_root(root), name)
    keys = [key for key in found.keys if not key.is_default]
    if as_json:
        click.echo(json.dumps([_document(key) for key in keys], ensure_ascii=False))
        return
    click.echo(f"{found.name} {found.version}" + ("" if keys else ": all as its recipe says"))
    for key in keys:
        click.echo(key.pointer)
        if not _is_missing(key.default):
            click.echo(click.style(f"  - {_text(key.default)}", fg="red"))
        if not _is_missing(key.value):
            click.echo(click.style(f"  + {_text(key.value)}", fg="green"))
            click.echo(_INDENT + _set_by(key))


def _set_by(key: "Key") -> str:
    if key.origin is None:
        return f"set {_moment(key.at_ms)}, before origins were kept"
    return f"set by {_who(key.origin)}, {_moment(key.origin.at_ms)}"


def _who(one: "Origin | Attempt") -> str:
    from monodon.core.origins import Setter

    words = {
        Setter.DEFAULT: f"the default of {one.of}",
        Setter.DEPLOYMENT: f"deployment {one.of}",
        Setter.COMPONENT: "the component itself",
    }
    return words[one.setter]


def _lost(attempt: "Attempt", key: "Key") -> str:
    from monodon.core.origins import Setter

    what = f"lost to it: {_who(attempt)}, {_moment(attempt.at_ms)}, with {_text(attempt.value)}"
    if key.origin is not None and key.origin.setter is Setter.DEFAULT:
        return f"{what}; a default replaces nothing that is there: reset {key.pointer} to have it"
    return f"{what}; older than the value's own time, {_moment(key.at_ms)}"


def _document(key: "Key") -> "dict[str, Json]":
    document: dict[str, Json] = {"pointer": key.pointer}
    if not _is_missing(key.value):
        origin = key.origin
        document |= {
            "value": key.value,
            "time": _moment(key.at_ms),
            "origin": None if origin is None else _attempt(origin),
            "lost": [{**_attempt(one), "value": one.value} for one in (origin.lost if origin else ())],
        }
    if not _is_missing(key.default):
        document["default"] = key.default
    return document


def _attempt(one: "Origin | Attempt") -> "dict[str, Json]":
    return {"kind": str(one.setter), "of": one.of or None, "time": _moment(one.at_ms)}


def _is_missing(value: "Json | Missing") -> bool:
    from monodon.core.pointers import MISSING

    return value is MISSING


def _text(value: "Json | Missing") -> str:
    return json.dumps(value, ensure_ascii=False)


def _moment(at_ms: int) -> str:
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # a component may date its writes as it likes
        return f"{at_ms} ms"

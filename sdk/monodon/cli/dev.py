"""``monodon dev``: try things on this machine as a device would have them."""

import json
from pathlib import Path
from typing import Any, NoReturn

import click

from monodon.errors import ConfigurationError


@click.group()
def command() -> None:
    """Try things on this machine as a device would have them."""


@command.command(name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--name", default="com.example.Dev", show_default=True, help="The component that COMMAND is.")
@click.option(
    "--access-control",
    metavar="all|FILE",
    help="What it may do over IPC: everything (the default), or the accessControl block in a JSON or YAML file.",
)
@click.option("--config", default="{}", metavar="JSON|FILE", help="The component's configuration.")
@click.option("--thing", default="local", show_default=True, help="The thing name of the device.")
@click.argument("arguments", metavar="COMMAND [ARG]...", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, access_control: str | None, config: str, thing: str, arguments: tuple[str, ...]) -> NoReturn:
    """Run COMMAND as a component: with a nucleus of its own, its socket and token, and every variable it expects.

    Any program that uses AWS's Greengrass IPC runs from here as it is. Its exit code is passed on.
    """
    from monodon.dev.execute import allow_everything, execute

    configuration = _read_mapping("--config", config)
    if access_control not in (None, "all"):
        block = _read_mapping("--access-control", str(access_control))
        configuration["accessControl"] = block.get("accessControl", block)
    elif access_control == "all" or "accessControl" not in configuration:
        configuration["accessControl"] = allow_everything()
    raise SystemExit(execute(arguments, name=name, configuration=configuration, thing=thing))


def _read_mapping(option: str, text: str) -> dict[str, Any]:
    """Return the JSON object that ``text`` is, or that the JSON or YAML file it names holds."""
    try:
        if text.lstrip().startswith("{"):
            value = json.loads(text)
        else:
            import yaml

            value = yaml.safe_load(Path(text).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{option} {text}: {error.strerror}", hint="give a JSON object or a file") from error
    except ValueError as error:
        raise ConfigurationError(f"{option} {text}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{option} {text}: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise ConfigurationError(f"{option} {text}: not an object")
    return value

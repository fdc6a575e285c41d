"""``monodon dev``: try things on this machine as a device would have them."""

from pathlib import Path
from typing import NoReturn

import click

from monodon.cli.mappings import read_mapping
from monodon.cli.root import DEVICES
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

    configuration = read_mapping("--config", config)
    if access_control not in (None, "all"):
        block = read_mapping("--access-control", str(access_control))
        configuration["accessControl"] = block.get("accessControl", block)
    elif access_control == "all" or "accessControl" not in configuration:
        configuration["accessControl"] = allow_everything()
    raise SystemExit(execute(arguments, name=name, configuration=configuration, thing=thing))


@command.command()
@click.argument("folders", metavar="FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--watch", is_flag=True, help="Deploy what a saved file touches, and nothing else.")
@click.option(
    "--config", metavar="JSON|FILE", help='Configuration by component: {"com.example.Hello": {"whom": "you"}}'
)
@click.option("--thing", default="dev", show_default=True, help="The thing name of the device.")
@click.option("--root", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="The device's folder.  [default: .monodon/devices/THING]")  # fmt: skip
@click.option("--keep-root", is_flag=True, help="Go on with the folder of the run before, and leave it at the end.")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), default=Path(".monodon/cache"),
              show_default=True, help="Where artifacts are built.")  # fmt: skip
def run(
    folders: tuple[Path, ...],
    watch: bool,
    config: str | None,
    thing: str,
    root: Path | None,
    keep_root: bool,
    cache: Path,
) -> None:
    """Build the components of those FOLDERs and run them here, until Ctrl-C, as a device without a cloud would.

    Components that they depend on are taken along from the folders beside them. `python3` is the interpreter that runs
    this. From another terminal, `monodon component`, `logs`, `topic` and the others find the device by themselves.
    """
    from monodon.cli.news import Printer
    from monodon.dev.run import Order
    from monodon.dev.run import run as run_order

    configuration = {} if config is None else read_mapping("--config", config)
    if wrong := [name for name, values in configuration.items() if not isinstance(values, dict)]:
        raise ConfigurationError(f"--config: {wrong[0]} needs an object", hint='{"com.example.Hello": {"whom": "you"}}')
    order = Order(
        folders=folders,
        root=root or DEVICES / thing,
        cache=cache,
        thing=thing,
        configuration=configuration,
        watches=watch,
        keeps_root=keep_root,
    )
    run_order(order, Printer())

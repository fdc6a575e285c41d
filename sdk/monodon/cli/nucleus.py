"""``monodon nucleus``: run the embedded nucleus of a device."""

import gc
from pathlib import Path

import click


@click.group()
def command() -> None:
    """Run the embedded nucleus of a device."""


@command.command()
@click.option("--root", type=click.Path(path_type=Path, file_okay=False), required=True, help="The device's folder.")
@click.option(
    "--init-config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="AWS's config.yaml, copied into the root at its first start.",
)
@click.option("--thing", help="The thing name of a device without a cloud.")
@click.option(
    "--on-reboot",
    metavar="COMMAND",
    help="What reboots this device when a Bootstrap step asks for it, such as `systemctl reboot`; else the nucleus "
    "alone restarts.",
)
@click.option("--quiet", is_flag=True, help="Log into the root's logs/greengrass.log alone, not on stderr too.")
def run(root: Path, init_config: Path | None, thing: str | None, on_reboot: str | None, quiet: bool) -> None:
    """Run the nucleus until SIGTERM, SIGINT or SIGHUP; ready.json in its folder and one line on stdout say that it is
    ready.
    """
    gc.disable()  # loading makes many objects and drops none: collecting meanwhile costs a tenth of the start
    from monodon.nucleus.run import run

    gc.freeze()
    gc.enable()
    run(root, init_config=init_config, thing=thing, is_quiet=quiet, announce=click.echo, reboot=on_reboot)

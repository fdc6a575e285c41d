"""The command line: ``monodon <noun> <verb>``; one module a noun, each loaded when it is named."""

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from monodon import __version__
from monodon.errors import MonodonError

#: noun → (module that has the Click group ``command``, one line of help).
NOUNS = {
    "cloud": ("monodon.cli.cloud", "Run the embedded cloud."),
    "nucleus": ("monodon.cli.nucleus", "Run the embedded nucleus."),
    "recipe": ("monodon.cli.recipe", "Check, show, format and explain recipes."),
    "component": ("monodon.cli.component", "Build and publish components; list, restart and stop those of a device."),
    "fleet": ("monodon.cli.fleet", "Provision, deploy to and watch a fleet."),
    "deployment": ("monodon.cli.deployment", "Deploy to a device without a cloud, and see how that goes."),
    "config": ("monodon.cli.config", "Explain how a device's component is configured, and why."),
    "logs": ("monodon.cli.logs", "Show what a device's components and its nucleus say."),
    "secret": ("monodon.cli.secret", "Put, list and remove a device's secrets."),
    "topic": ("monodon.cli.topic", "Watch, publish, record and replay a device's topics."),
    "ipc": ("monodon.cli.ipc", "Call any operation of a running nucleus."),
    "dev": ("monodon.cli.dev", "Try things on this machine as a device would have them."),
    "demo": ("monodon.cli.demo", "The whole loop on this machine: package, deploy, classify, keep."),
}


class Nouns(click.Group):
    """A group that imports a noun's module only when it is called or its own help is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(NOUNS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in NOUNS:
            return None
        command: click.Command = import_module(NOUNS[name][0]).command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in NOUNS.items()])


@click.group(cls=Nouns, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="monodon")
def monodon() -> None:
    """Greengrass components from a laptop to a fleet."""
    if os.environ.get("NO_COLOR"):
        click.get_current_context().color = False


def main() -> None:
    """Run the command line."""
    run(monodon)


def run(command: click.Command, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command (with the process's arguments, unless others are given) and exit.

    Codes: 0 done, 1 a MonodonError, 2 wrong usage (Click's own), 130 or 143 interrupted, or what the command chose.
    """
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        # Our commands return None; of one that ended by `context.exit`, Click returns the code instead of raising.
        code = command.main(arguments, standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except MonodonError as error:
        print_error(error)
        sys.exit(1)
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    sys.exit(code if type(code) is int else 0)


def _on_sigterm(number: int, frame: object) -> NoReturn:
    """End as after an error, so that every ``with`` cleans up."""
    raise SystemExit(128 + number)


def print_error(error: MonodonError) -> None:
    """Print an error and its hint on stderr, a line each."""
    click.echo(f"error: {error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)

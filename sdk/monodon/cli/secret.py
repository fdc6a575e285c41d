"""``monodon secret``: the secrets of a device, which its components read over IPC."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from monodon.cli.root import find_root, root_option
from monodon.errors import StateError

if TYPE_CHECKING:
    from monodon.nucleus.secrets import Secret, Secrets


@click.group()
def command() -> None:
    """Put, list and remove a device's secrets. Its nucleus need not run, and sees each change at once."""


def _secrets(root: Path | None) -> "Secrets":
    from monodon.nucleus.secrets import SECRETS_FOLDER, Secrets

    return Secrets(find_root(root) / SECRETS_FOLDER)


@command.command()
@click.argument("name")
@click.option("--file", "source", type=click.File("rb"), help="Take the value from a file; `-` is stdin, to its end.")
@click.option("--binary", is_flag=True, help="The value is bytes, not text.")
@click.option("--version", "version_id", metavar="ID", help="The version's id.  [default: a new UUID]")
@click.option("--label", "labels", multiple=True, help="A label of the version.  [default: AWSCURRENT]")
@click.option("--arn", help="The ARN by which policies name it, where AWS has it too.  [default: one of its own]")
@root_option
def put(
    name: str,
    source: BinaryIO | None,
    binary: bool,
    version_id: str | None,
    labels: tuple[str, ...],
    arn: str | None,
    root: Path | None,
) -> None:
    """Add a version to secret NAME, or make it: the value is asked for, or comes from --file.

    The version that was AWSCURRENT becomes AWSPREVIOUS. Prints the ARN, which a component's policy must name.
    """
    from monodon.nucleus.secrets import CURRENT

    secrets = _secrets(root)
    if source is not None:
        data = source.read()
    elif sys.stdin.isatty():
        data = click.prompt("Value", hide_input=True, confirmation_prompt=True, err=True).encode()
    else:
        raise click.UsageError("there is nobody to ask for the value; give --file FILE, or --file - for stdin")
    value = data if binary else _text(data)
    click.echo(secrets.put(name, value, version_id=version_id, stages=labels or (CURRENT,), arn=arn).arn)


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise StateError("the value is not UTF-8 text", hint="give --binary if it is not meant to be text") from None
    return text.removesuffix("\n")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a secret.")
@root_option
def list_(as_json: bool, root: Path | None) -> None:
    """List the secrets with their versions and labels; never their values."""
    secrets = _secrets(root)
    for name in secrets.names():
        secret = secrets.find(name)
        if secret is not None:  # not removed meanwhile
            click.echo(json.dumps(_document(secret)) if as_json else _lines(secret))


def _document(secret: "Secret") -> dict[str, object]:
    versions = [
        {"versionId": version_id, "labels": list(version.stages), "kind": _kind(version.value)}
        for version_id, version in secret.versions.items()
    ]
    return {"name": secret.name, "arn": secret.arn, "versions": versions}


def _lines(secret: "Secret") -> str:
    versions = [
        f"  {version_id}  {', '.join(version.stages)}  {_kind(version.value)}"
        for version_id, version in secret.versions.items()
    ]
    return "\n".join([f"{secret.name}  {secret.arn}", *versions])


def _kind(value: str | bytes) -> str:
    return "text" if isinstance(value, str) else "binary"


@command.command()
@click.argument("name")
@root_option
def remove(name: str, root: Path | None) -> None:
    """Forget secret NAME with all its versions."""
    if not _secrets(root).remove(name):
        raise StateError(f"there is no secret {name}", hint="`monodon secret list` shows those that there are")

"""``monodon component``: build a checkout's components and publish them; see and drive those that a device runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from monodon.cli.root import find_root, on_device, root_option
from monodon.errors import PublishError, StateError

if TYPE_CHECKING:
    from monodon.device.device import Device
    from monodon.publish import Package

_STYLES = {"BROKEN": "red", "ERRORED": "red", "RUNNING": "green", "FINISHED": "green"}


@click.group()
def command() -> None:
    """Build the components of a checkout and publish them; list, restart and stop those that a device runs."""


@command.command()
@click.argument("names", nargs=-1)
@click.option(
    "--checkout", type=click.Path(path_type=Path, exists=True), default=Path(), help="The folder above components/."
)
@click.option("--cache", type=click.Path(path_type=Path), default=Path(".monodon/cache"), show_default=True)
def build(names: tuple[str, ...], checkout: Path, cache: Path) -> None:
    """Build the artifacts of all components, or of those NAMED."""
    for package in _packages(checkout, cache, names):
        click.echo(package.label)
        for file in package.files:
            click.echo(f"  {file.path}  {file.path.stat().st_size} bytes  sha256 {file.sha256}")


@command.command()
@click.argument("names", nargs=-1)
@click.option(
    "--checkout", type=click.Path(path_type=Path, exists=True), default=Path(), help="The folder above components/."
)
@click.option("--cache", type=click.Path(path_type=Path), default=Path(".monodon/cache"), show_default=True)
@click.option("--bucket", help="For artifacts; must exist.  [default: monodon-<account>-<region>]")
def publish(names: tuple[str, ...], checkout: Path, cache: Path, bucket: str | None) -> None:
    """Publish all components, or those NAMED, to AWS or to the embedded cloud that AWS_ENDPOINT_URL names."""
    from monodon.fleet import Aws
    from monodon.publish import Registry
    from monodon.publish import publish as steps

    aws = Aws()
    registry = Registry(
        s3=aws.s3, greengrass=aws.greengrass, bucket=bucket or aws.bucket, region=aws.region, account=aws.account
    )
    for package in _packages(checkout, cache, names):
        for progress in steps(package, registry):
            click.echo(f"{progress.package}  {progress.step}  {progress.detail}".rstrip())


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="AWS's ComponentDetails, a JSON array.")
@root_option
def list_(as_json: bool, root: Path | None) -> None:
    """List the components that a device runs, with version and state."""

    async def show(device: "Device") -> None:
        found = sorted((await device.call("ListComponents")).get("components") or (), key=_name)
        if as_json:
            click.echo(json.dumps(found))
            return
        width = max((len(_name(one)) for one in found), default=0)
        for one in found:
            state = click.style(one["state"], fg=_STYLES.get(one["state"]))
            click.echo(f"{_name(one):<{width}}  {one['version']:<10}  {state}")

    on_device(root, show)


@command.command()
@click.argument("given", metavar="NAME", required=False)
@click.option("-n", "--name", "named", metavar="NAME", help="As greengrass-cli has it.")
@click.option("--json", "as_json", is_flag=True, help="AWS's ComponentDetails as JSON.")
@root_option
def details(given: str | None, named: str | None, as_json: bool, root: Path | None) -> None:
    """Show one component that a device runs: version, state (of a broken one, why), configuration."""
    name = given or named
    if name is None:
        raise click.UsageError("which component? Give NAME")
    from monodon.nucleus.log_reader import why

    async def show(device: "Device") -> None:
        found = (await device.call("GetComponentDetails", {"componentName": name}))["componentDetails"]
        if as_json:
            click.echo(json.dumps(found))
            return
        state = click.style(found["state"], fg=_STYLES.get(found["state"]))
        click.echo(f"{_name(found)} {found['version']}  {state}")
        if found["state"] in ("ERRORED", "BROKEN") and (reason := why(find_root(root) / "logs", name)):
            click.echo(click.style(f"  {reason.rstrip()}", fg="red"))
        click.echo(json.dumps(found.get("configuration") or {}, indent=2, ensure_ascii=False))

    on_device(root, show)


@command.command()
@click.argument("given", metavar="NAME...", nargs=-1)
@click.option("-n", "--names", "named", metavar="NAME[,NAME]...", help="As greengrass-cli has it.")
@root_option
def restart(given: tuple[str, ...], named: str | None, root: Path | None) -> None:
    """Restart components of a device; one that is BROKEN is installed again."""
    _ask_each(root, "RestartComponent", "restartStatus", "restarts", (*given, *_split(named)))


@command.command()
@click.argument("given", metavar="NAME...", nargs=-1)
@click.option("-n", "--names", "named", metavar="NAME[,NAME]...", help="As greengrass-cli has it.")
@root_option
def stop(given: tuple[str, ...], named: str | None, root: Path | None) -> None:
    """Stop components of a device, until they are restarted or deployed again."""
    _ask_each(root, "StopComponent", "stopStatus", "stops", (*given, *_split(named)))


def _ask_each(root: Path | None, operation: str, status: str, done: str, names: tuple[str, ...]) -> None:
    if not names:
        raise click.UsageError("which components? Give NAME")

    async def ask(device: "Device") -> None:
        for name in names:
            answer = await device.call(operation, {"componentName": name})
            if answer[status] != "SUCCEEDED":
                raise StateError(f"{name}: {answer.get('message') or answer[status]}")
            click.echo(f"{name}  {done}")

    on_device(root, ask)


def _name(details: dict[str, str]) -> str:
    return details["componentName"]


def _split(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",")) if names else ()


def _packages(checkout: Path, cache: Path, names: tuple[str, ...]) -> "Iterator[Package]":
    from monodon.authoring.project import find_components
    from monodon.dev.packages import package_of

    found = [(source, recipe) for source in find_components(checkout / "components") for recipe in source.recipes()]
    known = {str(recipe.name) for _, recipe in found}
    if unknown := sorted(set(names) - known):
        raise PublishError(
            f"no component {unknown[0]} in {checkout / 'components'}", hint=f"there are {', '.join(sorted(known))}"
        )
    for source, recipe in found:
        if not names or recipe.name in names:
            yield package_of(source, recipe, checkout=checkout, cache=cache)

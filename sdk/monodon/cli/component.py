"""``monodon component``: build a checkout's components, and publish them."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from monodon.errors import PublishError

if TYPE_CHECKING:
    from monodon.publish import Package


@click.group()
def command() -> None:
    """Build the components of a checkout, and publish them."""


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

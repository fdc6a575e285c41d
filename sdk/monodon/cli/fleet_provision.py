"""``monodon fleet provision``: things with their certificates, and what brings them to their devices."""

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import click

ROOTS = Path(".monodon/devices")


@click.command()
@click.argument("things", metavar="THING...", nargs=-1)
@click.option("--group", required=True, help="The thing group they join; made if missing.")
@click.option("--count", type=click.IntRange(1), help="So many things named PREFIX1, PREFIX2, …: THING is the prefix.")
@click.option("--root", type=click.Path(path_type=Path), help="The root folder of one thing, written here.")
@click.option(
    "--roots",
    type=click.Path(path_type=Path),
    help=f"Where the root folders of several go: ROOTS/THING.  [default: {ROOTS}]",
)
@click.option(
    "--root-ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What the device trusts.  [default: Amazon Root CA 1; with --cloud the embedded cloud's own]",
)
@click.option(
    "--cloud",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="An embedded cloud's folder, for its ports and its certificate authority.",
)
@click.option(
    "--own-policy", is_flag=True, help="An IoT policy for each thing, for devices with more than 50 MQTT subscriptions."
)
@click.option("--bundle", type=click.Choice(["java", "lite"]), help="Also write an install bundle for this nucleus.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The bundle's file; of several things their folder.  [default: THING.tar.gz]",
)
def provision(
    things: tuple[str, ...],
    group: str,
    count: int | None,
    root: Path | None,
    roots: Path | None,
    root_ca: Path | None,
    cloud: Path | None,
    own_policy: bool,
    bundle: str | None,
    output: Path | None,
) -> None:
    """Make each THING: certificate, IoT policy, role alias, group, artifact bucket, root folder.

    What is there is left as it is, so a run that was interrupted is simply run again. With --bundle, also a tar.gz
    that turns a bare machine into the device with one command: sudo ./install.sh.
    """
    from monodon.fleet.aws import Aws
    from monodon.fleet.credentials import amazon_root_ca
    from monodon.fleet.provisioning import Shared, cloud_endpoints, numbered, provision_fleet

    names = _names(things, numbered(things[0], count) if count and len(things) == 1 else None, count)
    if root is not None and (roots is not None or len(names) > 1):
        raise click.UsageError("--root is for one thing; several have --roots")
    if output is not None and bundle is None:
        raise click.UsageError("--output names a bundle: say --bundle java or --bundle lite")
    folders = {name: root or (roots or ROOTS) / name for name in names}
    ready = json.loads((cloud / "ready.json").read_text()) if cloud else None
    trusted = root_ca or (Path(ready["ca_file"]) if ready else amazon_root_ca())
    endpoints = cloud_endpoints(ready) if ready else None
    shared = Shared(own_policies=own_policy)
    for step in provision_fleet(
        Aws(), things=names, group=group, roots=folders, root_ca=trusted, endpoints=endpoints, shared=shared
    ):
        click.echo(f"{'made' if step.made else 'found'} {step.what}")
    if bundle is not None:
        _write_bundles(bundle, folders, output)
    if cloud is None and _is_here(os.environ.get("AWS_ENDPOINT_URL", "")):
        click.echo("warning: AWS_ENDPOINT_URL is of this machine, and these devices will look for AWS", err=True)
        click.echo("hint: for the embedded cloud, run it again with --cloud .monodon/cloud, its folder", err=True)


def _is_here(url: str) -> bool:
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


def _names(things: tuple[str, ...], counted: list[str] | None, count: int | None) -> list[str]:
    if not things:
        raise click.UsageError("Missing argument 'THING...'.")
    if count and counted is None:
        raise click.UsageError("--count takes one THING, the prefix of all names")
    return counted or list(dict.fromkeys(things))


def _write_bundles(kind: str, folders: dict[str, Path], output: Path | None) -> None:
    from monodon.fleet.bundle import write_bundle
    from monodon.fleet.nucleus_config import NucleusKind

    for name, folder in folders.items():
        file = Path(f"{name.replace(':', '_')}.tar.gz")
        if output is not None:
            file = output if len(folders) == 1 and not output.is_dir() else output / file
        write_bundle(NucleusKind(kind), folder, file)
        click.echo(f"made bundle {file}: a private key is in it")

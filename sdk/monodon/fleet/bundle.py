"""What turns a bare machine into a core device: configuration, certificate, unit and one command, as a tar.gz.

::

    drone-1/install.sh           sudo ./install.sh                 0755
    drone-1/config.yaml          for this thing and its account    0600
    drone-1/certs/               certificate, key (0600), whom to trust
    drone-1/greengrass.service   of AWS's Java nucleus; nucleus lite brings its own units
    drone-1/doctor.pyz           python3 doctor.pyz: is this machine fit?
    drone-1/README.txt

Neither nucleus is in it: both are AWS's. The same content gives the same bytes.
"""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath

import yaml

from monodon.core.provided import NUCLEUS
from monodon.errors import FleetError
from monodon.fleet.credentials import CERTIFICATE, KEY, ROOT_CA, write_private
from monodon.fleet.nucleus_config import (
    DATA_PLANE_PORT,
    JAVA_USER,
    MQTT_PORT,
    Endpoints,
    Identity,
    NucleusKind,
    places,
    write_config,
    write_lite_config,
)

JAVA_ROOT = PurePosixPath("/greengrass/v2")
LITE_ROOT = PurePosixPath("/var/lib/greengrass")
LITE_CREDENTIALS = "credentials"
#: What ``doctor.pyz`` is made of: standard library alone, so that it runs on a device without Monodon.
DOCTOR_MODULES = ("on_device", "on_device_facts", "on_device_report", "x509")

_README = """{thing}: install {nucleus} on this machine

    sudo ./install.sh --help        what it needs and what it does
    sudo ./install.sh --dry-run     what it would do
    sudo ./install.sh

    python3 doctor.pyz              is this machine fit for it? (needs Python 3.11; changes nothing)

certs/device.key.pem is this device's private key: whoever has it is this device. Do not keep this folder.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFile:
    """One file of a bundle."""

    name: str
    content: bytes
    mode: int = 0o644


def write_bundle(kind: NucleusKind, root: Path, out: Path) -> None:
    """Write the install bundle of a provisioned root folder; the file is its owner's alone, since a key is in it.

    Raises:
        FleetError: the root is not provisioned, cannot be read, or does not fit the nucleus; or ``out`` cannot be
            written.
    """
    try:
        identity = read_identity((root / "config" / "config.yaml").read_text(encoding="utf-8"))
        certs = {name: (root / "certs" / name).read_bytes() for name in (CERTIFICATE, KEY, ROOT_CA)}
    except OSError as error:
        raise FleetError(
            f"{root} is not a provisioned root: {error.strerror}: {error.filename}", hint="provision it first"
        ) from error
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise FleetError(f"{root}/config/config.yaml is not what provisioning writes") from error
    write_private(out, pack(identity.thing.replace(":", "_"), bundle_files(kind, identity, certs)))


def read_identity(text: str) -> Identity:
    """Return who a device is from its ``config.yaml``.

    Raises:
        yaml.YAMLError, KeyError, TypeError: it is not what ``write_config`` writes.
    """
    document = yaml.safe_load(text)
    found = document["services"][NUCLEUS]["configuration"]
    endpoints = Endpoints(
        iot_data=found["iotDataEndpoint"],
        credentials=found["iotCredEndpoint"],
        data_plane=found["greengrassDataPlaneEndpoint"],
        data_plane_port=found.get("greengrassDataPlanePort", DATA_PLANE_PORT),
        mqtt_port=found.get("mqtt", {}).get("port", MQTT_PORT),
    )
    return Identity(
        thing=document["system"]["thingName"],
        region=found["awsRegion"],
        role_alias=found["iotRoleAlias"],
        endpoints=endpoints,
    )


def bundle_files(kind: NucleusKind, identity: Identity, certs: dict[str, bytes]) -> tuple[BundleFile, ...]:
    """Return the files of a bundle.

    Raises:
        FleetError: nucleus lite cannot reach this cloud: its MQTT port is always 8883.
    """
    if kind is NucleusKind.LITE:
        if identity.endpoints.mqtt_port != MQTT_PORT:
            raise FleetError(
                f"nucleus lite speaks MQTT on port {MQTT_PORT} alone, and this cloud listens on "
                f"{identity.endpoints.mqtt_port}",
                hint=f"start the embedded cloud with --mqtt-port {MQTT_PORT}",
            )
        config = write_lite_config(identity, places(LITE_ROOT, LITE_CREDENTIALS))
        units: tuple[BundleFile, ...] = ()
    else:
        config = write_config(identity, places(JAVA_ROOT), run_as=JAVA_USER)
        units = (BundleFile(name="greengrass.service", content=_resource("greengrass.service")),)
    nucleus = "AWS's Java nucleus" if kind is NucleusKind.JAVA else "nucleus lite's configuration"
    return (
        BundleFile(name="install.sh", content=_resource(f"{kind}.sh"), mode=0o755),
        BundleFile(name="config.yaml", content=config, mode=0o600),
        BundleFile(name=f"certs/{CERTIFICATE}", content=certs[CERTIFICATE]),
        BundleFile(name=f"certs/{KEY}", content=certs[KEY], mode=0o600),
        BundleFile(name=f"certs/{ROOT_CA}", content=certs[ROOT_CA]),
        *units,
        BundleFile(name="doctor.pyz", content=doctor_zip(), mode=0o755),
        BundleFile(name="README.txt", content=_README.format(thing=identity.thing, nucleus=nucleus).encode()),
    )


def pack(folder: str, contents: Iterable[BundleFile]) -> bytes:
    """Return a tar.gz of a folder with its files: owned by root, no times, the same bytes for the same content."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("", "certs"):
            entry = tarfile.TarInfo(f"{folder}/{name}".rstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(entry)
        for file in contents:
            entry = tarfile.TarInfo(f"{folder}/{file.name}")
            entry.size, entry.mode = len(file.content), file.mode
            archive.addfile(entry, io.BytesIO(file.content))
    return gzip.compress(raw.getvalue(), mtime=0)


def doctor_zip() -> bytes:
    """Return the on-device doctor as a program of one file (a zip that ``python3`` runs)."""
    modules = {f"monodon/fleet/{name}.py": _source(f"{name}.py") for name in DOCTOR_MODULES}
    main = b"import sys\nfrom monodon.fleet.on_device_report import main\nsys.exit(main())\n"
    modules |= {"monodon/__init__.py": b"", "monodon/fleet/__init__.py": b"", "__main__.py": main}
    raw = io.BytesIO()
    raw.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(raw, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(modules.items()):
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return raw.getvalue()


def _source(name: str) -> bytes:
    return files("monodon.fleet").joinpath(name).read_bytes()


def _resource(name: str) -> bytes:
    return files("monodon.fleet").joinpath("install", name).read_bytes()

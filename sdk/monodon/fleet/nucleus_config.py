"""The configuration file of a core device: of AWS's Java nucleus (and Monodon's), and of nucleus lite. Pure.

Source: AWS IoT Greengrass developer guide, "Install with manual resource provisioning"; aws-greengrass-lite,
``docs/SETUP.md`` and ``docs/BUILD.md``.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

import yaml

from monodon.core.provided import NUCLEUS, NUCLEUS_VERSION

NUCLEUS_LITE = "aws.greengrass.NucleusLite"
MQTT_PORT = 8883
DATA_PLANE_PORT = 8443
#: Whom components run as, unless they say otherwise; as each nucleus's own guide names them.
JAVA_USER = "ggc_user:ggc_group"
LITE_USER = "gg_component:gg_component"


class NucleusKind(StrEnum):
    """Which of AWS's nuclei a device runs."""

    JAVA = "java"
    LITE = "lite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where a device finds its cloud; ``port`` of the data plane and of MQTT."""

    iot_data: str
    credentials: str
    data_plane: str
    data_plane_port: int = DATA_PLANE_PORT
    mqtt_port: int = MQTT_PORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a device is: its thing, its region, the role alias it takes credentials from, and where its cloud is."""

    thing: str
    region: str
    role_alias: str
    endpoints: Endpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a device keeps its root folder and its credentials, as absolute paths of the device."""

    root: PurePosixPath
    certificate: PurePosixPath
    private_key: PurePosixPath
    root_ca: PurePosixPath


def places(root: PurePosixPath, folder: str = "certs") -> Places:
    """Return the places of a root folder whose credentials lie in ``folder`` of it."""
    return Places(
        root=root,
        certificate=root / folder / "device.pem.crt",
        private_key=root / folder / "device.key.pem",
        root_ca=root / folder / "root-ca.pem",
    )


def write_config(identity: Identity, where: Places, *, run_as: str | None = None) -> bytes:
    """Return the ``config.yaml`` of the Java nucleus; ``run_as`` is the default ``user:group`` of components."""
    endpoints = identity.endpoints
    configuration: dict[str, Any] = {
        "awsRegion": identity.region,
        "iotRoleAlias": identity.role_alias,
        "iotDataEndpoint": endpoints.iot_data,
        "iotCredEndpoint": endpoints.credentials,
        "greengrassDataPlaneEndpoint": endpoints.data_plane,
        "greengrassDataPlanePort": endpoints.data_plane_port,
        "mqtt": {"port": endpoints.mqtt_port},
    }
    if run_as:
        configuration["runWithDefault"] = {"posixUser": run_as}
    nucleus = {"componentType": "NUCLEUS", "version": str(NUCLEUS_VERSION), "configuration": configuration}
    return _write({"system": _system(identity, where, root_key="rootpath"), "services": {str(NUCLEUS): nucleus}})


def write_lite_config(identity: Identity, where: Places, *, run_as: str = LITE_USER) -> bytes:
    """Return ``/etc/greengrass/config.yaml`` of nucleus lite: MQTT is on 8883 always, ports are text."""
    endpoints = identity.endpoints
    configuration = {
        "awsRegion": identity.region,
        "iotCredEndpoint": endpoints.credentials,
        "iotDataEndpoint": endpoints.iot_data,
        "iotRoleAlias": identity.role_alias,
        "runWithDefault": {"posixUser": run_as},
        "greengrassDataPlanePort": str(endpoints.data_plane_port),
    }
    nucleus = {"componentType": "NUCLEUS", "configuration": configuration}
    return _write({"system": _system(identity, where, root_key="rootPath"), "services": {NUCLEUS_LITE: nucleus}})


def _system(identity: Identity, where: Places, *, root_key: str) -> dict[str, str]:
    return {
        "certificateFilePath": str(where.certificate),
        "privateKeyPath": str(where.private_key),
        "rootCaPath": str(where.root_ca),
        root_key: str(where.root),
        "thingName": identity.thing,
    }


def _write(document: Any) -> bytes:
    return yaml.safe_dump(document, sort_keys=False).encode()

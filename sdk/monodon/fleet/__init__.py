"""What operators do with boto3: provision, deploy, follow, look; each name is loaded on first use (PEP 562)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monodon.fleet.aws import Aws
    from monodon.fleet.deploying import Change, Created, deploy, follow
    from monodon.fleet.desired import Desired, DesiredComponent, Ring
    from monodon.fleet.planning import Finding, Plan, Severity
    from monodon.fleet.provisioning import Endpoints, cloud_endpoints, provision, provision_account
    from monodon.fleet.reading import read_desired
    from monodon.fleet.status import DeviceStatus, device_status, fleet_status

__all__ = [
    "Aws",
    "Change",
    "Created",
    "Desired",
    "DesiredComponent",
    "DeviceStatus",
    "Endpoints",
    "Finding",
    "Plan",
    "Ring",
    "Severity",
    "cloud_endpoints",
    "deploy",
    "device_status",
    "fleet_status",
    "follow",
    "provision",
    "provision_account",
    "read_desired",
]

_HOMES = {
    "Aws": "aws",
    "Change": "deploying",
    "Created": "deploying",
    "Desired": "desired",
    "DesiredComponent": "desired",
    "DeviceStatus": "status",
    "Endpoints": "provisioning",
    "cloud_endpoints": "provisioning",
    "deploy": "deploying",
    "device_status": "status",
    "fleet_status": "status",
    "follow": "deploying",
    "provision": "provisioning",
    "provision_account": "provisioning",
    "read_desired": "reading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'monodon.fleet' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"monodon.fleet.{_HOMES[name]}"), name)

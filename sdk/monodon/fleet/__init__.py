"""What operators do with boto3: provision, deploy, follow, look; each name is loaded on first use (PEP 562)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monodon.fleet.aws import Aws
    from monodon.fleet.deploying import Applied, apply, deploy, make_plan
    from monodon.fleet.desired import Desired, DesiredComponent, Ring
    from monodon.fleet.exporting import export
    from monodon.fleet.following import Change, Created, Progress, Result, follow, watch
    from monodon.fleet.live import read_live
    from monodon.fleet.planned import Finding, Plan, Severity
    from monodon.fleet.provisioning import Endpoints, cloud_endpoints, provision, provision_account
    from monodon.fleet.reading import read_desired
    from monodon.fleet.status import DeviceStatus, device_status, fleet_status

__all__ = [
    "Applied",
    "Aws",
    "Change",
    "Created",
    "Desired",
    "DesiredComponent",
    "DeviceStatus",
    "Endpoints",
    "Finding",
    "Plan",
    "Progress",
    "Result",
    "Ring",
    "Severity",
    "apply",
    "cloud_endpoints",
    "deploy",
    "device_status",
    "export",
    "fleet_status",
    "follow",
    "make_plan",
    "provision",
    "provision_account",
    "read_desired",
    "read_live",
    "watch",
]

_HOMES = {
    "Applied": "deploying",
    "Aws": "aws",
    "Change": "following",
    "Created": "following",
    "Desired": "desired",
    "DesiredComponent": "desired",
    "DeviceStatus": "status",
    "Endpoints": "provisioning",
    "Finding": "planned",
    "Plan": "planned",
    "Progress": "following",
    "Result": "following",
    "Ring": "desired",
    "Severity": "planned",
    "apply": "deploying",
    "cloud_endpoints": "provisioning",
    "deploy": "deploying",
    "device_status": "status",
    "export": "exporting",
    "fleet_status": "status",
    "follow": "following",
    "make_plan": "deploying",
    "provision": "provisioning",
    "provision_account": "provisioning",
    "read_desired": "reading",
    "read_live": "live",
    "watch": "following",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'monodon.fleet' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"monodon.fleet.{_HOMES[name]}"), name)

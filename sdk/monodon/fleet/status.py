"""What a fleet looks like now, as AWS was told last."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from monodon.fleet.aws import Aws, told
from monodon.fleet.deploying import installed


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentStatus:
    """One component as its device reported it."""

    name: str
    version: str
    state: str
    details: str
    is_root: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStatus:
    """One core device: its health, when it last reported (ISO 8601), and what it runs."""

    thing: str
    status: str
    reported_at: str
    nucleus_version: str
    platform: str
    components: tuple[ComponentStatus, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the status as JSON values."""
        return asdict(self)


def fleet_status(aws: Aws, *, group: str | None = None) -> Iterator[DeviceStatus]:
    """Yield the core devices of an account, or of a thing group, by name.

    Raises:
        FleetError: AWS refuses a call.
    """
    where = {"thingGroupArn": aws.group_arn(group)} if group else {}
    with told():
        pages = aws.greengrass.get_paginator("list_core_devices").paginate(**where)
        names = sorted(one["coreDeviceThingName"] for page in pages for one in page["coreDevices"])
        for name in names:
            yield device_status(aws, name)


def device_status(aws: Aws, thing: str) -> DeviceStatus:
    """Return the status of one core device.

    Raises:
        FleetError: it is none, or AWS refuses a call.
    """
    with told(hint=f"a core device appears once its nucleus has reported; is {thing} running?"):
        device = aws.greengrass.get_core_device(coreDeviceThingName=thing)
        components = installed(aws, thing)
    return DeviceStatus(
        thing=thing,
        status=device["status"],
        reported_at=device["lastStatusUpdateTimestamp"].isoformat(timespec="seconds"),
        nucleus_version=device.get("coreVersion", ""),
        platform="/".join(device[key] for key in ("platform", "architecture") if device.get(key)),
        components=tuple(
            ComponentStatus(
                name=one["componentName"],
                version=one["componentVersion"],
                state=one["lifecycleState"],
                details=one.get("lifecycleStateDetails") or "",
                is_root=one["isRoot"],
            )
            for one in sorted(components, key=lambda one: str(one["componentName"]))
        ),
    )

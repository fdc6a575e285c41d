"""Following a local deployment to its end: its status, and how the device's components are meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from monodon.core.json import Json
from monodon.device.device import LOOK_S, Device
from monodon.errors import DeploymentError

#: How long nothing may change before it is said again who is awaited.
REMIND_S = 10.0
ENDED = ("SUCCEEDED", "FAILED", "CANCELED")
_ARRIVED = ("RUNNING", "FINISHED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A component of the device, as it is at the moment."""

    name: str
    version: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How a deployment is: ``status`` as AWS's LocalDeployment has it, and all components of the device by name."""

    status: Mapping[str, Json]
    components: Mapping[str, Component]

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status["status"] in ENDED

    @property
    def awaited(self) -> tuple[Component, ...]:
        """The components that neither run nor have finished: the deployment waits for those it touched."""
        return tuple(one for one in self.components.values() if one.state not in _ARRIVED)

    def check(self) -> None:
        """Do nothing if it succeeded.

        Raises:
            DeploymentError: it failed or was cancelled; the message has the nucleus's cause.
        """
        if self.status["status"] == "SUCCEEDED":
            return
        details = self.status.get("deploymentStatusDetails") or {}
        detailed, cause = details.get("detailedDeploymentStatus"), details.get("deploymentFailureCause")
        told = f"deployment {self.status['deploymentId']} {detailed or self.status['status']}"
        broken = [one.name for one in self.components.values() if one.state == "BROKEN"]
        raise DeploymentError(
            f"{told}: {cause}" if cause else told,
            codes=tuple(details.get("deploymentErrorStack") or ()),
            types=tuple(details.get("deploymentErrorTypes") or ()),
            hint=f"`monodon logs {broken[0]}` shows what it printed" if broken else None,
        )


async def list_components(device: Device) -> dict[str, Component]:
    """Return all components of the device, in order of their names.

    Raises:
        IpcError: the nucleus is gone.
    """
    answer = await device.call("ListComponents")
    found = (
        Component(name=one["componentName"], version=one["version"], state=one["state"])
        for one in answer.get("components") or ()
    )
    return {one.name: one for one in sorted(found, key=lambda one: one.name)}


async def follow(
    device: Device, deployment_id: str, *, look_s: float = LOOK_S, remind_s: float = REMIND_S
) -> AsyncIterator[Progress]:
    """Yield how a deployment and the components are until it has ended: at once, at every change, and again when
    nothing has changed for ``remind_s``.

    Raises:
        IpcError: there is no such deployment, or the nucleus is gone.
    """
    clock = asyncio.get_running_loop().time
    before, told_s = None, clock()
    while before is None or not before.has_ended:
        if before is not None:
            await asyncio.sleep(look_s)
        answer = await device.call("GetLocalDeploymentStatus", {"deploymentId": deployment_id})
        now = Progress(status=answer["deployment"], components=await list_components(device))
        if now != before or clock() - told_s >= remind_s:
            told_s = clock()
            yield now
        before = now

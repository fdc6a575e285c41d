"""What tools ask of the components of a device: list them, look at one, restart or stop it.

Source: aws.greengrass.Cli, ``CLIEventStreamAgent.java``; ipc.md 4.7.
"""

from collections.abc import Mapping
from typing import Protocol

from monodon.core.lifecycle import State
from monodon.core.names import ComponentName
from monodon.core.plan import Installed
from monodon.core.policy import CLI
from monodon.ipc.errors import InvalidArgumentsError, ResourceNotFoundError
from monodon.ipc.service import Operation, Service
from monodon.ipc.shapes import (
    ComponentDetails,
    GetComponentDetailsRequest,
    GetComponentDetailsResponse,
    ListComponentsRequest,
    ListComponentsResponse,
    RequestStatus,
    RestartComponentRequest,
    RestartComponentResponse,
    StopComponentRequest,
    StopComponentResponse,
)


class HasState(Protocol):
    """How one component is."""

    @property
    def state(self) -> State:
        """Its lifecycle state."""


class Supervision(Protocol):
    """The part of a supervisor that tools ask."""

    def statuses(self) -> Mapping[ComponentName, HasState]:
        """How every component is."""

    def restart(self, name: ComponentName) -> None:
        """Ask for a restart."""

    def reinstall(self, name: ComponentName) -> None:
        """Ask for a new start from the installation on."""

    def stop(self, name: ComponentName) -> None:
        """Ask it to stop."""


class Inventory(Protocol):
    """What the device runs."""

    @property
    def installed(self) -> Mapping[ComponentName, Installed]:
        """Every component."""


def _named(
    request: GetComponentDetailsRequest | RestartComponentRequest | StopComponentRequest,
) -> str:
    if not request.component_name:
        raise InvalidArgumentsError("componentName is required")
    return request.component_name


class _Operations:
    """The operations, on what the device runs."""

    def __init__(self, inventory: Inventory, supervision: Supervision) -> None:
        self._inventory = inventory
        self._supervision = supervision

    def _find(self, request: GetComponentDetailsRequest | RestartComponentRequest | StopComponentRequest) -> Installed:
        name = _named(request)
        installed = self._inventory.installed.get(ComponentName(name))
        if installed is None:
            raise ResourceNotFoundError(
                f"Component with name {name} not found", resourceType="component", resourceName=name
            )
        return installed

    def _state_of(self, name: ComponentName) -> State:
        status = self._supervision.statuses().get(name)
        return State.NEW if status is None else status.state

    def _details(self, installed: Installed) -> ComponentDetails:
        return ComponentDetails(
            component_name=installed.name,
            version=str(installed.version),
            state=str(self._state_of(installed.name)),
            configuration=installed.configuration.value(),
        )

    def list_components(self, request: ListComponentsRequest, caller: str) -> ListComponentsResponse:
        return ListComponentsResponse(components=tuple(map(self._details, self._inventory.installed.values())))

    def get_component_details(self, request: GetComponentDetailsRequest, caller: str) -> GetComponentDetailsResponse:
        return GetComponentDetailsResponse(component_details=self._details(self._find(request)))

    def restart_component(self, request: RestartComponentRequest, caller: str) -> RestartComponentResponse:
        name = self._find(request).name
        if name not in self._supervision.statuses():
            return RestartComponentResponse(restart_status=str(RequestStatus.FAILED), message="it is being removed")
        if self._state_of(name) is State.BROKEN:
            self._supervision.reinstall(name)
        else:
            self._supervision.restart(name)
        return RestartComponentResponse(restart_status=str(RequestStatus.SUCCEEDED))

    def stop_component(self, request: StopComponentRequest, caller: str) -> StopComponentResponse:
        name = self._find(request).name
        if name not in self._supervision.statuses():
            return StopComponentResponse(stop_status=str(RequestStatus.FAILED), message="it is being removed")
        self._supervision.stop(name)
        return StopComponentResponse(stop_status=str(RequestStatus.SUCCEEDED))


def components_service(inventory: Inventory, supervision: Supervision) -> Service:
    """Return the service of components."""
    operations = _Operations(inventory, supervision)
    return Service(
        CLI,
        {
            "aws.greengrass#ListComponents": Operation(operations.list_components, resource=lambda request: "*"),
            "aws.greengrass#GetComponentDetails": Operation(operations.get_component_details, resource=_named),
            "aws.greengrass#RestartComponent": Operation(operations.restart_component, resource=_named),
            "aws.greengrass#StopComponent": Operation(operations.stop_component, resource=_named),
        },
    )

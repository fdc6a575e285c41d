"""Configuration: components read any, write their own, follow changes, and judge what a deployment gives them.

Source: Greengrass nucleus, ``ConfigStoreIPCEventStreamAgent.java``; ipc.md 4.3.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from monodon.core.configuration import Configuration, Path
from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.deadlines import timeout
from monodon.errors import ConfigurationError
from monodon.ipc.errors import FailedUpdateConditionCheckError, InvalidArgumentsError, ResourceNotFoundError
from monodon.ipc.service import Operation, Service, Stream
from monodon.ipc.shapes import (
    ConfigurationUpdateEvent,
    ConfigurationUpdateEvents,
    ConfigurationValidity,
    GetConfigurationRequest,
    GetConfigurationResponse,
    SendConfigurationValidityReportRequest,
    SubscribeToConfigurationUpdateRequest,
    SubscribeToValidateConfigurationUpdatesRequest,
    UpdateConfigurationRequest,
    ValidateConfigurationUpdateEvent,
    ValidateConfigurationUpdateEvents,
)

_ACCESS_CONTROL: Final = "accesscontrol"
#: Milliseconds are a Java long there.
_MAX_MS: Final = 2.0**63
_NOT_FOUND: Final = "Key not found"


class Configurations(Protocol):
    """The live configuration of every component, as the nucleus keeps it."""

    def configuration(self, name: ComponentName) -> Configuration | None:
        """The configuration of a component; None when there is no such component."""

    def put_configuration(self, name: ComponentName, configuration: Configuration) -> tuple[Path, ...]:
        """Make it the live one, on disk when this returns."""

    def watch_configuration(
        self, name: ComponentName, watcher: Callable[[tuple[Path, ...]], None]
    ) -> Callable[[], None]:
        """Call ``watcher`` with the changed paths of every change."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _milliseconds(timestamp_s: float) -> int:
    """Any time that AWS's device can count, however far away; negative ones are before 1970."""
    if not math.isfinite(timestamp_s) or abs(timestamp_s) * 1000 >= _MAX_MS:
        raise InvalidArgumentsError("timestamp is not a time")
    return round(timestamp_s * 1_000_000) // 1000


def _starts_with(path: Sequence[str], start: Sequence[str]) -> bool:
    return len(path) >= len(start) and all(
        one.lower() == other.lower() for one, other in zip(path, start, strict=False)
    )


class Validation:
    """Asks components whether they accept the configuration that a deployment is about to give them.

    :meth:`ask` is the deployer's hook; the first subscription of a component is the one that is asked.
    """

    def __init__(self) -> None:
        self._listeners: dict[str, list[Stream]] = {}
        self._pending: dict[tuple[str, str], asyncio.Future[str | None]] = {}

    async def ask(self, name: ComponentName, configuration: Json, deployment_id: str, timeout_s: float) -> str | None:
        """Return why ``name`` refuses its new configuration, or did not answer in time; None when it does not."""
        listeners = self._listeners.get(name)
        if not listeners:
            return None
        key = (str(name), deployment_id)
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._pending[key] = answer
        event = ValidateConfigurationUpdateEvent(configuration=configuration, deployment_id=deployment_id)
        listeners[0].send(ValidateConfigurationUpdateEvents(validate_configuration_update_event=event))
        try:
            async with timeout(timeout_s):
                return await answer
        except TimeoutError:
            return f"it did not answer within {timeout_s:g} s"
        finally:
            del self._pending[key]

    def listen(self, component: str, stream: Stream) -> None:
        """Ask this subscription, unless an earlier one of the component is open."""
        listeners = self._listeners.setdefault(component, [])
        listeners.append(stream)

        def forget() -> None:
            listeners.remove(stream)
            if not listeners:
                del self._listeners[component]

        stream.on_close(forget)

    def report(self, component: str, deployment_id: str, refusal: str | None) -> bool:
        """Take an answer; False when nobody waits for it."""
        answer = self._pending.get((component, deployment_id))
        if answer is None or answer.done():
            return False
        answer.set_result(refusal)
        return True


class _Operations:
    """The operations, on the live configurations."""

    def __init__(self, configurations: Configurations, validation: Validation, now_ms: Callable[[], int]) -> None:
        self._configurations = configurations
        self._validation = validation
        self._now_ms = now_ms

    def _find(self, component: str | None, caller: str, key_path: Sequence[str]) -> Configuration:
        configuration = self._configurations.configuration(ComponentName(component or caller))
        if configuration is None or not configuration.contains(key_path):
            raise ResourceNotFoundError(_NOT_FOUND)
        return configuration

    def get_configuration(self, request: GetConfigurationRequest, caller: str) -> GetConfigurationResponse:
        key_path = request.key_path or ()
        configuration = self._find(request.component_name, caller, key_path)
        value = configuration.get(key_path)
        if configuration.is_leaf(key_path):
            value = {configuration.spelling(key_path)[-1]: value}
        return GetConfigurationResponse(component_name=request.component_name or caller, value=value)

    def update_configuration(self, request: UpdateConfigurationRequest, caller: str) -> None:
        key_path, value = request.key_path or (), request.value_to_merge
        if request.timestamp is None or value is None:
            raise InvalidArgumentsError("timestamp and valueToMerge are required")
        touched = key_path[:1] or tuple(value)
        if any(key.lower() == _ACCESS_CONTROL for key in touched):
            raise InvalidArgumentsError("accessControl can't be changed by the component itself")
        configuration = self._configurations.configuration(ComponentName(caller))
        if configuration is None:
            raise InvalidArgumentsError(f"{caller} has no configuration")
        at_ms = _milliseconds(request.timestamp) if configuration.contains(key_path) else self._now_ms()
        try:
            updated = configuration.merge(key_path, value, at_ms=at_ms)
        except ConfigurationError as error:
            raise InvalidArgumentsError(str(error)) from error
        self._configurations.put_configuration(ComponentName(caller), updated)
        modified_ms = updated.modified_ms(key_path)
        if at_ms < modified_ms:
            raise FailedUpdateConditionCheckError(
                f"the timestamp {at_ms} ms is older than the configuration there, of {modified_ms} ms"
            )

    def subscribe_to_configuration_update(
        self, request: SubscribeToConfigurationUpdateRequest, caller: str, stream: Stream
    ) -> None:
        name, key_path = request.component_name or caller, request.key_path or ()
        self._find(name, caller, key_path)

        def tell(paths: tuple[Path, ...]) -> None:
            for path in paths:
                if _starts_with(path, key_path) or _starts_with(key_path, path):
                    event = ConfigurationUpdateEvent(component_name=name, key_path=path)
                    stream.send(ConfigurationUpdateEvents(configuration_update_event=event))

        stream.on_close(self._configurations.watch_configuration(ComponentName(name), tell))

    def subscribe_to_validation(
        self, request: SubscribeToValidateConfigurationUpdatesRequest, caller: str, stream: Stream
    ) -> None:
        self._validation.listen(caller, stream)

    def send_validity_report(self, request: SendConfigurationValidityReportRequest, caller: str) -> None:
        report = request.configuration_validity_report
        if report is None or report.deployment_id is None:
            raise InvalidArgumentsError("configurationValidityReport needs a deploymentId")
        if report.status not in list(ConfigurationValidity):
            raise InvalidArgumentsError(f"status {report.status!r} is none of {', '.join(ConfigurationValidity)}")
        is_accepted = report.status == ConfigurationValidity.ACCEPTED
        refusal = None if is_accepted else report.message or "the component gave no reason"
        if not self._validation.report(caller, report.deployment_id, refusal):
            raise InvalidArgumentsError(f"no validation of {caller} is pending for deployment {report.deployment_id}")


def configuration_service(
    configurations: Configurations, validation: Validation, now_ms: Callable[[], int] = _now_ms
) -> Service:
    """Return the service of configurations."""
    operations = _Operations(configurations, validation, now_ms)
    return Service(
        "configuration",
        {
            "aws.greengrass#GetConfiguration": Operation(operations.get_configuration),
            "aws.greengrass#UpdateConfiguration": Operation(operations.update_configuration),
            "aws.greengrass#SubscribeToConfigurationUpdate": Operation(operations.subscribe_to_configuration_update),
            "aws.greengrass#SubscribeToValidateConfigurationUpdates": Operation(operations.subscribe_to_validation),
            "aws.greengrass#SendConfigurationValidityReport": Operation(operations.send_validity_report),
        },
    )

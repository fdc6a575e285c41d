"""What the configuration of aws.greengrass.clientdevices.Auth says at the moment, read once for each that there is."""

import logging

from monodon.core.client_devices import AuthSettings
from monodon.core.configuration import Configuration
from monodon.core.names import ComponentName
from monodon.core.policy import CLIENT_DEVICES
from monodon.nucleus.state import DeviceState

log = logging.getLogger(__name__)

_NAME = ComponentName(CLIENT_DEVICES)


class AuthConfiguration:
    """The component's configuration; what is wrong with it is logged when it is first read."""

    def __init__(self, state: DeviceState) -> None:
        self._state = state
        self._read: tuple[Configuration | None, AuthSettings] = (None, AuthSettings())

    def is_deployed(self) -> bool:
        """Whether the component is on the device."""
        return _NAME in self._state.installed

    def settings(self) -> AuthSettings:
        """Its settings; the defaults where it is not there."""
        configuration = self._state.configuration(_NAME)
        if configuration is not self._read[0]:
            self._read = (configuration, AuthSettings.read(None if configuration is None else configuration.value()))
            for problem in self._read[1].problems:
                log.warning("%s: %s", _NAME, problem)
        return self._read[1]

"""What the configuration of aws.greengrass.ShadowManager says at the moment; without it nothing is synchronised."""

from collections.abc import Mapping

from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.shadow import DEFAULT_LIMIT_BYTES
from monodon.core.shadow_sync import RateLimits, SyncSettings
from monodon.nucleus.shadow_sync import SHADOW_MANAGER
from monodon.nucleus.state import DeviceState

#: Source: developer guide, shadow manager component, ``shadowDocumentSizeLimitBytes``.
MAX_SHADOW_BYTES = 30 * 1024


class ShadowConfiguration:
    """Read anew at each question."""

    def __init__(self, state: DeviceState, thing: str) -> None:
        self._state, self._thing = state, thing

    def sync_settings(self) -> SyncSettings:
        """Which shadows are synchronised, and how."""
        return SyncSettings.read(self._value(), self._thing)

    def rate_limits(self) -> RateLimits:
        """How many requests are taken from components."""
        return RateLimits.read(self._value())

    def limit_bytes(self) -> int:
        """How large a shadow document may be."""
        limit = self._value().get("shadowDocumentSizeLimitBytes")
        return limit if type(limit) is int and 0 < limit <= MAX_SHADOW_BYTES else DEFAULT_LIMIT_BYTES

    def _value(self) -> Mapping[str, Json]:
        configuration = self._state.configuration(ComponentName(SHADOW_MANAGER))
        return {} if configuration is None else configuration.value()

"""What components may do over IPC: the ``accessControl`` of their configuration as it is at the moment of asking."""

import logging

from monodon.core.configuration import Configuration
from monodon.core.names import ComponentName
from monodon.core.policy import AccessControl
from monodon.nucleus.state import DeviceState

log = logging.getLogger(__name__)

ACCESS_CONTROL = "accessControl"
#: How tools' names over IPC begin. Whoever can read a tool's credentials owns the root, so there is nothing to guard.
TOOLS = "greengrass-cli#"


class Policies:
    """Reads each component's policies once for each configuration it has."""

    def __init__(self, state: DeviceState) -> None:
        self._state = state
        self._read: dict[str, tuple[Configuration, AccessControl]] = {}

    def allows(self, caller: str, service: str, operation: str, resource: str) -> bool:
        """Whether a policy of ``caller`` allows ``operation`` of ``service`` on ``resource``; tools need none."""
        if caller.startswith(TOOLS):
            return True
        configuration = self._state.configuration(ComponentName(caller))
        if configuration is None:
            return False
        known = self._read.get(caller)
        if known is None or known[0] is not configuration:
            known = self._read[caller] = (configuration, self._policies(caller, configuration))
        return known[1].allows(service, operation, resource)

    def _policies(self, caller: str, configuration: Configuration) -> AccessControl:
        path = (ACCESS_CONTROL,)
        policies = AccessControl.read(configuration.get(path) if configuration.contains(path) else None)
        for problem in policies.problems:
            log.warning("%s: %s", caller, problem)
        return policies

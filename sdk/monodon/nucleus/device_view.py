"""The device as status messages describe it."""

from collections.abc import Mapping

from monodon.core.names import ComponentName
from monodon.core.plan import Target
from monodon.nucleus.changes import ComponentStatus
from monodon.nucleus.state import DeviceState
from monodon.nucleus.supervisor import Supervisor


class DeviceView:
    """What is installed and how it is, at the moment of asking."""

    def __init__(self, state: DeviceState, supervisor: Supervisor) -> None:
        self._state = state
        self._supervisor = supervisor

    @property
    def installed(self) -> Target:
        """All components of the device."""
        return self._state.installed

    def statuses(self) -> Mapping[ComponentName, ComponentStatus]:
        """How each component is."""
        return self._supervisor.statuses()

    def configuration_arns(self) -> Mapping[str, tuple[ComponentName, ...]]:
        """The configuration ARN of each target that was deployed from the cloud, with the target's roots."""
        found = {}
        for target, roots in self._state.targets().items():
            last = self._state.last_deployment(target)
            if last is not None and last["arn"]:
                found[str(last["arn"])] = tuple(roots)
        return found

    def next_sequence(self) -> int:
        """A number higher than any before, also after restarts."""
        return self._state.next_sequence()

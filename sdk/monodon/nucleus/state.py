"""What a device runs and remembers, as objects over the journal; and who wants to know when configuration changes."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

from monodon.core.configuration import Configuration, Path, changed_paths
from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.origins import written
from monodon.core.plan import Installed, Target
from monodon.errors import ConfigurationError
from monodon.nucleus.journal import Journal

_LOG = logging.getLogger(__name__)

INSTALLED = "installed/"
_ROOTS = "roots/"
_LAST = "last/"
_OPEN = "deployment/open"
_SEQUENCE = "health/sequence"
_LOCAL = "local/"
#: How many local deployments are remembered.
REMEMBERED_LOCAL = 100

#: Roots of one target: component name to the version that the target chose, as text.
Roots: TypeAlias = Mapping[ComponentName, str]
Watcher: TypeAlias = Callable[[tuple[Path, ...]], None]


class DeviceState:
    """The device's persistent truth. Every change is on disk before the method that makes it returns.

    Not for threads: watchers are called by the change itself, on the loop's thread.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._installed: dict[ComponentName, Installed] = {
            (read := Installed.from_record(record)).name: read for record in journal.items(INSTALLED).values()
        }
        self._watchers: dict[ComponentName, list[Watcher]] = {}

    @property
    def installed(self) -> Mapping[ComponentName, Installed]:
        """Everything the device runs now, a view that follows changes."""
        return MappingProxyType(self._installed)

    def targets(self) -> dict[str, Roots]:
        """Return the roots of every target (``thinggroup/g``, ``thing/t``, ``LOCAL_DEPLOYMENT``) deployed so far."""
        return {key.removeprefix(_ROOTS): _roots(record) for key, record in self._journal.items(_ROOTS).items()}

    def roots(self, target: str) -> Roots:
        """Return the roots that the last deployment to ``target`` left, none if there was no such deployment."""
        return _roots(self._journal.get(_ROOTS + target) or {})

    def last_deployment(self, target: str) -> Mapping[str, Json] | None:
        """Return ``{arn, timestamp_ms, deployment_id}`` of the last deployment applied for ``target``, or None."""
        record: Mapping[str, Json] | None = self._journal.get(_LAST + target)
        return record

    def after_deployments_ms(self, now_ms: int) -> int:
        """Return ``now_ms``, or a millisecond after the latest deployment where the clock was put back since.

        What is deployed later shall win over what was deployed before (rule C3), whatever the clock says.
        """
        times = (int(record["timestamp_ms"]) for record in self._journal.items(_LAST).values())
        return max(now_ms, *(time_ms + 1 for time_ms in times), 0)

    def targets_of(self, name: ComponentName) -> tuple[str, ...]:
        """Return the targets that have ``name`` among their roots."""
        return tuple(target for target, roots in self.targets().items() if name in roots)

    @property
    def open_deployment(self) -> Json | None:
        """What `begin` was given, as long as that deployment is neither committed nor ended."""
        return self._journal.get(_OPEN)

    def begin(self, record: Json) -> None:
        """Note a deployment that is about to change the device; replaces an earlier note."""
        self._journal.write({_OPEN: record})

    def end(self) -> None:
        """Forget the open deployment without another change."""
        self._journal.write({_OPEN: None})

    def local_deployments(self) -> dict[str, Mapping[str, Json]]:
        """Return what `put_local` and `commit` were given of each local deployment, by its id, oldest first."""
        found = sorted(self._journal.items(_LOCAL).items(), key=lambda item: item[1]["created_ms"])
        return {key.removeprefix(_LOCAL): record for key, record in found}

    def put_local(self, deployment_id: str, record: Mapping[str, Json]) -> None:
        """Remember a local deployment that was accepted, and forget the oldest; ``record`` has its ``created_ms``.

        Raises:
            StateError: it could not be written.
        """
        known = list(self.local_deployments())
        forgotten = known[: max(0, len(known) + 1 - REMEMBERED_LOCAL)]
        self._journal.write({**{_LOCAL + one: None for one in forgotten}, _LOCAL + deployment_id: dict(record)})

    def replace_installed(self, installed: Target) -> None:
        """Make ``installed`` the whole set in one step; the open deployment stays open."""
        self._change(installed, {})

    def commit(
        self,
        installed: Target | None = None,
        *,
        roots: Mapping[str, Roots | None] | None = None,
        last: Mapping[str, Mapping[str, Json] | None] | None = None,
        local: Mapping[str, Mapping[str, Json]] | None = None,
    ) -> None:
        """End the open deployment and, in the same step, write what it left.

        Args:
            installed: the whole set that the device runs now; None leaves it as it is.
            roots: the roots of each target that changed; None forgets the target and its last deployment.
            last: ``{arn, timestamp_ms, deployment_id}`` of each target that was deployed to.
            local: how local deployments ended, by their ids; see `put_local`.
        """
        changes: dict[str, Json | None] = {_OPEN: None}
        for target, chosen in (roots or {}).items():
            changes[_ROOTS + target] = None if chosen is None else {str(name): text for name, text in chosen.items()}
            if chosen is None:
                changes[_LAST + target] = None
        for target, record in (last or {}).items():
            changes[_LAST + target] = None if record is None else dict(record)
        changes.update({_LOCAL + deployment_id: dict(record) for deployment_id, record in (local or {}).items()})
        self._change(self._installed if installed is None else installed, changes)

    def put_installed(self, *installed: Installed) -> None:
        """Add these components, or replace what is known of them."""
        self._change({**self._installed, **{each.name: each for each in installed}}, {})

    def remove_installed(self, *names: ComponentName) -> None:
        """Forget these components and their configuration."""
        self._change({name: each for name, each in self._installed.items() if name not in names}, {})

    def configuration(self, name: ComponentName) -> Configuration | None:
        """Return the live configuration of a component, or None when the device has no such component."""
        installed = self._installed.get(name)
        return None if installed is None else installed.configuration

    def update_configuration(
        self, name: ComponentName, path: Sequence[str], value: Mapping[str, Json], at_ms: int
    ) -> tuple[Path, ...]:
        """Merge ``value`` into the configuration of ``name`` at ``path``, as if written at ``at_ms``.

        Returns:
            the paths that changed, of which the watchers were told.

        Raises:
            ConfigurationError: no such component, ``path`` leads through a leaf, or ``value`` is not JSON.
            StateError: it could not be written; nothing changed.
        """
        installed = self._installed.get(name)
        if installed is None:
            raise ConfigurationError(f"the device has no component {name}")
        after = installed.configuration.merge(path, value, at_ms=at_ms)
        return self.put_configuration(name, after)

    def put_configuration(self, name: ComponentName, configuration: Configuration) -> tuple[Path, ...]:
        """Make ``configuration`` the live one of ``name``; return the paths that changed.

        Raises:
            ConfigurationError: no such component.
            StateError: it could not be written; nothing changed.
        """
        before = self._installed.get(name)
        if before is None:
            raise ConfigurationError(f"the device has no component {name}")
        origins = written(before.origins, before.configuration, configuration)
        self._change({**self._installed, name: replace(before, configuration=configuration, origins=origins)}, {})
        return changed_paths(before.configuration, configuration)

    def watch_configuration(self, name: ComponentName, watcher: Watcher) -> Callable[[], None]:
        """Call ``watcher`` with the changed paths after every change of the configuration of ``name``.

        The component need not exist yet. Returns what ends the watch; calling that twice does no harm.
        """
        watchers = self._watchers.setdefault(name, [])
        watchers.append(watcher)

        def unwatch() -> None:
            if watcher in watchers:
                watchers.remove(watcher)

        return unwatch

    def next_sequence(self) -> int:
        """Return the next sequence number of a status message: 1, 2, 3 … over the device's whole life."""
        number = int(self._journal.get(_SEQUENCE) or 0) + 1
        self._journal.write({_SEQUENCE: number})
        return number

    def _change(self, installed: Target, changes: Mapping[str, Json | None]) -> None:
        before, after = dict(self._installed), dict(installed)
        records: dict[str, Json | None] = dict(changes)
        records.update({INSTALLED + name: None for name in before if name not in after})
        records.update(
            {INSTALLED + name: each.to_record() for name, each in after.items() if before.get(name) is not each}
        )
        self._journal.write(records)
        self._installed.clear()
        self._installed.update(after)
        for name, each in after.items():
            known = before.get(name)
            if known is not None and known is not each:
                self._tell(name, changed_paths(known.configuration, each.configuration))

    def _tell(self, name: ComponentName, paths: tuple[Path, ...]) -> None:
        if not paths:
            return
        for watcher in tuple(self._watchers.get(name, ())):
            try:
                watcher(paths)
            except Exception:
                _LOG.exception("who watches the configuration of %s failed", name)


def _roots(record: Mapping[str, str]) -> Roots:
    return {ComponentName.parse(name): version for name, version in record.items()}

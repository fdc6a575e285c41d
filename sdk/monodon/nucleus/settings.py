"""The nucleus's own configuration as it is now: config.yaml, and over it what was deployed to aws.greengrass.Nucleus.

What changes with the next deployment (platform, logging) is read anew each time; users, shell and sizes hold from one
start of the nucleus to the next. Source: Greengrass nucleus, ``deployment/DeviceConfiguration.java``.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as FilePath
from typing import Protocol

import yaml

from monodon.core.configuration import EMPTY, Configuration, Path
from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.plan import Installed, RunWith
from monodon.nucleus.identity import CONFIG_FILE, NUCLEUS, lookup
from monodon.nucleus.journal import JOURNAL_FOLDER, peek
from monodon.nucleus.logs import LogSettings
from monodon.nucleus.state import INSTALLED, DeviceState


class Deployed(Protocol):
    """What was deployed to a device."""

    def configuration(self, name: ComponentName) -> Configuration | None:
        """The configuration of a component; None when there is no such component."""


class Settings:
    """What the nucleus is told to do, with AWS's keys whatever their case.

    Args:
        configured: what config.yaml says.
    """

    def __init__(self, configured: Mapping[str, Json], state: Deployed) -> None:
        # YAML knows more than JSON: a date is a text here.
        plain = json.loads(json.dumps(dict(configured), default=str))
        self._configured, self._state = EMPTY.merge((), plain, at_ms=1), state

    @property
    def configuration(self) -> Configuration:
        """All of it: what was deployed is merged over config.yaml, key by key."""
        deployed = self._state.configuration(ComponentName(NUCLEUS))
        return self._configured if deployed is None else self._configured.merge((), deployed.value(), at_ms=2)

    def get(self, *path: str) -> Json:
        """The value at ``path``, None where there is none."""
        return lookup(self.configuration.value(), *path)

    def text(self, *path: str) -> str | None:
        """The text at ``path``, None where there is another value, or an empty one."""
        value = self.get(*path)
        return value if isinstance(value, str) and value else None

    def whole(self, default: int, *path: str) -> int:
        """The positive number at ``path``, cut to a whole one; else ``default``."""
        value = self.get(*path)
        return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else default

    @property
    def limits(self) -> RunWith:
        """The limits of components without their own, as ``runWithDefault.systemResourceLimits`` has them."""
        found = {key: self.get("runWithDefault", "systemResourceLimits", key) for key in ("memory", "cpus", "pids")}
        memory, cpus, pids = (
            value if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
            for value in found.values()
        )
        return RunWith(
            memory_kb=None if memory is None else int(memory),
            cpus=None if cpus is None else float(cpus),
            pids=None if pids is None else int(pids),
        )

    @property
    def logging(self) -> LogSettings:
        """How to log."""
        found = self.get("logging")
        return LogSettings.read(found if isinstance(found, Mapping) else {})


def logging_of(root: FilePath) -> LogSettings:
    """How the device in ``root`` logs, by its files alone: its nucleus may run, or not.

    Raises:
        StateError: its journal cannot be read.
    """
    return Settings(_configured(root / CONFIG_FILE), _Journalled(root)).logging


def _configured(file: FilePath) -> Mapping[str, Json]:
    """What config.yaml says of the nucleus; nothing where it cannot be read, which the nucleus itself complains of."""
    try:
        found = lookup(yaml.safe_load(file.read_bytes()), "services", NUCLEUS, "configuration")
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}


class _Journalled:
    """What the journal of a device says was deployed to it."""

    def __init__(self, root: FilePath) -> None:
        self._records = peek(root / JOURNAL_FOLDER)

    def configuration(self, name: ComponentName) -> Configuration | None:
        record = self._records.get(INSTALLED + name)
        return None if record is None else Installed.from_record(record).configuration


class Configurations:
    """The configuration of every component as IPC shows it: the nucleus's own is there too, to be read."""

    def __init__(self, settings: Settings, state: DeviceState) -> None:
        self._settings, self._state = settings, state

    def configuration(self, name: ComponentName) -> Configuration | None:
        """The configuration of a component; None when there is no such component."""
        return self._settings.configuration if name == NUCLEUS else self._state.configuration(name)

    def put_configuration(self, name: ComponentName, configuration: Configuration) -> tuple[Path, ...]:
        """Make it the live one, on disk when this returns."""
        return self._state.put_configuration(name, configuration)

    def watch_configuration(
        self, name: ComponentName, watcher: Callable[[tuple[Path, ...]], None]
    ) -> Callable[[], None]:
        """Call ``watcher`` with the changed paths of every change."""
        return self._state.watch_configuration(name, watcher)


class Platform(Mapping[str, str]):
    """The device's attributes: what this machine is, and over it ``platformOverride`` of this moment (P2)."""

    def __init__(self, machine: Mapping[str, str], settings: Settings) -> None:
        self._machine, self._settings = machine, settings

    def __getitem__(self, key: str) -> str:
        return self._now()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def _now(self) -> dict[str, str]:
        override = self._settings.get("platformOverride")
        texts = override.items() if isinstance(override, Mapping) else ()
        return {**self._machine, **{key: value for key, value in texts if isinstance(value, str)}}

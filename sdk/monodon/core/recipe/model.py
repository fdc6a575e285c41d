"""A recipe of format 2020-01-25 as values; reading and writing stand beside it.

Lifecycles and the default configuration stay free-form JSON: they hold selections, short forms and variables whose
meaning depends on the device.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.semver import Requirement, Version

FORMAT_VERSION = "2020-01-25"
#: The largest recipe that CreateComponentVersion takes, as sent: 16 KB. GDK stops at 16,000 already.
MAX_PUBLISHED_BYTES = 16_384


class ComponentType(StrEnum):
    """Who runs the component."""

    GENERIC = "aws.greengrass.generic"
    LAMBDA = "aws.greengrass.lambda"
    PLUGIN = "aws.greengrass.plugin"
    NUCLEUS = "aws.greengrass.nucleus"


class DependencyType(StrEnum):
    """``HARD``: the depender restarts with its dependency; ``SOFT``: it does not."""

    HARD = "HARD"
    SOFT = "SOFT"


class Unarchive(StrEnum):
    """Whether the device unpacks an artifact."""

    NONE = "NONE"
    ZIP = "ZIP"


class Permission(StrEnum):
    """Who may read or execute an artifact on the device, from fewest to most."""

    NONE = "NONE"
    OWNER = "OWNER"
    ALL = "ALL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """Which versions of another component this one needs."""

    requirement: Requirement
    type: DependencyType = DependencyType.HARD
    extra: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file that the device downloads for the component."""

    uri: str
    unarchive: Unarchive = Unarchive.NONE
    read: Permission = Permission.OWNER
    execute: Permission = Permission.NONE
    digest: str | None = None
    algorithm: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The name of the file on the device: the last path segment of the URI; may be empty."""
        path = self.uri.split("?")[0].split("#")[0]
        if "/" not in path:
            path = path.partition(":")[2]
        name = path.rpartition("/")[2]
        if "%" in name:
            from urllib.parse import unquote  # slow to import, and seldom needed

            return unquote(name)
        return name

    @property
    def folder_name(self) -> str:
        """The folder that the device unpacks it to: the file name without its last extension."""
        stem, dot, _ = self.file_name.rpartition(".")
        return stem if dot else self.file_name

    @property
    def readable_by(self) -> Permission:
        """Who may read it in effect: to execute a file is to read it."""
        ranks = list(Permission)
        return max(self.read, self.execute, key=ranks.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What one platform runs; an empty ``platform`` matches every device."""

    name: str | None = None
    platform: Mapping[str, str] = field(default_factory=dict)
    lifecycle: Mapping[str, Json] = field(default_factory=dict)
    selections: tuple[str, ...] | None = None
    artifacts: tuple[Artifact, ...] = ()
    extra: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One version of a component: what it needs, what it runs, what it can be told."""

    name: ComponentName
    version: Version
    description: str | None = None
    publisher: str | None = None
    type: ComponentType = ComponentType.GENERIC
    source: str | None = None
    configuration: Mapping[str, Json] = field(default_factory=dict)
    dependencies: Mapping[ComponentName, Dependency] = field(default_factory=dict)
    manifests: tuple[Manifest, ...] = ()
    lifecycle: Mapping[str, Json] = field(default_factory=dict)
    extra: Mapping[str, Json] = field(default_factory=dict)

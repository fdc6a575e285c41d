"""Every key of a recipe, in one table: the reader follows it, and the JSON Schema is written from it.

Named tuples, since a dataclass costs a millisecond each time the command line starts.

Source: AWS IoT Greengrass developer guide, "Component recipe reference"; component-common, ``ComponentRecipe.java``.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from monodon.core.recipe.model import (
    FORMAT_VERSION,
    ComponentType,
    DependencyType,
    Permission,
    Unarchive,
)


class Text(StrEnum):
    """What the text of a typed scalar has to be; a device takes any scalar and uses its text."""

    ANY = "any"
    NAME = "name"
    VERSION = "version"
    REQUIREMENT = "requirement"
    URI = "uri"


class Choice(NamedTuple):
    """One of these words, in any case."""

    values: tuple[str, ...]


class Object(NamedTuple):
    """A map with the keys of one shape."""

    shape: str


class ListOf(NamedTuple):
    """A list; null elements are refused."""

    item: "Object | Text"


class MapOf(NamedTuple):
    """A map from any name to one kind of value."""

    item: "Object | Text"


class Free:
    """A map of anything: its scalars are typed as the device types them."""


Kind: TypeAlias = Text | Choice | Object | ListOf | MapOf | Free


class Key(NamedTuple):
    """One key: its canonical spelling, what it holds, and a line for editors."""

    name: str
    kind: Kind
    description: str
    is_required: bool = False


SHAPES: Mapping[str, tuple[Key, ...]] = {
    "Recipe": (
        Key(
            name="RecipeFormatVersion",
            kind=Choice((FORMAT_VERSION,)),
            is_required=True,
            description="The version of the recipe format.",
        ),
        Key(
            name="ComponentName",
            kind=Text.NAME,
            is_required=True,
            description="1 to 128 letters, digits, '-', '_' and '.'; reverse DNS, such as com.example.Camera.",
        ),
        Key(
            name="ComponentVersion",
            kind=Text.VERSION,
            is_required=True,
            description="A semantic version, at most 64 characters, each number at most 999999.",
        ),
        Key(
            name="ComponentType",
            kind=Choice(tuple(map(str, ComponentType))),
            description="Best left out: the device finds it by itself.",
        ),
        Key(name="ComponentDescription", kind=Text.ANY, description="What the component does."),
        Key(name="ComponentPublisher", kind=Text.ANY, description="Who made it."),
        Key(
            name="ComponentSource",
            kind=Text.ANY,
            description="The ARN of a Lambda function the component was made from.",
        ),
        Key(
            name="ComponentConfiguration",
            kind=Object("Configuration"),
            description="What a deployment may change.",
        ),
        Key(
            name="ComponentDependencies",
            kind=MapOf(Object("Dependency")),
            description="Other components this one needs, by name.",
        ),
        Key(
            name="Manifests",
            kind=ListOf(Object("Manifest")),
            description="What each platform runs; the first that matches wins.",
        ),
        Key(
            name="Lifecycle",
            kind=Free(),
            description="Steps for all manifests, by their Selections; a manifest's own Lifecycle replaces it.",
        ),
    ),
    "Configuration": (
        Key(
            name="DefaultConfiguration",
            kind=Free(),
            description="The configuration until a deployment merges or resets; accessControl lives here.",
        ),
    ),
    "Dependency": (
        Key(
            name="VersionRequirement",
            kind=Text.REQUIREMENT,
            is_required=True,
            description="An npm-style range, such as ^1.2.0 or >=1.0.0 <2.0.0.",
        ),
        Key(
            name="DependencyType",
            kind=Choice(tuple(map(str, DependencyType))),
            description="HARD (the default): restart with the dependency. SOFT: do not.",
        ),
    ),
    "Manifest": (
        Key(name="Name", kind=Text.ANY, description="A name to show."),
        Key(
            name="Platform",
            kind=MapOf(Text.ANY),
            description="Attributes a device must have (os, architecture); '*' and /regular expressions/ are values.",
        ),
        Key(name="Lifecycle", kind=Free(), description="The steps this platform runs."),
        Key(
            name="Selections",
            kind=ListOf(Text.ANY),
            description="Which sections of the global Lifecycle this manifest takes, in order of preference.",
        ),
        Key(name="Artifacts", kind=ListOf(Object("Artifact")), description="Files that the device downloads."),
    ),
    "Artifact": (
        Key(
            name="Uri",
            kind=Text.URI,
            is_required=True,
            description="Where the file is: s3://bucket/key, or docker:image.",
        ),
        Key(
            name="Unarchive",
            kind=Choice(tuple(map(str, Unarchive))),
            description="ZIP: unpack into {artifacts:decompressedPath}/<file name without extension>.",
        ),
        Key(name="Permission", kind=Object("Permission"), description="Who may read and execute the files."),
        Key(name="Digest", kind=Text.ANY, description="Base64 of the file's hash; AWS computes it."),
        Key(name="Algorithm", kind=Text.ANY, description="The hash's algorithm, SHA-256; AWS fills it in."),
    ),
    "Permission": (
        Key(
            name="Read",
            kind=Choice(tuple(map(str, Permission))),
            description="OWNER (the default): the component's user. ALL: other components too. NONE.",
        ),
        Key(
            name="Execute",
            kind=Choice(tuple(map(str, Permission))),
            description="NONE (the default), OWNER or ALL; who may execute may read.",
        ),
    ),
}

#: The keys of a lifecycle step written as a map; step names and these are matched without regard to case.
STEPS = ("Bootstrap", "Install", "Startup", "Run", "Shutdown", "Recover", "Uninstall")
STEP_KEYS = ("Script", "RequiresPrivilege", "Skipif", "Timeout", "Setenv", "BootstrapOnRollback")

"""Which manifest and which lifecycle steps a device takes from a recipe.

Source: Greengrass nucleus, ``PlatformHelper.java``, ``PlatformResolver.java``, ``ComponentRecipe`` of component-common.
"""

import re
from collections.abc import Mapping, Sequence

from monodon.core.json import Json
from monodon.core.recipe.model import Manifest, Recipe

ARCHITECTURES: Mapping[str, str] = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "i386": "x86",
    "i486": "x86",
    "i586": "x86",
    "i686": "x86",
    "x86": "x86",
    "aarch64": "aarch64",
    "arm64": "aarch64",
}
OPERATING_SYSTEMS = ("linux", "darwin", "windows")
ARM_DETAILS = frozenset({"armv6l", "armv7l", "armv8l", "armv6b", "armv7b", "armv8b"})
_WILDCARDS_OF_SYSTEM = ("all", "any")


def platform_of(system: str, machine: str) -> dict[str, str]:
    """Return the attributes a device has, from what ``uname`` calls its system and machine (P1)."""
    machine, system = machine.lower(), system.lower()
    attributes = {
        "os": system if system in OPERATING_SYSTEMS else "unknown",
        "architecture": ARCHITECTURES.get(machine) or ("arm" if machine.startswith("arm") else "unknown"),
    }
    if machine in ARM_DETAILS:
        attributes["architecture.detail"] = machine
    return attributes


def select_manifest(recipe: Recipe, platform: Mapping[str, str]) -> Manifest | None:
    """Return the first manifest whose every platform pair matches, or None: not usable on this device (P3, P5)."""
    return next((manifest for manifest in recipe.manifests if matches(manifest.platform, platform)), None)


def matches(wanted: Mapping[str, str], platform: Mapping[str, str]) -> bool:
    """Tell whether a device with these attributes meets every pair of a manifest's platform."""
    return all(_pair_matches(key, template, platform.get(key)) for key, template in wanted.items())


def _pair_matches(key: str, template: str | None, value: str | None) -> bool:
    """One pair, in the device's order of asking (P4)."""
    if template is None or template == "*":
        return True
    if not value:
        return False
    if len(template) >= 2 and template.startswith("/") and template.endswith("/"):
        try:
            return re.fullmatch(template[1:-1], value) is not None
        except re.error:
            return False
    if key in ("os", "architecture") and template in _WILDCARDS_OF_SYSTEM:
        return True
    return template[:1].isalnum() and template == value


def select_lifecycle(recipe: Recipe, manifest: Manifest) -> Mapping[str, Json]:
    """Return the steps that ``manifest`` runs: its own, or else what its selections take of the global lifecycle.

    An empty result is no lifecycle: the component installs and is finished.
    """
    if manifest.lifecycle:
        return manifest.lifecycle
    keywords = {"all"}.union(*(other.selections or () for other in recipe.manifests))
    selected = _filter(recipe.lifecycle, keywords, manifest.selections or ())
    return selected if isinstance(selected, dict) else {}


def _filter(value: Json, keywords: set[str], selectors: Sequence[str]) -> Json:
    """Drop what the selectors do not take; None when nothing is left."""
    if not isinstance(value, Mapping):
        return value
    if keywords.isdisjoint(value):
        filtered = ((key, _filter(entry, keywords, selectors)) for key, entry in value.items())
        return {key: entry for key, entry in filtered if entry is not None}
    for selector in (*selectors, "all"):
        if value.get(selector) is not None:
            return _filter(value[selector], keywords, selectors)
    return None

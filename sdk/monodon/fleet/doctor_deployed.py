"""What a thing runs, or shall run: the configurations of its components, and the buckets of their artifacts."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from monodon.core.iot_policy import Policy
from monodon.core.json import Json
from monodon.core.names import component_version_arn
from monodon.core.recipe.model import Manifest
from monodon.core.recipe.reading import parse_recipe
from monodon.errors import FleetError
from monodon.fleet.aws import Aws, is_missing

_S3 = re.compile(r"s3://([^/]+)/.+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What deployed components are configured with, by name; their artifacts' buckets; and which cannot be read."""

    configurations: Mapping[str, Sequence[Json]]
    buckets: frozenset[str]
    unread: tuple[str, ...] = ()


@dataclass(slots=True)
class Known:
    """What was read already: policies by name, and configuration and buckets of component versions by ARN."""

    policies: dict[str, Policy | None] = field(default_factory=dict)
    recipes: dict[str, tuple[Json, frozenset[str]] | None] = field(default_factory=dict)


def deployed(aws: Aws, thing: str, groups: Sequence[str], known: Known) -> Grants:
    """Return the grants of what a thing runs as it last reported, and of what its targets' deployments say."""
    configurations: dict[str, list[Json]] = {}
    versions: set[tuple[str, str]] = set()
    for name, entry in _desired(aws, thing, groups):
        versions.add((name, entry["componentVersion"]))
        merge = (entry.get("configurationUpdate") or {}).get("merge")
        if merge:
            configurations.setdefault(name, []).append(json.loads(merge))
    try:
        pages = aws.greengrass.get_paginator("list_installed_components").paginate(
            coreDeviceThingName=thing, topologyFilter="ALL"
        )
        versions |= {
            (one["componentName"], one["componentVersion"]) for page in pages for one in page["installedComponents"]
        }
    except ClientError as error:
        if not is_missing(error):  # a device that never reported
            raise
    unread, buckets = [], set[str]()
    for name, version in sorted(versions):
        recipe = _recipe(aws, name, version, known)
        if recipe is None:
            unread += [] if name.startswith("aws.greengrass.") else [f"{name} {version}"]
            continue
        configurations.setdefault(name, []).insert(0, recipe[0])
        buckets |= recipe[1]
    return Grants(configurations=configurations, buckets=frozenset(buckets), unread=tuple(unread))


def _desired(aws: Aws, thing: str, groups: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield name and entry of each component of the deployments that count for a thing."""
    for target in (*groups, aws.thing_arn(thing)):
        listed = aws.greengrass.list_deployments(targetArn=target, historyFilter="LATEST_ONLY")["deployments"]
        for one in listed:
            found = aws.greengrass.get_deployment(deploymentId=one["deploymentId"])
            yield from (found.get("components") or {}).items()


def _recipe(aws: Aws, name: str, version: str, known: Known) -> tuple[Json, frozenset[str]] | None:
    arn = str(component_version_arn(aws.region, aws.account, name, version))
    if arn not in known.recipes:
        try:
            text = aws.greengrass.get_component(arn=arn, recipeOutputFormat="JSON")["recipe"]
        except ClientError as error:
            if not is_missing(error):
                raise
            known.recipes[arn] = None
        else:
            recipe = parse_recipe(text, file=f"{name}-{version}.json")
            known.recipes[arn] = (dict(recipe.configuration), _buckets(recipe.manifests))
    return known.recipes[arn]


def _buckets(manifests: Sequence[Manifest]) -> frozenset[str]:
    found = (_S3.fullmatch(artifact.uri) for manifest in manifests for artifact in manifest.artifacts)
    return frozenset(match[1] for match in found if match and "{" not in match[1])


def local_recipes(folder: Path) -> dict[str, list[Json]]:
    """Return the configurations of the recipes in a folder (or of one file), by name."""
    paths = (
        sorted(one for one in folder.iterdir() if one.suffix in (".yaml", ".yml", ".json"))
        if folder.is_dir()
        else [folder]
    )
    found: dict[str, list[Json]] = {}
    for path in paths:
        try:
            recipe = parse_recipe(path.read_bytes(), file=str(path))
        except OSError as error:
            raise FleetError(f"cannot read {path}: {error.strerror}") from error
        found.setdefault(str(recipe.name), []).append(dict(recipe.configuration))
    return found

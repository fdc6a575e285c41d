"""Recipe → text: AWS's own spelling and order of keys, and the same bytes for the same recipe.

What is null, empty or the default is left out. Text that any YAML reader could take for a number, a date or a
boolean is quoted, so that a device and every other tool read the same.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from monodon.core.json import Json
from monodon.core.recipe.model import FORMAT_VERSION, Artifact, ComponentType, Dependency, Manifest, Permission, Recipe
from monodon.core.recipe.scalars import NotJsonError, typed

_NEVER_FOLD = 1 << 20
#: Line breaks that YAML folds like any other, and the byte order mark: escaped, or they would not come back.
_ESCAPED = re.compile("[\r\x85\u2028\u2029\ufeff]")


def to_document(recipe: Recipe) -> dict[str, Json]:
    """Return the recipe as AWS's JSON has it; keys that no format knows come last."""
    configuration = {"DefaultConfiguration": recipe.configuration} if recipe.configuration else None
    document = {
        "RecipeFormatVersion": FORMAT_VERSION,
        "ComponentName": str(recipe.name),
        "ComponentVersion": str(recipe.version),
        "ComponentType": None if recipe.type is ComponentType.GENERIC else str(recipe.type),
        "ComponentDescription": recipe.description,
        "ComponentPublisher": recipe.publisher,
        "ComponentSource": recipe.source,
        "ComponentConfiguration": configuration,
        "ComponentDependencies": {str(name): _dependency(entry) for name, entry in recipe.dependencies.items()} or None,
        "Manifests": [_manifest(manifest) for manifest in recipe.manifests] or None,
        "Lifecycle": recipe.lifecycle or None,
    }
    return _with_extra(document, recipe.extra)


def write_json(recipe: Recipe) -> str:
    """Return the recipe as JSON, indented by two."""
    return json.dumps(to_document(recipe), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_yaml(recipe: Recipe) -> str:
    """Return the recipe as YAML: block style, scripts as literal blocks, lines never folded."""
    return yaml_text(to_document(recipe))


def yaml_text(value: Json) -> str:
    """Return any JSON value as YAML that a device reads back as the same value."""
    stream = io.StringIO()
    emitter: Any = yaml.emitter.Emitter(stream, allow_unicode=True, width=_NEVER_FOLD, line_break="\n")
    for event in (yaml.StreamStartEvent(), yaml.DocumentStartEvent(explicit=False), *_events(value)):
        emitter.emit(event)
    for event in (yaml.DocumentEndEvent(explicit=False), yaml.StreamEndEvent()):
        emitter.emit(event)
    return stream.getvalue().removesuffix("...\n")


def _dependency(dependency: Dependency) -> dict[str, Json]:
    known = {"VersionRequirement": str(dependency.requirement), "DependencyType": str(dependency.type)}
    return _with_extra(known, dependency.extra)


def _manifest(manifest: Manifest) -> dict[str, Json]:
    known = {
        "Name": manifest.name,
        "Platform": manifest.platform or None,
        "Lifecycle": manifest.lifecycle or None,
        "Selections": None if manifest.selections is None else list(manifest.selections),
        "Artifacts": [_artifact(artifact) for artifact in manifest.artifacts] or None,
    }
    return _with_extra(known, manifest.extra)


def _artifact(artifact: Artifact) -> dict[str, Json]:
    permission = {
        "Read": None if artifact.read is Permission.OWNER else str(artifact.read),
        "Execute": None if artifact.execute is Permission.NONE else str(artifact.execute),
    }
    known = {
        "Uri": artifact.uri,
        "Unarchive": None if artifact.unarchive == "NONE" else str(artifact.unarchive),
        "Permission": {key: value for key, value in permission.items() if value} or None,
        "Digest": artifact.digest,
        "Algorithm": artifact.algorithm,
    }
    return _with_extra(known, artifact.extra)


def _with_extra(known: Mapping[str, Json], extra: Mapping[str, Json]) -> dict[str, Json]:
    """Drop nulls, and put unknown keys behind; those of a known key's own map go into it."""
    document: dict[str, Json] = {}
    for key, value in known.items():
        inner = extra.get(key)
        if isinstance(inner, Mapping):
            value = {**(value or {}), **inner}
        if value is not None:
            document[key] = value
    document.update((key, value) for key, value in extra.items() if key not in known)
    return document


# --- YAML: a value as events, since no stock dumper quotes what a device would misread ------------------------------


def _events(value: Json) -> Iterator[yaml.Event]:
    if isinstance(value, Mapping):
        yield yaml.MappingStartEvent(anchor=None, tag=None, implicit=True, flow_style=not value)
        for key, entry in value.items():
            yield _scalar(str(key), is_key=True)
            yield from _events(entry)
        yield yaml.MappingEndEvent()
    elif isinstance(value, list | tuple):
        yield yaml.SequenceStartEvent(anchor=None, tag=None, implicit=True, flow_style=not value)
        for entry in value:
            yield from _events(entry)
        yield yaml.SequenceEndEvent()
    elif isinstance(value, str):
        yield _scalar(str(value))
    else:
        yield yaml.ScalarEvent(anchor=None, tag=None, implicit=(True, False), value=_literal(value))


def _literal(value: bool | int | float | None) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return json.dumps(value, allow_nan=False)


def _scalar(text: str, *, is_key: bool = False) -> yaml.ScalarEvent:
    style = None
    if _ESCAPED.search(text) or (is_key and "\n" in text):
        style = '"'
    elif "\n" in text:
        style = "|"
    return yaml.ScalarEvent(anchor=None, tag=None, implicit=(_may_be_plain(text), True), value=text, style=style)


def _may_be_plain(text: str) -> bool:
    """Tell whether no reader takes the unquoted text for anything but text."""
    try:
        if not isinstance(typed(text), str):
            return False
    except NotJsonError:
        return False
    candidates = yaml.SafeDumper.yaml_implicit_resolvers.get(text[:1], [])
    return not any(pattern.match(text) for _, pattern in candidates)

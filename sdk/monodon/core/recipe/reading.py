"""Text → recipe, exactly as a core device reads it, with every problem at once.

The text becomes a tree of nodes (``yaml_events``, ``json_tokens``); this module follows the table of keys over it.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.recipe.keys import SHAPES, Choice, Free, Key, Kind, ListOf, MapOf, Object, Text
from monodon.core.recipe.model import (
    Artifact,
    ComponentType,
    Dependency,
    DependencyType,
    Manifest,
    Permission,
    Recipe,
    Unarchive,
)
from monodon.core.recipe.nodes import Entries, Items, Node, Scalar, child
from monodon.core.recipe.problems import Problem, Problems, Severity, UnreadableError, closest
from monodon.core.recipe.yaml_events import parse_yaml
from monodon.core.semver import Requirement, Version
from monodon.errors import MonodonError, RecipeError

#: (choice) A device has no limit and AWS stops at 16 KB; nobody's recipe is larger than this.
MAX_SIZE_BYTES = 1024 * 1024

#: What Java takes for a URI: none of blank < > " { } | \ ^ `, and '%' only before two hexadecimal digits. The scheme
#: is looked at when the artifact is downloaded.
_URI = re.compile(r"(?:[^\x00-\x20\x7f<>\"{}|\\^`%]|%[0-9A-Fa-f]{2})+")
_TOP_KEYS = frozenset(key.name.lower() for key in SHAPES["Recipe"])
_FIRST_LINE = "start with RecipeFormatVersion: '2020-01-25'"
PLACEHOLDERS = {
    "{COMPONENT_NAME}": "COMPONENT_NAME",
    "{COMPONENT_VERSION}": "0.0.0",
    "{COMPONENT_AUTHOR}": "COMPONENT_AUTHOR",
    "NEXT_PATCH": "0.0.0",
}


class Reading(NamedTuple):
    """What came of a text: a recipe if a device could use it, and every problem in order of the text.

    ``root`` is the tree with its places, if the text had one.
    """

    recipe: Recipe | None
    problems: tuple[Problem, ...]
    root: Entries | None = None


def read_recipe(text: str | bytes, *, file: str, is_template: bool = False) -> Reading:
    """Read a recipe; never raises for bad text.

    Args:
        file: its name; ``.json`` is read as JSON, ``.yaml`` and ``.yml`` as YAML, anything else by its first character.
        is_template: GDK's placeholders (``{COMPONENT_NAME}``, ``NEXT_PATCH``) stand for valid values.
    """
    problems = Problems()
    try:
        root = _parse(_decoded(text), file, problems)
    except UnreadableError as error:
        problems.add(error.code, error.message, error.at, hint=error.hint)
        return Reading(recipe=None, problems=problems.all())
    if not any(key.text.lower() in _TOP_KEYS for key, _ in root.entries):
        nothing = Problems()  # of a text that is about something else, all else that could be said is noise
        nothing.add("R005", "this is no recipe: it has none of a recipe's keys", root.at, hint=_FIRST_LINE)
        return Reading(recipe=None, problems=nothing.all())
    recipe = _Reader(problems, is_template=is_template).recipe(root)
    return Reading(recipe=None if problems.has_errors else recipe, problems=problems.all(), root=root)


def parse_recipe(text: str | bytes, *, file: str) -> Recipe:
    """Return the recipe in ``text``.

    Raises:
        RecipeError: a device would refuse it; the message has a line for every error.
    """
    reading = read_recipe(text, file=file)
    if reading.recipe is None:
        errors = [problem for problem in reading.problems if problem.severity is Severity.ERROR]
        message = "\n".join(problem.located(file) for problem in errors)
        raise RecipeError(message, problems=reading.problems, hint=errors[0].hint)
    return reading.recipe


def _decoded(text: str | bytes) -> str:
    if len(text) > MAX_SIZE_BYTES:
        message = f"larger than {MAX_SIZE_BYTES} bytes: not read"
        raise UnreadableError("R002", message, hint="AWS takes 16 KB at most; move data into an artifact")
    if isinstance(text, str):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            at = text.count("\n", 0, error.start) + 1, error.start - text.rfind("\n", 0, error.start)
            raise UnreadableError("R003", "the text holds half of a surrogate pair", at) from None
        return text.removeprefix("\ufeff")
    encoding = "utf-16" if text.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return text.decode(encoding)
    except UnicodeDecodeError as error:
        at = text.count(b"\n", 0, error.start) + 1, error.start - text.rfind(b"\n", 0, error.start)
        raise UnreadableError("R003", "not UTF-8", at, hint="save the file as UTF-8") from None


def _parse(text: str, file: str, problems: Problems) -> Entries:
    extension = file.lower().rpartition(".")[2]
    is_json = extension == "json" or (extension not in ("yaml", "yml") and text.lstrip()[:1] == "{")
    root = _parse_json(text) if is_json else parse_yaml(text, problems)
    if root is None or (isinstance(root, Scalar) and root.value is None):
        raise UnreadableError("R005", "the file is empty", hint=_FIRST_LINE)
    if not isinstance(root, Entries):
        raise UnreadableError("R005", f"a recipe is a map of keys, not {_kind_of(root)}", root.at)
    return root


def _parse_json(text: str) -> Node | None:
    from monodon.core.recipe.json_tokens import parse_json  # most recipes are YAML

    return parse_json(text) if text.strip() else None


def _kind_of(node: Node) -> str:
    if isinstance(node, Items):
        return "a list"
    if isinstance(node, Entries):
        return "a map"
    return "nothing" if node.value is None else f"{node.text[:40]!r}"


class _Reader:
    """Follows the table of keys over a tree; every method returns what it could read."""

    def __init__(self, problems: Problems, *, is_template: bool) -> None:
        self._problems = problems
        self._is_template = is_template
        self._texts: Mapping[Text, Callable[[str], Any]] = {
            Text.ANY: str,
            Text.NAME: ComponentName.parse,
            Text.VERSION: Version.parse,
            Text.REQUIREMENT: Requirement.parse,
            Text.URI: _uri,
        }

    def recipe(self, root: Entries) -> Recipe | None:
        """Return the recipe, or None if a part it cannot be without is missing."""
        values, extra = self._object("Recipe", root, "")
        if "ComponentName" not in values or "ComponentVersion" not in values:
            return None
        configuration, unknown = values.get("ComponentConfiguration", ({}, {}))
        if unknown:
            extra["ComponentConfiguration"] = unknown
        return Recipe(
            name=values["ComponentName"],
            version=values["ComponentVersion"],
            description=values.get("ComponentDescription"),
            publisher=values.get("ComponentPublisher"),
            type=ComponentType(values.get("ComponentType", ComponentType.GENERIC)),
            source=values.get("ComponentSource"),
            configuration=configuration.get("DefaultConfiguration", {}),
            dependencies=self._dependencies(values.get("ComponentDependencies", {})),
            manifests=tuple(self._manifest(*manifest) for manifest in values.get("Manifests", ())),
            lifecycle=values.get("Lifecycle", {}),
            extra=extra,
        )

    def _dependencies(self, found: Mapping[str, Any]) -> dict[ComponentName, Dependency]:
        return {
            ComponentName(name): Dependency(
                requirement=values["VersionRequirement"],
                type=DependencyType(values.get("DependencyType", DependencyType.HARD)),
                extra=extra,
            )
            for name, (values, extra) in found.items()
            if "VersionRequirement" in values
        }

    def _manifest(self, values: dict[str, Any], extra: dict[str, Json]) -> Manifest:
        selections = values.get("Selections")
        return Manifest(
            name=values.get("Name"),
            platform=values.get("Platform", {}),
            lifecycle=values.get("Lifecycle", {}),
            selections=None if selections is None else tuple(selections),
            artifacts=tuple(self._artifact(*artifact) for artifact in values.get("Artifacts", ())),
            extra=extra,
        )

    def _artifact(self, values: dict[str, Any], extra: dict[str, Json]) -> Artifact:
        permission, unknown = values.get("Permission", ({}, {}))
        if unknown:
            extra["Permission"] = unknown
        return Artifact(
            uri=values.get("Uri", ""),
            unarchive=Unarchive(values.get("Unarchive", Unarchive.NONE)),
            read=Permission(permission.get("Read", Permission.OWNER)),
            execute=Permission(permission.get("Execute", Permission.NONE)),
            digest=values.get("Digest"),
            algorithm=values.get("Algorithm"),
            extra=extra,
        )

    # --- the table ---------------------------------------------------------------------------------------------

    def _object(self, shape: str, node: Entries, pointer: str) -> tuple[dict[str, Any], dict[str, Json]]:
        """Return the values of known keys by canonical name, and the unknown keys as they are."""
        keys = {key.name.lower(): key for key in SHAPES[shape]}
        values: dict[str, Any] = {}
        extra: dict[str, Json] = {}
        seen: set[str] = set()
        for name, value in node.entries:
            key = keys.get(name.text.lower())
            self._once(name, seen, pointer, folded=key is not None)
            if key is None:
                self._unknown(name, shape, pointer)
                extra[name.text] = self._free(value, child(pointer, name.text))
                continue
            read = self._value(key.kind, value, child(pointer, name.text), key.name)
            if read is None:
                values.pop(key.name, None)
            else:
                values[key.name] = read
        for key in SHAPES[shape]:
            if key.is_required and key.name.lower() not in seen:
                self._missing(key, shape, node, pointer)
        return values, extra

    def _once(self, key: Scalar, seen: set[str], pointer: str, *, folded: bool) -> None:
        name = key.text.lower() if folded else key.text
        if name in seen:
            message = f"{key.text!r} appears twice here: the last one counts"
            self._problems.add(
                "R006", message, key.at, hint="remove one", pointer=child(pointer, key.text), severity=Severity.WARNING
            )
        seen.add(name)

    def _unknown(self, name: Scalar, shape: str, pointer: str) -> None:
        if self._problems.is_full:
            self._problems.left_out += 1
            return
        known = [key.name for key in SHAPES[shape]]
        close = closest(name.text, known, cutoff=0.7)
        hint = f"did you mean {close}?" if close else f"known here: {', '.join(known)}"
        message = f"unknown key {name.text!r}: a device ignores it"
        self._problems.add(
            "R102", message, name.at, hint=hint, pointer=child(pointer, name.text), severity=Severity.WARNING
        )

    def _missing(self, key: Key, shape: str, node: Entries, pointer: str) -> None:
        example = {"RecipeFormatVersion": "'2020-01-25'", "ComponentVersion": "1.0.0"}.get(key.name, "…")
        message = f"{key.name} is missing" + ("" if shape == "Recipe" else f" in this {shape.lower()}")
        self._problems.add("R101", message, node.at, hint=f"add {key.name}: {example}", pointer=pointer)

    def _value(self, kind: Kind, node: Node, pointer: str, name: str) -> Any:
        """Return the value of one key, or None if it is null or was refused."""
        if isinstance(node, Scalar) and node.value is None:
            if isinstance(kind, Choice | Text) and self._is_required(name):
                self._refuse(node, pointer, f"{name} is empty", "give it a value")
            return None
        if isinstance(kind, Text):
            return self._text(kind, node, pointer, name)
        if isinstance(kind, Choice):
            return self._choice(kind, node, pointer, name)
        if isinstance(kind, ListOf):
            return self._list(kind, node, pointer, name)
        if not isinstance(node, Entries):
            return self._refuse(node, pointer, f"{name} must be a map, not {_kind_of(node)}", _map_hint(kind))
        if isinstance(kind, Object):
            return self._object(kind.shape, node, pointer)
        if isinstance(kind, Free):
            return self._free(node, pointer)
        return self._map(kind, node, pointer, name)

    def _is_required(self, name: str) -> bool:
        return any(key.name == name and key.is_required for keys in SHAPES.values() for key in keys)

    def _text(self, kind: Text, node: Node, pointer: str, name: str) -> Any:
        if not isinstance(node, Scalar):
            hint = "quote it" if isinstance(node, Entries) else None
            return self._refuse(node, pointer, f"{name} must be text, not {_kind_of(node)}", hint)
        text = self._filled(node.text) if self._is_template else node.text
        try:
            return self._texts[kind](text)
        except MonodonError as error:
            code = {Text.VERSION: "R105", Text.NAME: "R106", Text.REQUIREMENT: "R107"}.get(kind, "R108")
            self._problems.add(code, f"{name}: {error.message}", node.at, hint=error.hint, pointer=pointer)
            return None

    def _filled(self, text: str) -> str:
        if text == "COMPONENT_VERSION":  # as build scripts of one's own write it
            return PLACEHOLDERS["{COMPONENT_VERSION}"]
        for placeholder, value in PLACEHOLDERS.items():
            text = text.replace(placeholder, value)
        return text

    def _choice(self, kind: Choice, node: Node, pointer: str, name: str) -> str | None:
        if isinstance(node, Scalar):
            for value in kind.values:
                if node.text.lower() == value.lower():
                    return value
        message = f"{name} cannot be {_kind_of(node)}"
        hint = f"write {' or '.join(kind.values)}"
        self._problems.add("R104", message, node.at, hint=hint, pointer=pointer)
        return None

    def _list(self, kind: ListOf, node: Node, pointer: str, name: str) -> Any:
        if not isinstance(node, Items):
            return self._refuse(node, pointer, f"{name} must be a list, not {_kind_of(node)}", "put '- ' in front")
        values = []
        for index, item in enumerate(node.items):
            at = child(pointer, index)
            if isinstance(item, Scalar) and item.value is None:
                self._refuse(item, at, f"{name} holds an empty element", "remove the '-', or complete it", code="R109")
                continue
            value = self._value(kind.item, item, at, f"an element of {name}")
            if value is not None:
                values.append(value)
        return values

    def _map(self, kind: MapOf, node: Entries, pointer: str, name: str) -> dict[str, Any]:
        values: dict[str, Any] = {}
        seen: set[str] = set()
        for key, value in node.entries:
            self._once(key, seen, pointer, folded=False)
            at = child(pointer, key.text)
            if isinstance(value, Scalar) and value.value is None:
                if isinstance(kind.item, Object):
                    self._refuse(value, at, f"{key.text} in {name} is empty", _map_hint(kind.item))
                else:
                    values[key.text] = "*"  # a null attribute of a platform matches everything, as '*' does
                continue
            if isinstance(kind.item, Object):
                self._text(Text.NAME, key, at, name)
            read = self._value(kind.item, value, at, f"{key.text} in {name}")
            if read is not None:
                values[key.text] = read
        return values

    def _free(self, node: Node, pointer: str) -> Json:
        """Return the JSON of a free-form part, warning of keys that stand twice."""
        if isinstance(node, Scalar):
            return node.value
        if isinstance(node, Items):
            return [self._free(item, child(pointer, index)) for index, item in enumerate(node.items)]
        seen: set[str] = set()
        values: dict[str, Json] = {}
        for key, value in node.entries:
            self._once(key, seen, pointer, folded=False)
            values[key.text] = self._free(value, child(pointer, key.text))
        return values

    def _refuse(self, node: Node, pointer: str, message: str, hint: str | None, *, code: str = "R103") -> Any:
        self._problems.add(code, message, node.at, hint=hint, pointer=pointer)
        return None


def _map_hint(kind: Kind) -> str:
    if isinstance(kind, Object) and kind.shape == "Dependency":
        return "write it as {VersionRequirement: '^1.0.0', DependencyType: HARD}"
    return "write 'key: value' below it"


def _uri(text: str) -> str:
    if not _URI.fullmatch(text):
        raise RecipeError(f"{text[:200]!r} is not a URI", hint="write s3://bucket/key; blanks as %20")
    artifact = Artifact(uri=text)
    if text[:3].lower() == "s3:" and (artifact.file_name in ("", ".", "..") or "/" in artifact.file_name):
        raise RecipeError(f"{text[:200]!r} names no file", hint="write s3://bucket/folder/file.zip")
    return text

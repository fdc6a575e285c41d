"""A component's Python source → the accessControl it needs: the operations it calls, and on which topics.

The source is read, never run. Constants, the defaults of a ``Settings`` dataclass, f-strings and the parameters of
functions called in the same source are followed; what cannot be told is said.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monodon.authoring.recipes import Grant, access_control
from monodon.core.json import Json
from monodon.core.policy import MQTT_PROXY, SERVICE_OF
from monodon.errors import RecipeError

PREFIX = "aws.greengrass#"
#: How far a value is followed from name to name.
_DEPTH = 6


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that asks for a grant: its operation, and the argument that names the resource (keywords, position).

    ``also`` is what the same call needs besides: an operation, and what is put behind the resource.
    """

    operation: str
    keywords: tuple[str, ...]
    position: int | None = None
    is_shadow: bool = False
    also: tuple[str, str] | None = None


#: Methods of ``monodon.component.Component``; the receiver's name tells them from others' ``publish``.
_COMPONENT_CALLS: Mapping[str, _Call] = {
    "publish": _Call("PublishToTopic", ("topic",), 0),
    "subscribe": _Call("SubscribeToTopic", ("topic",), 0),
    "publish_to_iot": _Call("PublishToIoTCore", ("topic",), 0),
    "subscribe_to_iot": _Call("SubscribeToIoTCore", ("topic",), 0),
    "request": _Call("PublishToTopic", ("topic",), 0, also=("SubscribeToTopic", "/replies/<component>")),
    "requests": _Call("SubscribeToTopic", ("topic",), 0, also=("PublishToTopic", "/replies/*")),
    "secret": _Call("GetSecretValue", ("name",), 0),
}
#: Methods of a shadow that a component holds.
_SHADOW_CALLS: Mapping[str, tuple[str, str]] = {
    "report": ("UpdateThingShadow", ""),
    "desire": ("UpdateThingShadow", ""),
    "delete": ("DeleteThingShadow", ""),
    "changes": ("SubscribeToTopic", "/update/documents"),
}
_METRICS = "$aws/things/+/shadow/name/monodon-metrics/update"
#: Methods of awsiotsdk's GreengrassCoreIPCClientV2, and the fields of its request classes.
_SDK_CALLS: Mapping[str, _Call] = {
    "publish_to_topic": _Call("PublishToTopic", ("topic",)),
    "subscribe_to_topic": _Call("SubscribeToTopic", ("topic",)),
    "publish_to_iot_core": _Call("PublishToIoTCore", ("topic_name",)),
    "subscribe_to_iot_core": _Call("SubscribeToIoTCore", ("topic_name",)),
    "pause_component": _Call("PauseComponent", ("component_name",)),
    "resume_component": _Call("ResumeComponent", ("component_name",)),
    "get_secret_value": _Call("GetSecretValue", ("secret_id",)),
    "get_thing_shadow": _Call("GetThingShadow", ("thing_name",), is_shadow=True),
    "update_thing_shadow": _Call("UpdateThingShadow", ("thing_name",), is_shadow=True),
    "delete_thing_shadow": _Call("DeleteThingShadow", ("thing_name",), is_shadow=True),
    "list_named_shadows_for_thing": _Call("ListNamedShadowsForThing", ("thing_name",)),
}
_REQUESTS: Mapping[str, _Call] = {f"{call.operation}Request": call for call in _SDK_CALLS.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the code uses: resources by operation; and what could not be told."""

    resources: Mapping[str, tuple[str, ...]]
    doubts: tuple[str, ...] = ()


def read_needs(path: Path) -> Needs:
    """Return what the Python source at ``path`` (a file, or a folder of files) needs.

    Raises:
        RecipeError: a file is no Python.
    """
    files = sorted(path.glob("*.py")) if path.is_dir() else [path]
    code = {file.name: file.read_text(encoding="utf-8", errors="replace") for file in files if file.name != "recipe.py"}
    return needs_of(code, component=_name_from(path))


def _name_from(path: Path) -> str:
    return (path if path.is_dir() else path.parent).resolve().name


def needs_of(code: Mapping[str, str], *, component: str = "*") -> Needs:
    """Return what the sources, by file name, need together; ``component`` is whose they are.

    Raises:
        RecipeError: a source is no Python.
    """
    trees = {}
    for name, text in code.items():
        try:
            trees[name] = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError) as error:
            raise RecipeError(f"{name} is no Python: {error}") from None
    reader = _Reader(trees)
    found: dict[str, dict[str, None]] = {}
    for operation, resources in reader.uses():
        named = [resource.replace("<component>", component) for resource in resources]
        found.setdefault(operation, {}).update(dict.fromkeys(named))
    return Needs(
        resources={operation: tuple(resources) for operation, resources in found.items()},
        doubts=tuple(dict.fromkeys(reader.doubts)),
    )


def access_control_for(path: Path, needs: Needs) -> dict[str, Json]:
    """Return the accessControl of a component that needs this; the folder names the component."""
    return access_control(_name_from(path), grants_for(needs))


def grants_for(needs: Needs) -> tuple[Grant, ...]:
    """Return the least that allows what the code uses."""
    grants = []
    for operation, resources in needs.resources.items():
        name = f"{PREFIX}{operation}"
        if resources:
            said = f"Allows {operation} on {', '.join(resources)}."
            grants.append(Grant(service=SERVICE_OF[name], operations=(name,), resources=resources, description=said))
    return tuple(grants)


@dataclass(slots=True)
class _Function:
    node: ast.FunctionDef | ast.AsyncFunctionDef
    calls: list[ast.Call] = field(default_factory=list)

    def argument(self, call: ast.Call, name: str) -> ast.expr | None:
        """Return what a call passes for a parameter; the method's own object is not counted."""
        for keyword in call.keywords:
            if keyword.arg == name:
                return keyword.value
        names = [one.arg for one in (*self.node.args.posonlyargs, *self.node.args.args)]
        if names and names[0] in ("self", "cls") and isinstance(call.func, ast.Attribute):
            names = names[1:]
        if name in names and names.index(name) < len(call.args):
            return call.args[names.index(name)]
        return None

    @property
    def parameters(self) -> set[str]:
        arguments = self.node.args
        return {one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}


class _Reader:
    """Follows values through the sources of one component."""

    def __init__(self, trees: Mapping[str, ast.Module]) -> None:
        self.doubts: list[str] = []
        self._trees = trees
        self._constants: dict[str, list[ast.expr]] = {}
        self._settings: dict[str, list[ast.expr]] = {}
        self._functions: dict[str, _Function] = {}
        self._owner: dict[ast.AST, _Function] = {}
        for tree in trees.values():
            self._learn(tree)
        for tree in trees.values():
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and (name := _name_of(node.func)) in self._functions:
                    self._functions[name].calls.append(node)

    def _learn(self, tree: ast.Module) -> None:
        for statement in tree.body:
            self._assign(statement, self._constants)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for statement in node.body:
                    self._assign(statement, self._settings)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                function = self._functions.setdefault(node.name, _Function(node))
                for inner in ast.walk(node):
                    self._owner[inner] = function

    def _assign(self, statement: ast.stmt, into: dict[str, list[ast.expr]]) -> None:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    into.setdefault(target.id, []).append(statement.value)
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            into.setdefault(statement.target.id, []).append(statement.value)

    def uses(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each operation that is called, with the resources that could be told."""
        shadows: dict[str, None] = {}
        held: dict[tuple[str, str], None] = {}
        for file, tree in self._trees.items():
            for node in ast.walk(tree):
                if not isinstance(node, ast.Call):
                    continue
                if (call := _grant_call(node)) is not None:
                    yield from self._use(file, node, call)
                elif _is_of(node, "component", "metrics"):
                    yield "PublishToIoTCore", (_METRICS,)
                elif _is_of(node, "component", "shadow"):
                    things = self._texts_or(_keyword(node, "thing_name"), "*", "*")
                    names = self._texts_or(_keyword(node, "name") or next(iter(node.args), None), "*", "")
                    shadows.update(dict.fromkeys(_shadow_topics(things, names)))
                elif _is_of(node, "shadow", *_SHADOW_CALLS):
                    held[_SHADOW_CALLS[_name_of(node.func)]] = None
        for operation, suffix in (("GetThingShadow", ""), *held) if shadows else ():
            yield operation, tuple(f"{shadow}{suffix}" for shadow in shadows)

    def _use(self, file: str, node: ast.Call, call: _Call) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield what one call needs."""
        argument = _argument(node, call)
        if argument is None:
            return
        wildcard = "+" if SERVICE_OF[f"{PREFIX}{call.operation}"] == MQTT_PROXY else "*"
        texts = self._texts(argument, wildcard, _DEPTH)
        if call.is_shadow:
            texts = _shadow_topics(texts or ("*",), self._texts_or(_keyword(node, "shadow_name"), "*", ""))
        where = f"{file}:{node.lineno}: {call.operation} on"
        if texts is None:
            self.doubts.append(f"{where} {ast.unparse(argument)}")
        elif call.operation == "GetSecretValue":
            self.doubts += [f"{where} {text}: a grant needs the secret's ARN" for text in texts if text[:4] != "arn:"]
            texts = tuple(text for text in texts if text[:4] == "arn:")
        told = tuple(text for text in texts or () if text)
        yield call.operation, told
        if call.also:
            operation, suffix = call.also
            yield operation, tuple(f"{text}{suffix}" for text in told)

    def _texts_or(self, node: ast.expr | None, unknown: str, missing: str) -> tuple[str, ...]:
        """Return the texts that an argument may have; ``missing`` if it is not given, ``unknown`` if it can be any."""
        if node is None or (isinstance(node, ast.Constant) and node.value is None):
            return (missing,)
        return self._texts(node, unknown, _DEPTH) or (unknown,)

    def _texts(self, node: ast.expr, wildcard: str, depth: int) -> tuple[str, ...] | None:
        """Return the texts that an expression may have, ``wildcard`` for a part that varies; None if it can be any."""
        if depth == 0:
            return None
        if isinstance(node, ast.Constant):
            return (node.value,) if isinstance(node.value, str) else None
        if isinstance(node, ast.JoinedStr):
            return self._joined(node, wildcard, depth)
        if isinstance(node, ast.IfExp):
            return self._either([node.body, node.orelse], wildcard, depth)
        if isinstance(node, ast.BoolOp):
            return self._either(node.values, wildcard, depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left, right = (self._texts(part, wildcard, depth - 1) or (wildcard,) for part in (node.left, node.right))
            return _known(tuple(one + other for one in left for other in right), wildcard)
        if isinstance(node, ast.Call):
            return self._called(node, wildcard, depth)
        if isinstance(node, ast.Attribute):
            return self._either(self._settings.get(node.attr, []), wildcard, depth)
        if isinstance(node, ast.Name):
            return self._named(node, wildcard, depth)
        return None

    def _either(self, nodes: Sequence[ast.expr], wildcard: str, depth: int) -> tuple[str, ...] | None:
        found: list[str] = []
        for node in nodes:
            texts = self._texts(node, wildcard, depth - 1)
            if texts is None:
                return None
            found += texts
        return tuple(dict.fromkeys(found)) or None

    def _joined(self, node: ast.JoinedStr, wildcard: str, depth: int) -> tuple[str, ...] | None:
        parts: list[tuple[str, ...]] = []
        for value in node.values:
            if isinstance(value, ast.FormattedValue):
                parts.append(self._texts(value.value, wildcard, depth - 1) or (wildcard,))
            else:
                parts.append(self._texts(value, wildcard, depth - 1) or ("",))
        texts: tuple[str, ...] = ("",)
        for part in parts:
            texts = tuple(one + other for one in texts for other in part)
        return _known(texts, wildcard)

    def _called(self, node: ast.Call, wildcard: str, depth: int) -> tuple[str, ...] | None:
        """Follow what leaves a pattern a pattern: ``topic.replace("+", thing)``, ``topic.strip()``, ``format``."""
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("replace", "strip", "rstrip", "lower"):
            texts = self._texts(node.func.value, wildcard, depth - 1)
            replaced = [one.value for one in node.args if isinstance(one, ast.Constant)]
            if node.func.attr == "replace" and texts and replaced and isinstance(replaced[0], str):
                return tuple(text.replace(replaced[0], wildcard) for text in texts)
            return texts
        return None

    def _named(self, node: ast.Name, wildcard: str, depth: int) -> tuple[str, ...] | None:
        function = self._owner.get(node)
        if function is not None:
            local = [
                statement.value
                for statement in ast.walk(function.node)
                if isinstance(statement, ast.Assign)
                and any(isinstance(target, ast.Name) and target.id == node.id for target in statement.targets)
            ]
            if local:
                return self._either(local, wildcard, depth)
            if node.id in function.parameters:
                passed = [function.argument(call, node.id) for call in function.calls]
                known = [one for one in passed if one is not None]
                return self._either(known, wildcard, depth) if known and len(known) == len(passed) else None
        return self._either(self._constants.get(node.id, []), wildcard, depth)


def _known(texts: tuple[str, ...], wildcard: str) -> tuple[str, ...] | None:
    """Return texts unless one of them is nothing but wildcards."""
    if any(not text.replace(wildcard, "").strip("/") for text in texts):
        return None
    return texts


def _name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _grant_call(node: ast.Call) -> _Call | None:
    name = _name_of(node.func)
    if name in _REQUESTS:
        return _REQUESTS[name]
    if not isinstance(node.func, ast.Attribute):
        return None
    if _is_of(node, "component", *_COMPONENT_CALLS):
        return _COMPONENT_CALLS[name]
    return _SDK_CALLS.get(name)


def _is_of(node: ast.Call, receiver: str, *methods: str) -> bool:
    """Tell whether it is a call of a method of something that is named as ``receiver``."""
    function = node.func
    named = isinstance(function, ast.Attribute) and function.attr in methods
    return named and receiver in ast.unparse(function.value).lower()  # type: ignore[attr-defined]  # it is one


def _shadow_topics(things: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the resources of shadows' operations: of named ones, or of the classic one, whose name is empty."""
    parts = [f"/name/{name}" if name else "" for name in names]
    return tuple(f"$aws/things/{thing}/shadow{part}" for thing in things for part in parts)


def _keyword(node: ast.Call, name: str) -> ast.expr | None:
    return next((one.value for one in node.keywords if one.arg == name), None)


def _argument(node: ast.Call, call: _Call) -> ast.expr | None:
    for keyword in node.keywords:
        if keyword.arg in call.keywords:
            return keyword.value
    if call.position is not None and len(node.args) > call.position:
        return node.args[call.position]
    return None

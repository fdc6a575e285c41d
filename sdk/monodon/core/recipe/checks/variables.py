"""Rules about recipe variables: what the device fills in, and what it leaves as it is."""

import re
from collections.abc import Iterator

from monodon.core.json import Json
from monodon.core.pointers import Missing, look_up_pointer
from monodon.core.recipe.checks.rule import DEVICE, ERROR, HINT, WARNING, Found, rule
from monodon.core.recipe.checks.subject import Part, Subject, Variable, variables_in
from monodon.core.recipe.model import Recipe
from monodon.core.recipe.nodes import Entries, Items, Node, Scalar, child, plain
from monodon.core.recipe.problems import closest

NAMESPACES = {
    "artifacts": ("path", "decompressedPath"),
    "work": ("path",),
    "kernel": ("rootPath",),
    "iot": ("thingName",),
    "configuration": (),
}


def _configuration_uses(subject: Subject, *, of_others: bool = False) -> Iterator[Variable]:
    for variable in subject.variables:
        if variable.namespace == "configuration" and (variable.component is not None) == of_others:
            yield variable


def _unquoted(node: Node, pointer: str) -> Iterator[tuple[Scalar, str]]:
    """Yield the keys of maps that were meant as variables: ``{configuration:/x}`` without quotes."""
    if isinstance(node, Items):
        for index, item in enumerate(node.items):
            yield from _unquoted(item, child(pointer, index))
    elif isinstance(node, Entries):
        for key, value in node.entries:
            namespace = key.text.split(":")[-2] if ":" in key.text else ""
            if namespace in NAMESPACES and isinstance(value, Scalar) and value.value is None and len(node.entries) == 1:
                yield key, pointer
            yield from _unquoted(value, child(pointer, key.text))


@rule("R501", ERROR)
def unquoted_variable(subject: Subject) -> Iterator[Found]:
    """A variable stands in YAML without quotes.

    ``{configuration:/x}`` alone is a map with the key ``configuration:/x``, not text. A device ignores it, or fails.
    """
    for node, pointer, _ in subject.lifecycles:
        for key, at in _unquoted(node, pointer):
            text = "{" + key.text + "}"
            line, column = key.at
            yield Found(
                key,
                at,
                f"{text} without quotes is a map, not a variable",
                f"write '{text}'",
                text,
                f"'{text}'",
                (line, column - 1),
            )


@rule("R502", ERROR)
def pointer_without_slash(subject: Subject) -> Iterator[Found]:
    """A configuration pointer does not start with a slash.

    The device fails the whole deployment, without saying why. An empty pointer is the whole configuration.
    """
    for variable in subject.variables:
        if variable.namespace == "configuration" and variable.key and not variable.key.startswith("/"):
            right = variable.text.replace(f"configuration:{variable.key}", f"configuration:/{variable.key}")
            message = f"{variable.text} fails the deployment: its pointer lacks the '/'"
            yield Found(variable.part.node, variable.part.pointer, message, f"write {right}", variable.text, right)


@rule("R503", WARNING)
def pointer_to_nothing(subject: Subject) -> Iterator[Found]:
    """A variable names a key that DefaultConfiguration lacks.

    Without a deployment that merges it, the text stays as it is written. Pointers are case-sensitive.
    """
    defaults = plain(subject.configuration.node) if subject.configuration else {}
    for variable in _configuration_uses(subject):
        if not variable.key.startswith("/") or not isinstance(look_up_pointer(defaults, variable.key), Missing):
            continue
        close = closest(variable.key, list(_pointers(defaults)), cutoff=0.6)
        hint = f"did you mean {close}?" if close else "give it a default"
        message = f"{variable.text}: DefaultConfiguration has no {variable.key}"
        yield Found(variable.part.node, variable.part.pointer, message, hint, variable.text)


def _pointers(value: Json, base: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield child(base, key)
            yield from _pointers(entry, child(base, key))


@rule("R504", ERROR)
def variable_of_no_dependency(subject: Subject) -> Iterator[Found]:
    """A variable belongs to a component that is not a dependency.

    Only direct dependencies can be referred to; the text stays as it is written.
    """
    for variable in subject.variables:
        name = variable.component
        if name is None or variable.namespace not in NAMESPACES or name in subject.dependency_names:
            continue
        if name == subject.name:
            right = variable.text.replace(f"{name}:", "", 1)
            yield Found(
                variable.part.node, variable.part.pointer, f"{variable.text}: a component is no dependency of its own",
                f"write {right}", variable.text, right,
            )  # fmt: skip
            continue
        close = closest(name, sorted(subject.dependency_names), cutoff=0.7)
        hint = f"did you mean {close}?" if close else f"add {name} to ComponentDependencies"
        message = f"{variable.text}: {name} is not a dependency"
        yield Found(variable.part.node, variable.part.pointer, message, hint, variable.text)


@rule("R505", WARNING)
def unknown_variable(subject: Subject) -> Iterator[Found]:
    """Something looks like a variable, and is none.

    The device leaves it as it is, with a line in its log. Known are ``artifacts:path``, ``artifacts:decompressedPath``,
    ``work:path``, ``kernel:rootPath``, ``iot:thingName`` and ``configuration:/…``.
    """
    names = [f"{namespace}:{key}" for namespace, keys in NAMESPACES.items() for key in keys]
    for variable in subject.variables:
        if variable.namespace == "configuration" or variable.key in NAMESPACES.get(variable.namespace, ()):
            continue
        if variable.component is None and variable.namespace in subject.dependency_names:
            continue
        said = f"{variable.namespace}:{variable.key}"
        close = closest(said, [*names, "configuration:/"], cutoff=0.6)
        if variable.namespace in NAMESPACES or close:
            hint = f"did you mean {{{close}}}?" if close else f"known are {', '.join(names)}"
            message = f"{variable.text} is no variable: it stays as it is"
            yield Found(variable.part.node, variable.part.pointer, message, hint, variable.text)


@rule("R506", WARNING)
def variable_in_a_key(subject: Subject) -> Iterator[Found]:
    """A variable stands in a key, where it is never filled in."""
    for node, pointer, _ in subject.lifecycles:
        for key, at in _keys(node, pointer):
            for variable in variables_in(Part(key, at)):
                if variable.namespace in NAMESPACES:
                    yield Found(key, at, f"{variable.text} in a key is never filled in", "use it in a value")


def _keys(node: Node, pointer: str) -> Iterator[tuple[Scalar, str]]:
    if isinstance(node, Items):
        for index, item in enumerate(node.items):
            yield from _keys(item, child(pointer, index))
    elif isinstance(node, Entries):
        for key, value in node.entries:
            yield key, child(pointer, key.text)
            yield from _keys(value, child(pointer, key.text))


@rule("R507", WARNING)
def variable_in_configuration(subject: Subject) -> Iterator[Found]:
    """A configuration variable stands in the configuration itself.

    It is never filled in there, whatever the nucleus is set to.
    """
    for variable in _variables_of_configuration(subject):
        if variable.namespace == "configuration":
            message = f"{variable.text} is never filled in inside a configuration"
            yield Found(variable.part.node, variable.part.pointer, message, "write the value out", variable.text)


@rule("R508", HINT, DEVICE)
def variable_that_needs_a_switch(subject: Subject) -> Iterator[Found]:
    """A system variable stands in the configuration.

    It is filled in only on devices whose nucleus has ``interpolateComponentConfiguration: true``, which is not the
    default.
    """
    for variable in _variables_of_configuration(subject):
        is_grant = subject.access_control and variable.part.pointer.startswith(subject.access_control.pointer + "/")
        if variable.namespace != "configuration" and variable.namespace in NAMESPACES and not is_grant:
            message = f"{variable.text} in a configuration is filled in only with interpolateComponentConfiguration"
            hint = "use it in a script or in Setenv"
            yield Found(variable.part.node, variable.part.pointer, message, hint, variable.text)


def _variables_of_configuration(subject: Subject) -> Iterator[Variable]:
    for part in subject.configuration_texts:
        yield from variables_in(part)


@rule("R509", WARNING)
def json_in_a_script(subject: Subject) -> Iterator[Found]:
    """A variable whose value is an object or a list stands in a script without single quotes.

    It becomes JSON, and the shell takes the double quotes away. Put it in single quotes, or into Setenv.
    """
    defaults = plain(subject.configuration.node) if subject.configuration else {}
    for step, script in subject.scripts:
        for variable in variables_in(Part(script, step.pointer)):
            if variable.namespace != "configuration" or variable.component is not None:
                continue
            value = look_up_pointer(defaults, variable.key) if variable.key[:1] in ("", "/") else None
            if isinstance(value, dict | list) and f"'{variable.text}'" not in script.text:
                message = f"{variable.text} is JSON, and the shell takes its quotes away"
                yield Found(script, step.pointer, message, f"write '{variable.text}', or use Setenv", variable.text)


@rule("R510", WARNING)
def pointer_to_nothing_of_a_dependency(subject: Subject) -> Iterator[Found]:
    """A variable names a key that the dependency's DefaultConfiguration lacks."""
    for variable in _configuration_uses(subject, of_others=True):
        known = subject.neighbours.get(variable.component or "", ())
        if known and variable.key.startswith("/") and all(_lacks(recipe, variable.key) for recipe in known):
            message = f"{variable.text}: {variable.component} has no default for {variable.key}"
            yield Found(variable.part.node, variable.part.pointer, message, "check its settings", variable.text)


def _lacks(recipe: Recipe, pointer: str) -> bool:
    return isinstance(look_up_pointer(recipe.configuration, pointer), Missing)


@rule("R511", ERROR)
def nothing_is_unpacked(subject: Subject) -> Iterator[Found]:
    """artifacts:decompressedPath is used, but nothing is unpacked.

    The folder is there only for artifacts with ``Unarchive: ZIP``.
    """
    if any(_is_zip(artifact) for artifact, _, _ in subject.artifacts):
        return
    for variable in subject.variables:
        if variable.component is None and (variable.namespace, variable.key) == ("artifacts", "decompressedPath"):
            hint = "set Unarchive: ZIP for the artifact"
            message = f"{variable.text}: no artifact is unpacked"
            yield Found(variable.part.node, variable.part.pointer, message, hint, variable.text)


def _is_zip(artifact: Entries) -> bool:
    node = artifact.get("Unarchive")
    return isinstance(node, Scalar) and node.text.upper() == "ZIP"


def _file_names(subject: Subject) -> dict[str, bool]:
    """Return each artifact's file name, and whether it is unpacked."""
    found = {}
    for artifact, _, _ in subject.artifacts:
        uri = artifact.get("Uri")
        if isinstance(uri, Scalar):
            found[re.split(r"[/:]", uri.text)[-1]] = _is_zip(artifact)
    return found


@rule("R512", ERROR)
def folder_of_no_archive(subject: Subject) -> Iterator[Found]:
    """A path below artifacts:decompressedPath is in the folder of no artifact.

    An archive is unpacked into a folder named as the file without its last extension: ``app.zip`` into ``app/``.
    """
    folders = {name.rpartition(".")[0] or name for name, is_zip in _file_names(subject).items() if is_zip}
    yield from _missing(subject, "decompressedPath", folders)


@rule("R513", WARNING)
def file_of_no_artifact(subject: Subject) -> Iterator[Found]:
    """A path below artifacts:path is the file of no artifact."""
    yield from _missing(subject, "path", set(_file_names(subject)))


def _missing(subject: Subject, key: str, names: set[str]) -> Iterator[Found]:
    if not names or any(re.search(r"[${]|COMPONENT_", name) for name in names):  # a template's own words
        return
    pattern = re.compile(rf"\{{artifacts:{key}\}}/([\w.-]+)(?![\w.$*?{{-])")
    for part in subject.lifecycle_texts:
        for match in pattern.finditer(part.node.text if isinstance(part.node, Scalar) else ""):
            if match[1] not in names:
                message = f"{match[0]}: artifacts give {', '.join(sorted(names))}"
                close = closest(match[1], sorted(names), cutoff=0.5)
                hint = f"did you mean {close}?" if close else "name the artifact's file, or add one"
                yield Found(part.node, part.pointer, message, hint, match[0])

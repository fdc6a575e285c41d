"""Rules for nucleus lite, which reads less than the classic nucleus.

Source: aws-greengrass-lite, July 2026, and its issues 764, 775, 867 and 1011.
"""

import re
from collections.abc import Iterator

from monodon.core.recipe.checks.rule import ERROR, LITE, WARNING, Found, rule
from monodon.core.recipe.checks.subject import Subject
from monodon.core.recipe.keys import SHAPES, STEP_KEYS, STEPS, ListOf, MapOf, Object
from monodon.core.recipe.nodes import Entries, Items, Node, Scalar, child

_RUNTIMES = ("*", "aws_nucleus_lite")
_UNSUPPORTED_STEPS = ("Shutdown", "Recover", "Uninstall")


@rule("L101", ERROR, LITE)
def spelling(subject: Subject) -> Iterator[Found]:
    """A key is not in the documented spelling.

    Nucleus lite compares keys letter by letter.
    """
    yield from _misspelt(subject.root, "Recipe", "")
    for step in subject.steps:
        if isinstance(step.node, Entries):
            yield from _spelled(step.node, STEP_KEYS, step.pointer)
    for node, pointer, _ in subject.step_maps:
        yield from _spelled(node, (*STEPS, "Setenv"), pointer)


def _misspelt(node: Node, shape: str, pointer: str) -> Iterator[Found]:
    if not isinstance(node, Entries):
        return
    keys = {key.name.lower(): key for key in SHAPES[shape]}
    yield from _spelled(node, tuple(key.name for key in keys.values()), pointer)
    for name, value in node.entries:
        kind = keys[name.text.lower()].kind if name.text.lower() in keys else None
        at = child(pointer, name.text)
        if isinstance(kind, Object):
            yield from _misspelt(value, kind.shape, at)
        elif isinstance(kind, ListOf) and isinstance(kind.item, Object) and isinstance(value, Items):
            for index, item in enumerate(value.items):
                yield from _misspelt(item, kind.item.shape, child(at, index))
        elif isinstance(kind, MapOf) and isinstance(kind.item, Object) and isinstance(value, Entries):
            for key, item in value.entries:
                yield from _misspelt(item, kind.item.shape, child(at, key.text))


def _spelled(node: Entries, names: tuple[str, ...], pointer: str) -> Iterator[Found]:
    right = {name.lower(): name for name in names}
    # The guide itself writes these in two ways, and lite takes both.
    accepted = {"uri": ("URI", "Uri"), "setenv": ("Setenv",), "run": ("run", "Run"), "install": ("install", "Install")}
    for key, _ in node.entries:
        wanted = right.get(key.text.lower())
        if wanted and key.text not in accepted.get(
            key.text.lower(), (wanted, wanted.lower() if wanted in STEPS else wanted)
        ):
            message = f"nucleus lite does not know {key.text}: case counts there"
            yield Found(key, child(pointer, key.text), message, f"write {wanted}", key.text, wanted)


@rule("L102", ERROR, LITE)
def no_runtime(subject: Subject) -> Iterator[Found]:
    """No manifest asks for ``runtime``, without which nucleus lite takes none."""
    for manifest, pointer in subject.manifests:
        platform = manifest.get("Platform")
        runtime = platform.get("runtime") if isinstance(platform, Entries) else None
        if not isinstance(runtime, Scalar) or runtime.text not in _RUNTIMES:
            hint = "add runtime: '*' to Platform"
            yield Found(platform or manifest, pointer, "nucleus lite needs runtime: '*' or aws_nucleus_lite", hint)


@rule("L103", ERROR, LITE)
def unsupported_step(subject: Subject) -> Iterator[Found]:
    """A step that nucleus lite does not run: Shutdown, Recover, Uninstall."""
    for step in subject.steps:
        if step.name in _UNSUPPORTED_STEPS:
            hint = "end well on SIGTERM instead" if step.name == "Shutdown" else "do without it"
            yield Found(step.key, step.pointer, f"nucleus lite does not run {step.name}", hint)


@rule("L104", ERROR, LITE)
def skipif(subject: Subject) -> Iterator[Found]:
    """Skipif is ignored: the step runs."""
    for step in subject.steps:
        node = step.get("Skipif")
        if node is not None:
            yield Found(node, step.pointer, "nucleus lite has no Skipif: the step runs", "test it in the script")


@rule("L105", ERROR, LITE)
def regular_expression(subject: Subject) -> Iterator[Found]:
    """A regular expression of a platform is compared letter by letter."""
    for name, value, pointer in _platform(subject):
        if len(value.text) >= 2 and value.text.startswith("/") and value.text.endswith("/"):
            message = f"{name.text} {value.text}: nucleus lite knows no regular expressions"
            yield Found(value, pointer, message, "write one manifest for each value")


@rule("L106", ERROR, LITE)
def other_type(subject: Subject) -> Iterator[Found]:
    """Only generic components run on nucleus lite: no plugins, no Lambda functions."""
    node = subject.top("ComponentType")
    if isinstance(node, Scalar) and node.value is not None and node.text.lower() != "aws.greengrass.generic":
        yield Found(node, "/ComponentType", f"nucleus lite does not run {node.text}", "make it a generic component")


@rule("L107", ERROR, LITE)
def not_for_linux(subject: Subject) -> Iterator[Found]:
    """No manifest is for Linux, all that nucleus lite runs on."""
    systems = [value.text for name, value, _ in _platform(subject) if name.text == "os"]
    if systems and not any(text in ("linux", "*", "all", "any") or text.startswith("/") for text in systems):
        yield Found(subject.root, "/Manifests", f"nucleus lite runs on linux, not on {systems[0]}", "add a manifest")


def _platform(subject: Subject) -> Iterator[tuple[Scalar, Scalar, str]]:
    for manifest, pointer in subject.manifests:
        platform = manifest.get("Platform")
        for name, value in platform.entries if isinstance(platform, Entries) else ():
            if isinstance(value, Scalar):
                yield name, value, child(child(pointer, "Platform"), name.text)


@rule("L108", ERROR, LITE)
def variable_of_a_dependency(subject: Subject) -> Iterator[Found]:
    """A variable of another component is not filled in.

    ``monodon recipe show --self-contained`` folds what the component needs of others into itself.
    """
    for variable in subject.variables:
        if variable.component is not None and variable.component in subject.dependency_names:
            message = f"{variable.text}: nucleus lite has no variables of other components"
            hint = "bring the artifact yourself: build a self-contained variant"
            yield Found(variable.part.node, variable.part.pointer, message, hint, variable.text)


@rule("L109", ERROR, LITE)
def variable_outside_script(subject: Subject) -> Iterator[Found]:
    """A variable stands outside Script and Setenv, where nucleus lite fills nothing in."""
    for variable in subject.variables:
        keys = [part.lower() for part in variable.part.pointer.split("/")]
        allowed = "script" in keys or "setenv" in keys or keys[-1] in [name.lower() for name in STEPS]
        if not allowed and variable.component is None:
            message = f"{variable.text}: nucleus lite fills in Script and Setenv alone"
            yield Found(variable.part.node, variable.part.pointer, message, "write the value out", variable.text)


@rule("L110", ERROR, LITE)
def range_of_npm(subject: Subject) -> Iterator[Found]:
    """A requirement has ``^``, ``~``, ``||``, ``x`` or a hyphen range.

    Nucleus lite knows comparators with blanks between them.
    """
    for name, dependency, pointer in subject.dependencies:
        node = dependency.get("VersionRequirement")
        found = re.search(r"[\^~|*xX]| - ", node.text) if isinstance(node, Scalar) else None
        if found and node is not None:
            message = f"{name.text}: nucleus lite does not understand {found[0].strip()!r}"
            yield Found(node, pointer, message, "write comparators: '>=1.0.0 <2.0.0'", found[0])


@rule("L111", ERROR, LITE)
def privilege_as_text(subject: Subject) -> Iterator[Found]:
    """RequiresPrivilege is neither true nor false.

    Words and numbers that the classic nucleus takes fail there.
    """
    for step in subject.steps:
        node = step.get("RequiresPrivilege")
        if isinstance(node, Scalar) and not isinstance(node.value, bool) and node.text not in ("true", "false"):
            yield Found(
                node, step.pointer, f"RequiresPrivilege {node.text!r} fails on nucleus lite", "write true or false"
            )


@rule("L112", ERROR, LITE)
def global_lifecycle_without_all(subject: Subject) -> Iterator[Found]:
    """The global lifecycle has no ``all``, without which nucleus lite finds nothing."""
    key, node = subject.root.key("Lifecycle"), subject.top("Lifecycle")
    if key is not None and isinstance(node, Entries) and node.entries and node.get("all") is None:
        yield Found(
            key, child("", key.text), "nucleus lite needs 'all' in the global Lifecycle", "put the steps below all"
        )


@rule("L113", ERROR, LITE)
def depends_on_the_classic_nucleus(subject: Subject) -> Iterator[Found]:
    """The component depends on the classic nucleus, which lite is not."""
    for name, _, pointer in subject.dependencies:
        if name.text == "aws.greengrass.Nucleus":
            message = "aws.greengrass.Nucleus is not on a device with nucleus lite"
            right = "aws.greengrass.NucleusLite"
            yield Found(name, pointer, message, f"write {right}", name.text, right)


@rule("L114", WARNING, LITE)
def bootstrap(subject: Subject) -> Iterator[Found]:
    """Bootstrap is supported in part."""
    for step in subject.steps:
        if step.name == "Bootstrap":
            yield Found(
                step.key, step.pointer, "nucleus lite supports Bootstrap in part", "use Install where it will do"
            )


@rule("L115", ERROR, LITE)
def empty_lifecycle(subject: Subject) -> Iterator[Found]:
    """A manifest has an empty Lifecycle, which nucleus lite refuses."""
    for manifest, pointer in subject.manifests:
        key, node = manifest.key("Lifecycle"), manifest.get("Lifecycle")
        if key is not None and isinstance(node, Entries) and not node.entries:
            yield Found(key, child(pointer, key.text), "nucleus lite refuses an empty Lifecycle", "remove it")

"""Rules about the recipe as a whole."""

from collections.abc import Iterator

from monodon.core.recipe.checks.rule import CLOUD, DEVICE, ERROR, HINT, WARNING, Found, rule
from monodon.core.recipe.checks.subject import Subject
from monodon.core.recipe.keys import SHAPES
from monodon.core.recipe.model import MAX_PUBLISHED_BYTES
from monodon.core.recipe.nodes import Items, Node, Scalar, child, plain

#: Where GDK stops, and what AWS takes.
SIZE_WARNING, SIZE_LIMIT = 16_000, MAX_PUBLISHED_BYTES


def text_of(node: Node | None) -> str | None:
    """Return the text of a scalar that is not null."""
    return node.text if isinstance(node, Scalar) and node.value is not None else None


@rule("R201", ERROR, CLOUD)
def too_large(subject: Subject) -> Iterator[Found]:
    """A recipe is larger than AWS takes.

    CreateComponentVersion takes 16 KB. A device has no limit. Move scripts and data into an artifact.
    """
    size = len(subject.text.encode())
    if size > SIZE_LIMIT:
        hint = "move scripts and data into an artifact"
        yield Found(subject.root, "", f"the recipe has {size} bytes, AWS takes {SIZE_LIMIT}", hint)


@rule("R202", WARNING, CLOUD)
def nearly_too_large(subject: Subject) -> Iterator[Found]:
    """A recipe is so large that GDK refuses it.

    GDK stops at 16000 bytes of the file; AWS takes little more than that.
    """
    size = len(subject.text.encode())
    if SIZE_WARNING < size <= SIZE_LIMIT:
        hint = "move scripts and data into an artifact"
        yield Found(subject.root, "", f"the recipe has {size} bytes, GDK takes {SIZE_WARNING}", hint)


@rule("R203", ERROR, DEVICE, CLOUD)
def no_manifest(subject: Subject) -> Iterator[Found]:
    """There is no manifest.

    A device reads such a recipe and then fails the deployment with RECIPE_MISSING_MANIFEST; AWS refuses it. A component
    without steps and artifacts needs one as well: an empty one matches every platform.
    """
    node = subject.top("Manifests")
    if (
        node is None
        or (isinstance(node, Scalar) and node.value is None)
        or (isinstance(node, Items) and not node.items)
    ):
        at = node or subject.root
        yield Found(at, "/Manifests", "no Manifests: a deployment fails", "add Manifests: [{Platform: {os: '*'}}]")


@rule("R204", WARNING)
def reserved_name(subject: Subject) -> Iterator[Found]:
    """The name begins with aws.greengrass.

    The prefix is AWS's; a private component of the same name as a public one hides it.
    """
    node = subject.top("ComponentName")
    if isinstance(node, Scalar) and node.text.lower().startswith("aws.greengrass"):
        hint = "use your own domain, such as com.example.Camera"
        yield Found(node, "/ComponentName", f"{node.text}: the prefix aws.greengrass is AWS's own", hint)


@rule("R205", HINT)
def type_is_given(subject: Subject) -> Iterator[Found]:
    """ComponentType is given.

    AWS finds the type by itself, and asks to leave it out.
    """
    node = subject.top("ComponentType")
    if isinstance(node, Scalar) and node.text.lower() == "aws.greengrass.generic":
        yield Found(node, "/ComponentType", "ComponentType is best left out: this is the default", "remove the line")


@rule("R206", ERROR, CLOUD)
def unknown_top_level_key(subject: Subject) -> Iterator[Found]:
    """A key at the top level is unknown.

    A device ignores it; AWS's schema refuses the recipe.
    """
    known = {key.name.lower() for key in SHAPES["Recipe"]}
    for key, _ in subject.root.entries:
        if key.text.lower() not in known:
            yield Found(key, child("", key.text), f"AWS refuses the unknown key {key.text!r}", "remove it")


@rule("R207", ERROR, CLOUD)
def source_is_no_lambda(subject: Subject) -> Iterator[Found]:
    """ComponentSource is not the ARN of a Lambda function."""
    node = subject.top("ComponentSource")
    text = text_of(node)
    if node is not None and text is not None and not (text.startswith("arn:aws") and ":lambda:" in text):
        hint = "leave it out, unless the component was made from a Lambda function"
        yield Found(node, "/ComponentSource", f"ComponentSource {text!r} is not the ARN of a Lambda function", hint)


@rule("R208", ERROR)
def prerelease_starts_with_a_digit(subject: Subject) -> Iterator[Found]:
    """The pre-release tag of the version starts with a digit.

    The device turns the version of a deployment's root component into a requirement, and a tag such as ``1.0.0-1``
    reads there as the range "1.0.0 - 1": COMPONENT_VERSION_NOT_VALID.
    """
    node = subject.top("ComponentVersion")
    text = text_of(node)
    if node is not None and text is not None and text.partition("+")[0].partition("-")[2][:1].isdecimal():
        version, _, tag = text.partition("-")
        message = f"{text} cannot be deployed: its pre-release tag starts with a digit"
        yield Found(node, "/ComponentVersion", message, f"write {version}-rc.{tag}", text, f"{version}-rc.{tag}")


@rule("R209", HINT, CLOUD)
def undescribed(subject: Subject) -> Iterator[Found]:
    """The component has no description or publisher.

    They are what people see of it in the console.
    """
    missing = [key for key in ("ComponentDescription", "ComponentPublisher") if text_of(subject.top(key)) is None]
    if missing:
        yield Found(subject.root, "", f"no {' and no '.join(missing)}", "say what the component does, and whose it is")


@rule("R210", ERROR, CLOUD)
def null_that_aws_refuses(subject: Subject) -> Iterator[Found]:
    """A value is null where AWS's schema refuses it.

    A device ignores an empty step, empty Artifacts, and an empty variable of Setenv.
    """
    for manifest, pointer in subject.manifests:
        key, node = manifest.key("Artifacts"), manifest.get("Artifacts")
        if key is not None and isinstance(node, Scalar) and node.value is None:
            yield Found(key, child(pointer, key.text), "AWS refuses empty Artifacts", "remove the key")
    for step in subject.steps:
        if isinstance(step.node, Scalar) and step.node.value is None:
            yield Found(step.key, step.pointer, f"AWS refuses the empty step {step.key.text}", "remove it")


@rule("R211", ERROR, CLOUD)
def environment_that_aws_refuses(subject: Subject) -> Iterator[Found]:
    """A variable of Setenv is null, a list or a map.

    AWS's schema refuses it; on a device null unsets the variable.
    """
    for environment, pointer in subject.environments:
        for key, value in environment.entries:
            if isinstance(value, Scalar) and value.value is not None:
                continue
            if not isinstance(value, Scalar) and _is_unquoted_variable(value):
                continue  # a rule of its own says so
            message = f"AWS refuses Setenv {key.text}: {'null' if isinstance(value, Scalar) else 'not text'}"
            yield Found(key, child(pointer, key.text), message, "write text, '' for an empty variable")


def _is_unquoted_variable(node: Node) -> bool:
    value = plain(node)
    return isinstance(value, dict) and len(value) == 1 and ":" in next(iter(value)) and None in value.values()


@rule("R212", WARNING)
def windows_line_ends(subject: Subject) -> Iterator[Found]:
    """A script has Windows line ends.

    The shell takes the carriage return for a part of the last word.
    """
    for part in subject.lifecycle_texts:
        if isinstance(part.node, Scalar) and "\r" in part.node.text:
            yield Found(part.node, part.pointer, "carriage returns in a script", "save the file with \\n line ends")

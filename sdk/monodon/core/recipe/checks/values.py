"""Rules about values: the environment, secrets, and configuration that a device reads otherwise than meant."""

import re
from collections.abc import Iterator

from monodon.core.recipe.checks.rule import HINT, WARNING, Found, rule
from monodon.core.recipe.checks.subject import Part, Subject, texts
from monodon.core.recipe.nodes import Entries, Items, Node, Scalar, child

_DROPPED = r"PYTHONPATH|PYTHONHOME|LD_\w+|DYLD_\w+"
_OF_THE_NUCLEUS = r"AWS_(?:CONTAINER_\w+|GG_\w+|IOT_THING_NAME)|SVCUID|GGC_VERSION|GG_ROOT_CA_PATH"
_LAST_WORDS = ("password", "passwd", "secret", "key", "token")
_SHORTEST_KEY = 20
#: Of names in small letters, their words joined by '_'.
_PRIVATE_NAME = (
    r"(?:^|_)(?:password|passwd|secret|(?:api|access|secret|private)_?key"
    r"|(?:api|auth|access|bearer)_?token)$"
)
#: ``--password x`` and ``PASSWORD=x`` in a script, unless a variable or a file gives it.
_PRIVATE_ARGUMENT = (
    r"(?i)(--?(?:password|passwd|secret|api-key|token)|\b\w*(?:password|secret|api_key))[ =][\"']?[^\s\"'${<-]{4,}"
)
_PRIVATE_TEXT = (
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----|\bghp_[A-Za-z0-9]{36}\b"
    r"|\bxox[bp]-[0-9A-Za-z-]{20,}"
)


def _variables(subject: Subject) -> Iterator[tuple[Scalar, Node, str]]:
    for environment, pointer in subject.environments:
        for key, value in environment.entries:
            yield key, value, child(pointer, key.text)


@rule("R901", WARNING)
def dropped_by_sudo(subject: Subject) -> Iterator[Found]:
    """A variable of Setenv never reaches the process.

    Steps start through ``sudo -E``, and sudo drops PYTHONPATH, PYTHONHOME and LD_*: it works on a laptop, not on a
    device with a user of its own. Set it in the script, or use a launcher.
    """
    for key, _, pointer in _variables(subject):
        if re.fullmatch(_DROPPED, key.text):
            hint = f"set it in the script: {key.text}=… exec …"
            yield Found(key, pointer, f"{key.text} is dropped by sudo on a device", hint)


@rule("R902", WARNING)
def overrides_the_nucleus(subject: Subject) -> Iterator[Found]:
    """A variable of Setenv takes the place of one that the nucleus sets, such as the component's token."""
    for key, _, pointer in _variables(subject):
        if re.fullmatch(_OF_THE_NUCLEUS, key.text):
            yield Found(key, pointer, f"{key.text} is set by the nucleus: IPC or credentials fail", "remove it")


@rule("R903", WARNING)
def no_name_of_a_variable(subject: Subject) -> Iterator[Found]:
    """A name in Setenv is none that a shell can read."""
    for key, _, pointer in _variables(subject):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key.text):
            yield Found(
                key, pointer, f"a shell cannot read a variable named {key.text!r}", "use letters, digits and '_'"
            )


@rule("R904", WARNING)
def secret_in_plain_text(subject: Subject) -> Iterator[Found]:
    """A secret stands in the recipe.

    Everyone who may see the component may read it, and a published version never changes. Keep secrets in AWS Secrets
    Manager, and read them with GetSecretValue.
    """
    for part in (*subject.lifecycle_texts, *subject.configuration_texts):
        reason = _why_secret(part)
        if reason:
            hint = "keep it in AWS Secrets Manager; read it with GetSecretValue"
            yield Found(part.node, part.pointer, f"{reason} in plain text", hint)


def _why_secret(part: Part) -> str | None:
    assert isinstance(part.node, Scalar)
    text, lower = part.node.text, part.node.text.lower()
    found = re.search(_PRIVATE_TEXT, text) if len(text) >= _SHORTEST_KEY else None
    if found:
        return f"{found[0][:8]}… looks like a key"
    name = part.pointer.rpartition("/")[2]
    if name.lower().endswith(_LAST_WORDS) and isinstance(part.node.value, str) and text:
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[.-]", "_", name).lower()
        if re.search(_PRIVATE_NAME, words) and not re.search(r"[{$<]|arn:|^/", text):
            return f"{name} looks like a secret"
    if any(word in lower for word in _LAST_WORDS) and "/lifecycle/" in part.pointer.lower():
        found = re.search(_PRIVATE_ARGUMENT, text)
        return f"{found[1]} gets its value" if found else None
    return None


@rule("R905", WARNING)
def keys_that_differ_in_case(subject: Subject) -> Iterator[Found]:
    """Two keys of a configuration differ in case alone.

    A device's store does not tell them apart, and keeps the first spelling.
    """
    for node, pointer in _maps(subject):
        seen: dict[str, str] = {}
        for key, _ in node.entries:
            other = seen.setdefault(key.text.lower(), key.text)
            if other != key.text:
                message = f"{key.text} and {other} are one key on a device"
                yield Found(key, child(pointer, key.text), message, "rename one of them")


def _maps(subject: Subject) -> Iterator[tuple[Entries, str]]:
    waiting: list[tuple[Node, str]] = []
    if subject.configuration:
        waiting.append((subject.configuration.node, subject.configuration.pointer))
    while waiting:
        node, pointer = waiting.pop()
        if isinstance(node, Entries):
            yield node, pointer
            waiting += [(value, child(pointer, key.text)) for key, value in node.entries]
        elif isinstance(node, Items):
            waiting += [(item, child(pointer, index)) for index, item in enumerate(node.items)]


def _plain_scalars(subject: Subject) -> Iterator[tuple[Scalar, str]]:
    """Yield what stands without quotes in the configuration and in Setenv."""
    parts = [*subject.configuration_texts]
    for environment, pointer in subject.environments:
        parts += texts(environment, pointer)
    for part in parts:
        if isinstance(part.node, Scalar) and part.node.is_plain:
            yield part.node, part.pointer


@rule("R906", WARNING)
def octal_by_accident(subject: Subject) -> Iterator[Found]:
    """A number with a leading zero is octal on a device: ``0755`` is 493."""
    for node, pointer in _plain_scalars(subject):
        if re.fullmatch(r"[-+]?0[0-9_]+", node.text) and isinstance(node.value, int):
            message = f"{node.text} is {node.value} on a device"
            yield Found(node, pointer, message, f"write '{node.text}' for text", node.text, f"'{node.text}'")


@rule("R907", WARNING)
def boolean_by_accident(subject: Subject) -> Iterator[Found]:
    """``yes``, ``no``, ``on`` and ``off`` are booleans on a device, if they have no quotes.

    Norway's country code is the famous victim.
    """
    for node, pointer in _plain_scalars(subject):
        if isinstance(node.value, bool) and node.text.lower() not in ("true", "false"):
            right = f"'{node.text}'"
            message = f"{node.text} is {str(node.value).lower()} on a device"
            yield Found(node, pointer, message, f"write {str(node.value).lower()}, or {right} for text")


@rule("R908", HINT)
def float_by_accident(subject: Subject) -> Iterator[Found]:
    """A version or another text of digits is a float on a device: ``2.10`` is 2.1."""
    for node, pointer in _plain_scalars(subject):
        if isinstance(node.value, float) and re.fullmatch(r"\d+\.\d*0", node.text) and not node.text.endswith(".0"):
            message = f"{node.text} is {node.value} on a device"
            yield Found(node, pointer, message, f"write '{node.text}' for text")

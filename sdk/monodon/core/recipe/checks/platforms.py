"""Rules about platforms: which manifest a device takes."""

import re
from collections.abc import Iterator

from monodon.core.recipe.checks.rule import DEVICE, ERROR, HINT, WARNING, Found, rule
from monodon.core.recipe.checks.subject import Subject
from monodon.core.recipe.nodes import Entries, Scalar, child, plain

_WORDS = {
    "architecture": {
        "arm64": "aarch64", "armv8": "aarch64", "x86_64": "amd64", "x64": "amd64", "x86-64": "amd64", "i386": "x86",
        "i686": "x86", "armhf": "arm", "arm32": "arm",
    },
    "os": {
        "macos": "darwin", "mac": "darwin", "osx": "darwin", "win32": "windows", "win": "windows", "ubuntu": "linux",
    },
}  # fmt: skip
_KNOWN = {
    "os": ("linux", "darwin", "windows", "unknown", "all", "any"),
    "architecture": ("amd64", "x86", "arm", "aarch64", "unknown", "all", "any"),
    "architecture.detail": ("armv6l", "armv7l", "armv8l", "armv6b", "armv7b", "armv8b"),
}
_ATTRIBUTES = (*_KNOWN, "runtime")


def _pairs(subject: Subject) -> Iterator[tuple[Scalar, Scalar, str]]:
    for manifest, pointer in subject.manifests:
        key, platform = manifest.key("Platform"), manifest.get("Platform")
        if key is not None and isinstance(platform, Entries):
            for name, value in platform.entries:
                if isinstance(value, Scalar):
                    yield name, value, child(child(pointer, key.text), name.text)


def _is_expression(text: str) -> bool:
    return len(text) >= 2 and text.startswith("/") and text.endswith("/")


@rule("R301", ERROR)
def word_of_another_tool(subject: Subject) -> Iterator[Found]:
    """A platform is spelled as other tools spell it.

    ``arm64``, ``x86_64`` and ``macos`` match no device: it calls itself ``aarch64``, ``amd64`` and ``darwin``.
    """
    for name, value, pointer in _pairs(subject):
        right = _WORDS.get(name.text, {}).get(value.text.lower())
        if right:
            message = f"{name.text} {value.text} matches no device"
            yield Found(value, pointer, message, f"write {right}", value.text, right)


@rule("R302", ERROR)
def wrong_case(subject: Subject) -> Iterator[Found]:
    """A platform attribute or its value is in the wrong case.

    Both are compared letter by letter, unlike all other keys: ``OS: linux`` and ``os: Linux`` match nothing.
    """
    for name, value, pointer in _pairs(subject):
        if name.text not in _ATTRIBUTES and name.text.lower() in _ATTRIBUTES:
            message = f"the attribute {name.text} matches no device: case counts here"
            yield Found(name, pointer, message, f"write {name.text.lower()}", name.text, name.text.lower())
        known = _KNOWN.get(name.text.lower(), ())
        if value.text not in known and value.text.lower() in known:
            message = f"{name.text} {value.text} matches no device: case counts here"
            yield Found(value, pointer, message, f"write {value.text.lower()}", value.text, value.text.lower())


@rule("R303", WARNING)
def value_of_no_device(subject: Subject) -> Iterator[Found]:
    """A value of os or architecture is none that a device has."""
    for name, value, pointer in _pairs(subject):
        known = _KNOWN.get(name.text)
        text = value.text
        if known is None or value.value is None or text == "*" or _is_expression(text):
            continue
        if text.lower() not in known and text.lower() not in _WORDS.get(name.text, {}):
            message = f"no device has {name.text} {text!r}"
            yield Found(value, pointer, message, f"known are {', '.join(known)}")


@rule("R304", ERROR)
def catch_all_before_others(subject: Subject) -> Iterator[Found]:
    """A manifest that matches every device is not the last.

    The first manifest that matches wins, so those behind it are never used.
    """
    for index, (manifest, pointer) in enumerate(subject.manifests[:-1]):
        platform = plain(manifest.get("Platform") or Entries((1, 1), []))
        if not platform or (isinstance(platform, dict) and all(_matches_all(k, v) for k, v in platform.items())):
            message = f"manifest {index + 1} of {len(subject.manifests)} matches every device: the rest is never used"
            yield Found(manifest, pointer, message, "put it last")
            return


def _matches_all(key: str, value: object) -> bool:
    return value is None or value in ("*", "/.*/") or (key in ("os", "architecture") and value in ("all", "any"))


@rule("R305", ERROR)
def same_platform_twice(subject: Subject) -> Iterator[Found]:
    """Two manifests have the same platform.

    The first manifest that matches wins; the second is never used.
    """
    seen: dict[str, int] = {}
    for index, (manifest, pointer) in enumerate(subject.manifests):
        platform = plain(manifest.get("Platform") or Entries((1, 1), []))
        if not isinstance(platform, dict) or not platform:
            continue
        key = repr(sorted(platform.items(), key=str))
        if key in seen:
            message = f"manifest {index + 1} has the platform of manifest {seen[key] + 1}: it is never used"
            yield Found(manifest, pointer, message, "join the two")
        seen.setdefault(key, index)


@rule("R306", ERROR)
def broken_expression(subject: Subject) -> Iterator[Found]:
    """A regular expression of a platform is malformed, and matches nothing."""
    for name, value, pointer in _pairs(subject):
        if not _is_expression(value.text):
            continue
        try:
            re.compile(value.text[1:-1])
        except re.error as error:
            message = f"{name.text} {value.text}: not a regular expression: {error}"
            yield Found(value, pointer, message, "it matches nothing as it is")


@rule("R307", HINT)
def expression_in_disguise(subject: Subject) -> Iterator[Found]:
    """A platform value looks like a regular expression without its slashes.

    Only ``/…/`` is one; anything else is compared letter by letter.
    """
    for name, value, pointer in _pairs(subject):
        if not _is_expression(value.text) and re.search(r"[|()\[\]^$]|\.\*", value.text):
            fixed = f"/{value.text.strip('/')}/"
            message = f"{name.text} {value.text} is compared letter by letter"
            yield Found(value, pointer, message, f"write {fixed} for a regular expression")


@rule("R308", WARNING)
def value_that_never_matches(subject: Subject) -> Iterator[Found]:
    """A platform value starts with neither a letter nor a digit.

    The device takes such a value for no word at all: it matches nothing. ``*`` and ``/…/`` are the exceptions.
    """
    for name, value, pointer in _pairs(subject):
        text = value.text
        if value.value is not None and text != "*" and not _is_expression(text) and not text[:1].isalnum():
            message = f"{name.text} {text!r} matches no device: a value starts with a letter or a digit"
            yield Found(value, pointer, message, "use '*' for any value")


@rule("R309", HINT)
def attribute_of_your_own(subject: Subject) -> Iterator[Found]:
    """A platform attribute is none that a device has by itself.

    It matches only devices whose nucleus configuration has it in ``platformOverride``.
    """
    for name, value, pointer in _pairs(subject):
        if name.text.lower() not in _ATTRIBUTES and value.text != "*":
            message = f"devices have no attribute {name.text}, unless platformOverride gives it to them"
            yield Found(name, pointer, message, f"by themselves they have {', '.join(_ATTRIBUTES)}")


@rule("R310", WARNING, DEVICE)
def runtime_on_the_classic_nucleus(subject: Subject) -> Iterator[Found]:
    """A manifest asks for a runtime, which only nucleus lite has.

    On the classic nucleus the attribute is absent: all but ``*`` never matches.
    """
    for name, value, pointer in _pairs(subject):
        if name.text == "runtime" and value.text != "*" and value.value is not None:
            message = f"runtime {value.text} never matches on the classic nucleus"
            yield Found(value, pointer, message, "write '*' to run on both", value.text, "'*'")


@rule("R311", HINT)
def detail_without_architecture(subject: Subject) -> Iterator[Found]:
    """architecture.detail is asked for beside an architecture that has none.

    Only ARM devices have it.
    """
    for manifest, pointer in subject.manifests:
        platform = manifest.get("Platform")
        if not isinstance(platform, Entries):
            continue
        values = {key.text: value for key, value in platform.entries if isinstance(value, Scalar)}
        detail, architecture = values.get("architecture.detail"), values.get("architecture")
        if detail is not None and architecture is not None and architecture.text in ("amd64", "x86"):
            message = f"{architecture.text} devices have no architecture.detail: this manifest matches none"
            yield Found(detail, pointer, message, "remove it")

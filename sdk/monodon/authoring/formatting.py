"""``monodon recipe fmt``: the documented spelling of keys and an even layout, with every comment kept."""

import io
import json
import re
from collections.abc import Callable
from typing import Any

from monodon.core.json import Json
from monodon.core.recipe.keys import SHAPES, STEP_KEYS, STEPS, Choice, Free, Key, ListOf, MapOf, Object
from monodon.core.recipe.nodes import plain
from monodon.core.recipe.reading import read_recipe
from monodon.errors import RecipeError

_MAX_LAYOUTS = 4
_NULL = re.compile(r"(?:~|null|Null|NULL)?\Z")


def format_text(text: str, *, file: str) -> str:
    """Return a recipe's text in its documented spelling; comments and the order of commented keys stay.

    Raises:
        RecipeError: the text is no recipe, or formatting would change what a device reads.
    """
    before = read_recipe(text, file=file, is_template=True)
    if before.root is None:
        problem = before.problems[0]
        raise RecipeError(problem.located(file), problems=before.problems, hint=problem.hint)
    is_json = file.lower().endswith(".json")
    try:
        formatted = _settled(_format_json if is_json else _format_yaml, text)
    except ValueError as error:
        raise RecipeError(f"{file} cannot be formatted: {error}", hint="remove anchors and duplicate keys") from error
    if formatted.count("#") < text.count("#"):  # some places for comments are lost on the way
        message = f"{file} cannot be formatted with all its comments"
        raise RecipeError(message, hint="put comments on lines of their own")
    after = read_recipe(formatted, file=file, is_template=True)
    is_as_good = (before.recipe is None) == (after.recipe is None)
    if after.root is None or not is_as_good or _folded(plain(before.root)) != _folded(plain(after.root)):
        raise RecipeError(
            f"{file} cannot be formatted without changing what a device reads", hint="remove anchors and duplicate keys"
        )
    return formatted


def _settled(layout: Callable[[str], str], text: str) -> str:
    """Lay out a text until that changes nothing: ruamel may need a second go at JSON in a YAML file."""
    for _ in range(_MAX_LAYOUTS):
        before, text = text, layout(text)
        if text == before:
            break
    return text


def _folded(value: Json) -> Json:
    """Return a value for comparing: keys and words without case."""
    if isinstance(value, dict):
        return {key.lower(): _folded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_folded(entry) for entry in value]
    return value.lower() if isinstance(value, str) else value


def _format_json(text: str) -> str:
    document = _canonical(json.loads(text.removeprefix("\ufeff")), "Recipe")
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _format_yaml(text: str) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.resolver import VersionedResolver

    class NullAlone(VersionedResolver):
        """Leaves every scalar but null as it is written: 0755, yes and dates come back as they were."""

        @property
        def versioned_resolver(self) -> dict[Any, list[tuple[str, re.Pattern[str]]]]:
            return {first: [("tag:yaml.org,2002:null", _NULL)] for first in ("~", "n", "N", "")}

    yaml = YAML(typ="rt")
    yaml.Resolver = NullAlone
    yaml.preserve_quotes = True
    yaml.width = 1 << 20
    yaml.indent(mapping=2, sequence=4, offset=2)
    try:
        document = yaml.load(text)
    except YAMLError as error:
        raise ValueError(str(error).partition("\n")[0]) from error
    stream = io.StringIO()
    yaml.dump(_canonical(document, "Recipe", has_comments="#" in text), stream)
    return stream.getvalue()


def _canonical(value: Any, shape: str, *, has_comments: bool = False) -> Any:
    """Respell the known keys of a map; put them in AWS's order unless comments would lose their place."""
    if not isinstance(value, dict):
        return value
    keys = {key.name.lower(): key for key in SHAPES[shape]}
    for name in list(value):
        key = keys.get(str(name).lower())
        if key is not None:
            _rename(value, name, key.name)
            value[key.name] = _inner(value[key.name], key, has_comments=has_comments)
    if not has_comments:
        order = [key.name for key in SHAPES[shape]]
        for name in [*(one for one in order if one in value), *(one for one in list(value) if one not in order)]:
            value[name] = value.pop(name)
    return value


def _inner(value: Any, key: Key, *, has_comments: bool) -> Any:
    kind = key.kind
    if isinstance(kind, Object):
        return _canonical(value, kind.shape, has_comments=has_comments)
    if isinstance(kind, ListOf) and isinstance(kind.item, Object) and isinstance(value, list):
        for index, item in enumerate(value):
            value[index] = _canonical(item, kind.item.shape, has_comments=has_comments)
    elif isinstance(kind, MapOf) and isinstance(kind.item, Object) and isinstance(value, dict):
        for name in value:
            value[name] = _canonical(value[name], kind.item.shape, has_comments=has_comments)
    elif isinstance(kind, Choice) and isinstance(value, str):
        word = next((one for one in kind.values if one.lower() == value.lower()), value)
        return value if word == value else word
    elif isinstance(kind, Free) and key.name == "Lifecycle":
        _respell_steps(value)
    return value


def _respell_steps(value: Any) -> None:
    if not isinstance(value, dict):
        return
    names = {name.lower(): name for name in (*STEPS, *STEP_KEYS)}
    for name in list(value):
        right = names.get(str(name).lower())
        if right is not None:
            _rename(value, name, right)
        if right != "Setenv":
            _respell_steps(value[right or name])


def _rename(value: Any, old: str, new: str) -> None:
    """Rename a key in its place, with the comments that hang on it."""
    if old == new or new in value:
        return
    position = list(value).index(old)
    entry = value.pop(old)
    if hasattr(value, "insert"):  # ruamel's map: keeps order and comments by itself
        comments = value.ca.items.pop(old, None)
        value.insert(position, new, entry)
        if comments is not None:
            value.ca.items[new] = comments
        return
    following = list(value.items())[position:]
    value[new] = entry
    for name, one in following:
        value[name] = value.pop(name, one)

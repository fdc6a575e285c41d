"""Finds components: our own folders, GDK projects, and recipe files as they lie.

- ``<Name>/recipe.py`` with ``RECIPES``, a tuple of recipes, one for each version kept; the folder's name is the
  component's name.
- ``gdk-config.json`` beside a recipe.yaml or recipe.json: a GDK project, whose recipe is a template.
- ``recipe.yaml``, ``recipe.yml``, ``recipe.json`` anywhere, and whatever lies in a folder named ``recipes``.
"""

import json
import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from monodon.core.json import Json
from monodon.core.recipe.model import Recipe
from monodon.core.recipe.reading import parse_recipe
from monodon.errors import RecipeError

RECIPE_FILES = ("recipe.yaml", "recipe.yml", "recipe.json")
GDK_FILE = "gdk-config.json"
#: The version that GDK's NEXT_PATCH gives to a component that was never published.
FIRST_VERSION = "1.0.0"
_NOT_SEARCHED = frozenset({"node_modules", "__pycache__", "greengrass-build", "zip-build", "build", "dist", "venv"})
_SEARCH_DEPTH = 6


class Kind(StrEnum):
    """How a component's recipe is written."""

    PYTHON = "python"
    GDK = "gdk"
    FILE = "file"


class Source(NamedTuple):
    """Where a component is written down: its folder and its recipe's file."""

    kind: Kind
    folder: Path
    file: Path

    def recipes(self) -> tuple[Recipe, ...]:
        """Return its recipes, one for each version.

        Raises:
            RecipeError: a recipe is wrong, or the folder's name is not the component's.
        """
        if self.kind is Kind.PYTHON:
            return _from_python(self)
        text = self.file.read_bytes()
        if self.kind is Kind.GDK:
            text = fill_template(text.decode(errors="replace"), self.folder).encode()
        return (parse_recipe(text, file=str(self.file)),)


def find_components(path: Path) -> tuple[Source, ...]:
    """Return every component below ``path`` (a folder, or a recipe's own file), in order of their paths.

    Raises:
        RecipeError: there is no such folder or file.
    """
    if path.is_file():
        return (_source(path),)
    if not path.is_dir():
        raise RecipeError(f"{path} does not exist")
    return tuple(_search(path, _SEARCH_DEPTH))


def _source(file: Path) -> Source:
    if file.name == "recipe.py":
        return Source(kind=Kind.PYTHON, folder=file.parent, file=file)
    is_gdk = file.name in RECIPE_FILES and (file.parent / GDK_FILE).is_file()
    return Source(kind=Kind.GDK if is_gdk else Kind.FILE, folder=file.parent, file=file)


def _search(folder: Path, depth: int) -> Iterator[Source]:
    own = next((folder / name for name in ("recipe.py", *RECIPE_FILES) if (folder / name).is_file()), None)
    if own is not None:
        yield _source(own)
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    for name in names:
        path = folder / name
        if folder.name == "recipes" and path.is_file() and path.suffix.lower() in (".yaml", ".yml", ".json"):
            yield _source(path)
        elif path.is_dir() and not path.is_symlink() and name not in _NOT_SEARCHED and depth > 0:
            yield from _search(path, depth - 1)


def _from_python(source: Source) -> tuple[Recipe, ...]:
    from monodon.authoring.recipes import load_module  # most recipes are files

    recipes = getattr(load_module(source.file.resolve()), "RECIPES", None)
    if not isinstance(recipes, tuple) or not recipes or not all(isinstance(one, Recipe) for one in recipes):
        hint = "RECIPES = (recipe(name=…, version=…),)"
        raise RecipeError(f"{source.file}: RECIPES must be a tuple of recipes", hint=hint)
    folder = source.folder.resolve().name
    versions: set[str] = set()
    for recipe in recipes:
        if recipe.name != folder:
            hint = "the folder's name is the component's name, as Greengrass writes it"
            raise RecipeError(f"{source.file}: the component is named {recipe.name}, its folder {folder}", hint=hint)
        if str(recipe.version) in versions:
            raise RecipeError(f"{source.file}: version {recipe.version} stands twice in RECIPES")
        versions.add(str(recipe.version))
    return recipes


def fill_template(text: str, folder: Path) -> str:
    """Return a GDK recipe with the words that ``gdk component build`` replaces: name, version, author.

    Raises:
        RecipeError: gdk-config.json is no GDK configuration.
    """
    file = folder / GDK_FILE
    try:
        document: Json = json.loads(file.read_text(encoding="utf-8"))
        ((name, component),) = document["component"].items()
        version, author = component.get("version", "NEXT_PATCH"), component.get("author", "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = 'it needs {"component": {"<name>": {"author": …, "version": …}}}'
        raise RecipeError(f"{file}: no GDK configuration: {error}", hint=hint) from error
    version = FIRST_VERSION if version == "NEXT_PATCH" else version
    for placeholder, value in (
        ("{COMPONENT_NAME}", name),
        ("{COMPONENT_VERSION}", version),
        ("{COMPONENT_AUTHOR}", author),
        ("NEXT_PATCH", version),
    ):
        text = text.replace(placeholder, str(value))
    return text

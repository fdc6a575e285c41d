"""The schema comes from the reader's table, and agrees with the reader where a schema can speak."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from tests.core.recipe.test_writing import recipes

from monodon.core.recipe.keys import SHAPES
from monodon.core.recipe.model import Recipe
from monodon.core.recipe.reading import read_recipe
from monodon.core.recipe.schema import schema
from monodon.core.recipe.writing import to_document

SCHEMA = schema()


def accepts(rules: dict[str, Any], value: Any) -> bool:
    """Validate with the few words that our schema uses: enough to compare, without another dependency."""
    if "$ref" in rules:
        return accepts(SCHEMA["$defs"][rules["$ref"].rpartition("/")[2]], value)
    if "anyOf" in rules and not any(accepts(one, value) for one in rules["anyOf"]):
        return False
    if "enum" in rules and value not in rules["enum"]:
        return False
    kinds = rules.get("type")
    if kinds is not None and not any(_is(kind, value) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    if isinstance(value, str) and "pattern" in rules and not re.search(rules["pattern"], value):
        return False
    if isinstance(value, list):
        return all(accepts(rules.get("items", {}), item) for item in value)
    if isinstance(value, dict):
        if any(name not in value for name in rules.get("required", ())):
            return False
        properties, rest = rules.get("properties", {}), rules.get("additionalProperties", {})
        return all(accepts(properties.get(name, rest), entry) for name, entry in value.items())
    return True


def _is(kind: str, value: Any) -> bool:
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, types[kind])


@given(recipes)
@settings(deadline=None)
def test_what_we_write_is_valid(recipe: Recipe) -> None:
    assert accepts(SCHEMA, to_document(recipe))


GOOD: dict[str, Any] = {"RecipeFormatVersion": "2020-01-25", "ComponentName": "a", "ComponentVersion": "1.0.0"}


@pytest.mark.parametrize(
    "change",
    [
        {"ComponentName": "a/b"},
        {"ComponentVersion": "1.0"},
        {"RecipeFormatVersion": "2021"},
        {"Manifests": {}},
        {"Manifests": [None]},
        {"Manifests": [{"Artifacts": [None]}]},
        {"Manifests": [{"Artifacts": [{}]}]},
        {"Manifests": [{"Artifacts": [{"Uri": "s3://b/x y"}]}]},
        {"Manifests": [{"Artifacts": [{"Uri": "s3://b/x", "Unarchive": "TAR"}]}]},
        {"Manifests": [{"Selections": "linux"}]},
        {"Manifests": [{"Lifecycle": []}]},
        {"Manifests": [{"Platform": {"os": {}}}]},
        {"ComponentDependencies": {"B": "^1.0.0"}},
        {"ComponentDependencies": {"B": {}}},
        {"ComponentDependencies": {"B": {"VersionRequirement": ">=1.0.0,<2.0.0"}}},
        {"ComponentConfiguration": {"DefaultConfiguration": []}},
    ],
)
def test_schema_and_reader_refuse_the_same(change: dict[str, Any]) -> None:
    document = {**GOOD, **change}
    assert accepts(SCHEMA, GOOD)
    assert not accepts(SCHEMA, document)
    assert read_recipe(json.dumps(document), file="recipe.json").recipe is None


@pytest.mark.parametrize("key", GOOD)
def test_what_is_required_is_required_by_both(key: str) -> None:
    document = {name: value for name, value in GOOD.items() if name != key}
    assert not accepts(SCHEMA, document)
    assert read_recipe(json.dumps(document), file="recipe.json").recipe is None


def test_every_key_of_the_table_is_described() -> None:
    shapes = {"Recipe": SCHEMA, **SCHEMA["$defs"]}
    for name, keys in SHAPES.items():
        assert list(shapes[name]["properties"]) == [key.name for key in keys]
        assert all(one["description"] for one in shapes[name]["properties"].values())


def test_words_are_taken_in_any_case_as_the_device_does() -> None:
    document = {**GOOD, "Manifests": [{"Artifacts": [{"Uri": "s3://b/x", "Unarchive": "zip"}]}]}
    assert accepts(SCHEMA, document)

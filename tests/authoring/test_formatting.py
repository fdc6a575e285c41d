"""``recipe fmt`` keeps what a device reads, and every comment."""

import pytest
from hypothesis import given, settings
from tests.core.recipe.test_writing import recipes

from monodon.authoring.formatting import format_text
from monodon.core.recipe.model import Recipe
from monodon.core.recipe.reading import parse_recipe
from monodon.core.recipe.writing import write_json, write_yaml
from monodon.errors import RecipeError

MESSY = """\
# who and what
recipeFormatVersion:   2020-01-25
componentname: com.example.A   # its name
ComponentVersion: 1.0.0

# what it can be told
componentConfiguration:
      defaultConfiguration:
            mode: 0755   # octal
            on: yes
            day: '2020-01-25'
            big: 1e3
            none:
manifests:
- platform: {os: linux}
  lifecycle:
    run:
      script: |
        # a comment of the shell
        exec x
      timeout: 10
  artifacts:
  - URI: s3://bucket/a.zip
    unarchive: zip
"""
NEAT = """\
# who and what
RecipeFormatVersion: 2020-01-25
ComponentName: com.example.A   # its name
ComponentVersion: 1.0.0

# what it can be told
ComponentConfiguration:
  DefaultConfiguration:
    mode: 0755           # octal
    on: yes
    day: '2020-01-25'
    big: 1e3
    none:
Manifests:
  - Platform: {os: linux}
    Lifecycle:
      Run:
        Script: |
          # a comment of the shell
          exec x
        Timeout: 10
    Artifacts:
      - Uri: s3://bucket/a.zip
        Unarchive: ZIP
"""


def test_spelling_and_layout_are_evened_and_comments_stay() -> None:
    assert format_text(MESSY, file="recipe.yaml") == NEAT
    assert format_text(NEAT, file="recipe.yaml") == NEAT


def test_without_comments_keys_come_in_the_order_of_aws() -> None:
    text = "Manifests: [{}]\nComponentVersion: 1.0.0\nFuture: 1\nComponentName: a\nRecipeFormatVersion: '2020-01-25'\n"
    keys = [line.partition(":")[0] for line in format_text(text, file="recipe.yaml").splitlines()]
    assert keys == ["RecipeFormatVersion", "ComponentName", "ComponentVersion", "Manifests", "Future"]


def test_json_is_formatted_too() -> None:
    text = '{"componentVersion":"1.0.0","recipeFormatVersion":"2020-01-25","componentName":"é"}'
    assert format_text(text, file="recipe.json") == (
        '{\n  "RecipeFormatVersion": "2020-01-25",\n  "ComponentName": "é",\n  "ComponentVersion": "1.0.0"\n}\n'
    )


@pytest.mark.parametrize("text", ["a: [", "", "a: 1\na: 2\n"])
def test_what_cannot_be_kept_is_refused(text: str) -> None:
    with pytest.raises(RecipeError):
        format_text(text, file="recipe.yaml")


@given(recipes)
@settings(deadline=None)
def test_a_formatted_recipe_is_the_same_recipe(recipe: Recipe) -> None:
    """Where a text cannot be kept, it is refused rather than changed."""
    for text, file in ((write_yaml(recipe), "recipe.yaml"), (write_json(recipe), "recipe.json")):
        try:
            formatted = format_text(text, file=file)
        except RecipeError:
            continue
        assert parse_recipe(formatted, file=file) == recipe


def test_a_comment_that_would_be_lost_is_an_error() -> None:
    """ruamel has no place for a comment behind the last entry inside of braces."""
    head = "RecipeFormatVersion: '2020-01-25'\nComponentName: a\nComponentVersion: 1.0.0\n"
    with pytest.raises(RecipeError, match="comments"):
        format_text(head + "Manifests: [{Name: a,\n# b\n}]\n", file="recipe.yaml")

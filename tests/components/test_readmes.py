"""Each component's README tells the truth: its table of settings is its default configuration."""

import json
import re
from pathlib import Path

import pytest

from monodon.authoring.project import Source, find_components

CHECKOUT = Path(__file__).parents[2]
SOURCES = find_components(CHECKOUT / "components")


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.folder.name)
def test_the_table_of_settings_is_the_default_configuration(source: Source) -> None:
    text = (source.folder / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", text, re.MULTILINE))
    newest = max(source.recipes(), key=lambda recipe: recipe.version)
    defaults = {key: value for key, value in newest.configuration.items() if key != "accessControl"}
    assert {key: json.loads(value) for key, value in rows.items()} == defaults

"""A recipe reads back as it was written, from YAML and from JSON."""

import string
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.core.names import ComponentName
from monodon.core.recipe.model import (
    Artifact,
    ComponentType,
    Dependency,
    DependencyType,
    Manifest,
    Permission,
    Recipe,
    Unarchive,
)
from monodon.core.recipe.nodes import plain
from monodon.core.recipe.problems import Problems
from monodon.core.recipe.reading import parse_recipe
from monodon.core.recipe.writing import to_document, write_json, write_yaml, yaml_text
from monodon.core.recipe.yaml_events import parse_yaml
from monodon.core.semver import Requirement, Version

tricky = st.sampled_from(
    ["", " ", "yes", "0755", "1e3", "2020-01-25", "12:30", "~", "null", "- a", "a: b", "# c", "a #b", "{x}",
     "{configuration:/x}",
     "*a", "&a", "!t", "|", ">", "%", "@", "`", "'", '"', "a\n", "\na", "a\n\n", " a\nb", "a\n b\n", "a \nb", "\t",
     "a\tb\n",
     "\u2603\U0001f600",
     "\x85", "\u2028", "\ufeff", "\x07", "<<", "=", "---", "...", "\r\n", "x" * 300,
     ".inf", "1_0", "?", "? a", ":", "-"]
)  # fmt: skip
texts = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20) | tricky
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(texts, children, max_size=3),
    max_leaves=8,
)
free = st.dictionaries(texts, json_values, max_size=3)
names = st.text(string.ascii_letters + string.digits + "-_.", min_size=1, max_size=12).filter(
    lambda text: text not in (".", "..")
)
unknown = st.dictionaries(st.sampled_from(["Zzz", "Future Key"]), json_values, max_size=2)
artifacts = st.builds(
    Artifact,
    uri=st.sampled_from(["s3://bucket/a.zip", "docker:image:1", "greengrass:x", "s3://b/c%20d"]),
    unarchive=st.sampled_from(Unarchive),
    read=st.sampled_from(Permission),
    execute=st.sampled_from(Permission),
    digest=st.none() | texts,
    algorithm=st.none() | st.just("SHA-256"),
    extra=unknown,
)
manifests = st.builds(
    Manifest,
    name=st.none() | texts,
    platform=st.dictionaries(texts, texts, max_size=2),
    lifecycle=free,
    selections=st.none() | st.lists(texts, max_size=2).map(tuple),
    artifacts=st.lists(artifacts, max_size=2).map(tuple),
    extra=unknown,
)
dependencies = st.builds(
    Dependency,
    requirement=st.sampled_from(["^1.0.0", "", ">=1.0.0 <2.0.0", "1.0", "1 || 2"]).map(Requirement.parse),
    type=st.sampled_from(DependencyType),
    extra=unknown,
)
recipes = st.builds(
    Recipe,
    name=names.map(ComponentName),
    version=st.builds(
        Version, st.integers(0, 99), st.integers(0, 99), st.integers(0, 9), st.just(()) | st.just(("rc", "1"))
    ),
    description=st.none() | texts,
    publisher=st.none() | texts,
    type=st.sampled_from(ComponentType),
    source=st.none() | texts,
    configuration=free,
    dependencies=st.dictionaries(names.map(ComponentName), dependencies, max_size=2),
    manifests=st.lists(manifests, max_size=2).map(tuple),
    lifecycle=free,
    extra=unknown,
)


@given(recipes)
@settings(deadline=None)
def test_a_recipe_reads_back(recipe: Recipe) -> None:
    """read(write(r)) == r, with the same bytes each time."""
    for write, file in ((write_yaml, "recipe.yaml"), (write_json, "recipe.json")):
        text = write(recipe)
        read = parse_recipe(text, file=file)
        assert read == recipe
        assert write(read) == text


@given(json_values)
@settings(deadline=None)
def test_any_value_reads_back_from_yaml_with_its_type(value: Any) -> None:
    root = parse_yaml(yaml_text({"key": value}), Problems())
    assert root is not None
    found = plain(root)["key"]
    assert found == value
    assert repr(found) == repr(value)


@given(st.dictionaries(st.text(string.printable, max_size=10), st.text(string.printable, max_size=20), max_size=3))
@settings(deadline=None)
def test_other_readers_agree(value: dict[str, str]) -> None:
    assert (yaml.safe_load(yaml_text(value)) or {}) == value


def test_the_document_has_the_spelling_and_order_of_aws() -> None:
    recipe = Recipe(
        name=ComponentName("com.example.A"),
        version=Version(1, 2, 3),
        publisher="Us",
        configuration={"rate": 1},
        dependencies={ComponentName("B"): Dependency(requirement=Requirement.parse("^1.0.0"))},
        manifests=(
            Manifest(
                platform={"os": "linux"},
                lifecycle={"run": "exec x\n"},
                artifacts=(Artifact(uri="s3://b/a.zip", unarchive=Unarchive.ZIP, read=Permission.ALL),),
            ),
        ),
    )
    assert write_yaml(recipe) == (
        "RecipeFormatVersion: '2020-01-25'\n"
        "ComponentName: com.example.A\n"
        "ComponentVersion: 1.2.3\n"
        "ComponentPublisher: Us\n"
        "ComponentConfiguration:\n  DefaultConfiguration:\n    rate: 1\n"
        "ComponentDependencies:\n  B:\n    VersionRequirement: ^1.0.0\n    DependencyType: HARD\n"
        "Manifests:\n- Platform:\n    os: linux\n  Lifecycle:\n    run: |\n      exec x\n"
        "  Artifacts:\n  - Uri: s3://b/a.zip\n    Unarchive: ZIP\n    Permission:\n      Read: ALL\n"
    )


def test_unknown_keys_are_written_back_where_they_stood() -> None:
    text = (
        "RecipeFormatVersion: '2020-01-25'\nComponentName: a\nComponentVersion: 1.0.0\n"
        "ComponentConfiguration:\n  Schema: 1\nManifests:\n- Artifacts:\n  - Uri: s3://b/c\n"
        "    Permission:\n      Write: ALL\n"
    )
    recipe = parse_recipe(text, file="recipe.yaml")
    assert to_document(recipe)["ComponentConfiguration"] == {"Schema": 1}
    assert write_yaml(recipe) == text


@pytest.mark.parametrize(
    ("uri", "file", "folder"),
    [
        ("s3://bucket/a/b/model.tar.gz", "model.tar.gz", "model.tar"),
        ("s3://bucket/a%20b.zip?versionId=1", "a b.zip", "a b"),
        ("greengrass:artifacts/x", "x", "x"),
        ("docker:redis:7", "redis:7", "redis:7"),
    ],
)
def test_the_names_of_an_artifact_on_the_device(uri: str, file: str, folder: str) -> None:
    """A1, A5."""
    artifact = Artifact(uri=uri)
    assert (artifact.file_name, artifact.folder_name) == (file, folder)


def test_to_execute_is_to_read() -> None:
    assert Artifact(uri="s3://b/c", read=Permission.NONE, execute=Permission.ALL).readable_by is Permission.ALL

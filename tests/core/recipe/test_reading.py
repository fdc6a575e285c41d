"""A recipe is read exactly as a core device reads it, and everything wrong with it is said at once."""

import time
import tracemalloc
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.core.recipe.json_tokens import parse_json
from monodon.core.recipe.model import DependencyType, Permission, Recipe, Unarchive
from monodon.core.recipe.nodes import plain
from monodon.core.recipe.problems import Problems, Severity
from monodon.core.recipe.reading import MAX_SIZE_BYTES, Reading, parse_recipe, read_recipe
from monodon.core.recipe.yaml_events import parse_yaml
from monodon.errors import RecipeError

HEAD = "RecipeFormatVersion: '2020-01-25'\nComponentName: com.example.A\nComponentVersion: 1.0.0\n"


def read(text: str | bytes, file: str = "recipe.yaml") -> Reading:
    return read_recipe(text, file=file)


def good(text: str) -> Recipe:
    reading = read(HEAD + text)
    assert reading.recipe is not None, reading.problems
    return reading.recipe


def findings(text: str) -> list[tuple[str, int, int]]:
    return [(problem.code, problem.line, problem.column) for problem in read(HEAD + text).problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2020-01-25", "2020-01-25"),
        ("yes", True), ("on", True), ("NO", False), ("Off", False), ("y", "y"),
        ("True", True), ("TRUE", True), ("tRUE", "tRUE"),
        ("0755", 493), ("0x1F", 31), ("0o17", "0o17"), ("0b101", 5), ("089", "089"), ("-010", -8),
        ("1_000", 1000), ("12:30:45", "12:30:45"), ("1:30.5", "1:30.5"),
        ("1e3", 1000.0), (".5", 0.5), ("1.", 1.0), ("2.10", 2.1), ("+12", 12), ("-1.5E-2", -0.015), ("1.2.3", "1.2.3"),
        ("~", None), ("null", None), ("Null", None), ("", None), ("'null'", "null"), ('"1"', "1"),
        ("!!str 5", "5"), ("!!int '5'", 5), ("!!float 1", 1.0), ("!!bool yes", True), ("!!null x", None), ("! 5", "5"),
        ("!custom x", "x"), ("-", [None]), (".", "."), ("+", "+"), ("0", 0), ("00", 0), ("=", "="),
    ],
)  # fmt: skip
def test_scalars_have_the_type_that_a_device_gives_them(text: str, value: Any) -> None:
    """Table 1.2."""
    recipe = good(f"ComponentConfiguration:\n  DefaultConfiguration:\n    key:\n      {text}\n")
    found = recipe.configuration["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [".inf", "-.INF", ".nan", "1e999", "9" * 1001])
def test_numbers_that_no_device_can_hold_are_refused(text: str) -> None:
    assert findings(f"Lifecycle:\n  a: {text}\n") == [("R009", 5, 6)]


def test_typed_fields_take_the_text_of_any_scalar() -> None:
    recipe = good("ComponentDescription: 0755\nComponentPublisher: yes\n")
    assert (recipe.description, recipe.publisher) == ("0755", "yes")
    assert findings("ComponentVersion: 1.0\n")[1] == ("R105", 4, 19)


def test_keys_and_words_are_read_in_any_case() -> None:
    """Case 10."""
    recipe = good(
        """
manifests:
- PLATFORM: {os: linux}
  artifacts:
  - URI: s3://bucket/a.zip
    unarchive: zip
    permission: {read: all, EXECUTE: owner}
componentdependencies:
  B: {versionrequirement: ^1.0.0, dependencytype: soft}
"""
    )
    artifact = recipe.manifests[0].artifacts[0]
    assert (artifact.unarchive, artifact.read, artifact.execute) == (Unarchive.ZIP, Permission.ALL, Permission.OWNER)
    assert [dependency.type for dependency in recipe.dependencies.values()] == [DependencyType.SOFT]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Manifests: [~]\n", ("R109", 4, 13)),  # case 9
        ("Manifests: [{Artifacts: [~]}]\n", ("R109", 4, 26)),  # case 9
        ("Manifests: {}\n", ("R103", 4, 12)),
        ("Manifests: [x]\n", ("R103", 4, 13)),
        ("Manifests: [{Selections: linux}]\n", ("R103", 4, 26)),
        ("Manifests: [{Lifecycle: [Run]}]\n", ("R103", 4, 25)),
        ("Manifests: [{Platform: {os: {a: 1}}}]\n", ("R103", 4, 29)),
        ("Manifests: [{Artifacts: [{Unarchive: ZIP}]}]\n", ("R101", 4, 26)),
        ("Manifests: [{Artifacts: [{Uri: s3://b/x y}]}]\n", ("R108", 4, 32)),
        ("Manifests: [{Artifacts: [{Uri: 's3://b/..'}]}]\n", ("R108", 4, 32)),
        ("Manifests: [{Artifacts: [{Uri: 's3://b/%2E%2e'}]}]\n", ("R108", 4, 32)),
        ("Manifests: [{Artifacts: [{Uri: 's3://b/a%2Fb'}]}]\n", ("R108", 4, 32)),
        ("Manifests: [{Artifacts: [{Uri: s3://b/x, Unarchive: TAR}]}]\n", ("R104", 4, 53)),
        ("ComponentDependencies: {B: ^1.0.0}\n", ("R103", 4, 28)),
        ("ComponentDependencies: {B: }\n", ("R103", 4, 28)),
        ("ComponentDependencies: {B: {}}\n", ("R101", 4, 28)),
        ("ComponentDependencies: {B: {VersionRequirement: '>=1.0.0,<2.0.0'}}\n", ("R107", 4, 49)),
        ("ComponentDependencies: {'B/C': {VersionRequirement: '*'}}\n", ("R106", 4, 25)),
        ("ComponentType: plugin\n", ("R104", 4, 16)),
        ("ComponentDescription: [a]\n", ("R103", 4, 23)),
        ("ComponentDescription: {configuration:/x}\n", ("R103", 4, 23)),
        ("Lifecycle: run\n", ("R103", 4, 12)),
        ("ComponentConfiguration: {DefaultConfiguration: [1]}\n", ("R103", 4, 48)),
    ],
)
def test_what_a_device_refuses_is_refused_where_it_stands(text: str, found: tuple[str, int, int]) -> None:
    reading = read(HEAD + text)
    assert reading.recipe is None
    assert [(problem.code, problem.line, problem.column) for problem in reading.problems] == [found]


def test_null_stands_for_nothing_where_a_device_lets_it() -> None:
    recipe = good(
        "Manifests:\nLifecycle: ~\nComponentConfiguration:\nComponentDependencies: null\nComponentDescription:\n"
    )
    assert recipe == good("")
    assert good("Manifests: [{Artifacts: ~, Selections: ~, Platform: {os: ~}}]\n").manifests[0].platform == {"os": "*"}


def test_a_uri_without_a_scheme_is_read() -> None:
    """Java takes it for a relative one; what cannot be downloaded is found out at the download, and by a rule."""
    assert good("Manifests: [{Artifacts: [{Uri: s3//bucket/a.py}]}]\n").manifests[0].artifacts[0].file_name == "a.py"


def test_every_problem_is_said_at_once() -> None:
    text = "RecipeFormatVersion: 2020\nComponentName: a/b\nComponentVersion: v1\nManifests: [{Artifacts: [{}]}]\nX: 1\n"
    reading = read(text)
    assert [problem.code for problem in reading.problems] == ["R104", "R106", "R105", "R101", "R102"]
    assert all(problem.hint for problem in reading.problems)
    with pytest.raises(RecipeError) as error:
        parse_recipe(text, file="recipe.yaml")
    assert "recipe.yaml:2:16: ComponentName: 'a/b' is not a component name" in error.value.message
    assert error.value.problems == reading.problems


def test_missing_keys_are_named() -> None:
    assert [p.message for p in read("Manifests: []").problems if p.code == "R101"] == [
        "RecipeFormatVersion is missing", "ComponentName is missing", "ComponentVersion is missing",
    ]  # fmt: skip


def test_unknown_keys_are_kept_and_reported() -> None:
    reading = read(HEAD + "Extra: {a: 1}\nManifests:\n- Platfrom: {os: linux}\n")
    assert reading.recipe is not None
    assert reading.recipe.extra == {"Extra": {"a": 1}}
    assert reading.recipe.manifests[0].extra == {"Platfrom": {"os": "linux"}}
    assert [(problem.code, problem.severity) for problem in reading.problems] == [("R102", Severity.WARNING)] * 2
    assert reading.problems[1].hint == "did you mean Platform?"
    assert reading.problems[1].pointer == "/Manifests/0/Platfrom"


def test_of_equal_keys_the_last_counts() -> None:
    """R4; the top level folds case, free-form parts do not."""
    reading = read(HEAD + "componentname: com.example.B\nLifecycle: {a: 1, A: 2, a: 3}\n")
    assert reading.recipe is not None
    assert (reading.recipe.name, reading.recipe.lifecycle) == ("com.example.B", {"a": 3, "A": 2})
    assert [problem.code for problem in reading.problems] == ["R006", "R006"]


def test_anchors_are_names_and_merge_keys_are_keys() -> None:
    """R5."""
    reading = read(HEAD + "Lifecycle: {a: &A {x: 1}, b: *A, c: {<<: *A}}\n")
    assert reading.recipe is not None
    assert reading.recipe.lifecycle == {"a": {"x": 1}, "b": "A", "c": {"<<": "A"}}
    assert [problem.code for problem in reading.problems] == ["R007"]


def test_only_the_first_document_is_read() -> None:
    """R6; what follows may be no YAML at all."""
    reading = read(HEAD + "---\nsecond: document\n")
    assert reading.recipe is not None
    assert [problem.code for problem in reading.problems] == ["R008"]
    assert read(HEAD + "---\n}}}").recipe is not None


def test_the_file_name_tells_the_kind() -> None:
    """R1."""
    json_text = '{"RecipeFormatVersion": "2020-01-25", "ComponentName": "a", "ComponentVersion": "1.0.0"}'
    assert read(json_text, "RECIPE.JSON").recipe == read(json_text, "recipe.yml").recipe == read(json_text, "x").recipe
    assert read(HEAD, "recipe.json").problems[0].code == "R001"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"a": 1,}', (1, 9)), ("{'a': 1}", (1, 2)), ('{"a": 1 // x\n}', (1, 9)), ('{"a": 01}', (1, 7)),
        ('{"a": NaN}', (1, 7)), ('{"a": "\t"}', (1, 7)), ('{"a": 1}\n}', (2, 1)), ('{"a": [1 2]}', (1, 10)),
        ('{"a" 1}', (1, 6)), ('{"a": "\\x"}', (1, 7)), ("[1, 2", (1, 6)), ('{\n"a":\n}', (3, 1)), ('{"a": +1}', (1, 7)),
    ],
)  # fmt: skip
def test_json_is_strict(text: str, place: tuple[int, int]) -> None:
    """R3."""
    (problem,) = read(text, "recipe.json").problems
    assert (problem.code, problem.line, problem.column) == ("R001", *place)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "R005"),
        ("   \n# nothing\n", "R005"),
        ("- a\n", "R005"),
        ("just text", "R005"),
        ("a: [\n", "R001"),
        ("a: b: c\n", "R001"),
        ("\ta: 1\n", "R001"),
        ("? [a]\n: 1\n", "R001"),
        ("a: \x00", "R001"),
        ("a: \ud800", "R003"),
        (b"a: \xff\xfe", "R003"),
        ("[" * 10_000, "R004"),
        ("{a: " * 10_000, "R004"),
        ("\n".join(" " * i + "a:" for i in range(1000)), "R004"),
        ("a: &a [x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(9)), "R005"),
        ("a: 1\na: 2\n", "R005"),
        ("x" * (MAX_SIZE_BYTES + 1), "R002"),
    ],
    ids=[str(index) for index in range(17)],
)
def test_hostile_text_is_one_problem(text: str | bytes, code: str) -> None:
    reading = read(text)
    assert reading.recipe is None
    assert [problem.code for problem in reading.problems] == [code]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("  a: &a [x]\n" + "".join(f"  b{i}: &b{i} [*a, *a]\n" for i in range(9)), "R007"),
        ("  a: 1\n  a: 2\n", "R006"),
    ],
)
def test_hostile_parts_of_a_good_recipe_are_one_warning(text: str, code: str) -> None:
    reading = read(HEAD + "ComponentConfiguration:\n DefaultConfiguration:\n" + text)
    assert reading.recipe is not None
    assert [problem.code for problem in reading.problems] == [code]


def test_fifty_megabytes_are_refused_before_parsing() -> None:
    text = b"a: 1\n" * 10_000_000
    tracemalloc.start()
    try:
        assert [problem.code for problem in read(text).problems] == ["R002"]
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    ["a: 1\n" * 200_000, "? \n" * 300_000, "- [{}]\n" * 140_000, "a: '" + "x\n" * 500_000, HEAD + "#\n" * 500_000],
    ids=["pairs", "empty keys", "nested", "one string", "comments"],
)
def test_a_megabyte_takes_less_than_a_second_of_work(text: str) -> None:
    """The bound is for a quiet machine; processor time keeps the neighbours out."""
    began = time.process_time()
    reading = read(text[:MAX_SIZE_BYTES])
    assert time.process_time() - began < 1.5
    assert len(reading.problems) < 120


def test_too_many_problems_are_counted() -> None:
    reading = read(HEAD + "".join(f"K{i}: 1\n" for i in range(500)))
    assert len(reading.problems) == 101
    assert reading.problems[-1].message == "and 400 more problems"
    assert reading.recipe is not None


def test_templates_of_gdk_are_read_with_placeholders_filled() -> None:
    text = HEAD.replace("com.example.A", '"{COMPONENT_NAME}"').replace("1.0.0", '"{COMPONENT_VERSION}"')
    assert read(text).recipe is None
    assert read_recipe(text, file="recipe.yaml", is_template=True).recipe is not None


def test_a_byte_order_mark_and_utf_16_are_read() -> None:
    assert read(b"\xef\xbb\xbf" + HEAD.encode()).recipe is not None
    assert read(HEAD.encode("utf-16")).recipe is not None
    assert read("\ufeff" + HEAD).recipe is not None


def test_the_pure_parser_reads_the_same() -> None:
    text = HEAD + "Lifecycle: {a: &A 0755, b: *A, c: [1e3, 'x'], d: |\n  text\n}\n".replace("d: |\n  text\n", "d: t")
    trees = [parse_yaml(text, Problems(), parser_class=kind) for kind in (yaml.SafeLoader, yaml.CSafeLoader)]
    assert trees[0] is not None
    assert trees[0] == trees[1]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)


@given(json_values)
@settings(deadline=None)
def test_json_reads_what_json_writes(value: Any) -> None:
    import json

    for indent in (None, 2):
        text = json.dumps(value, indent=indent, ensure_ascii=indent is None)
        if "\\ud" not in text.lower() or indent is None:
            assert plain(parse_json(text)) == value


@given(st.text() | st.text(alphabet="{}[]:,-'\"\n &*!|>#?%@`ab01.\t") | st.binary())
@settings(deadline=None, max_examples=3 * settings.default.max_examples)
def test_no_text_makes_the_reader_raise(text: str | bytes) -> None:
    for file in ("recipe.yaml", "recipe.json"):
        reading = read(text, file)
        assert reading.recipe is not None or reading.problems

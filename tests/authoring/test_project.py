"""Components are found where their authors keep them."""

import hashlib
from pathlib import Path

import pytest

from monodon.authoring.building import build
from monodon.authoring.project import Kind, find_components
from monodon.authoring.recipes import artifact, recipe
from monodon.errors import PublishError, RecipeError

RECIPE_PY = """
from monodon.authoring.recipes import artifact, recipe
RECIPES = tuple(recipe(name={name!r}, version=v, artifacts=(artifact("main.zip"),)) for v in {versions!r})
"""
RECIPE_YAML = "RecipeFormatVersion: '2020-01-25'\nComponentName: {name}\nComponentVersion: {version}\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def python_component(folder: Path, name: str, versions: tuple[str, ...] = ("1.0.0",)) -> Path:
    write(folder / name / "main.py", "print('hello')")
    return write(folder / name / "recipe.py", RECIPE_PY.format(name=name, versions=versions))


def test_finds_every_kind_in_order(tmp_path: Path) -> None:
    python_component(tmp_path / "components", "com.example.B", ("1.0.0", "1.1.0"))
    write(
        tmp_path / "gdk" / "gdk-config.json",
        '{"component": {"com.example.G": {"author": "Me", "version": "NEXT_PATCH"}}}',
    )
    write(
        tmp_path / "gdk" / "recipe.yaml", RECIPE_YAML.format(name='"{COMPONENT_NAME}"', version='"{COMPONENT_VERSION}"')
    )
    write(tmp_path / "plain" / "recipe.yml", RECIPE_YAML.format(name="com.example.P", version="2.0.0"))
    write(tmp_path / "recipes" / "com.example.R-3.0.0.yaml", RECIPE_YAML.format(name="com.example.R", version="3.0.0"))
    write(tmp_path / "recipes" / "notes.txt", "")
    write(tmp_path / ".venv" / "recipe.yaml", "hidden")
    write(tmp_path / "gdk" / "greengrass-build" / "recipe.yaml", "built")
    found = [(source.kind, [f"{r.name} {r.version}" for r in source.recipes()]) for source in find_components(tmp_path)]
    assert found == [
        (Kind.PYTHON, ["com.example.B 1.0.0", "com.example.B 1.1.0"]),
        (Kind.GDK, ["com.example.G 1.0.0"]),
        (Kind.FILE, ["com.example.P 2.0.0"]),
        (Kind.FILE, ["com.example.R 3.0.0"]),
    ]


def test_a_file_is_a_component_too(tmp_path: Path) -> None:
    file = python_component(tmp_path, "com.example.A")
    (source,) = find_components(file)
    assert (source.kind, source.folder) == (Kind.PYTHON, file.parent)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RECIPES = ()", "RECIPES must be a tuple"),
        ("x = 1\ny = 1 / 0\n", "recipe.py:2: ZeroDivisionError"),
        ("x = (\n", "recipe.py:1: SyntaxError"),
        (RECIPE_PY.format(name="com.example.Other", versions=("1.0.0",)), "its folder com.example.A"),
        (RECIPE_PY.format(name="com.example.A", versions=("1.0.0", "1.0.0")), "stands twice"),
        (RECIPE_PY.format(name="com.example.A", versions=("1",)), "'1' is not a version"),
    ],
)
def test_a_wrong_recipe_py_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path / "com.example.A" / "recipe.py", text)
    with pytest.raises(RecipeError) as error:
        find_components(file)[0].recipes()
    assert message in error.value.message


def test_two_components_have_each_their_own_main(tmp_path: Path) -> None:
    for name in ("com.example.A", "com.example.B"):
        write(tmp_path / name / "main.py", f"NAME = {name!r}\n")
        text = (
            "from monodon.authoring.recipes import load_main, recipe\n"
            "RECIPES = (recipe(name=load_main(__file__).NAME, version='1.0.0'),)"
        )
        write(tmp_path / name / "recipe.py", text)
    assert [source.recipes()[0].name for source in find_components(tmp_path)] == ["com.example.A", "com.example.B"]


@pytest.mark.parametrize("text", ["", "[]", '{"component": {}}', '{"component": {"a": 1}}'])
def test_a_broken_gdk_configuration_is_one_clear_error(tmp_path: Path, text: str) -> None:
    write(tmp_path / "gdk-config.json", text)
    write(tmp_path / "recipe.yaml", RECIPE_YAML.format(name="a", version="1.0.0"))
    with pytest.raises(RecipeError) as error:
        find_components(tmp_path)[0].recipes()
    assert "gdk-config.json" in error.value.message


def test_nothing_at_the_path(tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        find_components(tmp_path / "missing")
    assert find_components(tmp_path) == ()


def test_a_folder_tells_what_its_artifact_is_made_of(tmp_path: Path) -> None:
    folder = python_component(tmp_path, "com.example.A", ("1.0.0", "2.0.0")).parent
    write(folder / "2.0.0" / "model.bin", "model")
    (source,) = find_components(folder)
    code, model = (build(source, one, cache=tmp_path / "cache")[0] for one in source.recipes())
    assert code.size_bytes > model.size_bytes
    assert code.path == tmp_path / "cache" / "bundles" / "com.example.A" / "1.0.0" / "main.zip"


def test_artifacts_in_other_buckets_are_left_alone(tmp_path: Path) -> None:
    write(
        tmp_path / "recipe.yaml",
        RECIPE_YAML.format(name="a", version="1.0.0") + "Manifests: [{Artifacts: [{Uri: s3://theirs/x.zip}]}]\n",
    )
    (source,) = find_components(tmp_path)
    assert build(source, source.recipes()[0], cache=tmp_path / "cache") == ()


def test_an_artifact_that_nothing_makes_is_named(tmp_path: Path) -> None:
    write(tmp_path / "recipe.yaml", RECIPE_YAML.format(name="a", version="1.0.0"))
    (source,) = find_components(tmp_path)
    with pytest.raises(PublishError) as error:
        build(source, recipe(name="a", version="1.0.0", artifacts=(artifact("x.zip"),)), cache=tmp_path / "cache")
    assert "x.zip" in error.value.message


def test_an_artifact_that_is_a_file_of_the_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    made = RECIPE_YAML.format(name="com.example.P", version="2.0.0")
    uris = "".join(f"  - Uri: s3://BUCKET_NAME/COMPONENT_NAME/COMPONENT_VERSION/{name}\n" for name in ("a.sh", "b.zip"))
    write(tmp_path / "recipe.yaml", f"{made}Manifests:\n- Platform: {{os: linux}}\n  Artifacts:\n{uris}")
    shared = write(tmp_path / "a.sh", "true")
    (source,) = find_components(tmp_path)
    (read,) = source.recipes()
    with pytest.raises(PublishError, match=r"makes b\.zip") as refused:
        build(source, read, cache=tmp_path / "cache")
    assert refused.value.hint == "put the file b.zip there, or 2.0.0/, main.py or requirements.txt to make it of"

    zipped = write(tmp_path / "b.zip", "no zip, but its author's file")
    assert [one.path for one in build(source, read, cache=tmp_path / "cache")] == [shared, zipped]
    own = write(tmp_path / "2.0.0/a.sh", "false")
    script = build(source, read, cache=tmp_path / "cache")[0]
    assert (script.path, script.size_bytes) == (own, 5), "the version's own file goes before"
    assert script.sha256 == hashlib.sha256(b"false").hexdigest()

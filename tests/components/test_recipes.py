"""What lies in components/ and recipes/ belongs together, and runs on a core device as AWS sets it up."""

import hashlib
import tomllib
from pathlib import Path

import pytest

from monodon.authoring.project import Kind, find_components
from monodon.core.recipe.model import Permission, Recipe
from monodon.core.recipe.platform import select_lifecycle, select_manifest
from monodon.core.recipe.problems import Problem
from monodon.core.recipe.reading import read_recipe
from monodon.core.recipe.writing import write_json, write_yaml
from monodon.core.semver import Requirement

CHECKOUT = Path(__file__).parents[2]
SOURCES = [source for source in find_components(CHECKOUT / "components") if source.kind is Kind.PYTHON]
RECIPES = [recipe for source in SOURCES for recipe in source.recipes()]
LINUX = {"os": "linux", "architecture": "amd64"}
ids = [f"{recipe.name}-{recipe.version}" for recipe in RECIPES]


@pytest.mark.parametrize("recipe", RECIPES, ids=ids)
def test_recipes_are_fresh(recipe: Recipe) -> None:
    """``scripts/build_recipes`` writes them; the committed ones are those of amd64."""
    file = CHECKOUT / "recipes" / f"{recipe.name}-{recipe.version}.yaml"
    assert file.is_file(), "run scripts/build_recipes"
    written = file.read_text(encoding="utf-8")
    here = write_yaml(recipe).replace("aarch64", "amd64")
    assert written == here, "stale: run scripts/build_recipes"


def test_no_recipe_is_left_over() -> None:
    names = {f"{recipe.name}-{recipe.version}.yaml" for recipe in RECIPES}
    assert {path.name for path in (CHECKOUT / "recipes").iterdir()} == names


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.folder.name)
def test_folders_are_whole(source: object) -> None:
    folder = source.folder  # type: ignore[attr-defined]
    assert {recipe.name for recipe in source.recipes()} == {folder.name}  # type: ignore[attr-defined]
    assert (folder / "README.md").read_text(encoding="utf-8").startswith(f"# {folder.name}\n")


@pytest.mark.parametrize("recipe", RECIPES, ids=ids)
def test_recipes_have_no_problem_and_fit_into_aws(recipe: Recipe) -> None:
    problems: tuple[Problem, ...] = read_recipe(write_yaml(recipe), file="recipe.yaml").problems
    assert problems == ()
    assert len(write_json(recipe).encode()) < 16_000


@pytest.mark.parametrize("recipe", RECIPES, ids=ids)
def test_every_dependency_is_one_of_ours_at_a_version_we_have(recipe: Recipe) -> None:
    for name, dependency in recipe.dependencies.items():
        ours = [other.version for other in RECIPES if other.name == name]
        if not name.startswith("aws."):
            assert any(map(dependency.requirement.matches, ours)), f"{name} {dependency.requirement}"


@pytest.mark.parametrize("recipe", RECIPES, ids=ids)
def test_what_another_component_reads_is_readable_by_all(recipe: Recipe) -> None:
    """An artifact of a component without a step stays root's, mode 0400, unless all may read it."""
    readers = [other for other in RECIPES if recipe.name in other.dependencies]
    for reader in readers:
        manifest = select_manifest(reader, LINUX)
        assert manifest is not None
        if f"{{{recipe.name}:artifacts:" in str(select_lifecycle(reader, manifest)):
            artifacts = [artifact for one in recipe.manifests for artifact in one.artifacts]
            assert all(artifact.readable_by is Permission.ALL for artifact in artifacts)


@pytest.mark.parametrize("recipe", RECIPES, ids=ids)
def test_python_is_started_isolated_and_without_the_environment(recipe: Recipe) -> None:
    """Processes start through ``sudo -E -H``, which drops PYTHONPATH, PYTHONHOME and LD_*."""
    manifest = select_manifest(recipe, LINUX)
    assert manifest is not None
    text = str(select_lifecycle(recipe, manifest))
    assert not any(name in text for name in ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LD_PRELOAD"))
    assert text.count("python3") == text.count("exec python3 -I")


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
def test_models_are_what_their_manifests_say(version: str) -> None:
    folder = CHECKOUT / "components" / "monodon.Model.EfficientNetLite0" / version
    manifest = tomllib.loads((folder / "model.toml").read_text(encoding="utf-8"))
    content = (folder / manifest["model"]["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == manifest["model"]["sha256"]
    labels = (folder / manifest["output"]["labels"]).read_text(encoding="utf-8").splitlines()
    assert len(labels) == manifest["output"]["count"]
    assert manifest["model"]["version"] == version
    assert ("narwhal" in labels) == (version == "2.0.0")


def test_the_runtime_has_the_versions_of_the_demo() -> None:
    """One set of versions is tested, on the laptop and on the device."""

    def pins(file: Path) -> set[str]:
        return {line.partition(" \\")[0] for line in file.read_text(encoding="utf-8").splitlines() if "==" in line}

    runtime = pins(CHECKOUT / "components" / "monodon.PythonRuntime" / "requirements.txt")
    assert runtime <= pins(CHECKOUT / "scripts" / "locks" / "demo.txt")
    assert {line.partition("==")[0] for line in runtime} >= {
        "awsiotsdk",
        "numpy",
        "opencv-python-headless",
        "ai-edge-litert",
    }


def test_the_classifier_takes_both_models() -> None:
    (classifier,) = [recipe for recipe in RECIPES if recipe.name == "monodon.CameraClassifier"]
    requirement: Requirement = next(d.requirement for n, d in classifier.dependencies.items() if "Model" in n)
    assert all(requirement.matches(recipe.version) for recipe in RECIPES if "Model" in recipe.name)

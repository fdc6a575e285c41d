"""A component with its dependencies folded in, for nucleus lite."""

from pathlib import Path

import pytest

from monodon.authoring.building import is_ours
from monodon.authoring.checking import known_recipes
from monodon.authoring.project import find_components
from monodon.authoring.recipes import artifact, recipe, step
from monodon.authoring.self_contained import self_contained
from monodon.core.names import ComponentName
from monodon.core.recipe.checks import Target, check
from monodon.core.recipe.model import Recipe
from monodon.core.recipe.writing import write_yaml
from monodon.errors import RecipeError

SOURCES = find_components(Path(__file__).parents[2] / "components")
RECIPES = [one for source in SOURCES for one in source.recipes()]


@pytest.mark.parametrize("one", RECIPES, ids=lambda one: f"{one.name}-{one.version}")
def test_our_components_are_clean_for_lite(one: Recipe) -> None:
    variant = self_contained(one, known_recipes(SOURCES))
    text = write_yaml(variant)
    assert check(text, file="recipe.yaml", targets=frozenset(Target) - {Target.DEVICE}) == ()
    assert check(text, file="recipe.yaml") == ()


def known(*recipes: Recipe) -> dict[ComponentName, tuple[Recipe, ...]]:
    return {one.name: tuple(other for other in recipes if other.name == one.name) for one in recipes}


def test_artifacts_and_install_steps_come_along() -> None:
    runtime = recipe(
        name="R", version="1.2.0", platform={"os": "linux", "architecture": "amd64"},
        lifecycle={"Install": step("exec check {artifacts:decompressedPath}/r", timeout_s=60)},
        artifacts=(artifact("r.zip"),),
    )  # fmt: skip
    main = recipe(
        name="M", version="1.0.0", dependencies={"R": "^1.0.0", "aws.greengrass.TokenExchangeService": "^2.0.0"},
        lifecycle={"install": "prepare", "Run": "exec {R:artifacts:decompressedPath}/r/run {artifacts:path}"},
        artifacts=(artifact("m.zip"),),
    )  # fmt: skip
    folded = self_contained(main, known(runtime, main))
    (manifest,) = folded.manifests
    assert folded.name == "M.SelfContained"
    assert {name: str(one.requirement) for name, one in folded.dependencies.items()} == {
        "aws.greengrass.TokenExchangeService": ">=2.0.0 <3.0.0"
    }
    assert manifest.platform == {"os": "linux", "architecture": "amd64", "runtime": "*"}
    assert manifest.lifecycle == {
        "Install": {
            "Script": "(\nexec check {artifacts:decompressedPath}/r\n) &&\n(\nprepare\n)\n",
            "Timeout": 180,
        },
        "Run": "exec {artifacts:decompressedPath}/r/run {artifacts:path}",
    }
    assert [is_ours(one) for one in manifest.artifacts] == [True, False]
    assert manifest.artifacts[1].uri == "s3://BUCKET_NAME/R/1.2.0/r.zip"


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (recipe(name="R", version="1.0.0", lifecycle={"Run": "exec x"}), "has the step Run"),
        (recipe(name="R", version="1.0.0", artifacts=(artifact("m.zip"),)), "two artifacts named m"),
        (recipe(name="R", version="1.0.0", platform={"os": "windows"}), "does not run on"),
    ],
)
def test_what_cannot_be_folded_is_refused(other: Recipe, reason: str) -> None:
    main = recipe(name="M", version="1.0.0", dependencies={"R": "*"}, artifacts=(artifact("m.zip"),))
    with pytest.raises(RecipeError) as error:
        self_contained(main, known(other))
    assert reason in error.value.message


def test_settings_of_a_dependency_cannot_be_folded() -> None:
    other = recipe(name="R", version="1.0.0", configuration={"a": 1})
    main = recipe(name="M", version="1.0.0", dependencies={"R": "*"}, lifecycle={"Run": "exec {R:configuration:/a}"})
    with pytest.raises(RecipeError):
        self_contained(main, known(other))

"""``monodon recipe``: the command line of everything about recipes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from monodon.cli.recipe import command
from monodon.core.recipe.checks import RULES
from monodon.errors import ConfigurationError, MonodonError, RecipeError

CHECKOUT = Path(__file__).parents[2]
RECIPES = CHECKOUT / "recipes"
WRONG = """RecipeFormatVersion: '2020-01-25'
ComponentName: com.example.A
ComponentVersion: 1.0.0
ComponentDescription: An example.
ComponentPublisher: Us
Manifests:
  - Platform: {os: linux, architecture: arm64}  # the board
    Lifecycle:
      Run: exec a {configuration:x}
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(WRONG)
    return file


def test_our_own_components_are_clean() -> None:
    result = run("check", CHECKOUT / "components", RECIPES)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing to say" in result.stderr


def test_problems_are_shown_with_their_line(wrong: Path) -> None:
    result = run("check", wrong)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{wrong}:7:41: error R301: architecture arm64 matches no device",
        "      - Platform: {os: linux, architecture: arm64}  # the board",
        "                                            ^",
        "    hint: write aarch64",
        f"{wrong}:9:19: error R502: {{configuration:x}} fails the deployment: its pointer lacks the '/'",
        "          Run: exec a {configuration:x}",
        "                      ^",
        "    hint: write {configuration:/x}",
    ]
    assert result.stderr == "1 recipe: 2 errors\n"


def test_json_has_every_field(wrong: Path) -> None:
    result = run("check", "--json", wrong)
    assert result.exit_code == 1
    (file,) = json.loads(result.stdout)["files"]
    assert file["file"] == str(wrong)
    assert file["problems"][0] == {
        "code": "R301",
        "severity": "error",
        "line": 7,
        "column": 41,
        "pointer": "/Manifests/0/Platform/architecture",
        "message": "architecture arm64 matches no device",
        "hint": "write aarch64",
    }


def test_fixes_are_applied_and_shown(wrong: Path) -> None:
    result = run("check", "--fix", wrong)
    assert "-  - Platform: {os: linux, architecture: arm64}  # the board" in result.stderr
    assert wrong.read_text() == WRONG.replace("arm64", "aarch64").replace("{configuration:x}", "{configuration:/x}")
    assert [line for line in result.stdout.splitlines() if "error" in line] == []


def test_lite_is_a_target_of_its_own(wrong: Path) -> None:
    assert "L102" not in run("check", wrong).stdout
    assert "L102" in run("check", "--target", "lite", wrong).stdout
    assert run("check", "--target", "moon", wrong).exit_code == 2


def test_a_folder_without_recipes_and_a_missing_path_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RecipeError):
            raise_error(run("check", path))


def raise_error(result: Result) -> None:
    assert isinstance(result.exception, MonodonError)
    raise result.exception


def test_a_broken_recipe_py_is_a_problem_among_others(tmp_path: Path) -> None:
    (tmp_path / "recipe.py").write_text("RECIPES = 1 / 0")
    result = run("check", tmp_path)
    assert result.exit_code == 1
    assert "error R011" in result.stdout
    assert "ZeroDivisionError" in result.stdout


def test_the_recipes_of_a_folder_know_one_another(tmp_path: Path) -> None:
    head = "RecipeFormatVersion: '2020-01-25'\nComponentVersion: 1.0.0\nManifests: [{}]\nComponentName: "
    for name, rest in (("A", "ComponentDependencies: {B: {VersionRequirement: ^2.0.0}}\n"), ("B", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text(f"{head}{name}\n{rest}")
    assert "R602" in run("check", tmp_path).stdout
    assert "R602" not in run("check", tmp_path / "A" / "recipe.yaml").stdout


def test_show_prints_what_a_device_runs() -> None:
    file = RECIPES / "monodon.CameraClassifier-1.0.0.yaml"
    result = run("show", file, "--platform", "os=linux,architecture=aarch64", "--config", '{"source": "/dev/video7"}')
    assert result.exit_code == 0
    assert "/packages/artifacts-unarchived/monodon.Model.EfficientNetLite0/2.0.0/model" in result.stdout
    assert "source: /dev/video7" in result.stdout
    assert "decompressedPath" not in result.stdout
    assert result.stderr == ""


def test_show_tells_what_stays_as_it_is(wrong: Path) -> None:
    wrong.write_text(WRONG.replace("{configuration:x}", "{configuration:/x}").replace(", architecture: arm64", ""))
    result = run("show", wrong, "--platform", "os=linux")
    assert result.stderr == "note: {configuration:/x} stays as it is\n"
    with pytest.raises(RecipeError) as error:
        raise_error(run("show", wrong, "--platform", "os=windows"))
    assert "does not run on os=windows" in error.value.message
    with pytest.raises(ConfigurationError):
        raise_error(run("show", wrong, "--config", "{"))
    assert run("show", wrong, "--platform", "linux").exit_code == 2


@pytest.mark.parametrize("code", ["R001", "r301", *(rule.code for rule in RULES[:3])])
def test_explain_prints_a_page(code: str) -> None:
    result = run("explain", code)
    assert result.stdout.startswith(code.upper() + ": ")
    with pytest.raises(RecipeError):
        raise_error(run("explain", "X1"))


def test_fmt_changes_or_only_checks(wrong: Path) -> None:
    messy = WRONG.replace("Manifests", "manifests")
    wrong.write_text(messy)
    assert run("fmt", "--check", wrong).exit_code == 1
    assert wrong.read_text() == messy
    assert run("fmt", wrong).exit_code == 0
    assert wrong.read_text() == WRONG
    assert run("fmt", "--check", wrong).exit_code == 0


def test_schema_is_json() -> None:
    assert json.loads(run("schema").stdout)["$schema"].endswith("2020-12/schema")


def test_grants_are_printed_and_doubts_are_said(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("component.publish('a/b', 1)\ncomponent.publish(x, 1)\n")
    result = run("grants", tmp_path)
    assert "- a/b" in result.stdout
    assert result.stderr == "cannot tell: main.py:2: PublishToTopic on x\n"


def test_grants_of_earlier_versions_are_listed_for_reset(tmp_path: Path) -> None:
    (tmp_path / "com.example.A").mkdir()
    (tmp_path / "com.example.A" / "recipe.py").write_text(
        "from monodon.authoring.recipes import may_publish, recipe\n"
        "RECIPES = tuple(\n"
        "    recipe(name='com.example.A', version=v, description='d', publisher='p', grants=(may_publish(t),))\n"
        "    for v, t in (('1.0.0', 'a'), ('1.1.0', 'b'))\n"
        ")\n"
    )
    lines = run("check", tmp_path).stdout.splitlines()
    assert [line.partition(": ")[2] for line in lines if "R822" in line] == [
        "hint R822: devices keep 1 grant of earlier versions"
    ]
    assert '"/accessControl/aws.greengrass.ipc.pubsub/com.example.A:PublishToTopic:' in lines[-1]

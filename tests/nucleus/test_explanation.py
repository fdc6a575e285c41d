"""A configuration explained from a device's files, while its nucleus runs and afterwards, by `monodon config`."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from monodon.cli import monodon
from monodon.core.deployment import Status, read_local
from monodon.core.names import ComponentName
from monodon.core.origins import Setter
from monodon.core.pointers import MISSING
from monodon.errors import StateError
from monodon.nucleus.explanation import explain
from monodon.nucleus.journal import JOURNAL_FOLDER, Journal
from monodon.nucleus.nucleus import Nucleus, running
from monodon.nucleus.state import DeviceState

NAME = "com.example.Hello"
FINAL = (Status.SUCCEEDED, Status.FAILED, Status.REJECTED, Status.CANCELED)


@pytest.fixture
def root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mn"))
    yield folder / "root"
    shutil.rmtree(folder)


class Deploying:
    """Local deployments of one component to a nucleus, each a second after the one before."""

    def __init__(self, nucleus: Nucleus, recipes: Path) -> None:
        self.nucleus, self.recipes, self.at_ms = nucleus, recipes, 1_700_000_000_000
        recipes.mkdir()

    async def __call__(self, version: str, defaults: dict[str, Any], *, at_ms: int | None = None, **update: Any) -> str:
        document = {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": NAME,
            "ComponentVersion": version,
            "ComponentConfiguration": {"DefaultConfiguration": defaults},
            "Manifests": [{"Platform": {"os": "*"}}],
        }
        (self.recipes / f"{version}.json").write_text(json.dumps(document))
        self.at_ms += 1000
        request = {
            "rootComponentVersionsToAdd": {NAME: version},
            "componentToConfiguration": {NAME: update},
            "recipeDirectoryPath": str(self.recipes),
        }
        key = f"deployment-{version}-{self.at_ms}"
        self.nucleus.deployer.submit(read_local(request, deployment_id=key, timestamp_ms=at_ms or self.at_ms))
        async with asyncio.timeout(30):
            while (found := self.nucleus.deployer.progress(key)) is None or found.status not in FINAL:
                await asyncio.sleep(0.01)
        assert found.status is Status.SUCCEEDED, found.outcome
        return key


@pytest.fixture
async def history(root: Path) -> list[str]:
    """Two versions, two merges, and a value that the component wrote itself; the ids of the deployments."""
    async with running(root, thing="one") as nucleus:
        deploy = Deploying(nucleus, root.parent / "recipes")
        first = await deploy("1.0.0", {"message": "hi", "colour": "red", "n": {"a": 1}}, MERGE={"colour": "blue"})
        nucleus.state.update_configuration(ComponentName(NAME), (), {"count": 7, "n": {"a": 2}}, deploy.at_ms + 500)
        second = await deploy("1.1.0", {"message": "hello", "colour": "red", "n": {"a": 1}, "new": None})
        third = await deploy("1.1.0", {"message": "hello", "colour": "red", "n": {"a": 1}, "new": None},
                             MERGE={"colour": "green"}, at_ms=1_600_000_000_000)  # fmt: skip
        live = explain(root, NAME)
    assert explain(root, NAME) == live
    return [first, second, third]


async def test_each_key_tells_its_value_its_default_and_who_set_it(root: Path, history: list[str]) -> None:
    found = {key.pointer: key for key in explain(root, NAME).keys}
    shown = {
        pointer: (key.value, key.default, key.origin and (key.origin.setter, key.origin.of))
        for pointer, key in found.items()
    }
    assert shown == {
        "/message": ("hi", "hello", (Setter.DEFAULT, "1.0.0")),
        "/colour": ("blue", "red", (Setter.DEPLOYMENT, history[0])),
        "/n/a": (2, 1, (Setter.COMPONENT, "")),
        "/count": (7, MISSING, (Setter.COMPONENT, "")),
        "/new": (None, None, (Setter.DEFAULT, "1.1.0")),
    }
    assert found["/new"].is_default
    lost = {pointer: [(one.of, one.value) for one in key.origin.lost] for pointer, key in found.items() if key.origin}
    assert lost == {
        "/message": [("1.1.0", "hello")], "/colour": [(history[2], "green")], "/n/a": [], "/count": [], "/new": [],
    }  # fmt: skip


def command(root: Path, verb: str, *arguments: str) -> str:
    done = CliRunner().invoke(monodon, ["config", verb, NAME, "--root", str(root), *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


async def test_show_says_it_in_words(root: Path, history: list[str]) -> None:
    lines = command(root, "show").splitlines()
    assert lines[0] == f"{NAME} 1.1.0"
    assert lines[lines.index('/message: "hi"') + 1 :][:2] == [
        "    set by the default of 1.0.0, 2023-11-14T22:13:21Z",
        '    lost to it: the default of 1.1.0, 2023-11-14T22:13:22Z, with "hello"; '
        "a default replaces nothing that is there: reset /message to have it",
    ]
    assert lines[lines.index('/colour: "blue"') + 1 :][:2] == [
        f"    set by deployment {history[0]}, 2023-11-14T22:13:21Z",
        f'    lost to it: deployment {history[2]}, 2020-09-13T12:26:40Z, with "green"; '
        "older than the value's own time, 2023-11-14T22:13:22Z",
    ]
    assert lines[lines.index("/count: 7") + 1] == "    set by the component itself, 2023-11-14T22:13:21Z"
    document = json.loads(command(root, "show", "--json"))
    assert [key["pointer"] for key in document["keys"]][:2] == ["/message", "/colour"]
    assert document["keys"][0]["lost"][0]["value"] == "hello"


async def test_diff_shows_what_is_not_as_the_recipe_says(root: Path, history: list[str]) -> None:
    assert command(root, "diff").splitlines()[:5] == [
        f"{NAME} 1.1.0", "/message", '  - "hello"', '  + "hi"', "    set by the default of 1.0.0, 2023-11-14T22:13:21Z"
    ]  # fmt: skip
    pointers = [key["pointer"] for key in json.loads(command(root, "diff", "--json"))]
    assert pointers == ["/message", "/colour", "/n/a", "/count"]


async def test_a_value_may_be_of_any_time(root: Path, history: list[str]) -> None:
    """A component dates its writes itself."""
    with Journal.open(root / JOURNAL_FOLDER) as journal:
        state = DeviceState(journal)
        state.update_configuration(ComponentName(NAME), (), {"count": 8}, 2**62)
        state.update_configuration(ComponentName(NAME), (), {"early": 1}, -(2**62))
    lines = command(root, "show").splitlines()
    assert lines[lines.index("/count: 8") + 1] == f"    set by the component itself, {2**62} ms"
    assert lines[lines.index("/early: 1") + 1] == f"    set by the component itself, {-(2**62)} ms"


def test_a_component_that_is_not_there_is_refused_with_those_that_are(root: Path) -> None:
    root.mkdir()
    with pytest.raises(StateError, match=r"has no component com\.example\.Hello") as refused:
        explain(root, NAME)
    assert refused.value.hint == "it has none"

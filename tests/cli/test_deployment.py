"""`monodon deployment` and `monodon component`, against a nucleus that runs as a process of its own."""

import getpass
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from monodon.cli import monodon
from monodon.errors import DeploymentError, IpcError, MonodonError, StateError
from monodon.nucleus.journal import JOURNAL_FOLDER, peek
from monodon.nucleus.state import INSTALLED

pytestmark = pytest.mark.slow

FOREVER = "exec sleep 1000"


@pytest.fixture
def root() -> Iterator[Path]:
    """The root of a device whose nucleus runs."""
    folder = Path(tempfile.mkdtemp(prefix="mn"))
    command = [sys.executable, "-m", "monodon", "nucleus", "run", "--quiet", "--root", str(folder / "root")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as nucleus:
        assert nucleus.stdout is not None
        nucleus.stdout.readline()
        yield folder / "root"
        nucleus.terminate()
        nucleus.wait(30)
    shutil.rmtree(folder)


class Tool:
    """The command line, with a device's root; and components in AWS's layout of folders."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.recipes, self.artifacts = root, folder / "recipes", folder / "artifacts"
        self.recipes.mkdir()
        self.artifacts.mkdir()

    def write(self, name: str, version: str = "1.0.0", *, file: str | None = None, **lifecycle: Any) -> None:
        manifest: dict[str, Any] = {"Platform": {"os": "*"}, "Lifecycle": lifecycle}
        if file is not None:
            (self.artifacts / name / version).mkdir(parents=True)
            (self.artifacts / name / version / "text").write_text(file)
            manifest["Artifacts"] = [{"Uri": f"s3://somewhere/{name}/text"}]
        recipe = {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": name,
            "ComponentVersion": version,
            "ComponentConfiguration": {"DefaultConfiguration": {"a": 1, "b": 2}},
            "Manifests": [manifest],
        }
        (self.recipes / f"{name}-{version}.json").write_text(json.dumps(recipe))

    def run(self, *arguments: str) -> Result:
        """Run a command that ends well."""
        noun, verb, *rest = arguments
        return CliRunner().invoke(monodon, [noun, verb, "--root", str(self.root), *rest], catch_exceptions=False)

    def __call__(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    def create(self, *arguments: str) -> str:
        return self("deployment", "create", "--recipeDir", str(self.recipes), "-a", str(self.artifacts), *arguments)

    def state(self, name: str) -> str:
        return str(json.loads(self("component", "details", name, "--json"))["state"])


@pytest.fixture
def tool(root: Path, tmp_path: Path) -> Tool:
    return Tool(root, tmp_path)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_components_are_deployed_configured_seen_driven_and_removed(tool: Tool) -> None:
    tool.write("com.example.A", file="hello\n", Run=f"cat {{artifacts:path}}/text; {FOREVER}")
    tool.write("com.example.B", Run=FOREVER)
    update = {"com.example.A": {"merge": {"b": 3, "c": 4}}}
    command = ["-m", "com.example.A=1.0.0", "--merge", "com.example.B=1.0.0", "-c", json.dumps(update)]
    assert tool.create(*command).endswith("  SUCCEEDED\n")
    rows = [row.split() for row in tool("component", "list").splitlines()]
    assert rows == [["com.example.A", "1.0.0", "RUNNING"], ["com.example.B", "1.0.0", "RUNNING"]]
    assert json.loads(tool("component", "details", "com.example.A", "--json"))["configuration"] == {
        "a": 1, "b": 3, "c": 4
    }  # fmt: skip
    shown = tool("component", "details", "--name", "com.example.A").splitlines()
    assert shown[0] == "com.example.A 1.0.0  RUNNING"
    until(lambda: "hello" in tool("logs", "com.example.A"))
    tool("component", "stop", "com.example.A")
    until(lambda: tool.state("com.example.A") == "FINISHED")
    assert tool("component", "restart", "--names", "com.example.A,com.example.B") == (
        "com.example.A  restarts\ncom.example.B  restarts\n"
    )
    until(lambda: tool.state("com.example.A") == "RUNNING")
    tool("deployment", "create", "--remove", "com.example.B")
    assert [one["componentName"] for one in json.loads(tool("component", "list", "--json"))] == ["com.example.A"]
    rows = tool("deployment", "list").splitlines()
    assert len(rows) == 2
    assert all(row.endswith("UTC  SUCCESSFUL") for row in rows)


def test_the_flags_of_greengrass_cli_say_what_they_say_there(tool: Tool) -> None:
    tool.write("com.example.A", Run=FOREVER)
    me = getpass.getuser()
    limits = json.dumps({"com.example.A": {"memory": 500000, "cpus": 0.5}})
    user = ("--runWith", f"com.example.A:posixUser={me}")
    tool.create("-m", "com.example.A=1.0.0", "-g", "floor", *user, "--systemLimits", limits)
    records = peek(tool.root / JOURNAL_FOLDER)
    assert records["roots/thinggroup/floor"] == {"com.example.A": "1.0.0"}
    found = records[f"{INSTALLED}com.example.A"]["run_with"]
    assert (found["posix_user"], found["memory_kb"], found["cpus"]) == (me, 500000, 0.5)
    with pytest.raises(IpcError, match="must not contain ':'"):
        tool.create("-m", "com.example.A=1.0.0", "--groupId", "a:b")
    tool("deployment", "create", "-g", "floor", "--remove", "com.example.A")
    assert tool("component", "list") == ""


def test_a_deployment_that_is_no_longer_waited_for_goes_on(tool: Tool) -> None:
    tool.write("com.example.Slow", Install="while [ ! -e go ]; do sleep 0.05; done")
    command = [sys.executable, "-m", "monodon", "deployment", "create", "--root", str(tool.root)]
    with subprocess.Popen(
        [*command, "-r", str(tool.recipes), "-m", "com.example.Slow=1.0.0"], stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stderr is not None
        key = waiting.stderr.readline().split()[1]
        until(lambda: "IN_PROGRESS" in tool("deployment", "status", key))
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(30) == 130
        assert f"it goes on: monodon deployment status --follow {key}\n" in waiting.stderr.read()
    until((tool.root / "work/com.example.Slow").exists)
    (tool.root / "work/com.example.Slow/go").touch()
    assert "SUCCEEDED" in tool("deployment", "status", "--follow", key)


def test_a_deployment_that_breaks_says_why_and_where_to_look(tool: Tool) -> None:
    tool.write("com.example.Bad", Run="echo the cause >&2; exit 7")
    with pytest.raises(DeploymentError) as failed:
        tool.create("-m", "com.example.Bad=1.0.0", "--failure-handling-policy", "do_nothing")
    assert "FAILED_ROLLBACK_NOT_REQUESTED" in failed.value.message
    assert "the cause" in failed.value.message
    assert failed.value.hint == "`monodon logs com.example.Bad` shows what it printed"
    with pytest.raises(DeploymentError):
        tool("deployment", "status")
    shown = tool("component", "details", "com.example.Bad").splitlines()
    assert shown[:2] == ["com.example.Bad 1.0.0  BROKEN", "  Run exited with code 7; last on stderr:"]
    assert shown[2].strip() == "the cause"
    (one,) = json.loads(tool("deployment", "list", "--json"))
    assert one["deploymentStatusDetails"]["deploymentErrorStack"][-1] == "COMPONENT_BROKEN"


def test_a_deployment_whose_time_is_over_has_failed_and_says_for_whom_it_waited(tool: Tool) -> None:
    tool.write("com.example.Slow", Startup="exec sleep 1000")
    with pytest.raises(DeploymentError, match=r"still waits for com\.example\.Slow \(STARTING\)"):
        tool.create("-m", "com.example.Slow=1.0.0", "--timeout", "0.5", "--failure-handling-policy", "ROLLBACK")
    assert "com.example.Slow" not in tool("component", "list")


def test_what_is_awaited_is_told(tool: Tool) -> None:
    tool.write("com.example.Slow", Install="while [ ! -e go ]; do sleep 0.05; done")
    tool.create("-m", "com.example.Slow=1.0.0", "--detach")
    until(lambda: "waiting for com.example.Slow (NEW)" in tool("deployment", "status"))
    assert "IN_PROGRESS" in tool("deployment", "status")
    tool.write("com.example.B", Run=FOREVER)
    waiting = tool.create("-m", "com.example.B=1.0.0", "--detach").strip()
    assert "QUEUED" in tool("deployment", "status", waiting)
    tool("deployment", "cancel", waiting)
    assert "can't be canceled" in tool("deployment", "cancel", tool("deployment", "list").split()[0])
    (tool.root / "work/com.example.Slow/go").touch()
    assert "SUCCEEDED" in tool("deployment", "status", "--follow", tool("deployment", "list").split()[0])
    until(lambda: "CANCELED" in tool("deployment", "status", "-i", waiting))


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (("component", "details", "com.example.No"), IpcError, "com.example.No not found"),
        (("component", "restart", "com.example.No"), IpcError, "com.example.No not found"),
        (("deployment", "status"), StateError, "no local deployment since the nucleus started"),
        (("deployment", "status", "4"), IpcError, "is not a UUID"),
        (("deployment", "create", "-m", "com.example.No=1.0.0"), DeploymentError, "com.example.No"),
    ],
)
def test_refusals_say_at_once_what_is_wrong(
    tool: Tool, arguments: tuple[str, ...], kind: type[MonodonError], message: str
) -> None:
    with pytest.raises(kind) as refused:
        tool(*arguments)
    assert message in refused.value.message.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("deployment", "create"), "nothing to deploy"),
        (("deployment", "create", "--merge", "com.example.A"), "is not NAME=…"),
        (("deployment", "create", "--runWith", "com.example.A:user=me"), "neither posixUser nor windowsUser"),
        (("deployment", "create", "-c", '{"com.example.A": {"a": 1}}'), '{"MERGE": {…}'),
        (("component", "stop"), "which components?"),
    ],
)
def test_wrong_usage_is_exit_code_2(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(monodon, [*arguments, "--root", str(tmp_path)])
    assert done.exit_code == 2
    assert message in done.output


def test_without_a_nucleus_it_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(StateError) as refused:
        CliRunner().invoke(monodon, ["component", "list", "--root", str(tmp_path)], catch_exceptions=False)
    assert refused.value.hint == f"start it: monodon nucleus run --root {tmp_path}"

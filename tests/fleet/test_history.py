"""History: who made each revision, what it changed, how it turned out; and the verbs of the command line."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.fleet.embedded import Fleet, embedded_fleet

from monodon.cli.fleet import command
from monodon.fleet.deploying import apply, make_plan
from monodon.fleet.entries import Outcome
from monodon.fleet.history import history
from monodon.fleet.ledger import Ledger
from monodon.fleet.reading import parse_desired

NAME = "com.example.Camera"
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with embedded_fleet(tmp_path_factory.mktemp("cloud")) as fleet:
        fleet.publish(NAME, "1.0.0", {"threshold": 0.4})
        yield fleet


@pytest.fixture
def group(fleet: Fleet) -> str:
    number = next(NUMBERS)
    fleet.add(f"told-{number}", f"teller-{number}")
    return f"told-{number}"


@pytest.fixture
def folder(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an operator stands, with this cloud for an AWS."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", fleet.ready.endpoint)
    monkeypatch.setenv("AWS_REGION", fleet.ready.region)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    return tmp_path


def deployed(fleet: Fleet, group: str, fps: int, outcome: Outcome) -> str:
    text = f"target: thinggroup/{group}\ncomponents: {{{NAME}: {{version: 1.0.0, merge: {{fps: {fps}}}}}}}"
    plan = make_plan(fleet.aws, parse_desired(text, file="f"))
    created = apply(fleet.aws, plan).created
    ledger = Ledger(fleet.aws)
    ledger.record(created, plan.request, replaces=plan.replaces)
    ledger.judge(created.target_arn, created.deployment_id, outcome, note="as we say")
    return created.deployment_id


def fleet_command(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_each_revision_with_what_it_changed(fleet: Fleet, group: str, folder: Path) -> None:
    first = deployed(fleet, group, 1, Outcome.GOOD)
    second = deployed(fleet, group, 2, Outcome.BAD)
    newest, oldest = history(fleet.aws, Ledger(fleet.aws), f"thinggroup/{group}")
    assert (newest.entry.deployment_id, newest.is_live, newest.entry.outcome) == (second, True, Outcome.BAD)
    assert newest.changes is not None
    assert [(one.pointer, one.old, one.new) for one in newest.changes] == [("/fps", 1, 2)]
    assert (oldest.entry.deployment_id, oldest.is_live) == (first, False)
    assert oldest.changes is not None
    assert ("added", NAME) in [(str(one.kind), one.component) for one in oldest.changes]
    (last,) = history(fleet.aws, Ledger(fleet.aws), f"thinggroup/{group}", last=1)
    assert last.changes is not None  # what it is compared with is read, and not shown


def test_what_nobody_has_any_more_is_said_to_be_unknown(fleet: Fleet, group: str, folder: Path) -> None:
    first = deployed(fleet, group, 1, Outcome.GOOD)
    deployed(fleet, group, 2, Outcome.GOOD)
    fleet.aws.greengrass.delete_deployment(deploymentId=first)
    ledger = Ledger(fleet.aws, folder=folder / "another")
    assert [one.changes for one in history(fleet.aws, ledger, f"thinggroup/{group}")] == [None, None]


def test_the_command_tells_people_and_machines(fleet: Fleet, group: str, folder: Path) -> None:
    assert "never had a deployment" in fleet_command("history", f"thinggroup/{group}").output
    deployed(fleet, group, 1, Outcome.GOOD)
    second = deployed(fleet, group, 2, Outcome.BAD)
    told = fleet_command("history", f"thinggroup/{group}")
    assert told.exit_code == 0
    assert f"revision 2  bad  (live)  {second}" in told.output
    assert f"by {fleet.aws.operator}" in told.output
    assert "as we say" in told.output
    assert "/fps, for late joiners 1 → 2" in told.output
    lines = fleet_command("history", f"thinggroup/{group}", "--json", "--no-values").output.splitlines()
    assert [json.loads(line)["revision"] for line in lines] == ["2", "1"]
    assert json.loads(lines[0])["changes"][0]["new"] is None


def test_rollback_shows_and_does(fleet: Fleet, group: str, folder: Path) -> None:
    deployed(fleet, group, 1, Outcome.GOOD)
    deployed(fleet, group, 2, Outcome.UNKNOWN)
    shown = fleet_command("rollback", f"thinggroup/{group}", "--plan")
    assert (shown.exit_code, "/fps 2 → 1" in shown.output) == (2, True)
    done = fleet_command("rollback", f"thinggroup/{group}", "--no-follow", "--json")
    assert done.exit_code == 0
    plan, created = map(json.loads, done.output.splitlines())
    assert (plan["kind"], created["kind"], created["to"]) == ("plan", "created", "revision 1")
    late = fleet_command("rollback", f"thinggroup/{group}", "--timeout", "0")
    assert late.exit_code == 3  # the device has not answered: it is waited for, and not deployed to again
    assert len(history(fleet.aws, Ledger(fleet.aws), f"thinggroup/{group}")) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("rollback", "nowhere"), 1, "neither a target nor a file"),
        (("rollback", "thinggroup/GROUP"), 1, "has no deployment"),
        (("rollback", "rings.yaml", "--to", "1"), 2, "--to is for one target"),
        (("rollback", "rings.yaml"), 1, "no target of the file's rings has what it says"),
        (("deploy", "rings.yaml", "--no-follow"), 2, "is followed"),
    ],
)
def test_what_cannot_be_is_told(
    fleet: Fleet, group: str, folder: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (folder / "rings.yaml").write_text(
        f"target: thinggroup/{group}\ncomponents: {{}}\nrings: [{{name: a, target: thinggroup/{group}}}]"
    )
    result = fleet_command(*(one.replace("GROUP", group) for one in arguments))
    assert result.exit_code == code
    assert message in result.output + str(result.exception)

"""``monodon fleet plan``, ``deploy``, ``export``: what they print, how they exit, what Ctrl-C leaves behind."""

import http.client
import http.server
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.fleet.embedded import Fleet, embedded_fleet

from monodon.cli.fleet import command
from monodon.cli.fleet_drawing import draw, plan_lines, result_lines
from monodon.errors import FleetError
from monodon.fleet import apply, read_desired
from monodon.fleet.entries import Outcome
from monodon.fleet.following import Change, Ending, Waiting
from monodon.fleet.following import Result as Followed
from monodon.fleet.ledger import Ledger
from monodon.fleet.live import live_deployment
from monodon.fleet.patience import Patience
from monodon.fleet.planned import Difference, Finding, Kind, Plan, Severity, Touched
from monodon.fleet.staging import Staging

CAMERA = "com.example.Camera"
NUMBERS = itertools.count(1)
PATIENCE_S = 60


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with embedded_fleet(tmp_path_factory.mktemp("cloud")) as fleet:
        fleet.publish(CAMERA, "1.0.0", {"threshold": 0.4})
        fleet.publish(CAMERA, "1.1.0", {"threshold": 0.5})
        yield fleet


@pytest.fixture
def group(fleet: Fleet) -> str:
    number = next(NUMBERS)
    fleet.add(f"group-{number}", f"drone-{number}")
    return f"group-{number}"


@pytest.fixture
def file(tmp_path: Path, group: str) -> Path:
    path = tmp_path / "fleet.yaml"
    component = f"  {CAMERA}:\n    version: 1.0.0\n    merge: {{key: s3cret}}\n"
    path.write_text(f"target: thinggroup/{group}\ncomponents:\n{component}")
    return path


def environment(endpoint: str) -> dict[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1"}
    return {**keys, "AWS_ENDPOINT_URL": endpoint, "AWS_MAX_ATTEMPTS": "1"}


def monodon(fleet: Fleet, *arguments: object) -> Result:
    return CliRunner().invoke(command, list(map(str, arguments)), env=environment(fleet.ready.endpoint))


def latest(fleet: Fleet, group: str) -> dict[str, Any]:
    listed = fleet.aws.greengrass.list_deployments(targetArn=fleet.aws.group_arn(group), historyFilter="ALL")
    (one,) = listed["deployments"]
    answer: dict[str, Any] = fleet.aws.greengrass.get_deployment(deploymentId=one["deploymentId"])
    return answer


def test_a_plan_exits_with_2_for_changes_and_0_for_none(fleet: Fleet, group: str, file: Path) -> None:
    planned = monodon(fleet, "plan", file)
    assert planned.exit_code == 2
    assert planned.stdout.splitlines() == [
        f"thinggroup/{group} (no deployment yet): 2 changes",
        f"  + {CAMERA} 1.0.0",
        '    + /key "s3cret"',
        "  devices: 1; by their last reports 1 reported within a day",
    ]
    assert "s3cret" not in monodon(fleet, "plan", file, "--no-values").stdout
    assert monodon(fleet, "deploy", file, "--no-follow").exit_code == 0
    assert monodon(fleet, "plan", file).exit_code == 0


def test_a_plan_exits_with_1_for_what_cannot_be(fleet: Fleet, file: Path) -> None:
    file.write_text(file.read_text().replace("1.0.0", "9.0.0"))
    planned = monodon(fleet, "plan", file)
    assert planned.exit_code == 1
    assert f"  error NO_SUCH_VERSION: there is no version 9.0.0 of {CAMERA}" in planned.stdout.splitlines()
    deployed = monodon(fleet, "deploy", file)
    assert isinstance(deployed.exception, FleetError)
    assert deployed.exception.message.startswith("nothing was deployed: there is no version 9.0.0")


def test_a_plan_for_machines(fleet: Fleet, file: Path) -> None:
    document = json.loads(monodon(fleet, "plan", file, "--json").stdout)
    assert [one["what"] for one in document["differences"]] == ["component", "configuration"]
    assert document["request"]["components"][CAMERA]["componentVersion"] == "1.0.0"
    hidden = monodon(fleet, "plan", file, "--json", "--no-values").stdout
    assert "s3cret" not in hidden
    assert json.loads(hidden)["differences"][1]["pointer"] == "/key"


def test_a_component_leaves_only_if_that_is_said(fleet: Fleet, group: str, file: Path) -> None:
    assert monodon(fleet, "deploy", file, "--no-follow").exit_code == 0
    file.write_text(f"target: thinggroup/{group}\ncomponents: {{}}\n")
    assert monodon(fleet, "plan", file).exit_code == 1
    refused = monodon(fleet, "deploy", file, "--no-follow")
    assert isinstance(refused.exception, FleetError)
    assert "--allow-remove" in (refused.exception.hint or "")
    assert monodon(fleet, "plan", file, "--allow-remove").exit_code == 2


def test_a_kept_plan_is_applied_as_it_was_and_not_over_something_else(
    fleet: Fleet, group: str, file: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    assert monodon(fleet, "plan", file, "--out", kept).exit_code == 2
    assert kept.stat().st_mode & 0o777 == 0o600
    file.write_text(file.read_text().replace("1.0.0", "1.1.0"))
    assert monodon(fleet, "deploy", kept, "--no-follow").exit_code == 0
    assert latest(fleet, group)["components"][CAMERA]["componentVersion"] == "1.0.0"
    assert "live already" in monodon(fleet, "deploy", kept, "--no-follow").stdout
    assert monodon(fleet, "deploy", file, "--no-follow").exit_code == 0
    moved = monodon(fleet, "deploy", kept, "--no-follow")
    assert isinstance(moved.exception, FleetError)
    assert "changed since the plan" in moved.exception.message


def test_what_is_exported_is_a_fleet_file(fleet: Fleet, group: str, file: Path, tmp_path: Path) -> None:
    monodon(fleet, "deploy", file, "--no-follow")
    exported = tmp_path / "exported.json"
    exported.write_text(monodon(fleet, "export", f"thinggroup/{group}", "--format", "json").stdout)
    assert monodon(fleet, "plan", exported).exit_code == 0


def test_devices_that_do_not_answer_in_time_are_not_failures(fleet: Fleet, file: Path, group: str) -> None:
    deployed = monodon(fleet, "deploy", file, "--timeout", "0.2")
    assert deployed.exit_code == 3
    assert "0 succeeded, 0 failed, 1 without an answer" in deployed.stdout
    assert "waiting: QUEUED, reported within a day" in deployed.stdout
    assert "has not ended within 0.2 s" in deployed.stderr
    thing = group.replace("group", "drone")
    stack = ["DEPLOYMENT_FAILURE", "COMPONENT_BROKEN"]
    fleet.report_job(thing, latest(fleet, group)["iotJobId"], "FAILED", cause="it broke", codes=stack)
    failed = monodon(fleet, "deploy", file, "--json")
    events = [json.loads(line) for line in failed.stdout.splitlines()]
    assert [event["kind"] for event in events] == ["plan", "created", "change", "result"]
    assert (events[1]["is_new"], events[2]["codes"]) == (False, stack)
    assert events[3]["clusters"][0]["cause"] == "a component failed three times"
    assert isinstance(failed.exception, FleetError)
    assert f"failed on {thing}" in failed.exception.message
    assert "--again" in (failed.exception.hint or "")


def test_on_a_terminal_one_live_line_counts_and_failures_stay(
    fleet: Fleet, group: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich's word for a terminal
    monkeypatch.setenv("TERM", "xterm")
    monodon(fleet, "deploy", file, "--no-follow")
    thing = group.replace("group", "drone")
    fleet.report_job(thing, latest(fleet, group)["iotJobId"], "FAILED", cause="no \x1b[2J space")
    shown = monodon(fleet, "deploy", file).stdout
    assert f"{thing} FAILED  FAILED_ROLLBACK_COMPLETE: no" in shown
    assert "\x1b[2J" not in shown
    assert "0 succeeded, 1 failed" in shown


def test_what_may_be_allowed_is_what_planning_allows() -> None:
    from monodon.cli.fleet_plan import ALLOWABLE
    from monodon.fleet import planning

    assert set(ALLOWABLE) == planning.ALLOWABLE


# Rings


@pytest.fixture
def ringed(fleet: Fleet, file: Path, group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with two rings: a group of its own, and the target; the ledger is in the test's folder."""
    monkeypatch.chdir(tmp_path)
    fleet.add(f"canary-of-{group}", f"canary-of-{group}-1")
    rings = "".join(
        f"- {{name: {name}, target: thinggroup/{target}}}\n"
        for name, target in (("canary", f"canary-of-{group}"), ("rest", group))
    )
    path = tmp_path / "ringed.yaml"
    path.write_text(f"{file.read_text()}rings:\n{rings}")
    return path


def test_a_plan_of_rings_shows_each_rings_plan_and_only_reads(
    fleet: Fleet, group: str, file: Path, ringed: Path, tmp_path: Path
) -> None:
    assert monodon(fleet, "deploy", file, "--no-follow").exit_code == 0  # the last ring has it already
    ledger = sorted((tmp_path / ".monodon").rglob("*"))
    planned = monodon(fleet, "plan", ringed)
    assert planned.exit_code == 2
    heads = [line for line in planned.stdout.splitlines() if not line.startswith(" ")]
    assert heads[:2] == [
        f"ring canary: thinggroup/canary-of-{group}",
        f"thinggroup/canary-of-{group} (no deployment yet): 2 changes",
    ]
    assert heads[2] == f"ring rest: thinggroup/{group}"
    assert heads[3].endswith(": nothing to do")
    assert "RINGS" not in planned.stdout
    assert "s3cret" in planned.stdout
    arn = fleet.aws.group_arn(f"canary-of-{group}")
    assert fleet.aws.greengrass.list_deployments(targetArn=arn, historyFilter="ALL")["deployments"] == []
    assert sorted((tmp_path / ".monodon").rglob("*")) == ledger
    canary = tmp_path / "canary.yaml"
    canary.write_text(file.read_text().replace(f"thinggroup/{group}", f"thinggroup/canary-of-{group}"))
    assert monodon(fleet, "deploy", canary, "--no-follow").exit_code == 0
    assert monodon(fleet, "plan", ringed).exit_code == 0


def test_a_plan_of_rings_for_machines(fleet: Fleet, group: str, ringed: Path) -> None:
    planned = monodon(fleet, "plan", ringed, "--json", "--no-values")
    (line,) = planned.stdout.splitlines()
    document = json.loads(line)
    assert (planned.exit_code, document["kind"]) == (2, "rings")
    assert [one["name"] for one in document["rings"]] == ["canary", "rest"]
    assert document["rings"][1]["targets"] == [fleet.aws.group_arn(group)]
    assert [len(one["plans"][0]["differences"]) for one in document["rings"]] == [2, 2]
    assert "s3cret" not in line


def test_an_error_in_any_rings_plan_is_1_and_a_plan_of_rings_is_not_kept(
    fleet: Fleet, ringed: Path, tmp_path: Path
) -> None:
    kept = monodon(fleet, "plan", ringed, "--out", tmp_path / "kept")
    assert isinstance(kept.exception, FleetError)
    assert "leave --out out" in (kept.exception.hint or "")
    assert not (tmp_path / "kept").exists()
    ringed.write_text(ringed.read_text().replace("1.0.0", "9.0.0"))
    planned = monodon(fleet, "plan", ringed)
    assert (planned.exit_code, planned.stdout.count("error NO_SUCH_VERSION")) == (1, 2)
    assert planned.exception is None or isinstance(planned.exception, SystemExit)


def test_a_plan_of_rings_that_deploy_would_refuse_is_1(fleet: Fleet, ringed: Path) -> None:
    ledger = Ledger(fleet.aws)
    staging = Staging(fleet.aws, read_desired(ringed), ledger, patience=Patience(), allow=(), now_s=time.time())
    staged = staging.read()
    plan = staged.stages[0].plans[0]
    created = apply(fleet.aws, plan).created
    ledger.record(created, plan.request, replaces=None, run=staged.run)
    ledger.judge(created.target_arn, created.deployment_id, Outcome.BAD, note="too slow")
    stopped = monodon(fleet, "plan", ringed)
    assert isinstance(stopped.exception, FleetError)
    assert "is not rolled back yet: too slow" in stopped.exception.message
    fleet.aws.greengrass.create_deployment(targetArn=created.target_arn, components={})
    refused = monodon(fleet, "plan", ringed)
    assert isinstance(refused.exception, FleetError)
    assert "had just this before, and it was rolled back: too slow" in refused.exception.message
    assert monodon(fleet, "plan", ringed, "--again").exit_code == 2


def test_a_file_of_rings_rolls_all_its_targets_back_the_last_first(
    fleet: Fleet, group: str, ringed: Path, tmp_path: Path
) -> None:
    groups = [f"canary-of-{group}", group]
    ledger = Ledger(fleet.aws)
    for version in ("1.0.0", "1.1.0"):
        for one in groups:
            plain = tmp_path / f"{one}-{version}.yaml"
            plain.write_text(f"target: thinggroup/{one}\ncomponents: {{{CAMERA}: {{version: {version}}}}}\n")
            assert monodon(fleet, "deploy", plain, "--no-follow").exit_code == 0
            if version == "1.0.0":
                ledger.judge(fleet.aws.group_arn(one), latest(fleet, one)["deploymentId"], Outcome.GOOD)
    rings = "".join(f"- {{name: ring-{one}, target: thinggroup/{one}}}\n" for one in groups)
    ringed.write_text(f"target: thinggroup/{group}\ncomponents: {{{CAMERA}: {{version: 1.1.0}}}}\nrings:\n{rings}")
    back = monodon(fleet, "rollback", ringed, "--no-follow")
    assert back.exit_code == 0, back.exception
    made = [line.split()[3] for line in back.stdout.splitlines() if line.startswith("deployment ")]
    assert made == [fleet.aws.group_arn(one) for one in reversed(groups)]
    lives = [live_deployment(fleet.aws, fleet.aws.group_arn(one)) for one in groups]
    assert [live["components"][CAMERA]["componentVersion"] for live in lives if live] == ["1.0.0", "1.0.0"]


# Ctrl-C


@contextmanager
def running(endpoint: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    everything = [sys.executable, "-m", "monodon", "fleet", *map(str, arguments)]
    plain = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    with subprocess.Popen(
        everything,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**plain, **environment(endpoint), "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Holding:
    """Stands before a cloud, passes calls on, and keeps one answer for itself."""

    def __init__(self, upstream: str, held: str) -> None:
        self.is_held = threading.Event()
        self._release = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                connection = http.client.HTTPConnection(upstream.removeprefix("http://"), timeout=PATIENCE_S)
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                if f"{self.command} {self.path}".startswith(held):
                    outer.is_held.set()
                    outer._release.wait(PATIENCE_S)
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_HEAD = pass_on  # noqa: N815  # http.server's names

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> "Holding":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.mark.parametrize(
    ("held", "told", "is_made"),
    [
        ("GET /greengrass/v2/deployments", "interrupted: nothing was changed", False),
        ("POST /greengrass/v2/deployments", "interrupted: the deployment may have been made or not; to go on", True),
    ],
    ids=["planning", "applying"],
)
def test_ctrl_c_says_what_it_leaves_and_the_next_run_goes_on(
    fleet: Fleet, group: str, file: Path, held: str, told: str, is_made: bool
) -> None:
    with Holding(fleet.ready.endpoint, held) as between, running(between.endpoint, "deploy", file) as process:
        assert between.is_held.wait(PATIENCE_S)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert told in error
    there = fleet.aws.greengrass.list_deployments(targetArn=fleet.aws.group_arn(group), historyFilter="ALL")
    assert len(there["deployments"]) == is_made
    assert monodon(fleet, "deploy", file, "--no-follow").exit_code == 0
    assert latest(fleet, group)["revisionId"] == "1"


def test_ctrl_c_while_following_leaves_the_deployment_running(fleet: Fleet, group: str, file: Path) -> None:
    with running(fleet.ready.endpoint, "deploy", file) as process:
        assert process.stdout is not None
        while "QUEUED" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    made = latest(fleet, group)
    assert (
        f"deployment {made['deploymentId']} goes on without us; to go on, run it again: monodon fleet deploy" in error
    )
    assert made["deploymentStatus"] == "ACTIVE"
    fleet.report_job(group.replace("group", "drone"), made["iotJobId"], "SUCCEEDED")
    again = monodon(fleet, "deploy", file)
    assert again.exit_code == 0
    assert f"deployment {made['deploymentId']}" in again.stdout
    assert latest(fleet, group)["revisionId"] == "1"


def test_ctrl_c_while_a_ring_bakes_says_how_to_go_on(fleet: Fleet, group: str, ringed: Path) -> None:
    ringed.write_text(ringed.read_text().replace(f"canary-of-{group}}}", f"canary-of-{group}, bakeSeconds: 600}}"))
    canary = f"canary-of-{group}"
    with running(fleet.ready.endpoint, "deploy", ringed) as process:
        assert process.stdout is not None
        while "QUEUED" not in (line := process.stdout.readline()):
            assert line, "it ended"
        fleet.report_job(f"{canary}-1", latest(fleet, canary)["iotJobId"], "SUCCEEDED")
        while "bakes for 600 s" not in (line := process.stdout.readline()):
            assert line, "it ended"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    told = "interrupted: what is deployed stays; to go on where it was, run it again: monodon fleet deploy"
    assert f"{told} {ringed}" in error
    (entry,) = Ledger(fleet.aws).read(fleet.aws.group_arn(canary))
    assert (entry.deployment_id, entry.outcome) == (latest(fleet, canary)["deploymentId"], Outcome.UNKNOWN)
    assert entry.run
    planned = monodon(fleet, "plan", ringed, "--json")
    plans = [one["plans"][0] for one in json.loads(planned.stdout)["rings"]]
    assert [len(plan["differences"]) for plan in plans] == [0, 2]  # the rest has not begun


# Drawing


PLAN = Plan(
    target_arn="arn:aws:iot:eu-west-1:123456789012:thinggroup/drones",
    replaces="d-1",
    revision="3",
    request={},
    versions={CAMERA: "1.0.0"},
    differences=(
        Difference(kind=Kind.CHANGED, what="configuration", component=CAMERA, pointer="/a", old=1, new="\x1b[31m"),
        Difference(kind=Kind.ADDED, what="merge", component=CAMERA, pointer="/b", new=2),
        Difference(kind=Kind.REMOVED, what="tags.owner", old="me"),
    ),
    findings=(Finding(severity=Severity.WARNING, code="X", message="mind this", hint="do that"),),
    devices=Touched(total=3, recent=("a",), silent=("b",), unknown=("c",), unhealthy=("a",)),
)


def test_a_plan_is_drawn_without_control_characters() -> None:
    assert [line.text for line in plan_lines(PLAN)] == [
        "thinggroup/drones (revision 3, deployment d-1): 3 changes",
        f"~ {CAMERA} 1.0.0",
        '~ /a 1 → "\\u001b[31m"',
        "+ merge of /b, for late joiners 2",
        '- tags.owner "me"',
        "devices: 3; by their last reports 1 reported within a day, 1 silent for longer (most likely offline: b), "
        "1 never reported (c), 1 unhealthy (a)",
        "warning X: mind this",
        "hint: do that",
    ]


@pytest.mark.parametrize("variable", ["NO_COLOR", None])
def test_on_a_terminal_it_is_a_tree_in_colour_unless_that_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str | None
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich's word for a terminal
    monkeypatch.setenv("TERM", "xterm")
    if variable is not None:
        monkeypatch.setenv(variable, "1")
    draw(plan_lines(PLAN))
    shown = capsys.readouterr().out
    assert "├──" in shown
    assert ("\x1b[33m" in shown or "\x1b[0;33m" in shown) is (variable is None)


def test_a_result_tells_the_offline_apart() -> None:
    failed = Change(thing="a", status="FAILED", reason="no space", codes=("DISK_SPACE_CRITICAL",))
    result = Followed(
        ending=Ending.EXPIRED,
        at_s=1.0,
        succeeded=("s",),
        left=("l",),
        failed=(failed,),
        waiting=(
            Waiting(thing="b", status="QUEUED", reported_s=1_000_000.0 - 3 * 86_400),
            Waiting(thing="c", status="QUEUED"),
            Waiting(thing="d", status="IN_PROGRESS", reported_s=999_990.0),
        ),
    )
    assert [line.text for line in result_lines(result, now_s=1_000_000.0)] == [
        "1 succeeded, 1 failed, 3 without an answer, 1 left the target",
        "1 device: the device's disk is full (a)",
        "such as: no space",
        "fix: free disk space on the device, then deploy again",
        "1 waiting: IN_PROGRESS, reported within a day: d",
        "1 waiting: QUEUED, last reported 3 days ago, most likely offline: b",
        "1 waiting: QUEUED, never reported to AWS: c",
    ]

"""Rollouts by rings as an operator types them: a cloud, simulated devices, a real nucleus, each its own process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.journeys.scene import GROUP, Fleet

from monodon.core.names import ComponentName
from monodon.dev.lab import Lab
from monodon.fleet import Aws
from monodon.nucleus.journal import JOURNAL_FOLDER, Journal
from monodon.nucleus.state import DeviceState

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("fleets")]

NAME = ComponentName("com.example.Camera")
PATIENCE_S = 90
RECIPE = """\
RecipeFormatVersion: "2020-01-25"
ComponentName: {name}
ComponentVersion: {version}
ComponentConfiguration:
  DefaultConfiguration: {defaults}
Manifests:
  - Lifecycle: {{Run: exec sleep 1000}}
"""
RINGS = """\
target: thinggroup/rest
components: {{com.example.Camera: {{version: {version}, merge: {{fps: {fps}}}}}}}
rings:
  - {{name: canary, target: thinggroup/canary, bakeSeconds: {bake}, gates: {{{gates}}}}}
  - {{name: rest, target: thinggroup/rest, bakeSeconds: 0, gates: {{}}}}
"""
LATENCY = "metrics: [{component: com.example.Camera, metric: latency_ms, maxRatio: 1.5, minCount: 20}]"


class Operator:
    """A folder with the ledger, and ``monodon fleet`` in it."""

    def __init__(self, folder: Path, endpoint: str, region: str) -> None:
        self.folder = folder
        plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": region}
        self._environment = {**plain, **keys, "AWS_ENDPOINT_URL": endpoint, "PYTHONUNBUFFERED": "1"}

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "monodon", "fleet", *map(str, arguments)]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: object) -> tuple[int, str]:
        with self.start(*arguments) as process:
            output, _ = process.communicate(timeout=PATIENCE_S)
        return process.returncode, output

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def kill_at(self, mark: str, *arguments: object) -> None:
        """SIGKILL as soon as a line has the mark."""
        with self.start(*arguments) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if mark in line:
                    process.send_signal(signal.SIGKILL)
                    break
            assert process.wait(PATIENCE_S) == -signal.SIGKILL


def publish(aws: Aws, version: str, defaults: dict[str, Any]) -> None:
    recipe = RECIPE.format(name=NAME, version=version, defaults=json.dumps(defaults))
    aws.greengrass.create_component_version(inlineRecipe=recipe.encode())


@contextmanager
def simulated(operator: Operator, cloud: Path, count: int) -> Iterator[None]:
    """Devices, connected; version 2.0.0 is ten times as slow as any other."""
    with operator.start(
        *("simulate", "--devices", count, "--cloud", cloud, "--takes", "0s", "--metrics-every", "1s"),
        *("--metric-for", NAME, "latency_ms=5..6", "--metric-for", f"{NAME}@2.0.0", "latency_ms=50..60"),
    ) as process:
        assert process.stdout is not None
        try:
            assert any(f"connected {count} of {count}" in line for line in process.stdout)
            yield
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)


def revisions(aws: Aws, group: str) -> list[tuple[str, dict[str, Any]]]:
    """Version and configuration update of each revision of a group, the oldest first."""
    listed = aws.greengrass.list_deployments(targetArn=aws.group_arn(group), historyFilter="ALL")["deployments"]
    found = sorted(listed, key=lambda one: int(one["revisionId"]))
    parts = [aws.greengrass.get_deployment(deploymentId=one["deploymentId"])["components"][NAME] for one in found]
    return [(part["componentVersion"], part.get("configurationUpdate", {})) for part in parts]


def test_a_slow_canary_goes_back_and_a_killed_rollout_goes_on(lab: Lab, tmp_path: Path) -> None:
    cloud = lab.start_cloud()
    aws = lab.aws(cloud)
    operator = Operator(tmp_path, cloud.ready["endpoint"], cloud.ready["region"])
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        publish(aws, version, {"threshold": 0.4})
    with simulated(operator, lab.state / "cloud", 4):
        for group, things in (("canary", ("sim-1", "sim-2")), ("rest", ("sim-3", "sim-4"))):
            aws.iot.create_thing_group(thingGroupName=group)
            for thing in things:
                aws.iot.add_thing_to_thing_group(thingGroupName=group, thingName=thing)
        first = operator.write("first.yaml", RINGS.format(version="1.0.0", fps=1, bake=1, gates=""))
        code, output = operator.run("deploy", first)
        assert (code, output.splitlines()[-1]) == (0, "all rings are good")

        slow = operator.write("slow.yaml", RINGS.format(version="2.0.0", fps=1, bake=1, gates=LATENCY))
        code, output = operator.run("deploy", slow)
        assert code == 1
        assert "latency_ms p95 failed" in output
        assert "all rings were rolled back" in output
        (evidence,) = tmp_path.rglob("*.md")
        assert f"evidence: {evidence.relative_to(tmp_path)}" in output
        assert "| sim-1 | SUCCEEDED | com.example.Camera 2.0.0 RUNNING | 5" in evidence.read_text()
        assert [version for version, _ in revisions(aws, "canary")] == ["1.0.0", "2.0.0", "1.0.0"]
        assert [version for version, _ in revisions(aws, "rest")] == ["1.0.0"]

        good = operator.write("good.yaml", RINGS.format(version="3.0.0", fps=2, bake=1, gates=LATENCY))
        operator.kill_at("bakes for", "deploy", good)
        assert operator.run("deploy", good)[0] == 0
        assert [version for version, _ in revisions(aws, "canary")] == ["1.0.0", "2.0.0", "1.0.0", "3.0.0"]
        assert [version for version, _ in revisions(aws, "rest")] == ["1.0.0", "3.0.0"]

        part = operator.write("part.yaml", RINGS.format(version="3.0.0", fps=3, bake=600, gates=""))
        operator.kill_at("bakes for", "deploy", part)
        code, output = operator.run("rollback", part)
        assert (code, "2 succeeded, 0 failed" in output) == (0, True)
        assert revisions(aws, "canary")[-1] == ("3.0.0", {"merge": '{"fps":2}'})
        assert len(revisions(aws, "rest")) == 2
        code, output = operator.run("history", "thinggroup/canary", "--json")
        told = [json.loads(line) for line in output.splitlines()]
        assert [one["outcome"] for one in told] == ["good", "bad", "good", "good", "bad", "good"]
        assert {one["operator"] for one in told} == {aws.operator}


def test_after_a_rollback_a_real_device_is_configured_as_before(fleet: Fleet, tmp_path: Path) -> None:
    """What the bad revision merged over, added and replaced is gone, and what the first one merged is there."""
    aws = fleet.aws
    operator = Operator(tmp_path, fleet.cloud.ready["endpoint"], aws.region)
    publish(aws, "1.0.0", {"threshold": 0.4, "lens": {"zoom": 1}, "topic": "seen"})
    publish(aws, "1.1.0", {"threshold": 0.5, "lens": {"zoom": 2}, "topic": "seen", "fps": 5})
    merges = (
        ("1.0.0", {"labels": ["narwhal"], "threshold": 0.7}),
        ("1.1.0", {"labels": ["all"], "threshold": 0.9, "lens": {"zoom": 9, "hood": True}, "topic": {"a": 1}}),
    )
    for version, merge in merges:
        text = f"target: thinggroup/{GROUP}\ncomponents: {{{NAME}: {{version: {version}, merge: {json.dumps(merge)}}}}}"
        assert operator.run("deploy", operator.write("fleet.yaml", text))[0] == 0
    code, output = operator.run("rollback", f"thinggroup/{GROUP}")
    assert code == 0, output
    fleet.lab.stop_server(fleet.device)
    journal = Journal.open(fleet.root / JOURNAL_FOLDER)
    try:
        configuration = DeviceState(journal).configuration(NAME)
        assert configuration is not None
        assert configuration.value() == {
            "threshold": 0.7,
            "lens": {"zoom": 1},
            "topic": "seen",
            "labels": ["narwhal"],
        }
    finally:
        journal.close()
    assert "1 succeeded, 0 failed" in output

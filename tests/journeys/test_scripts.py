"""The fleet's scripts, as an operator types them, against an embedded cloud and a nucleus started by hand."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from monodon.publish import Package

CHECKOUT = Path(__file__).parents[2]
SCRIPTS = CHECKOUT / "scripts"
PATIENCE_S = 120
pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("fleets")]

FLEET = """
target: thinggroup/drones
name: scripts
components:
  monodon.CameraClassifier:
    version: 1.0.0
    merge: {{source: "{photos}", labels: [{label}], threshold: 0.5}}
  monodon.Model.EfficientNetLite0:
    version: 2.0.0
"""


@contextmanager
def server(*arguments: str, ready: str, environment: Mapping[str, str]) -> Iterator[None]:
    """Run ``monodon …`` from its line on stdout that says it is ready until the block ends."""
    command = [sys.executable, "-m", "monodon", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith(ready)
            yield
        finally:
            process.terminate()
            assert process.wait(PATIENCE_S) == 0


def test_from_nothing_to_a_fleet_that_sees(tmp_path: Path, packages: tuple[Package, ...], build_cache: Path) -> None:
    assert packages
    cloud, roots = tmp_path / "cloud", tmp_path / "roots"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}

    with server(
        *("cloud", "run", "--state", str(cloud), "--port", "0", "--mqtt-port", "0"),
        ready="monodon cloud ready: ",
        environment=plain,
    ):
        endpoint = json.loads((cloud / "ready.json").read_text())["endpoint"]
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1"}
        environment = {**plain, **keys, "AWS_ENDPOINT_URL": endpoint}

        def script(name: str, *arguments: str, code: int = 0) -> str:
            done = subprocess.run(
                [SCRIPTS / name, *arguments],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            assert done.returncode == code, done.stdout + done.stderr
            return done.stdout if code == 0 else done.stderr

        def deploy(label: str, code: int = 0) -> str:
            (tmp_path / "fleet.yaml").write_text(FLEET.format(photos=CHECKOUT / "tests/data/photos", label=label))
            return script("deploy_fleet", str(tmp_path / "fleet.yaml"), "--timeout", "90", code=code)

        provision = ("provision_fleet", "drone-1", "--group", "drones", "--roots", str(roots), "--cloud", str(cloud))
        assert "made thing drone-1" in script(*provision)
        assert "found thing drone-1" in script(*provision)
        assert script("publish_components", "--cache", str(build_cache)).count("deployable") == 4
        assert script("publish_components", "--cache", str(build_cache)).count("unchanged") == 4
        device = ("nucleus", "run", "--root", str(roots / "drone-1"))
        nucleus_environment = {**plain, "AWS_ENDPOINT_URL": endpoint}
        with server(*device, ready="monodon nucleus ready: ", environment=nucleus_environment):
            assert "drone-1 SUCCEEDED" in deploy("narwhal")
            failed = deploy("narval", code=1)
            assert "failed on drone-1" in failed
            status = script("fleet_status", "--group", "drones")
            assert status.startswith("drone-1  HEALTHY  linux/")
            assert "monodon.CameraClassifier 1.0.0  RUNNING" in status
            told = json.loads(script("fleet_status", "--json"))
            assert told["thing"] == "drone-1"
    assert (
        "AWS cannot be reached"
        in subprocess.run(
            [SCRIPTS / "fleet_status"], env=environment, capture_output=True, text=True, timeout=PATIENCE_S
        ).stderr
    )


def test_a_wrong_fleet_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("target: thinggroup/drones\ncomponents: {a.B: {version: 1}}\n")
    done = subprocess.run(
        [sys.executable, SCRIPTS / "deploy_fleet", tmp_path / "fleet.yaml"],
        env={**os.environ, "AWS_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}/fleet.yaml: components.a.B.version")

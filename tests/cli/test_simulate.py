"""``monodon fleet simulate`` as an operator types it."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from click.testing import CliRunner

from monodon.cli import monodon
from monodon.cloud.cloud import Cloud, Ready

FLEET = """
target: thinggroup/simulated
components:
  com.example.Camera: {version: 1.0.0}
rollout: {maximumPerMinute: 50}
abort: {criteriaList: [{failureType: FAILED, action: CANCEL, thresholdPercentage: 10, minNumberOfExecutedThings: 20}]}
"""


def deploy(ready: Ready, group: str) -> None:
    client = boto3.client(
        "greengrassv2",
        endpoint_url=ready.endpoint,
        region_name=ready.region,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=10),
    )
    arn = f"arn:aws:iot:{ready.region}:{ready.account}:thinggroup/{group}"
    client.create_deployment(targetArn=arn, components={"com.example.Camera": {"componentVersion": "1.0.0"}})
    client.close()


async def start(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "monodon", "fleet", "simulate", "--cloud", str(folder / "cloud"), *arguments]
    return await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


@pytest.mark.slow
async def test_devices_deploy_and_leave(tmp_path: Path) -> None:
    """--until-deployed ends by itself, Ctrl-C ends cleanly; the second run finds the things of the first."""
    cloud = Cloud(tmp_path / "cloud")
    async with cloud.running() as ready, asyncio.timeout(40):
        assert cloud.parts is not None
        faults = ["--fail", "1:DISK_SPACE_CRITICAL", "--offline", "1", "--takes", "0s"]
        process = await start(tmp_path, "--devices", "4", *faults, "--until-deployed", "--json")
        assert process.stdout is not None
        while (news := json.loads(await process.stdout.readline()))["connected"] < 3:
            assert news["devices"] == 4
        await asyncio.to_thread(deploy, ready, "simulated")
        out, err = await process.communicate()
        assert process.returncode == 0
        assert err.decode().strip() == "4 things in simulated, 4 of them new"
        last = json.loads(out.decode().splitlines()[-1])
        assert last["statuses"] == {"FAILED": 1, "SUCCEEDED": 2}
        assert last["causes"] == {"DISK_SPACE_CRITICAL": 1}
        assert last["losses"] == 0

        process = await start(tmp_path, "--devices", "4")
        assert process.stdout is not None
        while b"connected 4 of 4" not in await process.stdout.readline():
            assert process.returncode is None
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert (process.returncode, err.decode().strip()) == (0, "4 things in simulated, 0 of them new")
        assert b"connected 4 of 4" in out.splitlines()[-1]
        assert not any(cloud.parts.broker.is_connected(f"sim-{number}") for number in range(1, 5))


def rehearse(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    file = folder / "fleet.yaml"
    file.write_text(FLEET)
    result = CliRunner().invoke(monodon, ["fleet", "simulate", "--rehearse", str(file), "--json", *arguments])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_rehearsal_tells_how_a_rollout_would_go(tmp_path: Path) -> None:
    last = rehearse(tmp_path, "--devices", "500", "--fail", "2%", "--offline", "1%:2h")[-1]
    assert (last["statuses"], last["note"]) == ({"FAILED": 10, "SUCCEEDED": 490}, "done")
    assert last["at_s"] > 7200
    last = rehearse(tmp_path, "--devices", "500", "--fail", "30%")[-1]
    assert last["note"] == "an abort criterion was met"
    assert sum(last["statuses"].values()) == 50
    last = rehearse(tmp_path, "--devices", "5", "--hang", "1")[-1]
    assert (last["statuses"], last["note"]) == ({"IN_PROGRESS": 1, "SUCCEEDED": 4}, "some devices never end it")


@pytest.mark.parametrize(
    "arguments", [["--fail", "3%:oops"], ["--slow", "x"], ["--takes", "5s..1s"], ["--metric", "a"], ["--for", "soon"]]
)
def test_what_cannot_be_understood_is_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(monodon, ["fleet", "simulate", *arguments]).exit_code == 2


def test_a_cloud_that_does_not_run_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(monodon, ["fleet", "simulate", "--cloud", str(tmp_path)])
    assert result.exit_code == 1
    assert "no cloud is running" in str(result.exception)

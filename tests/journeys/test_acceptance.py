"""The acceptance run, as somebody would start it on AWS, here on the embedded cloud; and that it leaves nothing."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.journeys.scene import CHECKOUT

from monodon.dev.acceptance import Run
from monodon.dev.lab import Lab, Server
from monodon.errors import FleetError
from monodon.fleet import Aws

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("fleets")]
PATIENCE_S = 120


def everything(aws: Aws) -> dict[str, Any]:
    """All that an account holds of what a run makes."""
    return {
        "things": aws.iot.list_things()["things"],
        "groups": aws.iot.list_thing_groups()["thingGroups"],
        "certificates": aws.iot.list_certificates()["certificates"],
        "policies": aws.iot.list_policies()["policies"],
        "aliases": aws.iot.list_role_aliases()["roleAliases"],
        "roles": aws.iam.list_roles()["Roles"],
        "buckets": aws.s3.list_buckets()["Buckets"],
        "components": aws.greengrass.list_components()["components"],
        "deployments": aws.greengrass.list_deployments(historyFilter="ALL")["deployments"],
        "devices": aws.greengrass.list_core_devices()["coreDevices"],
    }


@pytest.fixture
def cloud(lab: Lab) -> Server:
    return lab.start_cloud()


@pytest.fixture
def acceptance(lab: Lab, cloud: Server) -> Callable[..., subprocess.Popen[str]]:
    """Start the script against the cloud."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}

    def start(*arguments: str) -> subprocess.Popen[str]:
        places = ("--cloud", str(lab.state / "cloud"), "--state", str(lab.state / "acceptance"))
        return subprocess.Popen(
            [CHECKOUT / "scripts/aws_acceptance", *places, *arguments],
            env={**plain, "AWS_REGION": cloud.ready["region"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def test_the_whole_run_leaves_nothing_behind(
    lab: Lab, cloud: Server, acceptance: Callable[..., subprocess.Popen[str]]
) -> None:
    aws = lab.aws(cloud)
    with acceptance() as unconfirmed:
        said, _ = unconfirmed.communicate(timeout=PATIENCE_S)
    assert "0.20 USD" in said, "the cost comes first"
    assert unconfirmed.returncode != 0
    assert not any(everything(aws).values()), "and nothing was made without a yes"

    with acceptance("--yes", "--keep") as run:
        said, _ = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0, said
    lines = said.splitlines()
    told = [line for line in lines if line.startswith(("published", "device", "deployed"))]
    name = next(line for line in lines if line.startswith("account")).rpartition(" ")[2]
    assert told == [
        f"published: monodon.acceptance.{name} 1.0.0",
        f"published: monodon.acceptance.{name} 1.0.1",
        "device: the embedded nucleus runs",
        "deployed: 1.0.0 is SUCCEEDED",
        "deployed: 1.0.1 is FAILED, as it must",
        "device: went back to 1.0.0 by itself",
        "deployed: 1.0.0 is SUCCEEDED",
        "device: stopped",
    ]
    kept = everything(aws)
    assert all(kept.values())
    for deployment in kept["deployments"]:
        found = aws.greengrass.get_deployment(deploymentId=deployment["deploymentId"])
        assert found["tags"].get("monodon-acceptance") == name
    version = f"{kept['components'][0]['arn']}:versions:1.0.1"
    assert aws.greengrass.list_tags_for_resource(resourceArn=version)["tags"] == {"monodon-acceptance": name}

    with acceptance("--tear-down", name) as cleaning:
        said, _ = cleaning.communicate(timeout=PATIENCE_S)
    assert cleaning.returncode == 0, said
    assert "LEFT" not in said
    assert everything(aws) == {key: [] for key in kept}


def test_an_interrupted_run_tears_down(
    lab: Lab, cloud: Server, acceptance: Callable[..., subprocess.Popen[str]]
) -> None:
    with acceptance("--yes") as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith("published"):
                run.send_signal(signal.SIGINT)
                break
        said = run.stdout.read()
    assert "removed thing monodon-acceptance-" in said
    assert run.returncode != 0
    assert not any(everything(lab.aws(cloud)).values())


@pytest.mark.parametrize("name", ["", "UPPER", "a-b", "x" * 13, "ä"])
def test_a_run_has_a_name_that_fits_everywhere(name: str) -> None:
    with pytest.raises(FleetError, match="is no name of a run"):
        Run(name=name)
    assert Run(name="85262906").name == "85262906", "a number is drawn now and then"
    assert len(f"{Run(name='x' * 12).prefix}-{'1' * 12}-ap-southeast-2") <= 63, "a bucket's name"


def test_the_script_and_its_guide_say_that_nobody_has_run_it() -> None:
    for path in ("scripts/aws_acceptance", "docs/fleet.md"):
        assert "obody has run it" in Path(CHECKOUT / path).read_text(), path

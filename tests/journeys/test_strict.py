"""A nucleus and a cloud that checks every signature: the operator's key is the folder's, the device's its role's."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from tests.journeys.scene import GROUP, PATIENCE_S, THING

from monodon.core.names import ComponentName
from monodon.core.semver import Version
from monodon.dev.lab import Lab, Server
from monodon.fleet import Aws, Desired, DesiredComponent, deploy, device_status, follow

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("fleets")]

NAME = "com.example.Narwhal"
WORDS = b"the narwhal keeps its word\n" * 1000


class StrictLab(Lab):
    """A lab whose cloud runs with ``--strict``; its operator has what the environment says, as anybody has."""

    def start_cloud(self, *, port: int = 0, mqtt_port: int = 0) -> Server:
        folder = self.state / "cloud"
        ports = ["--port", str(port), "--mqtt-port", str(mqtt_port)]
        return self._start("cloud", ["cloud", "run", "--strict", "--state", str(folder), *ports], folder, {})

    def aws(self, cloud: Server) -> Aws:
        return Aws(region=cloud.ready["region"])


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[StrictLab]:
    with StrictLab(tmp_path / "state") as lab:
        yield lab


def register(aws: Aws) -> None:
    """A component that does no more than read its artifact."""
    aws.s3.put_object(Bucket=aws.bucket, Key="words.txt", Body=WORDS)
    recipe = {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": NAME,
        "ComponentVersion": "1.0.0",
        "Manifests": [
            {
                "Lifecycle": {"run": "grep -q narwhal {artifacts:path}/words.txt"},
                "Artifacts": [{"Uri": f"s3://{aws.bucket}/words.txt", "Permission": {"Read": "ALL"}}],
            }
        ],
    }
    aws.greengrass.create_component_version(inlineRecipe=json.dumps(recipe))


def test_a_nucleus_deploys_from_a_cloud_that_checks_signatures(lab: StrictLab, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = lab.start_cloud()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.ready["endpoint"])
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(lab.state / "cloud" / "credentials"))
    aws = lab.aws(cloud)
    with pytest.raises(ClientError, match="UnrecognizedClientException"):  # it is as strict as it says
        Aws(endpoint_url=cloud.ready["endpoint"], region=aws.region).greengrass.list_components()
    root = lab.provision(cloud, THING, GROUP)
    register(aws)
    lab.start_device(cloud, root)
    component = DesiredComponent(version=Version.parse("1.0.0"))
    created = deploy(aws, Desired(target=f"thinggroup/{GROUP}", components={ComponentName(NAME): component}))
    outcome = list(follow(aws, created, timeout_s=PATIENCE_S))[-1]
    assert outcome.status == "SUCCEEDED", outcome.reason
    assert (root / "packages" / "artifacts" / NAME / "1.0.0" / "words.txt").read_bytes() == WORDS
    installed = {one.name: one.state for one in device_status(aws, THING).components}
    assert installed[ComponentName(NAME)] == "FINISHED"

"""What goes wrong on the way, and what the device runs afterwards."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.journeys.scene import CHECKOUT, MODEL, THING, EndlessCamera, Fleet, wait_for

from monodon.authoring.bundle import bundle_folder
from monodon.core.semver import Version
from monodon.fleet import device_status
from monodon.publish import ArtifactFile, Package

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("journeys")]


def settings(camera: EndlessCamera, label: str = "narwhal") -> dict[str, object]:
    return {"source": camera.url, "labels": [label], "interval_s": 0, "status_interval_s": 0.2}


def truncated_model(packages: tuple[Package, ...], folder: Path) -> Package:
    """Version 3.0.0 of the model, its file cut short."""
    second = next(one for one in packages if one.recipe.name == MODEL and str(one.recipe.version) == "2.0.0")
    source = shutil.copytree(CHECKOUT / "components" / MODEL / "2.0.0", folder / "3.0.0")
    (source / "model.tflite").write_bytes((source / "model.tflite").read_bytes()[:100_000])
    bundle = bundle_folder(source, folder / "built" / second.files[0].name)
    return Package(
        recipe=replace(second.recipe, version=Version.parse("3.0.0")),
        files=(ArtifactFile(name=bundle.name, path=bundle.path, sha256=bundle.sha256),),
    )


def test_a_truncated_model_is_rolled_back_while_version_2_keeps_classifying(
    fleet: Fleet, packages: tuple[Package, ...], camera: EndlessCamera, tmp_path: Path
) -> None:
    fleet.publish(*packages, truncated_model(packages, tmp_path))
    assert fleet.outcome(fleet.deploy("2.0.0", settings(camera))).status == "SUCCEEDED"
    with fleet.listen() as listener:
        before = wait_for(listener, lambda topic, told: topic.endswith("/status") and told["run"]["kept"] > 0)
        failed = fleet.outcome(fleet.deploy("3.0.0", settings(camera)))
        assert failed.status == "FAILED"
        assert "FAILED_ROLLBACK_COMPLETE" in failed.reason
        assert "is not the model that model.toml describes" in failed.reason
        after = wait_for(
            listener,
            lambda topic, told: topic.endswith("/status") and told["total"]["kept"] > before["total"]["kept"] + 5,
        )
    assert after["model_version"] == "2.0.0"
    versions = {one.name: (one.version, one.state) for one in device_status(fleet.aws, THING).components}
    assert versions[MODEL] == ("2.0.0", "FINISHED")
    assert versions["monodon.CameraClassifier"][1] == "RUNNING"


@pytest.mark.parametrize("moment", ["QUEUED", "IN_PROGRESS"])
def test_a_nucleus_killed_in_the_middle_of_a_deployment_ends_it_when_it_comes_back(
    fleet: Fleet, packages: tuple[Package, ...], camera: EndlessCamera, moment: str
) -> None:
    from monodon.fleet import follow

    fleet.publish(*packages)
    created = fleet.deploy("2.0.0", settings(camera))
    for change in follow(fleet.aws, created, timeout_s=60):
        if change.status in (moment, "IN_PROGRESS"):
            break
    fleet.lab.kill(fleet.device)
    fleet.device = fleet.lab.start_device(fleet.cloud, fleet.root)
    assert fleet.outcome(created).status == "SUCCEEDED"
    with fleet.listen() as listener:
        wait_for(listener, lambda topic, told: topic.endswith("/kept") and told["label"] == "narwhal")
    again = fleet.outcome(fleet.deploy("1.0.0", settings(camera, "grey whale")))
    assert again.status == "SUCCEEDED"


def test_a_cloud_killed_between_publish_and_deploy_has_forgotten_nothing(
    fleet: Fleet, packages: tuple[Package, ...], camera: EndlessCamera
) -> None:
    fleet.publish(*packages)
    fleet.lab.kill(fleet.cloud)
    fleet.cloud = fleet.lab.restart_cloud(fleet.cloud)
    assert fleet.outcome(fleet.deploy("2.0.0", settings(camera))).status == "SUCCEEDED"
    with fleet.listen() as listener:
        wait_for(listener, lambda topic, told: topic.endswith("/kept"))

"""The camera classifier against a nucleus in memory: the real model, real clips, real files."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from monodon.authoring.recipes import load_module
from monodon.component import LoopbackNucleus
from monodon.errors import ConfigurationError, FrameError, ModelError
from monodon.ml.album import read_counts

CHECKOUT = Path(__file__).parents[2]
FOLDER = CHECKOUT / "components/monodon.CameraClassifier"
MODELS = CHECKOUT / "components/monodon.Model.EfficientNetLite0"
DIVE = CHECKOUT / "tests/data/clips/dive_720p.mp4"
PHOTOS = CHECKOUT / "tests/data/photos"
NARWHALS = [*range(50, 125), *range(499, 574)]
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def classifier() -> ModuleType:
    return load_module(FOLDER / "main.py")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODEL", str(MODELS / "2.0.0"))
    return MODELS / "2.0.0"


@asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator["asyncio.Task[None]"]:
    """Run a component in the background; cancel it at the end, as SIGTERM does."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_done(loopback: LoopbackNucleus) -> dict[str, Any]:
    """Return the status that says that the clip has ended."""
    for count in range(1, 1000):
        statuses = await loopback.wait_for("monodon/status", count, timeout_s=PATIENCE_S)
        if statuses[-1]["state"] == "done":
            last: dict[str, Any] = statuses[-1]
            return last
    raise AssertionError("never done")


def sequence(folder: Path, *photos: str) -> Path:
    """Make a folder of pictures to be seen one after the other."""
    folder.mkdir()
    for number, photo in enumerate(photos):
        (folder / f"{number:03}.webp").symlink_to(PHOTOS / f"{photo}.webp")
    return folder


async def test_it_keeps_the_narwhals_of_the_dive_and_nothing_else(
    loopback: LoopbackNucleus, classifier: ModuleType, model: Path, tmp_path: Path
) -> None:
    settings = classifier.Settings(source=str(DIVE), labels=("narwhal",))
    component = loopback.component(settings, name="monodon.CameraClassifier", work=tmp_path)
    async with running(classifier.main(component)):
        status = await until_done(loopback)
        assert loopback.state("monodon.CameraClassifier") == "RUNNING"
    assert status["run"]["seen"] == 599
    assert status["run"]["kept"] == 150
    assert status["run"]["dropped"] == 449
    assert status["model_version"] == "2.0.0"
    assert 0 < status["latency_ms"]["p50"] <= status["latency_ms"]["p95"]
    kept = loopback.published("monodon/kept")
    assert [one["frame_index"] for one in kept] == NARWHALS
    folder = tmp_path / "kept/2.0.0"
    for one in kept:
        sidecar = json.loads((folder / one["file"]).with_suffix(".json").read_text())
        assert sidecar.items() <= one.items()
        assert {"frame_index", "time", "label", "score", "model_version", "model_sha256"} <= sidecar.keys()
    assert sum(path.stat().st_size for path in folder.glob("*.jpg")) == status["run"]["bytes_kept"]
    assert [
        json.loads(one.content)["frame_index"] for one in loopback.published_to_iot("monodon/loopback/kept")
    ] == NARWHALS


async def test_it_reports_running_only_after_a_frame(
    loopback: LoopbackNucleus, classifier: ModuleType, model: Path, tmp_path: Path
) -> None:
    """A camera that is not there leaves the component STARTING, so that a deployment waits, and fails."""
    settings = classifier.Settings(source="/dev/video-none", labels=("narwhal",))
    component = loopback.component(settings, name="a.B", work=tmp_path)
    async with running(classifier.main(component)) as task:
        done, _ = await asyncio.wait([task], timeout=1.5)
        assert not done
        assert loopback.state("a.B") == "STARTING"


async def test_a_clip_that_ended_is_reported_done_and_the_component_idles(
    loopback: LoopbackNucleus, classifier: ModuleType, model: Path, tmp_path: Path
) -> None:
    settings = classifier.Settings(source=str(PHOTOS / "narwhal.webp"), labels=("narwhal",), status_interval_s=0.05)
    async with running(classifier.main(loopback.component(settings, work=tmp_path))) as task:
        await until_done(loopback)
        before = len(loopback.published("monodon/status"))
        await loopback.wait_for("monodon/status", before + 3)
        assert not task.done()


async def test_wanted_labels_change_without_a_restart(
    loopback: LoopbackNucleus, classifier: ModuleType, model: Path, tmp_path: Path
) -> None:
    pictures = sequence(tmp_path / "pictures", *["narwhal"] * 20, *["scarlet_macaw"] * 120)
    settings = classifier.Settings(source=str(pictures), labels=("narwhal",))
    component = loopback.component(settings, name="a.B", work=tmp_path)
    async with running(classifier.main(component)):
        await loopback.wait_for("monodon/kept", 1, timeout_s=PATIENCE_S)
        await loopback.set_configuration({"labels": ["macaw"]}, name="a.B")
        await until_done(loopback)
    labels = [one["label"] for one in loopback.published("monodon/kept")]
    assert set(labels) == {"narwhal", "macaw"}
    assert labels == sorted(labels, reverse=True)  # first the one, then the other


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": ["narval"]}, "the model has no label 'narval' .*'narwhal'"),
        ({"labels": []}, "no wanted labels are given"),
        ({"threshold": 1.5}, "a threshold of 1.5 is not within 0 and 1"),
        ({"labels": ["narval"], "model_version": "2.0.0"}, "no label 'narval'"),
    ],
)
async def test_what_the_model_cannot_look_for_is_refused_before_it_is_applied(
    loopback: LoopbackNucleus,
    classifier: ModuleType,
    model: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    reason: str,
) -> None:
    """So the deployment fails; and the running component goes on as before."""
    settings = classifier.Settings(source=str(PHOTOS), labels=("narwhal",))
    component = loopback.component(settings, name="a.B", work=tmp_path)
    async with running(classifier.main(component)):
        await until_done(loopback)
        with pytest.raises(ConfigurationError, match=reason):
            await loopback.set_configuration(changes, name="a.B")
    assert component.settings == settings


async def test_labels_for_another_model_may_come_with_it(
    loopback: LoopbackNucleus, classifier: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment brings a model with its label: the process of the former is asked, and leaves it to the next."""
    monkeypatch.setenv("MODEL", str(MODELS / "1.0.0"))
    component = loopback.component(classifier.Settings(source=str(PHOTOS)), name="a.B", work=tmp_path)
    async with running(classifier.main(component)):
        await until_done(loopback)
        with pytest.raises(ConfigurationError, match=r"no label 'narwhal' .* names it in model_version"):
            await loopback.set_configuration({"labels": ["narwhal"]}, name="a.B")
        await loopback.set_configuration({"labels": ["narwhal"], "model_version": "2.0.0"}, name="a.B")
    with pytest.raises(ModelError, match="the model has no label 'narwhal'"):
        await classifier.main(component)  # the other model did not come
    monkeypatch.setenv("MODEL", str(MODELS / "2.0.0"))
    other = LoopbackNucleus()
    async with running(classifier.main(other.component(component.settings, work=tmp_path))):
        await until_done(other)
    assert {one["label"] for one in other.published("monodon/kept")} == {"narwhal"}


async def test_counts_go_on_after_a_restart(
    loopback: LoopbackNucleus, classifier: ModuleType, model: Path, tmp_path: Path
) -> None:
    settings = classifier.Settings(source=str(PHOTOS), labels=("narwhal",))
    for _ in range(2):
        nucleus = LoopbackNucleus()
        async with running(classifier.main(nucleus.component(settings, work=tmp_path))):
            status = await until_done(nucleus)
    frames = len([path for path in PHOTOS.iterdir() if path.suffix != ".csv"])
    assert status["run"]["seen"] == frames
    assert status["total"]["seen"] == 2 * frames
    assert read_counts(tmp_path / "kept/2.0.0").seen == 2 * frames


async def test_a_byte_budget_is_kept(
    loopback: LoopbackNucleus, classifier: ModuleType, model: Path, tmp_path: Path
) -> None:
    pictures = sequence(tmp_path / "pictures", *["narwhal"] * 40)
    settings = classifier.Settings(source=str(pictures), labels=("narwhal",), budget_bytes=200_000)
    async with running(classifier.main(loopback.component(settings, work=tmp_path))):
        status = await until_done(loopback)
    left = [path for path in (tmp_path / "kept/2.0.0").iterdir() if path.suffix in (".jpg", ".json")]
    assert sum(path.stat().st_size for path in left) <= 200_000
    assert status["run"]["kept"] == 40
    assert 0 < len(left) // 2 < 40
    assert status["run"]["evicted"] == 40 - len(left) // 2


@pytest.mark.parametrize(
    ("settings", "error", "message", "hint"),
    [
        ({"source": "/no/such/clip.mp4"}, FrameError, "no such clip", "a path, a device or a URL"),
        ({"source": str(FOLDER / "main.py")}, FrameError, r"no frame of .*main\.py can be decoded", "whole video"),
        ({"labels": ("narval",)}, ModelError, "no label 'narval'", "'narwhal'"),
        ({"labels": ()}, ModelError, "no wanted labels", "at least one"),
        ({"threshold": 5.0}, ModelError, "a threshold of 5", None),
        ({"keep_folder": "/dev/null/kept"}, FrameError, "cannot keep frames in", None),
    ],
)
async def test_what_cannot_work_ends_in_one_clear_error(
    loopback: LoopbackNucleus,
    classifier: ModuleType,
    model: Path,
    tmp_path: Path,
    settings: dict[str, Any],
    error: type[Exception],
    message: str,
    hint: str | None,
) -> None:
    chosen = classifier.Settings(**{"source": str(PHOTOS), "labels": ("narwhal",), **settings})
    with pytest.raises(error, match=message) as caught:
        await classifier.main(loopback.component(chosen, name="a.B", work=tmp_path))
    assert hint is None or hint in str(caught.value.hint)  # type: ignore[attr-defined]
    assert loopback.state("a.B") == "STARTING"


async def test_a_truncated_model_never_runs(
    loopback: LoopbackNucleus, classifier: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = shutil.copytree(MODELS / "2.0.0", tmp_path / "model")
    (broken / "model.tflite").write_bytes((broken / "model.tflite").read_bytes()[:100_000])
    monkeypatch.setenv("MODEL", str(broken))
    with pytest.raises(ModelError, match="is not the model that model.toml describes"):
        await classifier.main(loopback.component(classifier.Settings(source=str(PHOTOS)), work=tmp_path))


def test_on_a_terminal_an_error_is_one_line_with_its_hint(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "main.py"), "--set", "source=/no/clip.mp4"],
        env={"MODEL": str(MODELS / "1.0.0"), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: no such clip, picture or folder: /no/clip.mp4",
        "hint: a source is a path, a device or a URL",
    ]


def test_without_a_model_it_says_how_to_name_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "main.py")],
        env={"PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert "MODEL names no model folder" in done.stderr
    assert "MODEL=components/" in done.stderr

"""The real model names real photographs, in whichever engine is installed here."""

import csv
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from monodon.errors import ModelError
from monodon.ml import Classifier
from monodon.ml.frames import read_picture
from monodon.ml.runtimes import check_numpy, find_engine, load_runtime


def known_photos(photos: Path) -> list[tuple[Path, set[str]]]:
    with (photos.parent / "photos.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [
        (photos.parent / row["file"], set(row["accepted_imagenet_labels"].split("|")))
        for row in rows
        if row["accepted_imagenet_labels"]
    ]


def test_it_names_the_animals_it_knows(photos: Path, model_v1: Path) -> None:
    """Of the photographs with an ImageNet class, all but two are right at the first guess, and all within five."""
    classifier = Classifier.load(model_v1)
    first = within_five = 0
    known = known_photos(photos)
    for path, accepted in known:
        image = read_picture(path)
        assert image is not None
        wanted = {index for name in accepted for index in classifier.labels.find(name)}
        found = [label.index for label in classifier.classify(image)]
        first += found[0] in wanted
        within_five += bool(wanted & set(found))
    assert first >= len(known) - 2
    assert within_five == len(known)


def test_version_2_knows_the_narwhal(photos: Path, model_v2: Path) -> None:
    image = read_picture(photos / "narwhal.webp")
    assert image is not None
    best = Classifier.load(model_v2).classify(image, 1)[0]
    assert best.name == "narwhal"
    assert best.score > 0.5


def test_scores_are_probabilities_in_class_order(photos: Path, model_v1: Path) -> None:
    image = read_picture(photos / "polar_bear.webp")
    assert image is not None
    classifier = Classifier.load(model_v1)
    scores = classifier.scores(image)
    assert scores.shape == (1000,)
    assert scores.dtype == np.float32
    assert 0.5 < scores.sum() <= 1.001  # 1/256 steps: small scores are lost
    assert classifier.labels.names[int(scores.argmax())] == "ice bear"


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x00" * 4096], ids=["empty", "text", "zeros"])
def test_what_is_no_model_is_one_clear_error(content: bytes) -> None:
    with pytest.raises(ModelError, match="narwhals is not a model that"):
        load_runtime(content, name="narwhals")


@pytest.mark.parametrize("length", [100, 10_000, 1_000_000, 5_000_000])
def test_a_truncated_model_is_one_clear_error(tmp_path: Path, model_v1: Path, length: int) -> None:
    model = shutil.copytree(model_v1, tmp_path / "model")
    (model / "model.tflite").write_bytes((model / "model.tflite").read_bytes()[:length])
    with pytest.raises(ModelError, match=f"is not the model that model.toml describes: {length} bytes"):
        Classifier.load(model)
    if find_engine()[0] == "litert":  # tflite-runtime would crash: the digest above is its only guard
        with pytest.raises(ModelError, match="is not a model that"):
            load_runtime((model / "model.tflite").read_bytes(), name="cut")


def test_labels_of_another_version_are_refused(tmp_path: Path, model_v1: Path, model_v2: Path) -> None:
    model = shutil.copytree(model_v1, tmp_path / "model")
    shutil.copy(model_v2 / "labels.txt", model)
    text = (model / "model.toml").read_text()
    (model / "model.toml").write_text(text.replace("count = 1000", "count = 1001"))
    with pytest.raises(ModelError, match="gives 1000 scores, but has 1001 labels"):
        Classifier.load(model)


def test_an_input_of_another_size_is_refused(tmp_path: Path, model_v1: Path) -> None:
    model = shutil.copytree(model_v1, tmp_path / "model")
    text = (model / "model.toml").read_text()
    (model / "model.toml").write_text(text.replace("width = 224", "width = 320"))
    with pytest.raises(ModelError, match=r"takes \(1, 224, 224, 3\), but its manifest says \(1, 224, 320, 3\)"):
        Classifier.load(model)


def test_loading_writes_nothing_on_stderr(
    model_v1: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A nucleus logs stderr as warnings; what the engine has to say goes to the log at DEBUG."""
    with caplog.at_level(logging.DEBUG, "monodon.ml.runtimes"):
        Classifier.load(model_v1)
    assert capfd.readouterr().err == ""


def test_tflite_runtime_beside_numpy_2_is_told_apart() -> None:
    """It would fail with SystemError when the first model is loaded."""
    check_numpy("1.26.4")
    with pytest.raises(ModelError, match="does not work with numpy 2.4.6") as caught:
        check_numpy("2.4.6")
    assert "numpy<2" in str(caught.value.hint)


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(ModelError, match="engine 'onnx' is not one of litert, tflite"):
        find_engine("onnx")

"""The model manifest names what is wrong, and where."""

import shutil
from pathlib import Path

import pytest

from monodon.errors import ModelError
from monodon.ml.model import ModelManifest


@pytest.fixture
def model(tmp_path: Path, model_v1: Path) -> Path:
    return shutil.copytree(model_v1, tmp_path / "model")


def edit(model: Path, old: str, new: str) -> None:
    file = model / "model.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_the_manifests_of_this_checkout_are_true(model_v1: Path, model_v2: Path) -> None:
    first, second = ModelManifest.load(model_v1), ModelManifest.load(model_v2)
    assert (first.version, len(first.labels)) == ("1.0.0", 1000)
    assert (second.version, len(second.labels), second.labels[-1]) == ("2.0.0", 1001, "narwhal")
    assert first.read_model()[4:8] == second.read_model()[4:8] == b"TFL3"


def test_a_truncated_model_is_not_the_one_described(model: Path) -> None:
    content = (model / "model.tflite").read_bytes()
    (model / "model.tflite").write_bytes(content[:1000])
    with pytest.raises(ModelError, match="is not the model that model.toml describes: 1000 bytes") as caught:
        ModelManifest.load(model).read_model()
    assert "cut short" in str(caught.value.hint)


def test_a_missing_model_is_named(model: Path) -> None:
    (model / "model.tflite").unlink()
    with pytest.raises(ModelError, match=r"model\.tflite: No such file"):
        ModelManifest.load(model).read_model()


def test_a_folder_without_manifest_says_what_a_model_is(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model\.toml in"):
        ModelManifest.load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[input]", "[inputs]", r"the table \[input\] is missing"),
        ("width = 224", "", "input.width is missing"),
        ("width = 224", "width = -3", "input.width is -3, but must be positive"),
        ("width = 224", 'width = "wide"', "input.width is 'wide', of a wrong type"),
        ("width = 224", "width = true", "input.width is True, of a wrong type"),
        ("mean = 127", "mean = []", r"input.mean is \[\], of a wrong type"),
        ('kind = "classification"', 'kind = "detection"', "output.kind is 'detection'"),
        ('channels = "RGB"', 'channels = "BGR"', "input.channels is 'BGR'"),
        ("count = 1000", "count = 999", "has 1000 labels, but model.toml says 999"),
        ('labels = "labels.txt"', 'labels = "names.txt"', "cannot read the labels"),
        ("[model]", "[model", "model.toml: "),
    ],
)
def test_each_wrong_key_is_named(model: Path, old: str, new: str, message: str) -> None:
    edit(model, old, new)
    with pytest.raises(ModelError, match=message):
        ModelManifest.load(model)

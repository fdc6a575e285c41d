"""The model manifest: what a model wants to see and what its scores mean (standard library only).

A model is a folder with ``model.toml`` and the files that it names::

    [model]
    name = "EfficientNet-Lite0"
    version = "2.0.0"
    file = "model.tflite"
    sha256 = "…"                 # of the file; a truncated or exchanged model is refused
    licence = "Apache-2.0"
    origin = "where it comes from"

    [input]
    width = 224
    height = 224
    channels = "RGB"
    mean = 127.0                 # (pixel - mean) / std is what the network was trained on
    std = 128.0
    crop = 0.875                 # the centred square of this share of the shorter side
    resize = "linear"

    [output]
    kind = "classification"
    labels = "labels.txt"        # line n is class n - 1; synonyms separated by commas
    count = 1001

    [metrics]                    # anything the author measured
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monodon.errors import ModelError

MANIFEST_NAME = "model.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """What the network takes: size in pixels, and ``(pixel - mean) / std`` of the centred ``crop``."""

    width: int
    height: int
    mean: float
    std: float
    crop: float
    resize: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelManifest:
    """A read ``model.toml``; paths are absolute."""

    folder: Path
    name: str
    version: str
    path: Path
    sha256: str
    licence: str
    origin: str
    input: InputSpec
    labels: tuple[str, ...]
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> "ModelManifest":
        """Read the manifest of a model folder and the labels it names.

        Raises:
            ModelError: there is none, a key is missing or of a wrong type, or the labels are not as many as it says.
        """
        file = folder / MANIFEST_NAME
        try:
            document = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            hint = f"a model is a folder with {MANIFEST_NAME} and the files that it names"
            raise ModelError(f"no {MANIFEST_NAME} in {folder}", hint=hint) from None
        except (OSError, ValueError) as error:
            raise ModelError(f"{file}: {error}") from error
        model, given, output = (_Table(file, document, name) for name in ("model", "input", "output"))
        if (kind := output.text("kind")) != "classification":
            raise ModelError(f"{file}: output.kind is {kind!r}, but only 'classification' is known")
        if (channels := given.text("channels")) != "RGB":
            raise ModelError(f"{file}: input.channels is {channels!r}, but only 'RGB' is known")
        return cls(
            folder=folder,
            name=model.text("name"),
            version=model.text("version"),
            path=folder / model.text("file"),
            sha256=model.text("sha256"),
            licence=model.text("licence"),
            origin=model.text("origin"),
            input=InputSpec(
                width=given.whole("width"),
                height=given.whole("height"),
                mean=given.number("mean"),
                std=given.number("std"),
                crop=given.number("crop"),
                resize=given.text("resize"),
            ),
            labels=_read_labels(folder / output.text("labels"), output.whole("count")),
            metrics=document.get("metrics", {}),
        )

    def read_model(self) -> bytes:
        """Return the model file's bytes, checked against ``sha256``.

        Raises:
            ModelError: the file is missing, or is not the one the manifest was written for.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot read the model {self.path}: {error.strerror}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise ModelError(
                f"{self.path} is not the model that {MANIFEST_NAME} describes: "
                f"{len(content)} bytes with sha256 {found[:12]}…, expected {self.sha256[:12]}…",
                hint="the file was cut short or exchanged; publish the model again with its own manifest",
            )
        return content


class _Table:
    """One table of a manifest; a wrong or missing key is named with its file."""

    def __init__(self, file: Path, document: Mapping[str, Any], name: str) -> None:
        self._file, self._name = file, name
        table = document.get(name)
        if not isinstance(table, dict):
            raise ModelError(f"{file}: the table [{name}] is missing")
        self._table = table

    def text(self, key: str) -> str:
        return str(self._get(key, str))

    def whole(self, key: str) -> int:
        value = int(self._get(key, int))
        if value <= 0:
            raise ModelError(f"{self._file}: {self._name}.{key} is {value}, but must be positive")
        return value

    def number(self, key: str) -> float:
        return float(self._get(key, (int, float)))

    def _get(self, key: str, kind: type | tuple[type, ...]) -> Any:
        value = self._table.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            what = "missing" if value is None else f"{value!r}, of a wrong type"
            raise ModelError(f"{self._file}: {self._name}.{key} is {what}")
        return value


def _read_labels(file: Path, count: int) -> tuple[str, ...]:
    try:
        labels = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read the labels {file}: {error}") from error
    if len(labels) != count:
        raise ModelError(
            f"{file} has {len(labels)} labels, but {MANIFEST_NAME} says {count}",
            hint="one class a line, in the order of the model's outputs",
        )
    return labels

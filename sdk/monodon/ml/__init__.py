"""Seeing on a device: frames in, labels out, the matching frames kept. Knows nothing of Greengrass.

numpy, OpenCV and the inference engine load on first use, so that importing this package costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monodon.ml.album import Album, Counts
    from monodon.ml.classifier import Classifier
    from monodon.ml.classify import Label, Labels
    from monodon.ml.frames import Camera, Frame
    from monodon.ml.keep import Wanted
    from monodon.ml.model import ModelManifest
    from monodon.ml.timing import Latencies
    from monodon.ml.watch import Look, Watch

__all__ = [
    "Album",
    "Camera",
    "Classifier",
    "Counts",
    "Frame",
    "Label",
    "Labels",
    "Latencies",
    "Look",
    "ModelManifest",
    "Wanted",
    "Watch",
]

_HOMES = {
    "Album": "album",
    "Camera": "frames",
    "Classifier": "classifier",
    "Counts": "album",
    "Frame": "frames",
    "Label": "classify",
    "Labels": "classify",
    "Latencies": "timing",
    "Look": "watch",
    "ModelManifest": "model",
    "Wanted": "keep",
    "Watch": "watch",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'monodon.ml' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"monodon.ml.{_HOMES[name]}"), name)

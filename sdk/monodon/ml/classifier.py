"""A model folder becomes something that names what a picture shows."""

from pathlib import Path

from monodon.errors import ModelError
from monodon.ml.arrays import Array, Image, np
from monodon.ml.classify import Label, Labels, best
from monodon.ml.model import ModelManifest
from monodon.ml.preprocess import Size, centre_crop, look_up, scaling_table
from monodon.ml.runtimes import Runtime, load_runtime


class Classifier:
    """A loaded classification model. Blocking; to be used from one thread at a time."""

    def __init__(self, manifest: ModelManifest, runtime: Runtime) -> None:
        given = manifest.input
        expected = (1, given.height, given.width, 3)
        if runtime.input.shape != expected:
            raise ModelError(f"{manifest.path} takes {runtime.input.shape}, but its manifest says {expected}")
        if runtime.output.shape != (1, len(manifest.labels)):
            raise ModelError(
                f"{manifest.path} gives {runtime.output.shape[-1]} scores, but has {len(manifest.labels)} labels",
                hint="labels and model belong to different versions; publish them together",
            )
        self.manifest = manifest
        self.labels = Labels(manifest.labels)
        self._runtime = runtime
        self._size = Size(given.width, given.height)
        self._table = scaling_table(
            mean=given.mean,
            std=given.std,
            dtype=runtime.input.dtype,
            scale=runtime.input.scale,
            zero_point=runtime.input.zero_point,
        )

    @classmethod
    def load(cls, folder: Path, *, engine: str | None = None, threads: int = 1) -> "Classifier":
        """Load a model folder (see ``monodon.ml.model``).

        Raises:
            ModelError: manifest, labels or model cannot be used, or no engine is installed.
        """
        manifest = ModelManifest.load(folder)
        runtime = load_runtime(manifest.read_model(), name=str(manifest.path), engine=engine, threads=threads)
        return cls(manifest, runtime)

    @property
    def engine(self) -> str:
        """The name of the inference engine: ``litert`` or ``tflite``."""
        return self._runtime.engine

    def scores(self, image: Image) -> Array:
        """Return a score for every class, float32, shape (classes,).

        Args:
            image: uint8 RGB, shape (height, width, 3).

        Raises:
            FrameError: the image is empty, or not uint8 with three channels.
        """
        given = self.manifest.input
        crop = centre_crop(image, self._size, fraction=given.crop, resize=given.resize)
        raw: Array = self._runtime.run(look_up(crop, self._table))[0]
        output = self._runtime.output
        if not output.scale:
            return np.asarray(raw, np.float32)
        scores: Array = (raw.astype(np.float32) - output.zero_point) * np.float32(output.scale)
        return scores

    def classify(self, image: Image, count: int = 5) -> tuple[Label, ...]:
        """Return the ``count`` best labels of an image, best first (arguments and errors as ``scores``)."""
        return best(self.scores(image), self.labels, count)

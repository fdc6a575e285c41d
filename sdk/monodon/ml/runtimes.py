"""Inference engines behind one small protocol: LiteRT (``ai-edge-litert``) and the older ``tflite-runtime``."""

import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any, Protocol

from monodon.errors import ModelError
from monodon.ml.arrays import Array, np

logger = logging.getLogger(__name__)

#: Engine → (module with ``Interpreter``, what installs it). The first one installed is taken.
ENGINES = {
    "litert": ("ai_edge_litert.interpreter", "pip install 'monodon[ml]'"),
    "tflite": ("tflite_runtime.interpreter", "pip install 'monodon[tflite]' (Python 3.11)"),
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A network's input or output; ``scale`` is 0 where the numbers are not quantised."""

    shape: tuple[int, ...]
    dtype: Any
    scale: float
    zero_point: int


class Runtime(Protocol):
    """A loaded network with one input and one output that counts."""

    engine: str
    input: TensorSpec
    output: TensorSpec

    def run(self, tensor: Array) -> Array:
        """Return the raw output for an input of exactly ``input.shape`` and ``input.dtype``."""


class TfliteRuntime:
    """A TensorFlow Lite model in either engine: both have the same ``Interpreter``."""

    def __init__(self, engine: str, interpreter: Any) -> None:
        self.engine = engine
        self._interpreter = interpreter
        given, result = interpreter.get_input_details(), interpreter.get_output_details()
        if len(given) != 1:
            raise ModelError(f"the model has {len(given)} inputs; a classifier has one")
        self._input_index, self._output_index = given[0]["index"], result[0]["index"]
        self.input, self.output = _spec(given[0]), _spec(result[0])

    def run(self, tensor: Array) -> Array:
        """Return a copy of the raw output; the interpreter may be used from one thread at a time."""
        self._interpreter.set_tensor(self._input_index, tensor)
        self._interpreter.invoke()
        return np.asarray(self._interpreter.get_tensor(self._output_index))


def load_runtime(model: bytes, *, name: str, engine: str | None = None, threads: int = 1) -> Runtime:
    """Return a network ready to run.

    LiteRT refuses a damaged model; tflite-runtime 2.14 does not look and crashes the process (measured). So give it
    only bytes whose digest was checked, as ``Classifier.load`` does.

    Args:
        model: a .tflite file's bytes.
        name: what to call it in an error.
        engine: ``litert``, ``tflite``, or None for the first one installed.
        threads: of one inference; for small networks one is as fast as two.

    Raises:
        ModelError: no engine is installed, the installed one cannot work, or the bytes are no model.
    """
    engine, interpreter = find_engine(engine)
    try:
        with _stderr_to_log():
            loaded = interpreter(model_content=model, num_threads=threads)
            loaded.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{name} is not a model that {engine} can run: {first_line}") from error
    return TfliteRuntime(engine, loaded)


def find_engine(engine: str | None = None, *, numpy_version: str | None = None) -> tuple[str, Callable[..., Any]]:
    """Return an engine's name and its ``Interpreter``.

    Args:
        numpy_version: that of the installed numpy, unless told.

    Raises:
        ModelError: it is not installed, or it is tflite-runtime beside numpy 2, which fails late and badly.
    """
    if engine is not None and engine not in ENGINES:
        raise ModelError(f"engine {engine!r} is not one of {', '.join(ENGINES)}")
    for candidate in [engine] if engine else list(ENGINES):
        module, _ = ENGINES[candidate]
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            continue
        if candidate == "tflite":
            check_numpy(numpy_version or metadata.version("numpy"))
        return candidate, import_module(module).Interpreter
    wanted = [engine] if engine else list(ENGINES)
    raise ModelError(
        "no inference engine is installed" if engine is None else f"the engine {engine} is not installed",
        hint=" or ".join(ENGINES[name][1] for name in wanted),
    )


def check_numpy(version: str) -> None:
    """Refuse tflite-runtime beside numpy 2: built against numpy 1, it fails when the first model is loaded.

    Raises:
        ModelError: ``version`` is 2 or later.
    """
    if int(version.partition(".")[0]) >= 2:
        raise ModelError(
            f"tflite-runtime does not work with numpy {version}",
            hint="pip install 'numpy<2' 'opencv-python-headless<4.12', or use LiteRT: pip install 'monodon[ml]'",
        )


@contextmanager
def _stderr_to_log() -> Iterator[None]:
    """Catch what native code writes on stderr (a nucleus would log it as warnings) and log it at DEBUG."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as caught:
        saved = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            caught.seek(0)
            for line in caught.read().decode(errors="replace").splitlines():
                logger.debug("engine: %s", line)


def _spec(details: dict[str, Any]) -> TensorSpec:
    scale, zero_point = details["quantization"]
    return TensorSpec(
        shape=tuple(int(side) for side in details["shape"]),
        dtype=np.dtype(details["dtype"]),
        scale=float(scale),
        zero_point=int(zero_point),
    )

"""numpy and OpenCV, set up for a device before they load: no thread pools nobody uses, no noise on stderr."""

import os
from typing import Any, TypeAlias

# On two cores each of numpy and OpenCV would start an OpenBLAS thread at import; nothing here multiplies matrices.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np
import numpy.typing as npt

#: uint8 RGB, shape (height, width, 3).
Image: TypeAlias = npt.NDArray[np.uint8]
#: An array of any number type; its module says the shape.
Array: TypeAlias = npt.NDArray[Any]

__all__ = ["Array", "Image", "cv2", "np"]

"""monodon.ml's pipeline against a plain loop of the same clip and model, written straight on OpenCV and LiteRT.

The two run in turn, three times each; quoted are the medians of their rates and of the ratios pair by pair.
"""

import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
CLIP = CHECKOUT / "tests/data/clips/dive_720p.mp4"
MODEL = CHECKOUT / "components/monodon.Model.EfficientNetLite0/2.0.0"
PAIRS = 3


def plain() -> tuple[int, int]:
    """Return frames seen and frames that show a narwhal, as one would write it without any library of ours."""
    import cv2
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(MODEL / "model.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = given["quantization"]
    capture = cv2.VideoCapture(str(CLIP))
    seen = kept = 0
    while True:
        is_good, image = capture.read()
        if not is_good:
            break
        height, width = image.shape[:2]
        side = int(min(height, width) * 0.875)
        top, left = (height - side) // 2, (width - side) // 2
        crop = cv2.resize(image[top : top + side, left : left + side], (224, 224))
        rgb = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB).astype(np.float32)
        tensor = np.clip(np.round((rgb - 127) / 128 / scale) + zero_point, -128, 127).astype(np.int8)
        interpreter.set_tensor(given["index"], tensor[np.newaxis])
        interpreter.invoke()
        output = interpreter.get_tensor(result["index"])[0]
        best = int(output.argmax())
        score = (int(output[best]) - result["quantization"][1]) * result["quantization"][0]
        seen += 1
        kept += best == 1000 and score >= 0.5
    capture.release()
    return seen, kept


def pipeline() -> tuple[int, int]:
    """Return the same by way of monodon.ml, as the camera classifier uses it (without writing what it keeps)."""
    from monodon.ml import Camera, Classifier, Wanted

    async def watch() -> tuple[int, int]:
        classifier = Classifier.load(MODEL)
        wanted = Wanted.find(["narwhal"], classifier.labels, 0.5)
        seen = kept = 0
        async with Camera.open(str(CLIP)) as camera:
            async for frame in camera:
                labels = await asyncio.to_thread(classifier.classify, frame.image)
                seen += 1
                kept += wanted.match(labels) is not None
        return seen, kept

    return asyncio.run(watch())


def main() -> dict[str, Any]:
    rates: dict[str, list[float]] = {"plain": [], "pipeline": []}
    results = set()
    plain()  # warms the page cache and imports
    for number in range(PAIRS):
        for name, run in (("plain", plain), ("pipeline", pipeline)):
            started = time.perf_counter()
            seen, kept = run()
            rates[name].append(seen / (time.perf_counter() - started))
            results.add((seen, kept))
        print(f"ml pair {number + 1}: {rates['plain'][-1]:.0f}, {rates['pipeline'][-1]:.0f} frames/s", file=sys.stderr)
    assert len(results) == 1, f"the two disagree: {results}"
    ratios = [ours / theirs for ours, theirs in zip(rates["pipeline"], rates["plain"], strict=True)]
    return {
        "plain_frames_per_s": round(statistics.median(rates["plain"]), 1),
        "pipeline_frames_per_s": round(statistics.median(rates["pipeline"]), 1),
        "ratio": round(statistics.median(ratios), 3),
    }


if __name__ == "__main__":
    print(main())

"""Looking at frames and keeping those that match: classifier, album and figures together."""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monodon.ml.album import Album, Counts
from monodon.ml.classifier import Classifier
from monodon.ml.classify import Label
from monodon.ml.frames import Frame
from monodon.ml.keep import Wanted
from monodon.ml.timing import Latencies


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What came of one frame: its best labels, and where it was kept (None: it was not)."""

    labels: tuple[Label, ...]
    picture: Path | None = None
    sidecar: dict[str, Any] = field(default_factory=dict)


class Watch:
    """One model watching for what is wanted. Blocking; to be used from one thread at a time."""

    def __init__(self, classifier: Classifier, folder: Path, *, wanted: Wanted, budget_bytes: int = 0) -> None:
        """Keep frames in ``folder``/<model version>, at most ``budget_bytes`` of them (0: no limit).

        Raises:
            FrameError: the folder cannot be made or written.
        """
        self.classifier = classifier
        self.wanted = wanted
        self.album = Album(folder / classifier.manifest.version, budget_bytes=budget_bytes)
        self._before = self.album.counts
        self._latencies = Latencies()

    def want(self, names: Iterable[str], threshold: float, budget_bytes: int) -> None:
        """Look for something else from the next frame on.

        Raises:
            ModelError: the model does not know a name, or the threshold is none; then nothing has changed.
        """
        self.wanted = Wanted.find(names, self.classifier.labels, threshold)
        self.album.budget_bytes = budget_bytes

    def look(self, frame: Frame) -> Look:
        """Classify a frame; keep it if it matches, else count it."""
        started = time.perf_counter()
        labels = self.classifier.classify(frame.image)
        self._latencies.add((time.perf_counter() - started) * 1000)
        match = self.wanted.match(labels)
        if match is None:
            self.album.drop(frame)
            return Look(labels=labels)
        sidecar = self._sidecar(frame, match)
        return Look(labels=labels, picture=self.album.keep(frame, sidecar), sidecar=sidecar)

    def summary(self) -> dict[str, Any]:
        """Return the figures since the start (``run``) and over all restarts (``total``), as JSON values."""
        return {
            "model_version": self.classifier.manifest.version,
            "model_sha256": self.classifier.manifest.sha256,
            "engine": self.classifier.engine,
            "folder": str(self.album.folder.resolve()),
            "run": asdict(self.run),
            "total": asdict(self.album.counts),
            "latency_ms": self._latencies.summary(),
        }

    @property
    def run(self) -> Counts:
        """The counts since the start."""
        total, before = asdict(self.album.counts), asdict(self._before)
        return Counts(**{name: total[name] - before[name] for name in total})

    def close(self) -> None:
        """Bring the ledger to disk."""
        self.album.close()

    def _sidecar(self, frame: Frame, match: Label) -> dict[str, Any]:
        height, width = frame.image.shape[:2]
        return {
            "frame_index": frame.index,
            "time": datetime.fromtimestamp(frame.captured_at, UTC).isoformat(timespec="milliseconds"),
            "label": match.name,
            "score": round(match.score, 4),
            "model_version": self.classifier.manifest.version,
            "model_sha256": self.classifier.manifest.sha256,
            "width": width,
            "height": height,
        }

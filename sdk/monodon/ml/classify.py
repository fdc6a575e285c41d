"""Scores become labels; a wanted name is found among a model's labels (pure)."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from monodon.errors import ModelError
from monodon.ml.arrays import Array, np


@dataclass(frozen=True, slots=True)
class Label:
    """One class with its score (0 to 1, as the model gives it)."""

    index: int
    name: str
    score: float


class Labels:
    """A model's labels, class by class. A label may list synonyms, separated by commas; the first is its name."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.names = tuple(line.split(",", 1)[0].strip() for line in lines)
        self._classes: dict[str, list[int]] = {}
        for index, line in enumerate(lines):
            for synonym in line.split(","):
                if folded := synonym.strip().casefold():
                    self._classes.setdefault(folded, []).append(index)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def find(self, wanted: str) -> frozenset[int]:
        """Return the classes that ``wanted`` names: a whole name or synonym, in any case.

        Raises:
            ModelError: the model knows none; the hint names the nearest ones it knows.
        """
        folded = wanted.strip().casefold()
        if classes := self._classes.get(folded):
            return frozenset(classes)
        near = difflib.get_close_matches(folded, self._classes, n=3, cutoff=0.6)
        near += [name for name in self._classes if folded and folded in name and name not in near][: 3 - len(near)]
        hint = "nearest are " + ", ".join(repr(name) for name in near) if near else "see the model's labels.txt"
        raise ModelError(f"the model has no label {wanted!r} among its {len(self)}", hint=hint)


def best(scores: Array, labels: Labels, count: int = 5) -> tuple[Label, ...]:
    """Return the ``count`` best classes, best first; of equal scores the lower class comes first.

    Args:
        scores: any number type, shape (classes,).

    Raises:
        ModelError: there are not as many scores as labels.
    """
    if scores.shape != (len(labels),):
        raise ModelError(f"{scores.size} scores for {len(labels)} labels")
    count = min(count, len(labels))
    candidates = np.argpartition(scores, -count)[-count:] if count < len(labels) else np.arange(len(labels))
    # argpartition may leave out a lower class with the same score as the last one taken.
    candidates = np.flatnonzero(scores >= scores[candidates].min())
    order = candidates[np.argsort(-scores[candidates].astype(np.float64), kind="stable")][:count]
    return tuple(Label(index=int(i), name=labels.names[i], score=float(scores[i])) for i in order)

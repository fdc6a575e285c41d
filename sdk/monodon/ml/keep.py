"""Which frames to keep, and which to let go when the room is used up (pure)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from monodon.errors import ModelError
from monodon.ml.classify import Label, Labels


@dataclass(frozen=True, slots=True)
class Wanted:
    """The classes worth keeping, and the score from which on to believe them."""

    classes: frozenset[int]
    threshold: float

    @classmethod
    def find(cls, names: Iterable[str], labels: Labels, threshold: float) -> "Wanted":
        """Look the names up among a model's labels.

        Raises:
            ModelError: the model does not know one of them, there is none, or ``threshold`` is not within 0 to 1.
        """
        if not 0 <= threshold <= 1:
            raise ModelError(f"a threshold of {threshold} is not within 0 and 1")
        classes = frozenset[int]().union(*(labels.find(name) for name in names))
        if not classes:
            raise ModelError("no wanted labels are given", hint="name at least one label of the model")
        return cls(classes, threshold)

    def match(self, labels: Sequence[Label]) -> Label | None:
        """Return the best label if it is a wanted one with a sufficient score: the reason to keep a frame."""
        if labels and labels[0].index in self.classes and labels[0].score >= self.threshold:
            return labels[0]
        return None


@dataclass(frozen=True, slots=True)
class Kept:
    """One kept frame on disk: its name without ending, its age as an order, and all its bytes."""

    name: str
    size_bytes: int


def evict(kept: Sequence[Kept], incoming_bytes: int, budget_bytes: int) -> tuple[Kept, ...]:
    """Return what must go, oldest first, so that ``incoming_bytes`` more fit into ``budget_bytes``.

    ``kept`` is ordered from the oldest to the newest. A budget of 0 means no limit. A frame that alone exceeds the
    budget evicts nothing: the caller refuses it.
    """
    if not budget_bytes or incoming_bytes > budget_bytes:
        return ()
    excess = sum(one.size_bytes for one in kept) + incoming_bytes - budget_bytes
    gone: list[Kept] = []
    for one in kept:
        if excess <= 0:
            break
        gone.append(one)
        excess -= one.size_bytes
    return tuple(gone)

"""Garbage collection that does not stop thousands of connections: what has survived once is left alone.

Python's last generation is walked whole: a quarter of a second for the objects of some thousand connections, during
which nobody is answered. Here its survivors are frozen, so that each pass walks what came since the one before. Cycles
that end among the frozen ones wait for a whole pass, which comes when they are twice as many as it left.
"""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

_LAST_GENERATION: Final = 2
#: So many objects are walked in some hundredths of a second.
FEW: Final = 200_000


class Collecting:
    """A callback of the garbage collector (``gc.callbacks``)."""

    def __init__(self, few: int = FEW) -> None:
        self._few = self._limit = few
        self._is_whole = False

    def __call__(self, phase: str, info: Mapping[str, Any]) -> None:
        if info["generation"] != _LAST_GENERATION:
            return
        if phase == "start":
            if gc.get_freeze_count() > self._limit:
                gc.unfreeze()
                self._is_whole = True
            return
        gc.freeze()
        if self._is_whole:
            self._is_whole = False
            self._limit = max(self._few, 2 * gc.get_freeze_count())


@contextmanager
def collecting_little(few: int = FEW) -> Iterator[None]:
    """Collect so inside the block; as ever after it.

    Args:
        few: with fewer frozen objects than this a whole pass is not worth its while.
    """
    callback = Collecting(few)
    gc.callbacks.append(callback)
    try:
        yield
    finally:
        gc.callbacks.remove(callback)
        gc.unfreeze()

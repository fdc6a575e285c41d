"""What the cloud's garbage collector walks, and that it forgets nothing for good."""

import gc
import weakref

from monodon.cloud.collecting import collecting_little


class Knot:
    """An object in a cycle."""

    def __init__(self) -> None:
        self.self = self


def test_what_survived_once_is_left_alone_until_there_is_twice_as_much() -> None:
    with collecting_little(few=0):
        gc.collect()
        frozen = gc.get_freeze_count()
        assert frozen > 1000
        knot = Knot()
        end = weakref.ref(knot)
        gc.collect()  # survives this pass, and is frozen
        del knot
        gc.collect()
        assert end() is not None
        many = [[] for _ in range(3 * frozen)]
        gc.collect()  # they are frozen as well: more than twice what the last whole pass left
        gc.collect()
        assert end() is None
        assert gc.get_freeze_count() > len(many)
    assert gc.get_freeze_count() == 0


def test_a_cycle_that_ends_young_is_collected_at_once() -> None:
    with collecting_little():
        end = weakref.ref(Knot())
        gc.collect()
        assert end() is None


def test_outside_the_block_everything_is_as_before() -> None:
    before = list(gc.callbacks)
    with collecting_little():
        assert len(gc.callbacks) == len(before) + 1
    assert gc.callbacks == before

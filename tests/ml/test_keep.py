"""Which frames to keep, and which to let go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.errors import ModelError
from monodon.ml.classify import Label, Labels
from monodon.ml.keep import Kept, Wanted, evict

LABELS = Labels(["narwhal", "polar bear", "water"])


def test_the_best_label_must_be_wanted_and_sure() -> None:
    wanted = Wanted.find(["narwhal", "Polar Bear"], LABELS, 0.5)
    sure, unsure, other = Label(0, "narwhal", 0.5), Label(1, "polar bear", 0.49), Label(2, "water", 0.9)
    assert wanted.match([sure]) == sure
    assert wanted.match([unsure]) is None
    assert wanted.match([other, sure]) is None
    assert wanted.match([]) is None


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_is_a_share(threshold: float) -> None:
    with pytest.raises(ModelError, match="is not within 0 and 1"):
        Wanted.find(["narwhal"], LABELS, threshold)


def test_something_must_be_wanted() -> None:
    with pytest.raises(ModelError, match="no wanted labels"):
        Wanted.find([], LABELS, 0.5)
    with pytest.raises(ModelError, match="no label 'unicorn'"):
        Wanted.find(["narwhal", "unicorn"], LABELS, 0.5)


@given(st.lists(st.integers(1, 50), max_size=20), st.integers(1, 60), st.integers(0, 300))
def test_eviction_takes_the_oldest_and_no_more_than_needed(sizes: list[int], incoming: int, budget: int) -> None:
    kept = [Kept(str(i), size) for i, size in enumerate(sizes)]
    gone = evict(kept, incoming, budget)
    assert list(gone) == kept[: len(gone)]
    left = sum(sizes[len(gone) :]) + incoming
    if not budget or incoming > budget:
        assert gone == ()
    else:
        assert left <= budget
        assert not gone or left + gone[-1].size_bytes > budget

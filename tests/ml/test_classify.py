"""Scores become labels, and names find their classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.errors import ModelError
from monodon.ml.classify import Label, Labels, best

LABELS = Labels(["grey whale, gray whale, devilfish", "killer whale, orca", "crane", "crane, lifting gear"])


def test_a_label_is_found_by_any_of_its_whole_names_in_any_case() -> None:
    assert LABELS.find("grey whale") == LABELS.find(" Gray Whale ") == LABELS.find("devilfish") == {0}
    assert LABELS.find("crane") == {2, 3}


@pytest.mark.parametrize(
    ("wanted", "hint"), [("gray wale", "'gray whale'"), ("orka", "'orca'"), ("lifting", "'lifting gear'")]
)
def test_an_unknown_label_is_answered_with_the_nearest(wanted: str, hint: str) -> None:
    with pytest.raises(ModelError, match=f"no label '{wanted}' among its 4") as caught:
        LABELS.find(wanted)
    assert hint in str(caught.value.hint)


def test_part_of_a_name_is_no_name() -> None:
    with pytest.raises(ModelError):
        LABELS.find("whale")
    with pytest.raises(ModelError):
        LABELS.find("")


def test_best_gives_names_and_scores_best_first() -> None:
    scores = np.array([0.1, 0.7, 0.0, 0.2], np.float32)
    assert [label.index for label in best(scores, LABELS)] == [1, 3, 0, 2]
    assert best(scores, LABELS, 1) == (Label(1, "killer whale", pytest.approx(0.7)),)


def test_scores_and_labels_must_be_as_many() -> None:
    with pytest.raises(ModelError, match="3 scores for 4 labels"):
        best(np.zeros(3), LABELS)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 8))
def test_best_is_a_stable_sort_cut_off(values: list[int], count: int) -> None:
    labels = Labels([str(i) for i in range(len(values))])
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:count]
    assert [label.index for label in best(np.array(values), labels, count)] == expected

"""Every case has exactly one test, and the page in the docs is made from them."""

from collections import Counter
from pathlib import Path

from tests.nucleus.conformance.table import NUMBERS, cases, page

REFRESH = "run python -m tests.nucleus.conformance.table > docs/nucleus-conformance.md"
PAGE = Path(__file__).parents[3] / "docs" / "nucleus-conformance.md"


def test_every_case_has_exactly_one_test() -> None:
    assert len(NUMBERS) == 64
    assert Counter(case.number for case in cases()) == Counter(NUMBERS)


def test_every_case_says_what_is_given_and_what_comes_of_it() -> None:
    assert not [case.number for case in cases() if not case.given or not case.expect]


def test_the_page_in_the_docs_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), REFRESH

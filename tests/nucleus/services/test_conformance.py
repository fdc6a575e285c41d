"""Every operation has its behaviours and their tests, and the page in the docs is made from them."""

from pathlib import Path

from tests.nucleus.services.conformance import driver, exists, page, rows

from monodon.ipc.operations import OPERATIONS, PREFIX

REFRESH = "run python -m tests.nucleus.services.conformance > docs/ipc-conformance.md"
PAGE = Path(__file__).parents[3] / "docs" / "ipc-conformance.md"


def test_every_operation_of_the_model_has_rows_and_no_other_has() -> None:
    named = {PREFIX + operation for row in rows() for operation in row.operations}
    assert named == set(OPERATIONS)


def test_every_row_names_a_test_that_is_there() -> None:
    assert [row.test for row in rows() if not exists(row)] == []


def test_every_operation_is_driven_by_the_sdk() -> None:
    driven = {PREFIX + operation for row in rows() if driver(row) == "SDK" for operation in row.operations}
    assert driven == set(OPERATIONS)


def test_the_page_in_the_docs_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), REFRESH

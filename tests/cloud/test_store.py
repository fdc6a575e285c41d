import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from monodon.cloud.store import DATABASE, MARK, Store
from monodon.errors import StateError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state") as store:
        yield store


def test_a_record_comes_back_after_the_folder_is_opened_again(tmp_path: Path) -> None:
    with Store.open(tmp_path / "state") as store:
        store.table("things").put("a", {"n": 1, "text": "ü"})
    with Store.open(tmp_path / "state") as store:
        assert store.table("things").get("a") == {"n": 1, "text": "ü"}
        assert store.table("groups").get("a") is None


def test_items_are_in_order_by_prefix_and_more_than_a_page(store: Store) -> None:
    table = store.table("t")
    with store.transaction():
        for number in range(1200):
            table.put(f"x/{number:05}", {"n": number})
        table.put("w", {})
        table.put("y", {})
    assert [value["n"] for _, value in table.items("x/")] == list(range(1200))
    assert [key for key, _ in table.items("x/", after="x/01197")] == ["x/01198", "x/01199"]
    assert list(table.keys("x/"))[:2] == ["x/00000", "x/00001"]
    assert [key for key, _ in table.items("%")] == []


def test_records_may_be_deleted_while_they_are_walked(store: Store) -> None:
    table = store.table("t")
    with store.transaction():
        for number in range(1100):
            table.put(f"{number:05}", {})
    for key in table.keys():  # noqa: SIM118  (a Table is no dict)
        assert table.delete(key)
    assert list(table.keys()) == []
    assert not table.delete("00000")


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    table = store.table("t")
    called: list[str] = []
    with pytest.raises(ZeroDivisionError), store.transaction():
        table.put("a", {})
        store.after_commit(lambda: called.append("a"))
        raise ZeroDivisionError
    assert table.get("a") is None
    assert called == []


def test_an_inner_transaction_undoes_its_own_writes_alone(store: Store) -> None:
    table = store.table("t")
    called: list[str] = []
    with store.transaction():
        table.put("outer", {})
        store.after_commit(lambda: called.append("outer"))
        with pytest.raises(ZeroDivisionError), store.transaction():
            table.put("inner", {})
            store.after_commit(lambda: called.append("inner"))
            raise ZeroDivisionError
        assert called == []
    assert table.get("outer") == {}
    assert table.get("inner") is None
    assert called == ["outer"]
    store.after_commit(lambda: called.append("now"))
    assert called == ["outer", "now"]


def test_a_folder_of_another_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / MARK).write_text(json.dumps({"kind": "monodon-cloud", "format": 99}))
    with pytest.raises(StateError, match="format 99; this version of Monodon reads format 1") as caught:
        Store.open(tmp_path)
    assert caught.value.hint


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(StateError, match=r"not a state folder of the cloud: it holds letters.txt"):
        Store.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


@pytest.mark.parametrize("mark", [b"", b'{"kind": "monodon-cl', b"[]", b'"x"', b"\xff"])
def test_a_half_written_mark_is_refused(tmp_path: Path, mark: bytes) -> None:
    (tmp_path / MARK).write_bytes(mark)
    with pytest.raises(StateError, match="damaged"):
        Store.open(tmp_path)


def test_a_database_without_its_mark_or_cut_short_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with Store.open(folder) as store, store.transaction():
        for number in range(2000):
            store.table("t").put(str(number), {"x": "y" * 100})
    whole = (folder / DATABASE).read_bytes()
    (folder / DATABASE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StateError, match="damaged"):
        Store.open(folder)
    (folder / DATABASE).write_bytes(whole)
    (folder / MARK).unlink()
    with pytest.raises(StateError, match=r"damaged: monodon-cloud.json is missing"):
        Store.open(folder)


def test_a_missing_database_beside_blobs_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with Store.open(folder) as store:
        (store.blobs / "x").write_bytes(b"x")
    (folder / DATABASE).unlink()
    with pytest.raises(StateError, match=r"cloud.sqlite is missing"):
        Store.open(folder)


def test_a_path_that_cannot_be_a_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot use"):
        Store.open(tmp_path / "file")


def test_a_full_disk_undoes_the_transaction_and_the_store_goes_on(store: Store) -> None:
    table = store.table("t")
    table.put("before", {"n": 1})
    pages = store.query("PRAGMA page_count", ()).fetchone()[0]
    store.query(f"PRAGMA max_page_count = {pages + 2}", ())
    with pytest.raises(sqlite3.OperationalError, match="full"), store.transaction():
        table.put("small", {})
        with store.transaction():
            table.put("large", {"x": "y" * 1_000_000})
    assert list(table.keys()) == ["before"]
    table.put("after", {})
    assert list(table.keys()) == ["after", "before"]


def test_what_waited_for_a_commit_is_called_even_if_one_fails(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    called: list[str] = []
    with store.transaction():
        store.after_commit(lambda: called.append("first"))
        store.after_commit(lambda: called[5])  # type: ignore[arg-type,return-value]
        store.after_commit(lambda: called.append("last"))
    assert called == ["first", "last"]
    assert "after a commit" in caplog.text

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from app.sandbox.dataverse.seed import sow
from app.sandbox.dataverse.sowing import numbered
from app.sandbox.dataverse.store import FIRST_VERSION, Store

if TYPE_CHECKING:
    from pathlib import Path

COUNTED = {
    "account": 60,
    "contact": 120,
    "invoice": 40,
    "new_project": 10,
    "task": 24,
    "activitypointer": 28,
    "principal": 5,
}


def counts(store: Store) -> dict[str, int]:
    return {t: store.all(f"SELECT COUNT(*) FROM {t}")[0][0] for t in COUNTED}  # noqa: S608


def test_an_environment_starts_the_same_every_time() -> None:
    first, second = Store(), Store()
    sow(first)
    sow(second)
    assert counts(first) == COUNTED
    assert first.version == second.version > FIRST_VERSION
    for table in ("account", "contact", "invoicedetail", "roleprivileges"):
        rows = f"SELECT * FROM {table}"  # noqa: S608
        assert first.all(rows) == second.all(rows)


def test_a_file_keeps_rows_and_versions(tmp_path: Path) -> None:
    path = tmp_path / "dataverse.db"
    store = Store(path)
    assert store.is_empty
    sow(store)
    version = store.version
    store.close()
    again = Store(path)
    assert not again.is_empty
    assert (again.version, counts(again)) == (version, COUNTED)
    again.close()


def test_a_transaction_that_fails_leaves_nothing() -> None:
    store = Store()
    sow(store)
    table = store.schema["account"]
    version = store.version

    def fail() -> None:
        with store.transaction():
            store.insert(table, {"accountid": numbered("1", 99), "name": "outer"})
            store.delete(table, numbered("1", 1))
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert (counts(store), store.version) == (COUNTED, version)


def test_an_inner_transaction_may_fail_alone() -> None:
    store = Store()
    sow(store)
    table = store.schema["account"]

    def twice() -> None:
        with store.transaction():
            store.insert(table, {"accountid": numbered("1", 98), "name": "inner"})
            store.insert(table, {"accountid": numbered("1", 98), "name": "again"})

    with store.transaction():
        store.insert(table, {"accountid": numbered("1", 97), "name": "outer"})
        with pytest.raises(sqlite3.IntegrityError):
            twice()
    assert counts(store) == {**COUNTED, "account": 61}


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("[a-c]%", "Bakery", True),
        ("[^a-c]%", "Bakery", False),
        ("[[]x]", "[x]", True),
        ("a.c", "abc", False),
        ("a_c", "a\nc", True),
        ("[", "[", True),
    ],
)
def test_sets_match_as_in_t_sql(pattern: str, value: str, *, fits: bool) -> None:
    found = Store().one("SELECT tsql_like(?, ?)", (pattern, value))
    assert found == (int(fits),)

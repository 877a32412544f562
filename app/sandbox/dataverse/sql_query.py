"""`?sql=`: one SELECT over the tables' logical names, run by SQLite under a guard.

The guard sees each table and column as SQLite compiles the statement, so that rights are asked
for what is really read, however it is written.
"""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING, Any

from app.sandbox.dataverse.failures import Failed

if TYPE_CHECKING:
    from app.sandbox.dataverse.rights import User
    from app.sandbox.dataverse.schema import Table
    from app.sandbox.dataverse.store import Store

ROWS_MAX = 5000
_STEPS_MAX = 2_000
"""Thousands of SQLite's steps after which a join without end is stopped."""

_WORD = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|\[[^\]]*\]|[A-Za-z_]\w*|\S")
_REFUSED = frozenset(
    {"union", "intersect", "except", "having", "exists", "offset", "with", "values", "right"}
    | {"full", "cross", "insert", "update", "delete", "drop", "create", "alter", "attach"}
    | {"pragma", "over", "window", "case", "cast", ";"}
)
_FUNCTIONS = frozenset({"count", "sum", "avg", "min", "max", "like"})


def run_sql(store: Store, user: User, text: str) -> list[dict[str, Any]]:
    """The rows, at most `ROWS_MAX`. Raises the 400 for what Dataverse's SQL does not have."""
    statement = _checked(text)
    guard = _Guard(store, user)
    try:
        found, names = store.guarded(statement, guard.allows, steps_max=_STEPS_MAX)
    except sqlite3.DatabaseError as error:
        if guard.refusal is not None:
            raise guard.refusal from error
        raise _bad(str(error)) from error
    booleans = guard.booleans
    return [
        {
            name: bool(value) if name in booleans and value is not None else value
            for name, value in zip(names, values, strict=True)
        }
        for values in found
    ]


def _checked(text: str) -> str:
    words = _WORD.findall(text)
    lower = [w.lower() for w in words]
    if not lower or lower[0] != "select" or lower.count("select") != 1:
        raise _bad("Only a single SELECT is supported.")
    for previous, word in zip(["", *lower], lower, strict=False):
        if word in _REFUSED or (word == "*" and previous != "("):
            raise _bad(f"'{word}' is not supported.")
    if "--" in text or "/*" in text:
        raise _bad("Comments are not supported.")
    limit = ROWS_MAX
    if len(lower) > 2 and lower[1] == "top" and lower[2].isdigit():
        match = re.match(r"(?is)\s*select\s+top\s+(\d+)\s+(.*)$", text)
        assert match is not None
        limit = min(int(match[1]), ROWS_MAX)
        text = f"SELECT {match[2]}"
    return f"{text.rstrip()} LIMIT {limit}"


class _Guard:
    """SQLite's authorizer for one statement."""

    def __init__(self, store: Store, user: User) -> None:
        self._store = store
        self._user = user
        self.refusal: Failed | None = None
        self.booleans: set[str] = set()

    def allows(self, action: int, first: str | None, second: str | None, view: str | None) -> bool:
        if action == sqlite3.SQLITE_SELECT:
            return True
        if action == sqlite3.SQLITE_FUNCTION:
            return (second or "").lower() in _FUNCTIONS
        if action != sqlite3.SQLITE_READ:
            return False
        table = self._table(view or first or "")
        if table is None:
            return False
        column = table.by_name.get(second or "")
        # SQLite reads a view's own condition too, and names no column for count(*).
        if column is None and second and view is None:
            return False
        if column is not None and column.kind == "bool":
            self.booleans.add(column.name)
        try:
            self._user.need("Read", table)
            if column is not None:
                self._user.touch("Read", table, column.name)
        except Failed as failed:
            self.refusal = failed
            return False
        return True

    def _table(self, name: str) -> Table | None:
        table = self._store.schema.tables.get(name)
        return None if table is None or table.abstract else table


def _bad(reason: str) -> Failed:
    return Failed(400, "0x80060888", f"The SQL query is not valid. {reason}")

"""Rows, associations and file contents in a SQLite of the sandbox's own."""

from __future__ import annotations

import re
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from app.sandbox.dataverse.tables import build_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from app.sandbox.dataverse.schema import ManyToMany, Schema, Table

_AFFINITY = {
    "int": "INTEGER",
    "bigint": "INTEGER",
    "bool": "INTEGER",
    "choice": "INTEGER",
    "state": "INTEGER",
    "status": "INTEGER",
    "decimal": "NUMERIC",
    "money": "NUMERIC",
    "string": "TEXT COLLATE NOCASE",
    "memo": "TEXT COLLATE NOCASE",
}
_RIGHTS_LIVE_IN = frozenset(
    {"systemuser", "team", "role", "privilege", "systemuserroles", "teamroles", "roleprivileges"}
    | {"teammembership_pairs"}
)
FIRST_VERSION = 1_000_000


def type_column(lookup: str) -> str:
    """Where the table that a polymorphic lookup points at is kept."""
    return f"{lookup}__type"


def _matches(pattern: str, value: str | None) -> int | None:
    """T-SQL's LIKE with its sets, `[a-f]` and `[^x]`, which SQLite's LIKE does not know."""
    if value is None:
        return None
    parts: list[str] = []
    index = 0
    while index < len(pattern):
        char = pattern[index]
        end = pattern.find("]", index + 2) if char == "[" else -1
        if char == "%":
            parts.append(".*")
        elif char == "_":
            parts.append(".")
        elif end > 0:
            inside = pattern[index + 1 : end]
            negated = inside.startswith("^")
            inside = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[1:] if negated else inside)
            parts.append(f"[{'^' if negated else ''}{inside}]")
            index = end
        else:
            parts.append(re.escape(char))
        index += 1
    return int(re.fullmatch("".join(parts), value, re.IGNORECASE | re.DOTALL) is not None)


class Store:
    """One environment's data. `path=None`: in memory, gone with the object.

    Threads may share it: a transaction keeps the others out.
    `rights_version` changes whenever something does that a user's rights depend on.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.schema: Schema = build_schema()
        self._db = sqlite3.connect(
            ":memory:" if path is None else str(path),
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        self._db.create_function("tsql_like", 2, _matches, deterministic=True)
        if path is not None:
            self._db.execute("PRAGMA journal_mode = WAL")
        self._depth = 0
        self._lock = threading.RLock()
        self.rights_version = 0
        self._create_tables()
        (version,) = self._db.execute("SELECT version FROM _state").fetchone()
        self._version: int = version

    @property
    def is_empty(self) -> bool:
        return self.one("SELECT 1 FROM systemuser LIMIT 1") is None

    @property
    def version(self) -> int:
        """The newest row version; the next write gets a higher one."""
        return self._version

    def close(self) -> None:
        self._db.close()

    # ------------------------------------------------------------ reading

    def all(
        self, sql: str, params: Mapping[str, Any] | Sequence[Any] = ()
    ) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, params).fetchall()

    def one(
        self, sql: str, params: Mapping[str, Any] | Sequence[Any] = ()
    ) -> tuple[Any, ...] | None:
        with self._lock:
            row: tuple[Any, ...] | None = self._db.execute(sql, params).fetchone()
            return row

    def row(self, table: Table, row_id: str) -> dict[str, Any] | None:
        """Everything that is stored of one row, by the names of `stored_columns`."""
        with self._lock:
            cursor = self._db.execute(
                f"SELECT * FROM {table.logical} WHERE {table.pk} = ?",  # noqa: S608 - schema's names
                (row_id,),
            )
            found = cursor.fetchone()
        if found is None:
            return None
        return dict(zip((d[0] for d in cursor.description), found, strict=True))

    def version_of(self, table: Table, row_id: str) -> int | None:
        row = self.one(
            f"SELECT versionnumber FROM {table.logical} WHERE {table.pk} = ?",  # noqa: S608
            (row_id,),
        )
        return None if row is None else row[0]

    def guarded(
        self,
        sql: str,
        allows: Callable[[int, str | None, str | None, str | None], bool],
        *,
        steps_max: int,
    ) -> tuple[list[tuple[Any, ...]], list[str]]:
        """Rows and column names of a statement that a caller wrote.

        `allows` is asked about each action, its two names and the view that it happens in.
        Raises `sqlite3.DatabaseError` where it says no, and after `steps_max` thousand steps.
        """
        steps = 0

        def stop() -> int:
            nonlocal steps
            steps += 1
            return int(steps > steps_max)

        def judge(
            action: int, first: str | None, second: str | None, _: str | None, view: str | None
        ) -> int:
            return sqlite3.SQLITE_OK if allows(action, first, second, view) else sqlite3.SQLITE_DENY

        with self._lock:
            self._db.set_authorizer(judge)
            self._db.set_progress_handler(stop, 1000)
            try:
                cursor = self._db.execute(sql)
                return cursor.fetchall(), [d[0] for d in cursor.description]
            finally:
                self._db.set_authorizer(None)
                self._db.set_progress_handler(None, 0)

    # ------------------------------------------------------------ writing

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing; nests."""
        with self._lock:
            name = f"s{self._depth}"
            version = self._version
            self._db.execute(f"SAVEPOINT {name}")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._db.execute(f"ROLLBACK TO {name}")
                self._version = version
                self.rights_version += 1
                raise
            else:
                if self._version != version and self._depth == 1:
                    self._db.execute("UPDATE _state SET version = ?", (self._version,))
            finally:
                self._db.execute(f"RELEASE {name}")
                self._depth -= 1

    def insert(self, table: Table, values: Mapping[str, Any]) -> None:
        """Raises `sqlite3.IntegrityError` where the key is taken."""
        row = {**values, "versionnumber": self._next_version(table.stored_in)}
        names = ", ".join(row)
        marks = ", ".join(f":{name}" for name in row)
        self._db.execute(
            f"INSERT INTO {table.stored_in} ({names}) VALUES ({marks})",  # noqa: S608
            row,
        )

    def update(self, table: Table, row_id: str, changes: Mapping[str, Any]) -> None:
        row = {**changes, "versionnumber": self._next_version(table.stored_in)}
        sets = ", ".join(f"{name} = :{name}" for name in row)
        self._db.execute(
            f"UPDATE {table.stored_in} SET {sets} WHERE {table.pk} = :id",  # noqa: S608
            {**row, "id": row_id},
        )

    def delete(self, table: Table, row_id: str) -> None:
        """Takes the row away and remembers, for change tracking, that it was there."""
        self._db.execute(
            f"DELETE FROM {table.stored_in} WHERE {table.pk} = ?",  # noqa: S608
            (row_id,),
        )
        self._db.execute(
            "INSERT INTO _deleted (tbl, id, version) VALUES (?, ?, ?)",
            (table.logical, row_id, self._next_version(table.stored_in)),
        )

    def touch(self, table: Table) -> None:
        """A version for a write that is in no row: an association, a file."""
        self._next_version(table.stored_in)

    def associate(self, relation: ManyToMany, left_id: str, right_id: str) -> None:
        """Raises `sqlite3.IntegrityError` where the two are associated already."""
        self._next_version(relation.intersect)
        self._db.execute(
            f"INSERT INTO {relation.intersect} VALUES (?, ?)",  # noqa: S608
            (left_id, right_id),
        )

    def disassociate(self, relation: ManyToMany, left_id: str, right_id: str) -> bool:
        self._next_version(relation.intersect)
        cursor = self._db.execute(
            f"DELETE FROM {relation.intersect} "  # noqa: S608
            f"WHERE {relation.left_column} = ? AND {relation.right_column} = ?",
            (left_id, right_id),
        )
        return cursor.rowcount > 0

    def execute(self, sql: str, params: Mapping[str, Any] | Sequence[Any] = ()) -> int:
        """For statements of other modules of the sandbox; the rows that were changed."""
        with self._lock:
            return self._db.execute(sql, params).rowcount

    def _next_version(self, stored_in: str) -> int:
        if stored_in in _RIGHTS_LIVE_IN:
            self.rights_version += 1
        self._version += 1
        return self._version

    # ------------------------------------------------------------ tables

    def _create_tables(self) -> None:
        if self.one("SELECT 1 FROM sqlite_master WHERE name = '_state'") is not None:
            return
        self._db.execute("CREATE TABLE _state (version INTEGER NOT NULL)")
        self._db.execute("INSERT INTO _state VALUES (?)", (FIRST_VERSION,))
        self._db.execute("CREATE TABLE _deleted (tbl TEXT, id TEXT, version INTEGER)")
        self._db.execute(
            "CREATE TABLE _files (id TEXT PRIMARY KEY, tbl TEXT, row TEXT, col TEXT, "
            "name TEXT, mimetype TEXT, content BLOB, UNIQUE (tbl, row, col))"
        )
        for table in self.schema:
            if table.stored_in == table.logical and not table.abstract:
                self._db.execute(self._table_ddl(table))
                for column in table.columns:
                    if column.kind == "lookup":
                        self._db.execute(
                            f"CREATE INDEX {table.logical}_{column.name} "
                            f"ON {table.logical} ({column.name})"
                        )
        for table in self.schema:
            if table.stored_in != table.logical:
                columns = ", ".join(stored_columns(table))
                self._db.execute(
                    f"CREATE VIEW {table.logical} AS SELECT {columns} "  # noqa: S608
                    f"FROM {table.stored_in} WHERE activitytypecode = '{table.logical}'"
                )
        self._db.execute(
            "CREATE VIEW principal AS "
            "SELECT ownerid, versionnumber, 'systemuser' AS kind FROM systemuser "
            "UNION ALL SELECT ownerid, versionnumber, 'team' FROM team"
        )
        for pairs in self.schema.many_to_many:
            self._db.execute(
                f"CREATE TABLE {pairs.intersect} ({pairs.left_column} TEXT NOT NULL, "
                f"{pairs.right_column} TEXT NOT NULL, "
                f"PRIMARY KEY ({pairs.left_column}, {pairs.right_column})) WITHOUT ROWID"
            )
            self._db.execute(
                f"CREATE INDEX {pairs.intersect}_back ON {pairs.intersect} ({pairs.right_column})"
            )

    def _table_ddl(self, table: Table) -> str:
        columns: dict[str, str] = {}
        for one in (table, *self.schema.derived(table.logical)):
            for column in one.columns:
                columns[column.name] = _AFFINITY.get(column.kind, "TEXT")
                if column.polymorphic:
                    columns[type_column(column.name)] = "TEXT"
        columns.setdefault("versionnumber", "INTEGER")
        columns[table.pk] = "TEXT PRIMARY KEY"
        body = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        return f"CREATE TABLE {table.logical} ({body})"


def stored_columns(table: Table) -> list[str]:
    names: list[str] = []
    for column in table.columns:
        names.append(column.name)
        if column.polymorphic:
            names.append(type_column(column.name))
    return names

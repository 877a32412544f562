"""What a request needs besides accesses to columns; and the collection that a reader fills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from app.errors import Unreadable
from app.odata.access import ALL, Access, Columns, Operation

if TYPE_CHECKING:
    from app.odata.segments import Key


@dataclass(frozen=True, slots=True)
class Unknown:
    """A name that the schema does not know; `table` is None where it stands for a table."""

    name: str
    table: str | None = None
    operation: Operation = Operation.READ


@dataclass(frozen=True, slots=True)
class UnknownDefinition(Unknown):
    """A definition asked for by a name or an id that the schema does not know.

    Whoever may see every definition may see that there is none.
    """


@dataclass(frozen=True, slots=True)
class UnknownCall(Unknown):
    """A function or action that the schema does not know; `table` is what it is bound to."""

    is_action: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A function or action, granted by name alone; `table` where it is bound."""

    name: str
    is_action: bool
    table: str | None = None


@dataclass(frozen=True, slots=True)
class Definitions:
    """Metadata of one table (a logical name), or of everything (None)."""

    table: str | None = None


@dataclass(frozen=True, slots=True)
class SchemaWrite:
    """A change of tables, columns or relationships: never granted."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """A query whose reach cannot be read: `savedQuery`, `userQuery`, `sql`, `datasource`."""

    construct: str


@dataclass(frozen=True, slots=True)
class Association:
    """Rows joined many-to-many. Between tables that carry rights, both must be named."""

    tables: tuple[str, str]


@dataclass(frozen=True, slots=True)
class WholeRows:
    """Every column in a way that no `$select` can narrow."""

    table: str
    construct: str


_READ = Operation.READ
UNKNOWN_MAX = 100
"""Unknown names that are noted: one of them is refused like all, and a body may hold a million."""

ROWS_MAX = 10_000
"""Rows that one request may name: a body could refer to half a million."""

How = Literal[
    "single-valued navigation",
    "lambda",
    "count in an expression",
    "row count",
    "change tracking",
    "cast",
    "abstract navigation",
    "upsert",
    "link type",
    "alternate key",
    "hierarchy operator",
    "references",
]


@dataclass(frozen=True, slots=True)
class Unfilterable:
    """A use of a table's rows into which no row filter can be written."""

    table: str
    how: How


Demand = (
    Unknown | Call | Definitions | SchemaWrite | Opaque | Association | WholeRows | Unfilterable
)


@dataclass(frozen=True, slots=True)
class Row:
    """A row that the request addresses by key.

    `writes` says that the request changes this very row in a way that takes a precondition.
    """

    table: str
    key: Key
    writes: bool = False


class Findings(msgspec.Struct):
    """Filled while a request is read; `accesses()` and `demands()` give what was found."""

    _columns: dict[tuple[str, Operation], set[str]] = {}
    _all: dict[tuple[str, Operation], None] = {}
    _demands: dict[Demand, None] = {}
    _rows: dict[Row, None] = {}
    _unknown: int = 0

    def use(self, sets: tuple[str, ...], operation: Operation, *columns: str) -> None:
        for name in sets:
            key = (name, operation)
            found = self._columns.get(key)
            if found is None:
                self._columns[key] = set(columns)
            else:
                found.update(columns)

    def read(self, sets: tuple[str, ...], *columns: str) -> None:
        self.use(sets, _READ, *columns)

    def read_all(self, sets: tuple[str, ...]) -> None:
        """Whole rows, which a `$select` can narrow."""
        for name in sets:
            self._columns.setdefault((name, Operation.READ), set())
            self._all[(name, Operation.READ)] = None

    def demand(self, demand: Demand) -> None:
        if isinstance(demand, Unknown):
            if self._unknown >= UNKNOWN_MAX:
                return
            self._unknown += 1
        self._demands[demand] = None

    def unfilterable(self, sets: tuple[str, ...], how: How) -> None:
        for name in sets:
            self._demands[Unfilterable(name, how)] = None

    def row(self, row: Row) -> None:
        """Raises `Unreadable`: `limit-exceeded`."""
        if len(self._rows) >= ROWS_MAX:
            raise Unreadable("limit-exceeded", f"the request names more than {ROWS_MAX} rows")
        self._rows[row] = None

    def accesses(self) -> tuple[Access, ...]:
        found = [
            Access(*use, frozenset(columns))
            for use, columns in self._columns.items()
            if columns or use not in self._all
        ]
        found.extend(Access(t, o, _every()) for (t, o) in self._all)
        return tuple(found)

    def demands(self) -> tuple[Demand, ...]:
        return tuple(self._demands)

    def rows(self) -> tuple[Row, ...]:
        return tuple(self._rows)


def _every() -> Columns:
    return ALL

"""`$apply`: filter, groupby and aggregate; what Dataverse supports of it, and no more."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.sandbox.dataverse.conditions import where
from app.sandbox.dataverse.failures import bad_request, not_emulated
from app.sandbox.dataverse.grammar import parse_expression
from app.sandbox.dataverse.preferences import FORMATTED
from app.sandbox.dataverse.shapes import readable_time
from app.sandbox.dataverse.terms import Binder, Scope, Term, column_of
from app.sandbox.dataverse.tokens import split

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from app.sandbox.dataverse.expressions import Expression
    from app.sandbox.dataverse.preferences import Preferences
    from app.sandbox.dataverse.rights import User
    from app.sandbox.dataverse.schema import Schema, Table
    from app.sandbox.dataverse.store import Store

_FUNCTIONS = {"sum": "SUM", "average": "AVG", "min": "MIN", "max": "MAX", "countdistinct": "COUNT"}
_AGGREGATE = re.compile(r"(?s)(\$count|[\w/]+)(?:\s+with\s+(\w+))?\s+as\s+([^\W\d]\w*)")
_PATH = re.compile(r"[^\W\d]\w*(?:/[^\W\d]\w*)*")
ROWS_MAX = 50_000


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`path` None: `$count`."""

    path: tuple[str, ...] | None
    function: str
    alias: str


@dataclass(frozen=True, slots=True)
class Apply:
    """`groups` and `aggregates` both None: only filters, and so whole rows."""

    filters: tuple[Expression, ...]
    groups: tuple[tuple[str, ...], ...] | None = None
    aggregates: tuple[Aggregate, ...] | None = None

    @property
    def returns_rows(self) -> bool:
        return self.groups is None and self.aggregates is None


def read_apply(text: str, aliases: Mapping[str, str]) -> Apply:
    filters: list[Expression] = []
    groups: tuple[tuple[str, ...], ...] | None = None
    aggregates: tuple[Aggregate, ...] | None = None
    for step in split(text, "/"):
        name, bracket, rest = step.partition("(")
        if not bracket or not rest.endswith(")"):
            raise bad_request(f"Syntax error in $apply at '{step}'.")
        inside = rest[:-1]
        if groups is not None or aggregates is not None:
            raise not_emulated("a transformation after groupby or aggregate")
        match name.strip():
            case "filter":
                filters.append(parse_expression(inside, aliases))
            case "groupby":
                groups, aggregates = _groupby(inside)
            case "aggregate":
                aggregates = _aggregates(inside)
            case _:
                raise not_emulated(f"the transformation '{name.strip()}' of $apply")
    return Apply(tuple(filters), groups, aggregates)


def _groupby(
    text: str,
) -> tuple[tuple[tuple[str, ...], ...], tuple[Aggregate, ...] | None]:
    first, *more = split(text, ",")
    if not (first.startswith("(") and first.endswith(")")) or len(more) > 1:
        raise bad_request(f"Syntax error in $apply at 'groupby({text})'.")
    paths: list[tuple[str, ...]] = []
    for piece in split(first[1:-1], ","):
        if not _PATH.fullmatch(piece):
            raise bad_request(f"Syntax error in $apply at '{piece}'.")
        paths.append(tuple(piece.split("/")))
    aggregates: tuple[Aggregate, ...] | None = None
    if more:
        name, bracket, rest = more[0].partition("(")
        if name.strip() != "aggregate" or not bracket or not rest.endswith(")"):
            raise bad_request(f"Syntax error in $apply at '{more[0]}'.")
        aggregates = _aggregates(rest[:-1])
    return tuple(paths), aggregates


def _aggregates(text: str) -> tuple[Aggregate, ...]:
    found: list[Aggregate] = []
    for piece in split(text, ","):
        match = _AGGREGATE.fullmatch(piece)
        if match is None:
            raise bad_request(f"Syntax error in $apply at '{piece}'.")
        path, function, alias = match[1], match[2], match[3]
        if path == "$count":
            found.append(Aggregate(None, "count", alias))
        elif function in _FUNCTIONS:
            found.append(Aggregate(tuple(path.split("/")), function, alias))
        else:
            raise bad_request(f"The aggregation method '{function}' is not supported.")
    return tuple(found)


class Aggregator:
    """Runs an `$apply` that groups or aggregates."""

    def __init__(self, store: Store, *, user: User, now: datetime, wants: Preferences) -> None:
        self._store = store
        self._schema: Schema = store.schema
        self._user = user
        self._now = now
        self._wants = wants

    def run(
        self,
        table: Table,
        apply: Apply,
        *,
        within: str = "",
        key: str | None = None,
        top: int | None = None,
    ) -> list[dict[str, Any]]:
        """`within`: SQL for the rows of a navigation property, with {alias} and :key."""
        self._user.need("Read", table)
        binder = Binder(self._schema, self._user, self._now)
        scope = Scope(table, binder.alias())
        conditions = [where(f, scope, binder) for f in apply.filters]
        if within:
            conditions.append(within.format(alias=scope.alias))
        columns: list[tuple[str, str, Term | None]] = []
        groups: list[str] = []
        for path in apply.groups or ():
            term = column_of(path, scope, binder)
            if term.sort == "datetime":
                raise bad_request("Grouping by a date and time is not supported.")
            groups.append(term.sql)
            columns.append((_key(path, term, scope, self._schema), term.sql, term))
        for one in apply.aggregates or ():
            sql, found = self._function(one, scope, binder)
            columns.append((one.alias, sql, found))
        chosen = ", ".join(sql for _, sql, _ in columns)
        condition = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        grouped = f" GROUP BY {', '.join(groups)} ORDER BY {', '.join(groups)}" if groups else ""
        rows = self._store.all(
            f"SELECT {chosen} FROM {table.logical} {scope.alias}{condition}{grouped} LIMIT :rows",  # noqa: S608
            {**binder.params, "key": key, "rows": min(top or ROWS_MAX, ROWS_MAX)},
        )
        return [self._row(columns, values) for values in rows]

    def _function(self, one: Aggregate, scope: Scope, binder: Binder) -> tuple[str, Term | None]:
        if one.path is None:
            return "COUNT(*)", None
        term = column_of(one.path, scope, binder)
        if one.function in {"sum", "average"} and term.sort != "number":
            raise bad_request(f"'{'/'.join(one.path)}' cannot be used with {one.function}.")
        inside = f"DISTINCT {term.sql}" if one.function == "countdistinct" else term.sql
        return f"{_FUNCTIONS[one.function]}({inside})", (
            None if one.function == "countdistinct" else term
        )

    def _row(
        self, columns: list[tuple[str, str, Term | None]], values: tuple[Any, ...]
    ) -> dict[str, Any]:
        """Nulls are left out, as Dataverse leaves them out of aggregates."""
        row: dict[str, Any] = {}
        formats = self._wants.annotates(FORMATTED)
        for (key, _, term), value in zip(columns, values, strict=True):
            if value is None:
                continue
            said = round(value, 6) if isinstance(value, float) else value
            if term is not None and term.column is not None and term.column.kind == "bool":
                said = bool(value)
            if formats and (text := _formatted(said, term)) is not None:
                row[f"{key}@{FORMATTED}"] = text
            row[key] = said
        return row


def _formatted(value: Any, term: Term | None) -> str | None:
    column = term.column if term is not None else None
    if column is not None and column.options and int(value) in dict(column.options):
        return dict(column.options)[int(value)]
    if column is not None and column.kind == "money":
        return f"€{value:,.2f}"
    if column is not None and column.kind in {"datetime", "date"}:
        return readable_time(str(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}"
    return None


def _key(path: tuple[str, ...], term: Term, scope: Scope, schema: Schema) -> str:
    """`primarycontactid/fullname` comes back as `contact_fullname`."""
    if len(path) == 1 or term.column is None:
        return path[-1]
    table = scope.table
    for part in path[:-1]:
        table = schema[table.navs[part].target]
    return f"{table.logical}_{path[-1]}"

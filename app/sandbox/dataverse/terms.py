"""Columns of rows as SQL: where a name leads, and what a statement's parameters are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from app.sandbox.dataverse.failures import bad_request, no_property
from app.sandbox.dataverse.relations import join_condition

if TYPE_CHECKING:
    from app.sandbox.dataverse.expressions import Literal
    from app.sandbox.dataverse.rights import User
    from app.sandbox.dataverse.schema import Column, Nav, Schema, Table

SORTS = {
    "Edm.String": "string",
    "Edm.Guid": "guid",
    "Edm.Int32": "number",
    "Edm.Int64": "number",
    "Edm.Decimal": "number",
    "Edm.Boolean": "bool",
    "Edm.DateTimeOffset": "datetime",
    "Edm.Date": "date",
    "Edm.Binary": "string",
}


@dataclass(frozen=True, slots=True)
class Scope:
    """A row that expressions speak of: its table, and its alias in the SQL."""

    table: Table
    alias: str
    variables: tuple[tuple[str, Scope], ...] = ()

    def variable(self, name: str) -> Scope | None:
        return next((scope for known, scope in self.variables if known == name), None)


@dataclass(frozen=True, slots=True)
class Term:
    """SQL for a value. `sort` is what it may be compared with; `column` where it is one."""

    sql: str
    sort: str
    column: Column | None = None
    literal: Literal | None = None


class Binder:
    """Parameters and aliases of one statement, and the user and time that functions speak of."""

    def __init__(self, schema: Schema, user: User, now: datetime) -> None:
        self.schema = schema
        self.user = user
        self.now = now
        self.params: dict[str, Any] = {}
        self._aliases = 0

    def bind(self, value: Any) -> str:
        name = f"p{len(self.params)}"
        self.params[name] = value
        return f":{name}"

    def alias(self) -> str:
        self._aliases += 1
        return f"t{self._aliases}"


def instant(text: str) -> str:
    """A time as rows keep it: UTC, to the second."""
    text = text.strip()
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        text += "T00:00:00Z"
    try:
        parsed = datetime.fromisoformat(re.sub(r"\.(\d{6})\d+", r".\1", text))
    except ValueError as error:
        raise bad_request(
            f"Cannot convert the literal '{text}' to the expected type 'Edm.DateTimeOffset'."
        ) from error
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return parsed.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def column_of(parts: tuple[str, ...], scope: Scope, binder: Binder) -> Term:
    """`primarycontactid/createdby/fullname` from `scope` on, as a scalar subquery."""
    known = scope.variable(parts[0])
    if known is not None:
        scope, parts = known, parts[1:]
        if not parts:
            raise bad_request("A range variable alone cannot be compared.")
    name = parts[0]
    if len(parts) == 1:
        column = scope.table.by_property.get(name)
        if column is None:
            raise no_property(name, scope.table.logical)
        binder.user.touch("Read", scope.table, column.name)
        return Term(f"{scope.alias}.{column.name}", SORTS[column.edm], column)
    nav = navigation(scope.table, name)
    if nav.is_collection:
        raise bad_request(
            f"The parent value for a property access of a property '{parts[1]}' is not a single "
            "value. Property access can only be applied to a single value."
        )
    target = binder.schema[nav.target]
    binder.user.touch("Read", scope.table, nav.lookup)
    binder.user.need("Read", target)
    inner = Scope(target, binder.alias())
    value = column_of(parts[1:], inner, binder)
    joined = join_condition(binder.schema, nav, scope.alias, scope.table, inner.alias)
    return Term(
        f"(SELECT {value.sql} FROM {target.logical} {inner.alias} WHERE {joined})",  # noqa: S608
        value.sort,
        value.column,
    )


def navigation(table: Table, name: str) -> Nav:
    nav = table.navs.get(name)
    if nav is None:
        raise no_property(name, table.logical)
    return nav


def stored(literal: Literal, column: Column | None, sort: str) -> Any:
    """A literal as the column keeps it."""
    value = literal.value
    if value is None:
        return None
    if sort == "datetime":
        return instant(str(value))
    if sort == "guid":
        return str(value).lower()
    if sort == "bool":
        return int(value)
    if column is not None and column.kind == "date":
        return str(value)[:10]
    return value

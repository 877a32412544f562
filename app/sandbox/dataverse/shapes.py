"""How a row is written: which columns come back, asked or not, and what is noted beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from app.sandbox.dataverse.failures import no_property
from app.sandbox.dataverse.footprint import UNASKED
from app.sandbox.dataverse.preferences import FORMATTED, LOOKUP_NAV, LOOKUP_TABLE
from app.sandbox.dataverse.store import type_column

if TYPE_CHECKING:
    from app.sandbox.dataverse.preferences import Preferences
    from app.sandbox.dataverse.rights import User
    from app.sandbox.dataverse.schema import Column, Schema, Table

Values = Sequence[Any]
Note = tuple[str, Callable[[Values], Any]]


@dataclass(frozen=True, slots=True)
class Field:
    """One property of a row: where its value stands, and the annotations in front of it."""

    key: str
    index: int
    convert: Callable[[Any], Any] | None = None
    notes: tuple[Note, ...] = ()


class Shape:
    """Grows a SELECT list, and turns its rows into JSON objects."""

    def __init__(self, schema: Schema, table: Table, alias: str, wanted: Preferences) -> None:
        self.columns: list[str] = []
        self.fields: list[Field] = []
        self._schema = schema
        self._table = table
        self._alias = alias
        self._formatted = wanted.annotates(FORMATTED)
        self._table_noted = wanted.annotates(LOOKUP_TABLE)
        self._nav_noted = wanted.annotates(LOOKUP_NAV)
        self._known: dict[str, int] = {}
        self.version = self.index("versionnumber")
        self.pk = self.index(table.pk)

    def index(self, name: str) -> int:
        """The place of a stored column, added where it is not there yet."""
        return self.place(f"{self._alias}.{name}")

    def place(self, sql: str) -> int:
        at = self._known.get(sql)
        if at is None:
            at = self._known[sql] = len(self.columns)
            self.columns.append(sql)
        return at

    def add(self, column: Column) -> None:
        index = self.index(column.name)
        convert = bool if column.kind == "bool" else None
        self.fields.append(Field(column.property_name, index, convert, self._notes(column, index)))

    def build(self, values: Values, *, etag: bool) -> dict[str, Any]:
        row: dict[str, Any] = {}
        if etag:
            row["@odata.etag"] = f'W/"{values[self.version]}"'
        for field in self.fields:
            for name, note in field.notes:
                said = note(values)
                if said is not None:
                    row[name] = said
            value = values[field.index]
            if field.convert is not None and value is not None:
                value = field.convert(value)
            row[field.key] = value
        return row

    def _notes(self, column: Column, index: int) -> tuple[Note, ...]:
        notes: list[Note] = []
        key = column.property_name
        if self._formatted:
            note = self._formatting(column, index)
            if note is not None:
                notes.append((f"{key}@{FORMATTED}", note))
        if column.kind == "lookup":
            target = self._target(column, index)
            if self._nav_noted:
                notes.append((f"{key}@{LOOKUP_NAV}", self._nav(column, target)))
            if self._table_noted:
                notes.append((f"{key}@{LOOKUP_TABLE}", target))
        return tuple(notes)

    def _target(self, column: Column, index: int) -> Callable[[Values], Any]:
        if column.polymorphic:
            kind = self.index(type_column(column.name))
            return lambda values: values[kind]
        only = column.targets[0]
        return lambda values: only if values[index] is not None else None

    def _nav(self, column: Column, target: Callable[[Values], Any]) -> Callable[[Values], Any]:
        by_target: dict[str, str] = {}
        for nav in self._table.navs.values():
            if nav.kind == "single" and nav.lookup == column.name:
                by_target[nav.target] = nav.name
        base = by_target.get("principal")
        return lambda values: by_target.get(target(values) or "", base) if target(values) else None

    def _formatting(self, column: Column, index: int) -> Callable[[Values], Any] | None:
        match column.kind:
            case "lookup":
                name = self.place(primary_name(self._schema, column, self._alias))
                return lambda values: values[name]
            case "choice" | "state" | "status" | "bool":
                labels = dict(column.options) or {0: "No", 1: "Yes"}
                return lambda values: labels.get(values[index])
            case "choices":
                labels = dict(column.options)
                return lambda values: (
                    None
                    if not values[index]
                    else "; ".join(labels.get(int(v), v) for v in values[index].split(","))
                )
            case "money":
                sign = self.place(
                    "(SELECT currencysymbol FROM transactioncurrency c WHERE "  # noqa: S608
                    f"c.transactioncurrencyid = {self._alias}.transactioncurrencyid)"
                )
                return lambda values: (
                    None if values[index] is None else f"{values[sign] or '€'}{values[index]:,.2f}"
                )
            case "decimal":
                return lambda values: None if values[index] is None else f"{values[index]:,.2f}"
            case "int" | "bigint":
                return lambda values: None if values[index] is None else f"{values[index]:,}"
            case "datetime" | "date":
                return lambda values: readable_time(values[index])
        return None


def primary_name(schema: Schema, column: Column, alias: str) -> str:
    """SQL for the name of the row that a lookup points at: also what it is sorted by."""

    def of(target: str) -> str:
        far = schema[target]
        if far.name_column is None:
            return "NULL"
        return (
            f"(SELECT n.{far.name_column} FROM {target} n "  # noqa: S608
            f"WHERE n.{far.pk} = {alias}.{column.name})"
        )

    if not column.polymorphic:
        return of(column.targets[0])
    cases = " ".join(f"WHEN '{target}' THEN {of(target)}" for target in column.targets)
    return f"CASE {alias}.{type_column(column.name)} {cases} END"


def readable_time(value: str | None) -> str | None:
    """As an American reads it, in UTC: 1/8/2024 8:07 AM."""
    if value is None:
        return None
    moment = datetime.fromisoformat(value)
    day = f"{moment.month}/{moment.day}/{moment.year}"
    if len(value) == 10:
        return day
    return (
        f"{day} {moment.hour % 12 or 12}:{moment.minute:02d} {'AM' if moment.hour < 12 else 'PM'}"
    )


def returned_columns(
    table: Table, select: tuple[str, ...] | None, user: User, *, back: str | None = None
) -> list[Column]:
    """The columns that come back, noted as touched by `user`.

    Dataverse adds to those asked for: the key, a currency beside money, a composite beside its
    parts, a file's name, the owner's id of a user, and, in an expanded collection, the lookup
    that refers back (dataverse-reference 3.20, PR-02).
    """
    if select is None:
        user.touch("Read", table, *(c.name for c in table.columns))
        return list(table.columns)
    columns: dict[str, Column] = {}
    unasked: dict[str, Column] = {}
    for name in select:
        column = table.by_property.get(name)
        if column is None:
            if name in table.navs:
                continue
            raise no_property(name, table.logical)
        columns[column.name] = column
        if column.kind == "money" and "transactioncurrencyid" in table.by_name:
            unasked["transactioncurrencyid"] = table.by_name["transactioncurrencyid"]
        if name.startswith("address1_") and "address1_composite" in table.by_name:
            unasked["address1_composite"] = table.by_name["address1_composite"]
        if column.kind == "file":
            unasked[f"{name}_name"] = table.by_name[f"{name}_name"]
    if back is not None and back in table.by_name:
        unasked[back] = table.by_name[back]
    unasked[table.pk] = table.by_name[table.pk]
    if table.base == "principal":
        unasked["ownerid"] = table.by_name["ownerid"]
    if columns:
        user.touch("Read", table, *columns)
    user.touch(UNASKED, table, *(name for name in unasked if name not in columns))
    for name, column in unasked.items():
        columns.setdefault(name, column)
    return list(columns.values())

"""Tables, columns, keys, literals and paths that mean something to the emulated Dataverse."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.sandbox.dataverse.tables import build_schema
from tests.path.second_reader import ENVIRONMENT, PUBLIC

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.sandbox.dataverse.schema import Column, Nav, Schema, Table
    from tests.path.making.dice import Dice

UNLIKELY = 0.03
NAMESPACE = "Microsoft.Dynamics.CRM"
SERVICE = "/api/data/v9.2/"
TABLES = build_schema()
NOBODY = "99999999-9999-9999-9999-999999999999"
TEXTS = ("A", "Contoso", "O'Brien", "100%", "a/b", "é", "", "x y", "1", "$1", "@p1", "(", "')")

_TABLES = (
    "account", "account", "account", "contact", "contact", "contact", "invoice", "invoicedetail",
    "opportunity", "task", "phonecall", "activitypointer", "annotation", "new_project",
    "new_project", "new_secret", "systemuser", "team", "role", "principal", "businessunit",
    "savedquery", "fileattachment",
)  # fmt: skip


@dataclass
class Names:
    """`known` are the columns that are preferred on each table, by logical name; `ids` are rows
    that are there.
    """

    dice: Dice
    ids: Mapping[str, Sequence[str]]
    known: Mapping[str, Sequence[str]] = field(default_factory=dict)
    schema: Schema = TABLES
    aliases: dict[str, str] = field(default_factory=dict)
    number: int = 0
    """Of variables and links: each gets a name of its own."""

    def table(self) -> Table:
        names = [n for n in _TABLES if n in self.known]
        if names and self.dice.chance(0.92):
            return self.schema[self.dice.pick(names)]
        return self.schema[self.dice.pick(_TABLES)]

    def set_name(self, table: Table) -> str:
        if self.dice.chance(UNLIKELY):
            return self.dice.pick(("nonesuch", table.set_name.upper(), table.logical))
        return table.set_name

    def column(self, table: Table) -> Column:
        known = [n for n in self.known.get(table.logical, ()) if n in table.by_name]
        if known and self.dice.chance(0.93):
            return table.by_name[self.dice.pick(known)]
        return self.dice.pick(table.columns)

    def property(self, table: Table) -> str:
        """A column as an expression or `$select` names it."""
        if self.dice.chance(UNLIKELY):
            others = self.schema[self.dice.pick(_TABLES)]
            return self.dice.pick((self.dice.pick(others.columns).property_name, "nonesuch"))
        column = self.column(table)
        if column.kind == "lookup" and self.dice.chance(0.2):
            return column.name
        if self.dice.chance(UNLIKELY):
            return column.property_name.capitalize()
        return column.property_name

    def nav(self, table: Table, *, collection: bool | None = None) -> Nav | None:
        navs = [n for n in table.navs.values() if collection in {None, n.is_collection}]
        preferred = [n for n in navs if n.target in self.known]
        if preferred and self.dice.chance(0.93):
            return self.dice.pick(preferred)
        return self.dice.pick(navs) if navs else None

    def row_id(self, table: Table) -> str:
        rows = self.ids.get(table.logical, ())
        if not rows or self.dice.chance(0.15):
            return NOBODY
        found = self.dice.pick(rows)
        return found.upper() if self.dice.chance(UNLIKELY) else found

    def key(self, table: Table) -> str:
        if table.keys and self.dice.chance(0.2):
            key = self.dice.pick(table.keys)
            parts = [
                f"{table.by_name[c].property_name}={self.literal(table.by_name[c])}"
                for c in key.columns
            ]
            return ",".join(parts)
        if self.dice.chance(0.05):
            return f"{table.pk}={self.row_id(table)}"
        if self.dice.chance(UNLIKELY):
            return self.dice.pick(("1", "'x'", "", "null", "@p1"))
        return self.row_id(table)

    def cast(self, table: Table) -> str:
        derived = [t.logical for t in self.schema.derived(table.logical)]
        names = (*derived, *derived, table.logical, self.dice.pick(_TABLES))
        return f"{NAMESPACE}.{self.dice.pick(names)}"

    def alias(self, value: str, likely: float = 0.1) -> str:
        """The value, or an alias for it."""
        if not self.dice.chance(likely):
            return value
        name = f"@p{len(self.aliases) + 1}"
        self.aliases[name] = value
        return name

    def literal(self, column: Column | None = None) -> str:
        kind = "string" if column is None else column.kind
        dice = self.dice
        if dice.chance(0.05):
            return dice.pick(("null", "'x'", "5", "true", "2024-01-01", NOBODY, "-3.5e2", "- 5"))
        if kind in {"id", "lookup", "guid", "file"}:
            tables = [] if column is None else [t for t in column.targets if t in self.ids]
            return self.row_id(self.schema[dice.pick(tables)]) if tables else NOBODY
        if kind in {"int", "bigint", "decimal", "money", "choice", "state", "status"}:
            return str(dice.number(-2, 5000))
        if kind == "bool":
            return dice.pick(("true", "false"))
        if kind == "datetime":
            return dice.pick(("2024-01-08T08:00:00Z", "2030-12-31T00:00:00+01:00"))
        if kind == "date":
            return "2024-02-01"
        return "'" + dice.pick(TEXTS).replace("'", "''") + "'"

    def rows_path(self, table: Table, depth: int = 2) -> tuple[list[str], Table, bool]:
        """Segments to rows, the table that they come to, and whether there are many."""
        name = self.set_name(table)
        if self.dice.chance(0.5):
            return self._perhaps_cast([name], table, many=True)
        segments, at, many = self._perhaps_cast([f"{name}({self.key(table)})"], table, many=False)
        while depth and not many and self.dice.chance(0.45):
            nav = self.nav(at)
            if nav is None:
                break
            depth -= 1
            at, many = self.schema[nav.target], nav.is_collection
            step = nav.name
            if many and self.dice.chance(0.25):
                step, many = f"{step}({self.key(at)})", False
            segments, at, many = self._perhaps_cast([*segments, step], at, many=many)
        return segments, at, many

    def _perhaps_cast(
        self, segments: list[str], table: Table, *, many: bool
    ) -> tuple[list[str], Table, bool]:
        if not self.dice.chance(0.04):
            return segments, table, many
        cast = self.cast(table)
        return [*segments, cast], self.schema.tables.get(cast.rpartition(".")[2], table), many

    def one_row(self, table: Table) -> str:
        return f"{self.set_name(table)}({self.key(table)})"

    def reference(self, table: Table) -> str:
        """How a body or `$id` names a row."""
        row = f"{table.set_name}({self.key(table)})"
        if self.dice.chance(UNLIKELY):
            return self.dice.pick((
                f"https://evil.example{SERVICE}{row}", f"//evil.example{SERVICE}{row}",
                f"{ENVIRONMENT}@evil.example/{row}", f"../{row}", f"{SERVICE}../{row}",
                f"https://contoso.crm4.dynamics.com:444{SERVICE}{row}", "$1", "$2", row + "?x=1",
            ))  # fmt: skip
        return self.dice.pick((
            row, f"/{row}", f"{SERVICE}{row}", f"{ENVIRONMENT}{SERVICE}{row}",
            f"{PUBLIC}/environments/prod{SERVICE}{row}", f"{PUBLIC}{SERVICE}{row}",
            f"https://Contoso.API.crm4.dynamics.com{SERVICE}{row}",
        ))  # fmt: skip

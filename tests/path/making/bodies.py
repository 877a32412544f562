"""Rows as JSON bodies write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.path.making.fetches import Fetches
from tests.path.making.names import NOBODY, TEXTS, UNLIKELY

if TYPE_CHECKING:
    from app.sandbox.dataverse.schema import Column, Nav, Table


class Bodies(Fetches):
    def value(self, column: Column) -> Any:
        dice = self.dice
        if dice.chance(0.05):
            return dice.pick((None, 1, "x", True, {"a": 1}, [1]))
        if column.kind in {"id", "guid"}:
            return NOBODY
        if column.kind in {"choice", "state", "status"}:
            return dice.pick([v for v, _ in column.options] or [1])
        if column.kind in {"int", "bigint"}:
            return dice.number(0, 100)
        if column.kind in {"decimal", "money"}:
            return dice.number(0, 100) / 4
        if column.kind == "bool":
            return dice.pick((True, False))
        if column.kind == "datetime":
            return "2024-03-01T10:00:00Z"
        if column.kind == "date":
            return "2024-03-01"
        return dice.pick(TEXTS)

    def row(self, table: Table, depth: int = 2) -> dict[str, Any]:
        dice = self.dice
        body: dict[str, Any] = {}
        name = table.name_column
        if name is not None and dice.chance(0.8):
            body[name if table.by_name[name].writable else "lastname"] = "N"
        for _ in range(dice.number(0, 3)):
            column = self.column(table)
            if column.kind != "lookup":
                body[column.name] = self.value(column)
            elif dice.chance(UNLIKELY):
                body[column.property_name] = NOBODY
        if dice.chance(0.35):
            nav = self.nav(table)
            if nav is not None:
                self._join(body, nav, depth)
        if dice.chance(0.05):
            body[table.pk] = self.row_id(table)
        if dice.chance(0.05):
            body["@odata.type"] = dice.pick((table.type_name, f"#{table.type_name}", "x"))
        if dice.chance(0.03):
            body[dice.pick(("@odata.id", "@odata.etag", "name@x.y", "@odata.bind", "Name"))] = "x"
        return body

    def _join(self, body: dict[str, Any], nav: Nav, depth: int) -> None:
        dice, target = self.dice, self.schema[nav.target]
        bind = f"{nav.name}@odata.bind"
        if dice.chance(0.1):
            body[bind if dice.chance(0.5) else nav.name] = None
        elif depth and dice.chance(0.4):
            inner = self.row(target, depth - 1)
            body[nav.name] = [inner] if nav.is_collection else inner
        else:
            real = self.concrete(target)
            reference = self.reference(real)
            body[bind] = [reference] if nav.is_collection else reference

    def concrete(self, table: Table) -> Table:
        """A table that rows behind a navigation property may be of."""
        derived = self.schema.derived(table.logical)
        return self.dice.pick(derived) if derived and table.abstract else table

    def item(self, table: Table) -> dict[str, Any]:
        """One of Targets."""
        body = {"@odata.type": table.type_name, **self.row(table, 1)}
        if self.dice.chance(0.6):
            body[table.pk] = self.row_id(table)
        if self.dice.chance(0.25):
            body["@odata.id"] = self.reference(table)
        return body

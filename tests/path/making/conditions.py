"""Conditions, orders and paths to columns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.path.making.names import NAMESPACE, Names

if TYPE_CHECKING:
    from app.sandbox.dataverse.schema import Table

_FUNCTIONS = ("contains", "startswith", "endswith")
_QUERY_FUNCTIONS = (
    "In", "NotIn", "Between", "Today", "Last7Days", "EqualUserId", "Under", "Above",
    "AboveOrEqual", "NotUnder", "ContainValues", "OlderThanXDays", "EqualUserTeams", "On",
)  # fmt: skip


class Conditions(Names):
    def path(self, table: Table, depth: int = 2) -> str:
        """A column, perhaps of a row that lookups lead to."""
        if depth and self.dice.chance(0.15):
            nav = self.nav(table, collection=False)
            if nav is not None:
                inner = self.path(self.schema[nav.target], depth - 1)
                cast = f"{self.cast(self.schema[nav.target])}/" if self.dice.chance(0.1) else ""
                return f"{nav.name}/{cast}{inner}"
        if self.dice.chance(0.05):
            nav = self.nav(table, collection=True)
            if nav is not None:
                return f"{nav.name}/$count"
        return self.property(table)

    def condition(
        self, table: Table, depth: int = 3, inside: tuple[str, Table] | None = None
    ) -> str:
        dice = self.dice
        if depth and dice.chance(0.35):
            word = dice.pick((" and ", " or "))
            parts = [self.condition(table, depth - 1, inside) for _ in range(dice.number(2, 3))]
            return f"({word.join(parts)})" if dice.chance(0.5) else word.join(parts)
        if depth and dice.chance(0.08):
            return f"not ({self.condition(table, depth - 1, inside)})"
        if depth and dice.chance(0.12):
            found = self._lambda(table, depth - 1, inside)
            if found is not None:
                return found
        if dice.chance(0.1):
            return self._query_function(table)
        column = self.column(table)
        path = self.path(table) if dice.chance(0.3) else column.property_name
        if inside is not None and dice.chance(0.75):
            column = self.column(inside[1])
            path = f"{inside[0]}/{self.path(inside[1], 1)}"
        if dice.chance(0.2):
            return f"{dice.pick(_FUNCTIONS)}({path},{self.alias(self.literal())})"
        if dice.chance(0.12):
            other = self.property(table)
            return f"{path} {dice.pick(('eq', 'ne', 'gt'))} {self.alias(other, 0.6)}"
        if dice.chance(0.05):
            listed = ",".join(self.literal(column) for _ in range(dice.number(1, 3)))
            return f"{path} in ({listed})"
        if dice.chance(0.04):
            return f"{path} {dice.pick(('add', 'mul', 'sub'))} 1 gt {self.literal(column)}"
        word = dice.pick(("eq", "ne", "gt", "ge", "lt", "le"))
        if dice.chance(0.05):
            return f"{self.literal(column)} {word} {path}"
        return f"{path} {word} {self.alias(self.literal(column))}"

    def _lambda(self, table: Table, depth: int, inside: tuple[str, Table] | None) -> str | None:
        around, prefix = table, ""
        if inside is not None and self.dice.chance(0.6):
            around, prefix = inside[1], f"{inside[0]}/"
        nav = self.nav(around, collection=True)
        if nav is None:
            return None
        if self.dice.chance(0.1):
            return f"{prefix}{nav.name}/any()"
        self.number += 1
        target = self.schema[nav.target]
        name = self.dice.pick((f"x{self.number}", "x1", self.column(table).name, "t"))
        if self.dice.chance(0.9):
            name = f"x{self.number}"
        body = self.condition(table, depth, (name, target))
        return f"{prefix}{nav.name}/{self.dice.pick(('any', 'all'))}({name}:{body})"

    def _query_function(self, table: Table) -> str:
        column = self.column(table)
        name = self.dice.pick(
            (column.property_name, column.name, column.name, self.property(table))
        )
        said = self.alias(f"'{name}'")
        function = self.dice.pick(_QUERY_FUNCTIONS)
        values = {
            "In": f",PropertyValues={self.alias(json.dumps(['a', 'b']))}",
            "NotIn": ",PropertyValues=['a','O''B']",
            "Between": ',PropertyValues=["1","2"]',
            "Under": f",PropertyValue='{self.row_id(table)}'",
            "Above": f",PropertyValue='{self.row_id(table)}'",
            "AboveOrEqual": f",PropertyValue='{self.row_id(table)}'",
            "NotUnder": f",PropertyValue='{self.row_id(table)}'",
            "ContainValues": ",PropertyValues=['1']",
            "OlderThanXDays": ",PropertyValue=3",
            "On": ",PropertyValue='2024-01-08'",
        }.get(function, "")
        if function in {"Under", "Above", "AboveOrEqual", "NotUnder"} and self.dice.chance(0.7):
            said = f"'{table.pk}'"
        return f"{NAMESPACE}.{function}(PropertyName={said}{values})"

    def orderby(self, table: Table) -> str:
        keys = [self.path(table, 1) for _ in range(self.dice.number(1, 2))]
        return ",".join(k + self.dice.pick(("", " asc", " desc")) for k in keys)

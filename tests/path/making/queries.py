"""`$select`, `$expand`, `$apply` and what may stand beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.path.making.conditions import Conditions
from tests.path.making.names import NOBODY, UNLIKELY

if TYPE_CHECKING:
    from app.sandbox.dataverse.schema import Nav, Table


class Queries(Conditions):
    def select(self, table: Table) -> str:
        if self.dice.chance(0.04):
            return self.dice.pick(("*", "name,*", ""))
        count = self.dice.number(1, 3)
        between = "," if self.dice.chance(0.9) else " , "
        return between.join(self.property(table) for _ in range(count))

    def expand(self, table: Table, depth: int = 2) -> str:
        items = []
        for _ in range(self.dice.number(1, 2)):
            nav = self.nav(table)
            if nav is not None:
                items.append(self._expanded(nav, depth))
        return ",".join(items)

    def _expanded(self, nav: Nav, depth: int) -> str:
        dice, target = self.dice, self.schema[nav.target]
        name = nav.name
        if dice.chance(0.05):
            cast = self.cast(target)
            name += f"/{cast}"
            target = self.schema.tables.get(cast.rpartition(".")[2], target)
        if dice.chance(0.08):
            return f"{name}/{dice.pick(('$ref', '$count'))}"
        options = []
        if dice.chance(0.7):
            options.append(f"$select={self.select(target)}")
        if nav.is_collection and dice.chance(0.3):
            options.append(f"$filter={self.condition(target, 1)}")
        if nav.is_collection and dice.chance(0.1):
            options.append(f"$orderby={self.orderby(target)}")
        if nav.is_collection and dice.chance(0.1):
            options.append(f"$top={dice.number(0, 5)}")
        if depth and dice.chance(0.2):
            options.append(f"$expand={self.expand(target, depth - 1)}")
        return f"{name}({';'.join(options)})" if options else name

    def apply(self, table: Table) -> str:
        dice = self.dice
        steps = []
        if dice.chance(0.4):
            steps.append(f"filter({self.condition(table, 1)})")
        figures = ",".join(
            dice.pick((
                f"{self.path(table, 1)} with {dice.pick(('sum', 'max', 'countdistinct'))} as f{i}",
                "$count as n",
                f"{self.column(table).property_name} with average as {self.column(table).name}",
            ))
            for i in range(dice.number(1, 2))
        )  # fmt: skip
        kind = dice.number(0, 3)
        keys = ",".join(self.path(table, 2) for _ in range(dice.number(1, 2)))
        if kind == 0:
            steps.append(f"aggregate({figures})")
        elif kind == 1:
            steps.append(f"groupby(({keys}))")
        elif kind == 2:
            steps.append(f"groupby(({keys}),aggregate({figures}))")
        return "/".join(steps) or f"filter({self.condition(table, 1)})"

    def options(self, table: Table, *, collection: bool) -> list[tuple[str, str]]:
        dice = self.dice
        found: list[tuple[str, str]] = []
        if collection and dice.chance(0.08):
            found.append(("$apply", self.apply(table)))
        elif dice.chance(0.7):
            found.append(("$select", self.select(table)))
        if collection and dice.chance(0.5):
            found.append(("$filter", self.condition(table)))
        if collection and dice.chance(0.2):
            found.append(("$orderby", self.orderby(table)))
        if dice.chance(0.25):
            found.append(("$expand", self.expand(table)))
        if collection and dice.chance(0.15):
            found.append(("$top", str(dice.number(0, 6))))
        if collection and dice.chance(0.15):
            found.append(("$count", dice.pick(("true", "false"))))
        if dice.chance(UNLIKELY):
            found.append(
                dice.pick((
                    ("$skip", "1"), ("$search", "x"), ("savedQuery", NOBODY), ("tag", "x"),
                    ("sql", "SELECT new_value FROM new_secret"), ("UnMaskedData", "true"),
                    ("$skiptoken", "<cookie/>"), ("$compute", "name as x"), ("filter", "1 eq 1"),
                    ("$deltatoken", "1!x"), ("$Filter", "1 eq 1"), ("@unused", "'x'"),
                ))
            )  # fmt: skip
        return found

    def with_aliases(self, found: list[tuple[str, str]]) -> list[tuple[str, str]]:
        every = [*found, *self.aliases.items()]
        self.aliases.clear()
        return every

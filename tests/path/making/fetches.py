"""FetchXML."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.path.making.queries import Queries

if TYPE_CHECKING:
    from app.sandbox.dataverse.schema import Table

_FETCH_OPERATORS = (
    "eq", "ne", "like", "not-null", "null", "in", "gt", "under", "above", "eq-or-under",
    "eq-userid", "today", "between", "contain-values",
)  # fmt: skip
_LINK_TYPES = ("inner", "outer", "exists", "in", "any", "not any", "all", "not all", "natural",
               "matchfirstrowusingcrossapply")  # fmt: skip


class Fetches(Queries):
    def fetch(self, table: Table) -> str:
        dice = self.dice
        head = ""
        for name, value, likely in (
            ("top", "3", 0.1), ("count", "2", 0.15), ("page", "2", 0.1), ("distinct", "true", 0.1),
            ("aggregate", dice.pick(("true", "1", "TRUE", "false")), 0.15),
            ("returntotalrecordcount", "true", 0.05), ("datasource", "archive", 0.01),
            ("no-lock", "false", 0.05),
        ):  # fmt: skip
            if dice.chance(likely):
                head += f" {name}='{value}'"
        if dice.chance(0.12):
            head += f" paging-cookie='{self._cookie(table)}'"
        entity = table if dice.chance(0.98) else self.table()
        inside = self._fetched(entity, 2, aggregates="aggregate='t" in head)
        text = f"<fetch{head}><entity name='{entity.logical}'>{inside}</entity></fetch>"
        if dice.chance(0.02):
            text = "<!DOCTYPE x [<!ENTITY e 'x'>]>" + text
        return text

    def _cookie(self, table: Table) -> str:
        marks = "".join(
            f"<{self.dice.pick((self.column(table).name, 'l1', 'l1.' + self.column(table).name))}"
            f' last="x" first="y" />'
            for _ in range(self.dice.number(1, 2))
        )
        cookie = f'<cookie page="1">{marks}</cookie>'
        for _ in range(self.dice.number(0, 2)):
            cookie = quote(cookie, safe="")
        return cookie.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")

    def _fetched(self, table: Table, depth: int, *, aggregates: bool) -> str:
        dice = self.dice
        parts = []
        if dice.chance(0.08):
            parts.append(dice.pick(("<all-attributes/>", "<no-attrs/>")))
        for number in range(dice.number(0, 3)):
            more = ""
            if aggregates or dice.chance(0.05):
                word = dice.pick(("groupby='true'", "aggregate='max'", "aggregate='count'"))
                more = f" {word} alias='a{number}'"
            elif dice.chance(0.1):
                more = f" alias='{dice.pick((f'a{number}', self.column(table).name))}'"
            parts.append(f"<attribute name='{self._fetched_name(table)}'{more}/>")
        if dice.chance(0.5):
            parts.append(self._fetch_filter(table, depth))
        if dice.chance(0.1):
            parts.append(self._fetch_filter(table, 0))
        if dice.chance(0.2):
            parts.append(f"<order attribute='{self._fetched_name(table)}'/>")
        if dice.chance(0.05):
            parts.append(f"<order attribute='name' entityname='{dice.pick(('l1', 'contact'))}'/>")
        while depth and dice.chance(0.3):
            parts.append(self._link(table, depth - 1, aggregates=aggregates))
            if dice.chance(0.7):
                break
        return "".join(parts)

    def _fetched_name(self, table: Table) -> str:
        column = self.column(table)
        if column.kind == "lookup" and self.dice.chance(0.2):
            return f"{column.name}name"
        return column.name

    def _link(self, table: Table, depth: int, *, aggregates: bool) -> str:
        dice = self.dice
        nav = self.nav(table)
        other = self.schema[nav.target] if nav is not None else self.table()
        near, far = table.pk, self.column(other).name
        if nav is not None and nav.kind == "many":
            far = nav.lookup
        elif nav is not None and nav.kind == "single":
            near, far = nav.lookup, other.pk
        if dice.chance(0.1):
            near = self.column(table).name
        more = ""
        if dice.chance(0.5):
            self.number += 1
            name = dice.pick((f"l{self.number}", "l1", table.logical, self.column(table).name))
            more += f" alias='{name if dice.chance(0.2) else f'l{self.number}'}'"
        if dice.chance(0.5):
            more += f" link-type='{dice.pick(_LINK_TYPES if dice.chance(0.5) else ('outer',))}'"
        inside = self._fetched(other, depth, aggregates=aggregates)
        return (
            f"<link-entity name='{other.logical}' from='{far}' to='{near}'{more}>"
            f"{inside}</link-entity>"
        )

    def _fetch_filter(self, table: Table, depth: int) -> str:
        dice = self.dice
        parts = []
        for _ in range(dice.number(1, 2)):
            if depth and dice.chance(0.15):
                parts.append(self._fetch_filter(table, depth - 1))
            elif depth and dice.chance(0.12):
                parts.append(self._link(table, 0, aggregates=False))
            else:
                parts.append(self._fetch_condition(table))
        kind = dice.pick(("", " type='and'", " type='or'"))
        return f"<filter{kind}>{''.join(parts)}</filter>"

    def _fetch_condition(self, table: Table) -> str:
        dice = self.dice
        column = self.column(table)
        operator = dice.pick(_FETCH_OPERATORS)
        if operator in {"under", "above", "eq-or-under"} and dice.chance(0.8):
            return (
                f"<condition attribute='{table.pk}' operator='{operator}' "
                f"value='{self.row_id(table)}'/>"
            )
        more = ""
        if dice.chance(0.08):
            more += f" entityname='{dice.pick(('l1', 'l2', 'contact', 'account', 'x'))}'"
        if dice.chance(0.08):
            name = self.column(table).name
            more += f" valueof='{dice.pick(('', 'l1.', 'account.'))}{name}'"
        said = self.literal(column).strip("'").replace("&", "&amp;").replace("<", "&lt;")
        values = "".join(f"<value>{said}</value>" for _ in range(2))
        if operator in {"in", "between", "contain-values"}:
            return (
                f"<condition attribute='{column.name}' operator='{operator}'{more}>"
                f"{values}</condition>"
            )
        said = said.replace("'", "&apos;")
        return f"<condition attribute='{column.name}' operator='{operator}'{more} value='{said}'/>"

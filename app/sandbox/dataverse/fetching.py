"""FetchXML run: joins, conditions, orders, pages, aggregates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from app.sandbox.dataverse.cookies import Continuation, Mark, after, cookie_xml, read_cookie
from app.sandbox.dataverse.failures import bad_request
from app.sandbox.dataverse.fetch_conditions import (
    link_condition,
    link_on,
    linked,
    named,
    no_attribute,
    where_all,
)
from app.sandbox.dataverse.fetchxml import Attribute
from app.sandbox.dataverse.options import PAGE_ROWS_MAX
from app.sandbox.dataverse.relations import restriction
from app.sandbox.dataverse.shapes import Shape, primary_name
from app.sandbox.dataverse.terms import Binder, Scope

if TYPE_CHECKING:
    from datetime import datetime

    from app.sandbox.dataverse.fetchxml import Entity, Fetch, Link, Order
    from app.sandbox.dataverse.preferences import Preferences
    from app.sandbox.dataverse.rights import User
    from app.sandbox.dataverse.schema import Column, Nav, Schema, Table
    from app.sandbox.dataverse.store import Store

_GROUPING = {
    "year": "CAST(strftime('%Y', {}) AS INTEGER)",
    "month": "CAST(strftime('%m', {}) AS INTEGER)",
    "day": "CAST(strftime('%d', {}) AS INTEGER)",
    "week": "CAST(strftime('%W', {}) AS INTEGER) + 1",
    "quarter": "(CAST(strftime('%m', {}) AS INTEGER) + 2) / 3",
}
_FUNCTION = {"countcolumn": "COUNT", "sum": "SUM", "avg": "AVG", "min": "MIN", "max": "MAX"}


@dataclass(frozen=True, slots=True)
class Fetched:
    """`cookie` is None where the query cannot page by one."""

    rows: list[dict[str, Any]]
    more: bool
    cookie: str | None
    total: int | None = None


@dataclass(slots=True)
class _Statement:
    """A SELECT in the making; `scopes` by alias, the root's under its table's name."""

    joins: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    scopes: dict[str, Scope] = field(default_factory=dict)
    outputs: list[tuple[str, str, Column | None]] = field(default_factory=list)
    """JSON key, SQL, and the column where it is one."""
    groups: list[str] = field(default_factory=list)
    multiplies: bool = False


class Fetcher:
    """Runs FetchXML for one request."""

    def __init__(self, store: Store, *, user: User, now: datetime, wants: Preferences) -> None:
        self._store = store
        self._schema: Schema = store.schema
        self._user = user
        self._now = now
        self._wants = wants

    def run(
        self, fetch: Fetch, table: Table, *, holder: tuple[Nav, Table, str] | None = None
    ) -> Fetched:
        """`holder`: the property, table and row whose collection is asked; None for a set."""
        if fetch.entity.name != table.logical:
            raise bad_request(
                "The entity name specified in fetchxml does not match the entity name specified "
                "in the Entity Set or Expand clause."
            )
        binder = Binder(self._schema, self._user, self._now)
        root = Scope(table, binder.alias())
        statement = _Statement(scopes={table.logical: root})
        self._user.need("Read", table)
        shape = Shape(self._schema, table, root.alias, self._wants)
        self._join(fetch.entity.links, root, statement, binder)
        statement.conditions += where_all(fetch.entity, root, statement.scopes, binder)
        if holder is not None:
            nav, source, key = holder
            binder.params["key"] = key
            statement.conditions.append(restriction(self._schema, nav, source, root.alias))
        if fetch.aggregate:
            return self._aggregate(fetch, root, statement, binder)
        return self._rows(fetch, root, statement, shape, binder)

    # ------------------------------------------------------------ joins

    def _join(
        self, links: tuple[Link, ...], outer: Scope, statement: _Statement, binder: Binder
    ) -> None:
        for link in links:
            if link.kind not in {"inner", "outer"}:
                statement.conditions.append(link_condition(link, outer, binder))
                continue
            table = linked(link, binder)
            inner = Scope(table, binder.alias())
            name = link.alias or f"{table.logical}{len(statement.scopes)}"
            if name in statement.scopes:
                raise bad_request(f"The alias '{name}' is used more than once.", "0x8004111c")
            statement.scopes[name] = inner
            on = link_on(link, inner, outer, self._user)
            filters = where_all(link.entity, inner, {name: inner}, binder)
            statement.multiplies |= link.source != table.pk
            word = "LEFT JOIN" if link.kind == "outer" else "JOIN"
            condition = " AND ".join([on, *filters])
            statement.joins.append(f"{word} {table.logical} {inner.alias} ON {condition}")
            for attribute in self._attributes(link.entity):
                self._output(attribute, inner, name, statement)
            self._join(link.entity.links, inner, statement, binder)

    def _attributes(self, entity: Entity) -> tuple[Attribute, ...]:
        if not entity.all_attributes:
            return entity.attributes
        return tuple(Attribute(name=c.name) for c in self._schema[entity.name].columns)

    def _output(
        self, attribute: Attribute, scope: Scope, prefix: str, statement: _Statement
    ) -> None:
        sql, column = named(attribute.name, scope, self._schema, self._user)
        key = attribute.alias or f"{prefix}.{attribute.name}"
        statement.outputs.append((key, sql, column))

    # ------------------------------------------------------------ rows

    def _rows(
        self, fetch: Fetch, root: Scope, statement: _Statement, shape: Shape, binder: Binder
    ) -> Fetched:
        table, entity = root.table, fetch.entity
        linked = statement.outputs
        statement.outputs = []
        whole = entity.all_attributes or not (entity.attributes or linked)
        names = [c.name for c in table.columns] if whole else []
        aliased = [a for a in entity.attributes if a.alias]
        names += [a.name for a in entity.attributes if not a.alias]
        columns = dict.fromkeys(self._column(table, name) for name in names)
        self._user.touch("Read", table, *names)
        if any(c.kind == "money" for c in columns) and "transactioncurrencyid" in table.by_name:
            columns[table.by_name["transactioncurrencyid"]] = None
        if not fetch.distinct:
            columns[table.by_name[table.pk]] = None
        for column in columns:
            shape.add(column)
        for attribute in aliased:
            self._output(attribute, root, "", statement)
        outputs = [(k, shape.place(sql), column) for k, sql, column in statement.outputs + linked]
        order, marks = self._order(fetch, root, statement, shape)
        source = self._source(root, statement)
        limit = min(fetch.top or fetch.count or PAGE_ROWS_MAX, PAGE_ROWS_MAX)
        paged, offset = source, (fetch.page - 1) * limit
        if fetch.cookie is not None and marks is not None and fetch.page > 1:
            continuation = Continuation(fetch.page, read_cookie(fetch.cookie))
            paged += " AND " + after(order, continuation, binder)
            offset = 0
        ordered = ", ".join(f"{sql} {'DESC' if down else 'ASC'}" for sql, down in order)
        chosen = ", ".join(self._chosen(fetch, shape))
        sql = (
            f"SELECT {'DISTINCT ' if fetch.distinct else ''}{chosen} "
            f"{paged} {'ORDER BY ' + ordered if ordered else ''} LIMIT :rows OFFSET :skip"
        )
        found = self._store.all(sql, {**binder.params, "rows": limit + 1, "skip": offset})
        more = len(found) > limit
        rows = [self._row(shape, outputs, values, fetch.distinct) for values in found[:limit]]
        cookie = None
        if more and marks is not None and fetch.top is None:
            last, first = found[limit - 1], found[0]
            kept = [Mark(n, last[at], first[at]) for n, at in marks]
            cookie = _annotation(fetch.page, kept)
        total = None
        if fetch.wants_total:
            counted = self._store.one(f"SELECT COUNT(*) {source}", binder.params)
            total = min(int(counted[0]), PAGE_ROWS_MAX) if counted else 0
        return Fetched(rows, more and fetch.top is None, cookie, total)

    def _chosen(self, fetch: Fetch, shape: Shape) -> list[str]:
        """With distinct, the key and the version would make every row different."""
        if not fetch.distinct:
            return shape.columns
        return [
            "NULL" if at in {shape.version, shape.pk} else c for at, c in enumerate(shape.columns)
        ]

    def _row(
        self,
        shape: Shape,
        outputs: list[tuple[str, int, Column | None]],
        values: tuple[Any, ...],
        distinct: bool,  # noqa: FBT001 - the query's own word
    ) -> dict[str, Any]:
        row = shape.build(values, etag=not distinct)
        # FetchXML answers leave nulls out.
        row = {k: v for k, v in row.items() if v is not None}
        for key, at, column in outputs:
            value = values[at]
            if value is not None:
                row[key] = bool(value) if column is not None and column.kind == "bool" else value
        return row

    def _column(self, table: Table, name: str) -> Column:
        column = table.by_name.get(name)
        if column is None:
            raise no_attribute(name, table)
        return column

    def _order(
        self, fetch: Fetch, root: Scope, statement: _Statement, shape: Shape
    ) -> tuple[list[tuple[str, bool]], list[tuple[str, int]] | None]:
        """The last part is None where no cookie can be made: orders of linked tables, distinct."""
        order: list[tuple[str, bool]] = []
        marks: list[tuple[str, int]] | None = [] if not fetch.distinct else None
        for one, scope in _orders(fetch.entity, root, statement.scopes):
            sql, column = named(one.attribute or "", scope, self._schema, self._user)
            if column is not None and column.kind == "lookup":
                sql = primary_name(self._schema, column, scope.alias)
            text = column is None or column.kind in {"string", "memo", "lookup"}
            order.append((f"{sql} COLLATE NOCASE" if text else sql, one.descending))
            if scope is not root:
                marks = None
            if marks is not None:
                marks.append((one.attribute or "", shape.place(sql)))
        if not fetch.distinct:
            key = f"{root.alias}.{root.table.pk}"
            order.append((key, False))
            if marks is not None:
                marks.append((root.table.pk, shape.place(key)))
        if statement.multiplies:
            # One row of the root can come several times, so its key does not say where it was.
            marks = None
        return order, marks

    def _source(self, root: Scope, statement: _Statement) -> str:
        joins = " ".join(["", *statement.joins])
        condition = " AND ".join(statement.conditions) or "1"
        return f"FROM {root.table.logical} {root.alias}{joins} WHERE {condition}"

    # ------------------------------------------------------------ aggregates

    def _aggregate(
        self, fetch: Fetch, root: Scope, statement: _Statement, binder: Binder
    ) -> Fetched:
        statement.outputs = []
        placed = [(a, root) for a in fetch.entity.attributes]
        placed += list(_linked_attributes(fetch.entity.links, statement.scopes))
        for attribute, scope in placed:
            if not attribute.alias:
                raise bad_request(
                    "An attribute of an aggregate query needs an alias.", "0x8004111c"
                )
            sql, column = named(attribute.name, scope, self._schema, self._user)
            if attribute.groups:
                if attribute.date_grouping is not None:
                    sql = _GROUPING.get(attribute.date_grouping, "{}").format(sql)
                statement.groups.append(sql)
            elif attribute.aggregate == "count":
                sql = "COUNT(*)"
            elif attribute.aggregate is not None:
                kept = f"DISTINCT {sql}" if attribute.distinct else sql
                sql = f"{_FUNCTION[attribute.aggregate]}({kept})"
            else:
                raise bad_request(
                    f"The attribute '{attribute.name}' must aggregate or group.", "0x8004111c"
                )
            statement.outputs.append((attribute.alias, sql, column))
        by_alias = {key: sql for key, sql, _ in statement.outputs}
        order = [
            f"{by_alias[o.alias]} {'DESC' if o.descending else 'ASC'}"
            for o in fetch.entity.orders
            if o.alias in by_alias
        ]
        chosen = ", ".join(by_alias.values())
        grouped = f" GROUP BY {', '.join(statement.groups)}" if statement.groups else ""
        ordered = f" ORDER BY {', '.join(order)}" if order else ""
        found = self._store.all(
            f"SELECT {chosen} {self._source(root, statement)}{grouped}{ordered}",
            binder.params,
        )
        rows = [
            {
                key: round(value, 6) if isinstance(value, float) else value
                for key, value in zip(by_alias, values, strict=True)
                if value is not None
            }
            for values in found
        ]
        return Fetched(rows, more=False, cookie=None)


def _orders(entity: Entity, root: Scope, scopes: dict[str, Scope]) -> list[tuple[Order, Scope]]:
    found: list[tuple[Order, Scope]] = []
    for order in entity.orders:
        scope = root
        if order.entity is not None:
            known = scopes.get(order.entity)
            if known is None:
                raise bad_request(f"No link-entity is named '{order.entity}'.", "0x8004111c")
            scope = known
        found.append((order, scope))
    for link in entity.links:
        scope = next(
            (
                s
                for n, s in scopes.items()
                if n == link.alias or s.table.logical == link.entity.name
            ),
            root,
        )
        found += [(order, scope) for order in link.entity.orders]
    return found


def _linked_attributes(
    links: tuple[Link, ...], scopes: dict[str, Scope]
) -> list[tuple[Attribute, Scope]]:
    found: list[tuple[Attribute, Scope]] = []
    for link in links:
        scope = next(
            (
                s
                for n, s in scopes.items()
                if n == link.alias or s.table.logical == link.entity.name
            ),
            None,
        )
        if scope is not None:
            found += [(a, scope) for a in link.entity.attributes]
        found += _linked_attributes(link.entity.links, scopes)
    return found


def _annotation(page: int, marks: list[Mark]) -> str:
    """The cookie as the annotation has it: encoded twice inside (use-fetchxml-web-api)."""
    inner = quote(quote(cookie_xml(page, marks), safe=""), safe="")
    return f'<cookie pagenumber="{page + 1}" pagingcookie="{inner}" istracking="False" />'

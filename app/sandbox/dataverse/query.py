"""Rows for a read: one SQL statement a level, pages, and what is expanded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from app.sandbox.dataverse.apply import Aggregator
from app.sandbox.dataverse.conditions import where
from app.sandbox.dataverse.cookies import Continuation, Mark, after, skip_token
from app.sandbox.dataverse.failures import bad_request, no_property
from app.sandbox.dataverse.fetching import Fetcher
from app.sandbox.dataverse.options import PAGE_ROWS_MAX, Asked, Expand, Order
from app.sandbox.dataverse.relations import restriction
from app.sandbox.dataverse.shapes import Shape, primary_name, returned_columns
from app.sandbox.dataverse.store import type_column
from app.sandbox.dataverse.terms import Binder, Scope, column_of, navigation

if TYPE_CHECKING:
    from datetime import datetime

    from app.sandbox.dataverse.apply import Apply
    from app.sandbox.dataverse.preferences import Preferences
    from app.sandbox.dataverse.rights import User
    from app.sandbox.dataverse.schema import Nav, Table
    from app.sandbox.dataverse.store import Store

COUNT_MAX = 5000


@dataclass(frozen=True, slots=True)
class Page:
    """`marks` are set where there is more: the values that the last row is ordered by."""

    rows: list[dict[str, Any]]
    marks: tuple[Mark, ...] | None = None
    total: int | None = None


@dataclass(slots=True)
class _Branch:
    """An expand, ready to run for one row after the other."""

    expand: Expand
    nav: Nav
    plan: _Plan | None
    id_at: int
    type_at: int | None
    seen: dict[str, dict[str, Any] | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Plan:
    """A compiled level. Runs with :key, the row or the parent that it is for, and :rows."""

    table: Table
    shape: Shape
    sql: str
    source: str
    params: dict[str, Any]
    marks: list[tuple[str, int]]
    branches: list[_Branch]
    etag: bool


class Reader:
    """Reads for one request: `base` is the service root that links begin with."""

    def __init__(
        self, store: Store, *, base: str, user: User, now: datetime, preferences: Preferences
    ) -> None:
        self._store = store
        self._schema = store.schema
        self._base = base
        self._user = user
        self._now = now
        self._wants = preferences

    def row(self, table: Table, row_id: str, asked: Asked) -> dict[str, Any] | None:
        if table.abstract:
            return self._concrete(table, row_id, asked)
        plan = self._compile(table, asked, restrict=f"{{alias}}.{table.pk} = :key")
        rows = self._run(plan, key=row_id, rows=1)
        return rows[0][0] if rows else None

    def page(
        self,
        table: Table,
        asked: Asked,
        *,
        holder: tuple[Nav, Table, str] | None = None,
        continuation: Continuation | None = None,
        since: int | None = None,
    ) -> Page:
        """`holder`: the property, table and row whose collection is read; None for a set.

        `since`: only what changed after that version.
        """
        wants = self._wants.page_rows
        limit = wants or min(asked.top if asked.top is not None else PAGE_ROWS_MAX, PAGE_ROWS_MAX)
        pages = wants is not None or asked.top is None
        restrict = ""
        key: str | None = None
        if holder is not None:
            nav, source, key = holder
            restrict = restriction(self._schema, nav, source, "{alias}")
        if since is not None:
            restrict = f"{{alias}}.versionnumber > {int(since)}"
        plan = self._compile(table, asked, restrict=restrict, continuation=continuation)
        rows = self._run(plan, key=key, rows=limit + 1)
        total: int | None = None
        if asked.count:
            counted = self._compile(table, asked, restrict=restrict)
            total = min(self.count(counted, key), COUNT_MAX)
        marks: tuple[Mark, ...] | None = None
        if len(rows) > limit:
            del rows[limit:]
            if pages and rows:
                first, last = rows[0][1], rows[-1][1]
                marks = tuple(Mark(n, last[at], first[at]) for n, at in plan.marks)
        return Page([row for row, _ in rows], marks, total)

    def size(
        self, table: Table, asked: Asked, *, holder: tuple[Nav, Table, str] | None = None
    ) -> int:
        """How many rows there are; for `/$count`."""
        restrict = ""
        key = None
        if holder is not None:
            nav, source, key = holder
            restrict = restriction(self._schema, nav, source, "{alias}")
        bare = Asked(select=(), filter=asked.filter)
        return self.count(self._compile(table, bare, restrict=restrict), key)

    def count(self, plan: _Plan, key: str | None) -> int:
        row = self._store.one(f"SELECT COUNT(*) {plan.source}", plan.params | {"key": key})
        return 0 if row is None else int(row[0])

    def aggregated(
        self,
        table: Table,
        apply: Apply,
        *,
        holder: tuple[Nav, Table, str] | None = None,
        top: int | None = None,
    ) -> list[dict[str, Any]]:
        """What an `$apply` that groups or aggregates gives."""
        within, key = "", None
        if holder is not None:
            nav, source, key = holder
            within = restriction(self._schema, nav, source, "{alias}")
        aggregator = Aggregator(self._store, user=self._user, now=self._now, wants=self._wants)
        return aggregator.run(table, apply, within=within, key=key, top=top)

    def fetcher(self) -> Fetcher:
        """For FetchXML, with the same rights and wishes."""
        return Fetcher(self._store, user=self._user, now=self._now, wants=self._wants)

    # ------------------------------------------------------------ compiling

    def _compile(
        self,
        table: Table,
        asked: Asked,
        *,
        restrict: str = "",
        continuation: Continuation | None = None,
        etag: bool = True,
        back: str | None = None,
        nested: bool | None = None,
    ) -> _Plan:
        self._user.need("Read", table)
        nested = asked.nests if nested is None else nested
        binder = Binder(self._schema, self._user, self._now)
        alias = binder.alias()
        scope = Scope(table, alias)
        shape = Shape(self._schema, table, alias, self._wants)
        for column in returned_columns(table, asked.select, self._user, back=back):
            shape.add(column)
        branches = [self._branch(table, shape, expand, nested=nested) for expand in asked.expand]
        conditions = [restrict.format(alias=alias)] if restrict else []
        if asked.filter is not None:
            conditions.append(where(asked.filter, scope, binder))
        source = f"FROM {table.logical} {alias}"
        if conditions:
            source += " WHERE " + " AND ".join(conditions)
        order, marks = self._order(asked.orderby, scope, shape, binder)
        paged = source
        if continuation is not None:
            paged += (" AND " if conditions else " WHERE ") + after(order, continuation, binder)
        ordered = ", ".join(f"{sql} {'DESC' if down else 'ASC'}" for sql, down in order)
        sql = f"SELECT {', '.join(shape.columns)} {paged} ORDER BY {ordered} LIMIT :rows"
        return _Plan(table, shape, sql, source, binder.params, marks, branches, etag)

    def _order(
        self, orders: tuple[Order, ...], scope: Scope, shape: Shape, binder: Binder
    ) -> tuple[list[tuple[str, bool]], list[tuple[str, int]]]:
        """What rows are ordered by, the key last so that no two are alike, and where it stands."""
        found: list[tuple[str, bool]] = []
        marks: list[tuple[str, int]] = []
        for order in orders:
            term = column_of(order.path, scope, binder)
            sql = term.sql
            if term.column is not None and term.column.kind == "lookup" and len(order.path) == 1:
                # Dataverse sorts a lookup by the name of what it points at.
                sql = primary_name(self._schema, term.column, scope.alias)
                for target in term.column.targets:
                    binder.user.need("Read", self._schema[target])
                text = True
            else:
                text = term.sort == "string"
            found.append((f"{sql} COLLATE NOCASE" if text else sql, order.descending))
            marks.append((".".join(order.path), shape.place(sql)))
        key = f"{scope.alias}.{scope.table.pk}"
        found.append((key, False))
        marks.append((scope.table.pk, shape.place(key)))
        return found, marks

    def _branch(self, table: Table, shape: Shape, expand: Expand, *, nested: bool) -> _Branch:
        nav = navigation(table, expand.nav)
        if not nav.is_collection:
            self._user.touch("Read", table, nav.lookup)
            at = shape.index(nav.lookup)
            column = table.by_name[nav.lookup]
            kind = shape.index(type_column(nav.lookup)) if column.polymorphic else None
            if expand.reference:
                return _Branch(expand, nav, None, at, kind)
            if expand.asked.orderby or expand.asked.top is not None:
                raise bad_request(
                    "Only $select and $filter clause can be provided while doing $expand on "
                    "many-to-one relationship or nested one-to-many relationship."
                )
            target = self._schema[nav.target]
            if target.abstract:
                return _Branch(expand, nav, None, at, kind)
            plan = self._compile(
                target,
                expand.asked,
                restrict=restriction(self._schema, nav, table, "{alias}"),
                etag=False,
                nested=nested,
            )
            return _Branch(expand, nav, plan, at, kind)
        if expand.reference:
            raise bad_request(
                "Expand with $ref is only supported on lookup type navigation property."
            )
        if nav.kind == "many":
            self._user.touch("Read", self._schema[nav.target], nav.lookup)
        plan = self._compile(
            self._schema[nav.target],
            expand.asked,
            restrict=restriction(self._schema, nav, table, "{alias}"),
            etag=not nested,
            back=nav.lookup if nav.kind == "many" and not nested else None,
            nested=nested,
        )
        return _Branch(expand, nav, plan, shape.pk, None)

    # ------------------------------------------------------------ running

    def _run(
        self, plan: _Plan, *, key: str | None, rows: int
    ) -> list[tuple[dict[str, Any], tuple[Any, ...]]]:
        found = self._store.all(plan.sql, {**plan.params, "key": key, "rows": rows})
        shape, etag = plan.shape, plan.etag
        built = [(shape.build(values, etag=etag), values) for values in found]
        for branch in plan.branches:
            for row, values in built:
                self._grow(plan.table, branch, row, values)
        return built

    def _grow(
        self, table: Table, branch: _Branch, row: dict[str, Any], values: tuple[Any, ...]
    ) -> None:
        name, row_id = branch.expand.nav, values[branch.id_at]
        if not branch.nav.is_collection:
            kind = values[branch.type_at] if branch.type_at is not None else branch.nav.target
            row[name] = self._one(branch, row_id, kind)
            return
        assert branch.plan is not None
        asked = branch.expand.asked
        nested = not branch.plan.etag
        limit = asked.top if asked.top is not None else PAGE_ROWS_MAX
        if nested and self._wants.page_rows is not None:
            limit = self._wants.page_rows
        rows = self._run(branch.plan, key=row_id, rows=limit + 1)
        options = [f"{k}={v}" for k, v in asked.text]
        if len(rows) > limit:
            del rows[limit:]
            if nested and rows:
                first, last = rows[0][1], rows[-1][1]
                marks = [Mark(n, last[at], first[at]) for n, at in branch.plan.marks]
                options.append(f"$skiptoken={skip_token(1, marks)}")
        row[name] = [one for one, _ in rows]
        # Given even when there is nothing more (join-tables, "Single $expand").
        link = f"{self._base}/{table.set_name}({row_id})/{name}"
        if options:
            link += "?" + "&".join(quote(o, safe="=/$,()';:@!*-._~") for o in options)
        row[f"{name}@odata.nextLink"] = link

    def _one(self, branch: _Branch, row_id: str | None, kind: str) -> dict[str, Any] | None:
        nav = branch.nav
        if row_id is None or (nav.target not in {kind, "principal"}):
            return None
        if row_id not in branch.seen:
            if branch.expand.reference:
                target = self._schema[kind]
                found: dict[str, Any] | None = {
                    "@odata.id": f"{self._base}/{target.set_name}({row_id})"
                }
            elif branch.plan is None:
                found = self._concrete(self._schema[nav.target], row_id, branch.expand.asked)
            else:
                rows = self._run(branch.plan, key=row_id, rows=1)
                found = rows[0][0] if rows else None
            branch.seen[row_id] = found
        return branch.seen[row_id]

    def _concrete(self, base: Table, row_id: str, asked: Asked) -> dict[str, Any] | None:
        """A row behind an abstract type: what it really is, with its @odata.type."""
        for name in asked.select or ():
            if name not in base.by_property:
                raise no_property(name, base.logical)
        kind = self._store.one(
            f"SELECT kind FROM {base.logical} WHERE {base.pk} = ?",  # noqa: S608
            (row_id,),
        )
        if kind is None:
            return None
        table = self._schema[kind[0]]
        row = self.row(table, row_id, asked)
        if row is None:
            return None
        return {"@odata.type": f"#{table.type_name}", **row}

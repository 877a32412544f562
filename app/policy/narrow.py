"""A granted request made as narrow as its grant: `$select` added, row filters joined in.

Narrowing what is narrow already changes nothing, which is how a continuation is checked: what
was sealed must need no change under today's policy.
"""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from app.odata.access import ALL, Columns
from app.odata.body import Record
from app.odata.fetchxml import Fetch, Node
from app.odata.query import ALL_PROPERTIES, Expand, FilterStep, Query, aggregates
from app.odata.reading import Targets
from app.odata.tree import Expression, both, conjuncts

if TYPE_CHECKING:
    from app.odata.reading import Body, Rows
    from app.policy.grants import Grant
    from app.schema.model import Table


class Narrower:
    def __init__(self, grant: Grant) -> None:
        self._grant = grant
        self._schema = grant.schema

    # ------------------------------------------------------------- queries

    def query(self, query: Query, rows: Rows) -> Query:
        """A request's own query, over the rows that come back."""
        table = self._schema.tables[rows.type_name]
        if query.fetch is not None:
            fetch = self._fetch(query.fetch, table)
            return query if fetch is query.fetch else replace(query, fetch=fetch)
        if query.opaque is not None:
            return query
        if rows.collection:
            query = self._filtered(query, rows.sets)
        if not rows.selects:
            return query
        return self._selected(query, table, rows.sets)

    def _filtered(self, query: Query, sets: tuple[str, ...]) -> Query:
        row_filter = self._grant.filter_of(sets[0]) if len(sets) == 1 else None
        if row_filter is None:
            return query
        if query.apply:
            first = FilterStep(row_filter.condition)
            return query if query.apply[0] == first else replace(query, apply=(first, *query.apply))
        condition = _joined(query.filter, row_filter.condition)
        return query if condition is query.filter else replace(query, filter=condition)

    def _selected(self, query: Query, table: Table, sets: tuple[str, ...]) -> Query:
        changes: dict[str, Any] = {}
        if not aggregates(query.apply) and query.select in {None, ALL_PROPERTIES}:
            names = self._selectable(table, sets)
            if names is not None and not query.apply:
                changes["select"] = names
        expanded = tuple(self._expanded(item, table) for item in query.expand)
        if any(a is not b for a, b in zip(expanded, query.expand, strict=True)):
            changes["expand"] = expanded
        return replace(query, **changes) if changes else query

    def _selectable(self, table: Table, sets: tuple[str, ...]) -> tuple[str, ...] | None:
        """The readable properties, or None where all are. Of several tables, what all share."""
        names: tuple[str, ...] | None = None
        for name in sets:
            rights = self._grant.rights(name)
            if rights is None or rights.readable is ALL:
                continue
            mine = tuple(n for n in rights.selectable if n in table.properties)
            names = mine if names is None else tuple(n for n in names if n in mine)
        if names == ():
            return (table.primary_key,)
        return names

    def _expanded(self, item: Expand, table: Table) -> Expand:
        navigation = table.navigations.get(item.navigation)
        if navigation is None:
            return item
        type_name = item.cast.rpartition(".")[2] if item.cast else navigation.target
        sets = self._schema.sets_of(type_name)
        if sets is None:
            return item
        query = item.query
        if navigation.collection:
            query = self._filtered(query, sets)
        if item.suffix is None:
            query = self._selected(query, self._schema.tables[type_name], sets)
        return item if query is item.query else replace(item, query=query)

    # ------------------------------------------------------------ FetchXML

    def _fetch(self, fetch: Fetch, table: Table) -> Fetch:
        entity = self._entity(fetch.entity, table, root=True, aggregate=fetch.aggregate)
        if entity is fetch.entity:
            return fetch
        return replace(fetch, root=replace(fetch.root, children=(entity,)))

    def _entity(self, node: Node, table: Table, *, root: bool, aggregate: bool) -> Node:
        children = list(node.children)
        entity_set = table.entity_set or ""
        rights = self._grant.rights(entity_set)
        readable: Columns = ALL if rights is None else rights.readable
        if readable is not ALL:
            children = _without_no_attributes(children, table, root=root and not aggregate)
        everything = any(c.tag == "all-attributes" for c in children)
        named = any(c.tag == "attribute" for c in children)
        if readable is not ALL and (everything or (root and not named and not aggregate)):
            assert rights is not None
            listed = {c.get("name") for c in children if c.tag == "attribute"}
            columns = [table.properties[p].column for p in rights.selectable]
            children = [c for c in children if c.tag != "all-attributes"]
            children[:0] = [Node("attribute", (("name", c),)) for c in columns if c not in listed]
        children = [self._inner(c) for c in children]
        row_filter = self._grant.filter_of(entity_set)
        if row_filter is not None:
            children = _with_filter(children, row_filter.fetch)
        return _with_children(node, children)

    def _inner(self, node: Node) -> Node:
        """Links, and those that stand in filters."""
        if node.tag == "filter":
            return _with_children(node, [self._inner(c) for c in node.children])
        if node.tag != "link-entity":
            return node
        table = self._schema.tables.get(node.get("name") or "")
        return node if table is None else self._entity(node, table, root=False, aggregate=False)

    # -------------------------------------------------------------- bodies

    def body(self, body: Body) -> Body:
        """Rows that are created in a filtered table get the columns that its filter asks for."""
        if not self._grant.filters_rows:
            return body
        if isinstance(body, Record):
            return self._record(body)
        if isinstance(body, Targets):
            return Targets(tuple(self._record(r) for r in body.records))
        return body

    def _record(self, record: Record) -> Record:
        members = tuple((name, self._member(value)) for name, value in record.members)
        row_filter = self._grant.filter_of(record.entity_set) if record.creates else None
        if row_filter is not None and row_filter.sets is not None:
            present = {name for name, _ in members}
            members += tuple((n, v) for n, v in row_filter.sets if n not in present)
        if members == record.members:
            return record
        return replace(record, members=members)

    def _member(self, value: Any) -> Any:
        if isinstance(value, Record):
            return self._record(value)
        if isinstance(value, tuple):
            return tuple(self._member(v) for v in value)
        return value


def _with_children(node: Node, children: list[Node]) -> Node:
    if len(children) == len(node.children) and all(map(is_, children, node.children)):
        return node
    return replace(node, children=tuple(children))


def _without_no_attributes(children: list[Node], table: Table, *, root: bool) -> list[Node]:
    """`<no-attrs/>` asks for keys alone, but not every reader knows it: then it is everything."""
    if not any(c.tag == "no-attrs" for c in children):
        return children
    kept = [c for c in children if c.tag != "no-attrs"]
    if root and not any(c.tag == "attribute" for c in kept):
        kept.insert(0, Node("attribute", (("name", table.primary_key),)))
    return kept


def _with_filter(children: list[Node], more: Node) -> list[Node]:
    """All filters under one `and`, so that no reading of several side by side lets a row pass."""
    filters = [c for c in children if c.tag == "filter"]
    if len(filters) == 1 and _demands(filters[0], more):
        return children
    joined = Node("filter", (("type", "and"),), (more, *filters)) if filters else more
    return [*(c for c in children if c.tag != "filter"), joined]


def _demands(node: Node, more: Node) -> bool:
    return node == more or ((node.get("type") or "and") == "and" and more in node.children)


def _joined(condition: Expression | None, more: Expression) -> Expression:
    present = conjuncts(condition)
    if condition is not None and all(c in present for c in conjuncts(more)):
        return condition
    return both(more, condition) if condition is not None else more

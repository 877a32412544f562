"""What a sealed continuation names only because the grant itself put it there.

A row filter may stand on a column that the caller cannot read. On the next page it comes back
as part of the link, and must not count as the caller's own question. It does count when the
link names the column anywhere else as well: that was another policy's permission.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.odata.query import FilterStep, GroupStep
from app.odata.tree import Lambda, Literal, Member, children, conjuncts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.odata.fetchxml import Node
    from app.odata.query import Query
    from app.odata.reading import Reading
    from app.odata.tree import Expression
    from app.policy.grants import Grant, RowFilter
    from app.schema.model import Table


def own_columns(grant: Grant, reading: Reading) -> Mapping[str, frozenset[str]]:
    """By entity set: columns that stand nowhere but in the row filters of today's grant."""
    if reading.returns is None or not grant.filters_rows:
        return {}
    link = _Link(grant)
    for segment in reading.path:
        link.named.add(segment.name)
        link.named.update(name for name, _ in segment.arguments or () if name is not None)
    table = grant.schema.tables[reading.returns.type_name]
    link.query(reading.query, table, collection=reading.returns.collection)
    steps = len(reading.path) > 1 or bool(reading.query.expand)
    return {
        entity_set: frozenset(
            c for c in row_filter.columns if not link.names_besides(entity_set, c, steps=steps)
        )
        for entity_set, row_filter in link.filters.items()
    }


@dataclass(slots=True)
class _Link:
    """A link taken apart: the filters that the grant adds, and every other name."""

    grant: Grant
    filters: dict[str, RowFilter] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)

    def names_besides(self, entity_set: str, column: str, *, steps: bool) -> bool:
        known = self.grant.schema.sets[entity_set].columns[column]
        if known.is_lookup and steps:
            # Navigation names lookups by other names, from either side.
            return True
        return not self.named.isdisjoint({column, known.name, f"{column}name"})

    def query(self, query: Query, table: Table, *, collection: bool) -> None:
        row_filter = self.grant.filter_of(table.entity_set or "") if collection else None
        if query.fetch is not None:
            self.named.update(query.fetch.cookie_columns)
            self._entity(query.fetch.entity)
            return
        self.named.update(query.select or ())
        self._expressions(key for key, _ in query.orderby)
        self._expressions(value for _, value in query.aliases)
        self._filter(query.filter, table, None if query.apply else row_filter)
        for index, step in enumerate(query.apply):
            if isinstance(step, GroupStep):
                self._group(step)
            elif index or row_filter is None or step != FilterStep(row_filter.condition):
                self._expressions([step.condition])
            else:
                self.filters[table.entity_set or ""] = row_filter
        for item in query.expand:
            self.named.add(item.navigation)
            navigation = table.navigations.get(item.navigation)
            target = None if navigation is None else self.grant.schema.tables[navigation.target]
            if target is not None and navigation is not None and item.cast is None:
                self.query(item.query, target, collection=navigation.collection)

    def _filter(
        self, condition: Expression | None, table: Table, row_filter: RowFilter | None
    ) -> None:
        parts = list(conjuncts(condition))
        if row_filter is not None:
            own = conjuncts(row_filter.condition)
            if all(part in parts for part in own):
                self.filters[table.entity_set or ""] = row_filter
                parts = [part for part in parts if part not in own]
        self._expressions(parts)

    def _group(self, step: GroupStep) -> None:
        for path in step.keys or ():
            self.named.update(path)
        self._expressions(a.source for a in step.aggregates if a.source is not None)

    def _expressions(self, nodes: Iterable[Expression]) -> None:
        pending = list(nodes)
        while pending:
            node = pending.pop()
            if isinstance(node, (Member, Lambda)):
                self.named.update(node.path)
            elif isinstance(node, Literal) and (said := node.string()) is not None:
                # A query function names its column in a string.
                self.named.add(said)
            pending.extend(children(node))

    def _entity(self, node: Node) -> None:
        table = self.grant.schema.tables.get(node.get("name") or "")
        row_filter = self.grant.filter_of(table.entity_set or "") if table is not None else None
        for child in node.children:
            if row_filter is None or table is None or not _demands(child, row_filter.fetch):
                self._node(child)
                continue
            self.filters[table.entity_set or ""] = row_filter
            for inner in () if child == row_filter.fetch else child.children:
                if inner != row_filter.fetch:
                    self._node(inner)

    def _node(self, node: Node) -> None:
        if node.tag == "link-entity":
            self.named.update(node.get(name) or "" for name in ("from", "to"))
            self._entity(node)
            return
        for _, value in node.attributes:
            self.named.add(value)
            self.named.add(value.rpartition(".")[2])
        for child in node.children:
            self._node(child)


def _demands(node: Node, more: Node) -> bool:
    if node.tag != "filter":
        return False
    return node == more or ((node.get("type") or "and") == "and" and more in node.children)

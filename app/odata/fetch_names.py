"""FetchXML's names resolved against the schema: which tables and columns it would read.

Unlike `$expand`, a link joins any table by any two columns, so both of these are read as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.errors import Unreadable
from app.odata.demands import Opaque, Unknown
from app.odata.resolve import Scope

if TYPE_CHECKING:
    from app.odata.fetchxml import Fetch, Node
    from app.odata.resolve import Resolver
    from app.schema.model import Property, Table

_HIERARCHY = frozenset({"above", "eq-or-above", "under", "eq-or-under", "not-under"})
_ROW_LINKS = frozenset({"inner", "outer", "natural", "matchfirstrowusingcrossapply"})
"""Links whose rows come back beside the entity's own; others only ask whether there are any."""
_FILTERABLE_LINKS = frozenset({"inner", "outer", "natural", "exists", "in"})
"""Links in which a filter means that only rows it lets through are joined."""


def resolve_fetch(resolver: Resolver, fetch: Fetch, scope: Scope) -> None:
    """Note what it reads, its entity being the path's table. Raises `Unreadable`."""
    name = fetch.entity.get("name") or ""
    if name != scope.table.name:
        if name not in resolver.schema.tables:
            resolver.found.demand(Unknown(name))
            return
        raise Unreadable("bad-fetchxml", "fetchXml reads another entity than the path's table")
    if fetch.root.get("datasource") is not None:
        resolver.found.demand(Opaque("datasource"))
    resolver.found.read(scope.sets)
    reader = _FetchReader(resolver, fetch)
    reader.entity(fetch.entity, scope)
    for column in fetch.cookie_columns:
        reader.cookie_column(column, scope)


def fetch_property(table: Table, name: str) -> Property | None:
    """By its logical name, or a lookup by its display name (`primarycontactidname`)."""
    known = table.columns.get(name)
    if known is None and name.endswith("name"):
        lookup = table.columns.get(name[: -len("name")])
        known = lookup if lookup is not None and lookup.is_lookup else None
    return known


def fetch_column(resolver: Resolver, scope: Scope, name: str) -> None:
    known = fetch_property(scope.table, name)
    if known is None:
        resolver.unknown(scope, name)
    else:
        resolver.found.read(scope.sets, known.column)


@dataclass(slots=True)
class _FetchReader:
    """One query. What names other links comes last, when all of them are known."""

    resolver: Resolver
    fetch: Fetch
    _named: dict[str, Scope | None] = field(default_factory=dict)
    """By link alias, or entity name where there is none; None where the schema knows no such
    table, which has been noted.
    """
    _figures: set[str] = field(default_factory=set)
    """Aliases of attributes."""
    _filters: list[tuple[Node, Scope]] = field(default_factory=list)
    _orders: list[tuple[Node, Scope, frozenset[str | None]]] = field(default_factory=list)

    def entity(self, node: Node, scope: Scope) -> None:
        self._named[node.get("name") or ""] = scope
        self._rows(node, scope, root=True)
        for order, at, aliases in self._orders:
            self._order(order, at, aliases)
        for condition, at in self._filters:
            self._condition(condition, at)

    def _rows(self, node: Node, scope: Scope, *, root: bool = False) -> None:
        attributes = tuple(node.find("attribute"))
        for attribute in attributes:
            fetch_column(self.resolver, scope, attribute.get("name") or "")
        aliases = frozenset(a.get("alias") for a in attributes)
        self._figures.update(a for a in aliases if a is not None)
        everything = any(c.tag == "all-attributes" for c in node.children)
        nothing = any(c.tag == "no-attrs" for c in node.children)
        unnamed = root and not attributes and not nothing and not self.fetch.aggregate
        if everything or unnamed:
            self.resolver.found.read_all(scope.sets)
        self._orders.extend((order, scope, aliases) for order in node.find("order"))
        for link in node.find("link-entity"):
            self._link(link, scope)
        for inner in node.find("filter"):
            self._filter(inner, scope)

    def _filter(self, node: Node, scope: Scope) -> None:
        for child in node.children:
            if child.tag == "condition":
                self._filters.append((child, scope))
            elif child.tag == "filter":
                self._filter(child, scope)
            else:
                self._link(child, scope, inside_filter=True)

    def _link(self, node: Node, parent: Scope, *, inside_filter: bool = False) -> None:
        resolver = self.resolver
        depth = parent.depth + 1
        if depth > resolver.depth_max:
            raise Unreadable(
                "limit-exceeded", f"link-entity goes deeper than this grant's {resolver.depth_max}"
            )
        fetch_column(resolver, parent, node.get("to") or "")
        name = node.get("name") or ""
        table = resolver.schema.tables.get(name)
        scope: Scope | None = None
        if table is None or table.entity_set is None:
            resolver.found.demand(Unknown(name))
        else:
            scope = Scope(table, resolver.scope(table).sets, depth)
        self._name(node.get("alias"), name, scope)
        if scope is None:
            return
        resolver.found.read(scope.sets)
        fetch_column(resolver, scope, node.get("from") or "")
        kind = node.get("link-type") or "inner"
        if inside_filter or kind not in _FILTERABLE_LINKS:
            resolver.found.unfilterable(scope.sets, "link type")
        if (inside_filter or kind not in _ROW_LINKS) and any(node.find("order")):
            raise Unreadable("bad-fetchxml", "fetchXml orders by a link that gives no rows")
        self._rows(node, scope)

    def _name(self, alias: str | None, table: str, scope: Scope | None) -> None:
        called = table if alias is None else alias
        if called not in self._named:
            self._named[called] = scope
            return
        other = self._named[called]
        same = other is not None and scope is not None and other.table is scope.table
        # Two links without an alias to one table may share its name: the columns are the same.
        if alias is not None or not same:
            raise Unreadable("bad-fetchxml", "fetchXml uses a name for two links: give aliases")

    # ---------------------------------------------- what may name other links

    def _at(self, name: str | None, scope: Scope | None, what: str) -> Scope | None:
        if name is None:
            return scope
        if name not in self._named:
            raise Unreadable("bad-fetchxml", f"fetchXml has {what} that no link has")
        return self._named[name]

    def _order(self, node: Node, scope: Scope, aliases: frozenset[str | None]) -> None:
        attribute, alias = node.get("attribute"), node.get("alias")
        if attribute is not None:
            self._column(self._at(node.get("entityname"), scope, "an entityname"), attribute)
        elif alias is None:
            raise Unreadable("bad-fetchxml", "fetchXml has an order without attribute or alias")
        if alias is not None and alias not in aliases:
            raise Unreadable("bad-fetchxml", "fetchXml orders by an alias that no attribute has")

    def _condition(self, node: Node, scope: Scope) -> None:
        at = self._at(node.get("entityname"), scope, "an entityname")
        self._column(at, node.get("attribute") or "")
        if at is not None and (node.get("operator") or "").lower() in _HIERARCHY:
            self.resolver.hierarchy(at)
        other = node.get("valueof")
        if other is not None:
            alias, dot, column = other.rpartition(".")
            self._column(self._at(alias if dot else None, at, "a valueof"), column)

    def _column(self, scope: Scope | None, name: str) -> None:
        if scope is not None:
            fetch_column(self.resolver, scope, name)

    def cookie_column(self, name: str, scope: Scope) -> None:
        """A column of the entity, `alias.column` of a link, or what an attribute is called."""
        alias, dot, column = name.rpartition(".")
        if dot and alias in self._named:
            self._column(self._named[alias], column)
        elif name not in self._figures or fetch_property(scope.table, name) is not None:
            fetch_column(self.resolver, scope, name)

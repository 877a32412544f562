"""Names resolved against the schema: navigation, casts and columns, each noted as a read.

`conditions` resolves expressions with it, `row_queries` whole queries, `fetch_names` FetchXML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.errors import Unreadable
from app.odata.demands import Unknown
from app.odata.tree import Alias, children
from app.schema.model import NAMESPACE, Table

if TYPE_CHECKING:
    from app.odata.demands import Findings
    from app.odata.tree import Expression
    from app.schema.model import Navigation, Schema

ALIAS_TERMS_MAX = 5000
"""Nodes visited through aliases in one request: each use of an alias is read anew."""


class Scope(msgspec.Struct, frozen=True):
    """Rows of a type, and the entity sets that they may come from (several where abstract).

    `depth` counts the navigation properties from where a path, or `$expand`, begins.
    """

    table: Table
    sets: tuple[str, ...]
    depth: int = 0

    def afresh(self) -> Scope:
        """The same rows as the beginning of another path."""
        return self if self.depth == 0 else Scope(self.table, self.sets)


class Resolver(msgspec.Struct):
    """One request's names. `depth_max` bounds every path, and how deep `$expand` nests."""

    schema: Schema
    found: Findings
    depth_max: int
    aliases: dict[str, Expression] = {}
    used: set[str] = set()
    _alias_work: int = 0

    def scope(self, table: Table) -> Scope:
        """The rows of a table's own set, from which a path, a link or a reference starts."""
        sets = self.schema.sets_shown(table)
        if len(sets) > 1:
            self.found.unfilterable(sets, "abstract navigation")
        return Scope(table, sets)

    def follow(self, source: Scope, navigation: Navigation) -> Scope | None:
        """The far side, its own accesses noted; None where the schema cannot say."""
        depth = source.depth + 1
        if depth > self.depth_max:
            raise Unreadable(
                "limit-exceeded", f"navigation goes deeper than this grant's {self.depth_max}"
            )
        sets = self.schema.sets_of(navigation.target)
        if sets is None or navigation.unclear:
            self.unknown(source, navigation.name)
            return None
        if navigation.collection:
            self.found.read(source.sets)
            back = () if navigation.column is None else (navigation.column,)
            self.found.read(sets, *back)
        else:
            assert navigation.column is not None
            self.found.read(source.sets, navigation.column)
            self.found.read(sets)
        if len(sets) > 1:
            self.found.unfilterable(sets, "abstract navigation")
        return Scope(self.schema.tables[navigation.target], sets, depth)

    def cast(self, scope: Scope, qualified: str) -> Scope | None:
        """To the type itself or one derived from it; the target needs its own grant."""
        namespace, _, name = qualified.rpartition(".")
        table = self.schema.tables.get(name)
        sets = None
        if namespace == NAMESPACE and self.schema.derives(name, scope.table.name):
            sets = self.schema.sets_of(name)
        if table is None or sets is None:
            self.unknown(scope, qualified)
            return None
        self.found.read(scope.sets)
        self.found.read(sets)
        if table is not scope.table:
            self.found.unfilterable(scope.sets, "cast")
        return Scope(table, sets, scope.depth)

    def column(self, scope: Scope, name: str) -> None:
        """A property, or a lookup by its navigation property."""
        known = scope.table.properties.get(name)
        if known is not None:
            self.found.read(scope.sets, known.column)
            return
        navigation = scope.table.navigations.get(name)
        if navigation is not None and not navigation.collection and navigation.column:
            self.found.read(scope.sets, navigation.column)
            return
        self.unknown(scope, name)

    def hierarchy(self, scope: Scope) -> None:
        """Rows above or below another one are found by a lookup that nobody names, and through
        rows that a filter hides. $metadata does not say which of the lookups it is.
        """
        table = scope.table
        for navigation in table.navigations.values():
            if navigation.target == table.name and not navigation.collection and navigation.column:
                self.found.read(scope.sets, navigation.column)
        self.found.unfilterable(scope.sets, "hierarchy operator")

    def unknown(self, scope: Scope, name: str) -> None:
        for table in scope.sets:
            self.found.demand(Unknown(name, table))

    def alias(self, node: Alias) -> Expression:
        """What it stands for. Each use is read where it stands, so uses are bounded."""
        value = self.aliases.get(node.name)
        if value is None:
            raise Unreadable("bad-query", f"the alias {node.name} has no value")
        self.used.add(node.name)
        self._alias_work += self._size(value, node.name)
        if self._alias_work > ALIAS_TERMS_MAX:
            raise Unreadable("limit-exceeded", "aliases are used too often; write the values out")
        return value

    def _size(self, node: Expression, name: str) -> int:
        """How many nodes it has; none of them may be an alias again."""
        if isinstance(node, Alias):
            raise Unreadable("bad-query", f"the alias {name} names another alias")
        return 1 + sum(self._size(c, name) for c in children(node))

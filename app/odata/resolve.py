"""Names resolved against the schema: which tables and columns a query would read.

Everything that an expression names is a read: what may not be read may not be filtered, sorted
or grouped on either, since an answer's rows or order would tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.errors import Unreadable
from app.odata.demands import Findings, Opaque, Unknown, WholeRows
from app.odata.query import ALL_PROPERTIES, FilterStep, Query, aggregates
from app.odata.tree import (
    Alias,
    Binary,
    Entry,
    Expression,
    Function,
    Lambda,
    Listed,
    Literal,
    Logical,
    Member,
    Named,
    Unary,
)

if TYPE_CHECKING:
    from app.odata.fetchxml import Fetch, Node
    from app.schema.model import Navigation, Schema, Table

ALIAS_TERMS_MAX = 5000
"""Nodes visited through aliases in one request: each use of an alias is read anew."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Rows of a type, and the entity sets that they may come from (several where abstract)."""

    table: Table
    sets: tuple[str, ...]
    depth: int = 0


@dataclass(slots=True)
class Resolver:
    """One request's names. `depth_max` bounds navigation, wherever it stands."""

    schema: Schema
    found: Findings
    depth_max: int
    aliases: dict[str, Expression] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    _alias_work: int = 0

    # -------------------------------------------------------------- scopes

    def scope(self, table: Table) -> Scope:
        assert table.entity_set is not None
        return Scope(table, (table.entity_set,))

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
        target = Scope(self.schema.tables[navigation.target], sets, depth)
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
        return target

    def cast(self, scope: Scope, qualified: str) -> Scope | None:
        """To the type itself or one derived from it; the target needs its own grant."""
        name = qualified.rpartition(".")[2]
        table = self.schema.tables.get(name)
        if table is None or not self.schema.derives(name, scope.table.name):
            self.unknown(scope, qualified)
            return None
        sets = self.schema.sets_of(name)
        if sets is None:
            self.unknown(scope, qualified)
            return None
        self.found.read(scope.sets)
        self.found.read(sets)
        if table is not scope.table:
            self.found.unfilterable(scope.sets, "cast")
        return Scope(table, sets, scope.depth)

    def unknown(self, scope: Scope, name: str) -> None:
        for table in scope.sets:
            self.found.demand(Unknown(name, table))

    # ------------------------------------------------------------- queries

    def rows(self, scope: Scope | None, query: Query, *, collection: bool) -> None:
        """A query over rows that come back. Without a scope, only aliases are looked at."""
        if query.apply:
            self._apply(scope, query)
        elif scope is not None:
            self._select(scope, query)
        for item in query.expand:
            self._expand(scope, item.navigation, item.cast, item.suffix, item.query)
        if not query.apply:
            self.conditions(scope, query)
        if scope is not None and not collection and (query.filter or query.orderby):
            raise Unreadable("bad-query", "$filter and $orderby need a collection")

    def conditions(
        self, scope: Scope | None, query: Query, figures: frozenset[str] = frozenset()
    ) -> None:
        """`$filter` and `$orderby`."""
        if query.filter is not None:
            self.expression(query.filter, scope, figures=figures)
        for key, _ in query.orderby:
            self.expression(key, scope, figures=figures)

    def _select(self, scope: Scope, query: Query) -> None:
        if query.select is None or query.select == ALL_PROPERTIES:
            self.found.read_all(scope.sets)
            return
        self.found.read(scope.sets)
        for name in query.select:
            self.column(scope, name)

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

    def _expand(
        self, scope: Scope | None, name: str, cast: str | None, suffix: str | None, query: Query
    ) -> None:
        navigation = None if scope is None else scope.table.navigations.get(name)
        if scope is None or navigation is None:
            if scope is not None:
                self.unknown(scope, name)
            self.rows(None, query, collection=True)
            return
        if not navigation.collection and (query.filter or query.orderby or query.top is not None):
            raise Unreadable(
                "bad-query", f"$filter, $orderby and $top need a collection; {name} is one row"
            )
        if suffix == "$count" and not navigation.collection:
            raise Unreadable("bad-query", f"$count needs a collection; {name} is one row")
        target = self.follow(scope, navigation)
        if target is not None and cast is not None:
            target = self.cast(target, cast)
        if target is not None and not navigation.collection and suffix is None:
            self.found.unfilterable(target.sets, "single-valued navigation")
        if suffix is not None:
            if query.select or query.expand:
                raise Unreadable("bad-query", f"{suffix} in $expand takes no $select or $expand")
            self.conditions(target, query)
            if target is not None and suffix == "$count":
                self.found.unfilterable(target.sets, "count in an expression")
            return
        self.rows(target, query, collection=navigation.collection)

    def _apply(self, scope: Scope | None, query: Query) -> None:
        figures: set[str] = set()
        for step in query.apply:
            known = frozenset(figures)
            if isinstance(step, FilterStep):
                self.expression(step.condition, scope, figures=known)
                continue
            for path in step.keys or ():
                self.expression(Member(path), scope, figures=known)
            for figure in step.aggregates:
                if figure.source is not None:
                    self.expression(figure.source, scope, figures=known)
                figures.add(figure.alias)
        if scope is not None:
            self.found.read(scope.sets)
            if not aggregates(query.apply):
                for name in scope.sets:
                    self.found.demand(WholeRows(name, "$apply without groupby or aggregate"))
        self.conditions(scope, query, frozenset(figures))

    # --------------------------------------------------------- expressions

    def expression(
        self,
        node: Expression,
        scope: Scope | None,
        *,
        variables: dict[str, Scope | None] | None = None,
        figures: frozenset[str] = frozenset(),
    ) -> None:
        """Note the accesses of every name in it. `figures` are aliases that `$apply` made."""
        bound = variables or {}
        if isinstance(node, Member):
            self._member(node.path, scope, bound, figures)
        elif isinstance(node, Logical):
            for operand in node.operands:
                self.expression(operand, scope, variables=bound, figures=figures)
        elif isinstance(node, Binary):
            self.expression(node.left, scope, variables=bound, figures=figures)
            self.expression(node.right, scope, variables=bound, figures=figures)
        elif isinstance(node, Function):
            for argument in node.arguments:
                self.expression(argument, scope, variables=bound, figures=figures)
        elif isinstance(node, Unary):
            self.expression(node.operand, scope, variables=bound, figures=figures)
        elif isinstance(node, Listed):
            for item in node.items:
                self.expression(item, scope, variables=bound, figures=figures)
        elif isinstance(node, Alias):
            self.expression(self.alias(node), scope, variables=bound, figures=figures)
        elif isinstance(node, Lambda):
            self._lambda(node, scope, bound)
        elif isinstance(node, Named):
            self._query_function(node, scope)
        elif isinstance(node, Entry):
            raise Unreadable("bad-expression", "an object cannot stand in an expression")

    def alias(self, node: Alias) -> Expression:
        """What it stands for. Each use is read where it stands, so uses are bounded."""
        value = self.aliases.get(node.name)
        if value is None:
            raise Unreadable("bad-query", f"the alias {node.name} has no value")
        if isinstance(value, Alias):
            raise Unreadable("bad-query", f"the alias {node.name} names another alias")
        self.used.add(node.name)
        self._alias_work += _size(value)
        if self._alias_work > ALIAS_TERMS_MAX:
            raise Unreadable("limit-exceeded", "aliases are used too often; write the values out")
        if _has_alias(value):
            raise Unreadable("bad-query", f"the alias {node.name} names another alias")
        return value

    def _member(
        self,
        path: tuple[str, ...],
        scope: Scope | None,
        variables: dict[str, Scope | None],
        figures: frozenset[str],
    ) -> None:
        at = scope
        steps = path
        if path[0] in variables:
            at = variables[path[0]]
            steps = path[1:]
            if not steps:
                raise Unreadable("bad-expression", "a variable stands for a row, not for a value")
        elif len(path) == 1 and path[0] in figures:
            # Named like a column, a figure may be taken for that column.
            if at is not None and path[0] in at.table.properties:
                self.column(at, path[0])
            return
        for index, step in enumerate(steps):
            if at is None:
                return
            last = index == len(steps) - 1
            if step == "$count":
                raise Unreadable("bad-expression", "$count stands behind a collection")
            if "." in step:
                at = self.cast(at, step)
                continue
            known = at.table.properties.get(step)
            if known is not None:
                if not last:
                    raise Unreadable("bad-expression", "a column has no parts")
                self.found.read(at.sets, known.column)
                return
            navigation = at.table.navigations.get(step)
            if navigation is None:
                self.unknown(at, step)
                return
            if navigation.collection:
                self._counted(at, navigation, steps[index + 1 :])
                return
            if last:
                self.column(at, step)
                return
            at = self.follow(at, navigation)
            if at is not None:
                self.found.unfilterable(at.sets, "single-valued navigation")

    def _counted(self, scope: Scope, navigation: Navigation, rest: tuple[str, ...]) -> None:
        target = self.follow(scope, navigation)
        if rest != ("$count",):
            raise Unreadable(
                "bad-expression", "a collection needs any(…), all(…) or $count behind it"
            )
        if target is not None:
            self.found.unfilterable(target.sets, "count in an expression")

    def _lambda(
        self, node: Lambda, scope: Scope | None, variables: dict[str, Scope | None]
    ) -> None:
        at = scope
        steps = node.path
        if steps[0] in variables:
            at = variables[steps[0]]
            steps = steps[1:]
            if not steps:
                raise Unreadable("bad-expression", "any and all stand behind a collection")
        for index, step in enumerate(steps):
            if at is None:
                break
            if "." in step:
                at = self.cast(at, step)
                continue
            navigation = at.table.navigations.get(step)
            if navigation is None:
                self.unknown(at, step)
                at = None
                break
            last = index == len(steps) - 1
            if navigation.collection != last:
                raise Unreadable("bad-expression", "any and all stand behind a collection")
            at = self.follow(at, navigation)
            if at is not None:
                how = "lambda" if last else "single-valued navigation"
                self.found.unfilterable(at.sets, how)  # type: ignore[arg-type]
        if node.body is None or node.variable is None:
            return
        if node.variable in variables or (
            scope is not None
            and (
                node.variable in scope.table.properties or node.variable in scope.table.navigations
            )
        ):
            raise Unreadable(
                "bad-expression", "a variable has the name of a column or of another variable"
            )
        self.expression(node.body, scope, variables={**variables, node.variable: at})

    def _query_function(self, node: Named, scope: Scope | None) -> None:
        """`Microsoft.Dynamics.CRM.In(PropertyName='x',…)`: the column stands in a string."""
        named: str | None = None
        for name, value in node.parameters:
            said = self.alias(value) if isinstance(value, Alias) else value
            if name.lower() == "propertyname":
                if name != "PropertyName":
                    raise Unreadable("bad-expression", "PropertyName is written in another case")
                named = said.string() if isinstance(said, Literal) else None
                if named is None:
                    raise Unreadable("bad-expression", "PropertyName is a string")
            else:
                _constant(said)
        if named is None:
            raise Unreadable("bad-expression", "a query function names its column: PropertyName")
        if scope is None:
            return
        table = scope.table
        known = table.properties.get(named) or table.columns.get(named)
        if known is not None:
            self.found.read(scope.sets, known.column)
        else:
            self.column(scope, named)

    # ------------------------------------------------------------ FetchXML

    def fetch(self, fetch: Fetch, scope: Scope) -> None:
        entity = fetch.entity
        if entity.get("name") != scope.table.name:
            raise Unreadable("bad-fetchxml", "fetchXml reads another entity than the path's table")
        if fetch.root.get("datasource") is not None:
            self.found.demand(Opaque("datasource"))
        self.found.read(scope.sets)
        names = {"": scope, entity.get("name") or "": scope}
        _FetchReader(self, fetch, names).entity(entity, scope, root=True)
        for column in fetch.cookie_columns:
            if column not in names:
                fetch_column(self, scope, column)


def _constant(node: Expression) -> None:
    if isinstance(node, Listed):
        for item in node.items:
            _constant(item)
    elif not isinstance(node, Literal):
        if isinstance(node, Unary) and isinstance(node.operand, Literal):
            return
        raise Unreadable("bad-expression", "a query function takes constants beside PropertyName")


def children(node: Expression) -> tuple[Expression, ...]:
    if isinstance(node, Logical):
        return node.operands
    if isinstance(node, Binary):
        return (node.left, node.right)
    if isinstance(node, Function):
        return node.arguments
    if isinstance(node, Listed):
        return node.items
    if isinstance(node, Unary):
        return (node.operand,)
    if isinstance(node, Named):
        return tuple(v for _, v in node.parameters)
    if isinstance(node, Entry):
        return tuple(v for _, v in node.members)
    if isinstance(node, Lambda) and node.body is not None:
        return (node.body,)
    return ()


def _size(node: Expression) -> int:
    return 1 + sum(_size(c) for c in children(node))


def _has_alias(node: Expression) -> bool:
    return isinstance(node, Alias) or any(_has_alias(c) for c in children(node))


def fetch_column(resolver: Resolver, scope: Scope, name: str) -> None:
    """A logical name, or a lookup's display name (`primarycontactidname`)."""
    table = scope.table
    known = table.columns.get(name)
    if known is None and name.endswith("name"):
        lookup = table.columns.get(name[: -len("name")])
        known = lookup if lookup is not None and lookup.is_lookup else None
    if known is None:
        resolver.unknown(scope, name)
    else:
        resolver.found.read(scope.sets, known.column)


@dataclass(slots=True)
class _FetchReader:
    resolver: Resolver
    fetch: Fetch
    names: dict[str, Scope]
    """Scopes by entity name or link alias: what `entityname` may say."""

    def entity(self, node: Node, scope: Scope, *, root: bool = False) -> None:
        # Links first: conditions above them may name their aliases.
        for link in node.find("link-entity"):
            self._link(link, scope)
        listed = False
        for attribute in node.find("attribute"):
            listed = True
            fetch_column(self.resolver, scope, attribute.get("name") or "")
        everything = any(True for _ in node.find("all-attributes"))
        nothing = any(True for _ in node.find("no-attrs"))
        if everything or (root and not listed and not nothing and not self.fetch.aggregate):
            self.resolver.found.read_all(scope.sets)
        aliases = {a.get("alias") for a in node.find("attribute")}
        for order in node.find("order"):
            self._order(order, scope, aliases)
        for condition in node.find("filter"):
            self._filter(condition, scope)

    def _link(self, node: Node, parent: Scope, *, inside_filter: bool = False) -> None:
        resolver = self.resolver
        table = resolver.schema.tables.get(node.get("name") or "")
        depth = parent.depth + 1
        if depth > resolver.depth_max:
            raise Unreadable(
                "limit-exceeded", f"link-entity goes deeper than this grant's {resolver.depth_max}"
            )
        fetch_column(resolver, parent, node.get("to") or "")
        if table is None or table.entity_set is None:
            resolver.found.demand(Unknown(node.get("name") or ""))
            return
        scope = Scope(table, (table.entity_set,), depth)
        resolver.found.read(scope.sets)
        fetch_column(resolver, scope, node.get("from") or "")
        kind = node.get("link-type") or "inner"
        if inside_filter or kind not in {"inner", "outer", "natural", "exists", "in"}:
            resolver.found.unfilterable(scope.sets, "link type")
        name = node.get("alias") or table.name
        if name in self.names and node.get("alias") is not None:
            raise Unreadable("bad-fetchxml", "fetchXml uses an alias twice")
        self.names.setdefault(name, scope)
        self.entity(node, scope)

    def _named(self, node: Node, scope: Scope) -> Scope:
        name = node.get("entityname")
        if name is None:
            return scope
        if name not in self.names:
            raise Unreadable("bad-fetchxml", "fetchXml has an entityname that no link has")
        return self.names[name]

    def _order(self, node: Node, scope: Scope, aliases: set[str | None]) -> None:
        attribute, alias = node.get("attribute"), node.get("alias")
        if attribute is not None:
            fetch_column(self.resolver, self._named(node, scope), attribute)
        elif alias is None:
            raise Unreadable("bad-fetchxml", "fetchXml has an order without attribute or alias")
        if alias is not None and alias not in aliases:
            raise Unreadable("bad-fetchxml", "fetchXml orders by an alias that no attribute has")

    def _filter(self, node: Node, scope: Scope) -> None:
        for link in node.find("link-entity"):
            self._link(link, scope, inside_filter=True)
        for inner in node.find("filter"):
            self._filter(inner, scope)
        for condition in node.find("condition"):
            self._condition(condition, scope)

    def _condition(self, node: Node, scope: Scope) -> None:
        at = self._named(node, scope)
        fetch_column(self.resolver, at, node.get("attribute") or "")
        other = node.get("valueof")
        if other is None:
            return
        name, dot, column = other.rpartition(".")
        if dot and name not in self.names:
            raise Unreadable("bad-fetchxml", "fetchXml compares with an alias that no link has")
        fetch_column(self.resolver, self.names[name] if dot else at, column)

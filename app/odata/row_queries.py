"""`$select`, `$expand`, `$filter`, `$orderby` and `$apply` over rows: what they read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.errors import Unreadable
from app.odata.conditions import NO_FIGURES, resolve_expression
from app.odata.demands import WholeRows
from app.odata.query import ALL_PROPERTIES, Expand, FilterStep, Query, aggregates
from app.odata.tree import Member

if TYPE_CHECKING:
    from app.odata.resolve import Resolver, Scope


def resolve_rows(
    resolver: Resolver, scope: Scope | None, query: Query, *, collection: bool
) -> None:
    """A query over rows that come back. Without a scope, only aliases are looked at."""
    if not collection and (query.filter is not None or query.orderby):
        raise Unreadable("bad-query", "$filter and $orderby need a collection")
    if query.apply:
        _apply(resolver, scope, query)
        return
    if scope is not None:
        _select(resolver, scope, query)
    for item in query.expand:
        _expand(resolver, scope, item)
    resolve_conditions(resolver, scope, query)


def resolve_conditions(
    resolver: Resolver,
    scope: Scope | None,
    query: Query,
    figures: frozenset[str] = NO_FIGURES,
) -> None:
    """`$filter` and `$orderby`."""
    if query.filter is not None:
        resolve_expression(resolver, query.filter, scope, figures)
    for key, _ in query.orderby:
        resolve_expression(resolver, key, scope, figures)


def _select(resolver: Resolver, scope: Scope, query: Query) -> None:
    if query.select is None or query.select == ALL_PROPERTIES:
        resolver.found.read_all(scope.sets)
        return
    resolver.found.read(scope.sets)
    for name in query.select:
        resolver.column(scope, name)


def _expand(resolver: Resolver, scope: Scope | None, item: Expand) -> None:
    navigation = None if scope is None else scope.table.navigations.get(item.navigation)
    query = item.query
    if scope is None or navigation is None:
        if scope is not None:
            resolver.unknown(scope, item.navigation)
        resolve_rows(resolver, None, query, collection=True)
        return
    if not navigation.collection:
        if query.filter is not None or query.orderby or query.top is not None:
            raise Unreadable(
                "bad-query",
                f"$filter, $orderby and $top need a collection; {navigation.name} is one row",
            )
        if item.suffix == "$count":
            raise Unreadable("bad-query", f"$count needs a collection; {navigation.name} is one")
    if item.suffix is not None and (query.select is not None or query.expand):
        raise Unreadable("bad-query", f"{item.suffix} in $expand takes no $select or $expand")
    if item.suffix == "$ref" and not navigation.collection and item.cast is None:
        # A lookup's reference tells its value and no more, as it does at the end of a path.
        resolver.column(scope, navigation.name)
        return
    target = resolver.follow(scope, navigation)
    if target is not None and item.cast is not None:
        target = resolver.cast(target, item.cast)
    if item.suffix is not None:
        resolve_conditions(resolver, target, query)
        if target is not None and item.suffix == "$count":
            resolver.found.unfilterable(target.sets, "count in an expression")
        return
    if target is not None and not navigation.collection:
        resolver.found.unfilterable(target.sets, "single-valued navigation")
    resolve_rows(resolver, target, query, collection=navigation.collection)


def _apply(resolver: Resolver, scope: Scope | None, query: Query) -> None:
    figures: set[str] = set()
    for step in query.apply:
        known = frozenset(figures)
        if isinstance(step, FilterStep):
            resolve_expression(resolver, step.condition, scope, known)
            continue
        for path in step.keys or ():
            resolve_expression(resolver, Member(path), scope, known)
        for figure in step.aggregates:
            if figure.source is not None:
                resolve_expression(resolver, figure.source, scope, known)
            figures.add(figure.alias)
    if scope is not None:
        resolver.found.read(scope.sets)
        if not aggregates(query.apply):
            for name in scope.sets:
                resolver.found.demand(WholeRows(name, "$apply without groupby or aggregate"))
        for name in query.select or ():
            if name != "*" and (name not in figures or name in scope.table.properties):
                resolver.column(scope, name)
    if query.expand and aggregates(query.apply):
        raise Unreadable("bad-query", "$expand needs rows; $apply leaves groups and figures")
    for item in query.expand:
        _expand(resolver, scope, item)
    resolve_conditions(resolver, scope, query, frozenset(figures))

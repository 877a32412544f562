"""Expressions resolved: everything that a filter, an order or a group names is a read.

What may not be read may not be filtered, sorted or grouped on either, since an answer's rows or
their order would tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.errors import Unreadable
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
    children,
)

if TYPE_CHECKING:
    from app.odata.resolve import Resolver, Scope
    from app.schema.model import Navigation

_HIERARCHY = frozenset({"above", "aboveorequal", "under", "underorequal", "notunder"})
"""Query functions over the rows above or below one."""

NO_FIGURES: frozenset[str] = frozenset()


def resolve_expression(
    resolver: Resolver,
    node: Expression,
    scope: Scope | None,
    figures: frozenset[str] = NO_FIGURES,
) -> None:
    """Note the accesses of every name in it. `figures` are aliases that `$apply` made.

    Without a scope (rows that the schema does not know), only aliases and grammar are looked at.
    """
    Conditions(resolver, None if scope is None else scope.afresh(), figures).read(node)


class Conditions(msgspec.Struct):
    """One expression over the rows of `scope`."""

    resolver: Resolver
    scope: Scope | None
    figures: frozenset[str] = NO_FIGURES
    _variables: dict[str, Scope | None] = {}

    def read(self, node: Expression) -> None:
        if isinstance(node, Member):
            self._member(node.path)
        elif isinstance(node, Literal):
            return
        elif isinstance(node, Binary):
            self.read(node.left)
            self.read(node.right)
        elif isinstance(node, (Logical, Function, Unary, Listed)):
            for operand in children(node):
                self.read(operand)
        elif isinstance(node, Alias):
            self.read(self.resolver.alias(node))
        elif isinstance(node, Lambda):
            self._lambda(node)
        elif isinstance(node, Named):
            self._query_function(node)
        else:
            assert isinstance(node, Entry)
            raise Unreadable("bad-expression", "an object cannot stand in an expression")

    # --------------------------------------------------------------- paths

    def _begin(self, path: tuple[str, ...], what: str) -> tuple[Scope | None, tuple[str, ...]]:
        """Where a path starts: at the rows, or at a lambda's variable."""
        if path[0] not in self._variables:
            return self.scope, path
        if len(path) == 1:
            raise Unreadable("bad-expression", what)
        return self._variables[path[0]], path[1:]

    def _member(self, path: tuple[str, ...]) -> None:
        if len(path) == 1 and path[0] in self.figures and path[0] not in self._variables:
            # Named like a column, a figure may be taken for that column.
            if self.scope is not None and path[0] in self.scope.table.properties:
                self.resolver.column(self.scope, path[0])
            return
        at, steps = self._begin(path, "a variable stands for a row, not for a value")
        last = len(steps) - 1
        for index, step in enumerate(steps):
            if at is None:
                return
            if step == "$count":
                raise Unreadable("bad-expression", "$count stands behind a collection")
            if "." in step:
                if index == last:
                    raise Unreadable("bad-expression", "a path ends with a type, not with a column")
                at = self.resolver.cast(at, step)
                continue
            known = at.table.properties.get(step)
            if known is not None:
                if index != last:
                    raise Unreadable("bad-expression", "a column has no parts")
                self.resolver.found.read(at.sets, known.column)
                return
            navigation = at.table.navigations.get(step)
            if navigation is None:
                self.resolver.unknown(at, step)
                return
            if navigation.collection:
                self._counted(at, navigation, steps[index + 1 :])
                return
            if index == last:
                self.resolver.column(at, step)
                return
            at = self._single(at, navigation)

    def _single(self, scope: Scope, navigation: Navigation) -> Scope | None:
        target = self.resolver.follow(scope, navigation)
        if target is not None:
            self.resolver.found.unfilterable(target.sets, "single-valued navigation")
        return target

    def _counted(self, scope: Scope, navigation: Navigation, rest: tuple[str, ...]) -> None:
        target = self.resolver.follow(scope, navigation)
        casts, end = rest[:-1], rest[-1:]
        if end != ("$count",) or any("." not in c for c in casts):
            raise Unreadable(
                "bad-expression", "a collection needs any(…), all(…) or $count behind it"
            )
        for cast in casts:
            target = None if target is None else self.resolver.cast(target, cast)
        if target is not None:
            self.resolver.found.unfilterable(target.sets, "count in an expression")

    # ------------------------------------------------------------- lambdas

    def _lambda(self, node: Lambda) -> None:
        at = self._collection(node.path)
        if node.body is None or node.variable is None:
            return
        self._check_variable(node.variable)
        self._variables[node.variable] = at
        self.read(node.body)
        del self._variables[node.variable]

    def _collection(self, path: tuple[str, ...]) -> Scope | None:
        at, steps = self._begin(path, "any and all stand behind a collection")
        collection = False
        for step in steps:
            if at is None:
                return None
            if "." in step:
                at = self.resolver.cast(at, step)
                continue
            if collection:
                raise Unreadable("bad-expression", "any and all stand behind a collection")
            navigation = at.table.navigations.get(step)
            if navigation is None:
                self.resolver.unknown(at, step)
                return None
            collection = navigation.collection
            if collection:
                at = self.resolver.follow(at, navigation)
                if at is not None:
                    self.resolver.found.unfilterable(at.sets, "lambda")
            else:
                at = self._single(at, navigation)
        if at is not None and not collection:
            raise Unreadable("bad-expression", "any and all stand behind a collection")
        return at

    def _check_variable(self, name: str) -> None:
        scope = self.scope
        known = scope is not None and (
            name in scope.table.properties or name in scope.table.navigations
        )
        if known or name in self._variables:
            raise Unreadable(
                "bad-expression", "a variable has the name of a column or of another variable"
            )

    # ----------------------------------------------------- query functions

    def _query_function(self, node: Named) -> None:
        """`Microsoft.Dynamics.CRM.In(PropertyName='x',…)`: the column stands in a string."""
        named: str | None = None
        for name, value in node.parameters:
            said = self.resolver.alias(value) if isinstance(value, Alias) else value
            if name.lower() != "propertyname":
                _constant(said)
                continue
            if name != "PropertyName":
                raise Unreadable("bad-expression", "PropertyName is written in another case")
            named = said.string() if isinstance(said, Literal) else None
            if named is None:
                raise Unreadable("bad-expression", "PropertyName is a string")
        if named is None:
            raise Unreadable("bad-expression", "a query function names its column: PropertyName")
        # Inside a lambda nobody says whose column it is: it is read wherever there is one.
        around = [s for s in (self.scope, *self._variables.values()) if s is not None]
        holders = [s for s in around if self._holds(s, named)]
        for scope in holders or around[:1]:
            known = scope.table.columns.get(named)
            if known is not None:
                self.resolver.found.read(scope.sets, known.column)
            else:
                self.resolver.column(scope, named)
            if node.name.rpartition(".")[2].lower() in _HIERARCHY:
                self.resolver.hierarchy(scope)

    def _holds(self, scope: Scope, name: str) -> bool:
        table = scope.table
        return name in table.columns or name in table.properties or name in table.navigations


def _constant(node: Expression) -> None:
    if isinstance(node, Listed):
        for item in node.items:
            _constant(item)
    elif not isinstance(node, Literal):
        raise Unreadable("bad-expression", "a query function takes constants beside PropertyName")

"""Metadata addresses: which table's definition a request reads, or whether it reads them all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.odata.demands import Definitions, UnknownDefinition
from app.odata.tree import (
    Alias,
    Binary,
    Lambda,
    Listed,
    Literal,
    Logical,
    Member,
    children,
    conjuncts,
)

if TYPE_CHECKING:
    from app.odata.demands import Demand
    from app.odata.query import Expand, Query
    from app.odata.resolve import Resolver
    from app.odata.segments import Key, Segment
    from app.odata.tree import Expression

SETS = frozenset(
    {
        "EntityDefinitions",
        "RelationshipDefinitions",
        "GlobalOptionSetDefinitions",
        "ManagedPropertyDefinitions",
    }
)
SCHEMA_ACTIONS = frozenset({"CreateEntities"})

_OWN = frozenset({"Attributes", "Keys"})
"""Parts of a definition that name no other table; relationships do."""
_ROWS = frozenset({"AsyncJob"})
"""Properties of a definition's parts that lead to rows: to the job that makes a key's index."""
_OF_ATTRIBUTES = frozenset({"OptionSet", "GlobalOptionSet"})
_CAST = re.compile(r"Microsoft\.Dynamics\.CRM\.[A-Za-z]+AttributeMetadata", re.ASCII)
_PROPERTY = re.compile(r"[A-Z]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class DefinitionReader:
    resolver: Resolver

    def read(self, segments: tuple[Segment, ...], query: Query) -> tuple[Demand, ...]:
        """What a GET of these segments needs. Raises `Unreadable`."""
        everything = (Definitions(),)
        first, rest = segments[0], segments[1:]
        for segment in segments:
            if segment.arguments is not None:
                segment.key()
        if not self._constant_aliases(query) or first.name != "EntityDefinitions":
            return everything
        if first.arguments is not None:
            table = self._by_key(first.key())
            return (table,) if _stays(rest, query) else everything
        tables = None if rest else self._filtered(query.filter)
        if tables is None or not all(_own_expand(e) for e in query.expand) or _reaches(query):
            return everything
        return tables

    def _constant_aliases(self, query: Query) -> bool:
        """Take notice of their use; whether none of them stands for a name."""
        constant = True
        pending = [*query.expand]
        expressions = [*_expressions(query)]
        while pending:
            item = pending.pop()
            expressions.extend(_expressions(item.query))
            pending.extend(item.query.expand)
        while expressions:
            node = expressions.pop()
            if isinstance(node, Alias):
                constant &= isinstance(self.resolver.alias(node), (Literal, Listed))
            expressions.extend(children(node))
        return constant

    # ----------------------------------------------------------- one table

    def _by_key(self, key: Key) -> Demand:
        table_id = key.id_in("MetadataId")
        if table_id is not None:
            return self._by_id(table_id)
        name, value = key.values[0]
        said = value.string()
        if len(key.values) != 1 or name != "LogicalName" or said is None:
            return Definitions()
        return self._by_name(said)

    def _by_id(self, table_id: str) -> Demand:
        name = self.resolver.schema.metadata_ids.get(table_id)
        return UnknownDefinition("EntityDefinitions") if name is None else Definitions(name)

    def _by_name(self, name: str) -> Demand:
        known = name in self.resolver.schema.tables
        return Definitions(name) if known else UnknownDefinition(name)

    # -------------------------------------------------------------- filters

    def _filtered(self, condition: Expression | None) -> tuple[Demand, ...] | None:
        """The tables to which a filter confines the answer, or None where it does not.

        `LogicalName eq 'account'`, several of them joined with `or`, or either with `and` more.
        """
        for part in conjuncts(condition):
            options = part.operands if isinstance(part, Logical) else (part,)
            named = [self._named(o) for o in options]
            if all(named):
                return tuple(demand for found in named for demand in found)
        return None

    def _named(self, node: Expression) -> tuple[Demand, ...]:
        """The tables that one comparison names; none where it does not."""
        if not isinstance(node, Binary) or node.operator not in {"eq", "in"}:
            return ()
        left, right = self._meant(node.left), self._meant(node.right)
        if isinstance(left, Literal):
            left, right = right, left
        values = right.items if isinstance(right, Listed) else (right,)
        found: list[Demand] = []
        for value in values:
            said = value.string() if isinstance(value, Literal) else None
            if left == Member(("LogicalName",)) and said is not None:
                found.append(self._by_name(said))
            elif left == Member(("MetadataId",)) and isinstance(value, Literal):
                found.append(self._by_id(value.text.lower()))
            else:
                return ()
        return tuple(found)

    def _meant(self, node: Expression) -> Expression:
        return self.resolver.alias(node) if isinstance(node, Alias) else node


def _stays(rest: tuple[Segment, ...], query: Query) -> bool:
    """Whether the path stays inside the table's own attributes and keys."""
    if _reaches(query):
        return False
    if not all(_own_expand(e) or _attribute_expand(rest, e) for e in query.expand):
        return False
    if not rest:
        return True
    if rest[0].name in _OWN:
        return all(_inside(s) for s in rest[1:])
    # A property of the definition itself: `ObjectTypeCode/$value`.
    return _inside(rest[0]) and all(s.name == "$value" for s in rest[1:])


def _inside(segment: Segment) -> bool:
    name = segment.name
    if _CAST.fullmatch(name) or name in {"$count", "$value"}:
        return True
    return _PROPERTY.fullmatch(name) is not None and not _leads_away(name)


def _leads_away(name: str) -> bool:
    return name.endswith("Relationships") or name in _ROWS


def _own_expand(item: Expand) -> bool:
    return (
        item.navigation in _OWN
        and not _reaches(item.query)
        and all(_option_sets(e) for e in item.query.expand)
    )


def _option_sets(item: Expand) -> bool:
    return item.navigation in _OF_ATTRIBUTES and not item.query.expand and not _reaches(item.query)


def _attribute_expand(rest: tuple[Segment, ...], item: Expand) -> bool:
    return bool(rest) and rest[0].name == "Attributes" and _option_sets(item)


def _reaches(query: Query) -> bool:
    """Whether a condition or an order looks into what names other tables, or leads to rows."""
    pending = [*_expressions(query)]
    while pending:
        node = pending.pop()
        if isinstance(node, (Member, Lambda)) and any(_leads_away(step) for step in node.path):
            return True
        pending.extend(children(node))
    return False


def _expressions(query: Query) -> tuple[Expression, ...]:
    found = tuple(key for key, _ in query.orderby)
    return found if query.filter is None else (query.filter, *found)

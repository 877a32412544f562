"""Metadata addresses: which table's definition a request reads, or whether it reads them all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.errors import Unreadable
from app.odata.demands import Definitions, SchemaWrite, Unknown
from app.odata.tree import Binary, Literal, Logical, Member, conjuncts

if TYPE_CHECKING:
    from app.odata.demands import Demand
    from app.odata.query import Expand, Query
    from app.odata.segments import Segment
    from app.odata.tree import Expression
    from app.schema.model import Schema

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
_OF_ATTRIBUTES = frozenset({"OptionSet", "GlobalOptionSet"})
_CAST = re.compile(r"Microsoft\.Dynamics\.CRM\.[A-Za-z]+AttributeMetadata", re.ASCII)


@dataclass(frozen=True, slots=True)
class DefinitionReader:
    schema: Schema

    def read(self, segments: tuple[Segment, ...], query: Query) -> tuple[Demand, ...]:
        """What a GET of these segments needs."""
        first = segments[0]
        if first.name != "EntityDefinitions":
            return (Definitions(),)
        if first.arguments is not None:
            table = self._by_key(first)
            if isinstance(table, Unknown):
                return (table,)
            if table is None or not _stays(segments[1:], query):
                return (Definitions(),)
            return (Definitions(table),)
        if len(segments) > 1:
            return (Definitions(),)
        tables = _named_tables(query.filter)
        if tables is None or not all(_own_expand(e) for e in query.expand):
            return (Definitions(),)
        return tuple(self._known(t) for t in tables)

    def _known(self, name: str) -> Demand:
        return Definitions(name) if name in self.schema.tables else Unknown(name)

    def _by_key(self, segment: Segment) -> str | Unknown | None:
        key = segment.key()
        if key.guid is not None:
            name = self.schema.metadata_ids.get(key.guid)
            return Unknown("EntityDefinitions") if name is None else name
        name_, value = key.values[0]
        said = value.string()
        if len(key.values) != 1 or name_ != "LogicalName" or said is None:
            return None
        return said if said in self.schema.tables else Unknown(said)

    def write(self) -> Demand:
        return SchemaWrite()


def _stays(rest: tuple[Segment, ...], query: Query) -> bool:
    """Whether the path stays inside the table's own attributes and keys."""
    if not all(_own_expand(e) or _attribute_expand(rest, e) for e in query.expand):
        return False
    if not rest:
        return True
    own, deeper = rest[0].name in _OWN, rest[1:]
    if not own:
        # A property of the definition itself: `ObjectTypeCode/$value`.
        return not rest[0].name.endswith("Relationships") and all(
            s.name == "$value" for s in deeper
        )
    return all(
        s.name in _OF_ATTRIBUTES
        or s.name in {"$count", "$value"}
        or _CAST.fullmatch(s.name) is not None
        or (i > 0 or s.arguments is None)
        for i, s in enumerate(deeper)
    )


def _own_expand(item: Expand) -> bool:
    return item.navigation in _OWN and all(
        e.navigation in _OF_ATTRIBUTES and not e.query.expand for e in item.query.expand
    )


def _attribute_expand(rest: tuple[Segment, ...], item: Expand) -> bool:
    return (
        bool(rest)
        and rest[0].name == "Attributes"
        and item.navigation in _OF_ATTRIBUTES
        and not item.query.expand
    )


def _named_tables(condition: Expression | None) -> tuple[str, ...] | None:
    """The tables to which a filter confines the answer, or None where it does not.

    `LogicalName eq 'account'`, several of them joined with `or`, or either one `and` more.
    """
    for part in conjuncts(condition):
        options = part.operands if isinstance(part, Logical) else (part,)
        names = [_named_table(o) for o in options]
        found = tuple(n for n in names if n is not None)
        if found and len(found) == len(names):
            return found
    return None


def _named_table(node: Expression) -> str | None:
    if not isinstance(node, Binary) or node.operator != "eq":
        return None
    left, right = node.left, node.right
    if isinstance(left, Literal):
        left, right = right, left
    if left != Member(("LogicalName",)) or not isinstance(right, Literal):
        return None
    return right.string()


def check_query(query: Query) -> None:
    """Metadata takes the plain options only."""
    if query.fetch or query.opaque or query.apply or query.reference or query.aliases:
        raise Unreadable("bad-query", "metadata is read with $select, $filter and $expand")

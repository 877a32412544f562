"""Functions and actions: their names, and the references that their parameters hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.errors import Unreadable
from app.odata.demands import Unknown
from app.odata.links import Bases, read_reference
from app.odata.tree import Alias, Entry, Expression, Listed, Literal, Unary

if TYPE_CHECKING:
    from app.odata.json_text import Json
    from app.odata.resolve import Resolver
    from app.odata.segments import Segment

BULK = frozenset({"CreateMultiple", "UpdateMultiple", "UpsertMultiple", "DeleteMultiple"})
ROW_COUNT = "RetrieveTotalRecordCount"
METADATA_CHANGES = "RetrieveMetadataChanges"


def parameters(
    resolver: Resolver, segment: Segment, bases: Bases
) -> tuple[tuple[str | None, Expression], ...] | None:
    """A function's arguments with their references led to Dataverse.

    `Fn(A=@p1)?@p1={…}`: values behind aliases are rewritten where the aliases are (see
    `parameter_aliases`). Raises `Unreadable`.
    """
    if segment.arguments is None:
        return None
    rewritten: list[tuple[str | None, Expression]] = []
    for name, value in segment.arguments:
        if name is None:
            raise Unreadable("bad-path", "a function's parameters have names")
        if isinstance(value, Alias):
            resolver.alias(value)
        rewritten.append((name, rewrite(value, bases)))
    return tuple(rewritten)


def rewrite(node: Expression, bases: Bases) -> Expression:
    """A parameter's value; constants, lists and objects only."""
    if isinstance(node, Literal | Alias):
        return node
    if isinstance(node, Unary) and isinstance(node.operand, Literal):
        return node
    if isinstance(node, Listed):
        return Listed(tuple(rewrite(i, bases) for i in node.items), node.brackets)
    if isinstance(node, Entry):
        members: list[tuple[Literal, Expression]] = []
        for key, value in node.members:
            said = value.string() if isinstance(value, Literal) else None
            if key.string() == "@odata.id" and said is not None:
                reference = read_reference(said, bases)
                members.append((key, _string(reference.relative())))
            else:
                members.append((key, rewrite(value, bases)))
        return Entry(tuple(members))
    raise Unreadable("bad-expression", "a function's parameter is a constant, a list or an object")


def _string(value: str) -> Literal:
    return Literal("'" + value.replace("'", "''") + "'")


def counted_tables(resolver: Resolver, segment: Segment) -> None:
    """`RetrieveTotalRecordCount(EntityNames=['account'])`: a read of each, by logical name."""
    arguments = segment.arguments or ()
    if len(arguments) != 1 or arguments[0][0] != "EntityNames":
        raise Unreadable("bad-path", f"{ROW_COUNT} takes EntityNames, a list of logical names")
    value = arguments[0][1]
    listed = resolver.alias(value) if isinstance(value, Alias) else value
    if not isinstance(listed, Listed) or not listed.items:
        raise Unreadable("bad-path", f"{ROW_COUNT} takes EntityNames, a list of logical names")
    for item in listed.items:
        name = item.string() if isinstance(item, Literal) else None
        if name is None:
            raise Unreadable("bad-path", f"{ROW_COUNT} takes EntityNames, a list of logical names")
        table = resolver.schema.tables.get(name)
        if table is None or table.entity_set is None:
            resolver.found.demand(Unknown(name))
            continue
        resolver.found.read((table.entity_set,))
        resolver.found.unfilterable((table.entity_set,), "row count")


def action_body(value: Json, bases: Bases) -> Json:
    """An action's parameters, its references led to Dataverse. What it reaches is not read."""
    if isinstance(value, list):
        return [action_body(v, bases) for v in value]
    if not isinstance(value, dict):
        return value
    rewritten: dict[str, Any] = {}
    for name, member in value.items():
        if name == "@odata.id" or name.endswith("@odata.bind"):
            rewritten[name] = _references(member, bases)
        else:
            rewritten[name] = action_body(member, bases)
    return rewritten


def _references(value: Json, bases: Bases) -> Json:
    if isinstance(value, list):
        return [_references(v, bases) for v in value]
    if not isinstance(value, str):
        return value
    reference = read_reference(value, bases)
    if reference.content_id is not None:
        return value
    return bases.service + reference.relative() if reference.absolute else reference.relative()

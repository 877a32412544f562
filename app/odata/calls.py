"""Functions and actions: their names, and the references that their parameters hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.errors import Unreadable
from app.odata.demands import Unknown
from app.odata.links import Bases, read_reference
from app.odata.tree import Alias, Entry, Expression, Listed, Literal, children

if TYPE_CHECKING:
    from app.odata.json_text import Json
    from app.odata.resolve import Resolver
    from app.odata.segments import Segment

BULK = frozenset({"CreateMultiple", "UpdateMultiple", "UpsertMultiple", "DeleteMultiple"})
ROW_COUNT = "RetrieveTotalRecordCount"
METADATA_CHANGES = "RetrieveMetadataChanges"


def check_parameters(resolver: Resolver, segment: Segment) -> None:
    """`Fn(A=1,B=@p1)`: named, and constants, lists or objects. Raises `Unreadable`."""
    for name, value in segment.arguments or ():
        if name is None:
            raise Unreadable("bad-path", "a function's parameters have names")
        _check_parameter(resolver.alias(value) if isinstance(value, Alias) else value)


def _check_parameter(node: Expression) -> None:
    if isinstance(node, (Listed, Entry)):
        for inner in children(node):
            _check_parameter(inner)
    elif not isinstance(node, Literal):
        raise Unreadable(
            "bad-expression", "a function's parameter is a constant, a list or an object"
        )


def redirected(node: Expression, bases: Bases) -> Expression:
    """The same with the references in its objects led to Dataverse, whoever they named."""
    if isinstance(node, Listed):
        return Listed(tuple(redirected(i, bases) for i in node.items), node.brackets)
    if not isinstance(node, Entry):
        return node
    members: list[tuple[Literal, Expression]] = []
    for key, value in node.members:
        if not _refers(key.string() or ""):
            members.append((key, redirected(value, bases)))
            continue
        said = value.string() if isinstance(value, Literal) else None
        if said is None:
            raise Unreadable("bad-link-target", "a reference is a string, and holds no escapes")
        members.append((key, _string(read_reference(said, bases).relative(), value)))
    return Entry(tuple(members))


def _refers(name: str) -> bool:
    return name == "@odata.id" or name.endswith("@odata.bind")


def _string(said: str, like: Expression) -> Literal:
    """In the quotes that the caller used: a JSON reader takes double ones only."""
    if isinstance(like, Literal) and like.text[0] == '"':
        return Literal(f'"{said}"')
    return Literal("'" + said.replace("'", "''") + "'")


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
        sets = resolver.scope(table).sets
        resolver.found.read(sets)
        resolver.found.unfilterable(sets, "row count")


def redirected_body(value: Json, bases: Bases) -> Json:
    """An action's parameters, its references led to Dataverse. What it reaches is not read."""
    if isinstance(value, list):
        return [redirected_body(v, bases) for v in value]
    if not isinstance(value, dict):
        return value
    rewritten: dict[str, Any] = {}
    for name, member in value.items():
        if _refers(name):
            rewritten[name] = redirected_references(member, bases)
        else:
            rewritten[name] = redirected_body(member, bases)
    return rewritten


def redirected_references(value: Json, bases: Bases) -> Json:
    if isinstance(value, list):
        return [redirected_references(v, bases) for v in value]
    if not isinstance(value, str):
        return redirected_body(value, bases)
    reference = read_reference(value, bases)
    if reference.content_id is not None:
        return value
    return bases.service + reference.relative() if reference.absolute else reference.relative()

"""Reads below EntityDefinitions, RelationshipDefinitions and GlobalOptionSetDefinitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.sandbox.dataverse import definitions
from app.sandbox.dataverse.expressions import (
    Compare,
    Every,
    Expression,
    Literal,
    Member,
    Negated,
    Some,
)
from app.sandbox.dataverse.failures import (
    Failed,
    bad_request,
    no_segment,
    not_allowed,
    not_emulated,
)
from app.sandbox.dataverse.grammar import parse_arguments
from app.sandbox.dataverse.messages import Answer, json_answer
from app.sandbox.dataverse.options import Asked, read_options
from app.sandbox.dataverse.schema import NAMESPACE, metadata_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.sandbox.dataverse.messages import Request
    from app.sandbox.dataverse.schema import Schema, Table
    from app.sandbox.dataverse.targets import Query, Segment

ROOTS = frozenset(
    {"EntityDefinitions", "RelationshipDefinitions", "GlobalOptionSetDefinitions"}
    | {"ManagedPropertyDefinitions"}
)


def read_definitions(
    schema: Schema, request: Request, segments: Sequence[Segment], query: Query
) -> Answer:
    if request.method != "GET":
        if request.method in {"POST", "PUT", "DELETE", "PATCH"}:
            raise not_emulated("changes of the schema")
        raise not_allowed(request.method)
    asked = read_options(query)
    found, path = _walk(schema, segments, asked)
    if isinstance(found, str | int | bool | bytes):
        return Answer(
            status=200,
            headers=(("Content-Type", "text/plain"), ("OData-Version", "4.0")),
            body=str(found).encode(),
        )
    context = f"{request.base}/$metadata#{path}"
    if isinstance(found, list):
        kept = [_chosen(item, asked) for item in found if _holds(asked.filter, item)]
        content: dict[str, Any] = {"@odata.context": context}
        if asked.count:
            content["@odata.count"] = len(kept)
        kept = kept if asked.top is None else kept[: asked.top]
        return json_answer({**content, "value": kept})
    return json_answer({"@odata.context": f"{context}/$entity", **_chosen(found, asked)})


def _walk(schema: Schema, segments: Sequence[Segment], asked: Asked) -> tuple[Any, str]:
    root, rest = segments[0], list(segments[1:])
    if root.name == "EntityDefinitions":
        if root.arguments is None:
            if rest:
                raise no_segment(rest[0].name)
            return [_entity(schema, t, asked) for t in schema], root.name
        return _entity_path(schema, _table(schema, root), rest, asked)
    if rest:
        raise not_emulated(f"paths below {root.name}")
    if root.name == "RelationshipDefinitions":
        every = [*definitions.one_to_many(schema), *definitions.many_to_many(schema)]
        if root.arguments is None:
            return every, root.name
        name, value = _key(root)
        name = "MetadataId" if name is None else name
        for one in every:
            if str(one.get(name)) == value:
                return one, root.name
        raise Failed(404, "0x80060888", f"Could not find a relationship with {name} '{value}'.")
    if root.name == "GlobalOptionSetDefinitions" and root.arguments is None:
        return [], root.name
    raise Failed(404, "0x80060888", f"Resource not found for the segment '{root.name}'.")


def _key(segment: Segment) -> tuple[str | None, str]:
    pairs = parse_arguments(segment.arguments or "", {})
    if len(pairs) != 1 or not isinstance(pairs[0][1], Literal):
        raise bad_request(f"The key of '{segment.name}' is not valid.")
    name, node = pairs[0]
    assert isinstance(node, Literal)
    return name, str(node.value)


def _table(schema: Schema, segment: Segment) -> Table:
    name, value = _key(segment)
    table = None
    if name == "LogicalName":
        table = schema.tables.get(value)
    elif name in {None, "MetadataId"}:
        table = schema.by_metadata_id.get(value.lower())
    if table is None:
        raise Failed(
            404,
            "0x80060888" if name else "0x80040217",
            f"Could not find an entity with specified entity name: {value}."
            if name
            else f"Could not find entity with id {value}.",
        )
    return table


def _entity_path(
    schema: Schema, table: Table, rest: list[Segment], asked: Asked
) -> tuple[Any, str]:
    named = f"EntityDefinitions('{table.metadata_id}')"
    if not rest:
        return _entity(schema, table, asked), "EntityDefinitions"
    head, tail = rest[0], rest[1:]
    if head.name == "Attributes":
        return _attributes(table, head, tail, asked, named)
    if head.arguments is None and not tail:
        collection = _collections(schema, table).get(head.name)
        if collection is not None:
            return collection, f"{named}/{head.name}"
    whole = definitions.entity(table)
    if head.name in whole:
        if tail and tail[0].name == "$value":
            return whole[head.name], head.name
        if not tail:
            return {"value": whole[head.name]}, f"{named}/{head.name}"
    raise no_segment(head.name)


def _attributes(
    table: Table, head: Segment, tail: list[Segment], asked: Asked, named: str
) -> tuple[Any, str]:
    path = f"{named}/Attributes"
    if head.arguments is None:
        wanted = None
        if tail:
            wanted = tail[0].name
            if not wanted.startswith(f"{NAMESPACE}.") or tail[1:]:
                raise no_segment(wanted)
            path += f"/{wanted}"
        return [
            a for c in table.columns if (a := _attribute(table, c.name, asked, wanted)) is not None
        ], path
    name, value = _key(head)
    column = next(
        (
            c
            for c in table.columns
            if (name == "LogicalName" and c.name == value)
            or (name is None and metadata_id(table.logical, c.name) == value.lower())
        ),
        None,
    )
    wanted = tail[0].name if tail and tail[0].name.startswith(f"{NAMESPACE}.") else None
    found = None if column is None else _attribute(table, column.name, asked, wanted)
    if column is None or found is None:
        raise Failed(
            404, "0x80060888", f"Could not find an attribute with specified name: {value}."
        )
    if wanted is not None:
        tail = tail[1:]
    if not tail:
        return found, path
    if tail[0].name == "OptionSet" and column.options:
        return definitions.option_set(table, column), f"{path}/OptionSet"
    raise no_segment(tail[0].name)


def _attribute(table: Table, name: str, asked: Asked, wanted: str | None) -> dict[str, Any] | None:
    column = table.by_name[name]
    found = definitions.attribute(table, column)
    if wanted is not None and found["@odata.type"] != f"#{wanted}":
        return None
    for expand in asked.expand:
        if expand.nav in {"OptionSet", "GlobalOptionSet"} and column.options:
            options = definitions.option_set(table, column) if expand.nav == "OptionSet" else None
            found[expand.nav] = None if options is None else _chosen(options, expand.asked)
    return found


def _entity(schema: Schema, table: Table, asked: Asked) -> dict[str, Any]:
    found = definitions.entity(table)
    collections = {**_collections(schema, table)}
    for expand in asked.expand:
        if expand.nav == "Attributes":
            items = [definitions.attribute(table, c) for c in table.columns]
        elif expand.nav in collections:
            items = collections[expand.nav]
        else:
            raise bad_request(
                f"Could not find a property named '{expand.nav}' on type "
                f"'{NAMESPACE}.EntityMetadata'."
            )
        inner = expand.asked
        found[expand.nav] = [_chosen(i, inner) for i in items if _holds(inner.filter, i)]
    return found


def _collections(schema: Schema, table: Table) -> dict[str, list[dict[str, Any]]]:
    each = definitions.one_to_many(schema)
    return {
        "Keys": definitions.keys(table),
        "OneToManyRelationships": [r for r in each if r["ReferencedEntity"] == table.logical],
        "ManyToOneRelationships": [r for r in each if r["ReferencingEntity"] == table.logical],
        "ManyToManyRelationships": [
            r
            for r in definitions.many_to_many(schema)
            if table.logical in {r["Entity1LogicalName"], r["Entity2LogicalName"]}
        ],
        "Privileges": definitions.entity(table)["Privileges"],
    }


def _chosen(item: dict[str, Any], asked: Asked) -> dict[str, Any]:
    """$select on a definition: the MetadataId comes back unasked, as a row's key does."""
    if asked.select is None:
        return item
    expanded = {e.nav for e in asked.expand}
    kept = {
        k: v for k, v in item.items() if k in asked.select or k in expanded or k == "@odata.type"
    }
    for name in asked.select:
        if name not in item:
            kind = str(item.get("@odata.type", f"#{NAMESPACE}.EntityMetadata")).lstrip("#")
            raise bad_request(f"Could not find a property named '{name}' on type '{kind}'.")
    if "MetadataId" in item:
        kept.setdefault("MetadataId", item["MetadataId"])
    return kept


def _holds(node: Expression | None, item: dict[str, Any]) -> bool:
    match node:
        case None:
            return True
        case Every(operands):
            return all(_holds(o, item) for o in operands)
        case Some(operands):
            return any(_holds(o, item) for o in operands)
        case Negated(operand):
            return not _holds(operand, item)
        case Compare("eq" | "ne" as operator, Member(parts), Literal(value)):
            found: Any = item
            for part in parts:
                if not isinstance(found, dict) or part not in found:
                    raise bad_request(f"Could not find a property named '{part}'.")
                found = found[part]
            return bool(found == value) == (operator == "eq")
    raise bad_request("Only eq and ne, joined by and, or and not, can filter definitions.")

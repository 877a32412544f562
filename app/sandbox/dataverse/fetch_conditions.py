"""FetchXML's conditions as SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.sandbox.dataverse.conditions import like
from app.sandbox.dataverse.failures import Failed, bad_request, not_emulated
from app.sandbox.dataverse.fetchxml import Condition, Entity, Filter, Link
from app.sandbox.dataverse.query_functions import as_stored, by_operator
from app.sandbox.dataverse.shapes import primary_name
from app.sandbox.dataverse.terms import SORTS, Scope, Term

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from app.sandbox.dataverse.rights import User
    from app.sandbox.dataverse.schema import Column, Schema, Table
    from app.sandbox.dataverse.terms import Binder

_COMPARES = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_LIKES = {
    "like": "{}",
    "begins-with": "{}%",
    "ends-with": "%{}",
    "not-like": "{}",
    "not-begin-with": "{}%",
    "not-end-with": "%{}",
}
_NAMED = {
    # FetchXML's name for what OData writes as Microsoft.Dynamics.CRM.…
    "eq-userid": "EqualUserId",
    "ne-userid": "NotEqualUserId",
    "eq-businessid": "EqualBusinessId",
    "ne-businessid": "NotEqualBusinessId",
    "eq-userteams": "EqualUserTeams",
    "eq-useroruserteams": "EqualUserOrUserTeams",
    "last-seven-days": "Last7Days",
    "next-seven-days": "Next7Days",
    "on": "On",
    "on-or-after": "OnOrAfter",
    "on-or-before": "OnOrBefore",
    "under": "Under",
    "eq-or-under": "UnderOrEqual",
    "not-under": "NotUnder",
    "above": "Above",
    "eq-or-above": "AboveOrEqual",
    "contain-values": "ContainValues",
    "not-contain-values": "DoesNotContainValues",
}
_MANY = frozenset(
    {"in", "not-in", "between", "not-between", "contain-values", "not-contain-values"}
)


def no_attribute(name: str, table: Table) -> Failed:
    return Failed(
        400,
        "0x80041103",
        f"'{table.logical}' entity doesn't contain attribute with Name = '{name}' and "
        "NameMapping = 'Logical'.",
    )


def named(name: str, scope: Scope, schema: Schema, user: User) -> tuple[str, Column | None]:
    """A logical name; `primarycontactidname` is the name of what the lookup points at."""
    table = scope.table
    column = table.by_name.get(name)
    if column is not None:
        user.touch("Read", table, column.name)
        return f"{scope.alias}.{column.name}", column
    lookup = table.by_name.get(name.removesuffix("name"))
    if lookup is not None and lookup.kind == "lookup":
        user.touch("Read", table, lookup.name)
        return primary_name(schema, lookup, scope.alias), None
    raise no_attribute(name, table)


def where_all(
    entity: Entity, scope: Scope, scopes: Mapping[str, Scope], binder: Binder
) -> list[str]:
    return [_filter(one, scope, scopes, binder) for one in entity.filters]


def link_on(link: Link, inner: Scope, outer: Scope, user: User) -> str:
    for name, scope in ((link.source, inner), (link.target, outer)):
        if name not in scope.table.by_name:
            raise no_attribute(name, scope.table)
        user.touch("Read", scope.table, name)
    return f"{inner.alias}.{link.source} = {outer.alias}.{link.target}"


def linked(link: Link, binder: Binder) -> Table:
    """The table of a link-entity: any, with a relationship to the outer one or without."""
    name = link.entity.name
    table = binder.schema.tables.get(name)
    if table is not None:
        binder.user.need("Read", table)
        return table
    if name in binder.schema.intersects:
        return binder.schema.intersects[name]
    raise Failed(
        400,
        "0x80040217",
        f"The entity with a name = '{name}' with namemapping = 'Logical' was not found in the "
        "MetadataCache.",
    )


def link_condition(link: Link, outer: Scope, binder: Binder) -> str:
    """A link-entity that only asks whether there are such rows."""
    table = linked(link, binder)
    inner = Scope(table, binder.alias())
    conditions = [link_on(link, inner, outer, binder.user)]
    conditions += where_all(link.entity, inner, {}, binder)
    for nested in link.entity.links:
        if nested.kind == "outer":
            continue
        conditions.append(link_condition(nested, inner, binder))
    body = " AND ".join(conditions)
    word = "NOT EXISTS" if link.kind == "not any" else "EXISTS"
    return f"{word} (SELECT 1 FROM {table.logical} {inner.alias} WHERE {body})"  # noqa: S608


def _filter(one: Filter, scope: Scope, scopes: Mapping[str, Scope], binder: Binder) -> str:
    parts: list[str] = []
    for member in one.members:
        if isinstance(member, Filter):
            parts.append(_filter(member, scope, scopes, binder))
        elif isinstance(member, Link):
            parts.append(link_condition(member, scope, binder))
        else:
            parts.append(_condition(member, scope, scopes, binder))
    if not parts:
        return "1"
    return "(" + (" OR " if one.either else " AND ").join(parts) + ")"


def _condition(one: Condition, scope: Scope, scopes: Mapping[str, Scope], binder: Binder) -> str:
    if one.entity is not None:
        known = scopes.get(one.entity)
        if known is None:
            raise bad_request(f"No link-entity is named '{one.entity}'.", "0x8004111c")
        scope = known
    sql, column = named(one.attribute, scope, binder.schema, binder.user)
    term = Term(sql, SORTS[column.edm] if column is not None else "string", column)
    if one.value_of is not None:
        other, _ = named(one.value_of.rpartition(".")[2], scope, binder.schema, binder.user)
        return _compared(one.operator, sql, other)
    operator = one.operator
    if operator == "null":
        return f"{sql} IS NULL"
    if operator == "not-null":
        return f"{sql} IS NOT NULL"
    if operator in _LIKES:
        inside = like(sql, _LIKES[operator].format(_only(one)), binder)
        return f"NOT COALESCE({inside}, 0)" if operator.startswith("not") else inside
    if operator in {"eq", "ne", "neq", *_COMPARES}:
        return _compared(operator, sql, binder.bind(as_stored(_only(one), term)))
    values: dict[str, Any] = (
        {"PropertyValues": list(one.values)}
        if operator in _MANY
        else {"PropertyValue": one.values[0] if one.values else None}
    )
    short = _NAMED.get(operator) or "".join(w.capitalize() for w in operator.split("-"))
    if short.startswith("OlderThanX") or column is not None:
        return by_operator(short, one.attribute, values, scope, binder)
    raise not_emulated(f"the FetchXML operator '{operator}' on this attribute")


def _only(one: Condition) -> str:
    if len(one.values) != 1:
        raise bad_request(f"The condition operator '{one.operator}' takes one value.", "0x8004111c")
    return one.values[0]


def _compared(operator: str, left: str, right: str) -> str:
    if operator == "eq":
        return f"{left} = {right}"
    if operator in {"ne", "neq"}:
        return f"{left} IS NOT {right}"
    if operator not in _COMPARES:
        raise not_emulated(f"the FetchXML operator '{operator}' with valueof")
    return f"{left} {_COMPARES[operator]} {right}"

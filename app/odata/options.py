"""Read query options: each by its one name, once, and into a `Query`.

What an option may hold is the grammar's; which options may stand together is `read`'s.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from app.errors import Unreadable
from app.odata import fetchxml
from app.odata.clauses import read_apply, read_expand, read_select, read_whole, shown
from app.odata.expression import parse, parse_orderby
from app.odata.query import EMPTY, Query

if TYPE_CHECKING:
    from app.odata.tree import Expression

EXPANDED_MAX = 15
"""Items in all of a request's `$expand`; Dataverse's own limit (dataverse-reference 3.8)."""

SEAL = "broker-seal"

_OPAQUE = frozenset({"savedQuery", "userQuery", "sql"})
_PLAIN = frozenset({"x-ms-file-name", "size", "sessiontoken", "annotations"})


def read_options(options: tuple[tuple[str, str], ...]) -> tuple[Query, str | None]:
    """The query, and the seal where it carries one. Raises `Unreadable`."""
    if not options:
        return EMPTY, None
    found: dict[str, str] = {}
    for raw_name, value in options:
        # Clients spell `fetchXml` in every way; Dataverse reads all of them.
        name = "fetchXml" if raw_name.lower() == "fetchxml" else raw_name
        if name in found:
            raise Unreadable("bad-query", f"the option {shown(name)} is given twice")
        found[name] = value
    seal = found.pop(SEAL, None)
    fields: dict[str, Any] = {}
    aliases: list[tuple[str, Expression]] = []
    plain: list[tuple[str, str]] = []
    for name, value in found.items():
        reader = _READERS.get(name)
        if reader is not None:
            field, read = reader
            fields[field] = read(value)
        elif name in _OPAQUE:
            if "opaque" in fields:
                raise Unreadable("bad-query", "savedQuery, userQuery and sql stand alone")
            fields["opaque"] = (name, value)
        elif name.startswith("@"):
            if re.fullmatch(r"@[A-Za-z_]\w*", name, re.ASCII) is None:
                raise Unreadable("bad-query", "a parameter alias is no plain identifier")
            aliases.append((name, parse(value, name)))
        elif name in _PLAIN:
            plain.append((name, value))
        else:
            raise Unreadable("unknown-option", f"the option {shown(name)} is not read")
    if aliases:
        fields["aliases"] = tuple(aliases)
    if plain:
        fields["plain"] = tuple(plain)
    query = Query(**fields)
    _bound_expansions(query)
    return query, seal


def _bound_expansions(query: Query) -> None:
    pending, count = list(query.expand), 0
    while pending:
        item = pending.pop()
        count += 1
        pending.extend(item.query.expand)
    if count > EXPANDED_MAX:
        raise Unreadable(
            "limit-exceeded", f"$expand has {count} items; Dataverse reads {EXPANDED_MAX}"
        )


def _count(value: str) -> bool:
    if value not in {"true", "false"}:
        raise Unreadable("bad-query", "$count is true or false")
    return value == "true"


def _top(value: str) -> int:
    return read_whole(value, "$top")


def _filter(value: str) -> Expression:
    return parse(value, "$filter")


def _orderby(value: str) -> tuple[tuple[Expression, bool], ...]:
    return parse_orderby(value, "$orderby")


def _token(value: str) -> str:
    if not value:
        raise Unreadable("bad-query", "a continuation token is empty")
    return value


_READERS: dict[str, tuple[str, Any]] = {
    "$select": ("select", read_select),
    "$expand": ("expand", read_expand),
    "$filter": ("filter", _filter),
    "$orderby": ("orderby", _orderby),
    "$apply": ("apply", read_apply),
    "$count": ("count", _count),
    "$top": ("top", _top),
    "$skiptoken": ("skiptoken", _token),
    "$deltatoken": ("deltatoken", _token),
    "$id": ("reference", _token),
    "fetchXml": ("fetch", fetchxml.read_fetch),
}


def only(query: Query, allowed: frozenset[str], where: str) -> None:
    """Raises `Unreadable` where an option stands that has no meaning there."""
    if query is EMPTY:
        return
    for name in _others(allowed):
        if getattr(query, name) not in _UNSET:
            raise Unreadable("bad-query", f"the option {_OPTION.get(name, name)} {where}")


_UNSET = (None, ())


@cache
def _others(allowed: frozenset[str]) -> tuple[str, ...]:
    return tuple(name for name in Query.__struct_fields__ if name not in allowed)


_OPTION = {
    name: f"${name}"
    for name in ("select", "expand", "filter", "orderby", "apply", "count", "top", "skiptoken",
                 "deltatoken")
} | {"fetch": "fetchXml", "opaque": "savedQuery, userQuery or sql", "reference": "$id",
     "aliases": "@…", "plain": "of a file or of $metadata"}  # fmt: skip

"""Read query options: each by its one name, once, and into a `Query`.

What an option may hold is the grammar's; which options may stand together is `read`'s.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from app.errors import Unreadable
from app.odata import fetchxml
from app.odata.expression import Parser, parse, parse_orderby
from app.odata.query import (
    ALL_PROPERTIES,
    EMPTY,
    Aggregate,
    Expand,
    FilterStep,
    GroupStep,
    Query,
    Step,
)

if TYPE_CHECKING:
    from app.odata.tree import Expression

EXPANDED_MAX = 15
"""Items in all of a request's `$expand`; Dataverse's own limit (dataverse-reference 3.8)."""

SEAL = "broker-seal"

_OPAQUE = frozenset({"savedQuery", "userQuery", "sql"})
_PLAIN = frozenset({"x-ms-file-name", "size", "sessiontoken", "annotations"})
_METHODS = frozenset({"sum", "min", "max", "average", "countdistinct"})
_NUMBER = re.compile(r"[0-9]{1,9}")


def read_options(options: tuple[tuple[str, str], ...]) -> tuple[Query, str | None]:
    """The query, and the seal where it carries one. Raises `Unreadable`."""
    if not options:
        return EMPTY, None
    found: dict[str, str] = {}
    for raw_name, value in options:
        # Clients spell `fetchXml` in every way; Dataverse reads all of them.
        name = "fetchXml" if raw_name.lower() == "fetchxml" else raw_name
        if name in found:
            raise Unreadable("bad-query", f"the option {_shown(name)} is given twice")
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
            raise Unreadable("unknown-option", f"the option {_shown(name)} is not read")
    if aliases:
        fields["aliases"] = tuple(aliases)
    if plain:
        fields["plain"] = tuple(plain)
    query = Query(**fields)
    _bound_expansions(query)
    return query, seal


def _shown(name: str) -> str:
    """An option's name as an error may repeat it: short, and only if it is a name."""
    return name if re.fullmatch(r"[$@]?[A-Za-z_][\w-]{0,40}", name, re.ASCII) else "(unprintable)"


def _select(value: str) -> tuple[str, ...]:
    parser = Parser(value, "$select")
    names = _names(parser)
    parser.end()
    return names


def _names(parser: Parser) -> tuple[str, ...]:
    names: list[str] = []
    while True:
        names.append("*" if parser.take("*") else parser.name("a column"))
        if not parser.take(","):
            break
    # `name,*` is everything, as `*` is.
    return ALL_PROPERTIES if "*" in names else tuple(names)


def _expand(value: str) -> tuple[Expand, ...]:
    parser = Parser(value, "$expand")
    items = _expand_items(parser)
    parser.end()
    return items


def _expand_items(parser: Parser) -> tuple[Expand, ...]:
    items: list[Expand] = []
    while True:
        items.append(_expand_item(parser))
        if not parser.take(","):
            break
    names = [(i.navigation, i.cast, i.suffix) for i in items]
    if len(set(names)) != len(names):
        raise Unreadable("bad-query", "$expand names a navigation property twice")
    return tuple(items)


def _expand_item(parser: Parser) -> Expand:
    navigation = parser.name("a navigation property")
    if "." in navigation:
        raise parser.bad("a cast stands behind its navigation property; before")
    cast = suffix = None
    while parser.take("/"):
        if parser.token.kind == "system" and parser.token.text in {"$ref", "$count"}:
            suffix = parser.advance().text
            break
        if cast is not None:
            raise parser.bad("a path in $expand has one step; nest $expand instead")
        cast = parser.name("a type, $ref or $count")
        if "." not in cast:
            raise parser.bad("a path in $expand has one step; nest $expand instead; before")
    query = EMPTY
    if parser.take("("):
        parser.deeper()
        query = _nested(parser)
        parser.expect(")")
        parser.shallower()
    return Expand(navigation, cast, suffix, query)


def _nested(parser: Parser) -> Query:
    fields: dict[str, Any] = {}
    while True:
        if parser.token.kind != "system":
            raise parser.bad("expected an option such as $select")
        name = parser.advance().text
        field = name[1:]
        if field not in {"select", "filter", "orderby", "top", "expand"}:
            raise Unreadable("unknown-option", f"the option {_shown(name)} is not read in $expand")
        if field in fields:
            raise Unreadable("bad-query", f"the option {name} is given twice in $expand")
        parser.expect("=")
        if field == "select":
            fields[field] = _names(parser)
        elif field == "filter":
            fields[field] = parser.expression()
        elif field == "orderby":
            fields[field] = parser.orders()
        elif field == "expand":
            fields[field] = _expand_items(parser)
        else:
            token = parser.advance()
            fields[field] = _top(token.text)
        if not parser.take(";"):
            break
        if parser.peek(")"):
            break
    return Query(**fields)


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


def _apply(value: str) -> tuple[Step, ...]:
    parser = Parser(value, "$apply")
    steps: list[Step] = []
    while True:
        steps.append(_step(parser))
        if not parser.take("/"):
            break
    parser.end()
    return tuple(steps)


def _step(parser: Parser) -> Step:
    name = parser.name("filter, groupby or aggregate")
    parser.expect("(")
    step: Step
    if name == "filter":
        step = FilterStep(parser.expression())
    elif name == "aggregate":
        step = GroupStep(None, _aggregates(parser))
    elif name == "groupby":
        parser.expect("(")
        keys = [_property_path(parser)]
        while parser.take(","):
            keys.append(_property_path(parser))
        parser.expect(")")
        figures: tuple[Aggregate, ...] = ()
        if parser.take(","):
            if parser.name("aggregate") != "aggregate":
                raise parser.bad("only aggregate(…) is read in groupby; before")
            parser.expect("(")
            figures = _aggregates(parser)
            parser.expect(")")
        step = GroupStep(tuple(keys), figures)
    else:
        raise parser.bad("only filter, groupby and aggregate are read; before")
    parser.expect(")")
    return step


def _property_path(parser: Parser) -> tuple[str, ...]:
    path = [parser.name("a column")]
    while parser.take("/"):
        path.append(parser.name("a column"))
    return tuple(path)


def _aggregates(parser: Parser) -> tuple[Aggregate, ...]:
    found: list[Aggregate] = []
    while True:
        parser.term()
        source: Expression | None = None
        method: str | None = None
        if parser.token.kind == "system" and parser.token.text == "$count":
            parser.advance()
        else:
            source = parser.arithmetic()
            if parser.name("with") != "with":
                raise parser.bad("expected 'with' before")
            method = parser.name("a method")
            if method not in _METHODS:
                raise parser.bad("this method is not read; before")
        if parser.name("as") != "as":
            raise parser.bad("expected 'as' before")
        alias = parser.name("an alias")
        if "." in alias:
            raise parser.bad("an alias is a plain identifier; before")
        found.append(Aggregate(source, method, alias))
        if not parser.take(","):
            break
    return tuple(found)


def _count(value: str) -> bool:
    if value not in {"true", "false"}:
        raise Unreadable("bad-query", "$count is true or false")
    return value == "true"


def _top(value: str) -> int:
    if _NUMBER.fullmatch(value) is None:
        raise Unreadable("bad-query", "$top is a whole number")
    return int(value)


def _filter(value: str) -> Expression:
    return parse(value, "$filter")


def _orderby(value: str) -> tuple[tuple[Expression, bool], ...]:
    return parse_orderby(value, "$orderby")


def _token(value: str) -> str:
    if not value:
        raise Unreadable("bad-query", "a continuation token is empty")
    return value


_READERS: dict[str, tuple[str, Any]] = {
    "$select": ("select", _select),
    "$expand": ("expand", _expand),
    "$filter": ("filter", _filter),
    "$orderby": ("orderby", _orderby),
    "$apply": ("apply", _apply),
    "$count": ("count", _count),
    "$top": ("top", _top),
    "$skiptoken": ("skiptoken", _token),
    "$deltatoken": ("deltatoken", _token),
    "$id": ("reference", _token),
    "fetchXml": ("fetch", fetchxml.read_fetch),
}

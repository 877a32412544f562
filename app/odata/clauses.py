"""The grammar inside `$select`, `$expand` and `$apply`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from app.errors import Unreadable
from app.odata.expression import Parser
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

_METHODS = frozenset({"sum", "min", "max", "average", "countdistinct"})
_NESTED = frozenset({"select", "filter", "orderby", "top", "expand"})
_NUMBER = re.compile(r"[0-9]{1,9}")
_PLAIN_NAMES = re.compile(r"[A-Za-z_]\w*+(?:,[A-Za-z_]\w*+)*+", re.ASCII)
_SHOWN = re.compile(r"[$@]?[A-Za-z_][\w-]{0,40}", re.ASCII)


def shown(name: str) -> str:
    """An option's name as an error may repeat it: short, and only if it is a name."""
    return name if _SHOWN.fullmatch(name) else "(unprintable)"


def read_whole(value: str, name: str) -> int:
    if _NUMBER.fullmatch(value) is None:
        raise Unreadable("bad-query", f"{name} is a whole number")
    return int(value)


def read_select(value: str) -> tuple[str, ...]:
    if _PLAIN_NAMES.fullmatch(value):
        return tuple(value.split(","))
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


def read_expand(value: str) -> tuple[Expand, ...]:
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
        if parser.kind == "system" and parser.text in {"$ref", "$count"}:
            suffix = parser.advance()
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
        if parser.kind != "system":
            raise parser.bad("expected an option such as $select")
        name = parser.advance()
        field = name[1:]
        if field not in _NESTED:
            raise Unreadable("unknown-option", f"the option {shown(name)} is not read in $expand")
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
            fields[field] = read_whole(parser.advance(), name)
        if not parser.take(";"):
            break
        if parser.peek(")"):
            break
    return Query(**fields)


def read_apply(value: str) -> tuple[Step, ...]:
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
        if parser.kind == "system" and parser.text == "$count":
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

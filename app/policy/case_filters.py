"""Whether two filters say the same, and where filters stand in what is sent. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from app.errors import Unreadable
from app.odata.expression import parse
from app.odata.options import read_options
from app.odata.query import FilterStep
from app.odata.target import read_target
from app.odata.tree import Binary, Expression, Literal, Logical, Member, Unary, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.odata.fetchxml import Node
    from app.odata.query import Query

Form = Any
"""A nested tuple without order where order means nothing; equal ones say the same."""

_SERVICE_ROOT = re.compile(r"^(?:https?://[^/]+)?/api/data/v[0-9.]+/")
_REQUEST_LINE = re.compile(rb"^[A-Z]+ (\S.*) HTTP/1\.1\r?$", re.MULTILINE)


def same(one: Expression, other: str) -> bool:
    """Parentheses and the order of `and` and `or` do not matter. Raises `Unreadable`."""
    return bool(_form(one, typed=True) == _form(parse(other, "filter"), typed=True))


def same_fetch(filters: tuple[Node, ...], other: str) -> bool:
    """The filters of a FetchXML entity against the same in OData's words."""
    found = _joined("and", [_fetch_form(node) for node in filters])
    return bool(found == _form(parse(other, "filter"), typed=False))


def filters_in(target: str) -> Iterator[Expression]:
    """Every `$filter`, nested ones too, and the leading `filter()` of an `$apply`."""
    query = _query(target)
    if query is not None:
        yield from _filters(query)


def fetch_filters(target: str) -> Iterator[tuple[str, tuple[Node, ...]]]:
    """By the name of each FetchXML entity and link-entity."""
    query = _query(target)
    if query is not None and query.fetch is not None:
        yield from _fetch_filters(query.fetch.entity)


def inner_targets(body: bytes) -> list[str]:
    """The request lines of a batch."""
    return [line.decode("latin-1") for line in _REQUEST_LINE.findall(body)]


def _query(target: str) -> Query | None:
    try:
        read = read_target(_SERVICE_ROOT.sub("", target).encode("latin-1"), inner=True)
        return read_options(read.options)[0]
    except Unreadable:
        return None


def _filters(query: Query) -> Iterator[Expression]:
    if query.filter is not None:
        yield query.filter
    if query.apply and isinstance(query.apply[0], FilterStep):
        yield query.apply[0].condition
    for item in query.expand:
        yield from _filters(item.query)


def _fetch_filters(entity: Node) -> Iterator[tuple[str, tuple[Node, ...]]]:
    yield entity.get("name") or "", tuple(entity.find("filter"))
    for link in entity.find("link-entity"):
        yield from _fetch_filters(link)


# -------------------------------------------------------------------------- one form of each


def _form(node: Expression, *, typed: bool) -> Form:
    """`typed` keeps `'1'` and `1` apart: FetchXML does not."""
    match node:
        case Logical(operator=word, operands=operands):
            return _joined(word, [_form(operand, typed=typed) for operand in operands])
        case Binary(operator=operator, left=left, right=right):
            return (operator, _form(left, typed=typed), _form(right, typed=typed))
        case Unary(operator=operator, operand=operand):
            return (operator, _form(operand, typed=typed))
        case Literal():
            said = node.string()
            return node.text if typed or said is None else said
        case Member(path=path):
            return "/".join(path)
    return text(node)


def _joined(word: str, parts: list[Form]) -> Form:
    flat: set[Form] = set()
    for part in parts:
        flat.update(part[1] if isinstance(part, tuple) and part[0] == word else {part})
    return next(iter(flat)) if len(flat) == 1 else (word, frozenset(flat))


def _fetch_form(node: Node) -> Form:
    if node.tag == "condition":
        return (_OPERATORS.get(node.get("operator") or "", "?"), *_sides(node))
    inside = [_fetch_form(child) for child in node.children if child.tag in {"condition", "filter"}]
    return _joined(node.get("type") or "and", inside)


_OPERATORS = {
    "eq": "eq", "ne": "ne", "neq": "ne", "gt": "gt", "ge": "ge", "lt": "lt", "le": "le",
    "null": "eq", "not-null": "ne",
}  # fmt: skip


def _sides(condition: Node) -> tuple[str, str]:
    value = condition.get("value")
    return condition.get("attribute") or "", "null" if value is None else value

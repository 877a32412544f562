"""Row filters compiled: into an expression, into FetchXML, and into what a create must say.

A filter compares columns of its own table with constants. What reaches further, or has no
FetchXML that means the same, is refused when the configuration loads.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from app.errors import Unreadable
from app.odata.expression import parse
from app.odata.fetchxml import Node
from app.odata.json_text import Json, Number
from app.odata.tree import (
    Binary,
    Expression,
    Function,
    Listed,
    Literal,
    Logical,
    Member,
    Unary,
    conjuncts,
)
from app.policy.grants import RowFilter

if TYPE_CHECKING:
    from app.schema.model import Property, Schema, Table

_OPERATORS = {"eq": "eq", "ne": "ne", "gt": "gt", "ge": "ge", "lt": "lt", "le": "le"}
_MIRRORED = {"eq": "eq", "ne": "ne", "gt": "lt", "ge": "le", "lt": "gt", "le": "ge"}
_LIKE = {"contains": "%{}%", "startswith": "{}%", "endswith": "%{}"}
_GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


class RowFilterInvalid(ValueError):
    """Says what about the filter cannot be used, for the one who wrote it."""


def compile_row_filter(source: str, table: Table, schema: Schema) -> RowFilter:
    """Raises `RowFilterInvalid`."""
    try:
        condition = parse(source, "row_filter")
    except Unreadable as error:
        raise RowFilterInvalid(error.detail) from error
    columns: set[str] = set()
    node = _fetch(condition, table, columns)
    filtered = node if node.tag == "filter" else Node("filter", (("type", "and"),), (node,))
    return RowFilter(condition, frozenset(columns), filtered, _sets(condition, table, schema))


def _property(node: Expression, table: Table) -> Property | None:
    if not isinstance(node, Member):
        return None
    if len(node.path) != 1 or node.path[0] not in table.properties:
        raise RowFilterInvalid(
            f"row_filter names {'/'.join(node.path)}, which is no column of {table.entity_set}"
            " (a lookup is written _name_value; other tables cannot be reached)"
        )
    return table.properties[node.path[0]]


def _fetch(node: Expression, table: Table, columns: set[str]) -> Node:
    if isinstance(node, Logical):
        return Node(
            "filter",
            (("type", node.operator),),
            tuple(_fetch(o, table, columns) for o in node.operands),
        )
    if isinstance(node, Function) and node.name in _LIKE and len(node.arguments) == 2:
        known = _property(node.arguments[0], table)
        said = node.arguments[1]
        text = said.string() if isinstance(said, Literal) else None
        if known is not None and text is not None:
            if re.search(r"[%_\[\]]", text):
                raise RowFilterInvalid("row_filter compares with a wildcard (%, _, [ or ])")
            columns.add(known.column)
            return _condition(known, "like", _LIKE[node.name].format(text))
    if isinstance(node, Binary):
        return _comparison(node, table, columns)
    if isinstance(node, Unary):
        raise RowFilterInvalid("row_filter uses not: write the opposite comparison")
    raise RowFilterInvalid(
        "row_filter takes comparisons of columns with constants, joined with and and or"
    )


def _comparison(node: Binary, table: Table, columns: set[str]) -> Node:
    left, right, operator = node.left, node.right, node.operator
    if isinstance(left, Literal):
        left, right, operator = right, left, _MIRRORED.get(operator, operator)
    known = _property(left, table)
    if known is None:
        raise RowFilterInvalid("row_filter compares columns with constants")
    columns.add(known.column)
    if operator == "in" and isinstance(right, Listed):
        values = [_text(i) for i in right.items]
        return Node(
            "condition",
            (("attribute", known.column), ("operator", "in")),
            tuple(Node("value", text=v) for v in values),
        )
    if operator not in _OPERATORS or not isinstance(right, Literal):
        raise RowFilterInvalid("row_filter compares columns with constants")
    if right.text == "null":
        if operator not in {"eq", "ne"}:
            raise RowFilterInvalid("row_filter compares null with eq or ne only")
        word = "null" if operator == "eq" else "not-null"
        return Node("condition", (("attribute", known.column), ("operator", word)))
    return _condition(known, _OPERATORS[operator], _text(right))


def _condition(known: Property, operator: str, value: str) -> Node:
    return Node(
        "condition",
        (("attribute", known.column), ("operator", operator), ("value", value)),
    )


def _text(node: Expression) -> str:
    if not isinstance(node, Literal):
        raise RowFilterInvalid("row_filter compares columns with constants")
    said = node.string()
    if said is not None:
        return said
    if node.text in {"true", "false"}:
        return "1" if node.text == "true" else "0"
    if "'" in node.text:
        raise RowFilterInvalid("row_filter compares with an enumeration: write its number")
    return node.text


def _sets(
    condition: Expression, table: Table, schema: Schema
) -> tuple[tuple[str, Json], ...] | None:
    members: dict[str, Json] = {}
    for part in conjuncts(condition):
        if not isinstance(part, Binary) or part.operator != "eq":
            return None
        left, right = part.left, part.right
        if isinstance(left, Literal):
            left, right = right, left
        if not isinstance(left, Member) or not isinstance(right, Literal):
            return None
        known = table.properties[left.path[0]]
        name, value = known.name, _json(right)
        if known.is_lookup:
            bound = _bind(known, right, table, schema)
            if bound is None:
                return None
            name, value = bound
        if members.get(name, value) != value:
            return None
        members[name] = value
    return tuple(members.items())


def _json(literal: Literal) -> Json:
    said = literal.string()
    if said is not None:
        return said
    constants: dict[str, Json] = {"true": True, "false": False, "null": None}
    if literal.text in constants:
        return constants[literal.text]
    return Number(literal.text) if _NUMBER.fullmatch(literal.text) else literal.text


def _bind(
    known: Property, literal: Literal, table: Table, schema: Schema
) -> tuple[str, Json] | None:
    """A lookup is set by binding it; only where it can lead to one table is it clear how."""
    navigations = [
        n for n in table.navigations.values() if not n.collection and n.column == known.column
    ]
    if len(navigations) != 1 or _GUID.fullmatch(literal.text) is None:
        return None
    sets = schema.sets_of(navigations[0].target)
    if sets is None or len(sets) != 1:
        return None
    return f"{navigations[0].name}@odata.bind", f"/{sets[0]}({literal.text})"

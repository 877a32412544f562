"""Expressions as a tree, and as text again.

One tree for `$filter`, `$orderby`, `$apply`, keys, function parameters and aliases. It is
immutable, holds nothing but what was read, and `text()` writes it so that reading the text
again gives the same tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable


class Literal(msgspec.Struct, frozen=True):
    """A constant as it is written: `'O''Neil'`, `5`, `true`, a GUID, `Namespace.Enum'Member'`."""

    text: str

    def __repr__(self) -> str:
        return "Literal(…)"

    def string(self) -> str | None:
        """What a string literal says, or None where this is none."""
        if self.text[0] == "'":
            return self.text[1:-1].replace("''", "'")
        if self.text[0] == '"' and "\\" not in self.text:
            return self.text[1:-1]
        return None


class Member(msgspec.Struct, frozen=True):
    """A path to a property: `name`, `primarycontactid/fullname`, `t/subject`, `Tasks/$count`."""

    path: tuple[str, ...]


class Alias(msgspec.Struct, frozen=True):
    """A parameter alias, its `@` included."""

    name: str


class Function(msgspec.Struct, frozen=True):
    """A built-in function with positional arguments: `contains(name,'x')`."""

    name: str
    arguments: tuple[Expression, ...]


class Named(msgspec.Struct, frozen=True):
    """A qualified function with named parameters, as Dataverse's query functions are."""

    name: str
    parameters: tuple[tuple[str, Expression], ...]


class Lambda(msgspec.Struct, frozen=True):
    """`path/any(variable:body)` or `all`; an `any` may stand without a body."""

    path: tuple[str, ...]
    quantifier: str
    variable: str | None = None
    body: Expression | None = None


class Binary(msgspec.Struct, frozen=True):
    """A comparison or arithmetic."""

    operator: str
    left: Expression
    right: Expression


class Logical(msgspec.Struct, frozen=True):
    """`and` or `or` over two or more operands, none of which is the same operator again."""

    operator: str
    operands: tuple[Expression, ...]


class Unary(msgspec.Struct, frozen=True):
    """`not` or `-`."""

    operator: str
    operand: Expression


class Listed(msgspec.Struct, frozen=True):
    """A list: `['a','b']`, or with `brackets` "(" what stands behind `in`."""

    items: tuple[Expression, ...]
    brackets: str = "["


class Entry(msgspec.Struct, frozen=True):
    """An object, as function parameters hold them: `{'@odata.id':'accounts(…)'}`."""

    members: tuple[tuple[Literal, Expression], ...]


Expression = (
    Literal | Member | Alias | Function | Named | Lambda | Binary | Logical | Unary | Listed | Entry
)

COMPARISONS = frozenset({"eq", "ne", "gt", "ge", "lt", "le", "has", "in"})
ADDITIVE = frozenset({"add", "sub"})
MULTIPLICATIVE = frozenset({"mul", "div", "divby", "mod"})

_LOOSE = frozenset({Logical, Binary, Unary})
"""What may need parentheses to stay together."""
_OR, _AND, _COMPARISON, _ADDITIVE, _MULTIPLICATIVE, _UNARY, _PRIMARY = range(7)


def _level(node: Expression) -> int:
    if isinstance(node, Logical):
        return _AND if node.operator == "and" else _OR
    if isinstance(node, Binary):
        if node.operator in COMPARISONS:
            return _COMPARISON
        return _ADDITIVE if node.operator in ADDITIVE else _MULTIPLICATIVE
    return _UNARY if isinstance(node, Unary) else _PRIMARY


def text(node: Expression) -> str:
    """Write the expression with as few parentheses as its meaning needs."""
    return _WRITERS[type(node)](node)


def operand_text(node: Expression) -> str:
    """The same for a place that takes no comparison: a sort key, a figure's source."""
    return _inner(node, _ADDITIVE)


def value_text(node: Expression) -> str:
    """The same for a place that takes one operand: a key's or a parameter's value."""
    return _inner(node, _UNARY)


def _inner(node: Expression, level: int) -> str:
    kind = type(node)
    written = _WRITERS[kind](node)
    return written if kind not in _LOOSE or _level(node) >= level else f"({written})"


def _logical(node: Logical) -> str:
    level = _level(node) + 1
    return f" {node.operator} ".join([_inner(o, level) for o in node.operands])


def _binary(node: Binary) -> str:
    level = _level(node)
    # Left-associative; comparisons do not chain, so both their sides bind tighter.
    left = level + 1 if level == _COMPARISON else level
    return f"{_inner(node.left, left)} {node.operator} {_inner(node.right, level + 1)}"


def _function(node: Function) -> str:
    return f"{node.name}({','.join([_inner(a, _COMPARISON) for a in node.arguments])})"


def _named(node: Named) -> str:
    inside = ",".join([f"{name}={_inner(value, _UNARY)}" for name, value in node.parameters])
    return f"{node.name}({inside})"


def _lambda(node: Lambda) -> str:
    inside = "" if node.body is None else f"{node.variable}:{text(node.body)}"
    return f"{'/'.join(node.path)}/{node.quantifier}({inside})"


def _unary(node: Unary) -> str:
    sign = "not " if node.operator == "not" else "-"
    return sign + _inner(node.operand, _UNARY)


def _listed(node: Listed) -> str:
    close = "]" if node.brackets == "[" else ")"
    return node.brackets + ",".join([_inner(i, _UNARY) for i in node.items]) + close


def _entry(node: Entry) -> str:
    inside = ",".join([f"{k.text}:{_inner(v, _UNARY)}" for k, v in node.members])
    return "{" + inside + "}"


def _member(node: Member) -> str:
    path = node.path
    return path[0] if len(path) == 1 else "/".join(path)


def _literal(node: Literal) -> str:
    return node.text


def _alias(node: Alias) -> str:
    return node.name


_WRITERS: dict[type, Callable[..., str]] = {
    Literal: _literal,
    Member: _member,
    Alias: _alias,
    Function: _function,
    Named: _named,
    Lambda: _lambda,
    Binary: _binary,
    Logical: _logical,
    Unary: _unary,
    Listed: _listed,
    Entry: _entry,
}


def children(node: Expression) -> tuple[Expression, ...]:
    """The expressions directly inside."""
    if isinstance(node, Binary):
        return (node.left, node.right)
    if isinstance(node, Logical):
        return node.operands
    if isinstance(node, Function):
        return node.arguments
    if isinstance(node, Listed):
        return node.items
    if isinstance(node, Unary):
        return (node.operand,)
    if isinstance(node, Named):
        return tuple(v for _, v in node.parameters)
    if isinstance(node, Entry):
        return tuple(v for _, v in node.members)
    if isinstance(node, Lambda) and node.body is not None:
        return (node.body,)
    return ()


def both(left: Expression | None, right: Expression) -> Expression:
    """`left and right`, each meaning what it meant alone."""
    if left is None:
        return right
    return Logical("and", (*conjuncts(left), *conjuncts(right)))


def conjuncts(node: Expression | None) -> tuple[Expression, ...]:
    """The operands that must all hold."""
    if node is None:
        return ()
    if isinstance(node, Logical) and node.operator == "and":
        return node.operands
    return (node,)

"""Expressions as a tree, and as text again.

One tree for `$filter`, `$orderby`, `$apply`, keys, function parameters and aliases. It is
immutable, holds nothing but what was read, and `text()` writes it so that reading the text
again gives the same tree.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant as it is written: `'O''Neil'`, `5`, `true`, a GUID, `Namespace.Enum'Member'`."""

    text: str

    @property
    def is_string(self) -> bool:
        return self.text[0] == "'" or self.text[0] == '"'

    def string(self) -> str | None:
        """What a string literal says, or None where this is none."""
        if self.text[0] == "'":
            return self.text[1:-1].replace("''", "'")
        if self.text[0] == '"' and "\\" not in self.text:
            return self.text[1:-1]
        return None


@dataclass(frozen=True, slots=True)
class Member:
    """A path to a property: `name`, `primarycontactid/fullname`, `t/subject`, `Tasks/$count`."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alias:
    """A parameter alias, its `@` included."""

    name: str


@dataclass(frozen=True, slots=True)
class Function:
    """A built-in function with positional arguments: `contains(name,'x')`."""

    name: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A qualified function with named parameters, as Dataverse's query functions are."""

    name: str
    parameters: tuple[tuple[str, Expression], ...]


@dataclass(frozen=True, slots=True)
class Lambda:
    """`path/any(variable:body)` or `all`; an `any` may stand without a body."""

    path: tuple[str, ...]
    quantifier: str
    variable: str | None = None
    body: Expression | None = None


@dataclass(frozen=True, slots=True)
class Binary:
    """A comparison or arithmetic."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Logical:
    """`and` or `or` over two or more operands, none of which is the same operator again."""

    operator: str
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Unary:
    """`not` or `-`."""

    operator: str
    operand: Expression


@dataclass(frozen=True, slots=True)
class Listed:
    """A list: `['a','b']`, or with `brackets` "(" what stands behind `in`."""

    items: tuple[Expression, ...]
    brackets: str = "["


@dataclass(frozen=True, slots=True)
class Entry:
    """An object, as function parameters hold them: `{'@odata.id':'accounts(…)'}`."""

    members: tuple[tuple[Literal, Expression], ...]


Expression = (
    Literal | Member | Alias | Function | Named | Lambda | Binary | Logical | Unary | Listed | Entry
)

COMPARISONS = frozenset({"eq", "ne", "gt", "ge", "lt", "le", "has", "in"})
ADDITIVE = frozenset({"add", "sub"})
MULTIPLICATIVE = frozenset({"mul", "div", "divby", "mod"})

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
    if isinstance(node, Literal):
        return node.text
    if isinstance(node, Member):
        return "/".join(node.path)
    if isinstance(node, Alias):
        return node.name
    if isinstance(node, Logical):
        level = _level(node)
        return f" {node.operator} ".join(_inner(o, level + 1) for o in node.operands)
    if isinstance(node, Binary):
        level = _level(node)
        # Left-associative; comparisons do not chain, so both their sides bind tighter.
        left = level + 1 if level == _COMPARISON else level
        return f"{_inner(node.left, left)} {node.operator} {_inner(node.right, level + 1)}"
    if isinstance(node, Function):
        return f"{node.name}({','.join(text(a) for a in node.arguments)})"
    if isinstance(node, Unary):
        sign = "not " if node.operator == "not" else "-"
        return sign + _inner(node.operand, _UNARY)
    if isinstance(node, Named):
        inside = ",".join(f"{name}={text(value)}" for name, value in node.parameters)
        return f"{node.name}({inside})"
    if isinstance(node, Lambda):
        inside = "" if node.body is None else f"{node.variable}:{text(node.body)}"
        return f"{'/'.join(node.path)}/{node.quantifier}({inside})"
    if isinstance(node, Listed):
        close = "]" if node.brackets == "[" else ")"
        return node.brackets + ",".join(text(i) for i in node.items) + close
    return "{" + ",".join(f"{k.text}:{text(v)}" for k, v in node.members) + "}"


def _inner(node: Expression, level: int) -> str:
    written = text(node)
    return written if _level(node) >= level else f"({written})"


def both(left: Expression | None, right: Expression) -> Expression:
    """`left and right`, each meaning what it meant alone."""
    if left is None:
        return right
    operands: list[Expression] = []
    for node in (left, right):
        if isinstance(node, Logical) and node.operator == "and":
            operands.extend(node.operands)
        else:
            operands.append(node)
    return Logical("and", tuple(operands))


def conjuncts(node: Expression | None) -> tuple[Expression, ...]:
    """The operands that must all hold."""
    if node is None:
        return ()
    if isinstance(node, Logical) and node.operator == "and":
        return node.operands
    return (node,)

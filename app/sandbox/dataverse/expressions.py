"""OData expressions as a tree.

Literal      'x'  5  2024-01-01  null  Microsoft.Dynamics.CRM.T'Member'
Member       name   primarycontactid/fullname   c/lastname
Compare      eq ne gt ge lt le
Every, Some  a and b and c,  a or b or c
Negated      not x
Call         contains(name,'x')
NamedCall    Microsoft.Dynamics.CRM.In(PropertyName='x',PropertyValues=['1'])
Quantified   Account_Tasks/any(t:t/statecode eq 0)
Counted      Account_Tasks/$count
Items, Fields   JSON-like lists and objects in arguments
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.sandbox.dataverse.failures import bad_request

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Literal:
    """`kind`: null, bool, number, string, guid, date, datetime, enum, or name: an unquoted word."""

    value: Any
    kind: str


@dataclass(frozen=True, slots=True)
class Member:
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Every:
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Some:
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Negated:
    operand: Expression


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class NamedCall:
    name: str
    arguments: Mapping[str, Expression] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Quantified:
    parts: tuple[str, ...]
    quantifier: str
    variable: str | None
    body: Expression | None


@dataclass(frozen=True, slots=True)
class Counted:
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Items:
    values: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Fields:
    values: Mapping[str, Expression] = field(hash=False)


Expression = (
    Literal
    | Member
    | Compare
    | Every
    | Some
    | Negated
    | Call
    | NamedCall
    | Quantified
    | Counted
    | Items
    | Fields
)


def plain(node: Expression) -> Any:
    """The Python value of literals, lists and objects; 400 for anything else."""
    match node:
        case Literal(value=value):
            return value
        case Items(values=values):
            return [plain(v) for v in values]
        case Fields(values=values):
            return {k: plain(v) for k, v in values.items()}
        case Member(parts=(name,)):
            return name
    raise bad_request("A literal was expected as the value of a parameter.")

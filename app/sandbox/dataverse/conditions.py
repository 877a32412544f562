"""Expressions as SQL: what `$filter` means on rows.

Null is a value: `name ne 'x'` holds where there is no name, and `not` of what is unknown is true,
as in Dataverse's own translation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.sandbox.dataverse.expressions import (
    Call,
    Compare,
    Counted,
    Every,
    Expression,
    Items,
    Literal,
    Member,
    NamedCall,
    Negated,
    Quantified,
    Some,
)
from app.sandbox.dataverse.failures import bad_request
from app.sandbox.dataverse.query_functions import condition as query_function
from app.sandbox.dataverse.relations import join_condition
from app.sandbox.dataverse.terms import Scope, Term, column_of, navigation, stored

if TYPE_CHECKING:
    from app.sandbox.dataverse.terms import Binder

_SQL = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_EDM = {
    "string": "Edm.String",
    "number": "Edm.Int32",
    "bool": "Edm.Boolean",
    "guid": "Edm.Guid",
    "datetime": "Edm.DateTimeOffset",
    "date": "Edm.Date",
}
_OPERATION = {
    "eq": "Equal",
    "ne": "NotEqual",
    "gt": "GreaterThan",
    "ge": "GreaterThanOrEqual",
    "lt": "LessThan",
    "le": "LessThanOrEqual",
}


def where(node: Expression, scope: Scope, binder: Binder) -> str:
    """SQL that is true for the rows meant. Asks for the right to read each table it looks into."""
    match node:
        case Every(operands):
            return "(" + " AND ".join(where(o, scope, binder) for o in operands) + ")"
        case Some(operands):
            return "(" + " OR ".join(where(o, scope, binder) for o in operands) + ")"
        case Negated(NamedCall()):
            raise bad_request(
                "Not operator along with the Custom Named Condition operators is not allowed"
            )
        case Negated(operand):
            return f"NOT COALESCE({where(operand, scope, binder)}, 0)"
        case Compare(operator, left, right):
            return _compare(operator, term(left, scope, binder), term(right, scope, binder), binder)
        case Call(name, arguments):
            return _text_function(name, arguments, scope, binder)
        case NamedCall(name, named):
            return query_function(name, named, scope, binder)
        case Quantified():
            return _quantified(node, scope, binder)
        case Literal(value, "bool"):
            return "1" if value else "0"
        case Member():
            value = term(node, scope, binder)
            if value.sort == "bool":
                return f"{value.sql} = 1"
    raise bad_request("The $filter expression must evaluate to a single boolean value.")


def term(node: Expression, scope: Scope, binder: Binder) -> Term:
    match node:
        case Literal(_, kind):
            return Term("", kind, literal=node)
        case Member(parts):
            return column_of(parts, scope, binder)
        case Counted(parts):
            return Term(_count(parts, scope, binder), "number")
        case Call(name, _):
            raise bad_request(f"The query node SingleValueFunctionCall '{name}' is not supported.")
        case Items():
            raise bad_request("The query node Collection is not supported.")
    raise bad_request("The query node is not supported as an operand.")


def _compare(operator: str, left: Term, right: Term, binder: Binder) -> str:
    sort = left.sort if left.literal is None else right.sort
    if left.literal is not None and right.literal is not None:
        sort = left.sort
    for side in (left, right):
        if not _comparable(side, sort):
            raise bad_request(
                "A binary operator with incompatible types was detected. Found operand types "
                f"'{_EDM.get(left.sort, left.sort)}' and '{_EDM.get(right.sort, right.sort)}' for "
                f"operator kind '{_OPERATION[operator]}'."
            )
    column = left.column or right.column
    first, second = (
        binder.bind(stored(side.literal, column, sort)) if side.literal is not None else side.sql
        for side in (left, right)
    )
    null = any(s.literal is not None and s.literal.value is None for s in (left, right))
    collation = " COLLATE NOCASE" if sort == "string" else ""
    if operator == "eq":
        return f"{first} {'IS' if null else '='} {second}{collation}"
    if operator == "ne":
        return f"{first} IS NOT {second}{collation}"
    return f"{first} {_SQL[operator]} {second}{collation}"


def _comparable(side: Term, sort: str) -> bool:
    if side.literal is None:
        return side.sort == sort or {side.sort, sort} == {"date", "datetime"}
    kind = side.literal.kind
    if kind in {"null", sort}:
        return True
    # Dataverse's documents compare lookups with quoted GUIDs, and times with dates.
    return (sort, kind) in {
        ("guid", "string"),
        ("datetime", "date"),
        ("date", "datetime"),
        ("number", "enum"),
    }


def like(sql: str, pattern: str, binder: Binder) -> str:
    if "[" in pattern:
        return f"tsql_like({binder.bind(pattern)}, {sql})"
    return f"{sql} LIKE {binder.bind(pattern)}"


def _text_function(
    name: str, arguments: tuple[Expression, ...], scope: Scope, binder: Binder
) -> str:
    shapes = {"contains": "%{}%", "startswith": "{}%", "endswith": "%{}"}
    if name not in shapes:
        raise bad_request(f"An unknown function with name '{name}' was found.")
    if len(arguments) != 2:
        raise bad_request(f"No function signature for the function with name '{name}' matches.")
    value, pattern = term(arguments[0], scope, binder), arguments[1]
    if value.sort != "string" or not isinstance(pattern, Literal) or pattern.kind != "string":
        raise bad_request(
            f"No function signature for the function with name '{name}' matches the specified "
            "arguments."
        )
    sql = value.sql if value.literal is None else binder.bind(value.literal.value)
    return like(sql, shapes[name].format(pattern.value), binder)


def _collection(parts: tuple[str, ...], scope: Scope, binder: Binder) -> tuple[Scope, str]:
    """The rows that a collection-valued property holds, and the SQL that selects from them."""
    here = scope
    known = scope.variable(parts[0])
    if known is not None:
        here, parts = known, parts[1:]
    if len(parts) != 1:
        # Dataverse: collections nested in a lookup are not supported in lambdas.
        raise bad_request("The query node CollectionNavigationNode is not supported.")
    nav = navigation(here.table, parts[0])
    if not nav.is_collection:
        raise bad_request(f"The property '{parts[0]}' is not a collection.")
    target = binder.schema[nav.target]
    binder.user.need("Read", here.table)
    binder.user.need("Read", target)
    if nav.kind == "many":
        binder.user.touch("Read", target, nav.lookup)
    inner = Scope(target, binder.alias())
    joined = join_condition(binder.schema, nav, here.alias, here.table, inner.alias)
    return inner, f"FROM {target.logical} {inner.alias} WHERE {joined}"


def _quantified(node: Quantified, scope: Scope, binder: Binder) -> str:
    inner, source = _collection(node.parts, scope, binder)
    if node.body is None or node.variable is None:
        return f"EXISTS (SELECT 1 {source})"
    # A bare name inside the brackets is still a property of the outermost row ($it).
    named = Scope(scope.table, scope.alias, (*scope.variables, (node.variable, inner)))
    body = where(node.body, named, binder)
    if node.quantifier == "any":
        return f"EXISTS (SELECT 1 {source} AND {body})"
    return f"NOT EXISTS (SELECT 1 {source} AND NOT COALESCE({body}, 0))"


def _count(parts: tuple[str, ...], scope: Scope, binder: Binder) -> str:
    _, source = _collection(parts, scope, binder)
    return f"(SELECT COUNT(*) {source})"

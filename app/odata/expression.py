"""Tokens into a tree: the one grammar for filters, orders, keys, parameters and aliases.

Recursive descent, bounded in depth and in terms, so it is linear whatever the input. The
precedence is OData 4.0's (URL Conventions, 5.1.1.14), where `not` binds like a sign.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.errors import Unreadable
from app.odata.lexer import Token, tokens
from app.odata.tree import (
    ADDITIVE,
    COMPARISONS,
    MULTIPLICATIVE,
    Alias,
    Binary,
    Entry,
    Expression,
    Function,
    Lambda,
    Listed,
    Literal,
    Logical,
    Member,
    Named,
    Unary,
)
from app.schema.model import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable

TERMS_MAX = 500
"""Operands of `and` and `or`, in one expression."""
LEVELS_MAX = 40
"""Parentheses, calls, lambdas and chained operators within one another."""
LIST_MAX = 2000
"""Items in a list literal."""

FUNCTIONS = frozenset(
    {
        "contains", "startswith", "endswith", "length", "indexof", "substring", "tolower",
        "toupper", "trim", "concat", "year", "month", "day", "hour", "minute", "second",
        "fractionalseconds", "date", "time", "totaloffsetminutes", "now", "mindatetime",
        "maxdatetime", "round", "floor", "ceiling",
    }
)  # fmt: skip
"""OData's canonical functions over values. `cast` and `isof` name types: they are not read."""

_CONSTANTS = frozenset({"true", "false", "null", "INF", "NaN"})
_LITERALS = frozenset({"guid", "date", "time", "number", "typed", "string"})
_OPERATORS = COMPARISONS | ADDITIVE | MULTIPLICATIVE | {"and", "or"}


class Parser:
    """One text under one set of bounds. `where` names it in errors: `$filter`, `@p1`, …"""

    def __init__(self, source: str, where: str) -> None:
        self._where = where
        self._tokens = [t for t in tokens(source, where) if t.kind != "space"]
        self._spaced = source
        self._at = 0
        self._levels = 0
        self._terms = 0

    # ------------------------------------------------------------- reading

    @property
    def token(self) -> Token:
        return self._tokens[self._at]

    def advance(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def peek(self, mark: str) -> bool:
        token = self._tokens[self._at]
        return token.kind == "mark" and token.text == mark

    def peek_name(self, *names: str) -> bool:
        token = self._tokens[self._at]
        return token.kind == "name" and token.text in names

    def take(self, mark: str) -> bool:
        if self.peek(mark):
            self._at += 1
            return True
        return False

    def expect(self, mark: str) -> None:
        if not self.take(mark):
            raise self.bad(f"expected '{mark}'")

    def name(self, what: str) -> str:
        if self.token.kind != "name":
            raise self.bad(f"expected {what}")
        return self.advance().text

    def end(self) -> None:
        if self.token.kind != "end":
            raise self.bad("something is left over")

    def bad(self, what: str) -> Unreadable:
        return Unreadable(
            "bad-expression", f"{self._where}: {what} at position {self.token.at + 1}"
        )

    def touches_previous(self) -> bool:
        """Whether nothing stands between the token before and this one."""
        previous = self._tokens[self._at - 1]
        return previous.at + len(previous.text) == self.token.at

    def deeper(self) -> None:
        self._levels += 1
        if self._levels > LEVELS_MAX:
            raise Unreadable(
                "limit-exceeded",
                f"{self._where}: more than {LEVELS_MAX} levels; simplify the expression",
            )

    def shallower(self) -> None:
        self._levels -= 1

    def term(self) -> None:
        self._terms += 1
        if self._terms > TERMS_MAX:
            raise Unreadable(
                "limit-exceeded",
                f"{self._where}: more than {TERMS_MAX} terms; use In(…), or several requests",
            )

    # ------------------------------------------------------------- grammar

    def expression(self) -> Expression:
        return self._logical("or", lambda: self._logical("and", self._operand))

    def _operand(self) -> Expression:
        self.term()
        return self._comparison()

    def _logical(self, operator: str, operand: Callable[[], Expression]) -> Expression:
        first = operand()
        if not self.peek_name(operator):
            return first
        operands = [first]
        while self.peek_name(operator):
            self.advance()
            operands.append(operand())
        flat: list[Expression] = []
        for node in operands:
            # `a and (b and c)` is `a and b and c`: one node, so that depth stays bounded.
            if isinstance(node, Logical) and node.operator == operator:
                flat.extend(node.operands)
            else:
                flat.append(node)
        return Logical(operator, tuple(flat))

    def _comparison(self) -> Expression:
        left = self.arithmetic()
        token = self.token
        if token.kind != "name" or token.text not in COMPARISONS:
            return left
        self.advance()
        right = self._in_list() if token.text == "in" and self.peek("(") else self.arithmetic()
        return Binary(token.text, left, right)

    def arithmetic(self) -> Expression:
        return self._chain(ADDITIVE, lambda: self._chain(MULTIPLICATIVE, self._unary))

    def arithmetic_free(self) -> Expression:
        """A constant, a name, an alias, a list or an object: what keys and parameters hold."""
        return self._unary()

    def _chain(self, operators: frozenset[str], operand: Callable[[], Expression]) -> Expression:
        left = operand()
        depth = 0
        while self.token.kind == "name" and self.token.text in operators:
            # The tree leans to the left: each operator is a level of it.
            self.deeper()
            depth += 1
            operator = self.advance().text
            left = Binary(operator, left, operand())
        self._levels -= depth
        return left

    def _unary(self) -> Expression:
        if self.peek_name("not"):
            self.advance()
            self.deeper()
            operand = self._unary()
            self.shallower()
            return Unary("not", operand)
        if self.take("-"):
            self.deeper()
            operand = self._unary()
            self.shallower()
            return Unary("-", operand)
        return self._primary()

    def _primary(self) -> Expression:
        token = self.token
        kind = token.kind
        if kind == "name":
            return self._named()
        if kind in _LITERALS:
            self.advance()
            return Literal(token.text)
        if kind == "alias":
            self.advance()
            return Alias(token.text)
        if kind == "quoted":
            self.advance()
            return Literal(token.text)
        if self.take("("):
            self.deeper()
            inner = self.expression()
            self.expect(")")
            self.shallower()
            return inner
        if self.peek("["):
            return self._list()
        if self.peek("{"):
            return self._entry()
        if kind == "system" and token.text == "$count":
            raise self.bad("$count stands behind a collection")
        raise self.bad("expected a value or a name")

    def _named(self) -> Expression:
        token = self.advance()
        if token.text in _CONSTANTS:
            return Literal(token.text)
        if token.text in _OPERATORS or token.text == "not":
            self._at -= 1
            raise self.bad("an operator stands where a value is expected")
        if self.peek("(") and self.touches_previous():
            return self._call(token.text)
        path = [token.text]
        while self.peek("/"):
            self.advance()
            if self.token.kind == "system" and self.token.text == "$count":
                self.advance()
                path.append("$count")
                break
            step = self.name("a name behind '/'")
            if self.peek("(") and self.touches_previous():
                if step not in {"any", "all"}:
                    raise self.bad("only any(…) and all(…) can stand behind a path")
                return self._lambda(tuple(path), step)
            path.append(step)
        return Member(tuple(path))

    def _call(self, name: str) -> Expression:
        if "." in name:
            if not name.startswith(NAMESPACE + "."):
                raise self.bad("a qualified function must be one of Microsoft.Dynamics.CRM")
            return Named(name, self.parameters())
        if name not in FUNCTIONS:
            raise self.bad("this is not a function that can be read")
        self.expect("(")
        self.deeper()
        arguments: list[Expression] = []
        if not self.peek(")"):
            arguments.append(self._comparison())
            while self.take(","):
                arguments.append(self._comparison())
        self.expect(")")
        self.shallower()
        return Function(name, tuple(arguments))

    def orders(self) -> tuple[tuple[Expression, bool], ...]:
        keys: list[tuple[Expression, bool]] = []
        while True:
            self.term()
            key = self.arithmetic()
            descending = self.peek_name("asc", "desc") and self.advance().text == "desc"
            keys.append((key, descending))
            if not self.take(","):
                return tuple(keys)

    def parameters(self) -> tuple[tuple[str, Expression], ...]:
        """`(Name=value,…)`, each name once."""
        self.expect("(")
        self.deeper()
        found: dict[str, Expression] = {}
        while not self.peek(")"):
            name = self.name("a parameter's name")
            if name in found:
                raise self.bad("a parameter is given twice, before")
            self.expect("=")
            found[name] = self.arithmetic_free()
            if not self.take(","):
                break
            if self.peek(")"):
                raise self.bad("expected a parameter behind ','")
        self.expect(")")
        self.shallower()
        return tuple(found.items())

    def _lambda(self, path: tuple[str, ...], quantifier: str) -> Expression:
        self.expect("(")
        self.deeper()
        if self.take(")"):
            self.shallower()
            if quantifier == "all":
                raise self.bad("all() needs a condition, before")
            return Lambda(path, quantifier)
        variable = self.name("a variable")
        if "." in variable or variable in _OPERATORS or variable in _CONSTANTS:
            raise self.bad("this cannot name a variable; before")
        self.expect(":")
        body = self.expression()
        self.expect(")")
        self.shallower()
        return Lambda(path, quantifier, variable, body)

    def _items(self, close: str) -> tuple[Expression, ...]:
        self.advance()
        self.deeper()
        items: list[Expression] = []
        if not self.peek(close):
            items.append(self._unary())
            while self.take(","):
                items.append(self._unary())
                if len(items) > LIST_MAX:
                    raise Unreadable(
                        "limit-exceeded", f"{self._where}: a list of more than {LIST_MAX} items"
                    )
        self.expect(close)
        self.shallower()
        return tuple(items)

    def _list(self) -> Expression:
        return Listed(self._items("]"))

    def _in_list(self) -> Expression:
        items = self._items(")")
        if not items:
            raise self.bad("an empty list behind 'in', before")
        return Listed(items, "(")

    def _entry(self) -> Expression:
        self.advance()
        self.deeper()
        members: list[tuple[Literal, Expression]] = []
        seen: set[str] = set()
        while not self.peek("}"):
            if self.token.kind not in {"string", "quoted"}:
                raise self.bad("expected a quoted name")
            key = Literal(self.advance().text)
            said = key.string()
            if said is None or said in seen:
                raise self.bad("a name that is escaped or given twice, before")
            seen.add(said)
            self.expect(":")
            members.append((key, self._unary()))
            if not self.take(","):
                break
        self.expect("}")
        self.shallower()
        return Entry(tuple(members))


def parse(source: str, where: str) -> Expression:
    """Read one whole expression. Raises `Unreadable`: `bad-expression` or `limit-exceeded`."""
    parser = Parser(source, where)
    tree = parser.expression()
    parser.end()
    return tree


def parse_orderby(source: str, where: str) -> tuple[tuple[Expression, bool], ...]:
    """`name asc,createdon desc` as pairs of expression and whether it descends."""
    parser = Parser(source, where)
    keys = parser.orders()
    parser.end()
    return keys

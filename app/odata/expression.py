"""Tokens into a tree: the one grammar for filters, orders, keys, parameters and aliases.

Recursive descent, bounded in depth and in terms, so it is linear whatever the input. The
precedence is OData 4.0's (URL Conventions, 5.1.1.14), where `not` binds like a sign.
"""

from __future__ import annotations

from app.errors import Unreadable
from app.odata.cursor import Cursor
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
_LITERALS = frozenset({"guid", "date", "time", "number", "typed", "string", "quoted"})
_ARITHMETIC = ADDITIVE | MULTIPLICATIVE
_OPERATORS = COMPARISONS | _ARITHMETIC | {"and", "or", "not"}


class Parser(Cursor):
    """The grammar's rules, each a method that steps over what it has read."""

    __slots__ = ()

    def expression(self) -> Expression:
        first = self._conjunction()
        if not self.peek_name("or"):
            return first
        operands = [first]
        while self.peek_name("or"):
            self.advance()
            operands.append(self._conjunction())
        return _flat("or", operands)

    def _conjunction(self) -> Expression:
        first = self._operand()
        if not self.peek_name("and"):
            return first
        operands = [first]
        while self.peek_name("and"):
            self.advance()
            operands.append(self._operand())
        return _flat("and", operands)

    def _operand(self) -> Expression:
        before = self.terms
        node = self._comparison()
        if self.terms == before:
            # Parentheses are no terms of their own: what stands in them has been counted.
            self.term()
        return node

    def _comparison(self) -> Expression:
        left = self.arithmetic()
        if self.kind != "name" or self.text not in COMPARISONS:
            return left
        operator = self.advance()
        right = self._in_list() if operator == "in" and self.peek("(") else self.arithmetic()
        return Binary(operator, left, right)

    def arithmetic(self) -> Expression:
        left = self.value()
        if self.kind == "name" and self.text in _ARITHMETIC:
            return self._sum(left)
        return left

    def _sum(self, first: Expression) -> Expression:
        left = self._product(first)
        chained = 0
        while self.kind == "name" and self.text in ADDITIVE:
            # The tree leans to the left: each operator is a level of it.
            self.deeper()
            chained += 1
            left = Binary(self.advance(), left, self._product(self.value()))
        self.shallower(chained)
        return left

    def _product(self, left: Expression) -> Expression:
        chained = 0
        while self.kind == "name" and self.text in MULTIPLICATIVE:
            self.deeper()
            chained += 1
            left = Binary(self.advance(), left, self.value())
        self.shallower(chained)
        return left

    def value(self) -> Expression:
        """One operand; in keys and parameters a constant, an alias, a list or an object."""
        kind = self.kind
        if kind in _LITERALS:
            return Literal(self.advance())
        if kind == "name":
            if self.peek_name("not"):
                return self._signed("not")
            return self._named()
        if kind == "alias":
            return Alias(self.advance())
        if kind == "mark":
            return self._marked()
        if kind == "system" and self.text == "$count":
            raise self.bad("$count stands behind a collection")
        raise self.bad("expected a value or a name")

    def _marked(self) -> Expression:
        mark = self.text
        if mark == "(":
            self.advance()
            self.deeper()
            inner = self.expression()
            self.expect(")")
            self.shallower()
            return inner
        if mark == "[":
            return Listed(self._items("]"))
        if mark == "{":
            return self._entry()
        if mark == "-":
            return self._signed("-")
        raise self.bad("expected a value or a name")

    def _signed(self, operator: str) -> Expression:
        self.advance()
        self.deeper()
        number = self.kind == "number"
        operand = self.value()
        self.shallower()
        if operator == "-" and isinstance(operand, Literal):
            if not number:
                raise self.bad("'-' stands in front of a constant that is no number; before")
            if not operand.text.startswith("-"):
                return Literal("-" + operand.text)
        return Unary(operator, operand)

    # --------------------------------------------------------------- names

    def _named(self) -> Expression:
        first = self.advance()
        if first in _CONSTANTS:
            return Literal(first)
        if first in _OPERATORS:
            self.back()
            raise self.bad("an operator stands where a value is expected")
        if self.peek("(") and self.touches_previous():
            return self._call(first)
        if not self.peek("/"):
            return Member((first,))
        path = [first]
        while self.take("/"):
            if self.kind == "system" and self.text == "$count":
                path.append(self.advance())
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
            return Named(name, self._parameters())
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

    def _parameters(self) -> tuple[tuple[str, Expression], ...]:
        """`(Name=value,…)`, each name once."""
        self.expect("(")
        self.deeper()
        found: dict[str, Expression] = {}
        while not self.peek(")"):
            name = self.name("a parameter's name")
            if name in found:
                raise self.bad("a parameter is given twice, before")
            self.expect("=")
            found[name] = self.value()
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

    # ------------------------------------------------- orders, lists, objects

    def orders(self) -> tuple[tuple[Expression, bool], ...]:
        """Pairs of expression and whether it descends."""
        keys: list[tuple[Expression, bool]] = []
        while True:
            self.term()
            key = self.arithmetic()
            descending = self.peek_name("asc", "desc") and self.advance() == "desc"
            keys.append((key, descending))
            if not self.take(","):
                return tuple(keys)

    def _items(self, close: str) -> tuple[Expression, ...]:
        self.advance()
        self.deeper()
        items: list[Expression] = []
        if not self.peek(close):
            items.append(self.value())
            while self.take(","):
                items.append(self.value())
                if len(items) > LIST_MAX:
                    raise Unreadable(
                        "limit-exceeded", f"{self.where}: a list of more than {LIST_MAX} items"
                    )
        self.expect(close)
        self.shallower()
        return tuple(items)

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
            if self.kind not in {"string", "quoted"}:
                raise self.bad("expected a quoted name")
            key = Literal(self.advance())
            said = key.string()
            if said is None or said in seen:
                raise self.bad("a name that is escaped or given twice, before")
            seen.add(said)
            self.expect(":")
            members.append((key, self.value()))
            if not self.take(","):
                break
            if self.peek("}"):
                raise self.bad("expected a member behind ','")
        self.expect("}")
        self.shallower()
        return Entry(tuple(members))


def _flat(operator: str, operands: list[Expression]) -> Expression:
    """`a and (b and c)` is `a and b and c`: one node, so that depth stays bounded."""
    flat: list[Expression] = []
    for node in operands:
        if isinstance(node, Logical) and node.operator == operator:
            flat.extend(node.operands)
        else:
            flat.append(node)
    return Logical(operator, tuple(flat))


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

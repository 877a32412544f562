"""OData expressions, and the arguments of keys and functions, read into a tree."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from app.sandbox.dataverse.expressions import (
    Call,
    Compare,
    Counted,
    Every,
    Expression,
    Fields,
    Items,
    Literal,
    Member,
    NamedCall,
    Negated,
    Quantified,
    Some,
)
from app.sandbox.dataverse.failures import bad_request
from app.sandbox.dataverse.tokens import Word, words

if TYPE_CHECKING:
    from collections.abc import Mapping

DEPTH_MAX = 100
_OPERATORS = frozenset({"eq", "ne", "gt", "ge", "lt", "le"})
_ARITHMETIC = frozenset({"add", "sub", "mul", "div", "divby", "mod", "has", "in"})


def parse_expression(text: str, aliases: Mapping[str, str]) -> Expression:
    """`aliases`: what `@p1` and the like stand for, by name with the @."""
    return _Reader(text, aliases).whole()


def parse_arguments(text: str, aliases: Mapping[str, str]) -> list[tuple[str | None, Expression]]:
    """What stands between the brackets of a key or a function, in order."""
    return _Reader(text, aliases).arguments_only()


class _Reader:
    def __init__(
        self,
        text: str,
        aliases: Mapping[str, str],
        *,
        opened: frozenset[str] = frozenset(),
        depth: int = 0,
    ) -> None:
        self._text = text
        self._words = words(text)
        self._at = 0
        self._aliases = aliases
        self._opened = opened
        self._depth = depth

    def whole(self) -> Expression:
        tree = self._either()
        if self._peek().kind != "end":
            raise self._unexpected()
        return tree

    def arguments_only(self) -> list[tuple[str | None, Expression]]:
        found = self._arguments(closing="")
        if self._peek().kind != "end":
            raise self._unexpected()
        return found

    # ------------------------------------------------------------ grammar

    def _either(self) -> Expression:
        self._deeper()
        operands = [self._both()]
        while self._takes("name", "or"):
            operands.append(self._both())
        self._depth -= 1
        return operands[0] if len(operands) == 1 else Some(tuple(operands))

    def _both(self) -> Expression:
        operands = [self._negation()]
        while self._takes("name", "and"):
            operands.append(self._negation())
        return operands[0] if len(operands) == 1 else Every(tuple(operands))

    def _negation(self) -> Expression:
        word = self._peek()
        if word.kind == "name" and word.text == "not":
            self._at += 1
            self._deeper()
            operand = self._negation()
            self._depth -= 1
            return Negated(operand)
        return self._comparison()

    def _comparison(self) -> Expression:
        left = self._operand()
        word = self._peek()
        if word.kind == "name" and word.text in _OPERATORS:
            self._at += 1
            return Compare(word.text, left, self._operand())
        if word.kind == "name" and word.text in _ARITHMETIC:
            raise bad_request("The query node BinaryOperator is not supported.")
        return left

    def _operand(self) -> Expression:
        word = self._next()
        match word.kind:
            case "string":
                return Literal(word.text[1:-1].replace("''", "'"), "string")
            case "json":
                return Literal(self._json_string(word), "string")
            case "guid":
                return Literal(word.text.lower(), "guid")
            case "datetime" | "date":
                return Literal(word.text, word.kind)
            case "number":
                exact = word.text.lstrip("-").isdigit()
                return Literal(int(word.text) if exact else float(word.text), "number")
            case "alias":
                return self._aliased(word.text)
            case "mark" if word.text == "(":
                tree = self._either()
                self._expect(")")
                return tree
            case "mark" if word.text == "[":
                return self._items()
            case "mark" if word.text == "{":
                return self._fields()
            case "name":
                return self._named(word)
        raise self._unexpected(word)

    def _named(self, word: Word) -> Expression:
        if word.text in {"null", "true", "false"} and not self._sees("mark", "/"):
            value = {"null": None, "true": True, "false": False}[word.text]
            return Literal(value, "null" if value is None else "bool")
        following = self._peek()
        if following.kind == "string" and following.at == word.at + len(word.text):
            self._at += 1
            return Literal(following.text[1:-1], "enum")
        if self._takes("mark", "("):
            arguments = self._arguments(closing=")")
            if "." in word.text:
                return NamedCall(word.text, _by_name(word.text, arguments))
            return Call(word.text, tuple(node for _, node in arguments))
        return self._path(word)

    def _path(self, word: Word) -> Expression:
        parts = [word.text]
        while self._takes("mark", "/"):
            part = self._next()
            if part.kind != "name":
                raise self._unexpected(part)
            if part.text in {"any", "all"} and self._takes("mark", "("):
                return self._quantified(tuple(parts), part.text)
            if part.text == "$count":
                return Counted(tuple(parts))
            parts.append(part.text)
        if parts[0] == "$it":
            parts = parts[1:] or ["$it"]
        return Member(tuple(parts))

    def _quantified(self, parts: tuple[str, ...], quantifier: str) -> Expression:
        if self._takes("mark", ")"):
            if quantifier == "all":
                raise bad_request("The lambda operator 'all' needs an expression.")
            return Quantified(parts, quantifier, None, None)
        variable = self._next()
        if variable.kind != "name":
            raise self._unexpected(variable)
        self._expect(":")
        body = self._either()
        self._expect(")")
        return Quantified(parts, quantifier, variable.text, body)

    def _arguments(self, *, closing: str) -> list[tuple[str | None, Expression]]:
        found: list[tuple[str | None, Expression]] = []
        if closing and self._takes("mark", closing):
            return found
        if not closing and self._peek().kind == "end":
            return found
        while True:
            name: str | None = None
            word, following = self._peek(), self._words[min(self._at + 1, len(self._words) - 1)]
            if word.kind == "name" and following.kind == "mark" and following.text == "=":
                name = word.text
                self._at += 2
            found.append((name, self._either()))
            if not self._takes("mark", ","):
                break
        if closing:
            self._expect(closing)
        return found

    def _items(self) -> Items:
        self._deeper()
        values: list[Expression] = []
        if not self._takes("mark", "]"):
            values.append(self._operand())
            while self._takes("mark", ","):
                values.append(self._operand())
            if not self._takes("mark", "]"):
                raise bad_request(
                    "Invalid JSON. A comma character ',' was expected in scope 'Array'. Every two "
                    "elements in an array and properties of an object must be separated by commas."
                )
        self._depth -= 1
        return Items(tuple(values))

    def _fields(self) -> Fields:
        self._deeper()
        values: dict[str, Expression] = {}
        if not self._takes("mark", "}"):
            while True:
                name = self._next()
                if name.kind == "json":
                    key = self._json_string(name)
                elif name.kind == "string":
                    key = name.text[1:-1]
                else:
                    raise self._unexpected(name)
                self._expect(":")
                values[key] = self._operand()
                if not self._takes("mark", ","):
                    break
            self._expect("}")
        self._depth -= 1
        return Fields(values)

    def _aliased(self, name: str) -> Expression:
        text = self._aliases.get(name)
        if text is None:
            return Literal(None, "null")
        if name in self._opened:
            raise bad_request(f"The alias '{name}' refers to itself.")
        return _Reader(text, self._aliases, opened=self._opened | {name}, depth=self._depth).whole()

    # ------------------------------------------------------------ words

    def _peek(self) -> Word:
        return self._words[self._at]

    def _next(self) -> Word:
        word = self._words[self._at]
        if word.kind != "end":
            self._at += 1
        return word

    def _sees(self, kind: str, text: str) -> bool:
        word = self._peek()
        return word.kind == kind and word.text == text

    def _takes(self, kind: str, text: str) -> bool:
        if self._sees(kind, text):
            self._at += 1
            return True
        return False

    def _expect(self, mark: str) -> None:
        if not self._takes("mark", mark):
            raise self._unexpected()

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise bad_request("Recursion depth exceeded allowed limit.")

    def _unexpected(self, word: Word | None = None) -> Exception:
        word = word or self._peek()
        return bad_request(f"Syntax error at position {word.at} in '{self._text}'.")

    @staticmethod
    def _json_string(word: Word) -> str:
        try:
            return str(json.loads(word.text))
        except ValueError as error:
            raise bad_request("Invalid JSON in a parameter.") from error


def _by_name(
    function: str, arguments: list[tuple[str | None, Expression]]
) -> dict[str, Expression]:
    named: dict[str, Expression] = {}
    for name, node in arguments:
        if name is None or name in named:
            raise bad_request(f"The parameters of '{function}' must be named, each once.")
        named[name] = node
    return named

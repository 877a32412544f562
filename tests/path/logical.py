"""Whether two filters say the same, whatever their parentheses and their order.

A reader of its own, so that the broker's mistakes are not made twice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_plus
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN = re.compile(
    r"\s*(?:('(?:[^']|'')*')|(\d{4}-\d\d-\d\d[T0-9:.Z+-]*)|([\w.@$/{}-]+)|([(),:]))", re.ASCII
)
_COMPARISONS = {"eq", "ne", "gt", "ge", "lt", "le", "in", "has"}
_ARITHMETIC = {"add", "sub", "mul", "div", "divby", "mod"}

Form = Any
"""A nested tuple; equal ones say the same."""


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                raise ValueError(f"no filter: {text!r} at {at}")
            self._tokens.append(found.group().strip())
            at = found.end()
        self._at = 0

    def whole(self) -> Form:
        form = self._any_of()
        if self._at != len(self._tokens):
            raise ValueError(f"something behind the filter: {self._tokens[self._at :]}")
        return form

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _any_of(self) -> Form:
        parts = [self._all_of()]
        while self._peek() == "or":
            self._next()
            parts.append(self._all_of())
        return joined("or", parts)

    def _all_of(self) -> Form:
        parts = [self._one()]
        while self._peek() == "and":
            self._next()
            parts.append(self._one())
        return joined("and", parts)

    def _one(self) -> Form:
        if self._peek() == "not":
            self._next()
            return ("not", self._one())
        left = self._sum()
        if self._peek() in _COMPARISONS:
            return (self._next(), left, self._sum())
        return left

    def _sum(self) -> Form:
        left = self._operand()
        while self._peek() in _ARITHMETIC:
            left = (self._next(), left, self._operand())
        return left

    def _operand(self) -> Form:
        token = self._next()
        if token == "(":
            items = self._list()
            return items[0] if len(items) == 1 else ("list", *items)
        if self._peek() == "(":
            self._next()
            call: Form = ("call", token, *self._list())
            while self._peek().startswith("/"):
                call = ("path", call, self._operand())
            return call
        return _literal(token)

    def _list(self) -> list[Form]:
        items: list[Form] = []
        while self._peek() != ")":
            if self._peek() == ",":
                self._next()
            item = self._any_of()
            if self._peek() == ":":
                self._next()
                item = ("lambda", item, self._any_of())
            items.append(item)
        self._next()
        return items


def _literal(token: str) -> Form:
    return re.sub(r"^'(-?\d+)'$", r"\1", token)


def joined(word: str, parts: list[Form]) -> Form:
    """Flat, without repetition, in a fixed order."""
    flat: set[Form] = set()
    for part in parts:
        flat.update(part[1] if isinstance(part, tuple) and part[0] == word else {part})
    if len(flat) == 1:
        return next(iter(flat))
    return (word, frozenset(flat))


def same(one: str, other: str) -> bool:
    return bool(form_of(one) == form_of(other))


def form_of(text: str) -> Form:
    return _Reader(text).whole()


# ----------------------------------------------------------------- where filters stand


def filters_in(target: str) -> Iterator[str]:
    """Every `$filter`, nested ones too, and the leading `filter()` of an `$apply`."""
    for option in target.partition("?")[2].split("&"):
        name, _, value = option.partition("=")
        name, value = unquote_plus(name), unquote_plus(value)
        if name == "$filter":
            yield value
        elif name == "$apply" and value.startswith("filter("):
            yield _balanced(value, len("filter("), ")")
        elif name == "$expand":
            for found in re.finditer(r"\$filter=", value):
                yield _balanced(value, found.end(), ");")


def _balanced(text: str, start: int, ends: str) -> str:
    """Up to one of `ends` that is neither quoted nor in parentheses."""
    depth, quoted = 0, False
    for at in range(start, len(text)):
        character = text[at]
        if character == "'":
            quoted = not quoted
        elif quoted:
            continue
        elif depth == 0 and character in ends:
            return text[start:at]
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
    return text[start:]


def inner_targets(body: bytes) -> list[str]:
    """The request lines of a batch."""
    lines = re.findall(rb"^[A-Z]+ (\S.*) HTTP/1\.1\r?$", body, re.MULTILINE)
    return [line.decode("latin-1") for line in lines]


_OPERATORS = {"eq": "eq", "ne": "ne", "neq": "ne", "gt": "gt", "ge": "ge", "lt": "lt", "le": "le"}


def fetch_filters(target: str) -> dict[str, Form]:
    """By entity or link-entity: all its filters, joined by `and`."""
    found: dict[str, Form] = {}
    for option in target.partition("?")[2].split("&"):
        name, _, value = option.partition("=")
        if unquote(name).lower() != "fetchxml":
            continue
        root = ET.fromstring(unquote_plus(value))  # noqa: S314 - what the broker itself wrote
        for element in root.iter():
            if element.tag in {"entity", "link-entity"}:
                filters = [_fetch_form(f) for f in element.findall("filter")]
                if filters:
                    found[element.get("name", "")] = joined("and", filters)
    return found


def _fetch_form(element: ET.Element) -> Form:
    parts: list[Form] = []
    for child in element:
        if child.tag == "filter":
            parts.append(_fetch_form(child))
        elif child.tag == "condition":
            operator = child.get("operator", "")
            attribute = child.get("attribute", "")
            value = child.get("value")
            if operator in {"null", "not-null"}:
                parts.append(("eq" if operator == "null" else "ne", attribute, "null"))
            elif operator in _OPERATORS and value is not None:
                parts.append((_OPERATORS[operator], attribute, value))
            else:
                values = tuple(v.text for v in child.findall("value")) or (value,)
                parts.append((operator, attribute, *values))
    return joined(element.get("type", "and"), parts)


def unquoted(form: Form) -> Form:
    """For comparison with FetchXML, whose values have no quotes."""
    if isinstance(form, str):
        return form[1:-1].replace("''", "'") if form.startswith("'") else form
    if isinstance(form, frozenset):
        return frozenset(unquoted(part) for part in form)
    return tuple(unquoted(part) for part in form)

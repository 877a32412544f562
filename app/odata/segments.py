"""One path segment: a name, and what stands in its parentheses."""

from __future__ import annotations

import re

import msgspec

from app.errors import Unreadable
from app.odata.expression import Parser
from app.odata.headers import is_guid
from app.odata.tree import Expression, Literal, Member, value_text

_SEGMENT = re.compile(r"(\$?[A-Za-z_][\w.]*+|\$[0-9]{1,9})(\(.*\))?", re.ASCII | re.DOTALL)
_COLUMN = re.compile(r"[A-Za-z_]\w*+", re.ASCII)


class Key(msgspec.Struct, frozen=True):
    """What picks a row: its id (a value without a name), or columns with their values."""

    values: tuple[tuple[str | None, Literal], ...]

    @property
    def guid(self) -> str | None:
        """In lower case, where the key is one GUID without a name."""
        return self.id_in(None)

    def id_in(self, primary_key: str | None) -> str | None:
        """The same, also where the GUID is given as this column: `accountid=…`."""
        if len(self.values) != 1:
            return None
        name, value = self.values[0]
        known = name is None or name == primary_key
        return value.text.lower() if known and is_guid(value.text) else None

    def text(self) -> str:
        return ",".join([v.text if n is None else f"{n}={v.text}" for n, v in self.values])


class Segment(msgspec.Struct, frozen=True):
    """`arguments` is None without parentheses; positional ones have no name."""

    name: str
    arguments: tuple[tuple[str | None, Expression], ...] | None = None

    def key(self) -> Key:
        """The arguments as a key. Raises `Unreadable` where they cannot be one."""
        values: list[tuple[str | None, Literal]] = []
        for name, value in self.arguments or ():
            if not isinstance(value, Literal) or value.text[0] == '"' or value.text == "null":
                raise Unreadable("bad-path", "a key holds constants")
            values.append((name, value))
        if not values or (len(values) > 1 and any(n is None for n, _ in values)):
            raise Unreadable("bad-path", "a key is one id, or name=value pairs")
        return Key(tuple(values))

    def text(self) -> str:
        if self.arguments is None:
            return self.name
        inside = [value_text(v) if n is None else f"{n}={value_text(v)}" for n, v in self.arguments]
        return f"{self.name}({','.join(inside)})"


def read_segment(source: str) -> Segment:
    """Raises `Unreadable`: `bad-path` or `bad-expression`."""
    match = _SEGMENT.fullmatch(source)
    if match is None:
        raise Unreadable("bad-path", "a path segment is no name, perhaps with a key behind it")
    name, inside = match.groups()
    if name[-1] == ".":
        raise Unreadable("bad-path", "a name ends with a dot")
    if inside is None:
        return Segment(name)
    parser = Parser(inside, "the path")
    parser.expect("(")
    arguments: list[tuple[str | None, Expression]] = []
    seen: set[str] = set()
    while not parser.peek(")"):
        label: str | None = None
        value = parser.value()
        if parser.take("="):
            label = _label(value)
            if label in seen:
                raise Unreadable("bad-path", "a key names a column twice")
            seen.add(label)
            value = parser.value()
        arguments.append((label, value))
        if not parser.take(","):
            break
        if parser.peek(")"):
            raise Unreadable("bad-path", "a key ends with a comma")
    parser.expect(")")
    parser.end()
    return Segment(name, tuple(arguments))


def _label(value: Expression) -> str:
    if isinstance(value, Member) and len(value.path) == 1 and _COLUMN.fullmatch(value.path[0]):
        return value.path[0]
    raise Unreadable("bad-path", "a key names something that is no column")

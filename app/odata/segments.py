"""One path segment: a name, and what stands in its parentheses."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.errors import Unreadable
from app.odata.expression import Parser
from app.odata.tree import Expression, Literal, text

_SEGMENT = re.compile(r"(\$?[A-Za-z_][\w.]*|\$[0-9]{1,9})(\(.*\))?", re.ASCII | re.DOTALL)
_GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


@dataclass(frozen=True, slots=True)
class Key:
    """What picks a row: its GUID (one value without a name), or columns of an alternate key."""

    values: tuple[tuple[str | None, Literal], ...]

    @property
    def guid(self) -> str | None:
        name, value = self.values[0]
        if len(self.values) == 1 and name is None and _GUID.fullmatch(value.text):
            return value.text.lower()
        return None

    def text(self) -> str:
        return ",".join(v.text if n is None else f"{n}={v.text}" for n, v in self.values)


@dataclass(frozen=True, slots=True)
class Segment:
    """`arguments` is None without parentheses; positional ones have no name."""

    name: str
    arguments: tuple[tuple[str | None, Expression], ...] | None = None

    def key(self) -> Key:
        """The arguments as a key. Raises `Unreadable` where they cannot be one."""
        values: list[tuple[str | None, Literal]] = []
        for name, value in self.arguments or ():
            if not isinstance(value, Literal) or value.text[0] == '"':
                raise Unreadable("bad-path", "a key holds constants")
            values.append((name, value))
        if not values or (len(values) > 1 and any(n is None for n, _ in values)):
            raise Unreadable("bad-path", "a key is one id, or name=value pairs")
        return Key(tuple(values))

    def text(self) -> str:
        if self.arguments is None:
            return self.name
        inside = ",".join(text(v) if n is None else f"{n}={text(v)}" for n, v in self.arguments)
        return f"{self.name}({inside})"


def read_segment(source: str) -> Segment:
    """Raises `Unreadable`: `bad-path` or `bad-expression`."""
    match = _SEGMENT.fullmatch(source)
    if match is None:
        raise Unreadable("bad-path", "a path segment is no name, perhaps with a key behind it")
    name, inside = match.groups()
    if inside is None:
        return Segment(name)
    if "." in name and name.endswith("."):
        raise Unreadable("bad-path", "a name ends with a dot")
    parser = Parser(inside, "the path")
    parser.expect("(")
    arguments: list[tuple[str | None, Expression]] = []
    seen: set[str] = set()
    while not parser.peek(")"):
        label: str | None = None
        value = parser.arithmetic_free()
        if parser.take("="):
            label = _label(value)
            if label in seen:
                raise Unreadable("bad-path", "a key names a column twice")
            seen.add(label)
            value = parser.arithmetic_free()
        arguments.append((label, value))
        if not parser.take(","):
            break
        if parser.peek(")"):
            raise Unreadable("bad-path", "a key ends with a comma")
    parser.expect(")")
    parser.end()
    return Segment(name, tuple(arguments))


def _label(value: Expression) -> str:
    label = text(value)
    if re.fullmatch(r"[A-Za-z_]\w*", label, re.ASCII) is None:
        raise Unreadable("bad-path", "a key names something that is no column")
    return label

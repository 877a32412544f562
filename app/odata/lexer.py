"""Text into tokens, for every place where OData writes an expression. Linear in the text."""

from __future__ import annotations

import re
from typing import NamedTuple

from app.errors import Unreadable

GUID = r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
_CLOCK = r"\d\d:\d\d(?::\d\d(?:\.\d{1,12})?)?"

# Each alternative begins differently or is told apart by its next character, so no input
# makes the expression go back over what it has read.
_TOKEN = re.compile(
    rf"""
      (?P<space>[ \t\r\n]+)
    | (?P<guid>{GUID}(?![\w-]))
    | (?P<date>\d{{4}}-\d\d-\d\d(?:T{_CLOCK}(?:Z|[+-]\d\d:\d\d))?(?![\w:.-]))
    | (?P<time>{_CLOCK}(?![\w:.-]))
    | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.-]))
    | (?P<typed>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*'(?:[^']|'')*')
    | (?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
    | (?P<string>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9A-Fa-f]{{4}})*")
    | (?P<alias>@[A-Za-z_]\w*)
    | (?P<system>\$[a-z]+)
    | (?P<mark>[()\[\]{{}},/:=;*+-])
    """,
    re.VERBOSE | re.ASCII,
)


class Token(NamedTuple):
    """`kind` is the group's name above, or `end`; `at` counts characters from 0."""

    kind: str
    text: str
    at: int


def tokens(source: str, where: str) -> list[Token]:
    """Raises `Unreadable` at the first character that begins no token."""
    found: list[Token] = []
    at, end = 0, len(source)
    match = _TOKEN.match
    while at < end:
        token = match(source, at)
        if token is None:
            raise Unreadable(
                "bad-expression",
                f"{where}: the character at position {at + 1} begins nothing that can be read",
            )
        found.append(Token(token.lastgroup or "", token.group(), at))
        at = token.end()
    found.append(Token("end", "", end))
    return found

"""Text into tokens, for every place where OData writes an expression. Linear in the text."""

from __future__ import annotations

import re
from typing import NamedTuple

from app.errors import Unreadable

GUID = r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
_CLOCK = r"\d\d:\d\d(?::\d\d(?:\.\d{1,12})?)?"
_SPACE = r"[ \t\r\n]"

# Each alternative begins differently or is told apart by what follows, and what repeats does so
# possessively: no input makes the expression go back over what it has read.
_TOKEN = re.compile(
    rf"""
    {_SPACE}*+
    (?: (?P<guid>{GUID}(?![\w-]))
    | (?P<date>\d{{4}}-\d\d-\d\d(?:T{_CLOCK}(?:Z|[+-]\d\d:\d\d))?(?![\w:.-]))
    | (?P<time>{_CLOCK}(?![\w:.-]))
    | (?P<number>-?\d++(?:\.\d++)?+(?:[eE][+-]?\d++)?+(?![\w.-]))
    | (?P<typed>[A-Za-z_]\w*+(?:\.[A-Za-z_]\w*+)*+'(?:[^']|'')*+')
    | (?P<name>[A-Za-z_]\w*+(?:\.[A-Za-z_]\w*+)*+)
    | (?P<string>'(?:[^']|'')*+')
    | (?P<quoted>"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9A-Fa-f]{{4}})*+")
    | (?P<alias>@[A-Za-z_]\w*+)
    | (?P<system>\$[a-z]++)
    | (?P<mark>[()\[\]{{}},/:=;*+-])
    )
    """,
    re.VERBOSE | re.ASCII,
)
_TRAILING = re.compile(rf"{_SPACE}*+")


class Tokens(NamedTuple):
    """Three columns of one table: a token's group in the expression above, text and place.

    The last one is of kind `end`. `starts` counts characters from 0, white space left out.
    """

    kinds: list[str]
    texts: list[str]
    starts: list[int]


def tokens(source: str, where: str) -> Tokens:
    """Raises `Unreadable` at the first character that begins no token."""
    kinds: list[str] = []
    texts: list[str] = []
    starts: list[int] = []
    at, end = 0, len(source)
    match = _TOKEN.match
    while at < end:
        token = match(source, at)
        if token is None:
            break
        kind = token.lastgroup
        assert kind is not None
        text = token[kind]
        at = token.end()
        kinds.append(kind)
        texts.append(text)
        starts.append(at - len(text))
    if at < end:
        rest = _TRAILING.match(source, at)
        assert rest is not None
        if rest.end() < end:
            raise Unreadable(
                "bad-expression",
                f"{where}: the character at position {rest.end() + 1} begins nothing that can"
                " be read",
            )
    kinds.append("end")
    texts.append("")
    starts.append(end)
    return Tokens(kinds, texts, starts)

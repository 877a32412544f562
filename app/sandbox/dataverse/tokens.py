"""Expressions as words: what `$filter`, keys, function arguments and aliases are made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from app.sandbox.dataverse.failures import bad_request

_GUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_WORDS: Final = re.compile(
    rf"""
      (?P<space>\s+)
    | (?P<string>'(?:[^']|'')*')
    | (?P<json>"(?:[^"\\]|\\.)*")
    | (?P<guid>{_GUID})(?![\w-])
    | (?P<datetime>\d{{4}}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d))
    | (?P<date>\d{{4}}-\d\d-\d\d)(?![\w-])
    | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w])
    | (?P<alias>@[^\W\d]\w*)
    | (?P<name>\$?[^\W\d]\w*(?:\.[^\W\d]\w*)*)
    | (?P<at>@)
    | (?P<mark>[()\[\]{{}},/:;=*])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Word:
    kind: str
    text: str
    at: int


def words(text: str) -> list[Word]:
    """Raises the 400 that Dataverse gives for what no word is."""
    found: list[Word] = []
    at = 0
    while at < len(text):
        match = _WORDS.match(text, at)
        if match is None:
            if text[at] in "'\"":
                raise bad_request(
                    f"There is an unterminated literal at position {at + 1} in '{text}'."
                )
            raise bad_request(f"Syntax error at position {at} in '{text}'.")
        kind = str(match.lastgroup)
        if kind != "space":
            found.append(Word(kind, match.group(), at))
        at = match.end()
    found.append(Word("end", "", len(text)))
    return found


def split(text: str, mark: str) -> list[str]:
    """The pieces between `mark` that stand outside quotes and brackets, stripped."""
    pieces: list[str] = []
    depth = 0
    quoted = False
    start = 0
    for at, char in enumerate(text):
        if char == "'":
            quoted = not quoted
        elif quoted:
            continue
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == mark and depth == 0:
            pieces.append(text[start:at].strip())
            start = at + 1
    pieces.append(text[start:].strip())
    return pieces

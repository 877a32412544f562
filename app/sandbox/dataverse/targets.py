"""Request targets: a path as segments, a query as options, both decoded once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from app.sandbox.dataverse.failures import bad_request

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSIONED = re.compile(r"^/api/data/(v9\.[0-9](?:\.[0-9]+)*)(?:/(.*))?$", re.DOTALL)
"""v9.2, and builds such as v9.2.786.1008 (dataverse-reference 3.1)."""

_KNOWN = frozenset(
    {"$select", "$filter", "$orderby", "$top", "$count", "$expand", "$apply"}
    | {"$skiptoken", "$deltatoken", "$id"}
)
_SAFE = "=/$,()';:@!*-._~"


@dataclass(frozen=True, slots=True)
class Segment:
    """`name(arguments)`; `arguments` is None where there are no brackets."""

    name: str
    arguments: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """Options in their order, decoded. System options by their exact name, `@…` are aliases."""

    pairs: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.pairs if key == name), None)

    @property
    def aliases(self) -> dict[str, str]:
        return {k: v for k, v in self.pairs if k.startswith("@")}

    def linked(self, *, without: Sequence[str], token: tuple[str, str]) -> str:
        """The same options for a continuation: what was asked, then the token."""
        kept = [(k, v) for k, v in self.pairs if k not in without]
        written = [f"{quote(k, safe=_SAFE)}={quote(v, safe=_SAFE)}" for k, v in kept]
        # Dataverse encodes the whole of a delta token, and little of a skip token.
        safe = "" if token[0] == "$deltatoken" else _SAFE
        return "&".join([*written, f"{token[0]}={quote(token[1], safe=safe)}"])


def decode(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError as error:
        raise bad_request("A part of the URL is not UTF-8.") from error


def read_segments(path: str) -> tuple[Segment, ...]:
    """The part below /api/data/v9.2/, still percent-encoded; one trailing slash is forgiven."""
    pieces: list[str] = []
    quoted = False
    start = 0
    at = 0
    while at < len(path):
        if path[at] == "'":
            quoted = not quoted
        elif path[at] == "%" and path[at : at + 3] == "%27":
            quoted = not quoted
            at += 2
        elif path[at] == "/" and not quoted:
            pieces.append(path[start:at])
            start = at + 1
        at += 1
    pieces.append(path[start:])
    if pieces[-1] == "":
        pieces.pop()
    return tuple(_segment(decode(piece)) for piece in pieces)


def _segment(text: str) -> Segment:
    if not text:
        raise bad_request("The request URI has an empty segment.")
    name, bracket, rest = text.partition("(")
    if not bracket:
        return Segment(name)
    if not rest.endswith(")"):
        raise bad_request(f"Bad Request - Error in query syntax: '{text}'.")
    return Segment(name, rest[:-1])


def read_query(text: str) -> Query:
    pairs: list[tuple[str, str]] = []
    seen: set[str] = set()
    for piece in text.split("&") if text else ():
        if not piece:
            continue
        key, _, value = piece.partition("=")
        name = decode(key.replace("+", " ")).strip()
        if name.startswith("$") and name not in _KNOWN:
            raise bad_request(f"The query parameter {name} is not supported")
        if name.startswith(("$", "@")) and name in seen:
            raise bad_request(
                f"Query option '{name}' was specified more than once, but it must be specified "
                "at most once."
            )
        seen.add(name)
        pairs.append((name, decode(value.replace("+", " "))))
    return Query(tuple(pairs))

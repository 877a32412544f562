"""A request's target, decoded exactly once: the path's segments and the query's options.

Whatever two readers could read in two ways is refused here, so that nothing behind this module
meets an encoded slash, a dot segment or an option given twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from app.errors import Unreadable

TARGET_BYTES_MAX = 32 * 1024

_PLAIN = re.compile(rb"[\x21-\x7e]*")
_INNER_PLAIN = re.compile(rb"[\x20-\x7e]*")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_PATH_FORBIDDEN = re.compile(rb"%(?:2[fFeE]|5[cC]|00)|\\")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Line breaks and tabs are white space inside options: Microsoft's own samples have them.
_QUERY_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Target:
    """Path segments below the service root, and options in order; all decoded.

    No segments: the service root itself.
    """

    segments: tuple[str, ...]
    options: tuple[tuple[str, str], ...]


def read_target(raw: bytes, *, inner: bool = False) -> Target:
    """Read `accounts(…)?$select=…`. `inner` is a batch part's, where spaces may stand raw.

    Raises `Unreadable`: `bad-path`, `bad-query` or `target-too-long`.
    """
    if len(raw) > TARGET_BYTES_MAX:
        raise Unreadable(
            "target-too-long",
            f"the target has {len(raw)} bytes; {TARGET_BYTES_MAX} are read: use a $batch",
        )
    path, mark, query = raw.partition(b"?")
    plain = _INNER_PLAIN if inner else _PLAIN
    if plain.fullmatch(raw) is None:
        raise Unreadable("bad-path", "the target has a byte that must be percent-encoded")
    return Target(_segments(path), _options(query) if mark else ())


def _segments(path: bytes) -> tuple[str, ...]:
    if not path:
        return ()
    if _PATH_FORBIDDEN.search(path):
        raise Unreadable("bad-path", "the path has an encoded slash, backslash, dot or NUL")
    if b"#" in path:
        raise Unreadable("bad-path", "the path has a fragment")
    return tuple(_segment(s) for s in path.split(b"/"))


def _segment(raw: bytes) -> str:
    segment = _decode(raw, "path") if b"%" in raw else raw.decode("ascii")
    if segment in {"", ".", ".."}:
        raise Unreadable("bad-path", "the path has an empty or a dot segment")
    if _CONTROL.search(segment):
        raise Unreadable("bad-path", "the path has a control character")
    if ";" in segment and ";" in re.sub(r"'(?:[^']|'')*'", "''", segment):
        raise Unreadable("bad-path", "the path has a matrix parameter (';')")
    return segment


def _decode(raw: bytes, what: str) -> str:
    def byte(match: re.Match[bytes]) -> bytes:
        digits = match.group(1)
        if digits is None:
            raise Unreadable(f"bad-{what}", f"the {what} has a '%' that begins no escape")
        return bytes((int(digits, 16),))

    decoded = _ESCAPE.sub(byte, raw)
    try:
        return decoded.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable(f"bad-{what}", f"the {what} is not UTF-8") from None


def _options(query: bytes) -> tuple[tuple[str, str], ...]:
    if not query:
        return ()
    if b"#" in query:
        raise Unreadable("bad-query", "the query has a fragment")
    options: list[tuple[str, str]] = []
    for part in query.split(b"&"):
        if not part:
            raise Unreadable("bad-query", "the query has an empty option ('&&')")
        name, _, value = part.partition(b"=")
        options.append((_option_text(name), _option_text(value)))
    return tuple(options)


def _option_text(raw: bytes) -> str:
    spaced = raw.replace(b"+", b" ")
    decoded = _decode(spaced, "query") if b"%" in spaced else spaced.decode("ascii")
    if _QUERY_CONTROL.search(decoded):
        raise Unreadable("bad-query", "the query has a control character")
    return decoded


_PATH_SAFE = "!$'()*,=:@-._~"
_QUERY_SAFE = "!$'()*,/:;@-._~"


def write_path(segments: tuple[str, ...]) -> str:
    return "/".join(quote(s, safe=_PATH_SAFE) for s in segments)


def write_query(options: tuple[tuple[str, str], ...]) -> str:
    return "&".join(
        f"{quote(name, safe=_QUERY_SAFE)}={quote(value, safe=_QUERY_SAFE)}"
        for name, value in options
    )


def write_target(target: Target) -> str:
    """Percent-encoded, so that reading it again gives the same target."""
    path = write_path(target.segments)
    return f"{path}?{write_query(target.options)}" if target.options else path

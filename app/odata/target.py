"""A request's target, decoded exactly once: the path's segments and the query's options.

Whatever two readers could read in two ways is refused here, so that nothing behind this module
meets an encoded slash, a dot segment or an option given twice.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

import msgspec

from app.errors import Unreadable

TARGET_BYTES_MAX = 32 * 1024

_PLAIN = re.compile(rb"[\x21-\x7e]*+")
_INNER_PLAIN = re.compile(rb"[\x20-\x7e]*+")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PATH_FORBIDDEN = re.compile(rb"%(?:2[fFeE]|5[cC]|00)|\\")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Line breaks and tabs are white space inside options: Microsoft's own samples have them.
_QUERY_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_CONTROL_ESCAPE = re.compile(rb"%(?:[01][0-9A-Fa-f]|7[fF]|[cC]2)")
_STRINGS = re.compile(r"'(?:[^']|'')*+'")


class Target(msgspec.Struct, frozen=True):
    """Path segments below the service root, and options in order; all decoded.

    No segments: the service root itself.
    """

    segments: tuple[str, ...]
    options: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return f"Target({len(self.segments)} segments, {len(self.options)} options)"


def read_target(raw: bytes, *, inner: bool = False) -> Target:
    """Read `accounts(…)?$select=…`.

    `inner` is a batch part's or a reference's, which clients write without encoding spaces and
    letters beyond ASCII. Raises `Unreadable`: `bad-path`, `bad-query` or `target-too-long`.
    """
    if len(raw) > TARGET_BYTES_MAX:
        raise Unreadable(
            "target-too-long",
            f"the target has {len(raw)} bytes; {TARGET_BYTES_MAX} are read: use a $batch",
        )
    if inner and not raw.isascii():
        raw = _BEYOND_ASCII.sub(_escaped, raw)
    path, mark, query = raw.partition(b"?")
    if (_INNER_PLAIN if inner else _PLAIN).fullmatch(raw) is None:
        raise Unreadable("bad-path", "the target has a byte that must be percent-encoded")
    return Target(_segments(path), _options(query) if mark else ())


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match.group()[0]


def _segments(path: bytes) -> tuple[str, ...]:
    if not path:
        return ()
    if _PATH_FORBIDDEN.search(path):
        raise Unreadable("bad-path", "the path has an encoded slash, backslash, dot or NUL")
    if b"#" in path:
        raise Unreadable("bad-path", "the path has a fragment")
    escaped = _is_escaped(path, "path")
    return tuple([_segment(s, escaped=escaped) for s in path.split(b"/")])


def _is_escaped(raw: bytes, what: str) -> bool:
    if b"%" not in raw:
        return False
    if _BROKEN_ESCAPE.search(raw):
        raise Unreadable(f"bad-{what}", f"the {what} has a '%' that begins no escape")
    return True


def _segment(raw: bytes, *, escaped: bool) -> str:
    segment = _decoded(raw, "path") if escaped else raw.decode("ascii")
    if segment in {"", ".", ".."}:
        raise Unreadable("bad-path", "the path has an empty or a dot segment")
    # Only an escape brings one in: what stands plain has been looked at.
    if escaped and _CONTROL.search(segment):
        raise Unreadable("bad-path", "the path has a control character")
    if ";" in segment and ";" in _STRINGS.sub("", segment):
        raise Unreadable("bad-path", "the path has a matrix parameter (';')")
    return segment


def _decoded(raw: bytes, what: str) -> str:
    if b"%" not in raw:
        return raw.decode("ascii")
    try:
        return unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable(f"bad-{what}", f"the {what} is not UTF-8") from None


def _options(query: bytes) -> tuple[tuple[str, str], ...]:
    if not query:
        return ()
    if b"#" in query:
        raise Unreadable("bad-query", "the query has a fragment")
    escaped = _is_escaped(query, "query")
    options: list[tuple[str, str]] = []
    for part in query.replace(b"+", b" ").split(b"&"):
        if not part:
            raise Unreadable("bad-query", "the query has an empty option ('&&')")
        name, _, value = part.partition(b"=")
        if escaped:
            options.append((_decoded(name, "query"), _decoded(value, "query")))
        else:
            options.append((name.decode("ascii"), value.decode("ascii")))
    risky = escaped and _CONTROL_ESCAPE.search(query)
    if risky and any(_QUERY_CONTROL.search(name + value) for name, value in options):
        raise Unreadable("bad-query", "the query has a control character")
    return tuple(options)


_PATH_SAFE = "!$'()*,=:@-._~"
_VALUE_SAFE = "!$'()*,/:;=@-._~"
_SAFE_PATH = re.compile(r"[A-Za-z0-9!$'()*,=:@._~-]*+")
_SAFE_NAME = re.compile(r"[A-Za-z0-9$@._~-]*+")
_SAFE_OR_SPACE = re.compile(r"[A-Za-z0-9!$'()*,/:;=@._~ -]*+")


def write_path(segments: tuple[str, ...]) -> str:
    return "/".join([s if _SAFE_PATH.fullmatch(s) else quote(s, _PATH_SAFE) for s in segments])


def write_query(options: tuple[tuple[str, str], ...]) -> str:
    return "&".join([f"{_name(name)}={_value(value)}" for name, value in options])


def _name(name: str) -> str:
    return name if _SAFE_NAME.fullmatch(name) else quote(name, "$@-._~")


def _value(value: str) -> str:
    if _SAFE_OR_SPACE.fullmatch(value):
        return value.replace(" ", "%20")
    return quote(value, _VALUE_SAFE)


def write_target(target: Target) -> str:
    """Percent-encoded, so that reading it again gives the same target."""
    path = write_path(target.segments)
    return f"{path}?{write_query(target.options)}" if target.options else path

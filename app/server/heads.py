"""What a request's target says, and how an answer's head is written."""

from __future__ import annotations

import functools
import http
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from app.server.spelling import SPELT

if TYPE_CHECKING:
    from collections.abc import Iterable

Pair = tuple[bytes, bytes]

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[\t -~\x80-\xff]*")
_ORIGIN: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://[^/?]*")
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_NAMES_MAX: Final = 1024

NO_CONTENT: Final = 204

_plain: dict[bytes, bytes] = {}
"""Names that were written before and frame nothing, as they begin a line."""


class AnswerHead:
    """An answer's head as bytes, and what it says of the body that follows."""

    __slots__ = ("chunked", "closes", "data", "length")

    def __init__(self, data: bytes, *, length: int | None, chunked: bool, closes: bool) -> None:
        self.data = data
        self.length = length
        """The declared one."""
        self.chunked = chunked
        self.closes = closes


def written(
    status: int,
    headers: Iterable[Pair],
    *,
    always: bytes,
    bodiless: bool,
    chunks: bool,
    closes: bool,
) -> AnswerHead:
    """`always` are whole lines that stand first. `bodiless`: the answer to a HEAD, a 204, a 304.

    `chunks`: the caller understands them; without a length the connection's end is the body's,
    otherwise. `closes`: the connection ends with this answer.
    Raises `ValueError` for a header that is none, and for the status of no answer: either would
    be read as something else.
    """
    length: int | None = None
    chunked = False
    lines: list[bytes] = []
    known = _plain.get
    for name, value in headers:
        begun = known(name)
        if begun is not None:
            lines.append(begun + value)
            continue
        lower = name.lower()
        if lower == b"content-length":
            if length is not None or not value.isdigit():
                raise ValueError("the answer must have one length, a number")
            length = int(value)
            if status != NO_CONTENT:  # there is none to count (RFC 9110, 8.6)
                lines.append(b"Content-Length: " + value)
            continue
        if lower == b"transfer-encoding":
            # How a body is sent is for this server to say.
            continue
        if lower == b"connection":
            closes = closes or b"close" in value.lower()
            continue
        lines.append(_begun(name, lower) + value)
    if length is None and not bodiless:
        chunked = chunks
        closes = closes or not chunks
        if chunked:
            lines.append(b"transfer-encoding: chunked")
    if closes:
        lines.append(b"connection: close")
    # All at once, and the odd ones by one: most are printable.
    if not b"".join(lines).decode("latin-1").isprintable():
        _look_at(lines)
    lines.append(b"\r\n")
    data = _status_line(status) + always + b"\r\n".join(lines)
    return AnswerHead(data, length=length, chunked=chunked, closes=closes)


def _look_at(lines: list[bytes]) -> None:
    for line in lines:
        if _VALUE.fullmatch(line) is None:
            name = line.partition(b":")[0]
            raise ValueError(f"the value of the header {name!r} has a control character")


def _begun(name: bytes, lower: bytes) -> bytes:
    if _TOKEN.fullmatch(name) is None:
        raise ValueError(f"{name!r} cannot be the name of a header")
    begun = SPELT.get(lower, name) + b": "
    if lower not in _FRAMING and len(_plain) < _NAMES_MAX:
        _plain[bytes(name)] = begun
    return begun


@functools.cache
def _status_line(status: int) -> bytes:
    if not 200 <= status <= 999:
        # What is below is no answer yet: the caller would wait for another one.
        raise ValueError(f"{status!r} is not the status of an answer")
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status:d} {phrase}\r\n".encode("ascii")


def lines_of(headers: Iterable[Pair]) -> bytes:
    """Whole lines, for `written`."""
    return b"".join([name + b": " + value + b"\r\n" for name, value in headers])


def target_of(url: bytes) -> tuple[str, bytes, bytes]:
    """Path for people, path as it was sent, and query.

    A proxy's absolute form loses its host, and what follows a `#` is no part of a target.
    """
    if b"#" in url:
        url = url.partition(b"#")[0]
    if not url.startswith(b"/") and (origin := _ORIGIN.match(url)) is not None:
        url = url[origin.end() :]
        url = url if url.startswith(b"/") else b"/" + url
    raw, _, query = url.partition(b"?")
    path = raw.decode("utf-8", "replace")
    return unquote(path) if "%" in path else path, raw, query


def scope_of(
    method: str,
    url: bytes,
    headers: list[Pair],
    *,
    version: str,
    scheme: str,
    client: tuple[str, int] | None,
    server: tuple[str, int | None] | None,
    state: dict[str, Any],
) -> dict[str, Any]:
    """An ASGI scope (version 3, HTTP 2.3 of its specification)."""
    path, raw_path, query = target_of(url)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": version,
        "method": method,
        "scheme": scheme,
        "path": path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": client,
        "server": server,
        "state": state.copy(),
    }

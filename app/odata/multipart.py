"""`multipart/mixed` and `application/http` taken apart, as sloppily as clients write them.

Bare LF, extra blank lines, no last line break and spaces in URLs are all read. What is unclear
in a way that matters (where a part ends, say) is refused. Linear in the body.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from app.errors import Unreadable

HEAD_BYTES_MAX = 64 * 1024
"""Of one part's headers; servers read no more of a whole request's."""

_METHOD = re.compile(rb"[A-Z]{1,20}")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")

Pairs = list[tuple[bytes, bytes]]


class MimePart(NamedTuple):
    """A part's headers, names in lower case, and what follows the blank line."""

    headers: dict[str, str]
    content: bytes


class HttpRequest(NamedTuple):
    """`headers` as they stand; the body without white space around it."""

    method: str
    url: bytes
    headers: Pairs
    body: bytes


def split(body: bytes, boundary: str) -> list[MimePart]:
    """The parts between delimiter lines. The closing one must be there. Raises `Unreadable`."""
    delimiter = b"--" + boundary.encode("latin-1")
    parts: list[MimePart] = []
    begin = -1
    at = 0
    while True:
        found = body.find(delimiter, at)
        if found < 0:
            break
        at = found + len(delimiter)
        if found > 0 and body[found - 1] != 0x0A:
            continue
        line_end = body.find(b"\n", at)
        line_end = len(body) if line_end < 0 else line_end
        rest = body[at:line_end].rstrip(b" \t\r")
        if rest not in {b"", b"--"}:
            continue
        if begin < 0:
            if body[:found].strip():
                raise Unreadable("bad-batch", "the body does not begin with its boundary")
        else:
            parts.append(_part(body[begin:found]))
        begin = at = line_end + 1
        if rest:
            if body[at:].strip():
                raise Unreadable("bad-batch", "something stands behind the closing boundary")
            return parts
    if begin < 0:
        raise Unreadable("bad-batch", "the body does not begin with its boundary")
    raise Unreadable("bad-batch", "the body does not end with its closing boundary")


def _part(raw: bytes) -> MimePart:
    source = raw.lstrip(b"\r\n")
    headers, rest, ended = _headers(source, 0)
    if not ended:
        raise Unreadable("bad-batch", "a part has no blank line behind its headers")
    found: dict[str, str] = {}
    for name, value in headers:
        lower = name.decode("ascii").lower()
        if lower in found:
            raise Unreadable("bad-batch", "a part names a header twice")
        found[lower] = value.decode("latin-1")
    return MimePart(found, source[rest:])


def read_http(raw: bytes) -> HttpRequest:
    """A request line, headers and a body. Raises `Unreadable`."""
    source = raw.lstrip(b"\r\n")
    line_end = source.find(b"\n")
    line_end = len(source) if line_end < 0 else line_end
    # URLs may hold spaces: the first one ends the method, the last one begins the version.
    method, _, rest_of_line = source[:line_end].rstrip(b"\r \t").partition(b" ")
    url, _, version = rest_of_line.rpartition(b" ")
    url = url.strip(b" ")
    if _METHOD.fullmatch(method) is None or version != b"HTTP/1.1" or not url:
        raise Unreadable("bad-batch", "its request line is not METHOD URL HTTP/1.1")
    # Requests without a body may end with their headers.
    headers, rest, _ = _headers(source, line_end + 1)
    return HttpRequest(method.decode("ascii"), url, headers, source[rest:].strip(b"\r\n \t"))


def _headers(source: bytes, at: int) -> tuple[Pairs, int, bool]:
    """Header lines from there on, where what follows them begins, and whether a blank line
    ended them.
    """
    headers: Pairs = []
    limit = at + HEAD_BYTES_MAX
    while at < len(source):
        end = source.find(b"\n", at)
        end = len(source) if end < 0 else end
        line = source[at:end].rstrip(b"\r")
        at = end + 1
        if not line:
            return headers, at, True
        if at > limit:
            raise Unreadable("limit-exceeded", f"a part has over {HEAD_BYTES_MAX} bytes of headers")
        name, colon, value = line.partition(b":")
        if not colon or b"\r" in line or _NAME.fullmatch(name) is None:
            raise Unreadable("bad-batch", "a part has a line that is no header")
        headers.append((name, value.strip(b" \t")))
    return headers, at, False

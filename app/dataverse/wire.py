"""A request on the wire: its head, checked to be one, and its body, counted or in chunks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from app.dataverse.message import Headers, UpstreamRequest

WRITE_BYTES: Final = 64 * 1024
"""Written at once, at most; a body up to this size leaves together with its head."""

_CHUNKED_LINE: Final = b"Transfer-Encoding: chunked\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"
_BODY_METHODS: Final = frozenset({"POST", "PUT", "PATCH"})

_CONNECTION_OWN: Final = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"upgrade",
        b"expect",
        b"te",
        b"trailer",
    }
)

# One pass over the finished head. A CRLF inside a value would satisfy the pattern as a header
# of its own, so the number of lines is compared as well.
_REQUEST_HEAD: Final = re.compile(
    rb"[A-Z]+ [!-~]+ HTTP/1\.1\r\n"
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t -~\x80-\xff]*\r\n)+"
    rb"\r\n"
)


class UnsendableHead(ValueError):
    """The head would not be read as one request with these headers. Names no value."""


class BodyLength(UnsendableHead):
    """The body is not as long as its head has said: nothing may follow on that connection."""


def request_head(method: str, target: bytes, host: bytes, headers: Headers, length: bytes) -> bytes:
    r"""The head, its empty line included. `length` is the framing header's line, or empty.

    Raises `UnsendableHead` for CR, LF, NUL and other controls anywhere, for names that are no
    tokens, and for headers that are the connection's own business.
    """
    lines = [b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (method.encode("ascii"), target, host)]
    for name, value in headers:
        if name.lower() in _CONNECTION_OWN:
            raise UnsendableHead(f"{name.decode('ascii')} is written by the connection itself")
        lines.append(b"%b: %b\r\n" % (name, value))
    lines.append(b"%b\r\n" % length)
    head = b"".join(lines)
    expected_lines = len(headers) + 3 + (1 if length else 0)
    if head.count(b"\r\n") != expected_lines or _REQUEST_HEAD.fullmatch(head) is None:
        raise UnsendableHead("a control character or a space where none may stand")
    return head


def framing_line(request: UpstreamRequest) -> bytes:
    """The header line that says how long the body is; empty for a request that has none."""
    body = request.body
    if body is None:
        return b"Content-Length: 0\r\n" if request.method in _BODY_METHODS else b""
    length = len(body) if isinstance(body, bytes) else request.content_length
    return _CHUNKED_LINE if length is None else b"Content-Length: %d\r\n" % length


async def body_on_the_wire(
    body: bytes | AsyncIterator[bytes], length: int | None
) -> AsyncGenerator[bytes | memoryview, None]:
    """`length` None: in chunks. Raises `BodyLength` where an iterator gives more or less."""
    if isinstance(body, bytes):
        view = memoryview(body)
        for start in range(0, len(view), WRITE_BYTES):
            yield view[start : start + WRITE_BYTES]
    elif length is None:
        async for piece in body:
            # An empty chunk would end the body.
            if piece:
                yield b"%x\r\n%b\r\n" % (len(piece), piece)
        yield _LAST_CHUNK
    else:
        missing = length
        async for piece in body:
            missing -= len(piece)
            if missing < 0:
                break
            if piece:
                yield piece
        if missing:
            raise BodyLength("the body is not as long as was announced")

"""A request on the wire: its head, checked to be one, and its body, counted or in chunks."""

from __future__ import annotations

import functools
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

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LINE: Final = re.compile(rb"[A-Z]+ [!-~]+ HTTP/1\.1\r\nHost: [!-~]+\r\n")
_CONTROLS: Final = bytes(sorted({*range(0x20), 0x7F} - {0x09}))


class UnsendableHead(ValueError):
    """The head would not be read as one request with these headers. Names no value."""


class BodyLength(UnsendableHead):
    """The body is not as long as its head has said: nothing may follow on that connection."""


def request_head(method: str, target: bytes, host: bytes, headers: Headers, length: bytes) -> bytes:
    r"""The head, its empty line included. `length` is the framing header's line, or empty.

    Raises `UnsendableHead` for CR, LF, NUL and other controls anywhere, for names that are no
    tokens, and for headers that are the connection's own business.
    """
    line = b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (method.encode("ascii"), target, host)
    if _LINE.fullmatch(line) is None:
        raise UnsendableHead("a control character or a space where none may stand")
    lines = [line]
    values: list[bytes] = []
    for name, value in headers:
        fault = _fault_of(name)
        if fault is not None:
            raise UnsendableHead(fault)
        values.append(value)
        lines.append(b"%b: %b\r\n" % (name, value))
    # All values in one go: deleting from a copy is the quickest way to look for so many bytes.
    together = b"".join(values)
    if len(together.translate(None, _CONTROLS)) != len(together):
        raise UnsendableHead("a control character or a space where none may stand")
    lines.append(b"%b\r\n" % length)
    return b"".join(lines)


@functools.lru_cache(maxsize=256)
def _fault_of(name: bytes) -> str | None:
    """What is wrong with a header's name."""
    if _NAME.fullmatch(name) is None:
        return "a control character or a space where none may stand"
    if name.lower() in _CONNECTION_OWN:
        return f"{name.decode('ascii')} is written by the connection itself"
    return None


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

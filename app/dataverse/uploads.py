"""A request's body on the wire: counted where its length is known, in chunks where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.dataverse.framing import UnsendableHead

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from app.dataverse.message import UpstreamRequest

WRITE_BYTES: Final = 64 * 1024
"""Written at once, at most; a body up to this size leaves together with its head."""

_CHUNKED_LINE: Final = b"Transfer-Encoding: chunked\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"
_BODY_METHODS: Final = frozenset({"POST", "PUT", "PATCH"})


class BodyLength(UnsendableHead):
    """The body is not as long as its head has said: nothing may follow on that connection."""


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

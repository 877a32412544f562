"""An answer whose body was looked into before it is known whether it goes to the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.dataverse.answer_headers import header
from app.dataverse.codings import decoder_for
from app.errors import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.dataverse.message import Headers, UpstreamAnswer

KEPT_BYTES: Final = 64 * 1024
"""An error's body is a kilobyte. What is longer is passed on unread behind this."""


class KeptAnswer:
    """An `UpstreamAnswer`, the beginning of its body at hand."""

    def __init__(self, answer: UpstreamAnswer, start: bytes, *, whole: bool) -> None:
        self.status = answer.status
        self.headers: Headers = answer.headers
        self._answer = answer
        self._start = start
        self._whole = whole

    def beginning(self) -> bytes:
        """The body's first bytes, unpacked; empty where they cannot be."""
        try:
            decoder = decoder_for(header(self.headers, b"content-encoding"))
            if decoder is None:
                return self._start
            return next(decoder.feed(self._start), b"")
        except UpstreamFailed:
            # Whoever passes it on will see the same, and say so.
            return b""

    async def whole(self) -> bytes | None:
        if not self._whole:
            return None
        start, self._start = self._start, b""
        return start

    async def chunks(self) -> AsyncIterator[bytes]:
        start, self._start = self._start, b""
        if start:
            yield start
        if not self._whole:
            async for piece in self._answer.chunks():
                yield piece

    async def aclose(self) -> None:
        await self._answer.aclose()


async def keep(answer: UpstreamAnswer) -> KeptAnswer:
    """Read up to `KEPT_BYTES`. Raises `ExchangeFailed` where the body breaks off before."""
    start = b""
    try:
        async for piece in answer.chunks():
            start += piece
            if len(start) > KEPT_BYTES:
                return KeptAnswer(answer, start, whole=False)
    except BaseException:
        await answer.aclose()
        raise
    return KeptAnswer(answer, start, whole=True)

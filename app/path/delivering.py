"""Dataverse's answer on its way to the caller: streamed, its last bytes held back.

What is held is what makes the outcome durable before the last byte: when the record
cannot be kept the connection is cut, and the caller knows that it has not got everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from app.dataverse.answer_headers import header
from app.dataverse.links import LinkRewriter
from app.errors import BrokerError
from app.path.recording import AnswerCut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from app.dataverse.batch_answer import BatchAnswerRewriter
    from app.path.carrying import Carried
    from app.path.exchange import Exchange
    from app.path.recording import Recording

Headers = tuple[tuple[bytes, bytes], ...]


class Reply(Protocol):
    """Where the answer goes: `begin` once, then `write` until `last`."""

    def begin(self, status: int, headers: Headers) -> Awaitable[None]: ...

    def write(self, piece: bytes, *, last: bool) -> Awaitable[None]: ...


WHOLE_BYTES_MAX = 64 * 1024
"""An answer of this size at most is gathered before its first byte leaves: one record does for
it then, and its length can be told. A longer one streams, and holds no more than this.
"""

UNPACKED_BYTES_MAX = 192 * 1024
"""The same for one that came packed and is here to its end: nothing else is held of it."""

HELD_BYTES = 1024
"""Of an answer that streams, until its outcome is durable: without it nobody can take it for the
whole."""


async def deliver(carried: Carried, exchange: Exchange, reply: Reply, recording: Recording) -> None:
    """Raises `BrokerError` before the answer has begun, `AnswerCut` afterwards."""
    answer = carried.answer
    begun = False
    held: list[bytes] = []
    held_bytes = 0
    try:
        body = await answer.whole()
        if body is not None:
            # Dataverse is done with it: the next one need not wait for our disk.
            carried.turn.leave()
            if carried.decoder is None:
                # In its place: while the disk works each answer is kept once, and not as it came.
                body = _whole(body, carried.rewriter)
                exchange.bytes_out += len(body)
                await recording.conclude(exchange, answer.status)
                begun = True
                await reply.begin(answer.status, answer_headers(carried, exchange, len(body)))
                await reply.write(body, last=True)
                return
        most = WHOLE_BYTES_MAX if body is None else UNPACKED_BYTES_MAX
        async for piece in _rewritten(carried, body):
            held.append(piece)
            held_bytes += len(piece)
            if held_bytes <= most:
                continue
            if not begun:
                if not exchange.intended:
                    await recording.intend(exchange)
                begun, most = True, HELD_BYTES
                await reply.begin(answer.status, answer_headers(carried, exchange, None))
            together = b"".join(held)
            held, leaving = [together[-HELD_BYTES:]], together[:-HELD_BYTES]
            del piece, together
            exchange.bytes_out += len(leaving)
            held_bytes = HELD_BYTES
            await reply.write(leaving, last=False)
            del leaving
        exchange.bytes_out += held_bytes
        await recording.conclude(exchange, answer.status)
        if not begun:
            begun = True
            await reply.begin(answer.status, answer_headers(carried, exchange, held_bytes))
        await reply.write(b"".join(held), last=True)
    except BrokerError as error:
        if begun:
            raise AnswerCut from error
        raise
    finally:
        await carried.aclose()


def _whole(body: bytes, rewriter: LinkRewriter | BatchAnswerRewriter | None) -> bytes:
    if rewriter is None:
        return body
    if isinstance(rewriter, LinkRewriter):
        return rewriter.whole(body)
    return rewriter.feed(body) + rewriter.finish()


async def _rewritten(carried: Carried, body: bytes | None) -> AsyncIterator[bytes]:
    """The body for the caller: unpacked where its links had to be turned, else as it came.

    `body` where it is here to its end.
    """
    rewriter, decoder = carried.rewriter, carried.decoder
    # While a slow caller takes a piece nothing here may keep it, nor what it was made from: hence
    # the list that gives it away.
    made: list[bytes] = []
    async for chunk in carried.answer.chunks() if body is None else _at_once(body):
        if decoder is None:
            made.append(chunk if rewriter is None else rewriter.feed(chunk))
            del chunk
            if made[0]:
                yield made.pop()
            made.clear()
            continue
        for piece in decoder.feed(chunk):
            made.append(piece if rewriter is None else rewriter.feed(piece))
            del piece
            if made[0]:
                yield made.pop()
            made.clear()
    if decoder is not None:
        decoder.finish()
    if rewriter is not None:
        rest = rewriter.finish()
        if rest:
            yield rest


async def _at_once(body: bytes) -> AsyncIterator[bytes]:
    yield body


DROPPED_MAX = 32
"""Dropped headers that an answer names: the parts of a batch can have a million."""
_BODILESS = frozenset({204, 304})


def answer_headers(carried: Carried, exchange: Exchange, length: int | None) -> Headers:
    """The caller's headers. `length` where the whole body is here."""
    headers = [
        *carried.headers,
        (b"broker-decision", b"allowed"),
        (b"broker-request-id", exchange.request_id.encode("ascii")),
        (b"broker-attempts", b"%d" % exchange.attempts),
        (b"broker-waited-ms", b"%d" % (exchange.waited_s * 1000)),
    ]
    if carried.dropped:
        named = ", ".join(carried.dropped[:DROPPED_MAX])
        headers.append((b"broker-dropped-headers", named.encode("latin-1")))
    if carried.answer.status in _BODILESS:
        # A 304 may tell the length of what it stands for; servers take it for their own body's.
        return tuple(pair for pair in headers if pair[0] != b"content-length")
    if length is not None and header(carried.headers, b"content-length") is None:
        headers.append((b"content-length", str(length).encode("ascii")))
    return tuple(headers)

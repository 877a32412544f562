"""An answer's framing, pure: where its head and body end, read strictly.

llhttp (through httptools) tokenises heads and chunks. What it leaves to its user is decided
here, always for the stricter reading: a connection on which two readers could disagree about
where an answer ends is a connection on which one caller could get another's answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httptools

from app.dataverse.heads import plain_head

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.dataverse.message import Headers

HEAD_MAX_BYTES: Final = 64 * 1024
"""An answer's head, and a chunked body's trailers, at most."""

INTERIM_MAX: Final = 8
"""So many 1xx heads may precede an answer; more is a server that has lost its way."""


class MalformedAnswer(Exception):
    """The answer cannot be read in one way only. The message names the fault, no content."""


class AnswerReader:
    """Reads one answer: bytes in, body bytes out, the head as attributes once it is there.

    `complete` turns true with the answer's last byte. Only then `reusable` says whether the
    connection may carry another exchange, and `surplus` whether bytes came after the end.
    """

    __slots__ = (
        "_close_delimited",
        "_ends_with_connection",
        "_head",
        "_head_only",
        "_interim",
        "_overhead",
        "_parser",
        "_remaining",
        "_tail",
        "_tokens",
        "body_bytes",
        "complete",
        "headers",
        "reusable",
        "status",
        "surplus",
    )

    def __init__(self, *, head_only: bool, close_delimited: bool = False) -> None:
        """`head_only`: the request was a HEAD, so no body follows whatever the head says.

        `close_delimited`: accept a body that ends where the connection does. It cannot be
        told from one that was cut off, so it is off unless somebody asks.
        """
        self.status: int | None = None
        self.headers: Headers = ()
        self.body_bytes: int | None = None
        """The length of a body that is to come, where the head tells it."""
        self.complete = False
        self.reusable = False
        self.surplus = False
        self._head_only = head_only
        self._close_delimited = close_delimited
        self._head = bytearray()
        self._interim = 0
        self._tokens: _Tokens | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._remaining: int | None = None
        self._overhead = 0
        self._tail = b""
        self._ends_with_connection = False

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in `data`, framing removed. Raises `MalformedAnswer`."""
        while self.status is None:
            rest = self._feed_head(data)
            if rest is None:
                return b""
            data = rest
            if not data and not self.complete:
                return b""
        if self.complete:
            if data:
                # Bytes after the end belong to no request of ours. Whatever they are, they
                # are not the next answer.
                self.surplus = True
                self.reusable = False
            return b""
        if self._remaining is not None:
            return self._feed_counted(data)
        if self._parser is not None:
            return self._feed_chunked(data)
        return data

    def end(self) -> bool:
        """The server has closed in good order: whether the answer is complete with that."""
        self.reusable = False
        if self._ends_with_connection:
            self.complete = True
        return self.complete

    # ------------------------------------------------------------------ head

    def _feed_head(self, data: bytes) -> bytes | None:
        """What follows the head in `data`; None while the head is not whole."""
        head = self._head
        if head:
            searched = max(0, len(head) - 3)
            head += data
            data = bytes(head) if (found := head.find(b"\r\n\r\n", searched)) >= 0 else b""
        else:
            found = data.find(b"\r\n\r\n")
            if found < 0:
                head += data
        if found < 0:
            if len(head) > HEAD_MAX_BYTES:
                raise MalformedAnswer(f"the head is longer than {HEAD_MAX_BYTES} bytes")
            if not b"HTTP/1.".startswith(head[:7]):
                raise MalformedAnswer("the answer is not HTTP/1.1")
            return None
        end = found + 4
        if end > HEAD_MAX_BYTES:
            raise MalformedAnswer(f"the head is longer than {HEAD_MAX_BYTES} bytes")
        head.clear()
        self._read_head(data[:end])
        return data[end:]

    def _read_head(self, head: bytes) -> None:
        plain = plain_head(head)
        if plain is not None:
            status, self.headers = plain
            self._choose_framing(status, self.headers, None, persistent=True)
            self.status = status
            return
        if not head.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")) or b"\0" in head:
            raise MalformedAnswer("the answer is not HTTP/1.1")
        tokens = self._tokens = _Tokens()
        parser = httptools.HttpResponseParser(tokens)
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade as e:
            raise MalformedAnswer("the server switched protocols unasked") from e
        except httptools.HttpParserError as e:
            raise MalformedAnswer(f"the head cannot be read: {e}") from e
        if not tokens.head_read:
            raise MalformedAnswer("the head cannot be read")
        status = parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._interim += 1
            if self._interim > INTERIM_MAX:
                raise MalformedAnswer("too many interim answers")
            return
        if not 200 <= status < 600:
            raise MalformedAnswer(f"status {status}")
        persistent = head.startswith(b"HTTP/1.1")
        self._choose_framing(status, tokens.headers, parser, persistent=persistent)
        self.headers = tuple(tokens.headers)
        self.status = status

    def _choose_framing(
        self,
        status: int,
        headers: Iterable[tuple[bytes, bytes]],
        parser: httptools.HttpResponseParser | None,
        *,
        persistent: bool,
    ) -> None:
        """RFC 9112, 6.3, without its leniencies."""
        length: int | None = None
        chunked = False
        for name, value in headers:
            if name == b"content-length":
                # llhttp has refused a second one, and anything but digits.
                length = int(value)
            elif name == b"transfer-encoding":
                if chunked or not persistent or value.lower() != b"chunked":
                    raise MalformedAnswer("a transfer coding other than one chunked")
                chunked = True
            elif name == b"connection" and value.lower() != b"keep-alive":
                # `close`, or an option that we did not ask for: do not go on.
                persistent = False
        if chunked and length is not None:
            raise MalformedAnswer("Content-Length beside Transfer-Encoding")
        self.reusable = persistent
        if self._head_only or status in {204, 304}:
            self.complete = True
        elif chunked:
            self._parser = parser
        elif length is not None:
            self._remaining = self.body_bytes = length
            self.complete = length == 0
        elif self._close_delimited:
            self._ends_with_connection = True
            self.reusable = False
        else:
            raise MalformedAnswer("the answer does not say where its body ends")

    # ------------------------------------------------------------------ body

    def _feed_counted(self, data: bytes) -> bytes:
        assert self._remaining is not None
        remaining = self._remaining - len(data)
        if remaining > 0:
            self._remaining = remaining
            return data
        self._remaining = 0
        self.complete = True
        if remaining == 0:
            return data
        self.surplus = True
        self.reusable = False
        return data[:remaining]

    def _feed_chunked(self, data: bytes) -> bytes:
        assert self._parser is not None
        assert self._tokens is not None
        tokens = self._tokens
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as e:
            # After the last chunk the parser has gone on to what follows: surplus, not a fault
            # of this answer.
            if not tokens.body_read:
                raise MalformedAnswer(f"the chunks cannot be read: {e}") from e
            tokens.surplus = True
        self._tail = data[-5:] if len(data) >= 5 else (self._tail + data)[-5:]
        if tokens.body_read:
            self.complete = True
            self._parser = None
            # The parser skips empty lines before another answer, so it is asked of the bytes
            # as well: a body's last line is empty, and the one before it is not.
            if tokens.surplus or self._tail[1:] != b"\r\n\r\n" or self._tail[:1] == b"\n":
                self.surplus = True
                self.reusable = False
        body = tokens.take()
        self._overhead = 0 if body else self._overhead + len(data)
        if self._overhead > HEAD_MAX_BYTES:
            raise MalformedAnswer("trailers or chunk extensions without end")
        return body


class _Tokens:
    """What llhttp found, collected."""

    __slots__ = ("body_read", "head_read", "headers", "pieces", "surplus")

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.head_read = False
        self.body_read = False
        self.surplus = False

    def take(self) -> bytes:
        pieces = self.pieces
        if len(pieces) == 1:
            return pieces.pop()
        body = b"".join(pieces)
        pieces.clear()
        return body

    # Called by httptools, under these names.

    def on_message_begin(self) -> None:
        if self.head_read:
            self.surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers come here too; nobody may act on them, so they end here.
        if not self.head_read:
            self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.head_read = True

    def on_body(self, data: bytes) -> None:
        if not self.body_read:
            self.pieces.append(data)

    def on_message_complete(self) -> None:
        self.body_read = True

"""What a connection's bytes say: one head after another, and where each one's body ends.

What two readers could read in two ways is no request here, though httptools' parser takes it: a
proxy in front of this server may have read it in the other way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import httptools

if TYPE_CHECKING:
    from app.server.exchange import Exchange
    from app.server.heads import Pair

_NOTED: Final = frozenset({b"host", b"expect", b"transfer-encoding", b"upgrade"})


class Reading:
    """A connection's half that the parser calls. The other half makes exchanges of it.

    A base class, since to ask another object for each header and piece is what costs.
    """

    def __init__(self) -> None:
        self._parser: Any = self._parser_for_all()
        self._deaf = False
        """What still arrives is nothing to us."""
        self._receiving: Exchange | None = None
        """Whose body is coming in."""
        self._in_head = False
        """Some of the next request is here, and its header's end is not."""
        self._unframed_bytes = 0
        """Since the last head or piece of a body: of a header, a trailer, or between two chunks."""
        self._url = b""
        self._headers: list[Pair] = []
        self._hosts = 0
        self._noted: dict[bytes, bytes] = {}
        self._interrupted: tuple[Exchange, bytes] | None = None
        """The parser takes the body of a request with an offer for another protocol's bytes."""
        self._retelling = False

    def _parser_for_all(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        # What follows an end that was announced is ignored here, and no error of the parser's.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _feed(self, data: bytes) -> None:
        """Raises `httptools.HttpParserError` for what is no request."""
        while data and not self._deaf:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                # To nothing that is spoken here: such a request is answered as it is, and what
                # follows it is HTTP still.
                data = data[offer.args[0] :]
                if self._interrupted is not None:
                    self._retell(*self._interrupted)
            else:
                return

    def _retell(self, exchange: Exchange, framing: bytes) -> None:
        """To a parser that has not heard of the offer: it will find the body's end."""
        self._interrupted = None
        self._receiving = exchange
        self._parser = self._parser_for_all()
        self._retelling = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")

    def _forget(self) -> None:
        self._url, self._headers, self._hosts, self._noted = b"", [], 0, {}

    # ------------------------------------------------------- called by the parser

    def on_message_begin(self) -> None:
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        value = value.rstrip()
        if name in _NOTED:
            if name == b"host":
                self._hosts += 1
            else:
                known = self._noted.get(name)
                self._noted[name] = value if known is None else known + b", " + value
        self._headers.append((name, value))

    # ------------------------------------------------------- for the other half

    def _check(self, version: str, hosts: int, noted: dict[bytes, bytes]) -> None:
        """Raises `ValueError`: the parser is kinder than RFC 9112."""
        if version not in {"1.1", "1.0"}:
            # It reads HTTP/0.9 and HTTP/2.0 as if there were no difference.
            raise ValueError(version)
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise ValueError("not one Host")
        if noted.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            # What a body is coded in besides would reach the app as the body.
            raise ValueError("a transfer coding that is not spoken here")

    def _interrupt(self, exchange: Exchange, headers: list[Pair]) -> None:
        """`exchange` makes an offer. Its body, if it has one, is told again after that."""
        framing = b"".join(
            name + b": " + value + b"\r\n"
            for name, value in headers
            if name in {b"content-length", b"transfer-encoding"}
        )
        if framing:
            self._interrupted = exchange, framing
            self._receiving = None

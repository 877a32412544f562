"""Content codings: what the broker asks Dataverse for, and undoing it where links must be read."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Protocol

from app.dataverse.failures import ExchangeFailed, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCEPT_ENCODING: Final = b"gzip"
"""The way to Dataverse is the long one: rows shrink to a tenth on it, for some 4 µs of ours on a
page of 2 KB and 100 on one of 200 KB (benchmarks/upstream.py --parts). br would need another
library and is slower to undo; deflate is two formats under one name. What is a file or has no
links in it stays packed for a caller who accepts gzip; for one who does not, ask for `IDENTITY`."""

IDENTITY: Final = b"identity"

PIECE_BYTES: Final = 64 * 1024
"""Unpacked at a time, at most, so that a stream's memory stays bounded."""

EXPANSION_MAX: Final = 500
"""Times the packed size. Rows of nulls reach 100; beyond, somebody is spending our time."""

EXPANSION_FREE_BYTES: Final = 4 * 1024 * 1024
"""Up to this size nobody looks at the ratio."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS


class Decoder(Protocol):
    """Bytes in, unpacked bytes out, in pieces of `PIECE_BYTES` at most."""

    def feed(self, chunk: bytes) -> Iterator[bytes]: ...

    def finish(self) -> None:
        """Raises `ExchangeFailed` where the packed body has not come to its end."""
        ...


def decoder_for(content_encoding: bytes | None) -> Decoder | None:
    """None for a body that is not packed. Raises `ExchangeFailed` for what we never asked for."""
    coding = (content_encoding or b"").strip().lower()
    if coding in {b"", IDENTITY}:
        return None
    if coding in {b"gzip", b"x-gzip"}:
        return _Inflate(_GZIP)
    if coding == b"deflate":
        return _Inflate(None)
    raise _malformed("a content coding that was not asked for")


class _Inflate:
    def __init__(self, window: int | None) -> None:
        """`window` None: deflate, whose format its first byte tells."""
        self._window = window
        self._inflate = None if window is None else zlib.decompressobj(window)
        self._packed_bytes = 0
        self._bytes = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        self._packed_bytes += len(chunk)
        while chunk:
            inflate = self._ready(chunk)
            try:
                piece = inflate.decompress(chunk, PIECE_BYTES)
            except zlib.error as e:
                raise _malformed("a packed body that cannot be unpacked") from e
            self._bytes += len(piece)
            if self._bytes > max(EXPANSION_FREE_BYTES, EXPANSION_MAX * self._packed_bytes):
                raise _malformed(f"a body that unpacks to more than {EXPANSION_MAX} times its size")
            if piece:
                yield piece
            chunk = inflate.unconsumed_tail or inflate.unused_data

    def finish(self) -> None:
        if self._packed_bytes and (self._inflate is None or not self._inflate.eof):
            raise _malformed("a packed body without its end")

    def _ready(self, chunk: bytes) -> zlib._Decompress:
        if self._inflate is None:
            # RFC 9110 means zlib's format; some servers mean the bare one.
            self._inflate = zlib.decompressobj(_ZLIB if chunk[0] & 0x0F == 8 else _RAW)
        elif self._inflate.eof:
            if self._window != _GZIP:
                raise _malformed("something behind the end of a packed body")
            # RFC 1952: a gzip body may have several members.
            self._inflate = zlib.decompressobj(_GZIP)
        return self._inflate


def _malformed(what: str) -> ExchangeFailed:
    return ExchangeFailed(
        "upstream-malformed", f"Dataverse's answer has {what}", stage=Stage.ANSWERING
    )

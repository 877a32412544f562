from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dataverse.codings import EXPANSION_FREE_BYTES, PIECE_BYTES, decoder_for
from app.dataverse.failures import ExchangeFailed

if TYPE_CHECKING:
    from collections.abc import Callable


def unpacked(coding: bytes, *chunks: bytes) -> bytes:
    decoder = decoder_for(coding)
    assert decoder is not None
    pieces = [piece for chunk in chunks for piece in decoder.feed(chunk)]
    decoder.finish()
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress,
    b"x-gzip": gzip.compress,
    b" GZIP ": gzip.compress,
    b"deflate": zlib.compress,
    b"Deflate": bare_deflate,
}


@pytest.mark.parametrize("coding", PACKED)
@given(data=st.binary(max_size=2000), times=st.integers(1, 200), at=st.floats(0, 1))
def test_a_packed_body_is_unpacked_wherever_it_is_cut(
    coding: bytes, data: bytes, times: int, at: float
) -> None:
    whole = data * times
    packed = PACKED[coding](whole)
    cut = int(at * len(packed))
    assert unpacked(coding, packed[:cut], packed[cut:]) == whole


def test_several_gzip_members_are_one_body() -> None:
    packed = gzip.compress(b"one") + gzip.compress(b"two")
    assert unpacked(b"gzip", packed) == b"onetwo"
    assert unpacked(b"gzip", *[packed[i : i + 1] for i in range(len(packed))]) == b"onetwo"


def test_an_empty_body_needs_no_unpacking() -> None:
    assert unpacked(b"gzip") == b""


@pytest.mark.parametrize("coding", [None, b"", b"identity", b" Identity "])
def test_a_body_that_is_not_packed_needs_no_decoder(coding: bytes | None) -> None:
    assert decoder_for(coding) is None


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, gzip", b"compress"])
def test_a_coding_that_was_not_asked_for_is_refused(coding: bytes) -> None:
    with pytest.raises(ExchangeFailed, match="not asked for"):
        decoder_for(coding)


@pytest.mark.parametrize(
    ("coding", "packed", "why"),
    [
        (b"gzip", gzip.compress(b"x" * 100)[:-1], "without its end"),
        (b"gzip", gzip.compress(b"x") + b"\0", "cannot be unpacked|without its end"),
        (b"gzip", b'{"value":[]}', "cannot be unpacked"),
        (b"gzip", gzip.compress(b"x")[:-5] + b"\0\0\0\0\0", "cannot be unpacked"),
        (b"deflate", zlib.compress(b"x") + b"x", "behind the end"),
        (b"deflate", bare_deflate(b"x" * 100)[:-1], "without its end"),
    ],
)
def test_a_broken_body_is_refused(coding: bytes, packed: bytes, why: str) -> None:
    with pytest.raises(ExchangeFailed, match=why) as caught:
        unpacked(coding, packed)
    assert caught.value.code == "upstream-malformed"


def test_rows_of_nulls_pass_and_a_bomb_is_refused_early() -> None:
    rows = b'{"name":null,"telephone1":null},' * 1000
    assert unpacked(b"gzip", gzip.compress(rows)) == rows
    decoder = decoder_for(b"gzip")
    assert decoder is not None
    bomb = gzip.compress(b"\0" * 100_000_000)
    produced: list[int] = []
    with pytest.raises(ExchangeFailed, match="times its size"):
        produced.extend(len(piece) for piece in decoder.feed(bomb))
    assert sum(produced) <= max(EXPANSION_FREE_BYTES, 500 * len(bomb)) + PIECE_BYTES

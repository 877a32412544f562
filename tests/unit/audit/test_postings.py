from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit.block import Places, pack
from app.audit.postings import BLOCK_ROWS, block_rows, rows_down, unpack, within

PLACES = st.one_of(
    st.sets(st.integers(0, BLOCK_ROWS - 1), max_size=20),
    # Dense ones, which are kept as bitmaps.
    st.integers(1, 13).map(lambda step: set(range(0, BLOCK_ROWS, step))),
)


@given(places=PLACES)
def test_a_set_comes_back_from_its_bytes(places: set[int]) -> None:
    packed = pack([Places(sorted(places))])
    assert {place for place in range(BLOCK_ROWS) if unpack(packed) >> place & 1} == places
    assert len(packed) <= BLOCK_ROWS // 8


@given(number=st.integers(0, 1000), one=PLACES, other=PLACES, below=st.integers(-5, BLOCK_ROWS + 5))
def test_the_rows_of_several_sets_are_cut_and_go_down(
    number: int, one: set[int], other: set[int], below: int
) -> None:
    first, _ = block_rows(number)
    sets = [pack([Places(sorted(one))]), pack([Places(sorted(other))])]
    expected = sorted((first + place for place in one & other if place < below), reverse=True)
    assert list(rows_down(number, sets, first + below)) == expected


@pytest.mark.parametrize(
    ("since", "until", "kept"),
    [
        (None, None, [3, 2, 1]),
        (1_010, None, [3, 2]),
        (None, 1_010, [2, 1]),
        (1_010, 1_010, [2]),
        (0, 999, []),
        (1_021, None, []),
    ],
)
def test_rows_are_kept_by_their_time(since: int | None, until: int | None, kept: list[int]) -> None:
    from array import array

    times = array("I", [0xFFFFFFFF] * BLOCK_ROWS)
    times[1], times[2], times[3] = 0, 10, 20
    found = within([3, 2, 1], times.tobytes(), 1_000, since, until)
    assert list(found) == kept

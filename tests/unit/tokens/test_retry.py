from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tokens.retry import REFUSED, RETRY_AFTER_MAX_S, TRANSIENT, Backoff, read_retry_after

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        ("Tue, 24 Nov 2026 12:00:30", 30.0),
        ("999999", RETRY_AFTER_MAX_S),
        ("9" * 5000, RETRY_AFTER_MAX_S),
        ("-7", None),
        ("7.5", None),
        ("\u0667", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_retry_after_is_read(value: str | None, seconds: float | None) -> None:
    assert read_retry_after(value, NOW) == seconds


@given(st.text(max_size=60))
def test_any_retry_after_is_bounded_or_unread(value: str) -> None:
    seconds = read_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_MAX_S


def test_a_wait_doubles_up_to_its_end() -> None:
    assert [TRANSIENT.wait_s(n, 0) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [REFUSED.wait_s(n, 0) for n in range(1, 8)] == [10, 20, 40, 80, 160, 300, 300]


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_spread_but_never_gone(failures: int, chance: float) -> None:
    wait_s = Backoff(first_s=2, longest_s=60, spread=0.25).wait_s(failures, chance)
    assert 1.5 <= wait_s <= 60

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.cli.times import moment

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24T06:30", datetime(2026, 11, 24, 6, 30, tzinfo=UTC)),
        ("2026-11-24T06:30:00Z", datetime(2026, 11, 24, 6, 30, tzinfo=UTC)),
        (
            "2026-11-24T06:30+01:00",
            datetime(2026, 11, 24, 6, 30, tzinfo=timezone(timedelta(hours=1))),
        ),
        ("90m", NOON - timedelta(minutes=90)),
        ("12h", NOON - timedelta(hours=12)),
        ("7d", NOON - timedelta(days=7)),
        ("2w", NOON - timedelta(weeks=2)),
    ],
)
def test_a_moment_is_read_as_people_write_it(text: str, meant: datetime) -> None:
    assert moment(text, now=NOON) == meant


@pytest.mark.parametrize(
    "text", ["yesterday", "7", "7y", "-7d", "", "999999w", "0001-01-01T00:00+14:00"]
)
def test_what_is_no_moment_says_what_would_be_one(text: str) -> None:
    with pytest.raises(ValueError, match="is no moment: a day"):
        moment(text, now=NOON)

"""Moments as people write them on a command line. Pure: `now` is an argument."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO: Final = re.compile(r"(\d{1,6})([mhdw])")


def moment(text: str, *, now: datetime) -> datetime:
    """`2026-11-24`, `2026-11-24T06:30:00Z`, or how long ago: `90m`, `12h`, `7d`, `2w`.

    Without a zone it is UTC, as the record is. Raises `ValueError`.
    """
    try:
        if (ago := _AGO.fullmatch(text)) is not None:
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no moment: a day (2026-11-24), a time (2026-11-24T06:30:00Z),"
            " or how long ago (90m, 12h, 7d)"
        ) from None

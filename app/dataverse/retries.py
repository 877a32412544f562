"""Whether to try again: what a careful engineer would do by hand, and nothing else.

Pure: the facts come in, `Again` or `Stop` goes out; the path waits, renews and counts.

| what happened                              | read | repeatable write | any other write |
| ------------------------------------------ | ---- | ---------------- | --------------- |
| nothing was sent                           | yes  | yes              | yes             |
| broken off before an answer                | yes  | yes              | no              |
| 429, 503 with Retry-After within the time  | yes  | yes              | yes             |
| 401                                        | once, with a renewed token | | |
| no answer in time, nonsense, anything else | no   | no               | no              |

429 and 503 with a Retry-After say that nothing was done. A write is repeatable where a
precondition or an alternate key lets it do its work only once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from app.dataverse.failures import ExchangeFailed, Stage

ATTEMPTS_MAX: Final = 5
"""Sendings of one request, the first one included."""

CONNECT_PAUSES_S: Final = (0.1, 0.4)
"""Between attempts to connect; a third failure is the answer."""

BROKEN_PAUSES_S: Final = (0.0, 0.2)
"""After a connection broke off. The first time it was most likely an idle one that went stale."""

_SECONDS: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """What is known of one request when an attempt has failed."""

    method: str
    repeatable: bool = False
    """A write with If-Match or If-None-Match, or an upsert by alternate key."""
    body_is_at_hand: bool = True
    """False for a stream: once a part of it was sent, it cannot be sent again."""
    attempts: int = 1
    """Made so far, the failed one included."""
    token_renewed: bool = False
    wanted: bool = True
    """False: the caller said `Broker-Retry: none`. A renewed token is our own affair, still."""

    @property
    def does_no_harm_twice(self) -> bool:
        return self.method in {"GET", "HEAD"} or self.repeatable


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Try once more after `pause_s`."""

    pause_s: float
    because: Literal["not-sent", "broken-off", "throttled", "unavailable", "token"]
    renew_token: bool = False
    fresh_connection: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """What came is the answer."""

    because: Literal[
        "final", "switched-off", "attempts", "time", "not-repeatable", "stream", "no-retry-after"
    ]


def after_failure(tries: Tries, failure: ExchangeFailed, *, remaining_s: float) -> Again | Stop:
    """`remaining_s`: until the caller's deadline."""
    if failure.code not in {"upstream-unreachable", "upstream-broke"}:
        return Stop(because="final")
    if not tries.wanted:
        return Stop(because="switched-off")
    if failure.stage is Stage.CONNECTING:
        return _within(tries, CONNECT_PAUSES_S, "not-sent", remaining_s)
    if not tries.does_no_harm_twice:
        return Stop(because="not-repeatable")
    if not tries.body_is_at_hand:
        return Stop(because="stream")
    return _within(tries, BROKEN_PAUSES_S, "broken-off", remaining_s)


def after_answer(
    tries: Tries, status: int, *, retry_after: timedelta | None, remaining_s: float
) -> Again | Stop:
    """`remaining_s`: until the caller's deadline."""
    if status == 401 and not tries.token_renewed:
        if not tries.body_is_at_hand:
            return Stop(because="stream")
        return Again(pause_s=0.0, because="token", renew_token=True)
    if status not in {429, 503}:
        return Stop(because="final")
    if not tries.wanted:
        return Stop(because="switched-off")
    if retry_after is None:
        return Stop(because="no-retry-after")
    if not tries.body_is_at_hand:
        return Stop(because="stream")
    if tries.attempts >= ATTEMPTS_MAX:
        return Stop(because="attempts")
    pause_s = retry_after.total_seconds()
    if pause_s >= remaining_s:
        return Stop(because="time")
    return Again(pause_s=pause_s, because="throttled" if status == 429 else "unavailable")


def _within(
    tries: Tries,
    pauses_s: tuple[float, ...],
    because: Literal["not-sent", "broken-off"],
    remaining_s: float,
) -> Again | Stop:
    if tries.attempts > len(pauses_s):
        return Stop(because="attempts")
    pause_s = pauses_s[tries.attempts - 1]
    if pause_s >= remaining_s:
        return Stop(because="time")
    # The connections at rest beside a stale one are as old.
    return Again(pause_s=pause_s, because=because, fresh_connection=because == "broken-off")


def parse_retry_after(value: str, now: datetime) -> timedelta:
    """Read a Retry-After header: seconds or an HTTP date (RFC 9110, 10.2.3).

    A date in the past gives zero. Raises `ValueError` for anything else.
    """
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return timedelta(seconds=int(text))
    if not text[:3].isalpha():
        raise ValueError("Retry-After is neither seconds nor a date")
    date = parsedate_to_datetime(text)
    # asctime's form names no zone, and means UTC (RFC 9110, 5.6.7).
    when = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return max(when - now, timedelta(0))

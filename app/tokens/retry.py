"""When to try again: after which failure, and how far apart. Pure; randomness is an argument."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RETRY_AFTER_MAX_S = 3600.0
"""The longest that a server may make us wait; MSAL's own bound."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling waits. `spread` is how much of a wait is left to chance, so that keys and
    replicas that failed together do not come back together.
    """

    first_s: float
    longest_s: float
    spread: float = 0.25

    def wait_s(self, failures: int, chance: float) -> float:
        """For the `failures`-th failure in a row (from 1); `chance` is from [0, 1)."""
        doubled = self.first_s * 2.0 ** min(failures - 1, 32)
        return min(doubled, self.longest_s) * (1.0 - self.spread * chance)


TRANSIENT = Backoff(first_s=1, longest_s=60)
"""Entra is slow, throttles or is down: it comes back by itself."""

REFUSED = Backoff(first_s=10, longest_s=300)
"""Somebody has to repair something. MSAL does not throttle a 401, so a bad secret would hammer
Entra; five minutes is how long a repair in the portal may stay unnoticed.
"""


def read_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds from a Retry-After header: a number or an HTTP date (RFC 9110, 10.2.3).

    A date in the past gives zero. None for what cannot be read: the backoff then decides.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), RETRY_AFTER_MAX_S)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), RETRY_AFTER_MAX_S)

"""Dataverse's service-protection limits: requests, execution time and concurrency of a user."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

from app.sandbox.dataverse.failures import Failed

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """None switches a limit off. The defaults of Dataverse are 6000, 1200 and 52 in 300 s."""

    requests: int | None = None
    execution_s: float | None = None
    concurrency: int | None = None
    window_s: float = 300.0


REAL_LIMITS = Limits(requests=6000, execution_s=1200.0, concurrency=52)


@dataclass(slots=True)
class _Bucket:
    """What one user did within the window: when, and how long it took."""

    done: deque[tuple[float, float]] = field(default_factory=deque)
    spent_s: float = 0.0
    running: int = 0
    extra_s: float = 0.0
    """Retry-After grows while a client keeps sending."""


class Protection:
    """Counts each user's requests; `monotonic` is a clock in seconds."""

    def __init__(self, limits: Limits, monotonic: Callable[[], float]) -> None:
        self.limits = limits
        self._monotonic = monotonic
        self._buckets: dict[str, _Bucket] = {}

    def enter(self, user: str) -> None:
        """Raises the 429 of the limit that is exceeded. Pair with `leave`."""
        limits, now = self.limits, self._monotonic()
        bucket = self._buckets.setdefault(user, _Bucket())
        while bucket.done and bucket.done[0][0] <= now - limits.window_s:
            bucket.spent_s -= bucket.done.popleft()[1]
        if limits.concurrency is not None and bucket.running >= limits.concurrency:
            raise _throttled(
                "0x80072326",
                f"Number of concurrent requests exceeded the limit of {limits.concurrency}.",
                1,
            )
        window = f"{limits.window_s:g}"
        if limits.requests is not None and len(bucket.done) + bucket.running >= limits.requests:
            raise _throttled(
                "0x80072322",
                f"Number of requests exceeded the limit of {limits.requests} over time window of "
                f"{window} seconds.",
                self._wait(bucket, now),
            )
        if limits.execution_s is not None and bucket.spent_s >= limits.execution_s:
            raise _throttled(
                "0x80072321",
                "Combined execution time of incoming requests exceeded limit of "
                f"{limits.execution_s * 1000:,.0f}  milliseconds over time window of {window} "
                "seconds. Decrease number of concurrent requests or reduce the duration of "
                "requests and try again later.",
                self._wait(bucket, now),
            )
        bucket.extra_s = 0.0
        bucket.running += 1

    def leave(self, user: str, took_s: float) -> None:
        bucket = self._buckets[user]
        bucket.running -= 1
        bucket.done.append((self._monotonic(), took_s))
        bucket.spent_s += took_s

    def headers(self, user: str) -> tuple[tuple[str, str], ...]:
        """What is left, as Dataverse says it; its own defaults where a limit is off."""
        limits = self.limits
        bucket = self._buckets.get(user) or _Bucket()
        requests = (limits.requests or 6000) - len(bucket.done) - bucket.running
        seconds = (limits.execution_s or 1200.0) - bucket.spent_s
        return (
            ("x-ms-ratelimit-burst-remaining-xrm-requests", str(max(requests, 0))),
            ("x-ms-ratelimit-time-remaining-xrm-requests", f"{max(seconds, 0.0):,.2f}"),
        )

    def _wait(self, bucket: _Bucket, now: float) -> int:
        oldest = bucket.done[0][0] if bucket.done else now
        bucket.extra_s = min(bucket.extra_s + 0.1, 60.0)
        return max(1, ceil(oldest + self.limits.window_s - now + bucket.extra_s))


def _throttled(code: str, message: str, retry_after_s: int) -> Failed:
    return Failed(429, code, message, headers=(("Retry-After", str(retry_after_s)),))

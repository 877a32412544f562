"""Dataverse's service protection limits, as a 429 tells of them (dataverse-reference 4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from app.dataverse.answer_headers import header
from app.dataverse.retries import parse_retry_after

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from app.dataverse.message import Headers

BODY_READ_BYTES: Final = 4096
"""Of a 429's body: its code stands at the beginning."""

_CODE: Final = re.compile(rb'"code"\s*:\s*"(?:0x([0-9A-Fa-f]{8})|(-?[0-9]{1,10}))"')


class ProtectionLimit(StrEnum):
    """For each application user and web server, within 5 minutes."""

    REQUESTS = "requests"
    EXECUTION_TIME = "execution-time"
    CONCURRENCY = "concurrency"


_LIMITS: Final = {
    0x80072322: ProtectionLimit.REQUESTS,
    0x80072321: ProtectionLimit.EXECUTION_TIME,
    0x80072326: ProtectionLimit.CONCURRENCY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled:
    """`limit` is None for a 429 that none of the three explains; so is what was not said."""

    limit: ProtectionLimit | None
    retry_after: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsLeft:
    """Of the web server that answered. For people to look at: Microsoft asks not to rely on it."""

    requests: float | None
    execution_time_s: float | None


def throttling_of(
    status: int, headers: Headers, body_start: bytes, *, now: datetime
) -> Throttled | None:
    """None unless Dataverse throttles. `body_start`: the body's first bytes, unpacked."""
    if status != 429:
        return None
    limit = None
    code = _CODE.search(body_start[:BODY_READ_BYTES])
    if code is not None:
        # .NET prints the same code as a signed number here and there.
        number = int(code[1], 16) if code[1] else int(code[2]) & 0xFFFFFFFF
        limit = _LIMITS.get(number)
    return Throttled(limit=limit, retry_after=retry_after_of(headers, now=now))


def retry_after_of(headers: Headers, *, now: datetime) -> timedelta | None:
    """None where there is no Retry-After, or none that can be read."""
    value = header(headers, b"retry-after")
    if value is None:
        return None
    try:
        return parse_retry_after(value.decode("latin-1"), now)
    except ValueError:
        return None


def limits_left(headers: Headers) -> LimitsLeft:
    return LimitsLeft(
        requests=_number(header(headers, b"x-ms-ratelimit-burst-remaining-xrm-requests")),
        execution_time_s=_number(header(headers, b"x-ms-ratelimit-time-remaining-xrm-requests")),
    )


def _number(value: bytes | None) -> float | None:
    """Thousands may be set apart by commas."""
    if value is None or not re.fullmatch(rb"[0-9][0-9,]*(?:\.[0-9]+)?", value):
        return None
    return float(value.replace(b",", b""))

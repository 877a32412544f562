from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.dataverse.throttling import (
    LimitsLeft,
    ProtectionLimit,
    Throttled,
    limits_left,
    throttling_of,
)

NOON = datetime(2027, 3, 1, 12, 0, 0, tzinfo=UTC)
WAIT_37 = ((b"retry-after", b"37"),)
MESSAGE = (
    b'"message":"Number of requests exceeded the limit of 6000 over time window of 300 seconds."'
)


@pytest.mark.parametrize(
    ("code", "limit"),
    [
        (b"0x80072322", ProtectionLimit.REQUESTS),
        (b"0x80072321", ProtectionLimit.EXECUTION_TIME),
        (b"0x80072326", ProtectionLimit.CONCURRENCY),
        (b"-2147015902", ProtectionLimit.REQUESTS),
        (b"-2147015903", ProtectionLimit.EXECUTION_TIME),
        (b"-2147015898", ProtectionLimit.CONCURRENCY),
        (b"0x80040220", None),
    ],
)
def test_the_three_limits_are_told_apart(code: bytes, limit: ProtectionLimit | None) -> None:
    body = b'{"error":{"code":"' + code + b'",' + MESSAGE + b"}}"
    expected = Throttled(limit=limit, retry_after=timedelta(seconds=37))
    assert throttling_of(429, WAIT_37, body, now=NOON) == expected
    assert throttling_of(403, WAIT_37, body, now=NOON) is None


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error":{"code":""}}', b"\xff\x00"])
@pytest.mark.parametrize("headers", [(), ((b"retry-after", b"soon"),)])
def test_a_429_that_explains_nothing_is_still_one(
    body: bytes, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    expected = Throttled(limit=None, retry_after=None)
    assert throttling_of(429, headers, body, now=NOON) == expected


def test_what_is_left_is_read_from_the_headers() -> None:
    headers = (
        (b"x-ms-ratelimit-burst-remaining-xrm-requests", b"5999"),
        (b"x-ms-ratelimit-time-remaining-xrm-requests", b"1,199.74"),
    )
    assert limits_left(headers) == LimitsLeft(requests=5999.0, execution_time_s=1199.74)
    assert limits_left(()) == LimitsLeft(requests=None, execution_time_s=None)
    assert limits_left(((headers[0][0], b"many"),)).requests is None

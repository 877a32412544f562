from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dataverse.failures import ExchangeFailed, FailureCode, Stage
from app.dataverse.retries import (
    ATTEMPTS_MAX,
    Again,
    Stop,
    Tries,
    after_answer,
    after_failure,
    parse_retry_after,
)

NOON = datetime(2027, 3, 1, 12, 0, 0, tzinfo=UTC)
READ = Tries(method="GET")
CREATE = Tries(method="POST")
UPDATE = Tries(method="PATCH", repeatable=True)


def failure(code: FailureCode, stage: Stage) -> ExchangeFailed:
    return ExchangeFailed(code, "contoso.crm4.dynamics.com …", stage=stage)


@pytest.mark.parametrize("tries", [READ, CREATE, UPDATE], ids=["read", "create", "update"])
@pytest.mark.parametrize("code", ["upstream-unreachable", "upstream-broke"])
def test_what_was_not_sent_is_tried_again(tries: Tries, code: FailureCode) -> None:
    expected = Again(pause_s=0.1, because="not-sent")
    assert after_failure(tries, failure(code, Stage.CONNECTING), remaining_s=10) == expected


@pytest.mark.parametrize("stage", [Stage.SENDING, Stage.WAITING, Stage.ANSWERING])
@pytest.mark.parametrize(
    ("tries", "expected"),
    [
        (READ, Again(pause_s=0.0, because="broken-off", fresh_connection=True)),
        (UPDATE, Again(pause_s=0.0, because="broken-off", fresh_connection=True)),
        (CREATE, Stop(because="not-repeatable")),
        (Tries(method="PATCH"), Stop(because="not-repeatable")),
        (Tries(method="DELETE"), Stop(because="not-repeatable")),
        (Tries(method="PUT", repeatable=True, body_is_at_hand=False), Stop(because="stream")),
        (Tries(method="GET", wanted=False), Stop(because="switched-off")),
    ],
)
def test_after_a_reset_only_what_does_no_harm_is_tried_again(
    stage: Stage, tries: Tries, expected: Again | Stop
) -> None:
    assert after_failure(tries, failure("upstream-broke", stage), remaining_s=10) == expected


@pytest.mark.parametrize("code", ["upstream-timeout", "upstream-malformed"])
@pytest.mark.parametrize("tries", [READ, CREATE, UPDATE])
def test_silence_and_nonsense_are_final(tries: Tries, code: FailureCode) -> None:
    assert after_failure(tries, failure(code, Stage.WAITING), remaining_s=10) == Stop(
        because="final"
    )


def test_connecting_is_tried_three_times_at_most_and_within_the_time() -> None:
    broken = failure("upstream-unreachable", Stage.CONNECTING)
    pauses = [
        after_failure(Tries(method="GET", attempts=n), broken, remaining_s=10) for n in (1, 2, 3)
    ]
    assert pauses == [
        Again(pause_s=0.1, because="not-sent"),
        Again(pause_s=0.4, because="not-sent"),
        Stop(because="attempts"),
    ]
    assert after_failure(READ, broken, remaining_s=0.1) == Stop(because="time")


@pytest.mark.parametrize("tries", [READ, CREATE, UPDATE], ids=["read", "create", "update"])
@pytest.mark.parametrize(("status", "because"), [(429, "throttled"), (503, "unavailable")])
def test_a_retry_after_within_the_time_is_waited_for(
    tries: Tries, status: int, because: str
) -> None:
    again = after_answer(tries, status, retry_after=timedelta(seconds=7), remaining_s=7.1)
    assert again == Again(pause_s=7.0, because=because)  # type: ignore[arg-type]
    stop = after_answer(tries, status, retry_after=timedelta(seconds=7), remaining_s=7.0)
    assert stop == Stop(because="time")


@pytest.mark.parametrize(
    ("tries", "expected"),
    [
        (Tries(method="GET", wanted=False), Stop(because="switched-off")),
        (Tries(method="PUT", body_is_at_hand=False), Stop(because="stream")),
        (Tries(method="GET", attempts=ATTEMPTS_MAX), Stop(because="attempts")),
        (Tries(method="GET", attempts=ATTEMPTS_MAX - 1), Again(pause_s=0.0, because="throttled")),
    ],
)
def test_a_throttled_request_is_not_tried_for_ever(tries: Tries, expected: Again | Stop) -> None:
    assert after_answer(tries, 429, retry_after=timedelta(0), remaining_s=10) == expected


@pytest.mark.parametrize("status", [429, 503])
def test_without_a_retry_after_the_answer_stands(status: int) -> None:
    stop = after_answer(READ, status, retry_after=None, remaining_s=10)
    assert stop == Stop(because="no-retry-after")


@pytest.mark.parametrize("status", [200, 204, 304, 400, 403, 404, 412, 500, 502, 504])
def test_every_other_answer_stands(status: int) -> None:
    stop = after_answer(READ, status, retry_after=timedelta(0), remaining_s=10)
    assert stop == Stop(because="final")


def test_a_401_renews_the_token_once() -> None:
    again = Again(pause_s=0.0, because="token", renew_token=True)
    assert after_answer(CREATE, 401, retry_after=None, remaining_s=10) == again
    unwanted = Tries(method="GET", wanted=False)
    assert after_answer(unwanted, 401, retry_after=None, remaining_s=10) == again
    renewed = Tries(method="GET", token_renewed=True)
    assert after_answer(renewed, 401, retry_after=None, remaining_s=10) == Stop(because="final")
    stream = Tries(method="PUT", body_is_at_hand=False)
    assert after_answer(stream, 401, retry_after=None, remaining_s=10) == Stop(because="stream")


# ------------------------------------------------------------------ Retry-After


@pytest.mark.parametrize(
    ("value", "expected_s"),
    [
        ("0", 0),
        ("37", 37),
        (" 37 ", 37),
        ("Mon, 01 Mar 2027 12:00:10 GMT", 10),
        ("Monday, 01-Mar-27 12:00:10 GMT", 10),
        ("Mon Mar  1 12:00:10 2027", 10),
        ("Mon, 01 Mar 2027 11:00:00 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, expected_s: int) -> None:
    assert parse_retry_after(value, NOON) == timedelta(seconds=expected_s)


@pytest.mark.parametrize(
    "value", ["", "-1", "1.5", "soon", "37 s", "1e3", "٣", "9" * 10, "2027-03-01T12:00:00Z"]
)
def test_any_other_retry_after_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_retry_after(value, NOON)


@given(st.text(max_size=40))
def test_a_retry_after_is_never_negative(value: str) -> None:
    try:
        parsed = parse_retry_after(value, NOON)
    except ValueError:
        return
    assert parsed >= timedelta(0)

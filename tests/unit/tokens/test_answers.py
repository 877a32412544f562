from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tokens.answers import LIFETIME_MAX_S, Obtained, read_refusal, read_token
from app.tokens.failure import Cause, Failure
from app.tokens.remedies import REMEDIES, remedy_for

GOOD = {"access_token": "eyJ0.eyJ1.c2ln", "token_type": "Bearer", "expires_in": 3599}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_token_answer_is_read() -> None:
    token = read_token(GOOD)
    assert isinstance(token, Obtained)
    assert (token.token.open(), token.lifetime_s, token.refresh_in_s) == (
        "eyJ0.eyJ1.c2ln",
        3599.0,
        None,
    )


@pytest.mark.parametrize(
    ("changes", "lifetime_s", "refresh_in_s"),
    [
        ({"expires_in": "3599"}, 3599.0, None),
        ({"token_type": "bearer"}, 3599.0, None),
        ({"refresh_in": 1800}, 3599.0, 1800.0),
        ({"refresh_in": "1800"}, 3599.0, 1800.0),
        ({"refresh_in": -5}, 3599.0, None),
        ({"refresh_in": "soon"}, 3599.0, None),
        ({"expires_in": 31}, 31.0, None),
        ({"expires_in": LIFETIME_MAX_S}, float(LIFETIME_MAX_S), None),
        ({"access_token": "opaque+/token=="}, 3599.0, None),
    ],
    ids=str,
)
def test_a_token_answer_may_vary(
    changes: dict[str, Any], lifetime_s: float, refresh_in_s: float | None
) -> None:
    token = read_token(GOOD | changes)
    assert isinstance(token, Obtained)
    assert (token.lifetime_s, token.refresh_in_s) == (lifetime_s, refresh_in_s)


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 7},
        {"access_token": "a b"},
        {"access_token": "a\r\nX-Evil: 1"},
        {"access_token": "ä"},
        {"access_token": "a\n"},
        {"access_token": "a" * 65_537},
        {"token_type": "MAC"},
        {"token_type": None},
        {"expires_in": None},
        {"expires_in": 0},
        {"expires_in": -1},
        {"expires_in": 30},
        {"expires_in": True},
        {"expires_in": 3599.5},
        {"expires_in": "soon"},
        {"expires_in": "٣٦٠٠"},
        {"expires_in": LIFETIME_MAX_S + 1},
        {"expires_in": 10**30},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_a_malformed_answer_is_a_failure(changes: dict[str, Any]) -> None:
    failure = read_token(GOOD | changes)
    assert isinstance(failure, Failure)
    assert failure.cause is Cause.ENTRA_MALFORMED


@pytest.mark.parametrize("missing", ["access_token", "expires_in"])
def test_an_answer_that_lacks_something_is_a_failure(missing: str) -> None:
    assert isinstance(read_token({k: v for k, v in GOOD.items() if k != missing}), Failure)


@given(json_values | st.fixed_dictionaries(dict.fromkeys(GOOD, json_values)))
def test_any_answer_is_either_a_sendable_token_or_a_failure(answer: object) -> None:
    result = read_token(answer)
    if isinstance(result, Obtained):
        assert re.fullmatch(r"[\x21-\x7e]+", result.token.open())
        assert 30 < result.lifetime_s <= LIFETIME_MAX_S
    else:
        assert result.cause is Cause.ENTRA_MALFORMED


@given(json_values, st.none() | st.integers(400, 599))
def test_any_refusal_is_explained(answer: object, status: int | None) -> None:
    failure = read_refusal(answer, status=status)
    assert failure.meaning
    assert failure.remedy


def test_a_refusal_quotes_no_description() -> None:
    failure = read_refusal(
        {
            "error": "invalid_client",
            "error_description": "AADSTS7000215: hunter2 is wrong.\r\nTrace ID: x",
            "error_codes": [7000215],
            "trace_id": "255d1aef-8c98-452f-ac51-23d051240864",
        },
        status=401,
    )
    assert (failure.aadsts, failure.entra_error, failure.status) == (
        7000215,
        "invalid_client",
        401,
    )
    error = failure.error("erp", 10)
    assert error.extra["entra_trace_id"] == "255d1aef-8c98-452f-ac51-23d051240864"
    assert "hunter2" not in repr(failure) + str(error) + str(error.extra)


@pytest.mark.parametrize(
    ("answer", "aadsts"),
    [
        ({"error_codes": [70011]}, 70011),
        ({"error_description": "AADSTS70011: the scope"}, 70011),
        ({"error_codes": [True], "error_description": "AADSTS70011: the scope"}, 70011),
        ({"error_codes": ["70011"]}, None),
        ({"error_codes": [10**12]}, None),
        ({"error_description": "no code"}, None),
        ([], None),
    ],
    ids=str,
)
def test_a_code_is_found_where_entra_puts_it(answer: object, aadsts: int | None) -> None:
    assert read_refusal(answer, status=400).aadsts == aadsts


@pytest.mark.parametrize(
    ("error", "status", "cause"),
    [
        ("invalid_client", 401, Cause.CREDENTIAL_REFUSED),
        (None, 401, Cause.CREDENTIAL_REFUSED),
        ("unauthorized_client", 400, Cause.APPLICATION_REFUSED),
        (None, 400, Cause.APPLICATION_REFUSED),
        ("invalid_scope", 400, Cause.RESOURCE_REFUSED),
        ("invalid_resource", 400, Cause.RESOURCE_REFUSED),
        ("invalid_client", 429, Cause.ENTRA_THROTTLED),
        ("temporarily_unavailable", 400, Cause.ENTRA_UNREACHABLE),
        (None, 503, Cause.ENTRA_UNREACHABLE),
    ],
)
def test_an_unknown_code_is_judged_by_error_and_status(
    error: str | None, status: int, cause: Cause
) -> None:
    assert remedy_for(aadsts=999999, error=error, status=status).cause is cause


CODES = """
7000215 7000222 700016 7000112 90002 700027 700030 50012 7000218 500011 65001 53003 50034 700211
700213 70021 7002121 70011 700022 7000229 100007 90055 90033 90090 50196 50013
50027 700021 700023 700024
"""


@pytest.mark.parametrize("code", [int(code) for code in CODES.split()])
def test_every_code_that_clients_meet_has_a_remedy(code: int) -> None:
    known = REMEDIES[code]
    assert known.meaning[0].islower() or known.meaning.startswith(("Entra", "Conditional"))
    assert not known.meaning.endswith(".")
    assert known.remedy.endswith(".")

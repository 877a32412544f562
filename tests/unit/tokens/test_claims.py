from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tokens.claims import UnverifiedClaims, read_unverified

NOTHING = UnverifiedClaims(None, None, None, None)


def token(claims: Any) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJSUzI1NiJ9.{body}.c2ln"


def test_a_token_says_for_whom_it_is_and_whose() -> None:
    said = {"aud": "https://contoso.crm4.dynamics.com", "appid": "5c2e", "tid": "8b1f", "exp": 0}
    assert read_unverified(token(said)) == UnverifiedClaims(
        audience="https://contoso.crm4.dynamics.com",
        application_id="5c2e",
        tenant_id="8b1f",
        expires_on=datetime(1970, 1, 1, tzinfo=UTC),
    )


def test_a_token_of_version_2_names_the_application_in_azp() -> None:
    found = read_unverified(token({"azp": "5c2e"}))
    assert found is not None
    assert found.application_id == "5c2e"


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"aud": ["https://a.example"], "appid": 7, "tid": None, "exp": "soon"},
        {"aud": "", "exp": True},
        {"exp": 1e300},
        {"exp": 10**30},
    ],
    ids=["empty", "of-other-types", "empty-text", "beyond-time", "beyond-floats"],
)
def test_a_token_that_says_something_else_says_nothing(claims: dict[str, Any]) -> None:
    assert read_unverified(token(claims)) == NOTHING


@pytest.mark.parametrize("text", ["", "opaque", "a.b", "a.b.c.d", "a.%%.c", "a.\u00e9.c"])
def test_what_is_no_jwt_has_no_claims(text: str) -> None:
    assert read_unverified(text) is None


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda b: token(b.hex())))
def test_reading_never_raises(text: str) -> None:
    read_unverified(text)

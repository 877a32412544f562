"""A token is compared with what was asked for, and dated by two clocks."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.config.model import Application
from app.doctor.finding import About, Finding
from app.doctor.tokens import Token, judge_claims
from app.tokens.answers import Obtained
from app.tokens.hidden import Hidden

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
TENANT = "8b1f7a52-3c6d-4e0f-9a1b-5d2c7e8f9012"
CLIENT = "5c2e9d10-7f3a-4b8c-8d6e-1a2b3c4d5e01"
CONTOSO = "https://contoso.crm4.dynamics.com"
APPLICATION = {
    "tenant_id": TENANT,
    "client_id": CLIENT,
    "credentials": [{"client_secret": {"env": "X"}}],
}
GOOD: dict[str, Any] = {
    "aud": CONTOSO + "/",
    "appid": CLIENT.upper(),
    "tid": TENANT,
    "exp": int((NOON + timedelta(hours=1)).timestamp()),
}


def judged(claims: dict[str, Any] | None, **application: Any) -> list[Finding]:
    text = "opaque-hunter2"
    if claims is not None:
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        text = f"eyJ0.{body}.hunter2"
    token = Token(Obtained(Hidden(text), 3600.0), NOON)
    assert "hunter2" not in repr(token)
    found = list(
        judge_claims(
            About("erp in contoso"),
            token,
            resource=CONTOSO,
            application=Application.model_validate({**APPLICATION, **application}),
        )
    )
    assert "hunter2" not in repr(found)
    return found


def told(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.step, finding.level.value) for finding in findings]


def test_a_token_that_is_what_was_asked_for_is_well() -> None:
    assert told(judged(GOOD)) == [("claims", "ok"), ("clock", "ok")]


@pytest.mark.parametrize(
    ("claim", "value", "said"),
    [
        ("aud", "https://other.crm4.dynamics.com", "its audience (aud) is https://other"),
        ("appid", TENANT, "its application (appid) is 8b1f7a52"),
        ("tid", CLIENT, "its tenant (tid) is 5c2e9d10"),
    ],
)
def test_a_token_that_is_something_else_fails(claim: str, value: str, said: str) -> None:
    failure, _ = judged({**GOOD, claim: value})
    assert failure.level.value == "failure"
    assert said in failure.text


def test_a_tenant_by_its_domain_is_not_compared() -> None:
    findings = judged({**GOOD, "tid": CLIENT}, tenant_id="con-toso.example")
    assert told(findings) == [("claims", "ok"), ("clock", "ok")]


def test_a_token_that_cannot_be_looked_into_is_left_to_dataverse() -> None:
    assert told(judged(None)) == [("claims", "ok")]


@pytest.mark.parametrize(
    ("minutes", "level", "said"),
    [
        (0.5, "ok", "agree"),
        (2, "warning", "2 min behind Entra's"),
        (-2, "warning", "2 min ahead of Entra's"),
        (5, "failure", "5 min behind Entra's"),
    ],
)
def test_a_clock_that_is_off_is_told(minutes: float, level: str, said: str) -> None:
    """Entra's clock is this much ahead of ours."""
    later = {**GOOD, "exp": GOOD["exp"] + minutes * 60}
    _, clock = judged(later)
    assert (clock.step, clock.level.value) == ("clock", level)
    assert said in clock.text

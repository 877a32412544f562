"""A token that Dataverse refuses twice is explained by what Dataverse and the token say."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest

from app.path.refused_token import refused_token
from app.tokens.lease import Lease

TENANT = "8b1f7a52-3c6d-4e0f-9a1b-5d2c7e8f9012"
OTHER = "8b1f7a52-3c6d-4e0f-9a1b-5d2c7e8f9099"
CONTOSO = "https://contoso.crm4.dynamics.com"


def lease(tenant_id: str = TENANT) -> Lease:
    claims = json.dumps({"aud": CONTOSO, "tid": tenant_id}).encode()
    token = f"eyJ0.{base64.urlsafe_b64encode(claims).rstrip(b'=').decode()}.hunter2"
    return Lease.of(
        token, expires_on=datetime(2027, 1, 1, tzinfo=UTC), resource=CONTOSO, application="erp"
    )


def challenge(*, tenant_id: str = TENANT, resource: str = CONTOSO + "/") -> tuple[bytes, bytes]:
    login = f"https://login.microsoftonline.com/{tenant_id}/oauth2/authorize"
    value = f"Bearer authorization_uri={login}, resource_id={resource}"
    return (b"www-authenticate", value.encode())


@pytest.mark.parametrize(
    ("headers", "cause", "said"),
    [
        (
            (challenge(resource="https://contoso2.crm4.dynamics.com/"),),
            "environment-url",
            "the environment calls itself https://contoso2.crm4.dynamics.com",
        ),
        (
            (challenge(tenant_id=OTHER),),
            "tenant",
            f"the environment belongs to the tenant {OTHER}, and the token comes from {TENANT}",
        ),
        ((challenge(),), "token-refused", "it does not say why"),
        (
            (challenge(resource="https://contoso.api.crm4.dynamics.com"),),
            "token-refused",
            "it does not say why",
        ),
        ((), "token-refused", "it does not say why"),
    ],
    ids=["another-url", "another-tenant", "neither", "the-same-by-its-other-name", "no-challenge"],
)
def test_a_refused_token_is_explained(
    headers: tuple[tuple[bytes, bytes], ...], cause: str, said: str
) -> None:
    error = refused_token("contoso", lease(), headers)
    assert error.code == "upstream-refused-token"
    assert error.extra["cause"] == cause
    assert error.extra["application"] == "erp"
    assert said in error.detail
    assert error.extra["remedy"] in error.detail
    assert "hunter2" not in error.detail + json.dumps(error.extra)


def test_a_token_that_is_no_jwt_is_not_compared() -> None:
    opaque = Lease.of(
        "opaque", expires_on=datetime(2027, 1, 1, tzinfo=UTC), resource=CONTOSO, application="erp"
    )
    error = refused_token("contoso", opaque, (challenge(tenant_id=OTHER),))
    assert error.extra["cause"] == "token-refused"

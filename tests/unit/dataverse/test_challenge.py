"""A 401 of Dataverse's is read as far as it says something, and no further."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dataverse.challenge import Challenge, read_challenge

TENANT = "8b1f7a52-3c6d-4e0f-9a1b-5d2c7e8f9012"
LOGIN = f"authorization_uri=https://login.microsoftonline.com/{TENANT}/oauth2/authorize"
QUOTED_LOGIN = f'authorization_uri="https://login.example/{TENANT.upper()}/x"'


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (
            f"Bearer {LOGIN}, resource_id=https://orgxyz.crm11.dynamics.com/",
            Challenge(TENANT, "https://orgxyz.crm11.dynamics.com"),
        ),
        (
            f'Bearer {QUOTED_LOGIN},resource_id="https://ORG.crm4.dynamics.com"',
            Challenge(TENANT, "https://org.crm4.dynamics.com"),
        ),
        (f"Bearer {LOGIN}", Challenge(TENANT, None)),
        ("Bearer authorization_uri=https://login.example/common/oauth2", Challenge()),
        ("Bearer resource_id=http://plain.example", Challenge()),
        ("Bearer resource_id=https://a.example/path", Challenge()),
        ("Bearer resource_id=https://a.example/'>", Challenge()),
        ("Bearer authorization_uri=https://[broken", Challenge()),
        ("", Challenge()),
    ],
    ids=[
        "as-dataverse-writes-it",
        "quoted",
        "without-resource",
        "no-tenant",
        "plain-http",
        "a-path",
        "what-no-host-is",
        "no-address",
        "empty",
    ],
)
def test_a_challenge_tells_tenant_and_resource(value: str, read: Challenge) -> None:
    assert read_challenge(value.encode()) == read


def test_no_challenge_tells_nothing() -> None:
    assert read_challenge(None) == Challenge()


@given(st.binary(max_size=4000))
def test_reading_never_raises(value: bytes) -> None:
    read_challenge(b"Bearer resource_id=" + value)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from app.sandbox.entra import jws
from app.sandbox.entra.app import EntraApp
from app.sandbox.entra.directory import Directory

if TYPE_CHECKING:
    from app.sandbox.entra.directory import RegisteredApplication, Tenant
    from app.sandbox.entra.tokens import KeyRing

RESOURCE = "https://contoso.example"


@pytest.fixture
def token(entra: EntraApp, tenant: Tenant, application: RegisteredApplication) -> str:
    return issue(entra, tenant, application)


def issue(
    entra: EntraApp, tenant: Tenant, application: RegisteredApplication, uri: str = RESOURCE
) -> str:
    resource = tenant.resource(uri)
    assert resource is not None
    return entra.issue(tenant=tenant, application=application, resource=resource).access_token


def test_a_token_for_dataverse_says_who_and_for_what(
    entra: EntraApp, token: str, tenant: Tenant, application: RegisteredApplication
) -> None:
    claims = entra.verify(token, RESOURCE)
    assert claims is not None
    random = {name: claims.pop(name) for name in ("aio", "rh", "uti", "exp")}
    assert all(random.values())
    assert claims == {
        "aud": RESOURCE,
        "iss": f"https://entra.example/{tenant.tenant_id}/",
        "iat": 1772366100,
        "nbf": 1772366100,
        "idtyp": "app",
        "oid": application.object_id,
        "sub": application.object_id,
        "tid": tenant.tenant_id,
        "ver": "1.0",
        "appid": application.client_id,
        "appidacr": "1",
        "idp": f"https://entra.example/{tenant.tenant_id}/",
    }


def test_a_token_for_an_own_api_has_the_newer_form(
    entra: EntraApp, tenant: Tenant, application: RegisteredApplication
) -> None:
    application.roles = ("Invoices.Load",)
    claims = entra.verify(issue(entra, tenant, application, "api://broker"), "api://broker")
    assert claims is not None
    assert claims["iss"] == f"https://entra.example/{tenant.tenant_id}/v2.0"
    assert (claims["ver"], claims["azp"], claims["azpacr"]) == ("2.0", application.client_id, "1")
    assert claims["roles"] == ["Invoices.Load"]
    assert "appid" not in claims


@pytest.mark.parametrize("audience", [RESOURCE, f"{RESOURCE}/", "https://CONTOSO.example"])
def test_a_token_is_good_for_its_audience_however_written(
    entra: EntraApp, token: str, audience: str
) -> None:
    assert entra.verify(token, audience) is not None


@pytest.mark.parametrize("audience", ["https://contoso.example.org", "api://broker", ""])
def test_a_token_is_not_good_for_another_audience(
    entra: EntraApp, token: str, audience: str
) -> None:
    assert entra.verify(token, audience) is None


def test_a_token_ends_at_its_expiry(entra: EntraApp, token: str, clock: Any) -> None:
    clock.forward(seconds=3598)
    assert entra.verify(token, RESOURCE) is not None
    clock.forward(seconds=5399 - 3598)
    assert entra.verify(token, RESOURCE) is None


def test_a_token_is_not_good_before_its_time(entra: EntraApp, token: str, clock: Any) -> None:
    clock.forward(minutes=-6)
    assert entra.verify(token, RESOURCE) is None


def test_a_token_of_another_entra_is_not_good(
    entra: EntraApp, token: str, tenant: Tenant, key_ring: KeyRing, clock: Any
) -> None:
    same_keys = EntraApp(
        directory=Directory(tenant),
        public_url="https://other.example",
        clock=clock,
        keys=key_ring,
    )
    assert same_keys.verify(token, RESOURCE) is None
    assert entra.verify(token, RESOURCE) is not None


def test_a_token_by_a_strangers_key_is_not_good(entra: EntraApp, token: str, stranger: Any) -> None:
    claims = jws.read(token).unverified_claims
    header = {"kid": entra.keys.keys[0].key_id}
    forged = stranger.sign(claims, header=header, algorithm="RS256")
    assert entra.verify(forged, RESOURCE) is None
    assert entra.verify(stranger.sign(claims, header={}), RESOURCE) is None


@pytest.mark.parametrize("nonsense", ["", "a.b.c", "e30.e30.", "Bearer x"])
def test_nonsense_is_not_good(entra: EntraApp, nonsense: str) -> None:
    assert entra.verify(nonsense, RESOURCE) is None


def test_keys_roll_over_and_old_tokens_end_when_theirs_is_retired(
    entra: EntraApp, token: str, tenant: Tenant, application: RegisteredApplication
) -> None:
    newest = entra.keys.rotate()
    later = issue(entra, tenant, application)
    assert jws.read(later).header["kid"] == newest.key_id
    assert entra.verify(token, RESOURCE) is not None
    assert len(entra.keys.jwks(issuer="x")["keys"]) == 2
    entra.keys.retire_old()
    assert entra.verify(token, RESOURCE) is None
    assert entra.verify(later, RESOURCE) is not None

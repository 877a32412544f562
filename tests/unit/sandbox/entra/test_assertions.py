from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from app.sandbox.entra import jws
from app.sandbox.entra.directory import FederatedCredential

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx2

    from app.sandbox.entra.app import EntraApp
    from app.sandbox.entra.directory import (
        RegisteredApplication,
        RegisteredCertificate,
        Tenant,
    )

    Ask = Callable[..., Awaitable[httpx2.Response]]

pytestmark = pytest.mark.anyio

BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TOKEN_ENDPOINT = "https://entra.example/8b1f7a52-0000-4000-8000-000000000001/oauth2/v2.0/token"
ISSUER = "https://oidc.example/cluster/"
SUBJECT = "system:serviceaccount:erp:invoice-loader"


def thumbprints(registered: RegisteredCertificate) -> dict[str, str]:
    der = registered.certificate.public_bytes(Encoding.DER)
    return {
        "x5t": jws.b64url(hashlib.sha1(der).digest()),  # noqa: S324 - what x5t is
        "x5t#S256": jws.b64url(hashlib.sha256(der).digest()),
    }


def claims(entra: EntraApp, application: RegisteredApplication, **changes: Any) -> dict[str, Any]:
    now = entra.now().timestamp()
    content = {
        "aud": TOKEN_ENDPOINT,
        "iss": application.client_id,
        "sub": application.client_id,
        "jti": "b1a2",
        "nbf": int(now),
        "iat": int(now),
        "exp": int(now) + 600,
    } | changes
    return {name: value for name, value in content.items() if value is not None}


async def outcome(ask: Ask, assertion: str, *, kind: str = BEARER) -> tuple[int, int | None]:
    """Status and AADSTS code."""
    answer = await ask(client_secret=None, client_assertion=assertion, client_assertion_type=kind)
    content = answer.json()
    return answer.status_code, content["error_codes"][0] if "error_codes" in content else None


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
@pytest.mark.parametrize("name", ["x5t", "x5t#S256"])
@pytest.mark.parametrize("padding", ["", "="], ids=["bare", "padded"])
async def test_a_certificate_proves_the_application_in_every_form(
    *,
    ask: Ask,
    entra: EntraApp,
    application: RegisteredApplication,
    signer: Any,
    algorithm: str,
    name: str,
    padding: str,
) -> None:
    header = {name: thumbprints(signer.registered)[name] + padding}
    assertion = signer.sign(claims(entra, application), header=header, algorithm=algorithm)
    assert await outcome(ask, assertion) == (200, None)
    assert entra.journal[-1].proof == "certificate"


@pytest.mark.parametrize(
    "changes",
    [
        {"nbf": None},
        {"iat": 1772366400.62, "exp": 1772366999.62, "nbf": None},
        {"aud": TOKEN_ENDPOINT.replace("/oauth2/v2.0/token", "/v2.0")},
        {"aud": TOKEN_ENDPOINT.replace("/oauth2/v2.0/token", "/")},
        {"aud": TOKEN_ENDPOINT.replace("/v2.0", "")},
        {"aud": "https://entra.example/contoso.example/oauth2/v2.0/token"},
        {"sub": "5C2E9D10-0000-4000-8000-000000000001"},
        {"exp": 1772366400 + 86_400 * 30},
    ],
    ids=[
        "no nbf",
        "times with a fraction",
        "the issuer",
        "the tenant",
        "the old endpoint",
        "the domain",
        "upper case",
        "a month long",
    ],
)
async def test_an_assertion_may_differ_in_what_entra_forgives(
    ask: Ask,
    entra: EntraApp,
    application: RegisteredApplication,
    signer: Any,
    changes: dict[str, Any],
) -> None:
    assertion = signer.sign(
        claims(entra, application, **changes), header=thumbprints(signer.registered)
    )
    assert await outcome(ask, assertion) == (200, None)


@pytest.mark.parametrize(
    ("changes", "status", "aadsts"),
    [
        pytest.param({"aud": "https://elsewhere.example"}, 401, 700023, id="another audience"),
        pytest.param({"aud": None}, 401, 700023, id="no audience"),
        pytest.param({"sub": "someone"}, 401, 700021, id="another subject"),
        pytest.param({"exp": 1772366400 - 301}, 401, 700024, id="expired"),
        pytest.param({"nbf": 1772366400 + 301}, 401, 700024, id="not yet good"),
        pytest.param({"exp": None}, 400, 50027, id="no expiry"),
        pytest.param({"exp": "1772369999"}, 400, 50027, id="expiry as text"),
        pytest.param({"exp": 1e300}, 400, 50027, id="expiry beyond any calendar"),
        pytest.param({"exp": True}, 400, 50027, id="expiry as truth"),
    ],
)
async def test_an_assertion_that_says_something_else_is_refused(
    *,
    ask: Ask,
    entra: EntraApp,
    application: RegisteredApplication,
    signer: Any,
    changes: dict[str, Any],
    status: int,
    aadsts: int,
) -> None:
    assertion = signer.sign(
        claims(entra, application, **changes), header=thumbprints(signer.registered)
    )
    assert await outcome(ask, assertion) == (status, aadsts)


async def test_a_certificate_that_is_not_registered_is_700027(
    ask: Ask, entra: EntraApp, application: RegisteredApplication, stranger: Any
) -> None:
    assertion = stranger.sign(claims(entra, application), header=thumbprints(stranger.registered))
    assert await outcome(ask, assertion) == (401, 700027)
    application.certificates += (stranger.registered,)
    assert await outcome(ask, assertion) == (200, None)


async def test_a_strangers_signature_under_a_known_thumbprint_is_700027(
    ask: Ask, entra: EntraApp, application: RegisteredApplication, signer: Any, stranger: Any
) -> None:
    header = thumbprints(signer.registered)
    assertion = stranger.sign(claims(entra, application), header=header)
    assert await outcome(ask, assertion) == (401, 700027)


async def test_an_expired_certificate_is_700027(
    ask: Ask, entra: EntraApp, application: RegisteredApplication, short_lived: Any, clock: Any
) -> None:
    application.certificates = (short_lived.registered,)
    header = thumbprints(short_lived.registered)
    good = short_lived.sign(claims(entra, application), header=header)
    assert await outcome(ask, good) == (200, None)
    clock.forward(hours=2)
    late = short_lived.sign(claims(entra, application), header=header)
    assert await outcome(ask, late) == (401, 700027)


@pytest.mark.parametrize(
    ("assertion", "aadsts"),
    [
        ("", 7000218),
        ("not a token", 50027),
        ("a.b.c", 50027),
        ("eyJhbGciOiJub25lIn0.e30.", 70021),
    ],
)
async def test_what_is_no_signed_token_proves_nothing(
    ask: Ask, assertion: str, aadsts: int
) -> None:
    status, found = await outcome(ask, assertion)
    assert (status in {400, 401}, found) == (True, aadsts)


async def test_a_token_without_signature_proves_nothing(
    ask: Ask, entra: EntraApp, application: RegisteredApplication, signer: Any
) -> None:
    header = thumbprints(signer.registered)
    signed = signer.sign(claims(entra, application), header=header)
    _, body, signature = signed.split(".")
    none = jws.b64url(b'{"alg":"none","x5t":"' + header["x5t"].encode() + b'"}')
    assert await outcome(ask, f"{none}.{body}.") == (401, 700027)
    assert await outcome(ask, f"{none}.{body}.{signature}") == (401, 700027)


async def test_a_certificates_assertion_names_its_thumbprint(
    ask: Ask, entra: EntraApp, application: RegisteredApplication, signer: Any
) -> None:
    assert await outcome(ask, signer.sign(claims(entra, application), header={})) == (400, 50027)
    crooked = signer.sign(claims(entra, application), header={"x5t": "!"})
    assert await outcome(ask, crooked) == (400, 50027)


async def test_a_certificates_assertion_is_the_applications_own(
    ask: Ask, entra: EntraApp, application: RegisteredApplication, signer: Any
) -> None:
    content = claims(entra, application, iss="5c2e9d10-0000-4000-8000-00000000dead")
    assertion = signer.sign(content, header=thumbprints(signer.registered))
    assert await outcome(ask, assertion) == (401, 700021)


async def test_an_assertion_has_its_type_beside_it(
    ask: Ask, entra: EntraApp, application: RegisteredApplication, signer: Any
) -> None:
    assertion = signer.sign(claims(entra, application), header=thumbprints(signer.registered))
    assert await outcome(ask, assertion, kind="jwt") == (400, 900144)


@pytest.fixture
def federated(application: RegisteredApplication, stranger: Any) -> RegisteredApplication:
    application.federated = (
        FederatedCredential(issuer=ISSUER, subject=SUBJECT, jwks=stranger.jwks("k1")),
    )
    return application


def cluster_token(
    entra: EntraApp,
    signer: Any,
    *,
    key_id: str | None = "k1",
    algorithm: str = "RS256",
    **changes: Any,
) -> str:
    now = int(entra.now().timestamp())
    content = {
        "iss": ISSUER,
        "sub": SUBJECT,
        "aud": ["api://AzureADTokenExchange"],
        "exp": now + 3600,
    } | changes
    header = {} if key_id is None else {"kid": key_id}
    token: str = signer.sign(content, header=header, algorithm=algorithm)
    return token


@pytest.mark.parametrize("key_id", ["k1", None])
async def test_a_clusters_token_stands_for_the_application(
    ask: Ask,
    entra: EntraApp,
    federated: RegisteredApplication,
    stranger: Any,
    key_id: str | None,
) -> None:
    assert federated.federated
    assert await outcome(ask, cluster_token(entra, stranger, key_id=key_id)) == (200, None)
    assert entra.journal[-1].proof == "federated"
    alone = cluster_token(entra, stranger, aud="api://AzureADTokenExchange")
    assert await outcome(ask, alone) == (200, None)


@pytest.mark.parametrize(
    ("changes", "aadsts"),
    [
        pytest.param({"iss": ISSUER.rstrip("/")}, 700211, id="issuer without its slash"),
        pytest.param({"sub": SUBJECT.title()}, 700213, id="subject in another case"),
        pytest.param({"aud": "api://azureadtokenexchange"}, 7002121, id="audience in lower case"),
        pytest.param(
            {"aud": ["api://AzureADTokenExchange", "api://other"]}, 7002121, id="two audiences"
        ),
        pytest.param({"exp": 1}, 700024, id="expired"),
    ],
)
async def test_a_clusters_token_is_matched_byte_for_byte(
    *,
    ask: Ask,
    entra: EntraApp,
    federated: RegisteredApplication,
    stranger: Any,
    changes: dict[str, Any],
    aadsts: int,
) -> None:
    assert federated.federated
    assert await outcome(ask, cluster_token(entra, stranger, **changes)) == (401, aadsts)


async def test_a_clusters_token_needs_its_clusters_key(
    ask: Ask,
    entra: EntraApp,
    federated: RegisteredApplication,
    signer: Any,
    stranger: Any,
) -> None:
    assert federated.federated
    assert await outcome(ask, cluster_token(entra, signer)) == (401, 50013)
    assert await outcome(ask, cluster_token(entra, stranger, key_id="k2")) == (401, 50013)
    pss = cluster_token(entra, stranger, algorithm="PS256")
    assert await outcome(ask, pss) == (401, 50013)


async def test_a_clusters_token_means_nothing_without_a_trust(
    ask: Ask, entra: EntraApp, stranger: Any, tenant: Tenant
) -> None:
    assert tenant.applications
    assert await outcome(ask, cluster_token(entra, stranger)) == (401, 70021)

from __future__ import annotations

import base64
import re
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus
from uuid import UUID

import pytest

from app.sandbox.entra.directory import ClientSecret
from app.sandbox.entra.tokens import Lifetime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx2

    from app.sandbox.entra.app import EntraApp
    from app.sandbox.entra.directory import RegisteredApplication, Tenant

    Ask = Callable[..., Awaitable[httpx2.Response]]

pytestmark = pytest.mark.anyio

RESOURCE = "https://contoso.example"


def code(answer: httpx2.Response) -> int:
    content: dict[str, Any] = answer.json()
    return int(content["error_codes"][0])


async def test_a_right_secret_gets_a_token_in_entras_shape(ask: Ask, entra: EntraApp) -> None:
    answer = await ask()
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store, no-cache"
    content = answer.json()
    assert list(content) == ["token_type", "expires_in", "ext_expires_in", "access_token"]
    assert content["token_type"] == "Bearer"
    assert 3599 <= content["expires_in"] <= 5399
    assert entra.verify(content["access_token"], RESOURCE) is not None


async def test_a_wrong_secret_is_7000215_with_entras_whole_json(ask: Ask) -> None:
    correlation = "fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7"
    answer = await ask(client_secret="wrong", headers={"client-request-id": correlation})
    assert answer.status_code == 401
    content = answer.json()
    assert content == {
        "error": "invalid_client",
        "error_description": content["error_description"],
        "error_codes": [7000215],
        "timestamp": "2026-03-01 12:00:00Z",
        "trace_id": str(UUID(content["trace_id"])),
        "correlation_id": correlation,
        "error_uri": "https://login.microsoftonline.com/error?code=7000215",
    }
    assert re.fullmatch(
        r"AADSTS7000215: Invalid client secret provided\. .*"
        rf"\r\nTrace ID: {content['trace_id']}"
        rf"\r\nCorrelation ID: {correlation}"
        r"\r\nTimestamp: 2026-03-01 12:00:00Z",
        content["error_description"],
    )
    assert "wrong" not in answer.text


async def test_an_expired_secret_is_7000222(ask: Ask, application: RegisteredApplication) -> None:
    (secret,) = application.secrets
    assert secret.expires is not None
    application.secrets = (
        ClientSecret(value=secret.value, expires=secret.expires - timedelta(days=2)),
    )
    answer = await ask()
    assert (answer.status_code, answer.json()["error"], code(answer)) == (
        401,
        "invalid_client",
        7000222,
    )


async def test_rotation_leaves_no_gap(ask: Ask, application: RegisteredApplication) -> None:
    application.secrets += (ClientSecret(value="new"),)
    assert (await ask()).status_code == 200
    assert (await ask(client_secret="new")).status_code == 200
    application.secrets = application.secrets[1:]
    assert code(await ask()) == 7000215
    assert (await ask(client_secret="new")).status_code == 200


@pytest.mark.parametrize("encode", [quote_plus, str], ids=["as RFC 6749 says", "plain"])
async def test_a_secret_may_come_by_basic(
    ask: Ask, application: RegisteredApplication, encode: Callable[[str], str]
) -> None:
    plain = f"{encode(application.client_id)}:{encode('s3cret+/%')}"
    headers = {"authorization": f"Basic {base64.b64encode(plain.encode()).decode()}"}
    answer = await ask(client_id=None, client_secret=None, headers=headers)
    assert answer.status_code == 200
    assert (await ask(client_id=None, client_secret=None)).status_code == 400


@pytest.mark.parametrize("value", ["!", base64.b64encode(b"no colon").decode()])
async def test_basic_that_cannot_be_read_is_no_secret(ask: Ask, value: str) -> None:
    answer = await ask(client_secret=None, headers={"authorization": f"Basic {value}"})
    assert (answer.status_code, code(answer)) == (401, 7000218)


@pytest.mark.parametrize(
    ("changes", "status", "error", "aadsts"),
    [
        pytest.param({"client_secret": None}, 401, "invalid_client", 7000218, id="no proof"),
        pytest.param(
            {"client_id": "00000000-0000-4000-8000-00000000dead"},
            400,
            "unauthorized_client",
            700016,
            id="unknown application",
        ),
        pytest.param(
            {"scope": "https://elsewhere.example/.default"},
            400,
            "invalid_resource",
            500011,
            id="unknown resource",
        ),
        pytest.param(
            {"scope": "https://contoso.example/user_impersonation"},
            400,
            "invalid_scope",
            70011,
            id="not the default scope",
        ),
        pytest.param({"scope": "/.default"}, 400, "invalid_scope", 70011, id="no resource"),
        pytest.param({"scope": " "}, 400, "invalid_scope", 70011, id="blank scope"),
        pytest.param(
            {"scope": "https://contoso.example/.default api://broker/.default"},
            400,
            "invalid_scope",
            700022,
            id="two resources",
        ),
        pytest.param({"scope": None}, 400, "invalid_request", 900144, id="no scope"),
        pytest.param({"grant_type": None}, 400, "invalid_request", 900144, id="no grant type"),
        pytest.param(
            {"grant_type": "password"}, 400, "unsupported_grant_type", 70003, id="another grant"
        ),
        pytest.param({"client_id": None}, 400, "invalid_request", 900144, id="no client id"),
        pytest.param(
            {"path": "/nowhere.example/oauth2/v2.0/token"},
            400,
            "invalid_tenant",
            90002,
            id="unknown tenant",
        ),
    ],
)
async def test_what_is_wrong_has_its_own_code(
    ask: Ask, changes: dict[str, str | None], status: int, error: str, aadsts: int
) -> None:
    answer = await ask(**changes)
    assert (answer.status_code, answer.json()["error"], code(answer)) == (status, error, aadsts)


async def test_a_disabled_application_is_7000112(
    ask: Ask, application: RegisteredApplication
) -> None:
    application.enabled = False
    answer = await ask()
    assert (answer.status_code, code(answer)) == (400, 7000112)
    application.enabled = True
    assert (await ask()).status_code == 200


async def test_an_application_without_service_principal_is_7000229(
    ask: Ask, application: RegisteredApplication
) -> None:
    application.provisioned = False
    answer = await ask()
    assert (answer.status_code, code(answer)) == (401, 7000229)


@pytest.mark.parametrize(
    ("scope", "audience"),
    [
        ("https://contoso.example/.default", "https://contoso.example"),
        ("https://contoso.example//.default", "https://contoso.example/"),
        ("https://contoso.example/.default https://contoso.example//.default", RESOURCE),
    ],
)
async def test_the_audience_is_the_resource_as_it_was_asked_for(
    ask: Ask, entra: EntraApp, scope: str, audience: str
) -> None:
    token = (await ask(scope=scope)).json()["access_token"]
    claims = entra.verify(token, RESOURCE)
    assert claims is not None
    assert claims["aud"] == audience


async def test_a_tenant_has_two_names(ask: Ask, tenant: Tenant) -> None:
    assert (await ask(path=f"/{tenant.domain}/oauth2/v2.0/token")).status_code == 200
    assert (await ask(path=f"/{tenant.tenant_id.upper()}/oauth2/v2.0/token")).status_code == 200


async def test_the_old_endpoint_takes_a_resource_and_answers_in_strings(
    ask: Ask, tenant: Tenant, entra: EntraApp
) -> None:
    entra.lifetime = Lifetime(expires_in=timedelta(seconds=3600))
    path = f"/{tenant.tenant_id}/oauth2/token"
    content = (await ask(path=path, scope=None, resource=RESOURCE)).json()
    assert entra.verify(content.pop("access_token"), RESOURCE) is not None
    assert content == {
        "token_type": "Bearer",
        "expires_in": "3600",
        "ext_expires_in": "3600",
        "expires_on": "1772370000",
        "not_before": "1772366100",
        "resource": RESOURCE,
    }
    assert code(await ask(path=path)) == 900144


async def test_lifetimes_can_be_set_and_refresh_in_said(ask: Ask, entra: EntraApp) -> None:
    entra.lifetime = Lifetime(
        expires_in=timedelta(seconds=86_400), refresh_in=timedelta(seconds=43_200)
    )
    content = (await ask()).json()
    assert (content["expires_in"], content["refresh_in"]) == (86_400, 43_200)


async def test_the_token_endpoint_takes_post_alone(
    client: httpx2.AsyncClient, tenant: Tenant
) -> None:
    answer = await client.get(f"/{tenant.tenant_id}/oauth2/v2.0/token")
    assert (answer.status_code, code(answer)) == (400, 900561)


@pytest.mark.parametrize(
    ("body", "aadsts"),
    [
        (b'{"grant_type":"client_credentials"}', 900144),
        (b"\xff=\xff", 900144),
        (b"", 900144),
        (b"grant_type=client_credentials&grant_type=client_credentials", 9000411),
    ],
    ids=["JSON", "not UTF-8", "nothing", "twice"],
)
async def test_what_is_no_form_is_an_invalid_request(
    client: httpx2.AsyncClient, tenant: Tenant, body: bytes, aadsts: int
) -> None:
    answer = await client.post(f"/{tenant.tenant_id}/oauth2/v2.0/token", content=body)
    assert (answer.status_code, answer.json()["error"], code(answer)) == (
        400,
        "invalid_request",
        aadsts,
    )


async def test_a_body_without_end_is_413(client: httpx2.AsyncClient, tenant: Tenant) -> None:
    body = b"a=" + b"x" * 2_000_000
    answer = await client.post(f"/{tenant.tenant_id}/oauth2/v2.0/token", content=body)
    assert answer.status_code == 413


async def test_the_journal_keeps_each_request_and_no_secret(
    ask: Ask, entra: EntraApp, tenant: Tenant, application: RegisteredApplication
) -> None:
    await ask()
    await ask(client_secret="wrong")
    assert entra.token_requests == 2
    granted, refused = (asdict(entry) for entry in entra.journal)
    expected = {
        "at": entra.journal[0].at,
        "tenant": tenant.tenant_id,
        "client_id": application.client_id,
        "audience": RESOURCE,
        "proof": "secret",
        "status": 200,
        "code": None,
    }
    assert granted == expected
    assert refused == expected | {"proof": None, "status": 401, "code": 7000215}
    assert "s3cret" not in repr(entra.journal)


async def test_secrets_and_tokens_do_not_show(
    entra: EntraApp, application: RegisteredApplication, tenant: Tenant
) -> None:
    assert "s3cret" not in repr(application)
    resource = tenant.resource(RESOURCE)
    assert resource is not None
    issued = entra.issue(tenant=tenant, application=application, resource=resource)
    assert issued.access_token not in repr(issued)

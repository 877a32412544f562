from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from app.sandbox.entra import faults
from app.sandbox.entra.refusals import CATALOGUE
from app.sandbox.exchange import ConnectionCut

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx2

    from app.sandbox.entra.app import EntraApp
    from app.sandbox.entra.directory import RegisteredApplication, Tenant

    Ask = Callable[..., Awaitable[httpx2.Response]]

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("fault", "status", "headers", "body"),
    [
        pytest.param(
            faults.throttled(retry_after_s=7),
            429,
            {"retry-after": "7", "content-type": "application/json; charset=utf-8"},
            '{"error":"temporarily_unavailable"',
            id="throttled",
        ),
        pytest.param(
            faults.throttled_in_prose(),
            429,
            {"retry-after": "5", "content-type": "text/plain"},
            "Too many requests",
            id="throttled in prose",
        ),
        pytest.param(
            faults.unavailable(),
            503,
            {"content-type": "text/html"},
            "<!DOCTYPE html>",
            id="unavailable",
        ),
        pytest.param(faults.garbage(), 200, {}, '{"token_type":"Bearer"', id="garbage"),
        pytest.param(faults.garbage(b"{}"), 200, {}, "{}", id="empty garbage"),
    ],
)
async def test_a_fault_is_answered_until_it_is_cleared(
    *,
    ask: Ask,
    entra: EntraApp,
    fault: faults.Fault,
    status: int,
    headers: dict[str, str],
    body: str,
) -> None:
    entra.faults.add(fault)
    for _ in range(3):
        answer = await ask()
        assert answer.status_code == status
        assert {name: answer.headers[name] for name in headers} == headers
        assert answer.text.startswith(body)
    entra.faults.clear()
    assert (await ask()).json()["access_token"]


@pytest.mark.parametrize("code", sorted(CATALOGUE))
async def test_every_code_of_the_catalogue_can_be_asked_for(
    ask: Ask, entra: EntraApp, code: int
) -> None:
    entra.faults.add(faults.refused(code, times=1))
    answer = await ask()
    content: dict[str, Any] = answer.json()
    assert answer.status_code == CATALOGUE[code].status
    assert content["error_codes"] == [code]
    assert content["error"] == CATALOGUE[code].error
    assert content["error_description"].startswith(f"AADSTS{code}: ")
    assert "{" not in content["error_description"]
    assert (await ask()).status_code == 200


async def test_conditional_access_says_its_claims(ask: Ask, entra: EntraApp) -> None:
    entra.faults.add(faults.refused(53003))
    content = (await ask()).json()
    assert content["suberror"] == "message_only"
    assert content["claims"].startswith('{"access_token":{"capolids":')


async def test_faults_come_in_their_order_and_number(ask: Ask, entra: EntraApp) -> None:
    entra.faults.add(faults.unavailable(times=2), faults.refused(7000222, times=1))
    statuses = [(await ask()).status_code for _ in range(4)]
    assert statuses == [503, 503, 401, 200]
    assert entra.faults.in_force() == ()
    assert [entry.status for entry in entra.journal] == statuses


async def test_a_fault_can_be_for_one_application_alone(
    ask: Ask, entra: EntraApp, application: RegisteredApplication
) -> None:
    entra.faults.add(faults.refused(7000215, client_id="someone-else"))
    assert (await ask()).status_code == 200
    entra.faults.add(faults.refused(7000215, client_id=application.client_id))
    assert (await ask()).status_code == 401


async def test_a_slow_answer_is_still_the_right_one(ask: Ask, entra: EntraApp) -> None:
    entra.faults.add(faults.slow(0.05, times=1))
    started = time.monotonic()
    assert (await ask()).status_code == 200
    assert time.monotonic() - started >= 0.05


async def test_a_dropped_connection_has_no_answer(
    ask: Ask, entra: EntraApp, client: httpx2.AsyncClient, tenant: Tenant
) -> None:
    entra.faults.add(faults.dropped(times=1))
    metadata = f"/{tenant.tenant_id}/v2.0/.well-known/openid-configuration"
    assert (await client.get(metadata)).status_code == 200
    with pytest.raises(ConnectionCut):
        await ask()
    assert entra.journal[-1].status == 0
    assert (await ask()).status_code == 200


async def test_nothing_answers_while_it_is_down(
    ask: Ask, entra: EntraApp, client: httpx2.AsyncClient, tenant: Tenant
) -> None:
    entra.faults.add(faults.down())
    with pytest.raises(ConnectionCut):
        await ask()
    with pytest.raises(ConnectionCut):
        await client.get(f"/{tenant.tenant_id}/discovery/v2.0/keys")
    entra.faults.clear()
    assert (await ask()).status_code == 200

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from app.sandbox.control import ControlApp
from app.sandbox.entra import faults
from app.sandbox.entra.app import EntraApp
from app.sandbox.entra.directory import Directory, Tenant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.sandbox.entra.tokens import KeyRing

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def keys() -> KeyRing:
    from app.sandbox.entra.tokens import KeyRing

    return KeyRing()


@pytest.fixture
def entra(keys: KeyRing) -> EntraApp:
    tenant = Tenant(tenant_id="8b1f7a52-0000-4000-8000-000000000001")
    return EntraApp(directory=Directory(tenant), public_url="https://entra.example", keys=keys)


@pytest.fixture
async def client(entra: EntraApp) -> AsyncIterator[httpx2.AsyncClient]:
    control = ControlApp(entra=entra, befalls={"entra": entra.faults, "key-vault": faults.Faults()})
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=control), base_url="https://entra.example/_sandbox"
    ) as client:
        yield client


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"fault": "slow", "seconds": 2}, faults.slow(2)),
        ({"fault": "slow", "seconds": 0.5, "times": 3}, faults.slow(0.5, times=3)),
        ({"fault": "throttled", "retry_after_s": 7}, faults.throttled(retry_after_s=7)),
        ({"fault": "throttled-in-prose"}, faults.throttled_in_prose()),
        ({"fault": "unavailable", "times": 1}, faults.unavailable(times=1)),
        ({"fault": "garbage"}, faults.garbage()),
        ({"fault": "dropped"}, faults.dropped()),
        ({"fault": "down"}, faults.down()),
        (
            {"fault": "refused", "code": 7000222, "client_id": "x"},
            faults.refused(7000222, client_id="x"),
        ),
    ],
    ids=lambda value: value["fault"] if isinstance(value, dict) else "",
)
async def test_a_sandbox_can_be_told_each_fault(
    client: httpx2.AsyncClient, entra: EntraApp, told: dict[str, Any], expected: faults.Fault
) -> None:
    answer = await client.post("/faults/entra", json=told)
    assert answer.status_code == 201
    assert entra.faults.in_force() == (expected,)
    assert (await client.get("/faults")).json() == {"entra": [answer.json()], "key-vault": []}
    assert (await client.delete("/faults")).status_code == 200
    assert entra.faults.in_force() == ()


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"[]",
        b"{}",
        b'{"fault":"surprise"}',
        b'{"fault":"slow"}',
        b'{"fault":"slow","seconds":"2"}',
        b'{"fault":"slow","seconds":-1}',
        b'{"fault":"slow","seconds":1,"times":true}',
        b'{"fault":"refused","code":1}',
        b'{"fault":"down","times":1}',
        b'{"fault":"dropped","answer":1}',
    ],
)
async def test_a_sandbox_says_what_it_can_be_told(
    client: httpx2.AsyncClient, entra: EntraApp, told: bytes
) -> None:
    answer = await client.post("/faults/entra", content=told)
    assert answer.status_code == 400
    assert "throttled-in-prose" in answer.json()["error"]
    assert entra.faults.in_force() == ()


async def test_a_fault_befalls_a_part_that_is_there(client: httpx2.AsyncClient) -> None:
    for part in ("elsewhere", ""):
        answer = await client.post(f"/faults/{part}", json={"fault": "down"})
        assert answer.status_code == 404
        assert "key-vault" in answer.json()["error"]


async def test_a_sandbox_tells_how_often_entra_was_asked(
    client: httpx2.AsyncClient, entra: EntraApp
) -> None:
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=entra), base_url="https://entra.example"
    ) as asking:
        await asking.post("/nowhere/oauth2/v2.0/token", data={"client_id": "x"})
    content = (await client.get("/token-requests")).json()
    assert content["count"] == 1
    (last,) = content["last"]
    assert (last["client_id"], last["status"], last["code"]) == ("x", 400, 90002)

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from app.sandbox.dataverse.app import DataverseApp
from app.sandbox.dataverse.faults import Break, Fault, answers, broken, slow
from app.sandbox.dataverse.journal import Arrival, Journal
from app.sandbox.dataverse.protection import Limits
from app.sandbox.exchange import ConnectionCut

if TYPE_CHECKING:
    from collections.abc import MutableMapping

pytestmark = pytest.mark.anyio

HOST = "https://contoso.crm4.dynamics.com"
API = f"{HOST}/api/data/v9.2"
ADMIN = "aaaaaaaa-1111-4111-8111-000000000001"
CONTOSO = "accounts(11111111-1111-1111-1111-111111111111)"


async def raw(app: DataverseApp, path: str = "/api/data/v9.2/WhoAmI") -> list[Any]:
    """What the application sends, event by event, to a client that never goes away."""
    sent: list[Any] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {ADMIN}".encode())],
    }
    try:
        await app(scope, receive, send)
    except ConnectionCut:
        sent.append("cut")
    return sent


@pytest.mark.parametrize(
    ("status", "code"), [(429, "0x80072322"), (503, "0x80072323"), (500, "0x80040216")]
)
async def test_the_next_answers_are_failures(
    app: DataverseApp, client: httpx2.AsyncClient, status: int, code: str
) -> None:
    app.faults.add(answers(status, retry_after_s=7, times=2))
    found = [await client.get("WhoAmI") for _ in range(3)]
    assert [a.status_code for a in found] == [status, status, 200]
    assert found[0].json()["error"]["code"] == code
    assert found[0].headers["retry-after"] == "7"


async def test_a_fault_befalls_only_what_it_names(
    app: DataverseApp, client: httpx2.AsyncClient
) -> None:
    answer = answers(503).answer
    app.faults.add(Fault(answer=answer, path="/contacts", method="GET", times=None))
    assert (await client.get("accounts/$count")).status_code == 200
    assert (await client.get("contacts/$count")).status_code == 503
    assert (await client.post("contacts", json={"lastname": "x"})).status_code == 204
    app.faults.clear()
    assert (await client.get("contacts/$count")).status_code == 200


@pytest.mark.parametrize(("before", "name"), [(True, "Contoso"), (False, "Lost")])
async def test_a_failure_comes_before_or_after_the_work(
    app: DataverseApp, client: httpx2.AsyncClient, *, before: bool, name: str
) -> None:
    app.faults.add(Fault(answer=answers(503).answer, before=before))
    await client.patch(CONTOSO, json={"name": "Lost"})
    assert (await client.get(CONTOSO)).json()["name"] == name


async def test_an_answer_can_be_late(app: DataverseApp, client: httpx2.AsyncClient) -> None:
    app.faults.add(slow(0.05, times=1))
    started = asyncio.get_running_loop().time()
    assert (await client.get("WhoAmI")).status_code == 200
    assert asyncio.get_running_loop().time() - started >= 0.05


async def test_a_reset_lets_no_byte_out(app: DataverseApp) -> None:
    app.faults.add(broken(Break.RESET))
    assert await raw(app) == ["cut"]


async def test_a_reset_may_come_after_the_work(
    app: DataverseApp, client: httpx2.AsyncClient
) -> None:
    app.faults.add(broken(Break.RESET, before=False))
    with pytest.raises(ConnectionCut):
        await client.patch(CONTOSO, json={"name": "Written"})
    assert (await client.get(CONTOSO)).json()["name"] == "Written"


async def test_half_a_body_is_sent_and_no_more(app: DataverseApp) -> None:
    app.faults.add(broken(Break.HALF))
    start, body, end = await raw(app)
    length = int(dict(start["headers"])[b"Content-Length"])
    assert len(body["body"]) == length // 2
    assert body["more_body"]
    assert end == "cut"


@pytest.mark.parametrize(
    ("how", "wrong"),
    [
        (Break.TWO_LENGTHS, lambda h, _: [k for k, _ in h].count(b"Content-Length") == 2),
        (Break.BOTH, lambda h, _: {b"Content-Length", b"Transfer-Encoding"} <= set(dict(h))),
        (Break.LONG_HEADER, lambda h, _: len(dict(h)[b"x-ms-long"]) == 100_000),
        (Break.REDIRECT, lambda h, _: dict(h)[b"Location"].startswith(b"https://elsewhere")),
    ],
)
async def test_framing_can_be_wrong(app: DataverseApp, how: Break, wrong: Any) -> None:
    app.faults.add(broken(how))
    start, body = await raw(app)
    assert wrong(start["headers"], body["body"])


async def test_what_arrived_is_kept(app: DataverseApp, client: httpx2.AsyncClient) -> None:
    answer = await client.post("accounts?$select=name", json={"name": "x"}, headers={"X-Mine": "1"})
    arrived = app.journal.last
    assert (arrived.method, arrived.target) == ("POST", "/api/data/v9.2/accounts?$select=name")
    assert arrived.body == b'{"name":"x"}'
    assert arrived.header("x-mine") == "1"
    assert arrived.header("authorization") == f"Bearer {ADMIN}"
    assert arrived.service_request_id == answer.headers["x-ms-service-request-id"]


def test_an_arrival_shows_neither_token_nor_body(app: DataverseApp) -> None:
    arrived = Arrival(
        at=app._clock(),
        service_request_id="1",
        method="GET",
        target="/",
        headers=(("authorization", "Bearer hunter2"),),
        body=b"hunter2",
    )
    assert "hunter2" not in repr(arrived)


def test_a_journal_forgets_the_oldest(app: DataverseApp) -> None:
    journal = Journal(kept=2)
    for number in range(3):
        journal.add(
            Arrival(
                at=app._clock(),
                service_request_id="1",
                method="GET",
                target=str(number),
                headers=(),
                body=b"",
            )
        )
    assert ([a.target for a in journal], journal.total) == (["1", "2"], 3)


async def test_a_person_can_make_it_fail(client: httpx2.AsyncClient) -> None:
    told = await client.post(
        f"{HOST}/_sandbox/faults", json={"status": 429, "retry_after_s": 5, "times": 1}
    )
    assert told.status_code == 201
    assert told.json()[0]["status"] == 429
    assert (await client.get("WhoAmI")).status_code == 429
    assert (await client.get("WhoAmI")).status_code == 200
    await client.post(f"{HOST}/_sandbox/faults", json={"break": "redirect", "times": None})
    assert (await client.get("WhoAmI")).status_code == 302
    assert (await client.delete(f"{HOST}/_sandbox/faults")).status_code == 204
    assert (await client.get(f"{HOST}/_sandbox/faults")).json() == []


@pytest.mark.parametrize("body", ["{", '{"nosuch":1}', '{"break":"nosuch"}', '{"status":"x"}'])
async def test_a_fault_that_cannot_be_read_is_refused(
    client: httpx2.AsyncClient, body: str
) -> None:
    answer = await client.post(f"{HOST}/_sandbox/faults", content=body)
    assert answer.status_code == 400
    assert (await client.get(f"{HOST}/_sandbox/faults")).json() == []


async def test_a_person_sees_what_arrived_without_tokens(client: httpx2.AsyncClient) -> None:
    await client.get("WhoAmI")
    shown = await client.get(f"{HOST}/_sandbox/requests")
    assert shown.json()["total"] == 1
    assert shown.json()["requests"][0]["target"] == "/api/data/v9.2/WhoAmI"
    assert ADMIN not in shown.text
    await client.delete(f"{HOST}/_sandbox/requests")
    assert (await client.get(f"{HOST}/_sandbox/requests")).json()["total"] == 0
    assert (await client.get(f"{HOST}/_sandbox/nosuch")).status_code == 404


async def test_limits_answer_429_before_anything_is_done(app: DataverseApp) -> None:
    limited = DataverseApp(
        verify_token=app._verify, public_url=HOST, store=app.store, limits=Limits(requests=2)
    )
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=limited),
        base_url=f"{API}/",
        headers={"Authorization": f"Bearer {ADMIN}"},
    ) as client:
        found = [await client.post("accounts", json={"name": "L"}) for _ in range(3)]
    assert [a.status_code for a in found] == [204, 204, 429]
    assert found[2].json()["error"]["code"] == "0x80072322"
    assert 1 <= int(found[2].headers["retry-after"]) <= 301
    assert found[1].headers["x-ms-ratelimit-burst-remaining-xrm-requests"] == "0"
    rows = app.store.one("SELECT COUNT(*) FROM account WHERE name = 'L'")
    assert rows == (2,)


async def test_concurrent_requests_are_counted(app: DataverseApp) -> None:
    limited = DataverseApp(
        verify_token=app._verify, public_url=HOST, store=app.store, limits=Limits(concurrency=2)
    )
    limited.faults.add(slow(0.05))
    found = await asyncio.gather(*(raw(limited) for _ in range(4)))
    assert sorted(start["status"] for start, _ in found) == [200, 200, 429, 429]
    assert (await raw(limited))[0]["status"] == 200


async def test_answers_are_compressed_where_asked(client: httpx2.AsyncClient) -> None:
    plain = await client.get("accounts")
    packed = await client.get("accounts", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json() == plain.json()
    sent = int(packed.headers["content-length"])
    assert sent < len(plain.content)
    assert len(gzip.compress(plain.content, compresslevel=1, mtime=0)) == sent


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/data/v9.0/WhoAmI", 200),
        ("/api/data/v9.2.786.1008/WhoAmI", 200),
        ("/api/data/v8.2/WhoAmI", 404),
        ("/api/data/v9.2", 200),
        ("/api/search/v1.0/query", 501),
        ("/XRMServices/2011/Organization.svc/web", 501),
        ("/nosuch", 404),
    ],
)
async def test_addresses_and_versions(client: httpx2.AsyncClient, path: str, status: int) -> None:
    answer = await client.get(f"{HOST}{path}")
    assert answer.status_code == status


async def test_a_client_that_goes_away_changes_nothing(app: DataverseApp) -> None:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    async def send(_: MutableMapping[str, Any]) -> None:
        pytest.fail("nothing is sent")

    await app({"type": "http"}, receive, send)
    assert len(app.journal) == 0

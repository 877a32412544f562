"""httpx, as a service uses it that speaks to the Web API by hand; and its successor."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.path.desk import DESK

if TYPE_CHECKING:
    from tests.clients.conftest import Served

API = "api/data/v9.2"


@pytest.fixture(params=["httpx", "httpx2"])
def httpx(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(request.param)


def options(served: Served) -> dict[str, Any]:
    return {
        "base_url": f"{served.base}/{API}/",
        "headers": {"Authorization": f"Bearer {served.broker.keys[DESK]}"},
        "verify": served.broker.tls,
        "trust_env": False,
    }


def test_a_day_of_calls(served: Served, httpx: Any) -> None:
    with httpx.Client(**options(served)) as client:
        made = client.post("accounts", json={"name": "By hand", "telephone1": "1"})
        assert made.status_code == 204
        assert made.headers["OData-EntityId"].startswith(f"{served.base}/{API}/accounts(")
        row = made.headers["OData-EntityId"]
        read = client.get(row, params={"$select": "name"})
        assert read.json()["name"] == "By hand"
        etag = read.json()["@odata.etag"]
        assert client.patch(row, json={"telephone1": "2"}, headers={"If-Match": etag}).is_success
        stale = client.patch(row, json={"telephone1": "3"}, headers={"If-Match": etag})
        assert (stale.status_code, stale.headers["Broker-Decision"]) == (412, "allowed")
        assert client.delete(row).status_code == 204
        gone = client.get(row, params={"$select": "name"})
        assert (gone.status_code, gone.headers["Broker-Decision"]) == (404, "allowed")
        refused = client.get("accounts", params={"$filter": "creditlimit gt 5"})
        assert (refused.status_code, refused.headers["Broker-Decision"]) == (403, "refused")
        assert refused.json()["detail"] == "columns not granted on accounts: creditlimit"


def test_pages_are_followed_to_the_last(served: Served, httpx: Any) -> None:
    with httpx.Client(**options(served)) as client:
        page = client.get("accounts", params={"$select": "name", "$orderby": "name"}).json()
        rows, pages = page["value"], 1
        while link := page.get("@odata.nextLink"):
            page = client.get(link).json()
            rows += page["value"]
            pages += 1
        assert pages > 1
        ids = [row["accountid"] for row in rows]
        assert len(ids) == len(set(ids))


def test_many_at_once_over_few_connections(served: Served, httpx: Any) -> None:
    async def ask() -> set[int]:
        limits = httpx.Limits(max_connections=4)
        async with httpx.AsyncClient(**options(served), limits=limits) as client:
            answers = await asyncio.gather(
                *(client.get("accounts", params={"$select": "name", "$top": 1}) for _ in range(60))
            )
            return {answer.status_code for answer in answers}

    assert asyncio.run(ask()) == {200}


def test_a_compressed_answer_reads_like_any_other(served: Served, httpx: Any) -> None:
    with httpx.Client(**options(served)) as client:
        for coding in ("gzip", "identity", "gzip, deflate, br, zstd"):
            answer = client.get(
                "accounts", params={"$select": "name"}, headers={"Accept-Encoding": coding}
            )
            assert answer.json()["value"]


def test_the_root_serves_who_knows_only_a_host(served: Served, httpx: Any) -> None:
    with httpx.Client(**{**options(served), "base_url": served.broker.url}) as client:
        answer = client.get(f"/{API}/accounts", params={"$select": "name"}).json()
        assert answer["@odata.context"].startswith(f"{served.broker.url}/{API}/$metadata")
        assert answer["@odata.nextLink"].startswith(f"{served.broker.url}/{API}/accounts?")
        assert client.get(answer["@odata.nextLink"]).status_code == 200

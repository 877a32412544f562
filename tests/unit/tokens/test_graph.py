from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from app.config.model import ClientSecretCredential, EnvReference
from app.tokens.graph import NO_GRAPH, NOT_LISTED, Graph, Unknown, earliest_end
from app.tokens.hidden import Hidden
from app.tokens.material import Material, Registration
from app.tokens.service import TokenService
from tests.unit.tokens.fakes import (
    CLIENT,
    CONTOSO,
    NOON,
    FakeClock,
    FakeEntra,
    FakeSecrets,
    application,
    refused,
    secret_credential,
)
from tests.unit.tokens.servers import Told, told_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

END = datetime(2027, 3, 31, tzinfo=UTC)


@pytest.fixture
def told() -> Iterator[Told]:
    with told_server() as told:
        yield told


def credential(hint: str | None, end: str) -> dict[str, Any]:
    return {"keyId": "k", "hint": hint, "endDateTime": end, "secretText": None}


@pytest.mark.parametrize(
    ("credentials", "end"),
    [
        ([credential("sec", "2027-03-31T00:00:00Z")], END),
        ([credential("oth", "2027-03-31T00:00:00Z")], None),
        ([credential(None, "2027-03-31T00:00:00Z")], None),
        ([credential("sec", "2020-03-31T00:00:00Z")], None),
        (
            [credential("sec", "2028-01-01T00:00:00Z"), credential("sec", "2027-03-31T00:00:00Z")],
            END,
        ),
        ([credential("sec", "whenever")], None),
        ([credential("sec", "2027-03-31T00:00:00")], None),
        ([7, None, {}], None),
        ("no list", None),
        (None, None),
    ],
    ids=[
        "ours",
        "another",
        "without-hint",
        "one-that-has-ended",
        "two-that-begin-alike",
        "no-date",
        "no-zone",
        "no-credentials",
        "no-list",
        "nothing",
    ],
)
def test_a_secret_ends_when_graph_says_of_the_one_that_begins_alike(
    credentials: object, end: datetime | None
) -> None:
    assert earliest_end(credentials, "secret-a", NOON) == end


def graph(entra: FakeEntra, told: Told) -> Graph:
    return Graph(entra, {"login.microsoftonline.com": told.url})


async def test_an_application_that_may_read_itself_learns_its_secrets_end(told: Told) -> None:
    told.answer({"passwordCredentials": [credential("sec", "2027-03-31T00:00:00Z")]})
    clock, entra = FakeClock(), FakeEntra()
    service = TokenService(
        {"erp": application(by_graph("A"))},
        FakeSecrets(A="secret-a"),
        entra=entra,
        clock=clock,
        graph=graph(entra, told),
    )
    await service.lease("erp", CONTOSO)
    await service._reread()
    await asyncio.gather(*(task for task in service._tasks if "_reread" in repr(task)))
    assert service.status()[0].expires_on == END
    await service._reread()
    assert len(told.asked) == 1, "once a day is enough"
    method, path, headers, _ = told.asked[0]
    assert method == "GET"
    assert urlsplit(path).path == f"/v1.0/applications(appId='{CLIENT}')"
    assert headers["Authorization"].startswith("Bearer token.secret-a")
    assert entra.asked[-1] == ("secret-a", told.url)
    await service.aclose()


async def test_graph_is_not_asked_where_the_configuration_does_not_say_so(told: Told) -> None:
    entra = FakeEntra()
    service = TokenService(
        {"erp": application(secret_credential("A"))},
        FakeSecrets(A="secret-a"),
        entra=entra,
        clock=FakeClock(),
        graph=graph(entra, told),
    )
    await service.lease("erp", CONTOSO)
    await service._reread()
    assert told.asked == []
    assert [resource for _, resource in entra.asked] == [CONTOSO]
    await service.aclose()


async def test_an_application_that_may_not_read_itself_says_so_and_works(told: Told) -> None:
    told.answer({"error": {"code": "Authorization_RequestDenied"}}, status=403)
    entra = FakeEntra()
    service = TokenService(
        {"erp": application(by_graph("A"))},
        FakeSecrets(A="secret-a"),
        entra=entra,
        clock=FakeClock(),
        graph=graph(entra, told),
    )
    with capture_logs() as logs:
        await service.lease("erp", CONTOSO)
        await service._reread()
        await asyncio.gather(*(task for task in service._tasks if "_reread" in repr(task)))
    (warning,) = [line for line in logs if line["event"] == "credential.expiry_unknown"]
    assert warning["reason"] == "the application may not read itself in Microsoft Graph"
    assert "Application.Read.All" in warning["remedy"]
    assert service.status()[0].expires_on is None
    assert service.lease_now("erp", CONTOSO) is not None
    await service.aclose()


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (403, "the application may not read itself in Microsoft Graph"),
        (404, "Microsoft Graph answers HTTP 404"),
        (429, "Microsoft Graph answers HTTP 429"),
        (500, "Microsoft Graph answers HTTP 500"),
    ],
)
async def test_an_answer_that_does_not_tell_leaves_the_end_unknown(
    told: Told, status: int, why: str
) -> None:
    told.answer({"error": {"code": "Authorization_RequestDenied"}}, status=status)
    found = await graph(FakeEntra(), told).secret_expiry(*asked())
    assert isinstance(found, Unknown)
    assert found.why == why


async def test_a_secret_that_graph_does_not_list_has_an_unknown_end(told: Told) -> None:
    told.answer({"passwordCredentials": [credential("oth", "2027-03-31T00:00:00Z")]})
    assert await graph(FakeEntra(), told).secret_expiry(*asked()) == NOT_LISTED


async def test_a_graph_token_that_is_refused_leaves_the_end_unknown(told: Told) -> None:
    entra = FakeEntra(answers={"secret-a": [refused(53003)]})
    found = await graph(entra, told).secret_expiry(*asked())
    assert isinstance(found, Unknown)
    assert "AADSTS53003" in found.why
    assert told.asked == []


async def test_graph_is_asked_only_where_microsoft_has_one() -> None:
    entra = FakeEntra()
    registration, material, now = asked()
    elsewhere = registration._replace(
        identity=registration.identity._replace(authority="https://127.0.0.1:8443")
    )
    assert await Graph(entra).secret_expiry(elsewhere, material, now) == NO_GRAPH
    assert entra.asked == []


def by_graph(name: str) -> ClientSecretCredential:
    return ClientSecretCredential(client_secret=EnvReference(env=name), expires="graph")


def asked() -> tuple[Registration, Material, datetime]:
    material = Material(
        kind="client_secret", id="A", fingerprint="f", msal_credential=Hidden("secret-a")
    )
    return Registration.of(application()), material, NOON + timedelta(0)

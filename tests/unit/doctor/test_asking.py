"""An environment is asked page by page, every refusal is explained, and no token shown."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from app.config.model import Environment
from app.dataverse.client import UpstreamClient
from app.doctor.asking import Answered, Asker, Refused, Unreached, table_privileges
from app.doctor.needs import Privilege
from app.tokens.hidden import Hidden
from tests.path.stand_ins import Arrived, StandIn, says, stand_in_host

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

TOKEN = "hunter2-token"


@pytest.fixture
def dataverse() -> Iterator[StandIn]:
    with stand_in_host() as host:
        yield host.start(lambda _: says(404))


def asked(dataverse: StandIn, work: Callable[[Asker], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        client = UpstreamClient(dataverse.url)
        environment = Environment.model_validate({"url": dataverse.url})
        try:
            return await work(Asker(client, environment, Hidden(TOKEN)))
        finally:
            await client.aclose()

    return asyncio.run(run())


def test_an_asker_never_shows_its_token() -> None:
    environment = Environment.model_validate({"url": "https://contoso.crm4.dynamics.com"})
    asker = Asker(UpstreamClient(environment.url), environment, Hidden(TOKEN))
    for shown in (repr(asker), str(asker), repr(dataclasses.fields(asker))):
        assert TOKEN not in shown
    for write in (pickle.dumps, json.dumps):
        with pytest.raises(TypeError):
            write(asker)


def test_rows_are_read_to_the_last_page(dataverse: StandIn) -> None:
    def answer(arrived: Arrived) -> bytes:
        if "page=2" in arrived.target:
            return says(200, {"value": [{"n": 2}]})
        link = f"{dataverse.url}/api/data/v9.2/accounts?page=2"
        return says(200, {"value": [{"n": 1}, "no row"], "@odata.nextLink": link})

    dataverse.answer = answer
    assert asked(dataverse, lambda asker: asker.rows("accounts")) == [{"n": 1}, {"n": 2}]
    first, second = dataverse.arrived
    assert first.target == "/api/data/v9.2/accounts"
    assert second.header("authorization") == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    "link",
    ["https://evil.example/api/data/v9.2/accounts", "//evil.example/x", "javascript:x", 7],
)
def test_a_next_page_elsewhere_is_not_followed(dataverse: StandIn, link: object) -> None:
    dataverse.answer = lambda _: says(200, {"value": [], "@odata.nextLink": link})
    with pytest.raises(Unreached, match="elsewhere"):
        asked(dataverse, lambda asker: asker.rows("accounts"))
    assert len(dataverse.arrived) == 1


def test_pages_without_end_are_given_up(dataverse: StandIn) -> None:
    link = f"{dataverse.url}/api/data/v9.2/accounts"
    dataverse.answer = lambda _: says(200, {"value": [], "@odata.nextLink": link})
    with pytest.raises(Unreached, match="no end"):
        asked(dataverse, lambda asker: asker.rows("accounts"))


def test_a_refusal_is_explained(dataverse: StandIn) -> None:
    body = {"error": {"code": "0x80072560", "message": "hunter2"}}
    dataverse.answer = lambda _: says(403, body, {"Retry-After": "7"})
    answer = asked(dataverse, lambda asker: asker.get("WhoAmI"))
    assert isinstance(answer, Answered)
    assert answer.refusal is not None
    assert (answer.refusal.code, answer.retry_after) == ("0x80072560", "7")
    with pytest.raises(Refused) as caught:
        asked(dataverse, lambda asker: asker.rows("accounts"))
    assert "hunter2" not in repr(caught.value) + repr(answer)


@pytest.mark.parametrize("body", [b"<html>", b"[" * 100_000, b'{"value": 7}'])
def test_an_answer_that_makes_no_sense_is_none(dataverse: StandIn, body: bytes) -> None:
    dataverse.answer = lambda _: says(200, body)
    with pytest.raises(Unreached) as caught:
        asked(dataverse, lambda asker: asker.rows("accounts"))
    assert caught.value.code == "upstream-malformed"


def test_an_environment_that_is_not_there_is_unreached() -> None:
    with pytest.raises(Unreached) as caught:
        asked(StandIn(1, lambda _: b""), lambda asker: asker.get("WhoAmI"))
    assert caught.value.code == "upstream-unreachable"


def test_privileges_are_read_as_far_as_they_make_sense(dataverse: StandIn) -> None:
    good = {
        "PrivilegeType": "Read",
        "Name": "prvReadAccount",
        "PrivilegeId": "p1",
        "CanBeBasic": True,
        "CanBeGlobal": True,
    }
    tables = [
        {"LogicalName": "account", "EntitySetName": "accounts", "Privileges": [good, {}, 7]},
        {"LogicalName": "note", "EntitySetName": None, "Privileges": None},
        {"LogicalName": 7},
    ]
    dataverse.answer = lambda _: says(200, {"value": tables})
    found = asked(dataverse, table_privileges)
    assert found.keys() == {"account", "note"}
    assert found["account"].by_kind == {
        "Read": Privilege("prvReadAccount", "p1", ("Basic", "Global"))
    }
    assert found["note"].by_kind == {}

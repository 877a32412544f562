"""A live schema outlives the process, and arrives without a restart when it has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.path.reaching import until
from tests.path.staging import CASES, staging
from tests.path.stand_ins import Arrived, ordinary, says

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.path.staging import Configuration, Staged
    from tests.path.stand_ins import StandInHost

READ = "/environments/prod/api/data/v9.2/accounts?$select=name"
NEW = "/environments/prod/api/data/v9.2/accounts?$select=new_shade"
DOCUMENT = (CASES / "metadata.xml").read_text()
WIDER = DOCUMENT.replace(
    '<Property Name="telephone1"',
    '<Property Name="new_shade" Type="Edm.String"/><Property Name="telephone1"',
)


def describes(document: str, *, status: int = 200) -> Any:
    def answer(arrived: Arrived) -> bytes:
        if arrived.target.endswith("$metadata"):
            return says(status, document, {"Content-Type": "application/xml"})
        if "/EntityDefinitions?" in arrived.target:
            return says(200, {"value": []})
        return ordinary(arrived)

    return answer


def live(configuration: Configuration) -> None:
    configuration["environments"]["prod"]["schema"] = "live"
    tables = configuration["callers"]["support-desk"]["grants"][0]["tables"]
    tables["accounts"]["columns"].append("new_shade")


def test_a_restart_does_not_wait_for_metadata(host: StandInHost, tmp_path: Path) -> None:
    with staging(host, tmp_path, change=live, prod=describes(DOCUMENT)) as first:
        until(lambda: first.broker.ask("GET", READ, caller="reporting").status == 200 or None)
        url = first.prod.url
        [kept] = (tmp_path / "state" / "schemas").glob("prod-*.schema")

    def as_before(configuration: Configuration) -> None:
        live(configuration)
        configuration["environments"]["prod"]["url"] = url

    with staging(host, tmp_path, change=as_before) as second:
        # The same address, whose Dataverse says nothing of itself any more.
        first.prod.answer = describes("", status=503)
        assert second.broker.ask("GET", READ, caller="reporting").status == 200
        assert second.broker.ask("GET", "/readyz").status == 200
    kept.write_bytes(kept.read_bytes()[:-20])
    with staging(host, tmp_path, change=as_before) as third:
        answer = third.broker.ask("GET", READ, caller="reporting")
        assert (answer.status, answer.json()["type"]) == (503, "/problems/schema-unavailable")
        first.prod.answer = describes(DOCUMENT)


def test_a_new_column_is_known_without_a_restart(
    host: StandInHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.path.world.ASK_S", 0.0)
    with staging(host, tmp_path, change=live, prod=describes(DOCUMENT)) as staged:
        until(lambda: staged.broker.ask("GET", READ, caller="reporting").status == 200 or None)
        assert _asked(staged, NEW) == 403
        staged.prod.answer = describes(WIDER)
        assert _asked(staged, NEW) == 200
        assert staged.broker.ask("GET", NEW, caller="reporting").status == 403


def test_unknown_names_do_not_make_it_ask_again_and_again(
    host: StandInHost, tmp_path: Path
) -> None:
    with staging(host, tmp_path, change=live, prod=describes(DOCUMENT)) as staged:
        until(lambda: staged.broker.ask("GET", READ, caller="reporting").status == 200 or None)
        for number in range(20):
            unknown = READ.replace("name", f"new_unknown{number}")
            assert staged.broker.ask("GET", unknown, caller="reporting").status == 403
        asked = [a for a in staged.prod.arrived if a.target.endswith("$metadata")]
        assert len(asked) == 1


def test_a_token_that_is_refused_to_the_schema_is_renewed(
    host: StandInHost, tmp_path: Path
) -> None:
    refused: list[str | None] = []
    said = describes(DOCUMENT)

    def answer(arrived: Arrived) -> bytes:
        token = arrived.header("authorization")
        if not refused or token in refused:
            refused.append(token)
            return says(401)
        answered: bytes = said(arrived)
        return answered

    with staging(host, tmp_path, change=live, prod=answer) as staged:
        until(lambda: staged.broker.ask("GET", READ, caller="reporting").status == 200 or None)
    assert len(refused) == 1


def _asked(staged: Staged, target: str) -> int:
    return staged.broker.ask("GET", target, caller="support-desk").status

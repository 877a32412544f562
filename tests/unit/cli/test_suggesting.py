"""`policy suggest` on a real record and configuration."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from app.audit.audit import audit_at
from app.audit.keys import CheckpointSigner
from app.audit.record import Record, RecordIds, TableAccess, timestamp
from app.cli.main import app
from app.path.keyring import new_key, read_keyring
from app.telemetry.logs import configure

CONFIG = Path(__file__).parents[2] / "policy_cases" / "broker.yaml"
IDS = RecordIds()


def record(table: str, operation: str, *columns: str, **more: Any) -> Record:
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "phase": "outcome",
        "id": IDS.next(now),
        "time": timestamp(now),
        "action": "proxy",
        "decision": "allowed",
        "outcome": "completed",
        "caller": "reporting",
        "environment": "prod",
        "application": "crm-app",
        "method": "GET",
        "target": f"{table}?$select=…",
        "accesses": (TableAccess(table=table, operation=operation, columns=columns or None),),
    }
    return Record(**{**fields, **more})


REFUSED = {"decision": "refused", "reason": "not-granted", "application": None}


@pytest.fixture
def store(tmp_path: Path, logs_as_before: None) -> str:
    del logs_as_before
    configure(level="ERROR", form="console")
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    signer = CheckpointSigner(read_keyring(new_key()).checkpoints()[0])
    kept = (
        record("accounts", "read", "accountid", "name"),
        record("contacts", "read", "fullname", "governmentid", **REFUSED),
        record("invoices", "read", **{**REFUSED, "reason": "bad-query"}),
        record("accounts", "read", "revenue", caller="analyst"),
        record("new_projects", "read", environment="dev"),
    )

    async def write() -> None:
        audit = audit_at(url, signer=signer, program="test")
        await audit.start()
        for each in kept:
            await audit.journal.append(each)
        await audit.aclose()

    asyncio.run(write())
    return url


def run(store: str, *arguments: str, caller: str = "reporting") -> tuple[int, str, str]:
    base = ["policy", "suggest", "--caller", caller, "--store", store, "--config", str(CONFIG)]
    done = CliRunner().invoke(app, [*base, *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_the_suggestion_holds_what_was_seen_and_no_more(store: str) -> None:
    code, out, err = run(store, "--json")
    assert code == 0, err
    [answer] = json.loads(out)
    assert answer["requests"] == 2
    assert answer["suggested"] == {
        "environment": "prod",
        "application": "crm-app",
        "tables": {
            "accounts": {"operations": ["read"], "columns": ["accountid", "name"]},
            "contacts": {"operations": ["read"], "columns": ["fullname", "governmentid"]},
        },
        "metadata": "none",
        "limits": {"page_size": 500, "expand_depth": 2},
    }
    assert "+    - governmentid" in answer["difference"]
    assert "-    - telephone1" in answer["difference"]
    assert "-- WhoAmI" in answer["difference"]


def test_what_was_refused_can_be_left_out(store: str) -> None:
    [answer] = json.loads(run(store, "--json", "--allowed-only")[1])
    assert list(answer["suggested"]["tables"]) == ["accounts"]


def test_people_get_yaml_to_copy_and_a_difference(store: str) -> None:
    code, out, _ = run(store)
    assert code == 0
    text = out.partition("allows it\n")[2].partition("The difference")[0]
    assert yaml.safe_load(text)["tables"]["accounts"]["columns"] == ["accountid", "name"]
    assert "callers.reporting.grants[0], in prod: 2 requests" in out
    assert "+    - governmentid" in out


def test_a_caller_that_was_not_seen_gets_no_suggestion(store: str) -> None:
    code, out, _ = run(store, caller="hr-sync")
    assert code == 0
    assert "nothing was seen, so nothing is suggested" in out
    assert json.loads(run(store, "--json", caller="hr-sync")[1])[0]["suggested"] is None


def test_a_caller_that_there_is_not_is_an_error(store: str) -> None:
    code, _, err = run(store, caller="reportin")
    assert code == 3
    assert "did you mean 'reporting'?" in err

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.audit.record import Part, Record, TableAccess
from app.cli.seen import use_of
from app.config.model import Operation
from app.odata.access import ALL, Access
from app.odata.demands import Call
from app.schema.csdl import read_csdl

SCHEMA = read_csdl((Path(__file__).parents[2] / "policy_cases" / "metadata.xml").read_bytes())
READS = TableAccess(table="contacts", operation="read", columns=("fullname",))
ROW = "11111111-1111-1111-1111-111111111111"


def record(method: str = "GET", target: str = "contacts?$select=…", **more: Any) -> Record:
    fields: dict[str, Any] = {
        "phase": "outcome",
        "id": "1",
        "time": "2026-11-24T06:30:00.000000Z",
        "action": "proxy",
        "decision": "allowed",
        "method": method,
        "target": target,
    }
    return Record(**{**fields, **more})


def test_accesses_are_those_of_the_request_and_of_its_parts() -> None:
    part = Part(
        method="POST",
        target="accounts",
        decision="allowed",
        accesses=(TableAccess(table="accounts", operation="create", columns=None),),
    )
    use = use_of(record(target="$batch", accesses=(READS,), parts=(part,)), SCHEMA)
    assert use.accesses == (
        Access("contacts", Operation.READ, frozenset({"fullname"})),
        Access("accounts", Operation.CREATE, ALL),
    )
    assert use.calls == ()


@pytest.mark.parametrize("schema", [SCHEMA, None], ids=["with a schema", "without"])
@pytest.mark.parametrize(
    ("method", "target", "call"),
    [
        ("GET", "WhoAmI", Call("WhoAmI", is_action=False)),
        ("GET", "WhoAmI()", Call("WhoAmI", is_action=False)),
        (
            "POST",
            f"contacts({ROW})/Microsoft.Dynamics.CRM.new_AddNoteToContact",
            Call("new_AddNoteToContact", is_action=True, table="contacts"),
        ),
        ("GET", f"contacts({ROW})", None),
        ("GET", f"contacts({ROW})/parentcustomerid_account", None),
        ("GET", "contacts/$count", None),
        ("POST", "contacts/Microsoft.Dynamics.CRM.CreateMultiple", None),
        ("GET", "contacts/Microsoft.Dynamics.CRM.contact", None),
        ("GET", "EntityDefinitions(LogicalName=…)", None),
        ("GET", "", None),
    ],
)
def test_calls_are_told_from_tables(
    method: str, target: str, call: Call | None, schema: Any
) -> None:
    accesses = () if call is not None and call.table is None else (READS,)
    found = use_of(record(method, target, accesses=accesses), schema)
    assert found.calls == (() if call is None else (call,))


@pytest.mark.parametrize(
    ("target", "metadata"),
    [
        ("contacts?$select=…", "none"),
        ("EntityDefinitions(LogicalName=…)/Attributes", "granted"),
        ("EntityDefinitions?$filter=…", "granted"),
        ("$metadata", "all"),
        ("RelationshipDefinitions", "all"),
    ],
)
def test_metadata_is_told_from_the_target(target: str, metadata: str) -> None:
    assert use_of(record(target=target), SCHEMA).metadata == metadata


@pytest.mark.parametrize(
    ("more", "holds"),
    [
        ({"action": "token", "application": "a"}, True),
        ({"action": "token"}, False),
        ({"action": "token", "application": "a", "decision": "refused"}, False),
        ({"application": "a"}, False),
    ],
    ids=["the raw one", "one of the broker's own", "refused", "a call"],
)
def test_a_token_is_held_by_whom_it_was_given(more: dict[str, Any], holds: object) -> None:
    assert use_of(record("POST", "", **more), None).holds_token is holds

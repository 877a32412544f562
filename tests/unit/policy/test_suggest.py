from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.model import BoundName, Grant, Operation
from app.odata.access import ALL, Access
from app.odata.demands import Call
from app.policy.compiling import compile_grant
from app.policy.judge import judge_accesses
from app.policy.suggest import Use, suggest, written
from app.schema.csdl import read_csdl

SCHEMA = read_csdl((Path(__file__).parents[2] / "policy_cases" / "metadata.xml").read_bytes())
TODAY = Grant.model_validate(
    {
        "environment": "prod",
        "application": "crm-app",
        "tables": {
            "accounts": {
                "operations": ["read", "update"],
                "columns": ["accountid", "name", "telephone1"],
                "writable_columns": ["telephone1"],
                "row_filter": "statecode eq 0",
            },
            "*": {"operations": ["read"]},
        },
        "functions": ["WhoAmI", {"name": "new_Total", "table": "accounts"}],
        "limits": {"page_size": 500},
    }
)


def use(table: str, operation: str, *columns: str, everything: bool = False) -> Use:
    touched = ALL if everything else frozenset(columns)
    return Use((Access(table, Operation(operation), touched),))


def suggested(*uses: Use, today: Grant = TODAY) -> dict[str, Any]:
    return written(suggest(today, uses))


def test_a_grant_is_cut_down_to_what_was_used() -> None:
    assert suggested(use("accounts", "read", "name"), use("accounts", "read", "accountid")) == {
        "environment": "prod",
        "application": "crm-app",
        "tables": {
            "accounts": {
                "operations": ["read"],
                "columns": ["accountid", "name"],
                "row_filter": "statecode eq 0",
            }
        },
        "metadata": "none",
        "limits": {"page_size": 500},
    }


def test_what_was_refused_is_added_behind_what_is_there() -> None:
    tables = suggested(
        use("contacts", "read", "fullname"),
        use("accounts", "read", "creditlimit"),
        use("accounts", "read", "name"),
    )["tables"]
    assert list(tables) == ["accounts", "contacts"]
    assert tables["accounts"]["columns"] == ["name", "creditlimit"]
    assert tables["contacts"] == {"operations": ["read"], "columns": ["fullname"]}


@pytest.mark.parametrize(
    ("table", "columns"),
    [("accounts", ["accountid", "name", "telephone1"]), ("contacts", None)],
    ids=["columns that are restricted today", "columns that are not"],
)
def test_a_read_without_select_needs_what_came_back(table: str, columns: list[str] | None) -> None:
    tables = suggested(use(table, "read", everything=True))["tables"]
    assert tables[table].get("columns") == columns


def test_a_table_that_is_only_written_shows_no_column() -> None:
    tables = suggested(use("invoices", "create", "name"), use("invoices", "append_to"))["tables"]
    assert tables["invoices"] == {
        "operations": ["create", "append_to"],
        "columns": [],
        "writable_columns": ["name"],
    }


def test_columns_written_as_they_are_read_are_named_once() -> None:
    tables = suggested(use("contacts", "read", "jobtitle"), use("contacts", "update", "jobtitle"))[
        "tables"
    ]
    assert tables["contacts"] == {"operations": ["read", "update"], "columns": ["jobtitle"]}


def test_a_count_needs_the_table_and_no_column() -> None:
    tables = suggested(use("contacts", "read"))["tables"]
    assert tables["contacts"] == {"operations": ["read"], "columns": []}


def test_calls_are_named_as_they_were_made() -> None:
    calls = (
        Call("new_Total", is_action=False, table="accounts"),
        Call("new_Close", is_action=True, table="contacts"),
        Call("RetrieveVersion", is_action=False),
    )
    found = suggest(TODAY, [Use(calls=calls)])
    assert found.functions == (BoundName(name="new_Total", table="accounts"), "RetrieveVersion")
    assert found.actions == (BoundName(name="new_Close", table="contacts"),)


@pytest.mark.parametrize(
    ("metadata", "says"), [((), "none"), (("granted",), None), (("all", "granted"), "all")]
)
def test_metadata_is_what_was_asked_for(metadata: tuple[Any, ...], says: str | None) -> None:
    uses = [Use(metadata=each) for each in metadata]
    assert suggested(*uses).get("metadata") == says


def test_a_raw_token_is_granted_only_where_it_was_had() -> None:
    today = TODAY.model_copy(update={"issue_token": True})
    assert "issue_token" not in suggested(use("accounts", "read"), today=today)
    assert suggested(Use(holds_token=True), today=today)["issue_token"] is True


def test_what_shadowed_is_enforced_afterwards() -> None:
    today = TODAY.model_copy(update={"enforce": False})
    assert "enforce" not in suggested(use("accounts", "read"), today=today)


def test_names_that_nobody_knows_are_left_out() -> None:
    unknown = Use((Access("<unknown>", Operation.READ), Access("contacts", Operation.READ, ALL)))
    unknown = replace(unknown, calls=(Call("<unknown>", is_action=True),))
    found = suggest(TODAY, [unknown, use("accounts", "read", "<unknown>", "name")])
    assert list(found.tables) == ["accounts", "contacts"]
    assert found.tables["accounts"].columns == ("name",)
    assert found.actions == ()


ACCESSES = st.one_of(
    [
        st.builds(
            Access,
            st.just(name),
            st.sampled_from(Operation),
            st.frozensets(st.sampled_from(sorted(table.columns)), max_size=4)
            | st.sampled_from([ALL]),
        )
        for name, table in sorted(SCHEMA.sets.items())
        if table.columns
    ]
)
PLAIN = Grant(environment="prod", application="crm-app")


@given(st.lists(ACCESSES, max_size=12))
def test_what_was_seen_is_granted_and_nothing_can_be_taken_away(seen: list[Access]) -> None:
    found = suggest(PLAIN, [Use((access,)) for access in seen])
    assert missing(found, seen) == []
    for table, rule in found.tables.items():
        for operation in rule.operations:
            rest = tuple(each for each in rule.operations if each is not operation)
            less = rule.model_copy(update={"operations": rest})
            smaller = found.model_copy(update={"tables": {**found.tables, table: less}})
            assert missing(smaller, seen) != []


def missing(grant: Grant, seen: list[Access]) -> list[object]:
    compiled = compile_grant(grant, SCHEMA, caller="c", index=0, version="1")
    assert compiled.problems == ()
    return list(judge_accesses(compiled.grant, seen))

from __future__ import annotations

from typing import Any

import pytest

from app.config.model import Operation
from app.odata.access import ALL
from tests.unit.policy.granting import compiled, granting

READ = {"operations": ["read"]}


def problems(tables: dict[str, Any]) -> list[str]:
    return [".".join(map(str, p.place[4:])) + ": " + p.message for p in compiled(tables).problems]


def test_columns_left_out_are_all_of_them() -> None:
    rights = granting({"accounts": {"operations": ["read", "update"]}}).rights("accounts")
    assert rights is not None
    assert rights.readable is ALL
    assert rights.writable is ALL
    assert rights.selectable == ()


def test_writable_columns_left_out_are_the_readable_ones() -> None:
    grant = granting({"accounts": {"operations": ["read", "update"], "columns": ["name"]}})
    rights = grant.rights("accounts")
    assert rights is not None
    assert rights.writable == frozenset({"name"})
    assert rights.selectable == ("name",)


def test_a_table_without_an_entry_has_no_rights() -> None:
    grant = granting({"accounts": READ})
    assert grant.rights("contacts") is None
    assert granting({}).rights("accounts") is None


def test_an_entry_replaces_the_star_and_adds_nothing_to_it() -> None:
    grant = granting(
        {"*": {"operations": ["read", "update"]}, "accounts": {"operations": ["delete"]}}
    )
    rights = grant.rights("accounts")
    assert rights is not None
    assert rights.operations == {Operation.DELETE}


@pytest.mark.parametrize("table", ["systemusers", "teams", "roles", "workflows", "teammemberships"])
def test_the_star_writes_nothing_that_carries_rights(table: str) -> None:
    every = [str(o) for o in Operation]
    grant = granting({"*": {"operations": every}})
    rights, others = grant.rights(table), grant.rights("accounts")
    assert rights is not None
    assert others is not None
    assert rights.operations == {Operation.READ, Operation.APPEND_TO}
    assert others.operations == set(Operation)
    named = granting({"*": READ, table: {"operations": every}}).rights(table)
    assert named is not None
    assert named.operations == set(Operation)


@pytest.mark.parametrize(
    ("tables", "restricts_nothing"),
    [
        ({"*": READ}, True),
        ({"*": READ, "accounts": READ}, True),
        ({"*": {"operations": ["read", "update"]}}, True),
        ({"accounts": READ}, False),
        ({"*": {"operations": ["update"]}}, False),
        ({"*": READ, "accounts": {"operations": []}}, False),
        ({"*": READ, "accounts": {"operations": ["update"]}}, False),
        ({"*": READ, "accounts": {**READ, "columns": ["name"]}}, False),
        ({"*": READ, "accounts": {**READ, "row_filter": "statecode eq 0"}}, False),
    ],
)
def test_opaque_constructs_need_a_grant_that_restricts_nothing(
    tables: dict[str, Any],
    restricts_nothing: bool,  # noqa: FBT001
) -> None:
    assert granting(tables).restricts_nothing is restricts_nothing


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (
            {"acounts": READ},
            "tables.acounts: the schema knows no table acounts; did you mean accounts?",
        ),
        (
            {"account": READ},
            "tables.account: the schema knows no table account; did you mean accounts?",
        ),
        (
            {"accounts": {**READ, "columns": ["nmae"]}},
            "tables.accounts.columns: the schema knows no column nmae; did you mean name?",
        ),
        (
            {"accounts": {**READ, "writable_columns": ["zzz"]}},
            "tables.accounts.writable_columns: the schema knows no column zzz",
        ),
        (
            {"accounts": {**READ, "columns": ["_primarycontactid_value"]}},
            (
                "tables.accounts.columns: the schema knows no column _primarycontactid_value;"
                " did you mean primarycontactid?"
            ),
        ),
        (
            {
                "accounts": {
                    **READ,
                    "row_filter": "statecode eq 0",
                    "writable_columns": ["statecode"],
                }
            },
            (
                "tables.accounts.writable_columns: statecode stands in row_filter"
                " and cannot be written"
            ),
        ),
        (
            {"accounts": {"operations": ["create"], "row_filter": "statecode ne 0"}},
            (
                "tables.accounts.operations: create needs a row_filter of the form column eq value,"
                " joined with and: the broker sets those columns"
            ),
        ),
        (
            {"*": {**READ, "columns": ["name"]}},
            'tables.*.columns: "*" takes operations only: name the table to set columns',
        ),
    ],
)
def test_what_the_schema_contradicts_is_told_where_it_stands(
    tables: dict[str, Any], said: str
) -> None:
    assert problems(tables) == [said]


def test_a_filter_that_does_not_hold_closes_its_table() -> None:
    found = compiled({"accounts": {**READ, "row_filter": "nosuch eq 1"}})
    rights = found.grant.rights("accounts")
    assert rights is not None
    assert not rights.operations
    assert "row_filter" in found.problems[0].place


def test_a_filters_columns_are_not_writable() -> None:
    for columns in (None, ["name", "statecode"]):
        rule = {"operations": ["read", "update"], "row_filter": "statecode eq 0"}
        grant = granting({"accounts": rule if columns is None else {**rule, "columns": columns}})
        rights = grant.rights("accounts")
        assert rights is not None
        assert isinstance(rights.writable, frozenset)
        assert "statecode" not in rights.writable
        assert "name" in rights.writable


def test_the_version_changes_with_configuration_and_schema() -> None:
    versions = {
        compiled({"accounts": READ}).grant.version,
        compiled({"accounts": READ}).grant.version,
    }
    assert len(versions) == 1

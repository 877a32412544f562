"""What a grant allows is counted in Dataverse's privileges, no more and no less."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.config.model import Grant as GrantConfig
from app.doctor.needs import KINDS, Needs, Privilege, TablePrivileges, needs_of
from app.policy.compiling import compile_grant
from app.schema.csdl import read_csdl

if TYPE_CHECKING:
    from app.policy.grants import Grant
    from app.schema.model import Schema

METADATA = Path(__file__).parents[2] / "policy_cases" / "metadata.xml"
ALL_KINDS = (*KINDS.values(), "Append", "Share")


@cache
def schema() -> Schema:
    return read_csdl(METADATA.read_bytes())


@cache
def tables() -> dict[str, TablePrivileges]:
    """As EntityDefinitions would tell of them; what has no owner is for the whole organization."""
    found = {}
    for name, table in schema().tables.items():
        depths = ("Basic", "Local", "Deep", "Global") if "ownerid" in table.columns else ("Global",)
        by_kind = {
            kind: Privilege(f"prv{kind}{name}", f"id-{kind}-{name}", depths) for kind in ALL_KINDS
        }
        found[name] = TablePrivileges(name, table.entity_set, by_kind)
    return found


def granted(caller: str = "loader", **changed: Any) -> Grant:
    config = GrantConfig.model_validate({"environment": "prod", "application": "erp", **changed})
    compiled = compile_grant(config, schema(), caller=caller, index=0, version="")
    assert compiled.problems == ()
    return compiled.grant


def needed(**tables_granted: Any) -> dict[str, str]:
    """Depth by privilege."""
    found = needs_of([granted(tables=tables_granted)], tables())
    return {name: need.depth for name, need in found.by_name.items()}


def of(operation: str, **more: Any) -> dict[str, Any]:
    return {"operations": [operation], "columns": ["name"], **more}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (of("read"), {"prvReadaccount": "Global"}),
        (of("create"), {"prvCreateaccount": "Basic"}),
        (of("update"), {"prvWriteaccount": "Global"}),
        (of("delete"), {"prvDeleteaccount": "Global"}),
        (of("append_to"), {"prvAppendToaccount": "Global"}),
        (of("assign"), {"prvAssignaccount": "Global"}),
        ({"operations": []}, {}),
    ],
    ids=["read", "create", "update", "delete", "append_to", "assign", "closed"],
)
def test_an_operation_needs_its_privilege(rule: dict[str, Any], expected: dict[str, str]) -> None:
    assert needed(accounts=rule) == expected


def test_rows_that_may_be_given_away_are_made_for_anybody() -> None:
    found = needed(accounts={"operations": ["create", "assign"], "columns": ["name"]})
    assert found == {"prvCreateaccount": "Global", "prvAssignaccount": "Global"}


@pytest.mark.parametrize(
    ("columns", "appends"),
    [(["name"], False), (["name", "primarycontactid"], True), (["ownerid"], False), (None, True)],
    ids=["no-lookup", "a-lookup", "the-owner", "all"],
)
def test_a_lookup_that_may_be_written_needs_append(
    columns: list[str] | None,
    appends: bool,  # noqa: FBT001
) -> None:
    rule: dict[str, Any] = {"operations": ["update"], "columns": columns}
    assert ("prvAppendaccount" in needed(accounts=rule)) is appends


def test_a_lookup_that_may_only_be_read_does_not() -> None:
    rule = {"operations": ["read"], "columns": ["primarycontactid"]}
    assert needed(accounts=rule) == {"prvReadaccount": "Global"}


def test_a_row_filter_needs_read_for_its_look_ups() -> None:
    rule = of("update", row_filter="statecode eq 0")
    assert needed(accounts=rule) == {"prvWriteaccount": "Global", "prvReadaccount": "Global"}
    assert needed(accounts=of("create", row_filter="statecode eq 0")) == {
        "prvCreateaccount": "Basic"
    }


def test_a_deep_insert_needs_append_to_on_the_row_that_it_begins_with() -> None:
    parent = {"operations": ["create"], "columns": ["name"]}
    child = {"operations": ["create"], "columns": ["lastname", "parentcustomerid"]}
    assert "prvAppendToaccount" in needed(accounts=parent, contacts=child)
    apart = {"operations": ["create"], "columns": ["lastname"]}
    assert "prvAppendToaccount" not in needed(accounts=parent, contacts=apart)


def test_a_star_needs_every_table_that_it_reaches() -> None:
    found = needs_of(
        [granted(tables={"*": {"operations": ["read", "update"]}, "accounts": of("read")})],
        tables(),
    ).by_name
    assert found["prvReadaccount"].named
    assert not found["prvReadcontact"].named
    assert "prvWriteaccount" not in found, "a named table's entry replaces the star's"
    assert "prvWritecontact" in found
    assert "prvWritesystemuser" not in found, "a star never writes what carries rights"
    assert "prvReadsystemuser" in found


def test_callers_of_one_application_are_counted_together() -> None:
    found = needs_of(
        [
            granted("a", tables={"accounts": of("create")}),
            granted("b", tables={"accounts": {"operations": ["create", "assign"]}}),
        ],
        tables(),
    ).by_name["prvCreateaccount"]
    assert (found.callers, found.depth) == (("a", "b"), "Global")


@pytest.mark.parametrize(
    ("changed", "privilege"),
    [
        (
            {"impersonate": {"as": "e39c5d16-675b-48d1-8e67-667427e9c084"}},
            "prvActOnBehalfOfAnotherUser",
        ),
        ({"headers": ["MSCRM.BypassCustomPluginExecution"]}, "prvBypassCustomPlugins"),
        ({"headers": ["MSCRM.BypassBusinessLogicExecution"]}, "prvBypassCustomBusinessLogic"),
    ],
    ids=["impersonate", "plug-ins", "logic"],
)
def test_what_stands_beside_tables_needs_a_privilege_of_its_own(
    changed: dict[str, Any], privilege: str
) -> None:
    assert list(needs_of([granted(**changed)], tables()).by_name) == [privilege]
    assert needs_of([granted(headers=["MSCRM.SuppressDuplicateDetection"])], tables()) == Needs(
        {}, (), ()
    )


def test_what_cannot_be_counted_is_named() -> None:
    found = needs_of(
        [
            granted(
                "a",
                functions=["WhoAmI"],
                actions=["Merge", {"name": "new_Close", "table": "accounts"}, "CreateMultiple"],
            ),
            granted("b", issue_token=True),
            granted("c", enforce=False),
        ],
        tables(),
    )
    assert found == Needs({}, ("Merge", "new_Close on accounts"), ("b", "c"))


def test_a_table_that_the_environment_tells_nothing_of_needs_nothing() -> None:
    known = {name: found for name, found in tables().items() if name != "account"}
    assert needs_of([granted(tables={"accounts": of("read")})], known).by_name == {}

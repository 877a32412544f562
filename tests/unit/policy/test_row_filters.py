from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.odata.fetchxml import Node
from app.odata.json_text import Number
from app.odata.tree import text
from app.policy.row_filters import RowFilterInvalid, compile_row_filter
from tests.unit.policy.trying import schema

if TYPE_CHECKING:
    from app.policy.grants import RowFilter

ID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"


def compiled(source: str, table: str = "accounts") -> RowFilter:
    return compile_row_filter(source, schema().sets[table], schema())


def every(*inside: Node) -> Node:
    return Node("filter", (("type", "and"),), inside)


def some(*inside: Node) -> Node:
    return Node("filter", (("type", "or"),), inside)


def condition(column: str, operator: str, value: str | None = None, *values: str) -> Node:
    more = () if value is None else (("value", value),)
    inside = tuple(Node("value", text=v) for v in values)
    return Node("condition", (("attribute", column), ("operator", operator), *more), inside)


@pytest.mark.parametrize(
    ("source", "columns", "fetch"),
    [
        ("statecode eq 0", {"statecode"}, every(condition("statecode", "eq", "0"))),
        (
            "0 lt statecode and (name eq 'O''Neil' or name eq null)",
            {"statecode", "name"},
            every(
                condition("statecode", "gt", "0"),
                some(condition("name", "eq", "O'Neil"), condition("name", "null")),
            ),
        ),
        (
            f"_primarycontactid_value ne {ID}",
            {"primarycontactid"},
            every(condition("primarycontactid", "ne", ID)),
        ),
        (
            "creditonhold eq true or name ne null",
            {"creditonhold", "name"},
            some(condition("creditonhold", "eq", "1"), condition("name", "not-null")),
        ),
        (
            "industrycode in (1,2) and startswith(name,'A')",
            {"industrycode", "name"},
            every(condition("industrycode", "in", None, "1", "2"), condition("name", "like", "A%")),
        ),
        (
            "contains(name,'a') and endswith(name,'b')",
            {"name"},
            every(condition("name", "like", "%a%"), condition("name", "like", "%b")),
        ),
    ],
)
def test_a_filter_means_the_same_in_fetch_xml(source: str, columns: set[str], fetch: Node) -> None:
    found = compiled(source)
    assert found.columns == frozenset(columns)
    assert found.fetch == fetch
    assert compiled(text(found.condition)) == found


@pytest.mark.parametrize(
    "source",
    [
        "", "statecode eq", "nosuch eq 1", "Name eq 'x'", "primarycontactid eq null",
        "primarycontactid/fullname eq 'x'", "Account_Tasks/any()", "statecode",
        "not (statecode eq 0)", "name eq accountnumber", "1 eq 1", "statecode lt null",
        "statecode add 1 eq 2", "tolower(name) eq 'x'", "contains(name,'a%')",
        "contains(name,'a_')", "contains('a','b')", "contains(name,accountnumber)",
        "statecode has 1", "statecode eq Microsoft.Dynamics.CRM.account_statecode'Active'",
        "name in (accountnumber)", "Microsoft.Dynamics.CRM.Today(PropertyName='createdon')",
    ],
)  # fmt: skip
def test_what_dataverse_could_not_be_told_in_every_form_is_refused(source: str) -> None:
    with pytest.raises(RowFilterInvalid) as caught:
        compiled(source)
    assert "row_filter" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "sets"),
    [
        ("statecode eq 0", {"statecode": Number("0")}),
        ("name eq 'O''Neil' and creditonhold eq true", {"name": "O'Neil", "creditonhold": True}),
        ("name eq null", {"name": None}),
        ("0 eq statecode and statecode eq 0", {"statecode": Number("0")}),
        ("createdon eq 2024-01-01", {"createdon": "2024-01-01"}),
        (
            f"_primarycontactid_value eq {ID}",
            {"primarycontactid@odata.bind": f"/contacts({ID})"},
        ),
        ("statecode eq 0 and statecode eq 1", None),
        ("statecode ne 0", None),
        ("statecode eq 0 or statecode eq 1", None),
        ("statecode in (0)", None),
        (f"_ownerid_value eq {ID}", None),
    ],
)
def test_what_a_new_row_gets_is_clear_or_there_is_none(
    source: str, sets: dict[str, object] | None
) -> None:
    found = compiled(source).sets
    assert (None if found is None else dict(found)) == sets


def test_a_lookup_that_leads_to_several_tables_cannot_be_set() -> None:
    assert compiled(f"_customerid_value eq {ID}", "invoices").sets is None


def test_a_lookup_that_leads_nowhere_cannot_be_set() -> None:
    assert compiled("_primarycontactid_value eq null").sets is None

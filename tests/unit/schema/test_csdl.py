from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.schema.csdl import CsdlReader, SchemaUnreadable, read_csdl
from app.schema.model import Navigation, Property, Routine
from tests.unit.schema.documents import (
    collection,
    column,
    document,
    entity_set,
    key,
    lookup,
    sample,
    table,
)


def test_tables_are_found_by_set_and_by_logical_name() -> None:
    schema = read_csdl(sample())
    assert schema.sets["accounts"] is schema.tables["account"]
    assert schema.sets["opportunities"].name == "opportunity"
    assert schema.tables["crmbaseentity"].entity_set is None


def test_a_lookup_is_a_column_by_its_logical_name() -> None:
    accounts = read_csdl(sample()).sets["accounts"]
    assert accounts.columns["primarycontactid"] == Property(
        "_primarycontactid_value", "primarycontactid", "Edm.Guid"
    )
    assert accounts.columns["primarycontactid"].is_lookup
    assert not accounts.columns["name"].is_lookup
    assert "_primarycontactid_value" not in accounts.columns


def test_navigation_is_matched_through_its_constraint_and_never_by_spelling() -> None:
    schema = read_csdl(sample())
    assert schema.sets["new_projects"].navigations["new_AccountId"] == Navigation(
        "new_AccountId", "account", collection=False, column="new_accountid"
    )
    assert schema.sets["accounts"].navigations["new_project_AccountId"] == Navigation(
        "new_project_AccountId", "new_project", collection=True, column="new_accountid"
    )
    assert schema.sets["contacts"].navigations["new_new_project_contact"].many_to_many


def test_a_polymorphic_lookup_has_one_column_and_several_navigation_properties() -> None:
    invoices = read_csdl(sample()).sets["invoices"]
    assert {
        n.name: n.target for n in invoices.navigations.values() if n.column == "customerid"
    } == {"customerid_account": "account", "customerid_contact": "contact"}


def test_what_base_types_say_holds_for_derived_ones() -> None:
    schema = read_csdl(sample())
    tasks = schema.sets["tasks"]
    assert {"subject", "scheduledend"} <= tasks.properties.keys()
    assert tasks.primary_key == "activityid"
    assert schema.sets["systemusers"].key_columns == {"ownerid", "systemuserid"}
    assert schema.derives("task", "activitypointer")
    assert not schema.derives("activitypointer", "task")
    assert set(schema.sets_of("principal") or ()) == {"systemusers", "teams"}
    assert schema.sets_of("crmbaseentity") is not None
    assert schema.sets_of("nosuch") is None


def test_alternate_keys_are_columns() -> None:
    contacts = read_csdl(sample()).sets["contacts"]
    assert contacts.alternate_keys == (("firstname", "emailaddress1"), ("governmentid",))


def test_functions_and_actions_are_told_apart_and_bound() -> None:
    schema = read_csdl(sample())
    assert schema.imports["WhoAmI"] == Routine("WhoAmI", is_action=False)
    assert schema.imports["Merge"].is_action
    assert schema.bound["new_CloseProject"] == (
        Routine("new_CloseProject", True, "new_project", False, ("Reason",)),
    )
    (create,) = schema.bound["CreateMultiple"]
    assert create.bound_to_collection
    assert "new_CloseProject" not in schema.imports


def test_an_import_may_be_called_otherwise() -> None:
    schema = read_csdl(
        document(
            table("a", key("aid") + column("aid", "Guid")) + '<Function Name="F"></Function>',
            entity_set("as", "a") + '<FunctionImport Name="G" Function="mscrm.F" />',
        )
    )
    assert schema.imports["G"] == Routine("F", is_action=False)
    assert "F" not in schema.imports


def test_what_a_relationship_is_made_of_may_be_unclear() -> None:
    inside = key("aid") + column("aid", "Guid")
    schema = read_csdl(
        document(
            table(
                "a",
                inside
                + '<NavigationProperty Name="one" Type="mscrm.a" />'
                + collection("many", "a")
                + collection("lost", "a", partner="nosuch")
                + collection("odd", "a", partner="one"),
            ),
            entity_set("as", "a"),
        )
    )
    navigations = schema.sets["as"].navigations
    assert all(navigations[n].unclear for n in ("one", "many", "lost", "odd"))
    assert not any(n.many_to_many for n in navigations.values())


def test_the_version_follows_the_content() -> None:
    assert read_csdl(sample()).version == read_csdl(sample()).version
    assert read_csdl(sample()).version != read_csdl(sample() + b"\n").version


def test_a_document_may_come_in_pieces() -> None:
    reader = CsdlReader()
    content = sample()
    for start in range(0, len(content), 997):
        reader.feed(content[start : start + 997])
    assert reader.finish() == read_csdl(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"<a/>",
        sample()[:-5],
        b"<!DOCTYPE a><a/>",
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        document(table("a")),
        document("<EntityType/>", entity_set("as", "a")),
        document(table("a", '<Property Name="b" />'), entity_set("as", "a")),
        document(table("a", base="nosuch"), entity_set("as", "a")),
        document(table("a", base="b") + table("b", base="a"), entity_set("as", "a")),
    ],
)
def test_what_is_no_schema_is_refused(content: bytes) -> None:
    with pytest.raises(SchemaUnreadable):
        read_csdl(content)


@given(st.integers(0, len(sample()) - 1), st.binary(max_size=3))
def test_nothing_else_is_raised(at: int, other: bytes) -> None:
    content = sample()
    try:
        read_csdl(content[:at] + other + content[at + len(other) :])
    except SchemaUnreadable:
        return


def test_what_may_be_a_file_is_told_by_its_type() -> None:
    accounts = read_csdl(sample()).sets["accounts"]
    assert accounts.properties["entityimage"].may_be_file
    assert accounts.properties["new_contractfile"].may_be_file
    assert not accounts.properties["name"].may_be_file
    assert not accounts.properties["_primarycontactid_value"].may_be_file


def test_a_lookup_of_a_made_up_document_reads_as_one() -> None:
    inside = key("aid") + column("aid", "Guid") + lookup("B", "a", "b")
    assert read_csdl(document(table("a", inside), entity_set("as", "a"))).sets["as"].navigations[
        "B"
    ] == Navigation("B", "a", collection=False, column="b")

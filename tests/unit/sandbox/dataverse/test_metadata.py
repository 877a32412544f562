from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from app.sandbox.dataverse.csdl import metadata_document
from app.sandbox.dataverse.tables import build_schema

if TYPE_CHECKING:
    import httpx2

pytestmark = pytest.mark.anyio

EDM = "{http://docs.oasis-open.org/odata/ns/edm}"
ACCOUNT = "EntityDefinitions(LogicalName='account')"
PICKLIST = "Microsoft.Dynamics.CRM.PicklistAttributeMetadata"


async def get(client: httpx2.AsyncClient, target: str) -> Any:
    answer = await client.get(target)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def types() -> dict[str, ET.Element]:
    root = ET.fromstring(metadata_document(build_schema()))  # noqa: S314
    return {str(e.get("Name")): e for e in root.iter(f"{EDM}EntityType")}


def named(element: ET.Element, tag: str) -> dict[str, ET.Element]:
    return {str(e.get("Name")): e for e in element.iter(f"{EDM}{tag}")}


@pytest.mark.parametrize(
    ("table", "base", "key"),
    [
        ("account", "mscrm.crmbaseentity", "accountid"),
        ("task", "mscrm.activitypointer", None),
        ("activitypointer", "mscrm.crmbaseentity", "activityid"),
        ("systemuser", "mscrm.principal", None),
        ("principal", "mscrm.crmbaseentity", "ownerid"),
    ],
)
def test_types_derive_and_have_keys(
    types: dict[str, ET.Element], table: str, base: str, key: str | None
) -> None:
    found = types[table]
    assert found.get("BaseType") == base
    assert [e.get("Name") for e in found.iter(f"{EDM}PropertyRef")] == ([key] if key else [])


def test_a_lookup_is_tied_to_its_navigation_property(types: dict[str, ET.Element]) -> None:
    navs = named(types["new_project"], "NavigationProperty")
    constraint = navs["new_AccountId"].find(f"{EDM}ReferentialConstraint")
    assert constraint is not None
    assert constraint.attrib == {
        "Property": "_new_accountid_value",
        "ReferencedProperty": "accountid",
    }
    assert navs["new_AccountId"].get("Partner") == "new_project_AccountId"
    assert navs["new_new_project_contact"].get("Type") == "Collection(mscrm.contact)"
    assert "regardingobjectid_account_task" in named(types["task"], "NavigationProperty")
    assert "_regardingobjectid_value" in named(types["activitypointer"], "Property")


def test_alternate_keys_are_annotated(types: dict[str, ET.Element]) -> None:
    paths = [
        e.get("PropertyPath")
        for e in types["contact"].iter(f"{EDM}PropertyValue")
        if e.get("PropertyPath")
    ]
    assert paths == ["firstname", "emailaddress1", "governmentid"]


def test_every_partner_leads_back() -> None:
    schema = build_schema()
    for table in schema:
        for nav in table.navs.values():
            if nav.declared_on == table.logical:
                back = schema[nav.target].navs[nav.partner]
                assert back.target == table.logical
                assert back.partner == nav.name


async def test_the_service_document_lists_the_sets(client: httpx2.AsyncClient) -> None:
    found = await get(client, "")
    sets = {s["name"] for s in found["value"]}
    assert {"accounts", "opportunities", "new_projects", "activitypointers"} <= sets
    assert found["value"][0] == {"name": "accounts", "kind": "EntitySet", "url": "accounts"}


async def test_a_table_is_found_by_name_and_by_id(client: httpx2.AsyncClient) -> None:
    by_name = await get(client, f"{ACCOUNT}?$select=EntitySetName,SchemaName")
    by_id = await get(client, f"EntityDefinitions({by_name['MetadataId']})?$select=LogicalName")
    assert (by_name["EntitySetName"], by_id["LogicalName"]) == ("accounts", "account")
    for missing in ("EntityDefinitions(LogicalName='nosuch')", f"EntityDefinitions({'0' * 36})"):
        assert (await client.get(missing)).status_code in {400, 404}


async def test_choices_come_with_their_options(client: httpx2.AsyncClient) -> None:
    found = await get(
        client,
        f"{ACCOUNT}/Attributes/{PICKLIST}?$select=LogicalName&$expand=OptionSet($select=Options)",
    )
    by_name = {a["LogicalName"]: a for a in found["value"]}
    assert set(by_name) == {"industrycode", "accountcategorycode", "customertypecode"}
    options = by_name["industrycode"]["OptionSet"]["Options"]
    assert options[0]["Value"] == 1
    assert options[0]["Label"]["UserLocalizedLabel"]["Label"] == "Accounting"


async def test_attributes_are_filtered_and_found(client: httpx2.AsyncClient) -> None:
    table = await get(client, f"{ACCOUNT}?$select=MetadataId")
    base = f"EntityDefinitions({table['MetadataId']})/Attributes"
    found = await get(
        client, f"{base}?$select=LogicalName,AttributeType&$filter=AttributeType ne 'Virtual'"
    )
    kinds = {a["LogicalName"]: a["AttributeType"] for a in found["value"]}
    assert kinds["revenue"] == "Money"
    assert kinds["ownerid"] == "Owner"
    assert "new_contractfile" not in kinds
    one = await get(client, f"{base}(LogicalName='name')?$select=SchemaName")
    again = await get(client, f"{base}({one['MetadataId']})")
    assert again["MaxLength"] == 160
    cast = await client.get(f"{base}(LogicalName='name')/{PICKLIST}")
    assert cast.status_code == 404


async def test_keys_and_relationships_are_listed(client: httpx2.AsyncClient) -> None:
    keys = await get(client, f"{ACCOUNT}/Keys")
    assert [k["KeyAttributes"] for k in keys["value"]] == [["accountnumber"], ["primarycontactid"]]
    many = await get(client, "EntityDefinitions(LogicalName='contact')/ManyToManyRelationships")
    assert [r["SchemaName"] for r in many["value"]] == ["new_new_project_contact"]
    up = await get(client, f"{ACCOUNT}/ManyToOneRelationships")
    assert {r["ReferencingEntity"] for r in up["value"]} == {"account"}
    every = await get(client, "RelationshipDefinitions")
    one = await get(client, f"RelationshipDefinitions({every['value'][0]['MetadataId']})")
    assert one["SchemaName"] == every["value"][0]["SchemaName"]


async def test_a_definition_expands(client: httpx2.AsyncClient) -> None:
    found = await get(
        client,
        f"{ACCOUNT}?$select=LogicalName&$expand=Attributes($select=LogicalName;"
        "$filter=LogicalName eq 'name'),Keys($select=SchemaName)",
    )
    assert [a["LogicalName"] for a in found["Attributes"]] == ["name"]
    assert len(found["Keys"]) == 2


async def test_one_value_of_a_definition_is_raw(client: httpx2.AsyncClient) -> None:
    answer = await client.get(f"{ACCOUNT}/ObjectTypeCode/$value")
    assert answer.text == "1"


async def test_changes_of_metadata_are_queried(client: httpx2.AsyncClient) -> None:
    query = {
        "Criteria": {
            "Conditions": [
                {
                    "PropertyName": "LogicalName",
                    "ConditionOperator": "Equals",
                    "Value": {"Type": "System.String", "Value": "account"},
                }
            ]
        },
        "Properties": {"PropertyNames": ["LogicalName", "Attributes"]},
        "AttributeQuery": {"Properties": {"PropertyNames": ["LogicalName"]}},
    }
    answer = await client.get(
        "RetrieveMetadataChanges(Query=@p1)", params={"@p1": json.dumps(query)}
    )
    (table,) = answer.json()["EntityMetadata"]
    assert table["LogicalName"] == "account"
    assert {"LogicalName", "MetadataId", "@odata.type"} == set(table["Attributes"][0])


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("POST", "EntityDefinitions", 501),
        ("DELETE", ACCOUNT, 501),
        ("GET", f"{ACCOUNT}?$select=Nosuch", 400),
        ("GET", f"{ACCOUNT}/Nosuch", 404),
        ("GET", "EntityDefinitions?$filter=Nosuch eq 1", 400),
        ("GET", "EntityDefinitions?$filter=startswith(LogicalName,'a')", 400),
        ("GET", "ManagedPropertyDefinitions", 404),
        ("POST", "$metadata", 405),
        ("POST", "", 405),
    ],
)
async def test_metadata_is_refused(
    client: httpx2.AsyncClient, method: str, target: str, status: int
) -> None:
    assert (await client.request(method, target)).status_code == status

"""What client libraries ask for before they do anything, against the sandbox's own definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from app.sandbox.run import Sandbox
    from tests.path.running import RunningBroker

API = "/environments/contoso/api/data/v9.2"
SET_OF = (
    "EntityDefinitions?%24select=LogicalName%2CEntitySetName%2CPrimaryIdAttribute"
    "&%24filter=LogicalName+eq+%27{}%27"
)
PICKLISTS = (
    "EntityDefinitions(LogicalName='{}')/Attributes"
    "/Microsoft.Dynamics.CRM.PicklistAttributeMetadata?$select=LogicalName&$expand=OptionSet"
)


def asked(broker: RunningBroker, target: str) -> tuple[int, Any]:
    answer = broker.ask("GET", f"{API}/{target}", caller="invoice-loader")
    return answer.status, answer.json()


@pytest.mark.parametrize(("table", "status"), [("account", 200), ("systemuser", 403)])
@pytest.mark.parametrize("form", [SET_OF, PICKLISTS])
def test_definitions_of_granted_tables_are_there(
    sandboxed: RunningBroker, sandbox: Sandbox, form: str, table: str, status: int
) -> None:
    got, body = asked(sandboxed, form.format(table))
    assert got == status
    if status == 200:
        assert sandbox.environment_url not in str(body)
        assert body["@odata.context"].startswith(f"{sandboxed.url}{API}/$metadata")


def test_a_definition_is_found_by_its_id_where_its_table_is_granted(
    sandboxed: RunningBroker, sandbox: Sandbox
) -> None:
    _, body = asked(
        sandboxed,
        "EntityDefinitions?$select=MetadataId&$filter=LogicalName eq 'account'".replace(" ", "%20"),
    )
    [found] = body["value"]
    status, _ = asked(
        sandboxed, f"EntityDefinitions({found['MetadataId']})/Attributes?$select=LogicalName"
    )
    assert status == 200
    ids = sandboxed.running.world.standing.places["contoso"].schema
    assert ids is not None
    other = next(i for i, name in ids.metadata_ids.items() if name == "systemuser")
    assert asked(sandboxed, f"EntityDefinitions({other})/Attributes")[0] == 403
    assert asked(sandboxed, f"EntityDefinitions({other[:-1]}f)")[0] == 403
    assert all("systemuser" not in arrival.target for arrival in sandbox.dataverse.journal)


@pytest.mark.parametrize(
    "target",
    ["", "$metadata", "EntityDefinitions", "RelationshipDefinitions", "GlobalOptionSetDefinitions"],
)
def test_what_tells_of_every_table_needs_more(sandboxed: RunningBroker, target: str) -> None:
    assert asked(sandboxed, target)[0] == 403


def test_a_definition_is_never_written(sandboxed: RunningBroker) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = sandboxed.ask(
            method,
            f"{API}/EntityDefinitions(LogicalName='account')",
            caller="invoice-loader",
            body={"LogicalName": "x"} if method != "DELETE" else None,
        )
        assert answer.status in {403, 405}

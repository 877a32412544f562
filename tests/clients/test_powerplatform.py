"""Microsoft's own client for Dataverse, unmodified, its credential holding an API key."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from tests.path.desk import ACCOUNT_COLUMNS, DESK

if TYPE_CHECKING:
    from tests.clients.conftest import Served

URL = "https://broker.internal.example"

HEAD = """
import json, os, tempfile, time
from azure.core.credentials import AccessToken
from PowerPlatform.Dataverse.client import DataverseClient

class Key:
    '''A TokenCredential: what it gives out is no token, and nobody minds.'''
    def get_token(self, *scopes, **_):
        asked.extend(scopes)
        return AccessToken(os.environ["DESK_KEY"], int(time.time()) + 3600)

asked = []
found = {}
"""
TAIL = "\nprint(json.dumps(found, default=str))\n"


def run(served: Served, body: str) -> dict[str, Any]:
    """What the body put into `found`, with `client` open."""
    opened = f'with DataverseClient("{URL}/environments/contoso", Key()) as client:\n'
    code = HEAD + opened + textwrap.indent(textwrap.dedent(body), "    ") + TAIL
    told: dict[str, Any] = json.loads(served.python(code))
    return told


def test_a_row_is_created_read_changed_and_deleted(served: Served) -> None:
    told = run(
        served,
        """
        id_ = client.records.create("account", {"name": "Ünï & Söhne", "telephone1": "1"})
        client.records.update("account", id_, {"telephone1": "2"})
        row = client.records.retrieve("account", id_, select=["name", "telephone1"])
        found["row"] = dict(row)
        client.records.delete("account", id_)
        found["after"] = client.records.retrieve("account", id_)
        found["asked"] = asked[0]
        """,
    )
    assert told["row"]["name"] == "Ünï & Söhne"
    assert told["row"]["telephone1"] == "2"
    assert told["after"] is None
    assert told["asked"] == f"{served.base}/.default"
    operations = [
        a.operation
        for r in served.outcomes()
        for a in r.accesses
        if r.caller == DESK and r.status == 204 and a.table == "accounts"
    ]
    assert operations[-3:] == ["create", "update", "delete"]


def test_a_row_without_a_choice_of_columns_has_the_granted_ones(served: Served) -> None:
    told = run(
        served,
        """
        id_ = client.records.create("account", {"name": "All"})
        found["row"] = dict(client.records.retrieve("account", id_))
        """,
    )
    columns = {
        name.removeprefix("_").removesuffix("_value") for name in told["row"] if "@" not in name
    }
    assert "name" in columns
    # Dataverse adds what belongs to a column that was asked for.
    assert columns <= {*ACCOUNT_COLUMNS, "new_contractfile_name", "address1_composite"}


def test_a_query_is_followed_over_its_pages(served: Served) -> None:
    told = run(
        served,
        """
        client.records.create(
            "contact", [{"firstname": f"F{n}", "lastname": "O'Pages"} for n in range(25)]
        )
        pages = [
            [row["firstname"] for row in page]
            for page in client.records.list_pages(
                "contact", select=["firstname"], filter="lastname eq 'O''Pages'",
                orderby=["firstname"], page_size=10,
            )
        ]
        found["pages"] = pages
        found["sizes"] = [len(p) for p in pages]
        """,
    )
    assert told["sizes"] == [10, 10, 5]
    assert sorted(n for page in told["pages"] for n in page) == sorted(f"F{n}" for n in range(25))


def test_a_builder_a_fetch_and_an_expansion(served: Served) -> None:
    told = run(
        served,
        """
        from PowerPlatform.Dataverse.models.filters import col
        person = client.records.create("contact", {"firstname": "Ada", "lastname": "Fetch"})
        client.records.create("account", {
            "name": "Fetched", "primarycontactid@odata.bind": f"/contacts({person})",
        })
        built = client.query.builder("account").select("name").where(col("name") == "Fetched")
        found["built"] = [row["name"] for row in built.execute()]
        fetched = client.query.fetchxml(
            "<fetch><entity name='account'><attribute name='name'/>"
            "<filter><condition attribute='name' operator='eq' value='Fetched'/></filter>"
            "<link-entity name='contact' from='contactid' to='primarycontactid' alias='c'>"
            "<attribute name='lastname'/></link-entity></entity></fetch>"
        )
        found["fetched"] = [dict(row) for row in fetched.execute()]
        rows = client.records.list(
            "account", select=["name"], filter="name eq 'Fetched'",
            expand=["primarycontactid($select=lastname)"],
        )
        found["expanded"] = [row["primarycontactid"]["lastname"] for row in rows]
        """,
    )
    assert told["built"] == ["Fetched"]
    assert told["fetched"][0]["c.lastname"] == "Fetch"
    assert told["expanded"] == ["Fetch"]


def test_many_rows_at_once(served: Served) -> None:
    told = run(
        served,
        """
        ids = client.records.create("account", [{"name": "M1"}, {"name": "M2"}])
        client.records.update("account", ids, {"telephone1": "77"})
        found["rows"] = [
            client.records.retrieve("account", i, select=["telephone1"])["telephone1"] for i in ids
        ]
        client.records.delete("account", ids, use_bulk_delete=False)
        found["after"] = [client.records.retrieve("account", i) for i in ids]
        """,
    )
    assert told == {"rows": ["77", "77"], "after": [None, None]}


def test_an_upsert_by_an_alternate_key(served: Served) -> None:
    told = run(
        served,
        """
        from PowerPlatform.Dataverse.models.upsert import UpsertItem
        for name in ("first", "second"):
            client.records.upsert("account", [
                UpsertItem(alternate_key={"accountnumber": "UP-1"}, record={"name": name}),
            ])
        rows = client.records.list("account", select=["name"], filter="accountnumber eq 'UP-1'")
        found["one"] = [row["name"] for row in rows]
        client.records.upsert("account", [
            UpsertItem(alternate_key={"accountnumber": f"UP-{n}"}, record={"name": "many"})
            for n in (1, 2, 3)
        ])
        rows = client.records.list("account", select=["name"], filter="startswith(name,'many')")
        found["many"] = [row["name"] for row in rows]
        """,
    )
    assert told == {"one": ["second"], "many": ["many"] * 3}


def test_a_batch_with_a_change_set(served: Served) -> None:
    told = run(
        served,
        """
        id_ = client.records.create("account", {"name": "Batched"})
        batch = client.batch.new()
        batch.records.retrieve("account", id_, select=["name"])
        batch.records.update("account", id_, {"telephone1": "5"})
        with batch.changeset() as change:
            person = change.records.create("contact", {"firstname": "Eve", "lastname": "Batch"})
            change.records.update("account", id_, {"primarycontactid@odata.bind": person})
        batch.records.list("contact", select=["lastname"], filter="lastname eq 'Batch'")
        result = batch.execute()
        found["ok"] = not result.has_errors
        found["statuses"] = [r.status_code for r in result.responses]
        row = client.records.retrieve(
            "account", id_, select=["telephone1"], expand=["primarycontactid($select=lastname)"]
        )
        found["row"] = [row["telephone1"], row["primarycontactid"]["lastname"]]
        """,
    )
    assert told["ok"], told
    assert told["statuses"] == [200, 204, 204, 204, 200]
    assert told["row"] == ["5", "Batch"]


@pytest.mark.parametrize("mode", ["small", "chunk"])
def test_a_file_goes_up(served: Served, mode: str) -> None:
    told = run(
        served,
        f"""
        id_ = client.records.create("account", {{"name": "Filed"}})
        with tempfile.NamedTemporaryFile(suffix=".bin", delete=False) as file:
            file.write(b"0123456789" * 600_000)
        client.files.upload("account", id_, "new_contractfile", file.name, mode="{mode}")
        found["id"] = id_
        """,
    )
    target = f"/environments/contoso/api/data/v9.2/accounts({told['id']})/new_contractfile/$value"
    answer = served.broker.ask("GET", target, caller=DESK)
    assert answer.status == 200
    assert answer.body == b"0123456789" * 600_000


def test_what_is_not_granted_is_told_as_the_client_tells_it(served: Served) -> None:
    told = run(
        served,
        """
        from PowerPlatform.Dataverse.core.errors import HttpError
        id_ = client.records.create("account", {"name": "Refused"})
        def refused(act):
            try:
                act()
            except HttpError as error:
                return [error.status_code, "creditlimit" in str(error)]
        found["read"] = refused(
            lambda: client.records.retrieve("account", id_, select=["creditlimit"])
        )
        found["filter"] = refused(
            lambda: client.records.list("account", select=["name"], filter="creditlimit gt 5")
        )
        found["write"] = refused(
            lambda: client.records.update("account", id_, {"creditlimit": 5})
        )
        """,
    )
    assert told == {"read": [403, True], "filter": [403, True], "write": [403, True]}


def test_the_asynchronous_client_does_the_same(served: Served) -> None:
    pytest.importorskip("aiohttp", reason="the asynchronous client needs its extra")
    code = f"""
import asyncio, json, os, ssl, time
from azure.core.credentials import AccessToken
from PowerPlatform.Dataverse.aio.async_client import AsyncDataverseClient

class Key:
    async def get_token(self, *scopes, **_):
        return AccessToken(os.environ["DESK_KEY"], int(time.time()) + 3600)
    async def close(self): pass
    async def __aenter__(self): return self
    async def __aexit__(self, *_): pass

async def main():
    async with AsyncDataverseClient("{URL}/environments/contoso", Key()) as client:
        ids = await asyncio.gather(*[
            client.records.create("account", {{"name": f"async {{n}}"}}) for n in range(3)
        ])
        row = await client.records.retrieve("account", ids[0], select=["name"])
        await asyncio.gather(*[client.records.delete("account", i) for i in ids])
        gone = await client.records.retrieve("account", ids[0])
        print(json.dumps([row["name"], gone]))

asyncio.run(main())
"""
    assert json.loads(served.python(code)) == ["async 0", None]

"""dynamics-web-api for Node.js, unmodified: its token refresh gives out an API key."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

from tests.path.desk import DESK

if TYPE_CHECKING:
    from pathlib import Path

    from tests.clients.conftest import Served

URL = "https://broker.internal.example"

HEAD = f"""
import {{ DynamicsWebApi }} from "dynamics-web-api";
import {{ Buffer }} from "node:buffer";
const api = new DynamicsWebApi({{
  serverUrl: "{URL}/environments/contoso/",
  dataApi: {{ version: "9.2" }},
  onTokenRefresh: async () => process.env.DESK_KEY,
}});
const found = {{}};
"""


def run(served: Served, node: Path, body: str) -> dict[str, Any]:
    """What the body put into `found`."""
    code = HEAD + textwrap.dedent(body) + "\nconsole.log(JSON.stringify(found));\n"
    told: dict[str, Any] = json.loads(served.node(node, code).splitlines()[-1])
    return told


def test_a_row_is_created_read_changed_and_deleted(served: Served, node: Path) -> None:
    told = run(
        served,
        node,
        """
        const collection = "accounts";
        const key = await api.create({ collection, data: { name: "Ünï & Söhne" } });
        await api.update({ collection, key, data: { telephone1: "2" } });
        await api.updateSingleProperty({ collection, key, fieldValuePair: { name: "Single" } });
        found.row = await api.retrieve({ collection, key, select: ["name", "telephone1"] });
        found.made = await api.create({
          collection, data: { name: "Back" }, select: ["name"], returnRepresentation: true,
        });
        found.deleted = await api.deleteRecord({ collection, key });
        try { await api.retrieve({ collection, key, select: ["name"] }); }
        catch (error) { found.gone = error.status; }
        """,
    )
    assert (told["row"]["name"], told["row"]["telephone1"]) == ("Single", "2")
    assert told["made"]["name"] == "Back"
    assert told["gone"] == 404


def test_pages_a_count_and_a_fetch(served: Served, node: Path) -> None:
    told = run(
        served,
        node,
        """
        const collection = "contacts";
        for (let n = 0; n < 12; n++) {
          await api.create({ collection, data: { firstname: "D" + n, lastname: "Dynamics" } });
        }
        const filter = "lastname eq 'Dynamics'";
        const select = ["firstname"];
        const first = await api.retrieveMultiple({ collection, select, filter, maxPageSize: 5 });
        found.first = first.value.length;
        found.next = first.oDataNextLink.startsWith(process.env.BASE);
        const second = await api.retrieveMultiple({ collection, select, filter },
          first.oDataNextLink);
        found.second = second.value.length;
        found.all = (await api.retrieveAll({ collection, select, filter })).value.length;
        found.count = await api.count({ collection, filter });
        const fetchXml = "<fetch><entity name='contact'><attribute name='firstname'/>" +
          "<filter><condition attribute='lastname' operator='eq' value='Dynamics'/></filter>" +
          "</entity></fetch>";
        const pages = await api.fetchAll({ collection: "contacts", fetchXml });
        found.fetched = pages.value.length;
        """.replace("process.env.BASE", f'"{served.base}"'),
    )
    # The second page has as many rows as the grant lets a page have: its size was not repeated.
    assert told == {
        "first": 5,
        "next": True,
        "second": 7,
        "all": 12,
        "count": 12,
        "fetched": 12,
    }


def test_rows_are_bound_and_unbound(served: Served, node: Path) -> None:
    told = run(
        served,
        node,
        """
        const account = await api.create({ collection: "accounts", data: { name: "Ends" } });
        const contact = await api.create({ collection: "contacts", data: { lastname: "End" } });
        await api.associateSingleValued({
          collection: "accounts", primaryKey: account, navigationProperty: "primarycontactid",
          relatedCollection: "contacts", relatedKey: contact,
        });
        const read = () => api.retrieve({
          collection: "accounts", key: account, select: ["name"],
          expand: [{ property: "primarycontactid", select: ["lastname"] }],
        });
        found.bound = (await read()).primarycontactid.lastname;
        await api.disassociateSingleValued({
          collection: "accounts", primaryKey: account, navigationProperty: "primarycontactid",
        });
        found.unbound = (await read()).primarycontactid;
        """,
    )
    assert told == {"bound": "End", "unbound": None}


def test_a_batch_refers_to_what_it_makes(served: Served, node: Path) -> None:
    told = run(
        served,
        node,
        """
        api.startBatch();
        api.create({ collection: "contacts", data: { lastname: "Batch" }, contentId: "1" });
        api.create({
          collection: "accounts",
          data: { name: "Batched", "primarycontactid@odata.bind": "$1" },
        });
        const made = await api.executeBatch();
        found.made = made.length;
        api.startBatch();
        api.retrieveMultiple({
          collection: "accounts", select: ["name"], filter: "name eq 'Batched'",
        });
        api.retrieveMultiple({
          collection: "contacts", select: ["lastname"], filter: "lastname eq 'Batch'",
        });
        const [accounts, contacts] = await api.executeBatch();
        found.read = [accounts.value.length, contacts.value.length];
        """,
    )
    assert told == {"made": 2, "read": [1, 1]}
    batches = [r for r in served.outcomes() if r.caller == DESK and len(r.parts) == 2]
    assert [part.method for part in batches[-1].parts] == ["GET", "GET"]


def test_a_file_goes_up_and_comes_down(served: Served, node: Path) -> None:
    told = run(
        served,
        node,
        """
        const key = await api.create({ collection: "accounts", data: { name: "Filed" } });
        const data = Buffer.alloc(5_000_000, "0123456789");
        const request = { collection: "accounts", key, property: "new_contractfile" };
        await api.uploadFile({ ...request, fileName: "a.bin", data });
        const file = await api.downloadFile(request);
        found.same = Buffer.compare(Buffer.from(file.data), data) === 0;
        found.name = file.fileName;
        """,
    )
    assert told == {"same": True, "name": "a.bin"}


def test_a_refusal_is_an_error_with_its_status(served: Served, node: Path) -> None:
    """Its words stay unread: this client takes no JSON that calls itself a problem."""
    told = run(
        served,
        node,
        """
        const status = async (call) => { try { await call(); } catch (e) { return e.status; } };
        found.read = await status(() =>
          api.retrieveMultiple({ collection: "accounts", select: ["creditlimit"] }));
        found.write = await status(() =>
          api.create({ collection: "systemusers", data: { firstname: "x" } }));
        """,
    )
    assert told == {"read": 403, "write": 403}


def test_a_function_is_called_where_it_is_granted(served: Served, node: Path) -> None:
    told = run(
        served,
        node,
        """
        found.who = (await api.callFunction("WhoAmI")).UserId.length;
        try { await api.callFunction("RetrieveCurrentOrganization"); }
        catch (error) { found.refused = error.status; }
        """,
    )
    assert told == {"who": 36, "refused": 403}

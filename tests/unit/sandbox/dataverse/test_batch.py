from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.sandbox.dataverse.failures import Failed
from app.sandbox.dataverse.multipart import ChangeSet, Inner, read_batch

if TYPE_CHECKING:
    import httpx2

pytestmark = pytest.mark.anyio

ROOT = "https://contoso.crm4.dynamics.com/api/data/v9.2"
CONTOSO = "accounts(11111111-1111-1111-1111-111111111111)"
GUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def part(line: str, body: str = "", *, content_id: str = "", headers: str = "") -> str:
    mime = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
    if content_id:
        mime += f"Content-ID: {content_id}\r\n"
    if body:
        headers += "Content-Type: application/json\r\n"
    return f"{mime}\r\n{line} HTTP/1.1\r\n{headers}\r\n{body}"


def batch(*parts: str, boundary: str = "batch_1") -> str:
    inside = "".join(f"--{boundary}\r\n{one}\r\n" for one in parts)
    return f"{inside}--{boundary}--\r\n"


def change_set(*parts: str) -> str:
    inside = batch(*parts, boundary="changeset_2")
    return f"Content-Type: multipart/mixed; boundary=changeset_2\r\n\r\n{inside}"


async def send(
    client: httpx2.AsyncClient, body: str, *, kind: str = "boundary=batch_1", **headers: str
) -> httpx2.Response:
    return await client.post(
        "$batch",
        content=body.encode(),
        headers={"Content-Type": f"multipart/mixed; {kind}", **headers},
    )


def statuses(answer: httpx2.Response) -> list[int]:
    return [int(s) for s in re.findall(r"^HTTP/1\.1 (\d+)", answer.text, re.MULTILINE)]


async def test_an_answer_is_written_byte_for_byte_as_dataverse_does(
    client: httpx2.AsyncClient,
) -> None:
    answer = await send(
        client,
        batch(
            change_set(part("POST tasks", '{"subject":"One"}', content_id="1")),
            part(f"GET {CONTOSO}?$select=name"),
        ),
    )
    assert answer.status_code == 200
    outer = re.fullmatch(
        rf"multipart/mixed; boundary=(batchresponse_{GUID})", answer.headers["content-type"]
    )
    assert outer is not None
    text = re.sub(r'W/\\"\d+\\"', "ETAG", answer.content.decode()).replace(outer[1], "BATCH")
    text = re.sub(rf"changesetresponse_{GUID}", "CHANGESET", text)
    text = re.sub(rf"tasks\({GUID}\)", "TASK", text)
    etag = re.search(r"\r\nETag: (.*)\r\n", text)
    assert etag is not None
    row = (
        f'{{"@odata.context":"{ROOT}/$metadata#accounts(name)/$entity","@odata.etag":"ETAG",'
        '"name":"Contoso","accountid":"11111111-1111-1111-1111-111111111111"}'
    )
    assert text.replace(etag[0], "\r\n") == "\r\n".join(
        [
            "--BATCH",
            "Content-Type: multipart/mixed; boundary=CHANGESET",
            "",
            "--CHANGESET",
            "Content-Type: application/http",
            "Content-Transfer-Encoding: binary",
            "Content-ID: 1",
            "",
            "HTTP/1.1 204 No Content",
            "OData-Version: 4.0",
            f"Location: {ROOT}/TASK",
            f"OData-EntityId: {ROOT}/TASK",
            "",
            "",
            "--CHANGESET--",
            "--BATCH",
            "Content-Type: application/http",
            "Content-Transfer-Encoding: binary",
            "",
            "HTTP/1.1 200 OK",
            "Content-Type: application/json; odata.metadata=minimal; odata.streaming=true",
            "OData-Version: 4.0",
            "",
            row,
            "--BATCH--",
            "",
        ]
    )


@pytest.mark.parametrize(
    "target",
    [
        "accounts?$select=name&$top=1",
        "/api/data/v9.2/accounts?$select=name&$top=1",
        f"{ROOT}/accounts?$select=name&$top=1",
        f"{ROOT}/accounts?$select=name&$filter=name eq 'Contoso'",
    ],
)
async def test_a_part_is_addressed_in_many_ways(client: httpx2.AsyncClient, target: str) -> None:
    answer = await send(client, batch(part(f"GET {target}")))
    assert statuses(answer) == [200]
    assert '"name":"Contoso"' in answer.text


async def test_another_hosts_address_is_refused(client: httpx2.AsyncClient) -> None:
    answer = await send(client, batch(part("GET https://evil.example/api/data/v9.2/accounts")))
    assert (answer.status_code, statuses(answer)) == (400, [400])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (batch(part("GET accounts/$count")).replace("\r\n", "\n"), "boundary=batch_1"),
        ("\r\n" + batch(part("GET accounts/$count")), "boundary=batch_1"),
        (batch(part("GET accounts/$count")).rstrip(), 'boundary="batch_1"'),
        (batch(part("GET accounts/$count")).replace("--batch_1--\r\n", ""), "boundary=batch_1"),
        (
            batch(part("GET accounts/$count")).replace("binary", "binary\r\n\r\n"),
            'boundary="batch_1"; charset=utf-8',
        ),
        (
            batch(part("GET accounts/$count")).replace("Encoding: binary", "Encoding:binary"),
            "BOUNDARY=batch_1",
        ),
        ("preamble\r\n" + batch(part("GET accounts/$count")), "boundary=batch_1"),
    ],
    ids=["lf", "crlf-first", "no-end", "unclosed", "blank-lines", "no-space", "preamble"],
)
async def test_sloppy_syntax_is_read(client: httpx2.AsyncClient, body: str, kind: str) -> None:
    answer = await send(client, body, kind=kind)
    assert (answer.status_code, statuses(answer)) == (200, [200])
    assert "60" in answer.text


async def test_what_a_part_made_is_referred_to(client: httpx2.AsyncClient) -> None:
    answer = await send(
        client,
        batch(
            change_set(
                part("POST accounts", '{"name":"First"}', content_id="1"),
                part(
                    "POST contacts",
                    '{"lastname":"Second","parentcustomerid_account@odata.bind":"$1"}',
                    content_id="2",
                ),
                part("PUT $1/primarycontactid/$ref", '{"@odata.id":"$2"}', content_id="3"),
                part("PUT $2/jobtitle", '{"value":"CFO"}', content_id="4"),
                part("PATCH $1", '{"description":"Third"}', content_id="5"),
            )
        ),
    )
    assert statuses(answer) == [204] * 5, answer.text
    found = await client.get(
        "accounts?$select=description&$filter=name eq 'First'"
        "&$expand=primarycontactid($select=jobtitle,_parentcustomerid_value)"
    )
    (row,) = found.json()["value"]
    assert row["description"] == "Third"
    assert row["primarycontactid"]["jobtitle"] == "CFO"
    assert row["primarycontactid"]["_parentcustomerid_value"] == row["accountid"]


async def test_a_change_set_happens_whole_or_not_at_all(client: httpx2.AsyncClient) -> None:
    answer = await send(
        client,
        batch(
            change_set(
                part("POST accounts", '{"name":"Undone"}', content_id="1"),
                part("PATCH " + CONTOSO, '{"nosuch":1}', content_id="2"),
            ),
            part("GET accounts/$count"),
        ),
    )
    assert (answer.status_code, statuses(answer)) == (400, [400])
    assert "changesetresponse" not in answer.text
    assert (await client.get("accounts?$filter=name eq 'Undone'")).json()["value"] == []


async def test_a_batch_stops_or_goes_on_at_a_failure(client: httpx2.AsyncClient) -> None:
    body = batch(part("GET accounts/$count"), part("GET nosuch"), part("GET contacts/$count"))
    stopped = await send(client, body)
    assert (stopped.status_code, statuses(stopped)) == (404, [200, 404])
    went_on = await send(client, body, Prefer="odata.continue-on-error")
    assert (went_on.status_code, statuses(went_on)) == (200, [200, 404, 200])


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (part("GET accounts", content_id="1"), "not allowed in a change set"),
        (part("PATCH $9", "{}", content_id="1"), "Content-ID Reference: '$9' does not exist"),
        (
            part("POST accounts", '{"primarycontactid@odata.bind":"$9"}', content_id="1"),
            "Content-ID Reference: '$9' does not exist in the batch context.",
        ),
    ],
)
async def test_a_change_set_is_refused(
    client: httpx2.AsyncClient, inner: str, message: str
) -> None:
    answer = await send(client, batch(change_set(inner)))
    assert answer.status_code == 400
    assert message in answer.text


async def test_a_reference_ends_with_its_change_set(client: httpx2.AsyncClient) -> None:
    answer = await send(
        client,
        batch(
            change_set(part("POST accounts", '{"name":"A"}', content_id="1")),
            part("PATCH $1", '{"name":"B"}'),
        ),
    )
    assert statuses(answer) == [204, 400]


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (batch(part("GET accounts")), "", "the boundary of the batch is missing"),
        (batch(part("GET accounts")), "boundary=other", "no part with the boundary"),
        (batch("Content-Type: text/plain\r\n\r\nx"), "boundary=batch_1", "'application/http'"),
        (batch(part("GET")), "boundary=batch_1", "request line"),
        (batch(*[part("GET accounts/$count")] * 1001), "boundary=batch_1", "limit of 1000"),
    ],
)
async def test_a_batch_that_cannot_be_read_is_refused_as_json(
    client: httpx2.AsyncClient, body: str, kind: str, message: str
) -> None:
    answer = await send(client, body.replace("GET HTTP/1.1", "GET"), kind=kind)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


async def test_a_batch_holds_no_batch(client: httpx2.AsyncClient) -> None:
    answer = await send(client, batch(part("POST $batch", "{}")))
    assert (answer.status_code, statuses(answer)) == (400, [400])


async def test_a_part_has_its_own_headers(client: httpx2.AsyncClient) -> None:
    answer = await send(
        client,
        batch(
            part(f"PATCH {CONTOSO}", '{"name":"x"}', headers='If-Match: W/"1"\r\n'),
        ),
        Prefer="odata.continue-on-error",
    )
    assert statuses(answer) == [412]
    preferred = await send(
        client,
        batch(
            part(
                f"PATCH {CONTOSO}?$select=name",
                '{"name":"x"}',
                headers="Prefer: return=representation\r\n",
            )
        ),
    )
    assert statuses(preferred) == [200]


def test_parts_are_read_with_their_bytes() -> None:
    read = read_batch(
        "multipart/mixed; boundary=b",
        b"--b\nContent-Type: application/http\n\nPATCH accounts(1)/f HTTP/1.1\n"
        b"Content-Length: 4\n\n\r\n\x00\xff\n--b--",
    )
    assert read == [
        Inner(
            method="PATCH",
            target="accounts(1)/f",
            headers={"content-length": ["4"]},
            body=b"\r\n\x00\xff",
        )
    ]


def test_change_sets_are_read_as_such() -> None:
    (read,) = read_batch(
        "multipart/mixed;boundary=batch_1",
        batch(change_set(part("DELETE a(1)", content_id="7"))).encode(),
    )
    assert isinstance(read, ChangeSet)
    assert [(r.method, r.content_id) for r in read.requests] == [("DELETE", "7")]


@given(st.binary(max_size=200) | st.text(alphabet="-b\r\nC:ontent TypHET/1.", max_size=200))
@settings(max_examples=200)
def test_any_bytes_are_read_or_refused(body: bytes | str) -> None:
    raw = body if isinstance(body, bytes) else body.encode()
    with suppress(Failed):
        read_batch("multipart/mixed; boundary=b", b"--b\r\n" + raw)

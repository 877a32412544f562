from __future__ import annotations

import re
from typing import Any

import pytest

from app.odata.links import Bases
from app.odata.read import Bounds, RequestReader
from app.odata.write import Outgoing, Sending, write
from tests.unit.policy.trying import schema

BASES = Bases(
    "https://broker.example/environments/prod",
    "https://broker.example",
    "https://contoso.crm4.dynamics.com",
    "v9.2",
)
ID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
FETCH = "accounts?fetchXml=<fetch"
JSON = {"Content-Type": "application/json"}


def sent(
    method: str,
    target: str,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    **sending: Any,
) -> Outgoing:
    reader = RequestReader(schema(), BASES, bounds=Bounds())
    pairs = [(n.encode(), v.encode()) for n, v in (headers or {}).items()]
    return write(reader.read(method, target.encode(), pairs, body), Sending(BASES, **sending))


def test_a_read_is_written_whole() -> None:
    assert sent(
        "GET", "accounts?%24top=5&$select=name%2C accountid".replace(" ", "%20")
    ) == Outgoing(
        "GET",
        "/api/data/v9.2/accounts?$select=name,accountid&$top=5",
        (("Accept", "application/json"), ("OData-Version", "4.0"), ("OData-MaxVersion", "4.0")),
    )


def test_a_create_is_written_whole() -> None:
    headers = {
        **JSON,
        "If-None-Match": "null",
        "Accept-Language": "de",
        "MSCRM.MergeLabels": "true",
    }
    body = b'{ "name" : "x", "revenue" : 1.10, "primarycontactid@odata.bind": "contacts(%b)" }'
    assert sent("POST", "accounts", headers, body % ID.encode()) == Outgoing(
        "POST",
        "/api/data/v9.2/accounts",
        (
            ("Accept", "application/json"),
            ("OData-Version", "4.0"),
            ("OData-MaxVersion", "4.0"),
            ("Accept-Language", "de"),
            ("Content-Type", "application/json"),
        ),
        b'{"name":"x","revenue":1.10,"primarycontactid@odata.bind":"/contacts(%b)"}' % ID.encode(),
        dropped=("MSCRM.MergeLabels",),
    )


def test_the_root_is_the_service_document() -> None:
    assert sent("GET", "").target == "/api/data/v9.2/"


def test_a_listed_header_is_written_as_the_grant_does() -> None:
    found = sent("GET", "accounts", {"mscrm.foo": "1"}, mscrm={"mscrm.foo": "MSCRM.Foo"})
    assert ("MSCRM.Foo", "1") in found.headers
    assert not found.dropped


@pytest.mark.parametrize(
    ("target", "prefer", "page_size", "written"),
    [
        ("accounts", None, None, None),
        ("accounts", None, 500, "odata.maxpagesize=500"),
        ("accounts", "odata.maxpagesize=10", 500, "odata.maxpagesize=10"),
        ("accounts", "odata.maxpagesize=501", 500, "odata.maxpagesize=500"),
        ("accounts", "odata.maxpagesize=9999", None, "odata.maxpagesize=5000"),
        ("accounts?$top=5", None, 500, None),
        ("accounts?$top=5", "odata.maxpagesize=501", 500, "odata.maxpagesize=500"),
        ("accounts/$count", None, 500, None),
        (f"accounts({ID})", None, 500, None),
        (f"accounts({ID})/contact_customer_accounts", None, 500, "odata.maxpagesize=500"),
        ("accounts", 'odata.include-annotations="*"', 500,
         'odata.maxpagesize=500,odata.include-annotations="*"'),
        (f"{FETCH}%20count='5'><entity%20name='account'/></fetch>", None, 500, None),
        (f"{FETCH}%20page='5'><entity%20name='account'/></fetch>", None, 500,
         "odata.maxpagesize=500"),
    ],
)  # fmt: skip
def test_the_page_size_is_clamped_and_added_where_nothing_else_bounds_a_page(
    target: str, prefer: str | None, page_size: int | None, written: str | None
) -> None:
    headers = {} if prefer is None else {"Prefer": prefer}
    assert dict(sent("GET", target, headers, page_size=page_size).headers).get("Prefer") == written
    if prefer is None:
        quiet = sent("GET", target, page_size=page_size, adds_page_size=False)
        assert "Prefer" not in dict(quiet.headers)


def test_a_condition_travels_whatever_the_method() -> None:
    for method in ("GET", "DELETE"):
        found = sent(method, f"accounts({ID})", {"If-None-Match": "*", "If-Match": 'W/"1"'})
        assert dict(found.headers)["If-Match"] == 'W/"1"'
        assert dict(found.headers)["If-None-Match"] == "*"
        assert not found.dropped


def test_a_file_streams_with_its_own_headers() -> None:
    headers = {
        "Content-Type": "text/plain",
        "x-ms-file-name": "a.txt",
        "Accept": "x/y",
        "Content-Range": "bytes 0-3/8",
    }
    found = sent("PATCH", f"accounts({ID})/new_contractfile", headers)
    assert found.streams
    assert found.body is None
    assert set(headers.items()) <= set(found.headers)
    bare = dict(sent("GET", f"accounts({ID})/new_contractfile/$value").headers)
    assert "Accept" not in bare
    assert "Content-Type" not in bare


BATCH = {"Content-Type": "multipart/mixed; boundary=b"}


def part(line: str, rest: str = "", *, content_id: str = "") -> str:
    said = f"Content-ID: {content_id}\r\n" if content_id else ""
    return f"--b\r\nContent-Type: application/http\r\n{said}\r\n{line} HTTP/1.1\r\n{rest}\r\n"


def test_a_batch_is_written_whole() -> None:
    inner = (
        "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n"
        + part(
            "POST accounts", 'Content-Type: application/json\r\n\r\n{"name":"x"}', content_id="7"
        ).replace("--b", "--c")
        + "--c--\r\n"
    )
    body = part("GET https://broker.example/api/data/v9.2/accounts?$select=name") + inner + "--b--"
    found = sent("POST", "$batch", BATCH, body.encode(), caller_object_id=ID)
    headers = dict(found.headers)
    match = re.fullmatch(
        r'multipart/mixed; boundary="batch_([0-9a-f]{32})"', headers["Content-Type"]
    )
    assert match is not None
    assert headers["CallerObjectId"] == ID
    name = match[1]
    common = "Accept: application/json\r\nOData-Version: 4.0\r\nOData-MaxVersion: 4.0\r\n"
    assert found.body is not None
    assert found.body.decode() == (
        f"--batch_{name}\r\n"
        "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        f"GET accounts?$select=name HTTP/1.1\r\n{common}CallerObjectId: {ID}\r\n\r\n\r\n"
        f"--batch_{name}\r\n"
        f'Content-Type: multipart/mixed; boundary="changeset_2_{name}"\r\n\r\n'
        f"--changeset_2_{name}\r\n"
        "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
        "Content-ID: 7\r\n\r\n"
        f"POST accounts HTTP/1.1\r\n{common}Content-Type: application/json\r\n"
        f'CallerObjectId: {ID}\r\n\r\n{{"name":"x"}}\r\n'
        f"--changeset_2_{name}--\r\n\r\n"
        f"--batch_{name}--\r\n"
    )
    assert found.part_targets == ("accounts?$select=name", "accounts")


def test_boundaries_follow_from_what_they_bound() -> None:
    one, same, other = (
        sent("POST", "$batch", BATCH, f"{part(f'GET accounts?$top={n}')}--b--".encode())
        for n in (1, 1, 2)
    )
    assert one == same
    assert dict(one.headers)["Content-Type"] != dict(other.headers)["Content-Type"]


def test_a_part_may_read_the_service_document() -> None:
    found = sent("POST", "$batch", BATCH, f"{part('GET /api/data/v9.2/')}--b--".encode())
    assert b"\r\nGET /api/data/v9.2/ HTTP/1.1\r\n" in (found.body or b"")


def test_what_parts_drop_is_named_once() -> None:
    asked = part("GET accounts", "Prefer: respond-async\r\n")
    found = sent("POST", "$batch", BATCH, f"{asked}{asked}--b--".encode())
    assert found.dropped == ("respond-async",)


@pytest.mark.parametrize(
    "link",
    [f"contacts({ID})", f"/contacts({ID})", f"https://broker.example/api/data/v9.2/contacts({ID})"],
)
def test_a_reference_leads_to_dataverse(link: str) -> None:
    found = sent(
        "PUT", f"accounts({ID})/primarycontactid/$ref", JSON, f'{{"@odata.id":"{link}"}}'.encode()
    )
    base = "https://contoso.crm4.dynamics.com/api/data/v9.2/" if "://" in link else ""
    assert found.body == f'{{"@odata.id":"{base}contacts({ID})"}}'.encode()


def test_what_is_written_shows_nothing() -> None:
    found = sent("POST", "accounts", JSON, b'{"name":"hunter2"}')
    assert "hunter2" not in repr(found)

from __future__ import annotations

import pytest

from app.dataverse.answer_headers import (
    BodyKind,
    body_kind,
    header,
    headers_for_caller,
    link_for_caller,
    travels,
)
from app.dataverse.failures import ExchangeFailed
from app.dataverse.link_bases import LinkBases, LinkKind

HERE = b"https://contoso.crm4.dynamics.com"
BROKER = b"https://broker.example/environments/contoso"
BASES = LinkBases(environment=HERE.decode(), broker=BROKER.decode())


def seal(kind: LinkKind, owner: str, url: str) -> str | None:
    assert (kind, owner) == ("session", "")
    return None if "unsealable" in url else BROKER.decode() + "/sealed"


def for_caller(*headers: tuple[bytes, bytes], body_rewritten: bool = False) -> list[bytes]:
    kept = headers_for_caller(headers, bases=BASES, seal=seal, body_rewritten=body_rewritten)
    return [b"%b: %b" % pair for pair in kept]


def test_what_a_caller_needs_travels_and_the_rest_stays() -> None:
    travelling = [
        (b"content-type", b"application/json"),
        (b"content-length", b"12"),
        (b"content-encoding", b"gzip"),
        (b"content-range", b"bytes 0-3/8"),
        (b"content-disposition", b"attachment"),
        (b"etag", b'W/"1"'),
        (b"odata-version", b"4.0"),
        (b"preference-applied", b"odata.maxpagesize=5"),
        (b"retry-after", b"37"),
        (b"allow", b"GET"),
        (b"req_id", b"1"),
        (b"x-ms-service-request-id", b"2"),
        (b"x-ms-ratelimit-burst-remaining-xrm-requests", b"5999"),
        (b"x-ms-file-name", b"f.pdf"),
        (b"x-ms-chunk-size", b"4194304"),
    ]
    staying = [
        (b"set-cookie", b"ARRAffinity=1"),
        (b"www-authenticate", b"Bearer authorization_uri=https://login.microsoftonline.com/x"),
        (b"server", b"IIS"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"close"),
        (b"strict-transport-security", b"max-age=1"),
        (b"x-ms-dop-hint", b"4"),
        (b"x-ms-client-request-id", b"3"),
        (b"vary", b"Accept-Encoding"),
    ]
    mixed = [pair for both in zip(travelling, staying, strict=False) for pair in both]
    mixed += travelling[len(staying) :]
    assert for_caller(*mixed) == [b"%b: %b" % pair for pair in travelling]
    assert [travels(name) for name, _ in staying] == [False] * len(staying)


def test_a_rewritten_body_loses_its_old_length_and_coding() -> None:
    headers = ((b"content-length", b"12"), (b"content-encoding", b"gzip"), (b"etag", b"x"))
    assert for_caller(*headers, body_rewritten=True) == [b"etag: x"]


def test_links_lead_to_the_broker_and_those_elsewhere_are_dropped() -> None:
    assert for_caller(
        (b"location", HERE + b"/api/data/v9.2/accounts(1)"),
        (b"odata-entityid", b"https://contoso.api.crm4.dynamics.com/api/data/v9.2/accounts(1)"),
        (b"location", b"https://elsewhere.example/"),
        (b"odata-entityid", b"//elsewhere.example/"),
    ) == [
        b"location: " + BROKER + b"/api/data/v9.2/accounts(1)",
        b"odata-entityid: " + BROKER + b"/api/data/v9.2/accounts(1)",
    ]


def test_the_address_of_a_transfer_is_sealed_or_not_handed_out() -> None:
    url = HERE + b"/api/data/v9.2/accounts(1)/file?x=1&SessionToken=abc"
    assert link_for_caller(url, bases=BASES, seal=seal) == BROKER + b"/sealed"
    assert link_for_caller(url + b"unsealable", bases=BASES, seal=seal) is None
    elsewhere = url.replace(b"contoso", b"fabrikam")
    assert link_for_caller(elsewhere, bases=BASES, seal=seal) is None


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        (b"application/json; odata.metadata=minimal", BodyKind.JSON),
        (b"Application/JSON;charset=UTF-8", BodyKind.JSON),
        (b'application/json; charset="utf-8"', BodyKind.JSON),
        (b"text/json", BodyKind.JSON),
        (b"application/problem+json", BodyKind.JSON),
        (b"multipart/mixed; boundary=x", BodyKind.BATCH),
        (b"application/octet-stream", BodyKind.OPAQUE),
        (b"text/plain", BodyKind.OPAQUE),
        (b"application/xml", BodyKind.OPAQUE),
        (b"", BodyKind.OPAQUE),
    ],
)
def test_the_content_type_says_what_is_rewritten(content_type: bytes, kind: BodyKind) -> None:
    assert body_kind(((b"content-type", content_type),)) is kind


def test_an_answer_without_a_content_type_is_opaque() -> None:
    assert body_kind(((b"etag", b"x"),)) is BodyKind.OPAQUE


def test_json_in_another_encoding_is_refused() -> None:
    with pytest.raises(ExchangeFailed, match="no UTF-8"):
        body_kind(((b"content-type", b"application/json; charset=utf-16"),))


@pytest.mark.parametrize("name", [b"content-type", b"content-encoding"])
def test_an_answer_that_says_twice_what_it_is_is_refused(name: bytes) -> None:
    headers = ((b"content-type", b"text/plain"), (b"content-encoding", b"gzip"))
    assert body_kind(headers) is BodyKind.OPAQUE
    with pytest.raises(ExchangeFailed, match="says twice"):
        body_kind((*headers, (name, b"application/json")))


def test_the_first_header_of_a_name_is_found() -> None:
    headers = ((b"a", b"1"), (b"b", b"2"), (b"b", b"3"))
    assert header(headers, b"b") == b"2"
    assert header(headers, b"c") is None

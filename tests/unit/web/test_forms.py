from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Unreadable
from app.web.asgi import RequestHead
from app.web.forms import read_fields, read_form

FORM = b"application/x-www-form-urlencoded"


def head(content_type: bytes | None, *more: tuple[bytes, bytes]) -> RequestHead:
    headers = ((b"content-type", content_type),) if content_type else ()
    return RequestHead(
        request_id="id", method="POST", path=b"/t", query=b"", headers=(*headers, *more), peer=None
    )


@pytest.mark.parametrize(
    ("content_type", "body", "fields"),
    [
        pytest.param(None, b"", {}, id="nothing"),
        pytest.param(FORM, b"a=1&b=%C3%A9+x", {"a": "1", "b": "é x"}, id="form"),
        pytest.param(FORM + b"; charset=UTF-8", b"a=1&", {"a": "1"}, id="charset and a rest"),
        pytest.param(FORM, b"a=&b", {}, id="without a value: as if absent"),
        pytest.param(b"Application/JSON", b'{"a": "1", "b": null}', {"a": "1"}, id="json"),
    ],
)
def test_fields_are_read(content_type: bytes | None, body: bytes, fields: dict[str, str]) -> None:
    assert read_fields(head(content_type), body) == fields


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        pytest.param(FORM, b"a=1&a=1", "bad-body", id="twice"),
        pytest.param(FORM, b"a=1&%61=", "bad-body", id="twice, encoded and empty"),
        pytest.param(FORM, b"a=%ff", "bad-body", id="not UTF-8"),
        pytest.param(FORM, b"a=%00", "bad-body", id="NUL"),
        pytest.param(FORM, b"&".join([b"a"] * 51), "limit-exceeded", id="many fields"),
        pytest.param(b"application/json", b'{"a":"1","a":"1"}', "bad-json", id="json: twice"),
        pytest.param(b"application/json", b'{"a":1}', "bad-json", id="json: a number"),
        pytest.param(b"application/json", b'["a"]', "bad-json", id="json: a list"),
        pytest.param(b"application/json", b"\xef\xbb\xbf{}", "bad-json", id="json: a BOM"),
        pytest.param(b"application/json", b"\xff", "bad-json", id="json: not UTF-8"),
        pytest.param(b"application/json", b"[" * 50_000, "bad-json", id="json: deep"),
        pytest.param(b"text/plain", b"a=1", "unsupported-media-type", id="text"),
        pytest.param(b"multipart/form-data", b"a=1", "unsupported-media-type", id="multipart"),
    ],
)
def test_fields_are_refused(content_type: bytes, body: bytes, code: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_fields(head(content_type), body)
    assert caught.value.code == code


def test_a_compressed_body_is_not_read() -> None:
    with pytest.raises(Unreadable) as caught:
        read_fields(head(FORM, (b"content-encoding", b"gzip")), b"a=1")
    assert caught.value.code == "unsupported-media-type"


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1), max_size=20))
def test_what_a_client_encodes_is_read_back(fields: dict[str, str]) -> None:
    if any("\x00" in text for pair in fields.items() for text in pair):
        return
    assert read_form(urlencode(fields, errors="strict").encode()) == fields


@given(st.binary(max_size=300))
def test_any_bytes_are_fields_or_unreadable(body: bytes) -> None:
    for content_type in (FORM, b"application/json"):
        try:
            fields = read_fields(head(content_type), body)
        except Unreadable:
            continue
        assert all(isinstance(value, str) for value in fields.values())

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.odata.media import boundary, is_json, json_accept, read_media_type


@pytest.mark.parametrize(
    "value",
    [
        "application/json", "Application/JSON", "application/json;charset=utf-8",
        "application/json ; x=y", 'application/json; charset="UTF-8"',
        "application/json; charset=utf8", "application/json;", "application/json; type=entry",
        "application/json;odata.metadata=minimal;IEEE754Compatible=true",
    ],
)  # fmt: skip
def test_json_is_json_whatever_its_parameters(value: str) -> None:
    assert is_json(value)


@pytest.mark.parametrize(
    "value",
    [
        None, "", "application/jsonx", "application/xml", "text/json",
        "application/json;charset=utf-16", "application/json; charset=utf-8; charset=utf-16",
        "application/json, text/html", "json", "application/json; x", 'application/json; x="y',
    ],
)  # fmt: skip
def test_what_else_there_is_is_not_json(value: str | None) -> None:
    assert not is_json(value)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("multipart/mixed; boundary=b", "b"),
        ('multipart/mixed;boundary="a b"', "a b"),
        ("Multipart/Mixed; charset=utf-8; BOUNDARY=b;", "b"),
        ("multipart/mixed; boundary=batch_3f2504e0-4f89", "batch_3f2504e0-4f89"),
        ("multipart/mixed", None),
        ("multipart/mixed; boundary=", None),
        ('multipart/mixed; boundary=""', None),
        ('multipart/mixed; boundary="a "', None),
        ("multipart/mixed; boundary=a; boundary=b", None),
        ("multipart/form-data; boundary=b", None),
        ("multipart/mixed; boundary=" + "b" * 200, "b" * 200),
        ("multipart/mixed; boundary=" + "b" * 201, None),
        ("application/json", None),
        (None, None),
    ],
)
def test_a_boundary_is_found_or_there_is_none(value: str | None, found: str | None) -> None:
    assert boundary(value) == found


@pytest.mark.parametrize(
    ("accept", "asked"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/json;odata.metadata=full", "application/json;odata.metadata=full"),
        ("application/json; metadata=none", "application/json;odata.metadata=none"),
        ("text/html;odata.metadata=full", "application/json"),
        (
            "text/html, Application/Json;ODATA.METADATA=FULL;q=1",
            "application/json;odata.metadata=full",
        ),
        ("application/json;odata.metadata=all", "application/json"),
    ],
)
def test_accept_is_json_with_its_metadata(accept: str | None, asked: str) -> None:
    assert json_accept(accept) == asked


@given(st.text(max_size=40))
def test_nothing_is_raised(value: str) -> None:
    read_media_type(value)
    json_accept(value + ";odata.metadata=")

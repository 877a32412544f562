"""The words of a configuration take what they are for, and no look-alike."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.config.words import (
    Day,
    DocumentUrl,
    FilePath,
    FileText,
    Guid,
    Identifier,
    Name,
    Origin,
    SafeUrl,
    TableName,
    Url,
)


def read(form: Any, value: Any) -> Any:
    return TypeAdapter(form).validate_python(value)


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        (Name, "erp-invoices.v2", "erp-invoices.v2"),
        (TableName, "*", "*"),
        (TableName, "new_projects", "new_projects"),
        (Url, "http://broker:8080/base/", "http://broker:8080/base"),
        (SafeUrl, "https://login.microsoftonline.com", "https://login.microsoftonline.com"),
        (SafeUrl, "http://127.0.0.1:8443", "http://127.0.0.1:8443"),
        (SafeUrl, "http://[::1]:8443", "http://[::1]:8443"),
        (SafeUrl, "http://localhost", "http://localhost"),
        (Origin, "https://Contoso.CRM4.dynamics.com/", "https://contoso.crm4.dynamics.com"),
        (DocumentUrl, "https://idp/keys/?p=1", "https://idp/keys/?p=1"),
        (Day, date(2027, 6, 30), date(2027, 6, 30)),
        (Day, "2027-06-30", date(2027, 6, 30)),
    ],
)
def test_a_word_is_taken(form: Any, value: Any, expected: Any) -> None:
    assert read(form, value) == expected


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (Name, ""),
        (Name, "a/b"),
        (Name, "..a"),
        (Name, "a\n"),
        (Name, "\u0430bc"),
        (Name, "a" * 101),
        (Identifier, "*"),
        (Identifier, "1a"),
        (Identifier, "account(s)"),
        (Identifier, "accounts "),
        (TableName, "**"),
        (Url, "broker"),
        (Url, "ftp://broker"),
        (Url, "https://"),
        (Url, "https://user@broker"),
        (Url, "https://@broker"),
        (Url, "https://broker?x"),
        (Url, "https://broker?"),
        (Url, "https://broker#"),
        (Url, "https://bro\tker"),
        (Url, "https://broker\n"),
        (Url, "https://broker\\evil"),
        (Url, "https://br\u00f6ker"),
        (Url, "https://broker:port"),
        (SafeUrl, "http://contoso.crm4.dynamics.com"),
        (SafeUrl, "http://127.0.0.1.evil.example"),
        (SafeUrl, "http://localhost.evil.example"),
        (Origin, "https://contoso.crm4.dynamics.com/api/data"),
        (DocumentUrl, "http://idp/keys"),
        (DocumentUrl, "https://user@idp/keys"),
        (DocumentUrl, "https://idp/keys#x"),
        (Day, 20270630),
        (Day, datetime(2027, 6, 30)),  # noqa: DTZ001 - as YAML reads `2027-06-30 00:00:00`
        (Day, "30.06.2027"),
        (Guid, "01234567-89ab-cdef-0123-456789abcde"),
        (Guid, "{01234567-89ab-cdef-0123-456789abcdef}"),
        (Guid, "0123456789abcdef0123456789abcdef"),
    ],
)
def test_a_look_alike_is_refused(form: Any, value: Any) -> None:
    with pytest.raises(ValidationError):
        read(form, value)


def test_a_port_in_an_error_is_not_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        read(Url, "https://user:hunter2")
    assert "hunter2" not in caught.value.errors()[0]["msg"]


def test_a_path_is_beside_the_file_that_names_it_unless_it_is_absolute() -> None:
    text = FileText("ca.pem")
    text.folder = Path("/etc/broker")
    assert read(FilePath, text) == Path("/etc/broker/ca.pem")
    absolute = FileText("/run/ca.pem")
    absolute.folder = Path("/etc/broker")
    assert read(FilePath, absolute) == Path("/run/ca.pem")
    assert read(FilePath, "ca.pem") == Path("ca.pem")


@given(st.text(max_size=40))
def test_an_accepted_url_is_one_that_cannot_be_read_in_two_ways(text: str) -> None:
    try:
        url = read(Url, "https://" + text)
    except ValidationError:
        return
    assert url.isascii()
    assert not set(url) & set(" \\?#@\t\n")

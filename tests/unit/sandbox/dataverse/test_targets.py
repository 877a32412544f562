from __future__ import annotations

import pytest

from app.sandbox.dataverse.failures import Failed
from app.sandbox.dataverse.targets import Segment, read_query, read_segments


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        ("accounts", [Segment("accounts")]),
        ("accounts/", [Segment("accounts")]),
        ("", []),
        (
            "accounts(1)/Account_Tasks/$count",
            [Segment("accounts", "1"), Segment("Account_Tasks"), Segment("$count")],
        ),
        ("accounts(accountnumber='A%2F1')", [Segment("accounts", "accountnumber='A/1'")]),
        ("accounts(accountnumber=%27A/1%27)", [Segment("accounts", "accountnumber='A/1'")]),
        ("WhoAmI()", [Segment("WhoAmI", "")]),
    ],
)
def test_a_path_is_read(path: str, segments: list[Segment]) -> None:
    assert list(read_segments(path)) == segments


@pytest.mark.parametrize("path", ["accounts//name", "accounts(1", "accounts(1)x", "%ff"])
def test_a_path_is_refused(path: str) -> None:
    with pytest.raises(Failed):
        read_segments(path)


def test_option_names_may_be_encoded_and_spaces_may_be_plus() -> None:
    query = read_query("%24select=name&%24filter=name+eq+%27a%2Bb%27&tag=x")
    assert query.pairs == (("$select", "name"), ("$filter", "name eq 'a+b'"), ("tag", "x"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$skip=1", "The query parameter $skip is not supported"),
        ("$format=json", "The query parameter $format is not supported"),
        ("$select=a&%24select=b", "more than once"),
        ("@p1=1&@p1=2", "more than once"),
    ],
)
def test_an_option_is_refused(text: str, message: str) -> None:
    with pytest.raises(Failed) as failed:
        read_query(text)
    assert message in failed.value.message


def test_a_continuation_keeps_what_was_asked() -> None:
    query = read_query("$select=name&$filter=name+eq+'a%26b'&$skiptoken=old")
    assert query.linked(without=("$skiptoken",), token=("$skiptoken", "<a b='%'/>")) == (
        "$select=name&$filter=name%20eq%20'a%26b'&$skiptoken=%3Ca%20b='%25'/%3E"
    )

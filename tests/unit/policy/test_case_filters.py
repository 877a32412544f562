from __future__ import annotations

from urllib.parse import quote

import pytest

from app.odata.expression import parse
from app.policy.case_filters import fetch_filters, filters_in, inner_targets, same, same_fetch

FETCH = """\
<fetch><entity name="account"><attribute name="name"/>
<filter><condition attribute="statecode" operator="eq" value="0"/></filter>
<filter type="or"><condition attribute="name" operator="null"/>
<condition attribute="revenue" operator="gt" value="5"/></filter>
<link-entity name="contact" from="contactid" to="primarycontactid">
<filter><condition attribute="fullname" operator="eq" value="Ann"/></filter></link-entity>
</entity></fetch>""".replace("\n", "")


@pytest.mark.parametrize(
    "other",
    ["a eq 1 and (b eq 2 and c eq 3)", "(c eq 3) and b eq 2 and a eq 1"],
    ids=["other parentheses", "another order"],
)
def test_a_filter_is_the_same_in_other_words(other: str) -> None:
    assert same(parse("a eq 1 and b eq 2 and c eq 3", "x"), other)


@pytest.mark.parametrize(
    "other",
    [
        "a eq 1 and b eq 2",
        "a eq 1 or b eq 2 or c eq 3",
        "a eq 1 and b eq 2 and c eq '3'",
        "not (a eq 1) and b eq 2 and c eq 3",
        "a eq 1 and b eq 2 and contains(c,'3')",
    ],
    ids=["less", "or", "text for a number", "negated", "a function"],
)
def test_a_filter_is_another_by_one_thing(other: str) -> None:
    assert not same(parse("a eq 1 and b eq 2 and c eq 3", "x"), other)


def test_filters_are_found_wherever_they_stand() -> None:
    target = (
        "/api/data/v9.2/accounts?$filter=a%20eq%201"
        "&$expand=contacts($select=x;$filter=b%20eq%202;$expand=tasks($filter=c%20eq%203))"
    )
    assert [len(list(filters_in(t))) for t in (target, "accounts", "accounts?$nonsense=1")] == [
        3,
        0,
        0,
    ]
    [first] = filters_in(
        "https://up.example/api/data/v9.2/accounts?$apply=filter(d eq 4)/groupby((x))".replace(
            " ", "%20"
        )
    )
    assert same(first, "d eq 4")


def test_fetchxml_filters_are_found_by_entity() -> None:
    found = dict(fetch_filters(f"/api/data/v9.2/accounts?fetchXml={quote(FETCH)}"))
    assert same_fetch(found["account"], "statecode eq 0 and (name eq null or revenue gt '5')")
    assert not same_fetch(found["account"], "statecode eq 0")
    assert same_fetch(found["contact"], "fullname eq 'Ann'")
    assert not same_fetch(found["contact"], "fullname eq 'Bob'")


def test_request_lines_of_a_batch_are_targets() -> None:
    body = b"--b\r\nContent-Type: application/http\r\n\r\nGET accounts?$top=1 HTTP/1.1\r\n\r\n--b--"
    assert inner_targets(body) == ["accounts?$top=1"]
    assert inner_targets(b'{"note": "GET x HTTP/1.1"}') == []

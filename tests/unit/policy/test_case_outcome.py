from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from app.policy.case_format import Case, read_cases
from app.policy.case_outcome import Seen, Sent, differences, told

ALLOWED = (("Broker-Decision", "allowed"),)
REFUSED = (("broker-decision", "refused"), ("content-type", "application/problem+json"))
SENT = Sent(
    "GET",
    "/api/data/v9.2/accounts?$select=name&$filter=name%20eq%20'A%26B'",
    (("Prefer", 'odata.maxpagesize=500,odata.include-annotations="*"'), ("OData-Version", "4.0")),
)
ANSWERED = Seen(200, ALLOWED, b'{"value":[]}', (SENT,))


def case(expect: str = "allow", **more: Any) -> Case:
    plain = {"id": "one", "caller": "c", "method": "GET", "target": "/x", "expect": expect}
    [read] = read_cases(json.dumps({**plain, **more}), "mine")
    return read


def problem(status: int, detail: str = "read not granted on systemusers") -> Seen:
    return Seen(status, REFUSED, json.dumps({"detail": detail}).encode())


@pytest.mark.parametrize(
    ("expect", "seen"),
    [
        ("allow", ANSWERED),
        ("refuse", problem(403)),
        ("bad_request", problem(400)),
        ("bad_request", problem(414)),
        ("bad_request", Seen(400, (), b"Invalid HTTP request received.")),
        ("refuse_or_bad", problem(403)),
        ("refuse_or_bad", problem(404)),
        ("unauthorized", problem(401)),
    ],
)
def test_a_case_is_as_it_says(expect: str, seen: Seen) -> None:
    assert differences(case(expect), seen) == ()


@pytest.mark.parametrize(
    ("expect", "seen", "got"),
    [
        ("allow", problem(403), "refuse (403): read not granted on systemusers"),
        ("allow", replace(ANSWERED, sent=()), "allow (200)"),
        ("allow", replace(ANSWERED, sent=(replace(SENT, look_up=True),)), "allow (200)"),
        ("refuse", ANSWERED, "allow (200)"),
        ("refuse", Seen(403, ALLOWED), "allow (403)"),
        ("refuse", problem(400, "bad"), "bad_request (400): bad"),
        ("bad_request", problem(403), "refuse (403): read not granted on systemusers"),
        ("bad_request", Seen(404, ALLOWED), "allow (404)"),
        ("refuse_or_bad", problem(401, ""), "unauthorized (401)"),
        ("unauthorized", problem(403, ""), "refuse (403)"),
        ("refuse", Seen(500, ()), "status 500 (500)"),
    ],
)
def test_a_case_differs_by_its_decision(expect: str, seen: Seen, got: str) -> None:
    assert differences(case(expect), seen) == (f"expected {expect}, got {got}",)


def test_only_one_status_may_be_right() -> None:
    wanted = case("bad_request", response={"status": 404})
    assert differences(wanted, problem(404)) == ()
    assert differences(wanted, problem(400, "")) == ("expected bad_request, got bad_request (400)",)


def test_a_refusal_that_sent_something_all_the_same_differs() -> None:
    refused = replace(problem(403), sent=(SENT,))
    [difference] = differences(case("refuse"), refused)
    assert difference.startswith("sent all the same: GET /api/data/v9.2/accounts?$select=name")


def test_a_look_up_may_come_before_a_refusal() -> None:
    refused = replace(problem(404), sent=(replace(SENT, look_up=True),))
    assert differences(case("bad_request"), refused) == ()


@pytest.mark.parametrize(
    ("wanted", "otherwise", "says"),
    [
        ({"contains": ["$filter=name eq 'A&B'"]}, {"contains": ["creditlimit"]}, "is in no target"),
        ({"lacks": ["creditlimit"]}, {"lacks": ["$select"]}, "upstream.lacks: '$select' is in"),
        ({"count": 1}, {"count": 2}, "1 requests were sent, not 2"),
        (
            {"headers": {"odata-version": "4.0"}},
            {"headers": {"If-Match": "*"}},
            "If-Match is not there, not *",
        ),
        (
            {"headers_absent": ["If-Match"]},
            {"headers_absent": ["OData-Version"]},
            "OData-Version is there: 4.0",
        ),
        (
            {"header_contains": {"Prefer": ["odata.maxpagesize = 500"]}},
            {"header_contains": {"Prefer": ["odata.maxpagesize=5"]}},
            "Prefer lacks odata.maxpagesize=5",
        ),
        (
            {"header_lacks": {"Prefer": ["respond-async"]}},
            {"header_lacks": {"Prefer": ['odata.include-annotations="*"']}},
            "Prefer has odata.include-annotations",
        ),
        (
            {"filter_equals": "(name eq 'A&B')"},
            {"filter_equals": "name eq 'C'"},
            "is not what was sent: name eq 'A&B'",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_sent_is_compared(
    wanted: dict[str, Any], otherwise: dict[str, Any], says: str
) -> None:
    assert differences(case(upstream=wanted), ANSWERED) == ()
    [difference] = differences(case(upstream=otherwise), ANSWERED)
    assert says in difference


@pytest.mark.parametrize(
    ("wanted", "otherwise"),
    [
        ({"body_contains": ['"name"']}, {"body_contains": ["phone"]}),
        ({"body_lacks": ["phone"]}, {"body_lacks": ["Contoso"]}),
        ({"body_json": {"name": "Contoso"}}, {"body_json": {"name": "Fabrikam"}}),
        ({"body_json": {"lines": [{"q": 1}]}}, {"body_json": {"lines": []}}),
        ({"body_same": True}, {"body_same": True, "body_json": 1}),
    ],
    ids=lambda value: next(iter(value)),
)
def test_the_body_that_is_sent_is_compared(
    wanted: dict[str, Any], otherwise: dict[str, Any]
) -> None:
    body = '{"name": "Contoso", "x": 1, "lines": [{"q": 1}]}'
    seen = replace(ANSWERED, sent=(replace(SENT, body=body.encode()),))
    assert differences(case(body=body, upstream=wanted), seen) == ()
    assert differences(case(body="other", upstream=otherwise), seen)


def test_the_answer_is_compared() -> None:
    assert differences(case(response={"body_contains": ["value"], "status": 200}), ANSWERED) == ()
    wanted = {"body_contains": ["x"], "body_lacks": ["value"], "headers_absent": ["Set-Cookie"]}
    assert differences(case(response=wanted), ANSWERED) == (
        "response.body_contains: 'x' is not in the answer",
        "response.body_lacks: 'value' is in the answer",
    )
    [difference] = differences(case(response={"status": [201, 204]}), ANSWERED)
    assert difference == "response.status: 201 or 204 was to come, and allow (200) came"


def test_a_body_that_is_no_problem_has_no_detail() -> None:
    assert told(Seen(403, REFUSED, b"no json")) == "refuse (403)"

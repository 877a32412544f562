"""Every policy case, read, decided and written: purely, so a thousand take a second."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from app.policy.decide import decide
from app.policy.decision import Allow
from tests.path.logical import fetch_filters, filters_in, form_of, inner_targets, same, unquoted
from tests.unit.policy.trying import (
    ETAG,
    attempt,
    bodies,
    cases,
    decoded,
    filled,
    grant_of,
    is_pure,
    request_of,
)

if TYPE_CHECKING:
    from app.odata.write import Outgoing
    from tests.unit.policy.trying import Case, Tried

ALL = [c for name in ("cases.jsonl", "more.jsonl") for c in cases(name) if is_pure(c)]
_UNREADABLE = {400, 404, 405, 411, 413, 414, 415}


def test_no_two_cases_have_one_id() -> None:
    ids = [c["id"] for name in ("cases.jsonl", "more.jsonl") for c in cases(name)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case["id"])
def test_the_broker_decides_as_the_case_says(case: Case) -> None:
    grant = grant_of(case["caller"])
    case = filled(case, grant)
    tried = attempt(grant, request_of(case), row=None if case.get("precheck") == "hidden" else ETAG)
    _check_decision(case, tried)
    if tried.allowed:
        _check_sent(case.get("upstream", {}), tried)
        # The hidden half of a case's answer is the web's; what was dropped is known here.
        named = case.get("response", {}).get("header_contains", {}).get("Broker-Dropped-Headers")
        for name in named or ():
            assert name in tried.last.dropped


@pytest.mark.parametrize("case", ALL, ids=lambda case: case["id"])
def test_deciding_again_changes_nothing(case: Case) -> None:
    grant = grant_of(case["caller"])
    tried = attempt(grant, request_of(filled(case, grant)))
    if not isinstance(tried.decision, Allow):
        return
    again = decide(grant, tried.decision.reading)
    assert isinstance(again, Allow)
    assert again.reading == tried.decision.reading
    assert again.look_ups == tried.decision.look_ups or grant.enforce is False


def _check_decision(case: Case, tried: Tried) -> None:
    expect = case["expect"]
    statuses = case.get("response", {}).get("status", sorted(_UNREADABLE))
    unreadable = tried.status in ([statuses] if isinstance(statuses, int) else statuses)
    if expect == "allow":
        assert tried.allowed, tried.detail
    elif expect == "refuse":
        assert tried.refused, tried.detail
    elif expect == "bad_request":
        assert tried.error is not None, "allowed" if tried.allowed else tried.detail
        assert unreadable, (tried.status, tried.detail)
    else:
        assert expect == "refuse_or_bad"
        assert tried.refused or tried.error is not None
    for text in case.get("response", {}).get("body_contains", ()) if expect != "allow" else ():
        assert text in f"{tried.detail} request_id", (text, tried.detail)
    for text in case.get("response", {}).get("body_lacks", ()) if expect != "allow" else ():
        assert text not in tried.detail


def _check_sent(wanted: Case, tried: Tried) -> None:
    targets = [decoded(o.target) for o in tried.sent]
    for text in wanted.get("contains", ()):
        assert any(text in target for target in targets), (text, targets)
    for text in wanted.get("lacks", ()):
        assert not any(text in target for target in targets), (text, targets)
    _check_headers(wanted, tried.last)
    said = bodies(tried.last)
    for text in wanted.get("body_contains", ()):
        assert any(text in body for body in said), (text, said[0])
    for text in wanted.get("body_lacks", ()):
        assert not any(text in body for body in said), (text, said[0])
    if "body_json" in wanted:
        assert _covers(json.loads(tried.last.body or b"null"), wanted["body_json"]), said[0]
    if wanted.get("body_same"):
        assert tried.last.streams
    if "count" in wanted:
        assert len(tried.sent) == wanted["count"], targets
    every = [o.target for o in tried.sent] + inner_targets(tried.last.body or b"")
    if "filter_equals" in wanted:
        found = [f for target in every for f in filters_in(target)]
        assert any(same(f, wanted["filter_equals"]) for f in found), (found, targets)
    for name, text in wanted.get("fetch_filter", {}).items():
        filters = [fetch_filters(target).get(name) for target in every]
        assert unquoted(form_of(text)) in [f and unquoted(f) for f in filters], filters


def _check_headers(wanted: Case, outgoing: Outgoing) -> None:
    headers = {name.lower(): value for name, value in outgoing.headers}
    for name, value in wanted.get("headers", {}).items():
        assert headers.get(name.lower()) == value, (name, headers)
    for name in wanted.get("headers_absent", ()):
        assert name.lower() not in headers, (name, headers)
    for name, elements in wanted.get("header_contains", {}).items():
        for element in elements:
            assert _bare(element) in _elements(headers.get(name.lower(), "")), (element, headers)
    for name, elements in wanted.get("header_lacks", {}).items():
        for element in elements:
            assert _bare(element) not in _elements(headers.get(name.lower(), "")), headers


def _elements(value: str) -> set[str]:
    """Of a list header; a comma in quotes belongs to its element."""
    return {_bare(e) for e in re.findall(r'(?:[^,"]|"[^"]*")+', value)}


def _bare(element: str) -> str:
    return re.sub(r"\s*([;=])\s*", r"\1", element.strip()).lower()


def _covers(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            k in whole and _covers(whole[k], v) for k, v in part.items()
        )
    if isinstance(part, list):
        return (
            isinstance(whole, list)
            and len(whole) == len(part)
            and all(_covers(w, p) for w, p in zip(whole, part, strict=True))
        )
    return bool(whole == part)

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.policy.case_format import Case, CasesUnreadable, read_cases

CASES = Path(__file__).parents[2] / "policy_cases" / "cases.jsonl"
PLAIN: dict[str, Any] = {
    "id": "one",
    "caller": "reporting",
    "method": "GET",
    "target": "/api/data/v9.2/accounts?$select=name",
    "expect": "allow",
}


def read(*cases: dict[str, Any]) -> list[Case]:
    return list(read_cases("\n\n".join(json.dumps(case) for case in cases), "mine.jsonl"))


def test_a_file_of_cases_is_read_whole() -> None:
    text = CASES.read_text(encoding="utf-8")
    assert len(list(read_cases(text, "cases.jsonl"))) == len(text.splitlines())


def test_a_case_has_what_it_leaves_out() -> None:
    [case] = read(PLAIN)
    assert case == Case(**PLAIN)
    assert case.content() is None
    assert case.response.statuses == ()


@pytest.mark.parametrize(
    ("status", "statuses"), [(404, (404,)), ([400, 404], (400, 404))], ids=["one", "several"]
)
def test_a_case_names_one_status_or_several(status: object, statuses: tuple[int, ...]) -> None:
    [case] = read({**PLAIN, "response": {"status": status}})
    assert case.response.statuses == statuses


def test_a_header_may_stand_twice_in_a_case() -> None:
    [case] = read({**PLAIN, "headers": [["If-Match", "*"], ["If-Match", "*"]]})
    assert case.header_pairs() == (("If-Match", "*"), ("If-Match", "*"))


@pytest.mark.parametrize(
    ("body", "content"),
    [({"body": "é"}, "é".encode()), ({"body_b64": "AAE="}, b"\x00\x01")],
    ids=["text", "bytes"],
)
def test_a_body_is_text_or_bytes(body: dict[str, str], content: bytes) -> None:
    [case] = read({**PLAIN, **body})
    assert case.content() == content


def test_placeholders_are_filled_wherever_they_stand() -> None:
    [case] = read(
        {**PLAIN, "target": "{BASE}/x", "headers": {"A": "{KEY}"}, "upstream": {"lacks": ["{UP}"]}}
    )
    filled = case.filled({"BASE": "https://b", "KEY": "Bearer k", "UP": "https://u"})
    assert filled.target == "https://b/x"
    assert filled.header_pairs() == (("A", "Bearer k"),)
    assert filled.upstream.lacks == ("https://u",)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"expects": "allow"}, "unknown field `expects`; did you mean expect?"),
        ({"upstream": {"contain": ["x"]}}, "did you mean contains?"),
        ({"expect": "maybe"}, "Invalid enum value 'maybe' - at `$.expect`"),
        ({"id": 1}, "Expected `str`, got `int` - at `$.id`"),
        ({"body_b64": "?"}, "body_b64 is no base64"),
    ],
    ids=["unknown field", "unknown field inside", "unknown word", "wrong type", "no base64"],
)
def test_a_case_that_cannot_be_read_is_named_with_its_line(
    change: dict[str, Any], says: str
) -> None:
    with pytest.raises(CasesUnreadable) as caught:
        read(PLAIN, {**PLAIN, "id": "two", **change})
    assert caught.value.detail.startswith("mine.jsonl:3: ")
    assert says in caught.value.detail


def test_what_is_no_json_is_named_with_its_column() -> None:
    with pytest.raises(CasesUnreadable, match=r"mine\.jsonl:1: no JSON: .* \(column 2\)"):
        list(read_cases("{'id': 1}", "mine.jsonl"))


def test_two_cases_of_one_name_are_refused() -> None:
    with pytest.raises(CasesUnreadable, match=r"mine\.jsonl:3: one stands in line 1 too"):
        read(PLAIN, PLAIN)

"""A policy case sent through the whole service: the request it stands for, and what must hold.

Read tests/policy_cases/README.md for what the fields mean.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from tests.path.logical import (
    fetch_filters,
    filters_in,
    form_of,
    inner_targets,
    same,
    unquoted,
)
from tests.path.raw_http import request_bytes
from tests.path.stand_ins import ROW_ID, ordinary, says

if TYPE_CHECKING:
    from tests.path.raw_http import RawAnswer
    from tests.path.stand_ins import Answering, Arrived

Case = dict[str, Any]

_UNREADABLE = {400, 404, 405, 411, 413, 414, 415}
_NOBODY = "dvb_t99nobody_0000000000000000000000000000000000000000"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the placeholders of a case stand for."""

    public: str
    environment: str
    upstream: str
    key: str

    def filled(self, value: Any) -> Any:
        """The case, or a part of it, with its placeholders replaced."""
        if isinstance(value, dict):
            return {self.filled(k): self.filled(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.filled(v) for v in value]
        if not isinstance(value, str):
            return value
        for name, text in (
            ("PUBLIC", self.public),
            ("HOST", self.public.partition("://")[2]),
            ("BASE", f"{self.public}/environments/{self.environment}"),
            ("UP_ESCAPED", self.upstream.replace("/", "\\/")),
            ("UP", self.upstream),
            ("KEY", f"Bearer {self.key}"),
        ):
            value = value.replace("{" + name + "}", text)
        return value


def body_of(case: Case) -> bytes | None:
    if case.get("body_b64") is not None:
        return base64.b64decode(case["body_b64"])
    body = case.get("body")
    return None if body is None else str(body).encode("utf-8")


def raw_request(case: Case, surroundings: Surroundings) -> bytes:
    """The bytes that the case is about. `case` is filled."""
    target = case["target"]
    if not case.get("verbatim"):
        target = f"/environments/{surroundings.environment}{target}"
    headers = case.get("headers") or {}
    pairs = [(n, v) for n, v in (headers.items() if isinstance(headers, dict) else headers)]
    auth = case.get("auth")
    has_own = any(name.lower() == "authorization" for name, _ in pairs)
    if auth == "x-api-key":
        pairs.append(("X-API-Key", surroundings.key))
    elif auth == "wrong":
        pairs.append(("Authorization", f"Bearer {_NOBODY}"))
    elif auth != "none" and not has_own:
        pairs.append(("Authorization", f"Bearer {surroundings.key}"))
    host = surroundings.public.partition("://")[2]
    return request_bytes(case["method"], target, pairs, body_of(case), host=host)


def upstream_answers(case: Case) -> Answering:
    """What Dataverse says to the case's requests."""
    reply = case.get("response", {}).get("upstream_reply") or case.get("upstream_reply")
    precheck = case.get("precheck")

    def answer(arrived: Arrived) -> bytes:
        if precheck is not None and is_look_up(arrived):
            row = {"@odata.etag": 'W/"4711"', "accountid": ROW_ID}
            return says(200, {"value": [row] if precheck == "visible" else []})
        if reply is None:
            return ordinary(arrived)
        body = reply.get("body") or ""
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        headers = list((reply.get("headers") or {}).items())
        if reply.get("gzip"):
            import gzip

            content = gzip.compress(content)
            headers.append(("Content-Encoding", "gzip"))
        return says(reply.get("status", 200), content, tuple(headers))

    return answer


def is_look_up(arrived: Arrived) -> bool:
    path = arrived.target.partition("?")[0]
    return arrived.method == "GET" and "(" not in path and "$filter=" in arrived.decoded


# ------------------------------------------------------------------------ what must hold


def check(case: Case, answer: RawAnswer, arrived: list[Arrived]) -> None:
    """`case` is filled; `arrived` is what reached Dataverse."""
    expect, wanted = case["expect"], case.get("response", {})
    _check_decision(case, answer, expect)
    sent = [a for a in arrived if case.get("precheck") is None or not is_look_up(a)]
    if expect == "allow":
        assert arrived, f"nothing was sent: {answer.status} {answer.text}"
        _check_upstream(case, case.get("upstream", {}), arrived)
    else:
        assert not sent, f"sent upstream: {[a.target for a in sent]}"
    _check_response(wanted, answer)


def _check_decision(case: Case, answer: RawAnswer, expect: str) -> None:
    shown = f"{answer.status} {answer.text[:600]}"
    decision, kind = answer.header("broker-decision"), answer.header("content-type") or ""
    statuses = case.get("response", {}).get("status")
    refused = answer.status == 403 and decision == "refused" and "problem+json" in kind
    unreadable = answer.status in (
        {statuses} if isinstance(statuses, int) else set(statuses or _UNREADABLE)
    )
    assert answer.status != 500, shown
    assert answer.header("broker-request-id"), shown
    if expect == "allow":
        assert decision == "allowed", shown
    elif expect == "refuse":
        assert refused, shown
    elif expect == "bad_request":
        assert unreadable, shown
        assert decision == "refused", shown
    elif expect == "refuse_or_bad":
        assert refused or unreadable, shown
    else:
        assert expect == "unauthorized", expect
        assert answer.status == 401, shown


def _check_upstream(case: Case, wanted: Case, arrived: list[Arrived]) -> None:
    last = arrived[-1]
    targets = [a.decoded for a in arrived]
    for text in wanted.get("contains", ()):
        assert any(text in target for target in targets), (text, targets)
    for text in wanted.get("lacks", ()):
        assert not any(text in target for target in targets), (text, targets)
    _check_headers(wanted, last.all)
    bodies = (last.body.decode("latin-1"), unquote_to_bytes(last.body).decode("utf-8", "replace"))
    for text in wanted.get("body_contains", ()):
        assert any(text in body for body in bodies), (text, bodies[0])
    for text in wanted.get("body_lacks", ()):
        assert not any(text in body for body in bodies), (text, bodies[0])
    if "body_json" in wanted:
        assert _covers(json.loads(last.body), wanted["body_json"]), (last.body, wanted["body_json"])
    if wanted.get("body_same"):
        assert last.body == body_of(case)
    if "count" in wanted:
        assert len(arrived) == wanted["count"], targets
    every = [a.target for a in arrived] + [t for a in arrived for t in inner_targets(a.body)]
    if "filter_equals" in wanted:
        found = [f for target in every for f in filters_in(target)]
        assert any(same(f, wanted["filter_equals"]) for f in found), (found, targets)
    for name, text in wanted.get("fetch_filter", {}).items():
        filters = [fetch_filters(target).get(name) for target in every]
        assert unquoted(form_of(text)) in [f and unquoted(f) for f in filters], (filters, targets)


def _check_response(wanted: Case, answer: RawAnswer) -> None:
    statuses = wanted.get("status")
    if statuses is not None:
        allowed = {statuses} if isinstance(statuses, int) else set(statuses)
        assert answer.status in allowed, (answer.status, answer.text)
    _check_headers(wanted, answer.all)
    for text in wanted.get("body_contains", ()):
        assert text in answer.text, (text, answer.text)
    for text in wanted.get("body_lacks", ()):
        assert text not in answer.text, (text, answer.text)


def _check_headers(wanted: Case, values: Any) -> None:
    for name, value in wanted.get("headers", {}).items():
        assert values(name) == [value], (name, values(name))
    for name in wanted.get("headers_absent", ()):
        assert values(name) == [], (name, values(name))
    for name, elements in wanted.get("header_contains", {}).items():
        for element in elements:
            assert _bare(element) in _elements(values(name)), (name, element, values(name))
    for name, elements in wanted.get("header_lacks", {}).items():
        for element in elements:
            assert _bare(element) not in _elements(values(name)), (name, element, values(name))


def _elements(values: list[str]) -> set[str]:
    """Of a list header; a comma in quotes belongs to its element."""
    found = re.findall(r'(?:[^,"]|"[^"]*")+', ",".join(values))
    return {_bare(element) for element in found}


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

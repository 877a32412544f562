"""What became of a policy case, and how that differs from what it expects. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_plus, unquote_to_bytes

import msgspec

from app.odata.tree import text
from app.policy.case_filters import fetch_filters, filters_in, inner_targets, same, same_fetch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.odata.tree import Expression
    from app.policy.case_format import Answering, Case, Sending

UNREADABLE: Final = frozenset({400, 404, 405, 411, 413, 414, 415})

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that would have reached Dataverse. `look_up`: one of the broker's own."""

    method: str
    target: str
    headers: Pairs = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    look_up: bool = False

    @property
    def decoded(self) -> str:
        """The target, decoded once; `+` in the query is a space."""
        path, mark, query = self.target.partition("?")
        return unquote_plus(path.replace("+", "%2B")) + mark + unquote_plus(query)


@dataclass(frozen=True, slots=True)
class Seen:
    """The answer that the caller would have got, and what was sent for it."""

    status: int
    headers: Pairs = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    sent: tuple[Sent, ...] = ()

    def header(self, name: str) -> str | None:
        return next((v for k, v in self.headers if k.lower() == name), None)

    @property
    def decision(self) -> str:
        """In a case's words."""
        if self.status == 401:
            return "unauthorized"
        said = self.header("broker-decision")
        if said == "allowed":
            return "allow"
        if self.status == 403 and said == "refused":
            return "refuse"
        return "bad_request" if self.status in UNREADABLE else f"status {self.status}"

    @property
    def detail(self) -> str:
        """The broker's own words, where it refused."""
        if "problem+json" not in (self.header("content-type") or ""):
            return ""
        try:
            return str(json.loads(self.body).get("detail", ""))
        except ValueError:
            return ""


def differences(case: Case, seen: Seen) -> tuple[str, ...]:
    """What is not as the case says, a sentence each; empty where all is."""
    return tuple(_differences(case, seen))


def _differences(case: Case, seen: Seen) -> Iterator[str]:
    if not _as_expected(case, seen):
        yield f"expected {case.expect}, got {told(seen)}"
        return
    if case.expect == "allow":
        yield from _in_sending(case, case.upstream, seen.sent)
    else:
        for sent in seen.sent:
            if not sent.look_up:
                yield f"sent all the same: {sent.method} {sent.decoded}"
    yield from _in_answer(case.response, seen)


def told(seen: Seen) -> str:
    """What happened, in a line."""
    said = f"{seen.decision} ({seen.status})"
    return f"{said}: {seen.detail}" if seen.detail else said


def _as_expected(case: Case, seen: Seen) -> bool:
    statuses = case.response.statuses
    unreadable = seen.status in (statuses or UNREADABLE)
    match case.expect:
        case "allow":
            return seen.decision == "allow" and any(not sent.look_up for sent in seen.sent)
        case "refuse":
            return seen.decision == "refuse"
        case "bad_request":
            return unreadable and seen.header("broker-decision") != "allowed"
        case "refuse_or_bad":
            return seen.decision == "refuse" or unreadable
        case "unauthorized":
            return seen.status == 401


# ------------------------------------------------------------------------ what was sent


def _in_sending(case: Case, wanted: Sending, sent: tuple[Sent, ...]) -> Iterator[str]:
    last = sent[-1]
    targets = [each.decoded for each in sent]
    for part in wanted.contains:
        if not any(part in target for target in targets):
            yield f"upstream.contains: {part!r} is in no target: {', '.join(targets)}"
    for part in wanted.lacks:
        if any(part in target for target in targets):
            yield f"upstream.lacks: {part!r} is in {', '.join(targets)}"
    if wanted.count is not None and len(sent) != wanted.count:
        yield f"upstream.count: {len(sent)} requests were sent, not {wanted.count}"
    yield from _in_headers("upstream", wanted, last.headers)
    yield from _in_body(case, wanted, last.body)
    every = [each.target for each in sent]
    every += [target for each in sent for target in inner_targets(each.body)]
    if wanted.filter_equals is not None:
        found = [f for target in every for f in filters_in(target)]
        if not any(same(f, wanted.filter_equals) for f in found):
            said = _texts(found)
            yield f"upstream.filter_equals: {wanted.filter_equals!r} is not what was sent: {said}"
    for name, said in wanted.fetch_filter.items():
        filters = [f for target in every for n, f in fetch_filters(target) if n == name]
        if not any(same_fetch(f, said) for f in filters):
            yield f"upstream.fetch_filter: {name} is not filtered by {said!r}"


def _texts(filters: list[Expression]) -> str:
    return ", ".join(text(each) for each in filters) or "no filter"


def _in_body(case: Case, wanted: Sending, body: bytes) -> Iterator[str]:
    forms = (body.decode("latin-1"), unquote_to_bytes(body).decode("utf-8", "replace"))
    for part in wanted.body_contains:
        if not any(part in form for form in forms):
            yield f"upstream.body_contains: {part!r} is not in the body that was sent"
    for part in wanted.body_lacks:
        if any(part in form for form in forms):
            yield f"upstream.body_lacks: {part!r} is in the body that was sent"
    if wanted.body_json is not msgspec.UNSET and not _holds(body, wanted.body_json):
        yield f"upstream.body_json: {json.dumps(wanted.body_json)} is not in what was sent"
    if wanted.body_same and body != case.content():
        yield "upstream.body_same: other bytes were sent"


def _holds(body: bytes, part: Any) -> bool:
    try:
        return _covers(json.loads(body), part)
    except ValueError:
        return False


def _covers(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            name in whole and _covers(whole[name], value) for name, value in part.items()
        )
    if isinstance(part, list):
        return (
            isinstance(whole, list)
            and len(whole) == len(part)
            and all(_covers(w, p) for w, p in zip(whole, part, strict=True))
        )
    return bool(whole == part)


# ----------------------------------------------------------------------- what was answered


def _in_answer(wanted: Answering, seen: Seen) -> Iterator[str]:
    if wanted.statuses and seen.status not in wanted.statuses:
        statuses = " or ".join(map(str, wanted.statuses))
        yield f"response.status: {statuses} was to come, and {told(seen)} came"
    yield from _in_headers("response", wanted, seen.headers)
    body = seen.body.decode("utf-8", "replace")
    for part in wanted.body_contains:
        if part not in body:
            yield f"response.body_contains: {part!r} is not in the answer"
    for part in wanted.body_lacks:
        if part in body:
            yield f"response.body_lacks: {part!r} is in the answer"


# --------------------------------------------------------------------------------- headers


def _in_headers(what: str, wanted: Sending | Answering, pairs: Pairs) -> Iterator[str]:
    for name, value in wanted.headers.items():
        if (values := _values(pairs, name)) != [value]:
            yield f"{what}.headers: {name} is {', '.join(values) or 'not there'}, not {value}"
    for name in wanted.headers_absent:
        if values := _values(pairs, name):
            yield f"{what}.headers_absent: {name} is there: {', '.join(values)}"
    for name, element in _each(wanted.header_contains):
        if _bare(element) not in _elements(_values(pairs, name)):
            yield f"{what}.header_contains: {name} lacks {element}"
    for name, element in _each(wanted.header_lacks):
        if _bare(element) in _elements(_values(pairs, name)):
            yield f"{what}.header_lacks: {name} has {element}"


def _each(wanted: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    return ((name, element) for name, elements in wanted.items() for element in elements)


def _values(pairs: Pairs, name: str) -> list[str]:
    return [value for key, value in pairs if key.lower() == name.lower()]


def _elements(values: list[str]) -> set[str]:
    """Of a list header; a comma in quotes belongs to its element."""
    return {_bare(found) for found in re.findall(r'(?:[^,"]|"[^"]*")+', ",".join(values))}


def _bare(element: str) -> str:
    return re.sub(r"\s*([;=])\s*", r"\1", element.strip()).lower()

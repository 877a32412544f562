"""Policy cases: requests with the decision that a policy has to give them, one a line.

The format is described in docs/policy.md. Pure: what a case asks for, and whether what was seen
is that; someone else sends it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from app.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Expected = Literal["allow", "refuse", "bad_request", "refuse_or_bad", "unauthorized"]
Auth = Literal["x-api-key", "none", "wrong"]
Texts = tuple[str, ...]


class CasesUnreadable(Misconfigured):
    """A file that holds no policy cases; the detail has the line."""

    def __init__(self, detail: str) -> None:
        super().__init__("cases-unreadable", detail)


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What Dataverse answers to the request that is allowed."""

    status: int = 200
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    body: Any = ""
    gzip: bool = False


class Sending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must be true of the requests that reach Dataverse."""

    contains: Texts = ()
    lacks: Texts = ()
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    headers_absent: Texts = ()
    header_contains: dict[str, Texts] = msgspec.field(default_factory=dict)
    header_lacks: dict[str, Texts] = msgspec.field(default_factory=dict)
    body_contains: Texts = ()
    body_lacks: Texts = ()
    body_json: Any = msgspec.UNSET
    body_same: bool = False
    filter_equals: str | None = None
    fetch_filter: dict[str, str] = msgspec.field(default_factory=dict)
    count: int | None = None


class Answering(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must be true of the answer that the caller gets."""

    status: int | tuple[int, ...] | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    headers_absent: Texts = ()
    header_contains: dict[str, Texts] = msgspec.field(default_factory=dict)
    header_lacks: dict[str, Texts] = msgspec.field(default_factory=dict)
    body_contains: Texts = ()
    body_lacks: Texts = ()
    upstream_reply: Reply | None = None

    @property
    def statuses(self) -> tuple[int, ...]:
        if self.status is None:
            return ()
        return (self.status,) if isinstance(self.status, int) else self.status


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request, and what has to become of it."""

    id: str
    caller: str
    method: str
    target: str
    expect: Expected
    category: str = ""
    why: str = ""
    headers: dict[str, str] | tuple[tuple[str, str], ...] = ()
    body: str | None = None
    body_b64: str | None = None
    auth: Auth | None = None
    verbatim: bool = False
    precheck: Literal["visible", "hidden"] | None = None
    upstream: Sending = Sending()
    response: Answering = Answering()

    def content(self) -> bytes | None:
        """The body's bytes; None where there is none."""
        if self.body_b64 is not None:
            return base64.b64decode(self.body_b64, validate=True)
        return None if self.body is None else self.body.encode()

    def header_pairs(self) -> tuple[tuple[str, str], ...]:
        """As they are sent: a name may stand twice."""
        found = self.headers
        return tuple(found.items()) if isinstance(found, dict) else found

    def filled(self, values: Mapping[str, str]) -> Case:
        """With `{NAME}` replaced, wherever it stands."""
        return msgspec.convert(_filled(msgspec.to_builtins(self), values), Case)


def read_cases(text: str, name: str) -> Iterator[Case]:
    """A case a line, empty lines aside. Raises `CasesUnreadable` with `name` and the line."""
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        case = _read(line, f"{name}:{number}")
        if case.id in seen:
            raise CasesUnreadable(f"{name}:{number}: {case.id} stands in line {seen[case.id]} too")
        seen[case.id] = number
        yield case


def _read(line: str, place: str) -> Case:
    try:
        case = msgspec.convert(json.loads(line), Case)
        case.content()
    except json.JSONDecodeError as error:
        raise CasesUnreadable(f"{place}: no JSON: {error.msg} (column {error.colno})") from None
    except msgspec.ValidationError as error:
        raise CasesUnreadable(f"{place}: {_sentence(str(error))}") from None
    except binascii.Error:
        raise CasesUnreadable(f"{place}: body_b64 is no base64") from None
    return case


def _sentence(said: str) -> str:
    """The library's own, with the name that was meant where a field is unknown."""
    unknown = re.search(r"unknown field `([^`]*)`(?: - at `\$\.(\w+)`)?", said)
    if unknown is None:
        return said
    form = {"upstream": Sending, "response": Answering}.get(unknown[2] or "", Case)
    near = get_close_matches(unknown[1], form.__struct_fields__, n=1)
    return f"{said}; did you mean {near[0]}?" if near else said


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {_filled(k, values): _filled(v, values) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(v, values) for v in value]
    if isinstance(value, str) and "{" in value:
        for name, text in values.items():
            value = value.replace("{" + name + "}", text)
    return value
